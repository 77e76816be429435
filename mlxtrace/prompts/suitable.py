"""Which pairs of a set a model can be asked: they align, and their answers are what they should be in both runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, MlxtraceError
from ..text.pair import Pair
from .last_logits import of_each
from .pair_reading import ReadPair, is_one_token, read_pair, reader_of

UNREAD = "cannot be read"
LONE = "there is no corrupted prompt"
LENGTHS = "the prompts differ in length"
SAME = "both prompts are the same tokens"
SEVERAL = "an answer is more than one token"
ONE_ANSWER = "both answers are the same token"
AGAIN = "the pair was there before"
CLEAN = "the clean run does not answer with the target"
CORRUPTED = "the corrupted run does not lose the target"
FOIL = "the corrupted run does not answer with the foil"
WANTED = ("preferred", "top")


@dataclass(frozen=True)
class Suitable(Sequence):
    """The pairs that were kept, and what became of the others; it is the sequence of those kept, and prints as a table.

    Args:
        pairs: Those kept, as they were given.
        dropped: `{reason: how many}`.
        why: `{id: reason and what was seen}` of each that was dropped.

    Example:
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> prompts.suitable(model, [prompts.Pair("The Louvre", "The Louvre", id="a"), prompts.Pair("The", id="b")])
        0 of 2 pairs are suitable
        1 dropped: both prompts are the same tokens (a)
        1 dropped: there is no corrupted prompt (b)
    """

    pairs: list[Pair]
    dropped: dict[str, int]
    why: dict[str, str]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        return self.pairs[index]

    def __repr__(self) -> str:
        total = len(self.pairs) + len(self.why)
        width = len(str(total))
        lines = [f"{len(self.pairs):>{width}} of {total} pairs are suitable"]
        for reason, n in self.dropped.items():
            ids = [name for name, said in self.why.items() if said.startswith(reason)]
            shown = ", ".join(ids[:4]) + (", ..." if n > 4 else "")
            lines.append(f"{n:>{width}} dropped: {reason} ({shown})")
        return "\n".join(lines)


def suitable(model: Any, pairs: Iterable[Pair], answers: str = "preferred") -> Suitable:
    """The pairs that an experiment on this model can mean something for, and why the others are not.

    Kept is a pair whose prompts are read and have one length, whose answers are one token each and differ, that was
    not there before, and whose answers are what they should be. "preferred": the clean run prefers the target to the
    foil (without a foil, it is its top token), and in the corrupted run the target is not the top token, and less
    preferred than in the clean one (without a foil, less likely). "top": the target is the clean run's top token, and
    the foil the corrupted one's. An answer that a pair leaves open is the run's own.

    Args:
        model: An `InterpretableModel`.
        pairs: `Pair`s, such as `load` gives.
        answers: "preferred" or "top".

    Returns:
        A `Suitable`: the sequence of the pairs kept, with `.pairs`, `.dropped` and `.why`.

    Raises:
        InputError: There are no pairs, two have the same id, or `answers` is neither.

    Example:
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> louvre, seine = "The Louvre Museum is in the city of", "The Seine is in the city of"
        >>> colosseum = "The Colosseum is in the city of"
        >>> kept = prompts.suitable(model, [prompts.Pair(louvre, colosseum), prompts.Pair(louvre, seine)])
        >>> len(kept), kept.dropped
        (1, {'the prompts differ in length': 1})
    """
    if not isinstance(answers, str) or answers not in WANTED:
        raise InputError(f"answers={answers!r} is unknown; it is one of {', '.join(WANTED)}")
    named = _named(pairs)
    why: dict[str, str] = {}
    read: dict[str, ReadPair] = {}
    seen: set[tuple] = set()
    reader = reader_of(model)
    for name, pair in named.items():
        try:
            made = read_pair(model, pair, reader)
        except MlxtraceError as error:
            why[name] = f"{UNREAD}: {error}"
            continue
        key = _key(made)
        reason = _misfit(model, pair, made) or (AGAIN if key in seen else "")
        seen.add(key)
        if reason:
            why[name] = reason
        else:
            read[name] = made
    why |= _unanswered(model, read, answers)
    why = {name: why[name] for name in named if name in why}
    counts = Counter(said.partition(":")[0] for said in why.values())
    return Suitable([pair for name, pair in named.items() if name not in why], dict(counts), why)


def _named(pairs: Any) -> dict[str, Pair]:
    """The pairs by their ids; those without one by their numbers."""
    if isinstance(pairs, str) or not isinstance(pairs, Iterable | Pair):
        raise InputError(f"a list of Pair was expected, not {pairs!r}; prompts.load gives one")
    pairs = [pairs] if isinstance(pairs, Pair) else list(pairs)
    odd = [pair for pair in pairs if not isinstance(pair, Pair)]
    if odd or not pairs:
        raise InputError(f"a list of Pair was expected, not {odd[0]!r}" if odd else "there are no pairs")
    names = [pair.id or f"{number:04}" for number, pair in enumerate(pairs)]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(
            f"pairs have ids of their own, but several are called {', '.join(map(repr, twice[:5]))}"
        )
    return dict(zip(names, pairs, strict=True))


def _key(read: ReadPair) -> tuple:
    return tuple(read.clean.ids), read.corrupted and tuple(read.corrupted.ids), read.target, read.foil


def _misfit(model: Any, pair: Pair, read: ReadPair) -> str:
    """What is wrong with a pair before anything is run; "" for nothing."""
    if read.corrupted is None:
        return LONE
    n, m = len(read.clean), len(read.corrupted)
    if read.clean.chat is not None and read.corrupted.chat is not None:
        unlike = read.clean.chat.unlike(read.corrupted.chat)
        if unlike:
            return f"{LENGTHS}: {unlike}"
    if n != m:
        return f"{LENGTHS}: {n} and {m} tokens"
    if read.clean.ids == read.corrupted.ids:
        return SAME
    for answer, prompt, token in (
        (pair.target, read.clean, read.target),
        (pair.foil, read.corrupted, read.foil),
    ):
        if token is not None and not is_one_token(model, prompt, answer):
            return f"{SEVERAL}: {answer!r} starts with {model.token_to_str(token)!r} behind {prompt.text!r}"
    if read.target is not None and read.target == read.foil:
        return f"{ONE_ANSWER}: {model.token_to_str(read.target)!r}"
    return ""


@dataclass(frozen=True)
class _Said:
    """What one run says: its top token, the target's probability, and how far the target is before the foil."""

    top: int
    target: float
    margin: float | None


