"""Subjects that can stand in the place of another: of as many tokens, and with another answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import InputError, MlxtraceError, SubjectError
from .fact_files import Fact, load
from .last_logits import of_each
from .pair_reading import reader_of

SURE = 0.2  # the probability of another answer, at least


def substitutes(
    model: Any, prompt: Any, subject: Any = None, candidates: Iterable[str] | None = None
) -> list[str]:
    """Subjects of the same length that give the prompt another answer, for its corrupted counterpart.

    A candidate stands in the place of the subject's first occurrence. It is kept when the prompt then has as many
    tokens, differs in the subject's only, and the top token is another one, with a probability of 0.2 or more; the
    model is run on each. First come the subjects of the relations that have a bundled fact about this subject, then
    those of the relations with the model's answer among their answers, then the others; each by the probability of its
    answer.

    Args:
        model: An `InterpretableModel`, with a tokenizer.
        prompt: Text, or a chat, or a `Prompt` of one.
        subject: Text that occurs in it, or positions; None: the prompt's own.
        candidates: Subjects to try; None: those of the bundled facts.

    Returns:
        The subjects, the best first: `prompt.replace(subject, best, 1)` is the corrupted prompt; of a chat the content
        that has the subject is replaced so.

    Raises:
        InputError: None fits, with what was tried; or the prompt is token ids.
        SubjectError: There is no subject, or it is not in the prompt.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> model.substitutes("The Eiffel Tower is in the city of", "Eiffel Tower", ["Louvre Museum", "Colosseum"])
        ['Colosseum']
    """
    read = model.prompt(prompt, subject)
    if read.decoded:
        raise InputError(
            "substitutes are texts, which need a text to stand in: give the prompt's text, not its ids"
        )
    if read.subject is None:
        raise SubjectError(f"which part of {read.text!r} is the subject? substitutes(prompt, subject)")
    name = read.subject_text or "".join(read.tokens[i] for i in read.subject)
    name = name.strip()
    top, likely = of_each(model, [read], lambda _, p: (int(p.argmax()), p))[0]
    if candidates is None:
        facts = load()
        tiers = _related(facts, name, model.token_to_str(top).strip())
        tried = list(dict.fromkeys(fact.subject for fact in facts))
    else:
        tried, tiers = _texts(candidates), []
    fitting = _fitting(model, read, name, tried)
    answers = of_each(model, [other for _, other in fitting], lambda _, p: _answer(p, top))
    good = [
        (next((i for i, tier in enumerate(tiers) if text in tier), len(tiers)), -sure, text)
        for (text, _), (said, sure, before) in zip(fitting, answers, strict=True)
        if said != top and sure >= SURE and before < likely[top]
    ]
    if not good:
        others = sum(said != top for said, _, _ in answers)
        raise InputError(
            f"no substitute for {name!r} in {read.text!r}: of {len(tried)} subjects {len(fitting)} have its "
            f"{len(read.subject)} tokens there, {others} of these another answer than "
            f"{model.token_to_str(top)!r}, none with a probability of {SURE} or more; give others: candidates=[...]"
        )
    return [text for *_, text in sorted(good)]


def _answer(p: np.ndarray, top: int) -> tuple[int, float, float]:
    """The top token, its probability, and that of the answer before."""
    said = int(p.argmax())
    return said, float(p[said]), float(p[top])


def _texts(candidates: Any) -> list[str]:
    if isinstance(candidates, str) or not isinstance(candidates, Iterable):
        raise InputError(f"candidates are a list of subjects, not {candidates!r}")
    found = list(candidates)
    odd = [c for c in found if not isinstance(c, str) or not c.strip()]
    if odd or not found:
        raise InputError(f"candidates are texts, not {odd[0]!r}" if odd else "candidates: there are none")
    return list(dict.fromkeys(c.strip() for c in found))


def _related(facts: list[Fact], name: str, answer: str) -> list[set[str]]:
    """The subjects of the relations that know this subject, and those of the ones that know this answer."""
    ours = {fact.relation for fact in facts if fact.subject.casefold() == name.casefold()}
    answered = {fact.relation for fact in facts if fact.attribute.split()[0] == answer}
    return [{fact.subject for fact in facts if fact.relation in some} for some in (ours, answered)]


def _fitting(model: Any, read: Any, name: str, tried: list[str]) -> list[tuple[str, Any]]:
    """The subjects that make a prompt which differs from this one in the subject's tokens only, with that prompt."""
    start, stop, found = read.subject.start, read.subject.stop, []
    reader = reader_of(model)
    at = _character(read, name)
    stop_at = at + len(name)
    for text in tried:
        try:
            if read.chat is None:
                other = reader(read.text[:at] + text + read.text[stop_at:])
            else:
                chat = read.chat.replaced(at, stop_at, text, read.text)
                other = reader(chat, template=read.chat.variables)
        except MlxtraceError:  # it has no tokens, or too many
            continue
        same = other.ids[:start] == read.ids[:start] and other.ids[stop:] == read.ids[stop:]
        if same and other.ids != read.ids:
            found.append((text, other))
    return found


def _character(read: Any, name: str) -> int:
    """The character at which the subject starts: of its occurrences the one with the subject's positions."""
    at, k = -1, 0
    while (at := read.text.find(name, at + 1)) >= 0:
        if read.chat is not None and not read.chat.holds(at, at + len(name)):
            continue
        k += 1
        if read.find(name, k) == read.subject:
            return at
    raise SubjectError(f"the subject {name!r} does not stand in {read.text!r} as it is: give it as text")
