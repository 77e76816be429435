"""Where numbers come from: the weights that made them, and the versions of the programs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import platform
import types
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..storage import checksums, digest, plain
from ..version import VERSION


def fingerprint(net: nn.Module) -> str:
    """A hash of every number of the weights and where it stands, and of the configuration; 0.5 s per GB."""
    config = getattr(net, "args", None)
    facts = [plain(config) if dataclasses.is_dataclass(config) else None]
    for path, module in net.named_modules():
        if hasattr(module, "bits"):
            facts.append(
                [path, module.bits, getattr(module, "group_size", None), getattr(module, "mode", None)]
            )
        if "lora_a" in module:  # adapters' scale is no weight
            facts.append([path, module.scale])
    weights = dict(tree_flatten(net.parameters()))
    own = checksums.of_arrays(weights, json.dumps(plain(facts), sort_keys=True))[:16]
    group = vars(net).get("_mlxtrace_staged")
    return own if group is None else digest(_of_all(own, group))


def _of_all(own: str, group: Any) -> list[int]:
    """What all processes have found, of which each has weights of its own."""
    at = np.arange(group.size())[:, None] == group.rank()
    found: Any = mx.distributed.all_sum(mx.array(at * np.frombuffer(own.encode(), np.uint8)), group=group)
    return found.reshape(-1).tolist()


def versions() -> dict[str, str]:
    """The versions of what made the numbers."""
    found = {"mlxtrace": VERSION, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def told(value: Any) -> Any:
    """The value as JSON can hold it, the same in every process: a function as its name and a hash of its code.

    A model is its name and a hash of its weights.
    """
    if isinstance(value, list | tuple):
        return [told(one) for one in value]
    if isinstance(value, functools.partial):
        return [told(value.func), told(value.args), {name: told(x) for name, x in value.keywords.items()}]
    if hasattr(value, "net"):  # a model: another one may have its name
        return [value.name, fingerprint(value.net)]
    if not callable(value):
        return plain(value)
    code = getattr(value, "__code__", None) or getattr(type(value).__call__, "__code__", None)
    inner = [told(cell.cell_contents) for cell in getattr(value, "__closure__", None) or ()]
    own = {name: told(x) for name, x in getattr(value, "__dict__", {}).items()}
    parts = [_code(code), inner, own, told(getattr(value, "__defaults__", None))]
    return f"{getattr(value, '__qualname__', type(value).__qualname__)} {digest(parts)}"


def _code(code: Any) -> Any:
    """What a function does, without where it is written."""
    if not isinstance(code, types.CodeType):
        return repr(code)
    return [code.co_code.hex(), code.co_names, code.co_varnames, [_code(const) for const in code.co_consts]]
