"""Regions: what positions are called when prompts differ in length.

    roles_of(prompt.subject, len(prompt))                # for each of ROLES, its positions
    regions_of(prompt, {"IO": " Mary", "END": -1})       # for each name, its positions

A fact's tokens are pooled by their role: first, middle and last token of the subject, the token after it, those further
on, and the last (Meng et al. 2022, figure 2 and appendix B.2). Templates name their slots (Wang et al. 2022: IO, S1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..arguments import positions_in
from ..errors import SubjectError

ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first subsequent token",
    "further tokens",
    "last token",
)


def roles_of(subject: range, length: int) -> list[list[int]]:
    """The positions of each role in a prompt of `length` tokens.

    As in the authors' code a subject of one token is its first and its last one, and a token may be both the first
    subsequent and the last one; nothing comes after a subject at the end of the prompt.
    """
    after = subject.stop
    return [
        [subject[0]],
        list(subject[1:-1]),
        [subject[-1]],
        [after] if after < length else [],
        list(range(after + 1, length - 1)),
        [length - 1],
    ]


def regions_of(prompt: Any, named: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The positions of regions that are given by name: as text (its first occurrence), `[text, k]` (its k-th), or
    positions (an int, a list or a range; negative ones count from the end).

    Without any, a chat's turns, its template and its last token; or the roles that the prompt's subject gives its
    tokens, those that are empty left out. prompt: a `Prompt`. SubjectError or PositionError, naming the region, for
    what is not in the prompt.
    """
    if named:
        return {name: _place(prompt, name, where) for name, where in named.items()}
    if prompt.chat is not None:
        return {
            name: tuple(at) for name, at in prompt.regions.items() if name in {*prompt.chat.regions, "last"}
        }
    if prompt.subject is None:
        raise SubjectError(
            f"{prompt.text!r} has no subject, so its tokens have no roles: pass subject=..., or regions={{name: where}}"
        )
    places = zip(ROLES, roles_of(prompt.subject, len(prompt)), strict=True)
    return {role: tuple(at) for role, at in places if at}


def union(lists: Iterable[Sequence[Any]]) -> list[Any]:
    """The regions of many prompts, each once: one that the first lack comes behind what it follows elsewhere."""
    found: list[Any] = []
    for labels in lists:
        place = 0
        for label in labels:
            if label not in found:
                found.insert(place, label)
            place = found.index(label) + 1
    return found


def _place(prompt: Any, name: str, where: Any) -> tuple[int, ...]:
    try:
        if isinstance(where, str):
            return tuple(prompt.find(where))
        if _is_occurrence(where):
            return tuple(prompt.find(*where))
        return tuple(positions_in(where, len(prompt)))
    except (ValueError, IndexError) as error:
        raise type(error)(f"region {name!r}: {error}") from None


def _is_occurrence(where: Any) -> bool:
    return isinstance(where, Sequence) and len(where) == 2 and isinstance(where[0], str)
