"""Docstrings as the manual reads them: "Example:" is a section of code, and several parameters may share a line.

mkdocs takes this file as an extension of griffe, which reads the package's source without importing it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring in the form that griffe knows."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    text = re.sub(r":math:`(.+?)`", r"`\1`", text)
    # griffe wants a line for each error
    before, raises, after = text.partition("\nRaises:\n")
    if raises:
        own, rest, further = after.partition("\n\n")
        after = re.sub(r"\. (\w*Error: )", r".\n    \1", own) + rest + further
    return before + raises + after
