"""How long a prompt may be: where positions are embedded by a table, its rows are the limit.

MLX reads past the end of a table without a word, and what it finds there is whatever memory holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np


def position_limit(
    calls: Sequence[Any], paths: dict[str, nn.Module], tokens: mx.array, again: Callable[[], mx.array]
) -> int | None:
    """The longest prompt that the model's position tables have rows for; None when it has no such table.

    calls: what every module was given in a pass over `tokens` `[1, T]`. again: that pass, run once more: `[.., V]`.
    """
    found = [len_ for call in calls if (len_ := _looked_up(paths[call.path], call.inputs(), tokens))]
    called = {id(paths[call.path]) for call in calls}
    for module, name in _unseen(paths, called):
        if _holds_positions(module, name, tokens.shape[1], again):
            found.append(module[name].shape[0])
    return min(found, default=None)


def _looked_up(module: nn.Module, inputs: Sequence[mx.array], tokens: mx.array) -> int | None:
    """Rows of a table from the one that position 0 reads (some leave the first rows out); None if it is none."""
    table = module.get("weight") if isinstance(module, nn.Module) else None
    if not isinstance(table, mx.array) or table.ndim != 2:
        return None
    for x in inputs:
        if mx.issubdtype(x.dtype, mx.integer) and x.ndim and x.shape[-1] == tokens.shape[1]:
            rows = np.array(x).reshape(-1, x.shape[-1])
            if (np.diff(rows, axis=1) == 1).all():
                return table.shape[0] - int(rows[0, 0])
    return None


def _unseen(paths: dict[str, nn.Module], called: set[int]) -> Iterator[tuple[nn.Module, str]]:
    """Tables that no module call shows: of embeddings that are read without a call, and bare arrays."""
    for path, module in paths.items():
        if any(part.isdigit() for part in path.split(".")):  # inside a layer
            continue
        for name, x in module.items():
            bare = name not in ("weight", "scales", "biases", "bias")
            table = name == "weight" and isinstance(module, nn.Embedding) and id(module) not in called
            if not (bare or table) or not isinstance(x, mx.array) or x.ndim != 2:
                continue
            if mx.issubdtype(x.dtype, mx.floating):
                yield module, name


def _holds_positions(module: nn.Module, name: str, length: int, again: Callable[[], mx.array]) -> bool:
    """Whether a pass of `length` tokens reads the first `length` rows of an array and none behind them."""
    table = module[name]
    if table.shape[0] < length:
        return False
    behind = mx.arange(table.shape[0])[:, None] >= length
    try:
        module[name] = mx.where(behind, mx.nan, table)
        clean = bool(mx.isfinite(again()).all().item())
        module[name] = mx.where(behind, table, mx.nan)
        return clean and not bool(mx.isfinite(again()).all().item())
    finally:
        module[name] = table
