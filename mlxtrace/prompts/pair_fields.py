"""The fields of a pair in files: what they are called, here and elsewhere, and what may stand in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..arguments import as_integer
from ..errors import InputError
from ..text.tokens import is_chat

# What a field is called: here first, then in other libraries and data sets. `_ids`, `_idx`: token ids, never a text.
ALIASES = {
    "clean": (
        "clean", "clean_prompt", "clean_text", "clean_prefix", "prompt", "clean_ids", "clean_tokens", "clean_chat",
    ),
    "corrupted": (
        "corrupted", "corrupt", "corrupted_prompt", "corrupt_prompt", "corrupted_text", "patch_prefix",
        "counterfactual", "corrupted_ids", "corrupted_tokens", "corrupted_chat",
    ),
    "target": (
        "target", "answer", "correct", "correct_answer", "clean_answer", "target_id", "target_ids", "correct_idx",
    ),
    "answers": ("answers",),
    "foil": (
        "foil", "wrong_answer", "wrong_answers", "incorrect", "incorrect_answer", "corrupted_answer",
        "corrupt_answer", "patch_answer", "counterfactual_answer", "foil_id", "foil_ids",
        "incorrect_idx",
    ),
    "subject": ("subject", "subject_positions"),
    "regions": ("regions",),
    "id": ("id", "pair_id", "case_id", "known_id"),
}  # fmt: skip
FIELD = {name: field for field, names in ALIASES.items() for name in names}
REGION = "region."  # a column of one region
NUMBERS = ("clean_ids", "clean_tokens", "corrupted_ids", "corrupted_tokens", "target_id", "foil_id",
           "target_ids", "foil_ids", "correct_idx", "incorrect_idx", "subject_positions")  # fmt: skip
CHATS = ("clean_chat", "corrupted_chat")


def seen(value: Any) -> str:
    """A value in a few words, for errors."""
    words = " ".join(repr(value).split())
    return words if len(words) <= 60 else f"{words[:60]}..."


def chat_words(value: Any) -> str:
    """A chat in words, for what is written down without a tokenizer; "" for another prompt."""
    return "\n".join(f"{one.get('role')}: {one.get('content')}" for one in value) if is_chat(value) else ""


def _prompt(value: Any) -> str | list[int] | list[dict[str, Any]]:
    if isinstance(value, str) and value:
        return value
    if is_chat(value):
        try:
            return json.loads(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise InputError(f"is a chat that JSON does not hold: {error}") from error
    if hasattr(value, "with_subject"):
        raise InputError("is a Prompt, which a file does not hold: give its .text or list(prompt.ids)")
    return _integers(value, "a text or token ids", least=0)


def _answer(value: Any) -> str | int | list[int]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple):
        return _integers(value, "a text or token ids", least=0)
    token = as_integer(value)
    if token is None or token < 0:
        raise InputError(f"is {seen(value)}, not a text or a token id")
    return token


def _answers(value: Any) -> Any:
    """Acceptable answers as a tuple; a single one by itself, which is a target."""
    if not isinstance(value, list | tuple):
        return _answer(value)
    found = tuple(_answer(one) for one in value)
    if not found:
        raise InputError("is an empty list: a pair without answers has no such field")
    return found[0] if len(found) == 1 else found


def _subject(value: Any) -> str | int | list[int]:
    if isinstance(value, str) and value.strip():
        return value
    position = as_integer(value)
    return _integers(value, "a text or positions") if position is None else position


def region(value: Any) -> str | int | list:
    """Where a region is: a text, `[text, k]` or positions; else InputError."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if pair and isinstance(value[0], str):
        which = as_integer(value[1])
        if not value[0].strip() or which is None or which < 1:
            raise InputError(f"is {seen(value)}, not a text and which of its occurrences, from 1")
        return [value[0], which]
    try:
        return _subject(value)
    except InputError as error:
        raise InputError(f"is {seen(value)}, not a text, [text, k] or positions") from error


def _regions(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"is {seen(value)}, not an object that says where each region is")
    found = {}
    for name, where in value.items():
        if where is None:
            continue
        if not isinstance(name, str) or not name:
            raise InputError(f"has a region without a name, {name!r}")
        try:
            found[name] = region(where)
        except InputError as error:
            raise InputError(f"has a region {name!r} that {error}") from error
    return found


def _id(value: Any) -> str:
    number = as_integer(value)
    if not isinstance(value, str) and number is None:
        raise InputError(f"is {seen(value)}, not a name")
    return str(value if number is None else number)


def _integers(value: Any, what: str, least: float = -float("inf")) -> list[int]:
    values = value.tolist() if hasattr(value, "tolist") else value
    if (
        hasattr(value, "tolist")
        and isinstance(values, list)
        and len(values) == 1
        and isinstance(values[0], list)
    ):
        values = values[0]  # an array [1, T]
    values = list(values) if isinstance(values, list | tuple | range) else []
    numbers = [as_integer(v) for v in values]
    if not numbers or any(n is None or n < least for n in numbers):
        raise InputError(f"is {seen(value)}, not {what}")
    return [n for n in numbers if n is not None]


CHECKS: dict[str, Callable[[Any], Any]] = {
    "clean": _prompt, "corrupted": _prompt, "target": _answer, "answers": _answers, "foil": _answer,
    "subject": _subject, "regions": _regions, "id": _id,
}  # fmt: skip
