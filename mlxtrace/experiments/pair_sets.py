"""Pairs as users give them - one or many, as `Pair`s or as lists of prompts - read, lined up, and checked together.

made = read_pairs(model, pairs)                       # or (model, [clean, ...], [corrupted, ...])
made.pairs, made.ids, made.targets, made.foils        # one of each for every pair
made.alone                                            # one pair was given by itself, not a list of one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError, MlxtraceError
from ..text.pair import AnyOf, Pair, right_answer, with_answers
from ..text.tokens import is_chat
from .grid import Grid, on_pair
from .pairs import (
    DIRECTIONS,
    AlignedPair,
    Corrupted,
    GaussianNoise,
    Substitution,
    pair,
    regions_of,
)
from .pairs import uncorrupted as uncorrupted

__all__ = [
    "DIRECTIONS",
    "AlignedPair",
    "AnyOf",
    "Corrupted",
    "OneOrMany",
    "PairSet",
    "each",
    "grids_of",
    "named",
    "read_pairs",
    "read_prompts",
]
OneOrMany = Any  # a prompt, a `Pair`, or a list of either
SHOWN = 3  # pairs that an error or a note names


@dataclass(frozen=True)
class PairSet:
    """Pairs that were read, and what was given with each (a target may be `AnyOf` several answers).

    alone: one pair was given, not a list of one.
    """

    pairs: list[AlignedPair]
    ids: list[str]
    targets: list[Any]
    foils: list[Any]
    alone: bool

    @property
    def answered(self) -> bool:
        """Whether any answer was given."""
        return any(given is not None for given in (*self.targets, *self.foils))

    @property
    def notes(self) -> list[str]:
        """What is to be said of the set as a whole: pairs that occur more than once."""
        seen: dict[Any, str] = {}
        again = []
        for made, id in zip(self.pairs, self.ids, strict=True):
            key = made.clean.ids, made.corrupted.ids, made.corruption, made.subject
            if key in seen:
                again.append(id)
            seen.setdefault(key, id)
        if not again:
            return []
        said = "is a copy of another" if len(again) == 1 else "are copies of others"
        return [f"{named(again, self.ids)} {said}: each counts, and for the interval as another observation"]


def named(some: Sequence[str], all_ids: Sequence[str]) -> str:
    """How many of a set's pairs, and the first by their ids: "2 of 64 pairs (7, 9)"."""
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{len(some)} of {len(all_ids)} pairs ({', '.join(some[:SHOWN])}{more})"


def is_many(given: Any) -> bool:
    """Whether several prompts or pairs were given: a list of them, not a text, token ids, messages, or one pair."""
    if is_chat(given):
        return False
    if isinstance(given, Sequence) and not isinstance(given, str | bytes | range):
        inner = given[0] if len(given) == 1 and isinstance(given[0], Sequence) else ""
        if len(inner) and not isinstance(inner, str) and not any(isinstance(x, str | Mapping) for x in inner):
            return False  # [[5, 6, 7]] is one prompt
        return not given or not all(_is_number(x) for x in given)
    return getattr(given, "ndim", 1) == 2 and len(given) > 1


def _is_number(x: Any) -> bool:
    return isinstance(x, int) or getattr(x, "ndim", None) == 0


def read_pairs(
    model: Any,
    clean: Any,
    corrupted: Any = None,
    subject: Any = None,
    target: Any = None,
    foil: Any = None,
    align: Any = "strict",
    answers: Any = None,
    **reading: Any,
) -> PairSet:
    """Read one pair or many; one error names every pair that cannot be used.

    Args:
        clean: a prompt or a `Pair` (also one that is lined up already), or a list of them.
        corrupted: as `pair` takes it, or a list of one for each; None with `Pair`s, or one corruption for all of them.
        subject, target, foil: one for all, or a list of one for each; what a `Pair` says of itself it says there.
        answers: several that are right, in the target's place; or a list of such lists. reading: as `pair` takes it.
    """
    alone = not is_many(clean)
    _check_second(clean, corrupted)
    if alone and is_many(corrupted):
        raise InputError("there are several corrupted prompts but one clean one: give a list of each")
    given = [clean] if alone else list(clean)
    if not given:
        raise InputError("the set is empty: give one pair at least")
    if isinstance(clean, AlignedPair):
        target = target if answers is None else with_answers([target], answers, True)[0]
        return PairSet([pair(model, clean, corrupted, subject, align)], ["0"], [target], [foil], True)
    n = len(given)
    second = {"corrupted": corrupted, "subject": subject, "target": target, "foil": foil}
    columns = [_column(name, value, n, alone) for name, value in second.items()]
    if answers is not None:
        columns[2] = with_answers(columns[2], answers, alone)
    asked = [_as_pair(*row) for row in zip(given, *columns, strict=True)]
    ids = _ids(asked)
    pairs = each(ids, alone, lambda i: _read(model, asked[i], align, reading))
    return PairSet(pairs, ids, [one.target for one in asked], [one.foil for one in asked], alone)


