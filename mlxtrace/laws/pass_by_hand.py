"""One pass of one row in which components are kept and written, by hand: nothing of the engine.

What an input, a head, a query or a pattern is, how it is replaced and how noise is added is written out here a
second time. Of the package only the positions of modules are used (`Place`: a path, a visit, an argument).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from .module_calls import (
    argument,
    attention_weights,
    first_argument,
    first_array,
    with_argument,
    with_first_array,
)

INPUTS = ("resid_pre", "head", "neuron")
OUTPUTS = ("attn", "resid_mid", "router", "mlp", "resid_post")
INSIDE = ("q", "k", "v", "pattern")
HEADED = ("head", *INSIDE)
Name = tuple[str, int]  # component, layer


@dataclass(frozen=True)
class Place:
    """Where a component is: a module's path, which call of it, which argument (None: the first), how many heads.

    side: "input" or "output", believed of components that this file does not know.
    """

    path: str
    visit: int = 0
    slot: int | str | None = None
    heads: int = 0
    side: str = "output"


@dataclass(frozen=True)
class Write:
    """At `positions` of a layer's component (and there at `heads`, if any) another run's values at `source_at`."""

    component: str
    layer: int
    positions: Sequence[int]
    values: np.ndarray
    source_at: Sequence[int]
    heads: Sequence[int] | None = None


@dataclass(frozen=True)
class Noise:
    """What is added to (or put in place of) the embeddings at some positions: values `[positions, width]`."""

    positions: Sequence[int]
    values: np.ndarray
    replace: bool = False

    def on(self, x: mx.array) -> mx.array:
        """The embeddings `[1, T, width]` with this noise."""
        y = np.array(x.astype(mx.float32))
        at = list(self.positions)
        added = self.values.astype(np.float32)
        y[0, at] = added if self.replace else y[0, at] + added
        return mx.array(y).astype(x.dtype)


class Pass:
    """The handlers of one pass, for `watched`; what was kept, and how often was written."""

    def __init__(
        self,
        places: dict[Name, Place],
        embed: str,
        length: int,
        writes: Sequence[Write],
        noise: Noise | None,
        keep: Sequence[Name],
    ):
        self.places, self.embed, self.length, self.noise = places, embed, length, noise
        self.kept: dict[Name, np.ndarray] = {}
        self.written = 0
        self.visits: Counter[str] = Counter()
        self.stack: list[list[Name]] = []  # components inside each of the calls that have begun and not ended
        self.writes: dict[Name, list[Write]] = defaultdict(list)
        for write in writes:
            self.writes[write.component, write.layer].append(write)
        names = dict.fromkeys([*self.writes, *keep])
        middles = [("resid_pre", layer) for component, layer in names if component == "resid_mid"]
        self.keep, self.needed = set(keep), {*keep, *middles}
        self.at: dict[tuple[str, int], list[Name]] = defaultdict(list)
        # the stream before its middle, and a mixer's output before the middle that it leads to
        for name in sorted(dict.fromkeys([*names, *middles]), key=lambda n: n[0] == "resid_mid"):
            self.at[places[name].path, places[name].visit].append(name)

    @property
    def paths(self) -> set[str]:
        """The modules to be watched."""
        return {path for path, _ in self.at} | ({self.embed} if self.noise else set())

    def call(self, path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
        """A module's call: its inputs, then its output."""
        visit = self.visits[path]
        self.visits[path] += 1
        names = self.at.get((path, visit), [])
        for name in [n for n in names if self._is_input(n)]:
            slot = self.places[name].slot
            key = first_argument(args, kwargs) if slot is None else slot
            x = self._seen(name, argument(args, kwargs, key))
            args, kwargs = with_argument(args, kwargs, key, x)
        self.stack.append([n for n in names if n[0] in INSIDE])
        try:
            out = forward(*args, **kwargs)
        finally:
            self.stack.pop()
        for name in [n for n in names if n[0] not in INSIDE and not self._is_input(n)]:
            out = with_first_array(out, self._seen(name, first_array(out)))
        return out if self.noise is None or (path, visit) != (self.embed, 0) else self.noise.on(out)

    def _is_input(self, name: Name) -> bool:
        known = name[0] in (*INPUTS, *OUTPUTS, *INSIDE)
        return name[0] in INPUTS if known else self.places[name].side == "input"

    def _seen(self, name: Name, x: mx.array) -> mx.array:
        """Write into a component's array and keep it; what the model goes on with."""
        component, layer = name
        whole = np.array(x.astype(mx.float32))
        heads = self.places[name].heads if component == "head" else 0
        view = whole.reshape(*whole.shape[:-1], heads, -1) if heads else whole
        if component == "router":
            view = whole.reshape(1, self.length, -1)  # some gates are given all tokens in one row
        if component == "resid_mid":
            view = self.kept["resid_pre", layer] + whole
        for write in self.writes.get(name, ()):
            view = self._written(view, write)
        if name in self.needed:
            self.kept[name] = view.copy()
        if name not in self.writes:
            return x
        if component == "resid_mid":
            view = view - self.kept["resid_pre", layer]
        return mx.array(view.reshape(whole.shape)).astype(x.dtype)

    def _written(self, view: np.ndarray, write: Write) -> np.ndarray:
        self.written += 1
        view = view.copy()
        rows, source = _tokens_second(view), _tokens_second(write.values)  # views: what is written arrives
        for p, q in zip(write.positions, write.source_at, strict=True):
            if write.heads is None:
                rows[:, p] = source[:, q]
                continue
            for head in write.heads:
                rows[:, p, head] = source[:, q, head]
        return view

    def attend(self, plain: Callable, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        """Attention, whose queries, keys and values are shown as `[1, T, heads, width]`."""
        names = self.stack[-1] if self.stack else []
        if not names:
            return plain(q, k, v, **options)
        parts = {"q": q, "k": k, "v": v}
        for name in [n for n in names if n[0] != "pattern"]:
            parts[name[0]] = self._seen(name, parts[name[0]].swapaxes(1, 2)).swapaxes(1, 2)
        q, k, v = parts.values()
        out = plain(q, k, v, **options)
        for name in [n for n in names if n[0] == "pattern"]:
            out = self._with_pattern(name, attention_weights(q, k, **options), v, out)
        return out

    def _with_pattern(self, name: Name, weights: np.ndarray, v: mx.array, out: mx.array) -> mx.array:
        """Write into the weights `[1, heads, T, T]` and keep them; the attention's output with what was written."""
        rows = weights.swapaxes(1, 2)  # [1, T, heads, T]: a query's row is written whole
        for write in self.writes.get(name, ()):
            rows = self._written(rows, replace(write, values=write.values.swapaxes(1, 2)))
        if name in self.keep:
            self.kept[name] = rows.swapaxes(1, 2).copy()
        if name not in self.writes:
            return out
        groups = weights.shape[1] // v.shape[1]
        values = np.repeat(np.array(v.astype(mx.float32), dtype=np.float64), groups, axis=1)
        again = np.einsum("bhqk,bhkd->bhqd", rows.swapaxes(1, 2), values)
        kept = np.array(out.astype(mx.float32))
        same = (rows.swapaxes(1, 2) == weights).all(-1, keepdims=True)
        return mx.array(np.where(same, kept, again).astype(np.float32)).astype(out.dtype)


def _tokens_second(x: np.ndarray) -> np.ndarray:
    """`[1, T, ...]` as it is; several streams, `[streams, 1, T, width]`, as `[streams, T, 1, width]`."""
    return np.moveaxis(x, 2, 1) if x.ndim == 4 and x.shape[1] == 1 else x
