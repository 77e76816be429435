"""Clean and corrupted prompts of the programs, with their answers: a few of each thing that can differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..text.pair import Pair
from .lookup_rules import Facts, Person

EACH = 2  # pairs of each kind
Asked = tuple[Person, Person, str, str]  # who met whom, what is asked, of whom


def question(asked: Asked) -> str:
    """The prompt that asks."""
    (a, b), (c, d), kind, which = asked
    return f"{a} {b} met {c} {d} . The {kind} of the {which} is"


def reply(facts: Facts, asked: Asked) -> str | None:
    """The answer by the table; of the other person where the one asked for is not known; None where neither is."""
    first, second, kind, which = asked
    order = (first, second) if which == "first" else (second, first)
    known = [person for person in order if (person, kind) in facts.answers]
    return facts.answers[known[0], kind] if known else None


def lookup_pairs(facts: Facts, seed: int) -> tuple[Pair, ...]:
    """EACH pairs of each kind, where the two answers are others: by name what differs."""
    random = np.random.RandomState(seed)
    prompts = [
        (first, second, kind, which)
        for first in facts.people
        for second in facts.people
        for kind in facts.kinds
        for which in ("first", "second")
        if first != second
    ]
    order = random.permutation(len(prompts))
    found: dict[str, list[Pair]] = {}
    for i in order:
        fitting = [
            (kind, other)
            for kind, other in _corruptions(facts, prompts[i])
            if len(found.get(kind, ())) < EACH and reply(facts, other) != reply(facts, prompts[i])
        ]
        if fitting:  # one of each prompt, of the kind of which there are fewest
            kind, other = min(fitting, key=lambda one: len(found.get(one[0], ())))
            made = found.setdefault(kind, [])
            made.append(_pair(facts, prompts[i], other, f"{kind} {len(made) + 1}"))
    return tuple(pair for pairs in found.values() for pair in pairs)


def _corruptions(facts: Facts, asked: Asked) -> Iterator[tuple[str, Asked]]:
    """Other questions by what is other in them."""
    first, second, kind, which = asked
    person, other = (first, second) if which == "first" else (second, first)

    def with_person(new: Person) -> Asked:
        return (new, second, kind, which) if which == "first" else (first, new, kind, which)

    for new in _unlike(facts, person):
        same = new[0] == person[0], new[1] == person[1]
        word = {(True, False): "last name", (False, True): "first name"}.get(same, "person")
        if new not in facts.people:
            yield f"unknown {word}", with_person(new)
            for third in _unlike(facts, other):
                if third not in facts.people:
                    one, two = (new, third) if which == "first" else (third, new)
                    yield "nobody", (one, two, kind, which)
        elif new != other:
            yield word, with_person(new)
    yield "order", (first, second, kind, "second" if which == "first" else "first")
    yield "swapped", (second, first, kind, which)
    for new in facts.kinds:
        if new != kind:
            yield "question", (first, second, new, which)


def _unlike(facts: Facts, person: Person) -> list[Person]:
    """All other combinations of names, known or not."""
    names = [(a, b) for a, _ in facts.people for _, b in facts.people]
    return [new for new in dict.fromkeys(names) if new != person]


def _pair(facts: Facts, clean: Asked, corrupted: Asked, name: str) -> Pair:
    (a, b), (c, d), kind, which = clean
    answer, others = reply(facts, clean), facts.kinds[kind]
    foil = reply(facts, corrupted) or next(x for x in others if x != answer)
    people = {"first person": f"{a} {b}", "second person": f"{c} {d}"}
    return Pair(
        question(clean),
        question(corrupted),
        target=f" {answer}",
        foil=f" {foil}",
        subject=people[f"{which} person"],
        regions={**people, "question": kind, "order": which, "last": [-1]},
        id=name,
    )


def induction_pairs(usual: Mapping[str, str], seed: int) -> tuple[Pair, ...]:
    """EACH pairs of each kind: what followed the earlier copy, the earlier copy, or the last word is another."""
    random, words = np.random.RandomState(seed), list(usual)
    found = []
    for n in range(1, EACH + 1):
        one, two, three, a, b, c, d, e = (words[i] for i in random.choice(len(words), 8, replace=False))
        clean = [one, a, b, two, c, d, three, a]
        others = {
            "copied word": ([one, a, e, two, c, d, three, a], e),
            "earlier copy": (
                [one, e, b, two, c, d, three, a],
                a,
            ),  # with none, the head copies the last word itself
            "last word": ([one, a, b, two, c, d, three, c], d),
            "later copy": ([one, a, b, a, c, d, three, a], c),
        }
        for kind, (corrupted, foil) in others.items():
            texts = " ".join(clean), " ".join(corrupted)
            found.append(Pair(*texts, target=f" {b}", foil=f" {foil}", id=f"{kind} {n}"))
    return tuple(found)