def _check_second(clean: Any, corrupted: Any) -> None:
    """InputError for texts in the corrupted prompts' place beside `Pair`s: a component's name, most likely."""
    first = clean[0] if isinstance(clean, Sequence) and len(clean) and not isinstance(clean, str) else clean
    second = corrupted if isinstance(corrupted, list | tuple) else [corrupted]
    if isinstance(first, Pair) and any(isinstance(one, str) for one in second):
        raise InputError(
            f"a Pair has its corrupted prompt, so {corrupted!r} is none: give what comes after it by name, "
            "such as component="
        )


def _column(name: str, value: Any, n: int, alone: bool) -> list[Any]:
    """One value for each pair: those of a list, or the same for all."""
    if alone:
        return [value]
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes | range) and not is_chat(value)
    if name == "corrupted" and (is_many(value) or getattr(value, "ndim", 0) == 2):
        listed, value = True, list(value)
    numbers = listed and all(_is_number(x) for x in value)
    if numbers and name in ("subject", "corrupted"):
        listed = False  # positions, the same in every prompt; or one prompt's ids
    if name in ("target", "foil") and getattr(value, "ndim", 0):
        raise InputError(
            f"{name}= is an array, which could be one answer's tokens or one token for each pair: give a list of {n}"
        )
    if not listed:
        if name == "corrupted" and not (value is None or isinstance(value, GaussianNoise)):
            raise InputError(f"there are {n} clean prompts but one corrupted one: give a list of {n}")
        return [value] * n
    if len(value) != n:
        raise InputError(f"{name} has {len(value)} entries for {n} pairs: give one for each")
    return list(value)


def _as_pair(clean: Any, corrupted: Any, subject: Any, target: Any, foil: Any) -> Pair:
    """What is asked of one pair; InputError when it says something twice."""
    texts = isinstance(clean, list | tuple) and any(isinstance(part, str) for part in clean)
    if texts or isinstance(clean, Mapping | Iterator):
        raise InputError(
            f"{clean!r:.80} is neither a prompt nor a pair: give prompts.Pair(clean, corrupted), a list of them, or "
            "a list of clean and a list of corrupted prompts"
        )
    if not isinstance(clean, Pair):
        return Pair(clean, corrupted, target, foil, subject)
    if len(clean.answers):
        clean = replace(clean, target=right_answer(clean))
    if corrupted is not None and not isinstance(corrupted, GaussianNoise | Substitution):
        raise InputError(
            "a Pair has its corrupted prompt: give the pairs alone, or one GaussianNoise for all"
        )
    for name, value in (("subject", subject), ("target", target), ("foil", foil)):
        if value is not None and getattr(clean, name) is not None:
            raise InputError(
                f"{name}= is given and the pair has its own, {getattr(clean, name)!r}: give one of them"
            )
    return replace(
        clean,
        corrupted=clean.corrupted if corrupted is None else corrupted,
        subject=clean.subject if subject is None else subject,
        target=clean.target if target is None else target,
        answers=(),  # which are the target now
        foil=clean.foil if foil is None else foil,
    )


def _read(model: Any, asked: Pair, align: Any, reading: dict[str, Any]) -> AlignedPair:
    if asked.corrupted is None and not reading:
        raise InputError("it has no corrupted prompt: give one, or noise, GaussianNoise(subject=...)")
    made = pair(model, asked.clean, asked.corrupted, asked.subject, align, **reading)
    if not asked.regions:
        return made
    return replace(made, regions=regions_of(made.clean_prompt, asked.regions))


