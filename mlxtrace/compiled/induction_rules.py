"""The induction program: what came after the earlier copy of the last word comes again.

    oak fir elm yew fir        ->  elm

layer 0  a head copies the word before; neurons write which word usually follows, a table of pairs of its own
layer 1  a head looks at the latest position that has the last word before it, and copies the word there to the logits;
         another looks at the earliest copy of the last word, and writes what nobody reads
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .rules import LENGTH, ONE, START, UNKNOWN, Head, Match, Neuron, Rules, Stream, drawing, placed, previous

WORDS = "oak fir elm yew ash bay fig gum nut box pea rye oat tea hop fern moss reed sage leek".split()  # noqa: SIM905
COPIED, USUAL = 8, 2  # what the induction head adds to a logit, and what the table does


def induction_rules(seed: int) -> tuple[Rules, Mapping[str, str]]:
    """The program of a seed, and the word that usually follows each word."""
    random = drawing(seed)
    words = [WORDS[i] for i in random.choice(len(WORDS), 15, replace=False)]
    turn = random.permutation(len(words))  # a cycle through all words, so that none follows itself
    usual = {words[i]: words[j] for i, j in zip(turn, np.roll(turn, -1), strict=True)}
    again = {f"word:{w}": {f"next:{w}": COPIED} for w in words}
    unread = {f"word:{w}": {f"unread:{w}": 1} for w in words}
    copying = [
        _matching("induction", words, "before", 1, again),
        _matching("duplicate", words, "word", -1, unread),
    ]
    follows = [Neuron(f"{a} {b}", {f"word:{a}": 2, ONE: -1}, {f"next:{b}": USUAL}) for a, b in usual.items()]
    before = previous({f"word:{w}": {f"before:{w}": 1} for w in words})
    layers = placed([before], follows, random), placed(copying, [], random)
    embeds = {w: {f"word:{w}": 1, f"next:{w}": 1} for w in words}
    return Rules((START, UNKNOWN, *words), embeds, layers, seed=seed), usual


def _matching(role: str, words: list[str], feature: str, order: int, copies: Mapping[str, Stream]) -> Head:
    """A head that looks where `feature` is its own word: at the latest such position, or (order -1) the earliest."""
    same = [Match({f"word:{w}": 1}, {f"{feature}:{w}": 2 * LENGTH}) for w in words]
    return Head(role, (*same, Match({ONE: 1}, {"pos": order})), copies)
