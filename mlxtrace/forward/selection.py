"""Which prompts an index means, of those in several groups, and what it takes of each group.

parts, alone = select("mlp", groups, (slice(None), -1))     # a `Part` for each length
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import PositionError
from .index import check_index, first_axis, is_mask
from .joint import Activation, Part, is_listed, joined

__all__ = ["Activation", "Group", "Part", "joined", "select"]


class Group(NamedTuple):
    """The prompts of one length: their places in the list, the array of all of them `[n, T, ...]`, and that length."""

    prompts: tuple[int, ...]
    array: Activation
    tokens: int

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.prompts[:6])) + ", ..." * (len(self.prompts) > 6)
        return f"prompt{'s' * (len(self.prompts) > 1)} {shown} of {self.tokens} tokens"


def select(
    name: str, groups: Sequence[Group], index: Any, edit: bool = False
) -> tuple[dict[int, Part], bool]:
    """What an index takes of each group, by its number of tokens; and whether it means one prompt by its number.

    PositionError when it lies outside one of the prompts, selects none or, to be edited, one of them twice.
    """
    first, rest = first_axis(index, groups[0].array.ndim, name)
    chosen = _chosen(name, first, sum(len(group.prompts) for group in groups), edit)
    paired = is_listed(first) and any(map(is_listed, rest))
    if paired and any(is_mask(x) or np.shape(x) != (len(chosen),) for x in rest if is_listed(x)):
        raise PositionError(
            f"{name}: {len(chosen)} prompts are chosen by a list, so that another list has a position for each of "
            "them; h[:, [3, 4]] takes the same positions of all"
        )
    parts = {}
    for group in groups:
        row_of = {prompt: row for row, prompt in enumerate(group.prompts)}
        places = [n for n, prompt in enumerate(chosen) if prompt in row_of]
        if places:
            rows = [row_of[chosen[n]] for n in places]
            own = tuple(np.array(x)[places] if paired and is_listed(x) else x for x in rest)
            check_index((rows, *own), group.array.shape, f"{name} of {group}", edit)
            parts[group.tokens] = Part(places, group.array, rows, own, paired)
    return parts, not is_listed(first) and not isinstance(first, slice)


def _chosen(name: str, first: Any, n: int, edit: bool) -> list[int]:
    """The prompts, of n, that the first part of an index means."""
    if first is None or getattr(first, "ndim", 0) > 1:
        raise PositionError(f"the prompts of {name} are chosen by a number, a slice or a list, not {first!r}")
    check_index(first, (n,), f"the prompts of {name}", edit)
    if isinstance(first, slice):
        chosen = list(range(n)[first])
    elif is_mask(first):
        chosen = np.nonzero(np.array(first))[0].tolist()
    else:
        chosen = (np.array(first).reshape(-1) % n).tolist()
    if not chosen or (edit and len(set(chosen)) < len(chosen)):
        raise PositionError(
            f"{first!r} selects {'a prompt twice' if chosen else 'none'} of the {n} prompts of {name}"
        )
    return chosen
