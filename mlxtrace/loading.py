"""Load a model from a folder or the hub through mlx_lm, cast it, and say in one line what went wrong."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

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
    group: Any = None,
    pipeline: bool = False,
) -> tuple[nn.Module, Any, str]:
    """The module, the tokenizer and the name of a model in any form; LoadError when there is none.

    model: "demo", "induction", "compiled", "compiled-induction", a folder, a hub name, a `Program`, or a module, which
    is changed in place where a dtype is given. adapter_path: a folder that mlx-lm's fine-tuning has written. group: of
    processes (`mx.distributed.Group`), over which the model is sharded: each reads its own share into memory, of every
    layer or, as a pipeline, of the layers.
    """
    target = dtype_of(dtype)
    if group is not None:
        _check_sharded(model)
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
        _check_cut(net, name)
    elif isinstance(model, (str, os.PathLike)):
        name = os.fspath(model)
        if name in TRAINED:
            target = target or mx.float32
        net, own = load(str(TRAINED.get(name, name)), lazy=group is not None)
        if adapter_path is not None:
            adapters.apply(net, adapter_path, name, lazy=group is not None)
        tokenizer, name = tokenizer or own, adapters.named(name, adapter_path)
    else:
        raise LoadError(f"a model is a name, a folder or an mlx module, not {type(model).__name__}")
    if tokenizer is not None and (isinstance(tokenizer, str) or not hasattr(tokenizer, "encode")):
        raise LoadError(
            f"a tokenizer encodes text; {type(tokenizer).__name__} does not (None: prompts are ids)"
        )
    if group is not None:
        net = net if target is None else _cast(net, target)
        net = _dealt_out(net, group, name) if pipeline else _sharded(net, group, name)
        for _, x in tree_flatten(net.parameters()):  # one by one: of each, the whole is read before it is cut
            mx.eval(x)
        mx.eval(mx.distributed.all_sum(mx.array(1.0), group=group, stream=mx.cpu))  # all are here
        return net, tokenizer, name
    return (net if target is None else cast(net, target)), tokenizer, name


def _check_sharded(model: Any) -> None:
    """LoadError, before anything is loaded, for what is there already, or too small to be worth it."""
    if isinstance(model, nn.Module):
        raise LoadError(
            "shard goes with a model's name or folder, of which each process reads its share; this module is there "
            "already: shard it yourself, net.shard(group), and give it without shard"
        )
    if isinstance(model, Program) or (isinstance(model, str) and model in COMPILED):
        raise LoadError("a compiled program is not sharded: leave out shard")


def _sharded(net: nn.Module, group: Any, name: str) -> nn.Module:
    """A model that is still to be read, sharded by mlx-lm over a group of processes; each reads its own share."""
    n, kind = group.size(), type(net).__module__.rsplit(".", 1)[-1]
    if not hasattr(net, "shard"):
        raise LoadError(
            f"mlx-lm cannot shard {kind} models, such as {name}: there is no shard in its {kind}.py; run it whole, "
            "without shard"
        )
    net = _fused(net, name)
    before = _head_counts(net)
    shard: Any = net.shard
    try:
        shard(group)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise LoadError(f"{name} cannot be sharded over {n} processes: {why}") from error
    for path, after in _head_counts(net).items():
        was = before.get(path, after)
        repeated = after == 1 and was < n  # mlx-lm gives several processes the same head
        if after != was and after * n != was and not repeated:
            raise LoadError(
                f"{name} cannot be sharded over {n} processes: they do not divide its {was} heads ({path})"
            )
    _check_cut(net, name)
    return net


def _dealt_out(net: Any, group: Any, name: str) -> nn.Module:
    """A model that is still to be read, its layers dealt out as mlx-lm does: the first process has the last layers.

    In place of the weights of another's layers stand blanks: one array, of no numbers, for all of a shape.
    """
    n, layers = group.size(), list[Any](getattr(net, "layers", ()))
    each, more = divmod(len(layers), n)
    no = f"{name} cannot be run as a pipeline of {n} processes:"
    if each == 0:
        raise LoadError(f"{no} it has {len(layers)} layers")
    owners = [rank for rank in reversed(range(n)) for _ in range(each + (rank < more))]
    owner_of: dict[int, int] = {}
    for layer, owner in zip(layers, owners, strict=True):
        weighty = [m for m in layer.modules() if any(isinstance(x, mx.array) for x in m.values())]
        if any(owner_of.setdefault(id(module), owner) != owner for module in weighty):
            raise LoadError(f"{no} its layers have modules in common")
    blanks: dict[tuple, mx.array] = {}

    def blank(x: mx.array) -> mx.array:
        nothing = math.nan if mx.issubdtype(x.dtype, mx.floating) else 255 if x.dtype == mx.uint8 else 0
        return blanks.setdefault((x.shape, x.dtype), mx.full(x.shape, nothing, x.dtype))

    for layer, owner in zip(layers, owners, strict=True):
        layer._mlxtrace_staged = owner
        if owner != group.rank():
            layer.update(tree_map(blank, layer.parameters()))
    net._mlxtrace_staged = group
    return net


def _check_cut(net: nn.Module, name: str) -> None:
    """LoadError for a model that was sharded through the middle of its heads: it fails, or runs as another model."""
    said = getattr(net, "args", None)
    said = getattr(said, "text_config", None) or said
    said = said if isinstance(said, dict) else getattr(said, "__dict__", {})
    heads = said.get("num_attention_heads")
    usual = said.get("head_dim") or (heads and said.get("hidden_size", 0) // heads)
    for path, module in net.named_modules():
        width = vars(module).get("head_dim", usual)
        for linear in (module.get("q_proj"), module.get("k_proj")) if "k_proj" in module else ():
            group = vars(linear).get("group") if isinstance(linear, nn.Module) else None
            if group is None or type(width) is not int or not width or linear["weight"].shape[0] % width == 0:
                continue
            n, found = group.size(), linear["weight"].shape[0] * group.size() // width
            raise LoadError(
                f"{name} cannot be sharded over {n} processes: they do not divide its {found} heads ({path}), of which "
                f"each would hold {found / n:g}"
            )


def _fused(net: nn.Module, name: str) -> nn.Module:
    """The model with its adapters added to its weights, as mlx-lm shards plain layers only."""
    adapted = [(path, m) for path, m in net.named_modules() if "lora_a" in m]
    if any("scales" in inner for _, m in adapted for inner in m.modules()):
        raise LoadError(
            f"adapters on the quantized {name} cannot be sharded: adding them to its weights would round these anew; "
            'give dtype="bfloat16", which dequantizes, or the folder that mlx_lm.fuse makes'
        )
    net.update_modules(tree_unflatten([(path, m.fuse()) for path, m in adapted]))
    return net


def _head_counts(net: nn.Module) -> dict[str, int]:
    """What modules say of how many heads they have, by path and name."""
    return {
        f"{path}.{name}": value
        for path, module in net.named_modules()
        for name, value in vars(module).items()
        if "heads" in name and type(value) is int
    }


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
    net = _cast(net, dtype)
    mx.eval(net.parameters())
    return net


def _cast(net: nn.Module, dtype: mx.Dtype) -> nn.Module:
    from mlx_lm.utils import dequantize_model

    net = dequantize_model(net)
    net.set_dtype(dtype)
    return net


def load(name: str, lazy: bool = False) -> tuple[nn.Module, Any]:
    """The model and tokenizer of a folder or a hub name; LoadError, in one line, when there is none.

    lazy: its weights are read when they are used.
    """
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
        return mlx_lm.load(str(folder) if looks_local else name, tokenizer_config=no_code, lazy=lazy)[:2]
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
