"""Activation patching: which sites, patched from one run into another, carry an answer.

Words (component, positions, window, direction, metric) become runs and cells; what the sweep gives back is labelled.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np

from ..arguments import true_or_false
from ..notebook import show
from ..results.patching_set import PatchingResult, PatchingSet
from .grid import Grid, grid_of, settings_of
from .long_prompts import MANY, Spans, coarse, planned, refined_pairs, refuse_until, rows_of
from .pair_sets import AlignedPair, Corrupted, OneOrMany, PairSet, grids_of, read_pairs
from .protocol import TracedModel
from .set_answers import SetAnswers, answers_of_set
from .source_models import ONE_MODEL, between, how_read
from .sweeps import Job, Outcome, Plan, notes_of, plan_of, sweep_pairs
from .until import Sampled, patched_until, plan_until
from .whole_answers import Measured, asked_of_pairs, settle, settle_whole, several


# fmt: off
@overload
def activation_patching(
    model: TracedModel, clean_text: OneOrMany, corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    component: str | Sequence[str] = "mlp", layers: int | Iterable[int] | None = None, positions: Any = None,
    heads: Any = None, window: int | str | dict[str, int] = 1, metric: Any = "auto", target: Any = None,
    foil: Any = None, subject: Any = None, direction: str = "denoise", align: str = "strict",
    within: str | None = None, engine: str = "auto", max_memory: int | None = None, plot: bool = False,
    progress: bool | None = None, plan_only: Literal[False] = False, neurons: Any = None, answers: Any = None,
    source_model: TracedModel | None = None,
) -> PatchingResult: ...


@overload
def activation_patching(
    model: TracedModel, clean_text: OneOrMany, corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    component: str | Sequence[str] = "mlp", layers: int | Iterable[int] | None = None, positions: Any = None,
    heads: Any = None, window: int | str | dict[str, int] = 1, metric: Any = "auto", target: Any = None,
    foil: Any = None, subject: Any = None, direction: str = "denoise", align: str = "strict",
    within: str | None = None, engine: str = "auto", max_memory: int | None = None, plot: bool = False,
    progress: bool | None = None, *, plan_only: Literal[True], neurons: Any = None, answers: Any = None,
    source_model: TracedModel | None = None,
) -> Plan: ...
# fmt: on


def activation_patching(
    model: TracedModel,
    clean_text: OneOrMany,
    corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int | str | dict[str, int] = 1,
    metric: Any = "auto",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    within: str | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    plan_only: bool = False,
    neurons: Any = None,
    answers: Any = None,
    source_model: TracedModel | None = None,
) -> PatchingResult | Plan:
    """Patch sites from one run into another, and report how far the answer comes back.

    `recovery = 100 * (patched - corrupted) / (clean - corrupted)`, in percent: interchange interventions as in
    Meng et al. 2022 (section 2) and Heimersheim and Nanda 2024.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text: the prompt whose answer we want back: text, ids, an array, a chat's messages, a `Prompt` or a
            `prompts.Pair`. A list of prompts or of pairs is a set: numbers are means over its pairs.
        corrupted_text: the broken prompt, or `GaussianNoise(subject=...)` on the clean one's embeddings; for a list
            of prompts a list of these, or one noise for all. A `Pair` has its own.
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), head, q, k, v, pattern, neuron, router; or
            a list of them.
        layers: None for all, an int, a list or a range.
        positions: None for the whole sequence together (one number per layer); "each" for a layer x position
            map; `spans(32)`, of a long prompt, for runs of tokens together, then each token of those that matter;
            "regions" for a layer x region map; "subject", "subject_last", "last", a region's name, an int or a list:
            those positions together. They count tokens of the clean prompt. Regions are those of the `Pair`,
            a chat's turns, or the roles of tokens: subject first, middle and last, first subsequent, further, last.
        heads: with head, q, k, v, pattern: "each" (the default) or the heads to patch together; keys and
            values have the model's key-value heads. Patterns are patched by query position.
        window: layers patched together, centred: `[l - window//2, l + ceil(window/2))`; {"mlp": 3} has it by component
            (others 1), and "auto" is the published 10 of 48 by depth (3 of 12) for mlp and attn, 1 for others.
        metric: auto, prob, logprob, logprob_mean, logit, logit_diff, prob_diff, kl, rank, l2, cosine, a function, or a
            list of them. A function gets last-position logits `[rows, V]`; `metrics.every_position` asks for
            `[rows, T, V]`. auto: probability of the clean answer; kl, with a warning, when both prompts have it.
        target, foil: answers, as text (" Paris"), token id or the ids of an answer's tokens, or a list for a set;
            default: the clean and the corrupted top token. One of several tokens is run behind the prompt and scored
            whole: prob is a product, logprob a sum, logit_diff the difference of target's and foil's log-probabilities,
            rank that of the first token in which they differ; other metrics look at the position after the prompt.
        subject: text (its first occurrence counts) or positions, for subject positions and labels, or a list for a
            set; default: where the prompts differ.
        direction: "denoise" patches clean activations into the corrupted run; "noise" the other way round.
        align: "strict" wants prompts of equal length; "ends" pairs their common tail, of chats that of each turn.
        within: of a region, "mean" patches each of its tokens by itself and averages (the default), "last" its last
            token, "together" all of them at once.
        engine: auto, fanout, flat or loop (see `engine.choice`).
        max_memory: bytes beside the weights that the runs, the kept activations and the passes may take (None: a
            quarter of what is free); the numbers stay the same, and what does not fit is refused.
        plot: make the figure, as `result.figure`; a notebook shows it at once.
        progress: True or False for a progress bar; None: in a terminal or notebook. plan_only: only the `Plan`.
        neurons: with component="neuron": None for all of a layer's neurons together, "each" for every one by itself,
            or the neurons to patch together. `screen` finds the strongest without running each.
        answers: in the target's place answers that are right, whose probabilities are added; for a set also such lists.
        source_model: another model of the same shape and tokens (fine-tuned, quantized), which makes the run that the
            activations come from: the clean one, or with "noise" the corrupted one. Without a corrupted_text both
            models run the clean one. Noise is on the embeddings of the corrupted run's model.

    Returns:
        A `PatchingResult`: `.raw` (the metric) and `.recovery` (percent), float64, shaped `[layer]`,
        `[layer, position]`, `[layer, head]` or `[layer, neuron]`, with axes for several components and metrics before
        them. Of a set a `PatchingSet`, with `.interval` and `.per_pair` as well. With `plan_only` a `Plan`.

    Raises:
        MlxtraceError: before any sweep, for what cannot mean anything: InputError and its kinds (TokenError,
            SubjectError, AlignmentError, EffectError), PositionError, UnsupportedError; of a set naming all such pairs.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> clean, corrupted = "The Eiffel Tower is in the city of", "The Statue of Liberty is in the city of"
        >>> result = model.activation_patching(clean, corrupted, component="resid_post", progress=False)
        >>> result.raw.shape, result.target.text, result.foil.text, round(result[11])
        ((12,), ' Paris', ' New', 100)
    """
    true_or_false("plot", plot, "to write a file, result.plot(path)")
    reading = {} if source_model is None else how_read(model, source_model, direction)
    made = read_pairs(model, clean_text, corrupted_text, subject, target, foil, align, answers, **reading)
    where = component, layers, positions, heads, window, metric, direction, within
    found = patched(model, made, *where, engine, max_memory, progress, plan_only, neurons, source_model)
    if isinstance(found, Plan):
        return found
    results, notes = found
    result = results[0] if made.alone else PatchingSet(results, made.ids, [*made.notes, *notes])
    if plot:
        result.figure = show(result.plot())
    return result


def patched(
    model: TracedModel,
    made: PairSet,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int | str | dict[str, int] = 1,
    metric: Any = "auto",
    direction: str = "denoise",
    within: str | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    plan_only: bool = False,
    neurons: Any = None,
    source_model: TracedModel | None = None,
    recovered: bool = True,
) -> tuple[list[PatchingResult], list[str]] | Plan:
    """The results of the pairs of a set that was read, and notes on it; the plan for plan_only.

    recovered: EffectError when the metric hardly moves over the set. Pairs that are only some of a set are without.
    """
    asked_grid = grid_of(model, component, layers, heads, window, neurons)
    spanned = coarse(made.pairs, positions, source_model) if isinstance(positions, Spans) else None
    grids = grids_of(model, made, asked_grid, None if spanned else positions, within)
    grids = grids if spanned is None else rows_of(grids, spanned.groups)
    roles = [pair.roles(direction) for pair in made.pairs]
    wholes = asked_of_pairs(model, made) if made.answered else [None] * len(made.pairs)
    contexts = [((),) if whole is None else whole.contexts for whole in wholes]

    def jobs_on(grids: Sequence[Grid]) -> list[Job]:
        return [Job(r.base, r.source, g.cells(r), c) for r, g, c in zip(roles, grids, contexts, strict=True)]

    jobs = jobs_on(grids)
    until = jobs[0].until if spanned is None else refuse_until(spanned, jobs[0].until)
    every = any(getattr(m, "every_position", False) for m in several(metric))
    cells, n = jobs[0].cells, 0 if spanned else len(grids[0].places.groups)
    across = ONE_MODEL if source_model is None else between(model, source_model, made, direction, cells)
    how = {"engine": engine, "max_memory": max_memory, "every_position": every, **across.how}
    notes = [*notes_of(model, cells), *across.notes]  # measured once per model: a plan has it in its time
    if plan_only:
        return planned((plan_until if until else plan_of)(model, jobs, **how), n, spanned)
    asked = SetAnswers(made.targets, made.foils, metric, [], wholes)
    if not made.alone:
        asked = answers_of_set(model, made, metric, recovered, wholes, across.models)
    settled = functools.partial(_settled, model, made, roles, asked)
    before = functools.partial(planned, positions=n) if n >= MANY else None
    swept = patched_until if until else sweep_pairs
    swept = functools.partial(swept, model, settle=settled, progress=progress, before=before, **how)
    found = swept(jobs)
    if spanned is not None:
        spanned, grids, found = refined_pairs(spanned, grids, found, lambda grids: swept(jobs_on(grids)))
    for note in found[0][0].notes if made.alone else ():
        warnings.warn(note, stacklevel=3)  # where the experiment was called
    words = {name: said for measured, _ in found for name, said in measured.words.items()}
    more: dict[str, Any] = across.settings | ({"words": words} if words else {})  # of titles
    positions, more = (positions, more) if spanned is None else (str(positions), more | spanned.settings)
    results = [
        labelled(model, pair, grid, *of, direction, positions, made.alone, notes, **more)
        for pair, grid, of in zip(made.pairs, grids, found, strict=True)
    ]
    return results, asked.notes


def _settled(
    model: TracedModel, made: PairSet, roles: list[Any], asked: SetAnswers, i: int, *logits: np.ndarray
) -> Measured:
    """What the rows of a pair are measured with, of both its runs' logits."""
    clean_first = roles[i].clean_first(*logits)
    answers = asked.metric, asked.targets[i], asked.foils[i]
    if asked.asked[i] is None:
        return settle(model, made.pairs[i], *answers, clean_first, made.alone)
    return settle_whole(model, made.pairs[i], *answers, clean_first, made.alone, asked.asked[i])


