"""What a prompt may be: where positions or tokens are embedded by a table, its rows are the limit.

MLX reads past the end of a table without a word, and what it finds there is whatever memory holds.
"""

from __future__ import annotations

import contextlib
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


def id_limit(
    calls: Sequence[Any],
    paths: dict[str, nn.Module],
    tokens: mx.array,
    most: int,
    again: Callable[[mx.array], Sequence[Any]],
) -> int:
    """The number of ids, `most` of them at most, that every table which is given the tokens has a row for.

    A table may be smaller than the vocabulary where the model keeps other ids from it: so it is asked what it is given
    then. again: the calls of a pass over other tokens.
    """
    given = {call.path for call in calls if any(_same(x, tokens) for x in call.inputs())}
    for path in sorted(given):
        table = paths[path].get("weight") if isinstance(paths[path], nn.Module) else None
        if isinstance(table, mx.array) and table.ndim == 2 and table.shape[0] < most:
            beyond = table.shape[0]
            with _with_rows(paths[path], beyond + 1):
                seen = again(mx.concatenate([tokens[:, :-1], mx.full((1, 1), beyond, tokens.dtype)], axis=1))
            if any(_reaches(x, beyond) for call in seen if call.path == path for x in call.inputs()):
                most = beyond
    return most


def _same(x: mx.array, tokens: mx.array) -> bool:
    return x.shape == tokens.shape and mx.issubdtype(x.dtype, mx.integer) and bool((x == tokens).all())


def _reaches(x: mx.array, row: int) -> bool:
    return mx.issubdtype(x.dtype, mx.integer) and bool((x >= row).any())


@contextlib.contextmanager
def _with_rows(module: nn.Module, rows: int) -> Iterator[None]:
    """A table with so many rows, each the first one, without any memory for them."""
    arrays = {name: module[name] for name in ("weight", "scales", "biases") if name in module}
    try:
        for name, x in arrays.items():
            module[name] = mx.broadcast_to(x[:1], (rows, *x.shape[1:]))
        yield
    finally:
        for name, x in arrays.items():
            module[name] = x


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
