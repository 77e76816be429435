"""Long texts in the room of a caption: cut in the middle, around what differs between two prompts."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

GAP = " … "
SNAP = 14  # characters that a cut moves by at most, to stand between words


def width(text: str) -> int:
    """How many narrow characters a text is as wide as: two for a wide one, none for one that stands on another."""
    if text.isascii():
        return len(text)
    return sum(_wide(c) for c in text)


def _wide(c: str) -> int:
    return 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1


def elided(text: str, most: int) -> str:
    """The text, or its beginning and its end with `…` between.

    Args:
        text: of any length.
        most: narrow characters that there is room for.

    Returns:
        A text that is no wider.

    Example:
        >>> from mlxtrace.plotting.elided import elided
        >>> elided("The first words, and very many others after them, in the city of", 32)
        'The first … in the city of'
    """
    if width(text) <= most:
        return text
    left = max(most - len(GAP), 2)
    return f"{_start(text, left // 2)}{GAP}{_end(text, left - left // 2)}"


def elided_pair(one: str, two: str, most: int) -> tuple[str, str]:
    """Two prompts, each cut around what differs between them, which is marked by [ ] where anything is cut.

    Args:
        one, two: the prompts.
        most: narrow characters that there is room for, of each.

    Returns:
        Both, each no wider than `most`: its first words, what differs with the words around it, and its end.

    Example:
        >>> from mlxtrace.plotting.elided import elided_pair
        >>> rest = "is a place that many people like to go to in summer, and it is in the city of"
        >>> for text in elided_pair(f"The Eiffel Tower {rest}", f"The Colosseum {rest}", 60):
        ...     print(text)
        The [Eiffel Tower] is a place that … is in the city of
        The [Colosseum] is a place that many … it is in the city of
    """
    if width(one) <= most and width(two) <= most:
        return one, two
    before = _common(one, two)
    after = min(_common(one[::-1], two[::-1]), min(len(one), len(two)) - before)
    while before and (_within_word(one, before) or _within_word(two, before)):
        before -= 1
    while after and (_within_word(one, len(one) - after) or _within_word(two, len(two) - after)):
        after -= 1
    return _around(one, before, after, most), _around(two, before, after, most)


def _common(one: str, two: str) -> int:
    """How many characters both begin with."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False))
    return sum(1 for _ in same)


def _within_word(text: str, at: int) -> bool:
    """Whether a cut there parts the letters of a word of a script that has spaces."""
    return 0 < at < len(text) and all(c.isalnum() and _wide(c) == 1 for c in text[at - 1 : at + 1])


def _around(text: str, before: int, after: int, most: int) -> str:
    head, own, tail = text[:before], text[before : len(text) - after], text[len(text) - after :]
    if width(text) <= most or not own.strip():
        return elided(text, most)
    own = elided(own.strip(), most // 2)
    spaces = [" " if part else "" for part in (head, tail)]
    room = most - width(own) - 2 - sum(map(len, spaces))
    head, tail = head.rstrip(), tail.lstrip()
    of_head = min(width(head), room // 2)
    of_tail = min(width(tail), room - of_head)
    of_head = min(width(head), room - of_tail)
    return f"{elided(head, of_head)}{spaces[0]}[{own}]{spaces[1]}{elided(tail, of_tail)}"


def _start(text: str, most: int) -> str:
    """As much of the beginning as fits, up to the end of a word."""
    kept, left = 0, most
    while kept < len(text) and left >= _wide(text[kept]):
        left -= _wide(text[kept])
        kept += 1
    for end in range(kept, max(kept - SNAP, 1) - 1, -1):
        if not _within_word(text, end):
            return text[:end].rstrip()
    return text[:kept]


def _end(text: str, most: int) -> str:
    """As much of the end as fits, from the start of a word."""
    begin, left = len(text), most
    while begin > 0 and left >= _wide(text[begin - 1]):
        begin -= 1
        left -= _wide(text[begin])
    for start in range(begin, min(begin + SNAP, len(text) - 1) + 1):
        if not _within_word(text, start):
            return text[start:].lstrip()
    return text[begin:]


def model_name(model: str) -> str:
    """A model's name: of a local path its last folder, of a repository `owner/name` as it is.

    Example:
        >>> from mlxtrace.plotting.elided import model_name
        >>> model_name("/home/ann/models/gpt2-4bit/"), model_name("mlx-community/gpt2")
        ('gpt2-4bit', 'mlx-community/gpt2')
    """
    parts = [part for part in str(model).replace("\\", "/").split("/") if part]
    local = str(model)[:1] in ("/", "~", ".") or len(parts) > 2 or "\\" in str(model)
    return parts[-1] if parts and (local or Path(model).is_dir()) else str(model)
