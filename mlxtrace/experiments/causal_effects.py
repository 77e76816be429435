"""Causal mediation: what a component carries from one prompt's answer to another's, both ways round.

    effects = model.causal_effects("Paris is in the country of", "Rio is in the country of")
    effects.direct           # [layers]: P(" Brazil") in the base run with the source run's activation
    effects.indirect         # [layers]: how far P(" Brazil") falls in the source run with the base's activation
    effects.natural_indirect # [layers]: direct - P(" Brazil") in the base run, as Pearl and Vig et al. define it

Interchange interventions (Vig et al. 2020, section 3; Geiger et al. 2021): the base run is patched with
activations of the source run (is the component sufficient for the source's answer?) and the source run with those of
the base run (is it necessary?). `noising_window` is another probe: noise everywhere but in a window of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy.components import HEADED
from ..errors import InputError
from ..results.effects_set import CausalEffects, EffectsSet
from .grid import Grid, grid_of
from .pair_sets import DIRECTIONS, AlignedPair, Corrupted, PairSet, grids_of, read_pairs
from .protocol import PromptLike, TracedModel
from .set_answers import answers_of_set
from .sweeps import Job, Outcome, check_plans, notes_of, sweep_pairs
from .whole_answers import Answers, answers_of, answers_whole, asked_of_pairs, metrics, whole_measure


def causal_effects(
    model: TracedModel,
    base: Corrupted | Sequence[Any],
    source: PromptLike | Sequence[PromptLike] | None = None,
    component: str = "resid_post",
    *,
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    window: int | str | dict[str, int] = 1,
    metric: str | Callable[[Any], Any] = "prob",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    align: str = "strict",
    within: str | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    answers: Any = None,
) -> CausalEffects:
    """Total, direct and indirect effect of a component, patched both ways between two prompts.

    `direct = metric(base run with the source's activation)` and
    `indirect = metric(source run) - metric(source run with the base's activation)`. The literature's words mean other
    numbers (Pearl 2001; Vig et al. 2020, section 3), and the result has both:
    `natural_indirect = metric(base run with the source's activation) - metric(base run) = direct - base_value`,
    `natural_direct = metric(source run with the base's activation) - metric(base run)
    = (source_value - indirect) - base_value`, and the total effect `change = source_value - base_value` is
    `natural_direct + indirect`: `indirect` is the natural indirect effect of the way back, from source to base, with
    its sign turned.

    Args:
        model: what is traced; not given where this is called as its method.
        base, source: the prompts, as text, ids, arrays or `Prompt`s; base may be `GaussianNoise(subject=...)` on the
            source's embeddings, and then every value is the mean over its samples. Lists of both are a set, and so is
            a list of `prompts.Pair`s in the place of both (their clean prompt is the source).
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), neuron.
        layers: None for all.
        positions: None for the whole sequence together; "each" for a layer x position map; "subject",
            "subject_last", "last", an int or a list: those together; "regions" for a layer x region map.
        window: layers patched together, `[l - window//2, l + ceil(window/2))`, or "auto" as in `activation_patching`.
        metric: prob, logprob, logprob_mean, logit, rank (of the source's answer), logit_diff and prob_diff (source's
            answer less base's), kl, l2, cosine (to the source run), or a function of logits.
        target, foil: the source's and the base's answer; default: the runs' top tokens. Answers of several tokens are
            scored as in `activation_patching`.
        subject, align, within, engine, max_memory, progress, answers: as in `activation_patching`.

    Returns:
        A `CausalEffects`: `.direct` and `.indirect`, `.natural_indirect` and `.natural_direct`, float64 `[layers]` or
        `[layers, positions]`, in the metric's unit.
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
    if getattr(metric, "every_position", False):
        raise InputError("effects are measured at the last position: give a metric of its logits")
    made = _pairs_of(model, base, source, subject, target, foil, align, answers)
    grids = grids_of(model, made, grid_of(model, component, layers, None, window), positions, within)
    wholes = asked_of_pairs(model, made) if made.answered else [None] * len(made.pairs)
    answered: dict[int, Answered] = {}

    def settled(i: int, base_logits: np.ndarray, source_logits: np.ndarray) -> Any:
        pair, whole = made.pairs[i], wholes[i]
        if whole is None:
            found = answers_of(model, pair, made.targets[i], made.foils[i], source_logits, base_logits)
            bound = found.bind(metric, source_logits[0])
            low, high = (float(bound(logits).mean()) for logits in (base_logits, source_logits))
            answered[i] = Answered(found, bound.name, by_row(bound), low, high)
        else:
            found, scoring = answers_whole(model, pair, whole, source_logits, base_logits)
            one = whole_measure(model, [metric], found, scoring, source_logits, whole.foil is not None)
            low, high = (float(one.of(logits).mean()) for logits in (base_logits, source_logits))
            answered[i] = Answered(found, one.metrics[0].name, one, low, high, one.remarks)
        return answered[i].measure

    how = {"engine": engine, "max_memory": max_memory}
    jobs = {direction: _jobs(made, grids, direction, wholes) for direction in DIRECTIONS}
    for some in jobs.values():
        check_plans(model, some, **how)  # both are refused before either is run
    if not made.alone:
        answers_of_set(model, made, metric, False, wholes)
    direct = sweep_pairs(model, jobs["denoise"], settled, progress, **how)
    indirect = sweep_pairs(model, jobs["noise"], lambda i, *_: answered[i].measure, progress, **how)
    notes = notes_of(model, jobs["denoise"][0].cells)
    outcomes = [{"denoise": a[1], "noise": b[1]} for a, b in zip(direct, indirect, strict=True)]
    results = [
        _labelled(model, pair, grid, answered[i], outcomes[i], notes, positions)
        for i, (pair, grid) in enumerate(zip(made.pairs, grids, strict=True))
    ]
    return results[0] if made.alone else EffectsSet(results, made.ids, made.notes)


@dataclass(frozen=True)
class Answered:
    """A pair's answers, what measures them, and its values in the two plain runs."""

    answers: Answers
    metric: str
    measure: Any
    base_value: float
    source_value: float
    remarks: tuple[str, ...] = ()


def by_row(measure: metrics.Metric) -> Any:
    """A metric as a sweep measures it: `[1, rows]` of logits `[rows, V]`."""
    return lambda rows: measure(rows)[None]


def _pairs_of(
    model: TracedModel,
    base: Any,
    source: Any,
    subject: Any,
    target: Any,
    foil: Any,
    align: str,
    answers: Any = None,
) -> PairSet:
    """The pairs, source prompts first; `Pair`s are given in the place of both."""
    if source is None:
        return read_pairs(model, base, None, subject, target, foil, align, answers)
    return read_pairs(model, source, base, subject, target, foil, align, answers)


def _jobs(made: PairSet, grids: list[Grid], direction: str, wholes: Sequence[Any]) -> list[Job]:
    roles = [pair.roles(direction) for pair in made.pairs]
    contexts = [((),) if whole is None else whole.contexts for whole in wholes]
    return [Job(r.base, r.source, g.cells(r), c) for r, g, c in zip(roles, grids, contexts, strict=True)]


def _labelled(
    model: TracedModel,
    pair: AlignedPair,
    grid: Grid,
    answered: Answered,
    outcomes: dict[str, Outcome],
    notes: list[str],
    positions: Any,
) -> CausalEffects:
    """Both sweeps' values by layer, or by layer and position or region."""
    places, answers = grid.places, answered.answers
    shape = (len(grid.layers), len(places.groups))
    values = {
        name: places.averages(outcome.values[0].mean(-1).reshape(shape), 1)
        for name, outcome in outcomes.items()
    }
    at = None if positions is None or isinstance(positions, str | int) else np.ravel(positions).tolist()
    if places.axis is None:
        values = {name: found[:, 0] for name, found in values.items()}
    return CausalEffects(
        direct=values["denoise"],
        indirect=answered.source_value - values["noise"],
        base_value=answered.base_value,
        source_value=answered.source_value,
        base_answer=answers.foil,
        source_answer=answers.target,
        positions=places.labels if places.axis == "position" else None,
        regions=places.labels if places.axis == "region" else None,
        within=places.within,
        settings={"positions": positions if at is None else at},
        metric=answered.metric,
        model=model.name,
        plan={name: outcome.plan for name, outcome in outcomes.items()},
        notes=[*pair.notes, *places.notes, *answers.notes, *answered.remarks, *notes],
        component=grid.components[0],
        layers=grid.layers,
        window=grid.windows[grid.components[0]],
        tokens=list(pair.clean_prompt.tokens),
        base_tokens=list(pair.corrupted_prompt.tokens),
        subject_range=pair.subject,
        base_text=pair.corruption or pair.corrupted_text,
        source_text=pair.clean_text,
    )
