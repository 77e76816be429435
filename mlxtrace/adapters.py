"""Adapters that mlx-lm's fine-tuning has made (LoRA, DoRA, or full weights), put onto a model as `mlx_lm.load` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .errors import LoadError
from .storage import read_object, readable_folder

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
LEAVES = ("lora_a", "lora_b", "m")  # what the layers around adapted ones have of their own; m is DoRA's
KINDS = ("lora", "dora", "full")
HUB = "models--"  # a model's folder in the hub's cache: models--owner--name


def named(name: str, adapter_path: str | os.PathLike | None = None) -> str:
    """What a model is called in prints, captions and files: by its name, not by where it lies; "demo + adapters".

    Example:
        >>> from mlxtrace.adapters import named
        >>> named("/data/models/Llama-3.2-1B"), named("mlx-community/Llama-3.2-1B-4bit")
        ('Llama-3.2-1B', 'mlx-community/Llama-3.2-1B-4bit')
        >>> named("~/.cache/huggingface/hub/models--Qwen--Qwen3-4B/snapshots/1f2e", "runs/lora-7")
        'Qwen/Qwen3-4B + lora-7'
    """
    folder = Path(name).expanduser()
    local = folder.is_dir() or name.startswith((".", "/", "~")) or name.count("/") != 1
    called = _called(folder) if local else name
    return called if adapter_path is None else f"{called} + {_called(Path(adapter_path))}"


def _called(folder: Path) -> str:
    """A folder's own name; where it is in the hub's cache the owner's and the model's."""
    cached = [part for part in folder.parts if part.startswith(HUB)]
    if cached:
        return cached[-1].removeprefix(HUB).replace("--", "/", 1)
    return folder.name if folder.name.strip(".") else folder.resolve().name


def check_folder(adapter_path: Any) -> Path:
    """The folder of adapters, once it is known that it holds what mlx-lm reads; else LoadError."""
    if not isinstance(adapter_path, str | os.PathLike):
        raise LoadError(f"adapter_path is a folder with {CONFIG} and {WEIGHTS}, not {adapter_path!r:.80}")
    try:
        folder = readable_folder(adapter_path)
    except LoadError as error:
        raise LoadError(f"adapter_path: {error}; it is a folder with {CONFIG} and {WEIGHTS}") from error
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if (folder / "adapter_model.safetensors").is_file() or (folder / "adapter_model.bin").is_file():
        raise LoadError(
            f"{folder} holds adapters of PEFT (adapter_model), which mlx-lm does not read: merge them into the model "
            "with PEFT, and give the folder of the whole"
        )
    if missing:
        raise LoadError(f"{folder} holds no {' and no '.join(missing)}: expected what mlx_lm.lora writes")
    _check_config(folder)
    return folder


def _check_config(folder: Path) -> None:
    """LoadError for a config that mlx-lm would take for another one, or choke on."""
    config = read_object(folder / CONFIG)
    kind = config.get("fine_tune_type", "lora")
    if kind not in KINDS:
        raise LoadError(f"{folder / CONFIG}: fine_tune_type is {kind!r}; it is one of {', '.join(KINDS)}")
    wanted = {"num_layers": int, "lora_parameters": dict} if kind != "full" else {}
    for name, of_kind in wanted.items():
        if not isinstance(config.get(name), of_kind) or isinstance(config[name], bool):
            raise LoadError(
                f"{folder / CONFIG} says {name} {config.get(name)!r}: expected what mlx_lm.lora writes"
            )


def apply(net: nn.Module, adapter_path: Any, name: str, lazy: bool = False) -> None:
    """Put adapters onto a model, in place; LoadError, in one line, for what is missing, damaged, or fits no layer.

    name: of the model, for errors. lazy: the model's own weights stay unread.
    """
    folder = check_folder(adapter_path)
    from mlx_lm.tuner.utils import load_adapters

    try:
        weights: Any = mx.load(str(folder / WEIGHTS))
        load_adapters(net, str(folder))
        mx.eval(weights if lazy else net.parameters())
    except Exception as error:  # whatever a damaged file makes MLX raise, and whatever does not fit mlx-lm
        why = " ".join(str(error).split())[:300]
        raise LoadError(
            f"the adapters in {folder} do not fit {name}: {type(error).__name__}: {why}"
        ) from error
    wrong = _misfits(net, weights)
    if wrong:
        raise LoadError(f"the adapters in {folder} do not fit {name}: {wrong}")
    net.eval()  # adapters drop out in training


def _misfits(net: nn.Module, weights: dict[str, mx.array]) -> str:
    """What is wrong with adapters that were loaded: tensors that went nowhere, and layers that got none."""
    there = dict(tree_flatten(net.parameters()))
    strange = [name for name in weights if name not in there]
    if strange or not weights:
        return (
            f"{WEIGHTS} holds {strange[0]}, but the model has none"
            if strange
            else f"{WEIGHTS} holds no tensor"
        )
    adapted = {path: module for path, module in net.named_modules() if "lora_a" in module}
    own = {path: [f"{path}.{name}" for name in LEAVES if name in module] for path, module in adapted.items()}
    empty = [path for path, names in own.items() if not weights.keys() >= set(names)]
    if empty:
        return (
            f"{CONFIG} adapts {len(adapted)} modules, of which {len(empty)} have no tensors in {WEIGHTS} "
            f"({', '.join(empty[:2])})"
        )
    return ""
