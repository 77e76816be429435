"""Results of single pairs put side by side: whether they are of one kind, and one array of all of them.

singles, ids = one_kind(singles, ids, PatchingResult, traits)     # InputError that names the odd one
stacked(arrays, dims, labels, regions)      # [pairs, ...], NaN where one lacks a region
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError, closest
from ..text.regions import union

__all__ = ["notes_over", "one_kind", "place_of", "shared", "some", "stacked", "union", "unstacked"]


def one_kind(
    singles: Any, ids: Any, kind: type, traits: Callable[[Any], Mapping[str, Any]]
) -> tuple[list[Any], list[str]]:
    """The singles and their ids as lists; InputError unless there are some, of one kind, with an id of its own each.

    kind: the class of all of them, and no set. traits: `{what: value}` of a single that must be the same for all.
    """
    singles, ids = _listed("singles", singles), _listed("ids", ids)
    if not singles:
        raise InputError("a set needs the result of at least one pair; there is none")
    if len(ids) != len(singles):
        raise InputError(f"there are {len(singles)} results but {len(ids)} ids: give one for each")
    for name, single in zip(ids, singles, strict=True):
        if not isinstance(name, str) or not name:
            raise InputError(f"an id is a text, not {name!r}")
        if not isinstance(single, kind) or getattr(single, "ids", None):
            whole = ": give the results of its pairs, .singles" if isinstance(single, kind) else ""
            raise InputError(
                f"{name!r} is a {type(single).__name__}, not the {kind.__name__} of one pair{whole}"
            )
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise InputError(f"each pair has an id of its own; given more than once: {some(twice)}")
    found = [traits(single) for single in singles]
    for what in found[0]:
        _same(what, [traits_of_one.get(what) for traits_of_one in found], ids)
    return singles, ids


def _listed(what: str, given: Any) -> list[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"{what} is a list, not {given!r}")
    return list(given)


def _same(what: str, values: list[Any], ids: list[str]) -> None:
    """InputError that names the pair whose value is not that of the most."""
    seen = [repr(value) for value in values]
    usual = Counter(seen).most_common(1)[0][0]
    for name, value in zip(ids, seen, strict=True):
        if value != usual:
            raise InputError(f"a set has results of one kind: {name!r} has {what} {value}, others {usual}")


def stacked(
    arrays: Sequence[np.ndarray], dims: Sequence[str], labels: Sequence[Sequence[str]], regions: list[str]
) -> np.ndarray:
    """`[pairs, *dims]`: arrays whose axis "region" has other labels each, at the places of `regions`, NaN elsewhere."""
    if "region" not in dims:
        return np.stack(arrays)
    axis = list(dims).index("region")
    shape = [*arrays[0].shape]
    shape[axis] = len(regions)
    out = np.full((len(arrays), *shape), np.nan)
    for whole, one, own in zip(out, arrays, labels, strict=True):
        np.moveaxis(whole, axis, 0)[[regions.index(label) for label in own]] = np.moveaxis(one, axis, 0)
    return out


def unstacked(
    values: np.ndarray, dims: Sequence[str], own: Sequence[str] | None, regions: list[str]
) -> np.ndarray:
    """One pair's array again: of `values` `[*dims]` the labels that are its own, in its own order."""
    if own is None:
        return values
    return np.take(values, [regions.index(label) for label in own], axis=list(dims).index("region"))


def place_of(which: Any, ids: list[str]) -> int:
    """Which of the pairs is meant, by its id or by its number; InputError for none."""
    if isinstance(which, str):
        if which not in ids:
            raise InputError(f"there is no pair {which!r} in this set; {closest(which, ids)}")
        return ids.index(which)
    if (
        isinstance(which, bool)
        or not isinstance(which, int | np.integer)
        or not -len(ids) <= which < len(ids)
    ):
        raise InputError(f"a pair is named by its id, or by a number up to {len(ids) - 1}, not by {which!r}")
    return int(which) % len(ids)


def some(names: Sequence[str], most: int = 6) -> str:
    """Names on a line, the first of them where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shared(values: Sequence[Any]) -> Any:
    """The value that all have; None when they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def notes_over(notes: Sequence[Sequence[str]]) -> list[str]:
    """The notes of many pairs, each once: those of some only with how many these are, the most frequent first."""
    counts = Counter(note for of_one in notes for note in dict.fromkeys(of_one))
    every = [note for note, count in counts.items() if count == len(notes)]
    others = [(note, count) for note, count in counts.most_common() if count < len(notes)]
    told = [f"{count} of {len(notes)} pairs: {note}" for note, count in others[:3]]
    if len(others) > 3:
        told.append(f"{len(others) - 3} more notes of single pairs: see .singles")
    return every + told
