"""One pass of a program's rules over a prompt: all values that it computes, some of them swapped or some reads edited.

A pass is whole numbers and names: a head looks at the best position, a neuron holds its sum or 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .reads import Read
from .rules import Head, Rules, Stream, read

STREAMS = ("resid_pre", "attn", "resid_mid", "mlp", "resid_post")
HEADED = ("q", "k", "v", "pattern", "head")
COMPONENTS = (*STREAMS, *HEADED, "neuron")
EDITED = {"m": "neuron"}  # what an edited read changes first; of a head's reads it is the read itself


@dataclass
class Values:
    """All that a pass computes: by component and layer a value for each position.

    A stream of STREAMS is `{feature: number}`. Of HEADED and of `neuron` it is `{index of the head or neuron: value}`,
    for those that have rules: a query or key is what each match reads, a value what is copied of each feature, a
    pattern `{position: share}`; a neuron its number.
    """

    ids: tuple[int, ...]
    at: dict[tuple[str, int], list[Any]] = field(default_factory=dict)

    @property
    def last(self) -> Stream:
        """The stream that the logits read."""
        return self.at["resid_post", max(layer for _, layer in self.at)][-1]


@dataclass(frozen=True)
class Swap:
    """A value that is put in place of what the pass computes. unit: the head or neuron; None: all of them."""

    position: int
    unit: int | None
    value: Any


@dataclass
class RulePass:
    """A pass, or what becomes of one when something is changed.

    Attributes:
        made: what is computed.
        base: a pass whose values are taken wherever what they are made of is the same; None: there is none.
        swaps: by component and layer, what is put in place of values.
        edits: by read and position, what is added to the stream for that read alone.
    """

    rules: Rules
    made: Values
    base: Values | None = None
    swaps: Mapping[tuple[str, int], Sequence[Swap]] = field(default_factory=dict)
    edits: Mapping[Read, Mapping[int, Stream]] = field(default_factory=dict)

    def layer(self, layer: int, streams: Sequence[Stream]) -> list[Stream]:
        """One layer: the streams that come out of it."""
        heads, neurons = self.rules.layers[layer].heads, self.rules.layers[layer].neurons

        def computed(component: str, value: Callable[[int], Any], *of: str) -> list[Any]:
            return self._computed(component, layer, value, of)

        def of_heads(kind: str, reading: Callable[[Head, Stream], tuple[int, ...]]) -> list[Any]:
            at = {h: Read(kind, layer, h) for h in heads}

            def value(p: int) -> dict[int, tuple[int, ...]]:
                return {h: reading(rule, self._delivered(x[p], at[h], p)) for h, rule in heads.items()}

            return computed(kind, value, "resid_pre")

        x = computed("resid_pre", lambda p: streams[p])
        q, k, v = of_heads("q", queries), of_heads("k", keys), of_heads("v", carried)
        looks = computed(
            "pattern", lambda p: {h: best(q[p][h], [y[h] for y in k[: p + 1]]) for h in heads}, "q", "k"
        )
        head = computed(
            "head", lambda p: {h: fetched(looks[p][h], [y[h] for y in v]) for h in heads}, "pattern", "v"
        )
        attn = computed(
            "attn", lambda p: added(*(copied(rule, head[p][h]) for h, rule in heads.items())), "head"
        )
        mid = computed("resid_mid", lambda p: added(x[p], attn[p]), "resid_pre", "attn")

        def firing(p: int) -> dict[int, int]:
            seen = self._delivered(mid[p], Read("m", layer), p)
            return {j: max(0, read(rule.reads, seen)) for j, rule in neurons.items()}

        on = computed("neuron", firing, "resid_mid")
        mlp = computed(
            "mlp", lambda p: added(*(times(n.writes, on[p][j]) for j, n in neurons.items())), "neuron"
        )
        return computed("resid_post", lambda p: added(mid[p], mlp[p]), "resid_mid", "mlp")

    def _computed(
        self, component: str, layer: int, value: Callable[[int], Any], of: tuple[str, ...]
    ) -> list[Any]:
        """A component's values, made of those of other components: the base's wherever those are."""
        edited = [at for at in self.edits if at.layer == layer and component == EDITED.get(at.kind, at.kind)]
        known = self.base if of and not edited else None
        found = []
        for p in range(len(self.made.ids)):
            same = known is not None and all(self._same(known, name, layer, p) for name in of)
            found.append(known.at[component, layer][p] if known is not None and same else value(p))
        for swap in self.swaps.get((component, layer), ()):
            found[swap.position] = swapped(found[swap.position], swap)
        self.made.at[component, layer] = found
        return found

    def _same(self, base: Values, component: str, layer: int, position: int) -> bool:
        """Whether a component's value is the base's; of keys and values, all up to the position."""
        ours, theirs = self.made.at[component, layer], base.at[component, layer]
        if component in ("k", "v"):
            return ours[: position + 1] == theirs[: position + 1]
        return ours[position] == theirs[position]

    def _delivered(self, stream: Stream, at: Read, position: int) -> Stream:
        """What a read gets of the stream at a position."""
        change = self.edits.get(at, {}).get(position)
        return stream if change is None else added(stream, change)


def added(*streams: Stream) -> dict[str, Any]:
    """The sum of streams, without the features of which there is 0."""
    found: dict[str, Any] = {}
    for stream in streams:
        for name, number in stream.items():
            found[name] = found.get(name, 0) + number
    return {name: number for name, number in found.items() if number}


def times(stream: Stream, factor: Any) -> Stream:
    """A stream `factor` times."""
    return {name: number * factor for name, number in stream.items()} if factor else {}


def queries(head: Head, stream: Stream) -> tuple[int, ...]:
    """What a head looks for."""
    return tuple(read(match.query, stream) for match in head.matches)


def keys(head: Head, stream: Stream) -> tuple[int, ...]:
    """What a position shows to a head that looks."""
    return tuple(read(match.key, stream) for match in head.matches)


def carried(head: Head, stream: Stream) -> tuple[int, ...]:
    """What a head would copy from a position."""
    return tuple(stream.get(name, 0) for name in head.copies)


def best(query: Sequence[int], offered: Sequence[Sequence[int]]) -> dict[int, float]:
    """The positions that score best, in equal shares."""
    scores = [sum(a * b for a, b in zip(query, key, strict=True)) for key in offered]
    top = max(scores)
    found = [p for p, score in enumerate(scores) if score == top]
    return {p: 1 if len(found) == 1 else 1 / len(found) for p in found}


def fetched(pattern: Mapping[int, float], there: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """What is copied from the positions looked at."""
    parts = [[share * x for x in there[p]] for p, share in pattern.items()]
    return tuple(sum(column) for column in zip(*parts, strict=True))


def copied(head: Head, value: Sequence[float]) -> Stream:
    """What a head adds to the stream with what it fetched."""
    return added(*(times(writes, x) for writes, x in zip(head.copies.values(), value, strict=True)))


def swapped(value: Any, swap: Swap) -> Any:
    """A position's value with the swap made; a head or neuron without rules does nothing, whatever it holds."""
    if swap.unit is None:
        return swap.value
    return {**value, swap.unit: swap.value} if swap.unit in value else value