def labelled(
    model: TracedModel,
    pair: AlignedPair,
    grid: Grid,
    measured: Measured,
    outcome: Outcome,
    direction: str,
    positions: Any,
    alone: bool,
    notes: list[str],
    kind: type[PatchingResult] = PatchingResult,
    **settings: Any,
) -> PatchingResult:
    """The sweep's values as a result of some kind, an axis for each thing that was asked for in the plural."""
    names, places = [m.name for m in measured.metrics], grid.places
    axes = {
        "component": grid.components if len(grid.components) > 1 else None,
        "metric": names if len(names) > 1 else None,
        "layer": grid.layers,
        "position": places.labels if places.axis == "position" else None,
        "region": places.labels if places.axis == "region" else None,
        **{name: [i[0] for i in of] for name, of in grid.named_units.items() if len(of) > 1},
    }
    coords = {name: labels for name, labels in axes.items() if labels is not None}
    by_label = functools.partial(_arranged, grid, len(names), [len(labels) for labels in coords.values()])
    return kind(
        raw=by_label(outcome.values.mean(-1)),
        dims=tuple(coords),
        coords=coords,
        clean=measured.clean,
        corrupted=measured.corrupted,
        metrics=names,
        components=grid.components,
        target=measured.target,
        foil=measured.foil,
        tokens=list(pair.clean_prompt.tokens),
        corrupted_tokens=list(pair.corrupted_prompt.tokens),
        subject_range=pair.subject,
        direction=direction,
        window=max(grid.windows.values()),
        plan=outcome.plan,
        clean_text=pair.clean_text,
        corrupted_text=pair.corrupted_text,
        model=model.name,
        notes=[*pair.notes, *places.notes, *measured.notes, *measured.remarks, *notes],
        settings=settings_of(pair, grid, coords, positions) | _sampling(outcome, by_label) | settings,
        part_of_set=not alone,
    )


def _arranged(grid: Grid, metrics: int, shape: list[int], values: np.ndarray) -> np.ndarray:
    """Values `[metrics, cells]` by their labels: component, metric, then the cells of each."""
    cells = (metrics, len(grid.components), len(grid.layers), len(grid.places.groups), -1)
    return grid.places.averages(values.reshape(cells), 3).swapaxes(0, 1).reshape(shape)


def _sampling(outcome: Outcome, by_label: Any) -> dict[str, Any]:
    """What a result keeps of its samples, where each cell had as many as it took."""
    return outcome.said(by_label) if isinstance(outcome, Sampled) else {}
