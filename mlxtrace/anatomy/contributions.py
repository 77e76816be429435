"""Who writes what a layer adds to the residual stream, measured on one recorded call of the layer.

The layer is run again with every part of it held at the output that it had, and one of these outputs is changed at
a time. What then moves says who reads whom with nothing but plain arithmetic in between: a part that moves the
layer's output writes to the stream, and by how much says with which factor.

    x = x + c * attn(norm(x));  x = x + c * (experts(norm(x)) + shared(norm(x)))

gives `experts` and `shared` one target (the output) and one factor (c): together they are the MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .recording import Call, same, snapshot
from .taps import arrays_of, first_array, fresh, put_argument, put_first, tapping

OUT, STREAM = -1, -2  # the layer's output and its input, beside the indices of its parts' calls
# How far a factor may be off, relative to what moved: rounding in each precision.
ROUNDING = {mx.float32: 1e-3, mx.float16: 2e-2}


@dataclass(frozen=True)
class Written:
    """What a layer's mixers and its MLP are, and what else the layer adds to the stream.

    mixers, mlps: the modules, those included that no name gave away. summed: the calls whose outputs, added up, are
    what the MLP writes (one: the sum of its modules passes through it). refused: why there is no such sum. rest:
    what else writes. plain: the layer's output is a scaled sum of its input and what these write; None when
    that could not be measured.
    """

    mixers: list[Call]
    mlps: list[Call]
    summed: list[Call]
    refused: str = ""
    rest: tuple[Call, ...] = ()
    plain: bool | None = None


def has_matrices(module: nn.Module) -> bool:
    """Whether a module holds any weights but vectors."""
    return any(value.ndim >= 2 for _, value in tree_flatten(module.parameters()))


class Wiring:
    """Which parts of a layer read which directly, found by changing one at a time.

    moved: `{(from, to): (before, after)}`, what `to` is given (or gives out, for OUT) when `from` is changed; only
    where that moves. From is STREAM or the index of a part's call, to is OUT or such an index.
    """

    def __init__(self, calls: list[Call], layer: Call, slot: Any, known: list[Call], paths: dict):
        self.layer, self.slot, self.paths = layer, slot, paths
        self.parts = {c.index: c for c in _parts(calls, layer, known)}
        self.pre = dict(arrays_of(layer.args, layer.kwargs))[slot]
        self.step = _step(self.pre.shape, layer.hidden())
        self.moved: dict[tuple[int, int], tuple[mx.array, mx.array]] = {}
        try:
            self.measured = self._measure()
        except Exception:  # a layer that is run in a way it was not written for may fail in any way
            self.measured = False

    # ---- measuring

    def _measure(self) -> bool:
        """Fill `moved`; False when the layer, run again with its parts held, does not do what it did."""
        plain, again = self._again({}), self._again({})
        if not same(plain[OUT][0], self.layer.hidden()) or not _alike(plain, again):
            return False
        for index in [STREAM, *self.parts]:
            x = self.output(index)
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
        step = self.step if x.shape == self.step.shape else _step(x.shape, self.layer.hidden())
        return (x.astype(mx.float32) + step).astype(x.dtype)

    def _again(self, changed: dict[int, mx.array]) -> dict[int, list[mx.array]]:
        """What each part is given, and the layer's output, with some outputs changed and all others held."""
        found: dict[int, list[mx.array]] = {}
        calls_of: dict[str, list[Call]] = {}
        for call in self.parts.values():
            calls_of.setdefault(call.path, []).append(call)

        def handler_for(calls: list[Call]):
            turn = iter(calls)

            def handler(_, args, kwargs):
                call = next(turn)
                found[call.index] = [fresh(x) for _, x in arrays_of(args, kwargs)]
                held = snapshot(call.output)
                return put_first(held, fresh(changed[call.index])) if call.index in changed else held

            return handler

        args, kwargs = snapshot(self.layer.args), {k: snapshot(v) for k, v in self.layer.kwargs.items()}
        if STREAM in changed:
            args, kwargs = put_argument(args, kwargs, self.slot, fresh(changed[STREAM]))
        with tapping([(self.paths[path], handler_for(calls)) for path, calls in calls_of.items()]):
            found[OUT] = [fresh(first_array(self.layer.forward(*args, **kwargs)))]
        return found

    # ---- reading it

    def output(self, index: int) -> mx.array | None:
        return self.pre if index == STREAM else self.parts[index].hidden()

    def readers(self, index: int) -> set[int]:
        return {to for source, to in self.moved if source == index}

    def read_by(self, index: int) -> set[int]:
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
        return c.item() if (off <= _rounding(before.dtype)).item() else None


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


