"""Which parts of a layer read which, measured on one recorded call of the layer.

The layer is run again with every part of it giving the output that it had, and one of these outputs is changed at a
time. What then moves says who reads whom with nothing but plain arithmetic in between.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .recording import Call, same, snapshot
from .taps import arrays_of, first_array, fresh, put_argument, put_first, tapping

OUT, STREAM = -1, -2  # the layer's output and its input, beside the indices of its parts' calls
# How far a factor may be off, relative to what moved: rounding in each precision.
ROUNDING = {mx.float32: 1e-3, mx.float16: 2e-2}


def has_matrices(module: nn.Module) -> bool:
    """Whether a module holds any weights but vectors."""
    arrays: Any = tree_flatten(module.parameters())  # a list of (name, array)
    return any(value.ndim >= 2 for _, value in arrays)


class Wiring:
    """Which parts of a layer read which directly, found by changing one at a time.

    moved: `{(from, to): (before, after)}`, what `to` is given (or gives out, for OUT) when `from` is changed; only
    where that moves. From is STREAM or the index of a part's call, to is OUT or such an index.
    """

    def __init__(self, calls: list[Call], layer: Call, slot: Any, known: list[Call], paths: dict):
        self.layer, self.slot, self.paths = layer, slot, paths
        self.parts = {c.index: c for c in _parts(calls, layer, known)}
        self.pre = dict(arrays_of(layer.args, layer.kwargs))[slot]
        self.step = _step(self.pre.shape, layer.array())
        self.moved: dict[tuple[int, int], tuple[mx.array, mx.array]] = {}
        try:
            self.measured = self._measure()
        except Exception:  # a layer that is run in a way it was not written for may fail in any way
            self.measured = False

    # ---- measuring

    def _measure(self) -> bool:
        """Fill `moved`; False when the layer, run again around what its parts gave, does not do what it did."""
        plain, again = self._again({}), self._again({})
        if not same(plain[OUT][0], self.layer.hidden()) or not _alike(plain, again):
            return False
        for index in [STREAM, *self.parts]:
            x = self.pre if index == STREAM else self.parts[index].hidden()
            if x is None or not mx.issubdtype(x.dtype, mx.floating):
                continue
            got = self._again({index: self._changed(x)})
            for to, before in plain.items():
                pairs = zip(before, got.get(to, []), strict=True)
                first = next(((a, b) for a, b in pairs if not same(a, b)), None)
                if first is not None:
                    self.moved[index, to] = first
        return True

    def _changed(self, x: mx.array) -> mx.array:
        step = self.step if x.shape == self.step.shape else _step(x.shape, self.layer.array())
        return (x.astype(mx.float32) + step).astype(x.dtype)

    def _again(self, changed: dict[int, mx.array]) -> dict[int, list[mx.array]]:
        """What each part is given, and the layer's output, with some outputs changed and all others as they were."""
        found: dict[int, list[mx.array]] = {}
        calls_of: dict[str, list[Call]] = {}
        for call in self.parts.values():
            calls_of.setdefault(call.path, []).append(call)

        def handler_for(calls: list[Call]):
            turn = iter(calls)

            def handler(_, args, kwargs):
                call = next(turn)
                found[call.index] = [fresh(x) for _, x in arrays_of(args, kwargs)]
                before = snapshot(call.output)
                return put_first(before, fresh(changed[call.index])) if call.index in changed else before

            return handler

        args, kwargs = snapshot(self.layer.args), {k: snapshot(v) for k, v in self.layer.kwargs.items()}
        if STREAM in changed:
            args, kwargs = put_argument(args, kwargs, self.slot, fresh(changed[STREAM]))
        with tapping([(self.paths[path], handler_for(calls)) for path, calls in calls_of.items()]):
            out = first_array(self.layer.forward(*args, **kwargs))
        if out is not None:
            found[OUT] = [fresh(out)]
        return found

    # ---- reading it

    def output(self, index: int) -> mx.array:
        """What a part gave, or the layer was given."""
        return self.pre if index == STREAM else self.parts[index].array()

    def readers(self, index: int) -> set[int]:
        """What reads an output directly."""
        return {to for source, to in self.moved if source == index}

    def read_by(self, index: int) -> set[int]:
        """What a part reads directly."""
        return {source for source, to in self.moved if to == index}

    def bare(self, index: int) -> bool:
        """Whether a part has no matrices: a norm, an activation, a gain."""
        return index != STREAM and not has_matrices(self.paths[self.parts[index].path])

    def sources(self, index: int, seen: frozenset[int] = frozenset()) -> set[int]:
        """What a part is given: the parts with matrices, and the stream, straight or through bare parts."""
        found: set[int] = set()
        for source in self.read_by(index) - seen:
            found |= self.sources(source, seen | {index}) if self.bare(source) else {source}
        return found

    def above(self, index: int) -> set[int]:
        """Every part that an output depends on."""
        found: set[int] = set()
        new = {index}
        while new:
            new = {s for i in new for s in self.read_by(i)} - found
            found |= new
        return found

    def calls(self, indices: set[int]) -> list[Call]:
        """The parts with these indices, in the order in which they ran."""
        return [self.parts[i] for i in sorted(indices)]

    def factor(self, index: int) -> float | None:
        """The scalar with which a part's output enters the layer's; None when there is none."""
        before, after = self.moved[index, OUT]
        x = self.output(index)
        if x.shape != before.shape:
            return None
        step = self._changed(x).astype(mx.float32) - x.astype(mx.float32)
        moved = after.astype(mx.float32) - before.astype(mx.float32)
        c = (moved * step).sum() / (step * step).sum()
        off = mx.abs(moved - c * step).max() / mx.abs(moved).max()
        return number(c) if number(off) <= rounding(before.dtype) else None


def _parts(calls: list[Call], layer: Call, known: list[Call]) -> list[Call]:
    """The calls that a layer makes; those inside a part that holds a known mixer or MLP instead of that part."""
    parts, found = [c for c in calls if c.parent == layer.index], []
    wanted = {c.index for c in known}
    while parts:
        part = parts.pop(0)
        if part.index not in wanted and any(part.index < i < part.end for i in wanted):
            parts = [c for c in calls if c.parent == part.index] + parts
        else:
            found.append(part)
    return found


def _alike(a: dict[int, list[mx.array]], b: dict[int, list[mx.array]]) -> bool:
    return a.keys() == b.keys() and all(
        len(a[i]) == len(b[i]) and all(same(x, y) for x, y in zip(a[i], b[i], strict=True)) for i in a
    )


def _step(shape: tuple[int, ...], out: mx.array) -> mx.array:
    """A change of no special direction, as large as the layer's output."""
    size = mx.sqrt(mx.mean(mx.square(out.astype(mx.float32))))
    return size * mx.random.normal(shape, key=mx.random.key(7))


def rounding(dtype: mx.Dtype) -> float:
    """How far a number may be off, relative to what moved."""
    return ROUNDING.get(dtype, 1e-1)


def number(x: mx.array) -> float:
    """An array of one number as that number."""
    return x.astype(mx.float32).item()  # type: ignore[return-value]  # mlx says that it may be complex
