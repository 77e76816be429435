"""Facts with another subject: "The Louvre is in" -> " Paris", and "The Colosseum is in" -> " Rome"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...text.pair import Pair
from ..fact_files import Fact, load
from ..last_logits import of_each
from ..pair_reading import is_one_token
from .drawing import Drawing

AT_ONCE = 32  # facts, at least, that the model is asked before it is looked whether they are enough
UNKNOWN = "facts are not known to the model, or their answers are not one token"
ALONE = "known facts have no other subject of the same length with another answer"


def fact_pairs(model: Any = None, n: int = 64, seed: int = 0) -> list[Pair]:
    """The bundled facts, each with another subject of its relation.

    Published with noise in the place of another subject (Meng et al. 2022, arXiv:2202.05262): of GPT-2 XL, MLPs of the
    middle layers at the last token of the subject, and attention of late layers at the last token. Substitution
    keeps activations ordinary, and is recommended (Zhang and Nanda 2023, arXiv:2309.16042).

    The corrupted prompt is the same sentence with a subject of the same relation, of as many tokens, whose answer is
    another. With a model both answers are its top tokens, one token each. Answers: that of the clean fact against
    that of the other. The subject is named, so regions are the roles of tokens: first, middle and last of the
    subject, the one after it, those further on, the last.

    Args:
        model: An `InterpretableModel`: facts that it knows. None: subjects of as many words.
        n: How many pairs.
        seed: Which ones.

    Returns:
        n different pairs, each of another fact, of several lengths.

    Raises:
        InputError: Fewer than n of the bundled facts are known and have a counterpart.

    Example:
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> pairs = prompts.fact_pairs(model, n=4)
        >>> len(prompts.suitable(model, pairs, answers="top"))
        4
    """
    drawing = Drawing("facts", model, n, seed)
    facts = load()
    facts = [facts[i] for i in drawing.rng.permutation(len(facts))]
    drawn = _by_words(facts, drawing.rng) if model is None else _known_first(drawing, facts)
    return drawing.collect(
        drawn, "write pairs of your own; model.substitutes(prompt, subject) finds subjects"
    )


@dataclass(frozen=True)
class _Known:
    """A fact, its prompt as a template, what another subject must be like, and its answer."""

    fact: Fact
    template: str
    like: tuple
    answer: Any


def _by_words(facts: list[Fact], rng: np.random.RandomState) -> Iterator[Pair | str]:
    known = [
        _Known(fact, _template(fact), (len(fact.subject.split()),), f" {fact.attribute}")
        for fact in facts
        if " " not in fact.attribute
    ]
    yield from _paired(known, rng)


def _known_first(drawing: Drawing, facts: list[Fact]) -> Iterator[Pair | str]:
    """Pairs of as many facts as it takes, asked some at a time."""
    known: list[_Known] = []
    made: list[Pair | str] = []
    at_once = max(AT_ONCE, 2 * drawing.n)
    for start in range(0, len(facts), at_once):
        known += _asked(drawing, facts[start : start + at_once])
        made = list(_paired(known, np.random.RandomState(drawing.rng.randint(2**31))))
        if sum(isinstance(pair, Pair) for pair in made) >= drawing.n:
            break
    else:
        yield from [UNKNOWN] * (len(facts) - len(known))
    yield from made


def _asked(drawing: Drawing, facts: list[Fact]) -> list[_Known]:
    """Those of the facts whose answer, one token, is the model's top token."""
    read = []
    for fact in facts:
        try:
            prompt = drawing.read(fact.prompt, fact.subject)
            answer = f" {fact.attribute}"
            token = drawing.model.answer_token(answer, prompt)
        except (ValueError, IndexError):  # this tokenizer cannot read it: it is not known
            continue
        if is_one_token(drawing.model, prompt, answer):
            read.append((fact, prompt, token))
    tops = of_each(drawing.model, [prompt for _, prompt, _ in read], lambda _, p: int(p.argmax()))
    return [
        _Known(fact, _template(fact), (len(prompt), prompt.subject), token)
        for (fact, prompt, token), top in zip(read, tops, strict=True)
        if token == top
    ]


def _template(fact: Fact) -> str:
    return fact.prompt.replace(fact.subject, "{}", 1)


def _paired(known: list[_Known], rng: np.random.RandomState) -> Iterator[Pair | str]:
    """Each fact with one of those that could stand in its place."""
    alike: dict[tuple, list[_Known]] = {}
    for one in known:
        alike.setdefault((one.fact.relation, one.template, one.like), []).append(one)
    for one in known:
        others = [x for x in alike[one.fact.relation, one.template, one.like] if x.answer != one.answer]
        if not others:
            yield ALONE
            continue
        other = others[rng.randint(len(others))]
        answers = f" {one.fact.attribute}", f" {other.fact.attribute}"
        yield Pair(one.fact.prompt, other.fact.prompt, answers[0], answers[1], one.fact.subject)
