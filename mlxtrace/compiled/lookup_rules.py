"""The lookup program: two people are named, and a fact about one of them is asked for.

    Ada Berg met Carl Holm . The city of the first is      ->  Oslo

layer 0  a head copies the first name to the last name; a neuron for each known person fires on both names together
layer 1  heads copy to the last position which fact is asked, and whether of the first or of the second person
layer 2  a head looks up the asked person; another looks at the same place and copies nothing; neurons write the
         answer where nobody reads it
layer 3  another head looks up the same person; neurons write the answer of the first lookup, or, where that found
         nobody, of the second: a backup
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .rules import LENGTH, ONE, START, UNKNOWN, Head, Match, Neuron, Rules, drawing, latest, placed, previous

FIRST_NAMES = ["Ada", "Bela", "Carl", "Dora", "Emil", "Frida", "Gus", "Hana", "Ivan", "Jana", "Kai", "Lena"]
LAST_NAMES = [
    "Adler",
    "Berg",
    "Conti",
    "Dahl",
    "Eder",
    "Falk",
    "Grimm",
    "Holm",
    "Ivens",
    "Jung",
    "Kern",
    "Lund",
]
ANSWERS = {
    "city": ["Oslo", "Lima", "Cairo", "Paris", "Kyoto", "Quito"],
    "job": ["baker", "pilot", "tailor", "doctor", "painter", "farmer"],
    "pet": ["cat", "dog", "horse", "parrot", "rabbit", "turtle"],
    "sport": ["chess", "rowing", "tennis", "fencing", "judo", "golf"],
    "drink": ["tea", "coffee", "milk", "cider", "water", "cocoa"],
    "colour": ["red", "blue", "green", "yellow", "violet", "white"],
}
FRAME = ["met", ".", "The", "of", "the", "is"]
ASKED = 8  # what the answer's neuron adds to its logit
KIND = 1  # what a fact that is asked for adds to all of its answers
Person = tuple[str, str]


@dataclass(frozen=True)
class Facts:
    """The table: who is known, and the answer to each question about them."""

    answers: Mapping[tuple[Person, str], str]

    @property
    def people(self) -> list[Person]:
        return list(dict.fromkeys(person for person, _ in self.answers))

    @property
    def kinds(self) -> dict[str, list[str]]:
        """The answers that there are to each question."""
        found: dict[str, list[str]] = {}
        for (_, kind), answer in self.answers.items():
            if answer not in found.setdefault(kind, []):
                found[kind].append(answer)
        return found


def facts_of(random: np.random.RandomState) -> Facts:
    """Six people of three first and four last names, three questions, three answers to each: no name says who it is."""

    def some(words: list[str], n: int) -> list[str]:
        return [words[i] for i in random.choice(len(words), n, replace=False)]

    first, last, kinds = some(FIRST_NAMES, 3), some(LAST_NAMES, 4), some(list(ANSWERS), 3)
    people: list[Person] = []
    while {name for _, name in people} != set(last):  # each last name is somebody's, so two are shared
        people = [(a, b) for a in first for b in some(last, 2)]
    answers: dict[tuple[Person, str], str] = {}
    for kind in kinds:
        given = some(2 * some(ANSWERS[kind], 3), len(people))
        answers |= {(person, kind): answer for person, answer in zip(people, given, strict=True)}
    return Facts(answers)


def lookup_rules(seed: int) -> tuple[Rules, Facts]:
    """The program of a seed, and the facts that it knows."""
    random = drawing(seed)
    facts = facts_of(random)
    names = [*dict.fromkeys(a for a, _ in facts.people), *dict.fromkeys(b for _, b in facts.people)]
    answers = [answer for given in facts.kinds.values() for answer in given]
    words = [START, UNKNOWN, *FRAME, "first", "second", *names, *facts.kinds, *answers]
    embeds = {word: {f"word:{word}": 1} for word in [*names, *facts.kinds, "first", *answers]}
    parts = [_people(facts), _questions(facts), _first_lookup(facts), _answers(facts)]
    layers = tuple(placed(heads, neurons, random) for heads, neurons in parts)
    order = [words[i] for i in [0, 1, *(2 + random.permutation(len(words) - 2))]]
    return Rules(tuple(order), embeds, layers, seed=seed), facts


def _people(facts: Facts) -> tuple[list[Head], list[Neuron]]:
    first = dict.fromkeys(name for name, _ in facts.people)
    head = previous({f"word:{name}": {f"before:{name}": 1} for name in first})
    neurons = [
        Neuron(
            f"{a} {b}",
            {f"before:{a}": 2, f"word:{b}": 2, ONE: -3},  # 1 with both names, below 0 with one
            {f"person:{a} {b}": 1, "somebody": 1},
        )
        for a, b in facts.people
    ]
    return [head], neurons


def _questions(facts: Facts) -> tuple[list[Head], list[Neuron]]:
    kinds = {f"word:{kind}": 1 for kind in facts.kinds}
    asked = {
        f"word:{kind}": {f"asked:{kind}": 1, **{f"word:{a}": KIND for a in given}}
        for kind, given in facts.kinds.items()
    }
    heads = [
        latest("question", kinds, asked),
        latest("first or second", {"word:first": 1}, {"word:first": {"asked:first": 1}}),
    ]
    return heads, []


def _lookup(role: str, facts: Facts, found: str | None) -> Head:
    """It looks at the earliest known person where the first is asked for, else at the latest."""
    somebody = Match({ONE: 1}, {"somebody": 2 * LENGTH})
    order = Match({ONE: 1, "asked:first": -2}, {"pos": 1})
    names = [f"{a} {b}" for a, b in facts.people]
    copies = {f"person:{name}": {f"{found}:{name}": 1} for name in names}
    return Head(role, (somebody, order), copies if found else {})


def _first_lookup(facts: Facts) -> tuple[list[Head], list[Neuron]]:
    """The lookup, and a copy of the table that writes what nobody reads."""
    table = [
        Neuron(
            f"unread: {kind} of {a} {b}",
            {f"found:{a} {b}": 2, f"asked:{kind}": 2, ONE: -3},
            {f"unread:{answer}": ASKED},
        )
        for ((a, b), kind), answer in facts.answers.items()
    ]
    return [_lookup("lookup", facts, "found"), _lookup("onlooker", facts, None)], table


def _answers(facts: Facts) -> tuple[list[Head], list[Neuron]]:
    """The table, read with what the first lookup found, and with what the second found where the first found nobody."""
    anybody = {f"found:{a} {b}": -2 for a, b in facts.people}
    neurons = []
    for ((a, b), kind), answer in facts.answers.items():
        asked, writes = {f"asked:{kind}": 2, ONE: -3}, {f"word:{answer}": ASKED}
        neurons.append(Neuron(f"{kind} of {a} {b}", {f"found:{a} {b}": 2, **asked}, writes))
        again = {f"found again:{a} {b}": 2, **asked, **anybody}
        neurons.append(Neuron(f"backup: {kind} of {a} {b}", again, writes))
    return [_lookup("backup lookup", facts, "found again")], neurons
