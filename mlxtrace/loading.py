"""Load a model from a folder or the hub through mlx_lm, cast it, and say in one line what went wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import adapters
from .compiled import Program, induction, lookup
from .errors import InputError, LoadError

DEMO = Path(__file__).parent / "demo"
TRAINED = {"demo": DEMO, "induction": DEMO / "induction"}  # they ship, in half precision, for their size
COMPILED = {"compiled": lookup, "compiled-induction": induction}  # programs of seed 0
BUNDLED = ", ".join(f'"{name}"' for name in (*TRAINED, *COMPILED))
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def load_any(
    model: str | os.PathLike | nn.Module | Program,
    tokenizer: Any = None,
    dtype: Any = None,
    adapter_path: str | os.PathLike | None = None,
) -> tuple[nn.Module, Any, str]:
    """The module, the tokenizer and the name of a model in any form; LoadError when there is none.

    model: "demo", "induction", "compiled", "compiled-induction", a folder, a hub name, a `Program`, or a module, which
    is changed in place where a dtype is given. adapter_path: a folder that mlx-lm's fine-tuning has written.
    """
    target = dtype_of(dtype)
    if adapter_path is not None:
        _check_adapted(model, adapter_path)
    program = COMPILED[model]() if isinstance(model, str) and model in COMPILED else model
    if isinstance(program, Program):
        if target is not None and target != mx.float32:
            raise LoadError(f"a compiled program is exact in float32 only: leave out dtype={dtype!r}")
        tokenizer = tokenizer or program.tokenizer
        net, name = program.net, model if isinstance(model, str) else f"compiled {program.name}"
    elif isinstance(model, nn.Module):
        net, name = model, type(model).__module__.rsplit(".", 1)[-1]
    elif isinstance(model, (str, os.PathLike)):
        name = os.fspath(model)
        if name in TRAINED:
            target = target or mx.float32
        net, own = load(str(TRAINED.get(name, name)))
        if adapter_path is not None:
            adapters.apply(net, adapter_path, name)
        tokenizer, name = tokenizer or own, adapters.named(name, adapter_path)
    else:
        raise LoadError(f"a model is a name, a folder or an mlx module, not {type(model).__name__}")
    if tokenizer is not None and (isinstance(tokenizer, str) or not hasattr(tokenizer, "encode")):
        raise LoadError(
            f"a tokenizer encodes text; {type(tokenizer).__name__} does not (None: prompts are ids)"
        )
    return (net if target is None else cast(net, target)), tokenizer, name


def _check_adapted(model: Any, adapter_path: Any) -> None:
    """LoadError, before anything is loaded, for adapters that are not there, or on what takes none."""
    if isinstance(model, nn.Module):
        raise LoadError(
            "adapter_path goes with a model's name or folder: they would be put into the module that is passed in, "
            "wherever else it is used. mlx_lm.load(name, adapter_path=...) makes a module with them, and "
            "mlx_lm.tuner.utils.load_adapters(module, path) puts them into this one"
        )
    if isinstance(model, Program) or (isinstance(model, str) and model in COMPILED):
        raise LoadError("a compiled program takes no adapters: nothing was trained; leave out adapter_path")
    adapters.check_folder(adapter_path)


def dtype_of(dtype: Any) -> mx.Dtype | None:
    """The mlx dtype that a `dtype=` argument names; InputError when it is none of the three."""
    if dtype is None or any(dtype is known or dtype == known for known in DTYPES.values()):
        return dtype
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def cast(net: nn.Module, dtype: mx.Dtype) -> nn.Module:
    """The model, in place, with dequantized weights of one dtype."""
    from mlx_lm.utils import dequantize_model

    net = dequantize_model(net)
    net.set_dtype(dtype)
    mx.eval(net.parameters())
    return net


def load(name: str) -> tuple[nn.Module, Any]:
    """The model and tokenizer of a folder or a hub name; LoadError, in one line, when there is none."""
    folder = Path(name).expanduser()
    if not name.strip():
        raise LoadError(f"the model's name is empty: give a folder, a hub name, or one of {BUNDLED}")
    looks_local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_local and not folder.is_dir():
        hint = "; a hub name has the form owner/name" if not folder.exists() else " (it is a file)"
        raise LoadError(f"no model folder {name!r}{hint}; bundled are {BUNDLED}")
    if looks_local and not (folder / "config.json").is_file():
        raise LoadError(f"{name} holds no config.json: expected a model folder that mlx_lm.load reads")
    if looks_local:
        _check_config(folder / "config.json", name)
    import mlx_lm

    try:
        if not looks_local:
            _check_config(_hub_config(name), name)
        no_code = {"trust_remote_code": False}  # else transformers asks on the terminal, and runs it
        return mlx_lm.load(str(folder) if looks_local else name, tokenizer_config=no_code)[:2]
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{_why(name, looks_local, error)}") from error


def _hub_config(name: str) -> Path:
    """The config of a model of the hub, downloaded before anything else of it is."""
    import huggingface_hub as hub

    # hf_hub_download would try for half a minute where there is no network
    return Path(hub.snapshot_download(name, allow_patterns=["config.json"])) / "config.json"


def _check_config(path: Path, name: str) -> None:
    """LoadError for a config that names no model type, or code of its own to run."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise LoadError(f"{path} names no model_type, so mlx_lm cannot tell what the model is")
    if config.get("model_file") is not None:
        raise LoadError(
            f"{name} wants its own Python file {config['model_file']!r} to be run (`model_file` in its config.json), "
            "and mlxtrace runs no model's code: load it yourself if you trust it, and give the loaded module to "
            "InterpretableModel"
        )


def _why(name: str, local: bool, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if "trust_remote_code" in str(error):
        return (
            f"the tokenizer of {name} is code of its own (`auto_map` in its tokenizer_config.json), and mlxtrace runs "
            "no model's code: load it yourself if you trust it, and give model and tokenizer to InterpretableModel"
        )
    if local:
        return f"mlx_lm cannot load the folder {name}: {kind}: {text}"
    offline = (
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
    )
    if kind in offline:
        return f"cannot load {name!r}: it is not in the local cache and the hub cannot be reached ({kind})"
    if kind in ("RepositoryNotFoundError", "GatedRepoError"):
        return f"cannot load {name!r}: the hub has no such model, or it needs a login ({kind})"
    return f"cannot load {name!r}: {kind}: {text}"
