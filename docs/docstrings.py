"""Docstrings as the manual reads them: "Example:" is a section of code, and an experiment is called on its model.

mkdocs takes this file as an extension of griffe, which reads the package's source without importing it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# What an experiment is given first, where users call it as a method.
MODELS = ("TracedModel", "GeneratingModel")
QUOTES = "\"'"
ERRORS = re.compile(r"(?:^|(?<=[.;] ))((?:\w+Error(?:, )?)+): ")


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed, and shows one signature for each function."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value, str(getattr(obj, "returns", None) or ""))

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        func.overloads = None  # for type checkers
        first = func.parameters[0] if len(func.parameters) else None
        if first is not None and first.name == "model" and str(first.annotation).strip(QUOTES) in MODELS:
            del func.parameters["model"]


def rewritten(text: str, returns: str = "") -> str:
    """A docstring in the form that griffe knows; returns: what the signature says that the function gives."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    text = re.sub(r":math:`(.+?)`", _formula, text)
    text = re.sub(r"^    model: .*not given where this is called.*\n(?:     .*\n)*", "", text, flags=re.M)
    if returns:  # else what stands before the first colon would be taken for the type
        text = re.sub(
            r"^(Returns:\n +)", lambda found: f"{found[0]}{returns.strip(QUOTES)}: ", text, flags=re.M
        )
    before, title, after = text.partition("\nRaises:\n")
    if not title:
        return text
    own, end, rest = after.partition("\n\n")
    parts = ERRORS.split(re.sub(r"\s+", " ", own).strip())  # "", names, description, names, description ...
    if len(parts) < 3:
        return text
    lines = [f"    {names}: {told.strip()}" for names, told in zip(parts[1::2], parts[2::2], strict=True)]
    return before + title + "\n".join(lines) + end + rest


def _formula(found: re.Match) -> str:
    """A formula as code: no script is fetched to set it."""
    return "`" + found[1].replace(r"\nabla", "∇").replace(r"\cdot", "·") + "`"
