"""The two lists of prompts that a direction is made of, read and checked before anything runs.

lists = read_lists(model, {"positive": positive, "negative": negative}, positions="last")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EffectError, InputError, MlxtraceError, SiteError, UnsupportedError, closest
from .grid import Prompt, TracedModel, indices_in, positions_of

__all__ = [
    "EffectError",
    "InputError",
    "Placed",
    "Prompt",
    "SiteError",
    "TracedModel",
    "UnsupportedError",
    "closest",
    "indices_in",
    "read_lists",
]
Placed = tuple[Prompt, tuple[int, ...]]  # a prompt, and where in it


def read_lists(model: TracedModel, given: Mapping[str, Any], positions: Any) -> dict[str, list[Placed]]:
    """The prompts of each list with their positions; InputError for what is no list of prompts, or is in both."""
    lists = {name: _read(model, name, values, positions) for name, values in given.items()}
    _refuse_shared(*lists.values())
    return lists


def _read(model: TracedModel, name: str, given: Any, positions: Any) -> list[Placed]:
    """The prompts of a list, read, with their positions; every bad one raises here, by its place in the list."""
    values = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(values, list | tuple) or (values and all(isinstance(v, int | dict) for v in values)):
        kind = "one prompt" if isinstance(values, str | list | tuple | Prompt) else f"{type(given).__name__}"
        raise InputError(f"{name} is a list of prompts, not {kind}: write [prompt], or name several")
    if not values:
        raise InputError(f"{name} is empty: it takes at least one prompt in each list")
    if positions is not None and isinstance(positions, str) and positions in ("each", "regions"):
        raise InputError(
            f"positions={positions!r} are many directions, and this is one: positions=None averages all tokens"
        )
    found = []
    for i, value in enumerate(values):
        try:
            prompt = model.prompt(value)
            found.append((prompt, _positions(prompt, positions)))
        except MlxtraceError as error:
            raise type(error)(f"prompt {i} of {name}: {_mended(str(error))}") from error
    return found


def _mended(said: str) -> str:
    return said.replace("pass subject=...", "give model.prompt(text, subject=...) in the list")


def _positions(prompt: Prompt, positions: Any) -> tuple[int, ...]:
    if positions is not None:
        return tuple(sorted(positions_of(positions, prompt)))
    return tuple(p for p in prompt.positions if p not in prompt.special) or tuple(prompt.positions)


def _refuse_shared(positive: list[Placed], negative: list[Placed]) -> None:
    """InputError for a prompt that is in both lists: it says nothing of what separates them."""
    theirs = {(prompt.ids, at) for prompt, at in negative}
    for i, (prompt, at) in enumerate(positive):
        if (prompt.ids, at) in theirs:
            raise InputError(
                f"{prompt.text!r} (prompt {i} of positive) is in both lists: leave it out of one"
            )
