"""Pairs written to a file, which is read back before it takes its place: what a format does not hold is refused."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError, LoadError
from ..storage import named, write_atomic
from ..text.pair import Pair
from .pair_entries import COLUMNS, entry, parse, row
from .pair_formats import SUFFIXES, decoded, encoded, is_table

SHOWN = 20  # pairs that an error names


def save(pairs: Iterable[Pair], path: str | os.PathLike) -> Path:
    """Write pairs to a JSON, JSONL, CSV or parquet file, whole or not at all.

    What `load` gives of it are these pairs, every text exactly. Tuples, ranges and arrays of ids or positions come
    back as lists, and a pair without an id has its number for one.

    Args:
        pairs: `Pair`s, with ids that differ.
        path: The file, whose ending says its format.

    Returns:
        The path.

    Raises:
        InputError: The format does not hold what a pair has, such as half a character in CSV; or nothing can be
            written there. Nothing has been written then.

    Example:
        >>> import tempfile
        >>> from mlxtrace import prompts
        >>> pairs = [prompts.Pair("2, 4,", "1, 2,", target=" 6", regions={"END": -1}, id="a")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = prompts.save(pairs, f"{folder}/pairs.csv")
        ...     prompts.load(path) == pairs
        True
    """
    pairs = [pairs] if isinstance(pairs, Pair) else list(pairs)
    if not pairs or not all(isinstance(pair, Pair) for pair in pairs):
        odd = next((pair for pair in pairs if not isinstance(pair, Pair)), None)
        raise InputError(f"a list of Pair is saved, not {odd!r}" if pairs else "there are no pairs to save")
    path = named(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a file of pairs ends in {', '.join(SUFFIXES)}")
    kept = parse(_plain(pairs), "the pairs to save")
    kept = [
        dataclasses.replace(new, id=new.id if old.id else "") for new, old in zip(kept, pairs, strict=True)
    ]
    try:
        data = encoded([(row if is_table(suffix) else entry)(pair) for pair in kept], suffix, COLUMNS)
        back = parse(decoded(data, suffix), "the pairs to save")
    except (LoadError, UnicodeError) as error:
        raise InputError(f"{path}: a {suffix} file does not hold these pairs: {error}") from error
    for number, (new, old) in enumerate(zip(back, kept, strict=True)):
        if new != dataclasses.replace(old, id=old.id or new.id):
            raise InputError(f"{path}: a {suffix} file does not hold pair {number} as it is: {old!r}")
    return write_atomic(path, data)


def _plain(pairs: Iterable[Pair]) -> list[Any]:
    """The pairs as entries; one InputError that names those that no file holds."""
    entries, wrong = [], []
    for number, pair in enumerate(pairs):
        try:
            entries.append(entry(pair))
        except InputError as error:
            wrong.append(f"pair {number}: {error}")
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise InputError("\n  ".join(["these cannot be saved:", *wrong[:SHOWN], *more]))
    return entries
