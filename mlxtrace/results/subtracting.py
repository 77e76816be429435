"""What may be subtracted from what: results of the same pairs, put into one order, and what sets them apart."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..errors import InputError
from .intervals import difference, mean_of
from .over_pairs import notes_of_number, some

NUMBERS = ("spans", "sampling")  # settings that hold what others say, or arrays
CURE = "; plotting.compare([a, b], labels=[...]) draws both side by side"


def subtracted(first: Any, second: Any) -> dict[str, Any]:
    """What a `PatchingDifference` is made of; InputError for results that have no difference.

    first, second: results of activation patching, both of one pair or both of a set of the same pairs. Layers, places
    and heads are the same; a component or a metric may differ where each has one.
    """
    _check(first, second)
    first, second, notes = _shared_rows(first, second)
    index = np.ix_(*(_places(dim, first, second) for dim in first.dims))
    one, other = first.recovery, second.recovery[index]
    interval, n = np.full(one.shape, np.nan), np.ones(one.shape, int)
    if first.ids:
        order = [second.ids.index(name) for name in first.ids]
        one, other, interval, n = _paired(first, second, order, index)
        fewer = (n < np.maximum(first.n, second.n[index])).any()
        notes += [*_notes_of_pairs(first, second, order, bool(fewer)), *notes_of_number(len(first.ids))]
    return {
        **{"first": one, "second": other, "interval": interval, "n": n},
        **{"dims": first.dims, "coords": first.coords, "ids": first.ids, "tokens": first.tokens},
        "components": _together(first.components, second.components),
        "metrics": _together(first.metrics, second.metrics),
        "names": _names(first, second),
        "notes": notes,
    }


def _paired(first: Any, second: Any, order: list[int], index: Any) -> tuple[np.ndarray, ...]:
    """Both recoveries over the pairs that have the cell in both, the half-width of their difference, how many pairs.

    order: which pair of the second each of the first is; index: which of its cells.
    """
    parts = first._numerators_and_gaps()
    others = tuple(x[order][(slice(None), *index)] for x in second._numerators_and_gaps())
    found, shared = difference(parts, others), ~(np.isnan(parts[0]) | np.isnan(others[0]))
    small = np.zeros(found.n.shape, bool)
    for gaps, least in ((parts[1], first._least_gaps()), (others[1], second._least_gaps()[index])):
        small |= np.abs(mean_of(np.where(shared, gaps, np.nan)).value) < least
    return (*(np.where(small, np.nan, 100 * x) for x in found[:3]), found.n)


def _check(first: Any, second: Any) -> None:
    """InputError unless both are of the same pairs, of one direction, and have the same dims."""
    if bool(first.ids) != bool(second.ids):
        raise InputError(f"one result is of a set of pairs, the other of one pair{CURE}")
    if first.dims != second.dims:
        one, other = " x ".join(first.dims), " x ".join(second.dims)
        raise InputError(f"one result has {one}, the other {other}: patch both alike")
    if first.direction != second.direction:
        raise InputError(
            f"one result denoises, the other noises: their recoveries mean different things{CURE}"
        )
    if set(first.ids) != set(second.ids):
        shared = len(set(first.ids) & set(second.ids))
        raise InputError(
            f"only results of the same pairs can be subtracted: of {len(first.ids)} and {len(second.ids)} pairs "
            f"{shared} have the same id{CURE}"
        )
    if "position" in first.dims and first.tokens != second.tokens:
        raise InputError(f"the results are by position, but their prompts have other tokens{CURE}")


def _shared_rows(first: Any, second: Any) -> tuple[Any, Any, list[str]]:
    """Results of which one is of spans at the rows that both have, and a note on those that only one has."""
    if "position" not in first.dims or not any("spans" in r.settings for r in (first, second)):
        return first, second, []
    one, other = first.coords["position"], second.coords["position"]
    shared = [label for label in one if label in other]
    if not shared:
        raise InputError(f"no span or token is a row of both results{CURE}")
    odd = [str(label) for label in [*one, *other] if label not in shared]
    note = f"{len(odd)} rows of one result only are left out: {some(odd)}"
    return _at_rows(first, shared), _at_rows(second, shared), [note] if odd else []


def _at_rows(result: Any, labels: list) -> Any:
    """The result at some of its positions."""
    if result.ids:
        singles = [_at_rows(single, labels) for single in result.singles]
        return type(result)(singles, result.ids, plan=result.plan)
    found, axis = copy.copy(result), result.dims.index("position")
    at = [result.coords["position"].index(label) for label in labels]
    found.raw, found.recovery = result.raw.take(at, axis), result.recovery.take(at, axis)
    found.coords = {**result.coords, "position": labels}
    return found


def _places(dim: str, first: Any, second: Any) -> list[int]:
    """Where the labels of the first stand in the second; InputError when these are not the same."""
    one, other = first.coords[dim], second.coords[dim]
    if len(one) != len(other) or any(label not in other for label in one):
        odd = [str(label) for label in [*one, *other] if (label in one) != (label in other)]
        raise InputError(f"only one of both results has {dim} {some(odd)}{CURE}")
    return [other.index(label) for label in one]


def _together(one: list[str], other: list[str]) -> list[str]:
    """Names of both: those of the first where it has several, and "mlp - attn" where each has another one."""
    return one if len(one) > 1 or one == other else [f"{one[0]} - {other[0]}"]


def _names(first: Any, second: Any) -> list[str]:
    """What each is called: by what sets them apart."""
    apart = []
    for what in (_named(first, second), _named(second, first)):
        apart.append(", ".join(what) or ("first", "second")[len(apart)])
    return apart


def _named(result: Any, other: Any) -> list[str]:
    """What a result has that the other has not, in words."""
    kinds = [(r.model, *r.components, *r.metrics, f"window {r.window}", *_texts(r)) for r in (result, other)]
    return [kind for kind in kinds[0] if kind not in kinds[1]]


def _texts(result: Any) -> list[str]:
    settings = [
        f"{name} {value}"
        for name, value in result.settings.items()
        if isinstance(value, str | int | list | dict) and name not in NUMBERS
    ]
    return [*settings, *([] if result.ids else [result.clean_text, result.corrupted_text])]


def _notes_of_pairs(first: Any, second: Any, order: list[int], fewer: bool) -> list[str]:
    """Pairs that have one id but other prompts, and cells that some lack in one of both results."""
    pairs = zip(first.singles, [second.singles[i] for i in order], strict=True)
    others = sum(a.clean_text != b.clean_text for a, b in pairs)
    notes = [f"{others} of {len(order)} pairs have other prompts under the same id"] if others else []
    if fewer:
        notes.append("a region that some pairs have in one result only is of those that have it in both")
    return notes