def _said(probabilities: np.ndarray, target: int | None, foil: int | None) -> _Said:
    top = int(probabilities.argmax())
    wanted = float(probabilities[top if target is None else target])
    if foil is None:
        return _Said(top, wanted, None)
    least = float(np.finfo(np.float64).tiny)
    margin = np.log(max(wanted, least)) - np.log(max(float(probabilities[foil]), least))
    return _Said(top, wanted, float(margin))


def _unanswered(model: Any, read: dict[str, ReadPair], answers: str) -> dict[str, str]:
    """Why pairs are dropped whose answers are not what they should be, by id."""
    made = list(read.values())
    clean = of_each(model, [m.clean for m in made], lambda i, p: _said(p, made[i].target, made[i].foil))
    targets = [said.top if m.target is None else m.target for m, said in zip(made, clean, strict=True)]
    corrupted = of_each(model, [m.corrupted for m in made], lambda i, p: _said(p, targets[i], made[i].foil))
    judge = _preferred if answers == "preferred" else _top
    why = {}
    for i, name in enumerate(read):
        reason, run = judge(targets[i], made[i].foil, clean[i], corrupted[i])
        if reason:
            words = [model.token_to_str(token) for token in (targets[i], run.top)]
            why[name] = f"{reason}: the target is {words[0]!r}, its top token {words[1]!r}"
    return why


def _preferred(target: int, foil: int | None, clean: _Said, corrupted: _Said) -> tuple[str, _Said]:
    if clean.margin is None or corrupted.margin is None:
        good, lost = clean.top == target, corrupted.target < clean.target
    else:
        good, lost = clean.margin > 0, corrupted.margin < clean.margin
    if not good:
        return CLEAN, clean
    return ("" if lost and corrupted.top != target else CORRUPTED), corrupted


def _top(target: int, foil: int | None, clean: _Said, corrupted: _Said) -> tuple[str, _Said]:
    if clean.top != target:
        return CLEAN, clean
    if foil is None:
        return (CORRUPTED if corrupted.top == target else ""), corrupted
    return ("" if corrupted.top == foil else FOIL), corrupted
