"""A result of every class that an experiment returns, made up where that is possible, for what takes any of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import shipped
from compared_traces import compared
from edges_made_up import made_up
from test_causal_trace_result import made as made_trace
from test_circuit_curve import curve
from test_patching_result import make
from test_patching_set import a_set
from test_path_result import made as made_paths
from test_screened import STRONG, screened

from mlxtrace.results.attribution_result import AttributionResult
from mlxtrace.results.average_trace import ROLES, AverageTrace
from mlxtrace.results.causal_effects_result import CausalEffects
from mlxtrace.results.circuit_curve import Completeness, Faithfulness
from mlxtrace.results.comparison_set import ComparisonSet
from mlxtrace.results.labelled import Answer
from mlxtrace.results.path_set import PathSet

# The names are known before the results are made: every process collects all tests, and few of them need these.
CLASSES = (
    "PatchingResult", "PatchingSet", "PatchingDifference", "CausalTrace", "AverageTrace", "CausalEffects",
    "NoisingWindow", "Screened", "PathResult", "PathSet", "Edges", "Circuit", "Curve", "Faithfulness", "Completeness",
    "Comparison", "ComparisonSet", "LogitLens", "Patchscope", "Direction",
)  # fmt: skip
PROMPTS = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"


def average() -> AverageTrace:
    """An average over facts of which nothing is known but the numbers."""
    effects = np.random.default_rng(0).uniform(0, 0.6, (3, len(ROLES), 4))
    ids, counts = [f"fact {i}" for i in range(12)], [12] * len(ROLES)
    ends = {"total_effect": 0.7, "total_interval": 0.1, "high_score": 0.9, "low_score": 0.2}
    return AverageTrace(
        effects, effects / 9, [None, "mlp", "attn"], counts, window=2, model="tiny", ids=ids, **ends
    )


def effects() -> CausalEffects:
    """Effects by layer."""
    answers = Answer(1, " Rome", 0.01, 0.9), Answer(2, " Paris", 0.9, 0.01)
    tokens = ["The", " Eiffel"], ["The", " Colosseum"]
    return CausalEffects(
        np.array([0.1, 0.5]), np.array([0.2, 0.3]), 0.1, 0.9, *answers, "mlp", [0, 1], None, 1, "prob", *tokens,
        range(1, 2), "The Colosseum", "The Eiffel", "tiny",
    )  # fmt: skip


def attributed() -> AttributionResult:
    """Estimates by layer."""
    one = make([0.1, 0.5, 0.3], settings={"approximate": "atp"})
    return AttributionResult(
        **{**one._header(), "clean": {"prob": 0.9}, "corrupted": {"prob": 0.1}},
        raw=one.raw,
    )


@functools.cache
def page_results() -> dict[str, Any]:
    """By class name, one result of each."""
    demo, edges = shipped.load("demo"), made_up()
    one = Faithfulness.of(np.array([0.4]), np.array([2.0]), np.array([0.0]), ["0"], "logit_diff")
    found = [
        make(np.random.default_rng(1).uniform(0.1, 0.9, (2, 3, 4)), ("component", "layer", "position")),
        a_set(("layer", "region")),
        a_set() - a_set(seed=1),
        made_trace(),
        average(),
        effects(),
        demo.noising_window(PROMPTS[0], level=1.0, samples=2),
        screened([*STRONG, 0.0, 0.1], 12, 500),
        made_paths(),
        PathSet([made_paths(), made_paths()], ["a", "b"]),
        edges,
        edges.circuit(9),
        curve([[0.0], [1.0], [2.0]]),
        one,
        Completeness(one, circuit=[0.6], model=[0.5]),
        compared(np.eye(4), np.eye(4) / 2),
        ComparisonSet([compared(np.eye(5), np.eye(5) / 2), compared(np.eye(6, 5), np.eye(6, 5) / 2)], ["a", "b"]),
        demo.logit_lens(PROMPTS[0], layers=[0, 11], k=2),
        demo.patchscope(PROMPTS[0], 8, -1, PROMPTS[1], max_tokens=1),
        demo.direction(PROMPTS[:1], PROMPTS[1:], "layers.8"),
    ]  # fmt: skip
    named = {type(result).__name__: result for result in found}
    assert tuple(named) == CLASSES
    return named
