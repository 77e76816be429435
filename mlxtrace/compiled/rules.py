"""What a program does, as rules over named features: no numbers of a model, and nothing that runs.

The residual stream at a position is a sum of features, `{"prev:Anna": 1, "pos": 4}`. A head scores positions by what it
reads of its own stream and of theirs, looks at the best one and copies features from there; a neuron adds up features
and writes others when the sum is above 0. `weights` writes rules into a model, `interpreter` follows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..arguments import whole_number

ONE = ""  # in a reading: the number 1 whatever the stream holds
LENGTH = 32  # the most tokens of a prompt
HEADS, WIDTH = 4, 64  # heads of each layer, and the width of the stream: 16 channels to a head
NEURONS = 4 * WIDTH  # of each layer, as mlx-lm's `gpt2` has them
START, UNKNOWN = "<s>", "<unk>"  # the token before every text, and what is read for a word without a token
# A reading adds up features of a stream by these weights; a writing is what is added to one.
Reading = Mapping[str, int]
Stream = Mapping[str, int]


def read(reading: Reading, stream: Stream) -> int:
    """The number that a reading makes of a stream.

    Example:
        >>> from mlxtrace.compiled.rules import ONE, read
        >>> read({"a": 2, "b": 2, ONE: -3}, {"a": 1, "b": 1, "c": 5})
        1
    """
    return sum(weight * (1 if name == ONE else stream.get(name, 0)) for name, weight in reading.items())


@dataclass(frozen=True)
class Match:
    """One part of a head's score: what the looking position reads, times what the one looked at reads."""

    query: Reading
    key: Reading


@dataclass(frozen=True)
class Head:
    """It looks at the position (its own or an earlier one) with the highest score, and copies features from there.

    Attributes:
        role: what it is for, in words.
        matches: their sum is the score; a whole number, so that the best is best by at least 1.
        copies: of each feature that is read there, what one of it adds here.
    """

    role: str
    matches: tuple[Match, ...] = ()
    copies: Mapping[str, Stream] = field(default_factory=dict)


@dataclass(frozen=True)
class Neuron:
    """It holds its reading of the stream where that is above 0, else 0; each 1 of it adds what it writes."""

    role: str
    reads: Reading
    writes: Stream


@dataclass(frozen=True)
class Layer:
    """Heads and neurons by their number in the model's layer; the others do nothing."""

    heads: Mapping[int, Head]
    neurons: Mapping[int, Neuron]


@dataclass(frozen=True)
class Rules:
    """A whole program.

    Attributes:
        words: the vocabulary, by token id.
        embeds: of a word, the features that its embedding has; none for the words that are not in it.
        layers: in order.
        seed: of the basis in which the features lie.
    """

    words: tuple[str, ...]
    embeds: Mapping[str, Stream]
    layers: tuple[Layer, ...]
    seed: int = 0

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all features, in the order in which they are first written."""
        found = dict.fromkeys(["pos", "pos squared"])
        for stream in self.embeds.values():
            found |= dict.fromkeys(stream)
        for layer in self.layers:
            for head in layer.heads.values():
                for stream in head.copies.values():
                    found |= dict.fromkeys(stream)
            for neuron in layer.neurons.values():
                found |= dict.fromkeys(neuron.writes)
        return tuple(found)

    @staticmethod
    def position(p: int) -> Stream:
        """The features that the embedding of position p has."""
        return {"pos": p, "pos squared": p * p}


def previous(copies: Mapping[str, Stream]) -> Head:
    """A head that copies from the token before: the score is -(distance from there)^2, and a constant."""
    # -(k - (p - 1))^2 = 2 (p - 1) k - k^2 - (p - 1)^2, of which the last is the same for all k
    matches = (Match({"pos": 2, ONE: -2}, {"pos": 1}), Match({ONE: 1}, {"pos squared": -1}))
    return Head("previous token", matches, copies)


def latest(role: str, key: Reading, copies: Mapping[str, Stream]) -> Head:
    """A head that copies from the latest position of which `key` reads 1, or from its own where there is none."""
    scores = {name: 2 * LENGTH * weight for name, weight in key.items()}
    return Head(role, (Match({ONE: 1}, {**scores, "pos": 1}),), copies)


def placed(heads: Sequence[Head], neurons: Sequence[Neuron], random: np.random.RandomState) -> Layer:
    """A layer with the heads and neurons at places that are drawn."""
    at = random.permutation(HEADS), random.permutation(NEURONS)
    of_heads = dict(zip(map(int, at[0]), heads, strict=False))
    return Layer(of_heads, dict(zip(map(int, at[1]), neurons, strict=False)))


def drawing(seed: int) -> np.random.RandomState:
    """What a program of a seed is drawn with; InputError when it is no seed."""
    return np.random.RandomState(whole_number("seed", seed, 0, 2**32 - 1))
