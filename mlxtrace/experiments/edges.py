"""Edges: what each sender's contribution to each single read does, for all of them.

edges = model.edges(clean, corrupted)                    # exact: every edge patched by itself
edges = model.edges(pairs, method="eap-ig")              # estimates from gradients, in a few passes
edges.circuit(50).faithfulness()
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..errors import InputError, closest
from ..results.edges_result import METHODS, Edges
from .circuits import CircuitRuns, EdgePairs, graph_of, progress_bar
from .pair_sets import DIRECTIONS, Corrupted, OneOrMany, read_pairs

FLAT = ("prob", "prob_diff")  # what gradients between two runs say nothing of: saturated at both ends


def edges(
    model: Any,
    clean_text: OneOrMany,
    corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    method: str = "exact",
    metric: Any = "logit_diff",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    steps: int = 5,
    positions: Any = None,
    max_memory: int | None = None,
    progress: bool | None = None,
    answers: Any = None,
) -> Edges:
    """Score every edge of the model: from each sender to each single read of the residual stream.

    Senders are the embedding, heads and MLPs; reads are the queries, keys and values of each head (keys and values by
    key-value head), MLPs and the logits. A score is the change of the metric, `patched - base`, when the edge alone
    carries what its sender writes in the other run.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text, corrupted_text: one pair or many, as `activation_patching` takes them.
        method: "exact" patches every edge by itself, in rows of few passes; "eap" estimates it from the gradient in the
            base run (Syed et al. 2023, arXiv:2310.10348); "eap-ig" from gradients on the way between both runs'
            embeddings (Hanna et al. 2024, arXiv:2403.17806). Estimates are labelled approximate.
        metric: logit_diff, prob, logprob, logit, kl, ..., auto, or a function; one of them, with a gradient for
            estimates. "eap-ig" refuses probabilities.
        target, foil: answers; default: the clean and the corrupted top token.
        subject: for labels, and for noise.
        direction: "denoise" carries the clean run into the corrupted run; "noise" the other way round, as the EAP
            authors' scores have it.
        align: "strict" wants prompts of equal length; "ends" pairs their common tail.
        steps: of "eap-ig", inputs that gradients are averaged over: `base + j / steps (source - base)`, j from 1 to
            steps, as in its authors' code.
        positions: where contributions are patched, together; None for all, those of an answer's tokens among them,
            which are run behind the prompt where it has several.
        max_memory: bytes beside the weights; None: a quarter of what this process can still have.
        progress: True or False for a progress bar; None: in a terminal or notebook.
        answers: in the target's place several that are right, as `activation_patching` takes them.

    Returns:
        `Edges`: `.scores` `[senders, receivers]`, `.top(k)`, `.circuit(n)`.

    Raises:
        UnsupportedError: the model's stream is not the sum of what its parts write, or it has no gradient.
        MlxtraceError: for whatever cannot mean anything, as `activation_patching` raises it.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> edges = model.edges(*prompts, method="eap-ig", progress=False)
        >>> edges.method, edges.approximate, edges.circuit(100).n <= 100
        ('eap-ig', True, True)
    """
    _check(method, metric, direction)
    made = read_pairs(model, clean_text, corrupted_text, subject, target, foil, align, answers)
    graph, pairs = graph_of(model), EdgePairs(model, made, metric, positions, max_memory)
    steps = whole_number("steps", steps) if method == "eap-ig" else 0
    began, found, scores = time.perf_counter(), [], []
    one = progress if len(made.pairs) == 1 else False  # a single pair's progress is that of its edges
    with progress_bar(len(made.pairs), False if len(made.pairs) == 1 else progress) as bar:
        for pair in pairs.each(graph, direction):
            scores.append(pair.changes(graph, one) if method == "exact" else pair.estimates(steps))
            found.append(pair.measured)
            bar.update(1)
    first = found[0]
    name = first.metrics[0].name
    said = [[*pair.notes, *one.notes, *one.remarks] for pair, one in zip(made.pairs, found, strict=True)]
    result = Edges(
        per_pair=np.stack(scores),
        upstream=graph.upstream,
        clean=np.array([one.clean[name] for one in found]),
        corrupted=np.array([one.corrupted[name] for one in found]),
        senders=[node.name for node in graph.senders],
        receivers=[read.name for read in graph.receivers],
        metric=name,
        method=method,
        direction=direction,
        ids=made.ids,
        alone=made.alone,
        clean_texts=[pair.clean_text for pair in made.pairs],
        corrupted_texts=[pair.corrupted_text for pair in made.pairs],
        targets=[one.target.text for one in found],
        foils=["" if one.foil is None else one.foil.text for one in found],
        model=model.name,
        steps=steps,
        notes=list(dict.fromkeys([*made.notes, *pairs.notes, *(note for some in said for note in some)])),
        seconds=time.perf_counter() - began,
    )
    result._runs = CircuitRuns(model, metric, made, max_memory)
    return result


def _check(method: Any, metric: Any, direction: Any) -> None:
    """InputError for a method or direction that there is not, or a metric that a method cannot take."""
    for name, given, known in (("method", method, tuple(METHODS)), ("direction", direction, DIRECTIONS)):
        if not isinstance(given, str) or given not in known:
            raise InputError(f"{name}={given!r} is unknown; {closest(str(given), known)}")
    if method == "eap-ig" and isinstance(metric, str) and metric in FLAT:
        raise InputError(
            f'metric={metric!r} says nothing with method="eap-ig": between both runs probabilities bend too sharply '
            'for a mean of gradients; use "logit_diff" or "logprob", or method="exact"'
        )
