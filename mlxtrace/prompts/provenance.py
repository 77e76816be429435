"""Where numbers come from: the weights that made them, and the versions of the programs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform

import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..storage import checksums, plain
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
    weights = dict(tree_flatten(net.parameters()))
    return checksums.of_arrays(weights, json.dumps(plain(facts), sort_keys=True))[:16]


def versions() -> dict[str, str]:
    """The versions of what made the numbers."""
    found = {"mlxtrace": VERSION, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
