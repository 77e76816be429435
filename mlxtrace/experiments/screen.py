"""Screening: all cells are ranked by gradient, the best are run exactly, and a random sample of the rest audits.

A gradient is a guess, so nothing that a screen reports as an effect is one: `.verified`, `.audit` and `.top(k)` hold
numbers of the exact sweep, and the guess beside them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .attribution_metrics import check_method, checked_metric, metrics, several, slope
from .attribution_patching import (
    Corrupted,
    Measured,
    OneOrMany,
    PairSet,
    SetAnswers,
    TracedModel,
    WholeRuns,
    answers_of_set,
    asked_of_pairs,
    between,
    flat,
    grids_of,
    read_pairs,
    settle_whole,
)
from .grid import HEADED, Grid, components_of, grid_of, layers_of, whole_number
from .screen_cells import ScreenCells
from .screening import Screened, Screening, Wanted

# How many cells had to be verified for the ten strongest neurons, the most of 16 pairs of the demo's facts: with
# logit_diff 252 by "atp", 117 by "ig", 89 by "atp*", 17 where a cell has the better place of "atp" and "ig" (63 with
# other metrics); "atp*" beside them made it no fewer, and takes a pass for every layer. Queries and keys need the
# softmax that they would give ("atp*").
RANKINGS = {"neuron": ("atp", "ig"), "q": ("atp*", "atp"), "k": ("atp*", "atp"), "pattern": ("atp*", "atp")}
OTHERS = ("atp*", "ig", "atp")
INSTEAD = {
    "prob": "logprob",
    "prob_diff": "logit_diff",
}  # what interpolation can be used with, in the same order


def screen(
    model: TracedModel,
    clean_text: OneOrMany,
    corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    component: str | Sequence[str] = "neuron",
    verify: int = 200,
    audit: int = 300,
    until: str | None = None,
    seconds: float | None = None,
    passes: int | None = None,
    method: str = "auto",
    layers: int | Iterable[int] | None = None,
    positions: Any = "each",
    heads: Any = None,
    metric: Any = "auto",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    within: str | None = None,
    seed: int = 0,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    answers: Any = None,
) -> Screened:
    """Find the strongest of very many cells: rank all by gradient, run the best exactly, audit a sample of the rest.

    The strength of a cell is the size of its effect, `patched - base` in the metric; over a set of pairs, of its mean.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text, corrupted_text: one pair of prompts or many, as `activation_patching` takes them.
        component: "neuron" (each by itself), any other, or a list of them.
        verify: cells that are run exactly, in the order of their gradients.
        audit: cells drawn at random from all others, and run exactly as well.
        until: "stable" doubles the verified cells until the ten strongest are the same as before.
        seconds, passes: a budget, which ends verification early, and says so: for all there is to do, and in batched
            passes of the exact sweeps. A part of it is kept for the audit. What fits in seconds is not the same again.
        method: how cells are ranked: "atp", "atp*" or "ig" (see `engine.attribution`); auto: by several, and
            each cell stands where the one that ranks it highest puts it; estimates are those of the first.
        layers, positions, heads, within: which cells there are, as `activation_patching` takes them; heads are by
            themselves unless they are named.
        metric, target, foil, subject, direction, align: as there; one metric that can be differentiated.
        seed: of the audit's sample.
        engine, max_memory, progress: as `activation_patching` takes them.
        answers: in the target's place several that are right, as there.

    Returns:
        A `Screened`: `.verified`, `.audit`, `.missed_bound`, `.needed`, `.top(k)`.

    Raises:
        MlxtraceError: before any sweep, for whatever cannot mean anything; UnsupportedError where this model has no
            such component, or no gradient that could be trusted.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> found = model.screen(*prompts, layers=[8, 9], verify=20, audit=20, metric="logit_diff", progress=False)
        >>> len(found.verified), found.audit.drawn, found.top(1)[0]["layer"] in (8, 9)
        (20, 20, True)
    """
    began = time.perf_counter()
    wanted = _wanted(verify, audit, until, seconds, passes, seed)
    components = components_of(component)
    chosen = {name: _rankings(method, name) for name in components}
    one = several(metric)
    if len(one) > 1:
        raise InputError(f"a screen ranks by one metric, not by {len(one)}: make a call for each")
    made = read_pairs(model, clean_text, corrupted_text, subject, target, foil, align, answers)
    grids = [grids_of(model, made, g, positions, within) for g in _grids(model, components, layers, heads)]
    wholes = asked_of_pairs(model, made)
    cells = ScreenCells(model, made, grids, direction, wholes)
    how = {"engine": engine, "max_memory": max_memory}
    measured, gradients = _measured(model, made, one[0], cells, chosen, direction)
    found = Screening(model, cells, measured, gradients, how, progress, wanted, began)
    found.rank(chosen)
    found.verify()
    if found.lacking:
        raise InputError(f"passes={passes} allows no cell to be run: a single one takes more")
    found.draw()
    return found.result(direction, positions)


# ---- what was asked for


def _wanted(verify: Any, audit: Any, until: Any, seconds: Any, passes: Any, seed: Any) -> Wanted:
    if until is not None and not (isinstance(until, str) and until == "stable"):
        raise InputError(f"until={until!r} is unknown: it is 'stable', or None to verify {verify!r} cells")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 < seconds < math.inf):
        raise InputError(f"seconds is a number above 0, not {seconds!r}")
    return Wanted(
        whole_number("verify", verify),
        whole_number("audit", audit, 0),
        until is not None,
        math.inf if seconds is None else float(seconds),
        math.inf if passes is None else whole_number("passes", passes),
        whole_number("seed", seed, 0, 2**32 - 1),
    )


def _rankings(method: Any, component: str) -> tuple[str, ...]:
    """The ways in which a component is ranked; of several a cell has the best place."""
    if not isinstance(method, str) or method != "auto":
        check_method(method)
        return (method,)
    return RANKINGS.get(component, OTHERS)


def _grids(model: TracedModel, components: list[str], layers: Any, heads: Any) -> list[Grid]:
    """A grid for each component and layer, since these may have other numbers of heads and neurons."""
    headed = [name for name in components if name in HEADED]
    if heads is not None and not headed:
        grid_of(model, components, layers, heads)  # which says what heads= goes with
    found = []
    for name in components:
        of_heads = heads if name in headed else None
        neurons = "each" if name == "neuron" else None
        found += [grid_of(model, name, i, of_heads, 1, neurons) for i in layers_of(model, layers)]
    return found


def _measured(
    model: TracedModel,
    made: PairSet,
    metric: Any,
    cells: ScreenCells,
    rankings: dict[str, tuple[str, ...]],
    direction: str,
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """The metric of each pair, bound, and what each method differentiates; InputError when it cannot rank."""
    methods = list(dict.fromkeys(m for some in rankings.values() for m in some))
    first = dict.fromkeys(some[0] for some in rankings.values())
    for method in first:
        metric = checked_metric(metric, method, direction)
    asked = SetAnswers(made.targets, made.foils, metric, [], cells.asked)
    if not made.alone:
        asked = answers_of_set(model, made, metric, True, cells.asked)
    found, gradients = [], []
    for i, role in enumerate(cells.roles):
        base, source = WholeRuns(role, asked.asked[i]).plain_logits(model)
        answers = asked.metric, asked.targets[i], asked.foils[i]
        logits = role.clean_first(base, source)
        one = settle_whole(model, made.pairs[i], *answers, logits, made.alone, asked.asked[i])
        bound = one.metrics[0]
        if bound.name in metrics.METRICS:  # what "auto" became
            for method in first:
                checked_metric(bound.name, method, direction)
        there = between(base, source) if set(first) == {"ig"} else flat(base)
        metrics.check_gradient(bound.name, _gradient(slope(one, 0)), there)
        found.append(one)
        gradients.append({method: _differentiated(one, method, logits[0]) for method in methods})
    return found, gradients


def _differentiated(measured: Measured, method: str, clean: np.ndarray) -> Any:
    """What a method differentiates, in MLX: the metric, or one that ranks alike and that interpolation can follow."""
    bound = measured.metrics[0]
    if method != "ig" or bound.name not in INSTEAD:
        return _gradient(slope(measured, 0))
    if hasattr(measured, "scoring"):
        return _gradient(slope(measured, 0, INSTEAD[bound.name]))
    foil = None if measured.foil is None else measured.foil.token
    other = metrics.bind(INSTEAD[bound.name], target=measured.target.token, foil=foil, clean_logits=clean[0])
    return _gradient(other.gradient)


def _gradient(gradient: Any) -> Any:
    assert gradient is not None, "metrics without one were refused"
    return gradient
