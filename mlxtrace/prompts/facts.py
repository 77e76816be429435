"""Data sets of facts: load them, trace all that a model knows, average.

    known = facts.load("known_1000.json")            # or facts.load() for the bundled ones, or a hub data set's name
    average = facts.run(model, known, out="traces")  # resumes; a file for each fact and kind; figures and a table

A fact is a subject, a prompt that contains it, and the attribute that should follow (ROME's form).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..errors import InputError
from .fact_files import Fact, load, once, parse
from .running import averages, run_facts

__all__ = ["Fact", "averages", "load", "run"]


def run(model: Any, facts: Any, out: str | os.PathLike, **options: Any) -> Any:
    """Trace every fact that the model gets right, one file per fact and kind, and average; see `run_facts`.

    facts: what `load` returns, entries of that form, or a path or name to load.
    """
    if not hasattr(model, "resolver"):
        raise InputError(f"facts.run traces an InterpretableModel, not {model!r}")
    if isinstance(facts, str | os.PathLike):
        facts = load(facts)
    elif not isinstance(facts, Iterable):
        raise InputError(f"a list of facts was expected, not {facts!r}")
    facts = list(facts)
    if not all(isinstance(fact, Fact) for fact in facts):
        facts = parse([f.to_dict() if isinstance(f, Fact) else f for f in facts], "the facts given")
    if not facts:
        raise InputError("there are no facts to trace")
    for fact in facts:
        if not all(isinstance(text, str) for text in (fact.subject, fact.prompt, fact.attribute, fact.id)):
            raise InputError(f"a fact's subject, prompt, attribute and id are texts: {fact!r}")
    once([fact.id for fact in facts], "the facts given")
    return run_facts(model, list(facts), out, **options)
