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
from .running import AverageTrace, averages, run_facts

__all__ = ["Fact", "averages", "load", "run"]


def run(model: Any, facts: Any, out: str | os.PathLike, **options: Any) -> AverageTrace:
    """Trace every fact that the model gets right, into a folder, and average (Meng et al. 2022, section 2.2).

    A fact counts as right when the model says all of its attribute, its top token at each step, and the probability of
    all of it is traced. Facts that are wrong, or whose subject cannot be found in the tokens, are recorded and skipped.
    A run that was stopped goes on where it stood.

    Args:
        model: an InterpretableModel.
        facts: what `load` returns, entries of that form, or a path or name to load.
        out: the folder; begun if need be, resumed if it was begun with the same model, facts and settings.
        options: kinds, None (one layer output at a time), "mlp", "attn" (windows of `window` layers), all three by
            default; limit, to trace the first so many facts only; group, a distributed group (default: that of
            `mlx.launch`); samples, within, noise, window, seed, replace, engine, max_memory, progress as in
            `causal_trace`. A level such as "s3" is in standard deviations of the embeddings of all the facts'
            subjects. first_token, True to count a fact as right by the first token of its attribute, and to trace that
            token alone, as the authors' code does.

    Returns:
        An `AverageTrace`, on every rank; the folder has it as numbers, as a table and as figures.

    Raises:
        InputError: when the folder was begun with other settings, the model gets no fact right, or nothing can be
            written there.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts
        >>> model = InterpretableModel("demo")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     average = facts.run(model, facts.load()[:2], out, kinds=(None,), samples=1, progress=False)
        >>> average.facts, average.indirect_effect.shape == (1, len(average.roles), model.n_layers)
        (2, True)
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
            chats = '; chats are traced as pairs, prompts.run(model, pairs, "causal_trace", out)'
            more = chats if isinstance(fact.prompt, list | tuple) else ""
            raise InputError(f"a fact's subject, prompt, attribute and id are texts: {fact!r}{more}")
    once([fact.id for fact in facts], "the facts given")
    return run_facts(model, list(facts), out, **options)