def _rounding(dtype: mx.Dtype) -> float:
    return ROUNDING.get(dtype, 1e-1)


# ---- what it says of a layer


def written(
    calls: list[Call],
    layer: Call,
    slot: Any,
    mixers: list[Call],
    mlps: list[Call],
    paths: dict,
    mixes: Callable[[Call], bool],
) -> Written:
    """The parts of one layer, given those that are known; `mixes` says whether a call lets tokens hear others."""
    wiring = Wiring(calls, layer, slot, [*mixers, *mlps], paths)
    if not wiring.measured:
        return Written(mixers, mlps, mlps, "" if len(mlps) < 2 else "this layer has several")
    mixers, mlps, rest = _sorted(wiring, mixers, mlps, mixes)
    summed, refused = _sum(wiring, [c.index for c in mlps])
    return Written(mixers, mlps, [wiring.parts[i] for i in summed], refused, tuple(rest), _is_plain(wiring))


def _sorted(
    wiring: Wiring, mixers: list[Call], mlps: list[Call], mixes: Callable[[Call], bool]
) -> tuple[list[Call], list[Call], list[Call]]:
    """The mixers, the modules of the MLP, and whatever else writes to the stream."""
    mixing, thinking = {c.index for c in mixers}, {c.index for c in mlps}
    rest = set()
    for index in sorted(_writers(wiring, mixing, thinking) - mixing - thinking):
        related = any(i in wiring.above(index) or index in wiring.above(i) for i in thinking)
        if not wiring.bare(index) and mixes(wiring.parts[index]):
            mixing.add(index)
        elif wiring.bare(index) or related:
            rest.add(index)
        else:  # beside the MLP, neither reading the other
            thinking.add(index)
    return tuple([wiring.parts[i] for i in sorted(found)] for found in (mixing, thinking, rest))


def _writers(wiring: Wiring, mixing: set[int], thinking: set[int]) -> set[int]:
    """The parts whose outputs make up what the layer adds: behind norms, gains, and projections of an MLP's sum."""
    found: set[int] = set()
    for index in wiring.read_by(OUT) - {STREAM}:
        sources = wiring.sources(index)
        carried = sources & thinking and STREAM not in sources and not sources & mixing
        if index in mixing | thinking or not (carried or wiring.bare(index)):
            found.add(index)
        else:
            found |= sources - {STREAM} or {index}
    return found


def _sum(wiring: Wiring, members: list[int]) -> tuple[list[int], str]:
    """The parts whose outputs, added up, are what the members write together; and why there is no such sum."""
    if len(members) < 2:
        return members, ""
    if any(b in wiring.above(a) for a in members for b in members):
        return [], "this layer has several, one after the other"
    cut = set(members)
    while len(cut) > 1:
        behind = {i: next(iter(wiring.readers(i))) for i in cut if len(wiring.readers(i)) == 1}
        carried = {i: to for i, to in behind.items() if to != OUT and wiring.sources(to) <= set(members)}
        if not carried:
            break
        cut = (cut - carried.keys()) | set(carried.values())
    if len({(c.path, c.visit) for c in (wiring.parts[i] for i in cut)}) < len(cut):
        return [], "this layer calls one of its modules several times"
    first, *others = sorted(cut)
    for other in others:
        if not _interchangeable(wiring, first, other):
            return [], "this layer has several, which are not simply added up"
    return [first, *others], ""


def _interchangeable(wiring: Wiring, a: int, b: int) -> bool:
    """Whether only the sum of two outputs is read: one change of either moves everything alike."""
    if wiring.readers(a) != wiring.readers(b) or wiring.output(a).shape != wiring.output(b).shape:
        return False
    for to in wiring.readers(a):
        (before, one), (_, other) = wiring.moved[a, to], wiring.moved[b, to]
        if one.shape != other.shape or not _close(one, other, before):
            return False
    return True


def _close(a: mx.array, b: mx.array, before: mx.array) -> bool:
    a, b, c = (x.astype(mx.float32) for x in (a, b, before))
    return (mx.abs(a - b).max() <= _rounding(before.dtype) * mx.abs(a - c).max()).item()


def _is_plain(wiring: Wiring) -> bool:
    """Whether the layer's output is a scaled sum of its input and of what its parts write."""
    out = wiring.layer.hidden()
    factors = {i: wiring.factor(i) for i in wiring.read_by(OUT)}
    if STREAM not in factors or None in factors.values():
        return False
    total = sum(c * wiring.output(i).astype(mx.float32) for i, c in factors.items())
    return (mx.abs(out - total).max() <= _rounding(out.dtype) * mx.abs(out).max()).item()
