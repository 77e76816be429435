"""Causal mediation: what a component carries from one prompt's answer to another's, both ways round.

    effects = model.causal_effects("Paris is in the country of", "Rio is in the country of")
    effects.direct           # [layers]: P(" Brazil") in the base run with the source run's activation
    effects.indirect         # [layers]: how far P(" Brazil") falls in the source run with the base's activation

Interchange interventions (Vig et al. 2020, section 3; Geiger et al. 2021): the base run is patched with
activations of the source run (is the component sufficient for the source's answer?) and the source run with those of
the base run (is it necessary?). `noising_window` is another probe: noise everywhere but in a window of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..anatomy.components import HEADED
from ..errors import InputError
from ..results.effects_set import CausalEffects, EffectsSet
from .answers import Answers, Metric, answers_of
from .grid import Grid, grid_of
from .pair_sets import DIRECTIONS, AlignedPair, Corrupted, PairSet, grids_of, read_pairs
from .protocol import PromptLike, TracedModel
from .set_answers import answers_of_set
from .sweeps import Job, Measure, Outcome, check_plans, notes_of, sweep_pairs


def causal_effects(
    model: TracedModel,
    base: Corrupted | Sequence[Any],
    source: PromptLike | Sequence[PromptLike] | None = None,
    component: str = "resid_post",
    *,
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    window: int = 1,
    metric: str | Callable[[Any], Any] = "prob",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    align: str = "strict",
    within: str | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
) -> CausalEffects:
    """Total, direct and indirect effect of a component, patched both ways between two prompts.

    `direct = metric(base run with the source's activation)` and
    `indirect = metric(source run) - metric(source run with the base's activation)`.

    Args:
        model: what is traced; not given where this is called as its method.
        base, source: the prompts, as text, ids, arrays or `Prompt`s; base may be `GaussianNoise(subject=...)` on the
            source's embeddings, and then every value is the mean over its samples. Lists of both are a set, and so is
            a list of `prompts.Pair`s in the place of both (their clean prompt is the source).
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), neuron.
        layers: None for all.
        positions: None for the whole sequence together; "each" for a layer x position map; "subject",
            "subject_last", "last", an int or a list: those together; "regions" for a layer x region map.
        window: layers patched together, `[l - window//2, l + ceil(window/2))`.
        metric: prob, logprob, logit, rank (of the source's answer), logit_diff and prob_diff (source's answer less
            base's), kl, l2, cosine (to the source run), or a function of logits.
        target, foil: the source's and the base's answer; default: the runs' top tokens.
        subject, align, within, engine, max_memory, progress: as in `activation_patching`.

    Returns:
        A `CausalEffects`: `.direct` and `.indirect`, float64 `[layers]` or `[layers, positions]`, in the metric's unit.
        Of a set an `EffectsSet`, with intervals and the numbers of every pair.

    Raises:
        EffectError: both prompts have the same answer and the metric sets one against the other.
        MlxtraceError: whatever `activation_patching` raises for bad input.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> base, source = "The Statue of Liberty is in the city of", "The Eiffel Tower is in the city of"
        >>> effects = model.causal_effects(base, source, metric="logit_diff", progress=False)
        >>> effects.base_answer.text, effects.source_answer.text
        (' New', ' Paris')
        >>> bool(abs(effects.direct[-1] - effects.source_value) < 0.01)  # the last layer's output carries all
        True
    """
    if not isinstance(component, str):
        raise InputError(f"component is one name, not {component!r}: make a call for each")
    if component in HEADED:
        raise InputError(f"{component!r} has no effects by head here: use activation_patching")
    made = _pairs_of(model, base, source, subject, target, foil, align)
    grids = grids_of(model, made, grid_of(model, component, layers, None, window), positions, within)
    answered: dict[int, tuple[Answers, Metric, tuple]] = {}

    def settled(i: int, base_logits: np.ndarray, source_logits: np.ndarray) -> Measure:
        given = made.targets[i], made.foils[i]
        found = answers_of(model, made.pairs[i], *given, source_logits, base_logits)
        answered[i] = found, found.bind(metric, source_logits[0]), (base_logits, source_logits)
        return by_row(answered[i][1])

    how = {"engine": engine, "max_memory": max_memory}
    jobs = {direction: _jobs(made, grids, direction) for direction in DIRECTIONS}
    for some in jobs.values():
        check_plans(model, some, **how)  # both are refused before either is run
    if not made.alone:
        answers_of_set(model, made, metric, recovered=False)
    direct = sweep_pairs(model, jobs["denoise"], settled, progress, **how)
    indirect = sweep_pairs(model, jobs["noise"], lambda i, *_: by_row(answered[i][1]), progress, **how)
    notes = notes_of(model, jobs["denoise"][0].cells)
    results = [
        _labelled(model, pair, grid, *answered[i], {"denoise": direct[i][1], "noise": indirect[i][1]}, notes)
        for i, (pair, grid) in enumerate(zip(made.pairs, grids, strict=True))
    ]
    return results[0] if made.alone else EffectsSet(results, made.ids, made.notes)


def by_row(measure: Metric) -> Measure:
    """A metric as a sweep measures it: `[1, rows]` of logits `[rows, V]`."""
    return lambda rows: measure(rows)[None]


def _pairs_of(
    model: TracedModel, base: Any, source: Any, subject: Any, target: Any, foil: Any, align: str
) -> PairSet:
    """The pairs, source prompts first; `Pair`s are given in the place of both."""
    if source is None:
        return read_pairs(model, base, None, subject, target, foil, align)
    return read_pairs(model, source, base, subject, target, foil, align)


def _jobs(made: PairSet, grids: list[Grid], direction: str) -> list[Job]:
    roles = [pair.roles(direction) for pair in made.pairs]
    return [Job(role.base, role.source, grid.cells(role)) for role, grid in zip(roles, grids, strict=True)]


def _labelled(
    model: TracedModel,
    pair: AlignedPair,
    grid: Grid,
    answers: Answers,
    measure: Metric,
    logits: tuple[np.ndarray, np.ndarray],
    outcomes: dict[str, Outcome],
    notes: list[str],
) -> CausalEffects:
    """Both sweeps' values by layer, or by layer and position or region."""
    places, base_logits, source_logits = grid.places, *logits
    shape = (len(grid.layers), len(places.groups))
    values = {
        name: places.averages(outcome.values[0].mean(-1).reshape(shape), 1)
        for name, outcome in outcomes.items()
    }
    if places.axis is None:
        values = {name: found[:, 0] for name, found in values.items()}
    source_value = float(measure(source_logits).mean())
    return CausalEffects(
        direct=values["denoise"],
        indirect=source_value - values["noise"],
        base_value=float(measure(base_logits).mean()),
        source_value=source_value,
        base_answer=answers.foil,
        source_answer=answers.target,
        positions=places.labels if places.axis == "position" else None,
        regions=places.labels if places.axis == "region" else None,
        within=places.within,
        metric=measure.name,
        model=model.name,
        plan={name: outcome.plan for name, outcome in outcomes.items()},
        notes=[*pair.notes, *places.notes, *answers.notes, *notes],
        component=grid.components[0],
        layers=grid.layers,
        window=grid.window,
        tokens=list(pair.clean_prompt.tokens),
        base_tokens=list(pair.corrupted_prompt.tokens),
        subject_range=pair.subject,
        base_text=pair.corruption or pair.corrupted_text,
        source_text=pair.clean_text,
    )
