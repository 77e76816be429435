"""Who writes what a layer adds to the residual stream, measured on one recorded call of the layer.

The layer is run again with every part of it giving the output that it had, and one of these outputs is changed at
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

from .recording import Call
from .wiring import OUT, STREAM, Wiring, number, rounding


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


def written(
    calls: list[Call],
    layer: Call,
    slot: Any,
    mixers: list[Call],
    mlps: list[Call],
    paths: dict,
    mixes: Callable[[Call], bool],
) -> Written:
    """The parts of one layer, given those that are known. mixes: whether a call moves information between tokens."""
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
    in_mixer, in_mlp = {c.index for c in mixers}, {c.index for c in mlps}
    rest: set[int] = set()
    for index in sorted(_writers(wiring, in_mixer, in_mlp) - in_mixer - in_mlp):
        related = any(i in wiring.above(index) or index in wiring.above(i) for i in in_mlp)
        if not wiring.bare(index) and mixes(wiring.parts[index]):
            in_mixer.add(index)
        elif wiring.bare(index) or related:
            rest.add(index)
        else:  # beside the MLP, neither reading the other
            in_mlp.add(index)
    return wiring.calls(in_mixer), wiring.calls(in_mlp), wiring.calls(rest)


def _writers(wiring: Wiring, in_mixer: set[int], in_mlp: set[int]) -> set[int]:
    """The parts whose outputs make up what the layer adds: behind norms, gains, and projections of an MLP's sum."""
    found: set[int] = set()
    for index in wiring.read_by(OUT) - {STREAM}:
        sources = wiring.sources(index)
        carried = sources & in_mlp and STREAM not in sources and not sources & in_mixer
        if index in in_mixer | in_mlp or not (carried or wiring.bare(index)):
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
    return number(mx.abs(a - b).max()) <= rounding(before.dtype) * number(mx.abs(a - c).max())


def _is_plain(wiring: Wiring) -> bool:
    """Whether the layer's output is a scaled sum of its input and of what its parts write."""
    out, total, factors = wiring.layer.array(), mx.array(0.0), {}
    for index in wiring.read_by(OUT):
        factor = factors[index] = wiring.factor(index)
        if factor is None:
            return False
        total = total + factor * wiring.output(index).astype(mx.float32)
    if STREAM not in factors:
        return False
    return number(mx.abs(out - total).max()) <= rounding(out.dtype) * number(mx.abs(out).max())
