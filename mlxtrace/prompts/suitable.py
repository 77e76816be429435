"""Which pairs of a set a model can be asked: they align, and their answers are what they should be in both runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError, MlxtraceError
from ..text.pair import Pair
from .last_logits import continued, of_each, text_behind
from .pair_reading import ReadPair, begins, read_pair, reader_of

UNREAD = "cannot be read"
LONE = "there is no corrupted prompt"
LENGTHS = "the prompts differ in length"
SAME = "both prompts are the same tokens"
ONE_ANSWER = "both answers are the same token"
BEGINNING = "one answer is the beginning of the other"
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

    Kept is a pair whose prompts are read and have one length, whose answers differ, that was not there before, and
    whose answers are what they should be. "preferred": the clean run prefers the target to the foil (without a foil,
    it is its top token), and in the corrupted run the target is not the top token, and less preferred than in the
    clean one (without a foil, less likely). "top": the target is the clean run's top token, and the foil the corrupted
    one's. An answer of several tokens is one's top token when each of them is, behind those before it, and as likely
    as all of them together. Of acceptable answers any may be on top, and they are as likely as their sum. An answer
    that a pair leaves open is the run's own top token.

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
        reason = _misfit(model, made) or (AGAIN if key in seen else "")
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
    return tuple(read.clean.ids), read.corrupted and tuple(read.corrupted.ids), read.targets, read.foil


def _misfit(model: Any, read: ReadPair) -> str:
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
    return "" if read.foil is None else _told_apart(model, read, read.foil)


def _told_apart(model: Any, read: ReadPair, foil: tuple[int, ...]) -> str:
    """What is wrong with the answers beside each other."""
    for target in read.targets:
        one, other = text_behind(model, read.clean, target), text_behind(model, read.corrupted, foil)
        if target == foil:
            return f"{ONE_ANSWER if len(target) == 1 else ONE_ANSWER + 's'}: {one!r}"
        if begins(target, foil) or begins(foil, target):
            return f"{BEGINNING}: {one!r} and {other!r}"
    return ""


# ---- what the runs say


@dataclass(frozen=True)
class _Said:
    """What one run says: how likely the target is, how far it is before the foil, and whether it says either.

    top: its top token, or what it says in place of the answer, as tokens.
    """

    top: tuple[int, ...]
    target: float
    margin: float | None
    says_target: bool
    says_foil: bool


def _said(probabilities: np.ndarray, target: int | None, foil: int | None) -> _Said:
    """Of answers of one token, of the probabilities `[V]` of what follows."""
    top = int(probabilities.argmax())
    wanted = float(probabilities[top if target is None else target])
    margin = None
    if foil is not None:
        least = float(np.finfo(np.float64).tiny)
        margin = float(np.log(max(wanted, least)) - np.log(max(float(probabilities[foil]), least)))
    return _Said((top,), wanted, margin, target is None or top == target, top == foil)


def _all_said(model: Any, prompts: Sequence[Any], read: Sequence[ReadPair]) -> list[_Said]:
    """Of answers of several tokens, or several answers: what the run of each prompt makes of them."""
    asked = [(i, answer) for i, pair in enumerate(read) for answer in pair.targets]
    asked += [(i, pair.foil) for i, pair in enumerate(read) if pair.foil is not None]
    found = continued(model, [prompts[i] for i, _ in asked], [answer for _, answer in asked])
    by = {key: one for key, one in zip(asked, found, strict=True)}
    said = []
    for i, pair in enumerate(read):
        wanted = [by[i, answer] for answer in pair.targets]
        likely = float(np.logaddexp.reduce([one.logprob for one in wanted]))
        foil = None if pair.foil is None else by[i, pair.foil]
        nearest = max(wanted, key=lambda one: one.said)
        said.append(
            _Said(
                tuple(nearest.instead[0]),
                float(np.exp(likely)),
                None if foil is None else likely - foil.logprob,
                any(one.whole for one in wanted),
                foil is not None and foil.whole,
            )
        )
    return said


def _runs(model: Any, prompts: Sequence[Any], read: Sequence[ReadPair]) -> list[_Said]:
    """What the run of each prompt says; prompts: one for each pair."""
    plain = [i for i, pair in enumerate(read) if _is_plain(pair)]
    more = [i for i, pair in enumerate(read) if not _is_plain(pair)]

    def of_one(k: int, probabilities: np.ndarray) -> _Said:
        pair = read[plain[k]]
        target = pair.targets[0][0] if pair.targets else None
        return _said(probabilities, target, None if pair.foil is None else pair.foil[0])

    found = dict(zip(plain, of_each(model, [prompts[i] for i in plain], of_one), strict=True))
    whole = _all_said(model, [prompts[i] for i in more], [read[i] for i in more]) if more else []
    found.update(zip(more, whole, strict=True))
    return [found[i] for i in range(len(read))]


def _with_targets(model: Any, read: list[ReadPair]) -> list[ReadPair]:
    """The pairs; those that leave the target open beside a foil of several tokens with the clean run's own."""
    opened = [i for i, pair in enumerate(read) if not pair.targets and not _is_plain(pair)]
    tops = of_each(model, [read[i].clean for i in opened], lambda _, p: (int(p.argmax()),))
    found = dict(zip(opened, tops, strict=True))
    return [replace(pair, target=found[i]) if i in found else pair for i, pair in enumerate(read)]


def _is_plain(pair: ReadPair) -> bool:
    """Whether a pair has one target at most, and no answer of several tokens."""
    answers = [*pair.targets, *([] if pair.foil is None else [pair.foil])]
    return len(pair.targets) < 2 and all(len(answer) == 1 for answer in answers)


def _unanswered(model: Any, read: dict[str, ReadPair], answers: str) -> dict[str, str]:
    """Why pairs are dropped whose answers are not what they should be, by id."""
    made = _with_targets(model, list(read.values()))
    clean = _runs(model, [m.clean for m in made], made)
    made = [m if m.targets else replace(m, target=said.top) for m, said in zip(made, clean, strict=True)]
    corrupted = _runs(model, [m.corrupted for m in made], made)
    judge = _preferred if answers == "preferred" else _top
    why = {}
    for i, (name, pair) in enumerate(zip(read, made, strict=True)):
        reason, run, prompt = judge(pair, clean[i], corrupted[i])
        if reason:
            targets = " or ".join(repr(text_behind(model, pair.clean, target)) for target in pair.targets)
            says = text_behind(model, prompt, run.top)
            verb = "its top token" if len(run.top) == 1 else "and it says"
            why[name] = f"{reason}: the target is {targets}, {verb} {says!r}"
    return why


def _preferred(pair: ReadPair, clean: _Said, corrupted: _Said) -> tuple[str, _Said, Any]:
    """What is wrong, in which run, and that run's prompt."""
    if clean.margin is None or corrupted.margin is None:
        good, lost = clean.says_target, corrupted.target < clean.target
    else:
        good, lost = clean.margin > 0, corrupted.margin < clean.margin
    if not good:
        return CLEAN, clean, pair.clean
    return ("" if lost and not corrupted.says_target else CORRUPTED), corrupted, pair.corrupted


def _top(pair: ReadPair, clean: _Said, corrupted: _Said) -> tuple[str, _Said, Any]:
    if not clean.says_target:
        return CLEAN, clean, pair.clean
    if pair.foil is None:
        return (CORRUPTED if corrupted.says_target else ""), corrupted, pair.corrupted
    return ("" if corrupted.says_foil else FOIL), corrupted, pair.corrupted
