"""Texts as plotly draws them literally: no tags, no links, no formulas, however a prompt or a token is written."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ..plotting.elided import elided
from ..terminal import printable

INERT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%{": "&#37;{"}
LONGEST = 24  # characters of a token
WIDE = 110  # characters of a line above a figure
ROOM = 2 * WIDE - 8  # of a prompt and its answers
MOST = 14  # lines of anything else


def safe(text: str) -> str:
    """The text without anything that plotly would interpret: tags, entities, formulas, templates.

    Args:
        text: any text, of a user, a tokenizer or a file.

    Returns:
        What draws the same characters.

    Example:
        >>> from mlxtrace.interactive.texts import safe
        >>> safe("<b>5 & 6</b>")
        '&lt;b&gt;5 &amp; 6&lt;/b&gt;'
    """
    text = printable(text)
    for mark, inert in INERT.items():
        text = text.replace(mark, inert)
    return text


def token(text: str, most: int = LONGEST) -> str:
    """A token as a label: spaces as `·`, line breaks as `↵`, cut in the middle."""
    text = text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
    return safe(cut(text, most))


def short(text: str, most: int = 40) -> str:
    """A name on one line, such as a model's or an answer: its middle left out where it is long."""
    return safe(cut(" ".join(text.split()), most))


def cut(text: str, most: int) -> str:
    """A word, its middle left out where it is longer than `most` characters."""
    left = most // 2
    return text if len(text) <= most else f"{text[:left]}…{text[len(text) - (most - left - 1) :]}"


def prompts(runs: Sequence[tuple[str, str]]) -> list[str]:
    """What was run as lines of a caption, `(name, text)` each: the middle of what is longer than two is left out."""
    return [elided(f"{name}: {' '.join(text.split())}", ROOM) for name, text in runs]


def wrapped(lines: Sequence[str], wide: int = WIDE) -> list[str]:
    """Lines of a caption, broken and inert; the middle of one that is longer than `MOST` lines is left out."""
    short = [elided(" ".join(line.split()), MOST * wide - 8) for line in lines]
    return [safe(part) for line in short for part in textwrap.wrap(line, wide, subsequent_indent="   ")]