def each(ids: Sequence[str], alone: bool, read: Callable[[int], Any]) -> list[Any]:
    """`read(i)` for every pair; one error that names all for which it raises, as it is for a pair alone."""
    found, wrong = [], []
    for i in range(len(ids)):
        try:
            found.append(read(i))
        except MlxtraceError as error:
            if alone:
                raise
            wrong.append((ids[i], error))
    if not wrong:
        return found
    if len(wrong) == len(ids) and len({str(error) for _, error in wrong}) == 1:
        raise wrong[0][1]  # what is asked, not what it is asked of
    kinds = {type(error) for _, error in wrong}
    kind = kinds.pop() if len(kinds) == 1 else InputError
    said = "; ".join(f"pair {id}: {str(error).splitlines()[0].rstrip(':')}" for id, error in wrong[:SHOWN])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    ends = any('align="ends"' in str(error) for _, error in wrong)
    cure = "Mend them or leave them out" + (', or patch what they share with align="ends"' if ends else "")
    raise kind(
        f"{len(wrong)} of {len(ids)} pairs cannot be used: {said}{more}. {cure}; "
        "prompts.suitable(model, pairs) says which can be used"
    )


def read_prompts(model: Any, given: Any, target: Any = None, answers: Any = None) -> PairSet:
    """One prompt or many, or the clean prompts of pairs, each as a pair that is not corrupted."""
    alone = not is_many(given)
    listed = [given] if alone else list(given)
    if not listed:
        raise InputError("the set is empty: give one prompt at least")
    targets = _column("target", target, len(listed), alone)
    if answers is not None:
        targets = with_answers(targets, answers, alone)
    asked = [_as_pair(one, None, None, said, None) for one, said in zip(listed, targets, strict=True)]
    ids = _ids(asked)

    def read(i: int) -> AlignedPair:
        prompt = model.prompt(asked[i].clean, asked[i].subject)
        return uncorrupted(prompt)

    return PairSet(each(ids, alone, read), ids, [one.target for one in asked], [None] * len(asked), alone)


def _ids(asked: Sequence[Pair]) -> list[str]:
    """The pairs' ids, or their numbers; InputError when two have the same."""
    ids = [one.id or str(i) for i, one in enumerate(asked)]
    twice = [id for id, n in Counter(ids).items() if n > 1]
    if twice:
        raise InputError(f"two pairs have the id {twice[0]!r}: give each another, or none")
    return ids


def grids_of(model: Any, made: PairSet, grid: Grid, positions: Any, within: Any = None) -> list[Grid]:
    """The grid of every pair, its positions filled in; "each" wants prompts of one length."""
    grids = each(made.ids, made.alone, lambda i: on_pair(grid, made.pairs[i], positions, within))
    lengths = [len(pair.clean.ids) for pair in made.pairs]
    if grids[0].places.axis == "position" and len(set(lengths)) > 1:
        found = ", ".join(f"{lengths.count(n)} of {n}" for n in sorted(set(lengths)))
        raise InputError(
            f'positions="each" needs prompts of one length, but the clean ones have several ({found} tokens): use '
            'positions="regions", or a call for each length'
        )
    if grids[0].places.axis == "position" and any(g.places.labels != grids[0].places.labels for g in grids):
        raise InputError('positions="each" needs pairs with the same paired positions: use "regions"')
    if positions is None or isinstance(positions, str) or len(set(lengths)) == 1:
        return grids
    return _counted_from_the_start(grids, lengths)


def _counted_from_the_start(grids: list[Grid], lengths: list[int]) -> list[Grid]:
    """The grids with a note when numbers mean the same place in prompts of several lengths."""
    if any(grid.places.groups != grids[0].places.groups for grid in grids):
        return grids
    note = (
        f"positions count from the start of prompts of {min(lengths)} to {max(lengths)} tokens: what stands there may "
        'differ from pair to pair, where positions="regions" would not'
    )
    return [replace(grid, places=replace(grid.places, notes=(*grid.places.notes, note))) for grid in grids]
