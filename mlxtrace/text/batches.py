"""A list of prompts, by length: prompts of one length are the rows of a batch, and nothing is padded.

    prompts = several(given)            # None: it is one prompt
    for places, ids in by_length(...):  # the prompts of one length, by their places in the list, and their ids [n, T]

Padding would change the numbers: of what stands behind it in the positions, of experts that are full, of every state
that a recurrent layer carries on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from ..errors import TokenError

Batch = tuple[tuple[int, ...], mx.array]  # places in the list, and ids `[n, T]`


def several(given: Any) -> list[Any] | None:
    """The prompts of a list of prompts; None for one prompt, or for nothing that is a prompt.

    A list of texts, of `Prompt`s or of lists of ids holds a prompt in each entry, and so does an array `[B, T]`; a list
    of ids is one prompt, and so is a list of one such list. TokenError for prompts beside something else.
    """
    values = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(values, str | bytes | bytearray | memoryview) or not isinstance(values, Sequence):
        return None
    whole = [_is_prompt(value) for value in values]
    if len(values) == 1 and not hasattr(values[0], "clean"):
        named = isinstance(values[0], str) or hasattr(values[0], "ids")
        return list(values) if named else None
    for value, prompt in zip(values, whole, strict=True):
        if hasattr(value, "clean"):
            raise TokenError(
                "a pair is two prompts: trace the clean ones, [pair.clean for pair in pairs], or pair.corrupted"
            )
        if any(whole) and not prompt:
            raise TokenError(
                f"a list of prompts holds a text, a Prompt, a list of ids or of messages in each entry, not "
                f"{type(value).__name__} {value!r}"
            )
    return list(values) if any(whole) else None


def _is_prompt(value: Any) -> bool:
    """Whether an entry of a list is a prompt of its own, and not one id."""
    return (
        isinstance(value, Sequence) or hasattr(value, "ids") or (hasattr(value, "tolist") and value.ndim > 0)
    )


def by_length(prompts: Sequence[Sequence[int]]) -> list[Batch]:
    """The prompts (as ids) in one batch for each length, the length of the first prompt first."""
    places: dict[int, list[int]] = {}
    for i, ids in enumerate(prompts):
        places.setdefault(len(ids), []).append(i)
    return [(tuple(found), mx.array([list(prompts[i]) for i in found])) for found in places.values()]


def one_batch(batches: Sequence[Batch]) -> mx.array:
    """The ids `[B, T]` of prompts of one length; TokenError when there are several."""
    if len(batches) > 1:
        lengths = {i: ids.shape[1] for places, ids in batches for i in places}
        found = ", ".join(str(lengths[i]) for i in sorted(lengths)[:8])
        more = ", ..." if len(lengths) > 8 else ""
        raise TokenError(
            f"{len(lengths)} prompts of several lengths ({found}{more} tokens) make no array [B, T], and padding would "
            "change the numbers: model.trace(prompts) and model.run_with_cache(prompts) run them in groups by length; "
            "[model.ids(prompt) for prompt in prompts] has the ids of each"
        )
    return batches[0][1]
