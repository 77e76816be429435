"""Chats in files: a list of messages, or the clean and the corrupted one with what a pair says besides.

pair = read_chats(["chat.json"])                      # [{"role": "user", "content": "..."}], or an object of fields
pair = read_chats(["clean.json", "corrupted.json"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .json_files import read_json
from .pair_entries import Pair, parse

FORM = 'a list of {"role": "user", "content": "..."}'


def read_chats(paths: Sequence[str]) -> Pair:
    """The chat of a file, or the two of two files, as a pair; LoadError or InputError for what is none.

    A file has a list of messages, alone or as `messages` of an object; or, one file, an object with `clean` and perhaps
    `corrupted`, `target`, `foil` and `subject`.
    """
    if len(paths) > 2:
        raise InputError(
            f"--chat names the clean chat, and perhaps the corrupted one, not {len(paths)} files"
        )
    made = [_chat(path) for path in paths]
    if len(made) == 1 and isinstance(made[0], Pair):
        return made[0]
    for path, one in zip(paths, made, strict=True):
        if isinstance(one, Pair):
            raise InputError(f"--chat {path}: of two files each has {FORM}")
    return Pair(*made)


def _chat(path: str) -> Any:
    """The messages of a file; a `Pair` of one that has an object with `clean`."""
    found = read_json(Path(path).expanduser())
    if isinstance(found, dict) and list(found) == ["messages"]:
        found = found["messages"]
    if isinstance(found, dict) and "clean" in found:
        made = parse([found], f"--chat {path}")[0]
        odd = [name for name in ("clean", "corrupted") if isinstance(getattr(made, name), str)]
        if odd or not all(is_messages(x) for x in (made.clean, made.corrupted) if x is not None):
            raise InputError(
                f"--chat {path}: {odd[0] if odd else 'a prompt'} is no chat, {FORM}: use --clean, or --pairs"
            )
        if made.regions:
            raise InputError(f"--chat {path}: the regions of a chat are its turns; give others with --pairs")
        return made
    if not is_messages(found):
        raise InputError(f'--chat {path}: a chat is {FORM}, or an object with "clean" and "corrupted"')
    return found


def is_messages(found: Any) -> bool:
    """Whether a file's value is a chat: a list of objects, each with a role."""
    return isinstance(found, list) and bool(found) and all(isinstance(x, dict) and "role" in x for x in found)
