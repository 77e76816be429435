"""A list of pairs for a run: each with a name of its own, and as JSON can hold it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError
from ..storage import digest, plain
from .pair_fields import chat_words, region
from .pair_files import Pair, load


def named(pairs: Any, corrupted: Any = None, model: Any = None) -> list[Pair]:
    """The pairs as a list, each with an id: its own, or its number; prompts count as pairs without a corrupted one.

    pairs: a list, or the name of a file or task, which is loaded for a model. corrupted: for all, such as
    `GaussianNoise(...)`. InputError for what is no list of pairs, for none, and for two with one id.
    """
    if isinstance(pairs, str | os.PathLike):
        pairs = load(pairs, model=model)
    if isinstance(pairs, Pair):
        pairs = [pairs]
    if isinstance(pairs, bytes | Mapping) or not isinstance(pairs, Iterable):
        raise InputError(f"a list of pairs was expected, as prompts.load gives it, not {pairs!r}")
    listed = [_pair(number, one, corrupted) for number, one in enumerate(pairs)]
    if not listed:
        raise InputError("there are no pairs to run")
    width = max(4, len(str(len(listed))))
    listed = [
        one if one.id else dataclasses.replace(one, id=f"{number:0{width}}")
        for number, one in enumerate(listed)
    ]
    twice = [id for id, n in Counter(one.id for one in listed).items() if n > 1]
    if twice:
        raise InputError(f"two pairs have the id {twice[0]!r}: give each another, or none")
    return listed


def digest_of(pairs: Iterable[Pair]) -> str:
    """A hash of all that the pairs say."""
    return digest([fields_of(pair) for pair in pairs])


def _pair(number: int, given: Any, corrupted: Any) -> Pair:
    if not isinstance(given, Pair):
        if isinstance(given, Mapping | bool | int | float | type(None)):
            raise InputError(f"entry {number} is {given!r}, not a Pair: Pair(clean, corrupted, ...)")
        given = Pair(given)
    if not isinstance(given.id, str):
        raise InputError(f"entry {number} has the id {given.id!r}: an id is a text")
    for name, where in given.regions.items():
        try:
            region(where)
        except InputError as error:
            raise InputError(f"entry {number} has a region {name!r} that {error}") from error
    if corrupted is None:
        return given
    if given.corrupted is not None:
        raise InputError(f"entry {number} has a corrupted prompt of its own: leave corrupted= out")
    return dataclasses.replace(given, corrupted=corrupted)


def fields_of(pair: Pair) -> dict[str, Any]:
    """The pair's fields as JSON can hold them, and its clean prompt's text, or its ids in words, as "prompt"."""
    fields = {field.name: _plain(getattr(pair, field.name)) for field in dataclasses.fields(pair)}
    if not pair.answers:
        del fields["answers"]  # there was no such field when older folders were begun
    text = getattr(pair.clean, "text", pair.clean)
    told = text if isinstance(text, str) else chat_words(text) or f"ids {plain(text)}"
    return {**fields, "prompt": told}


def _plain(value: Any) -> Any:
    if hasattr(value, "plain_ids"):  # a prompt that was read: its tokenizer is not written down
        return {"text": value.text, "ids": list(value.ids), "subject": plain(value.subject)}
    if isinstance(value, Mapping):
        return {str(name): _plain(where) for name, where in value.items()}
    return plain(value)
