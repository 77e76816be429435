"""Activation patching: which sites, patched from one run into another, carry an answer.

It turns words (component, positions, window, direction, metric) into runs and cells, has the sweep run them, and
labels what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

from ..arguments import true_or_false
from ..results.patching_result import PatchingResult
from . import pairs
from .answers import Measured, settle
from .grid import Grid, make_grid
from .pairs import AlignedPair, Corrupted
from .protocol import PromptLike, TracedModel
from .sweeps import Outcome, Plan, notes_of, sweep_of


@overload
def activation_patching(
    model: TracedModel,
    clean_text: PromptLike | AlignedPair,
    corrupted_text: Corrupted | None = None,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
    metric: Any = "auto",
    target: str | int | None = None,
    foil: str | int | None = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    engine: str = "auto",
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    plan_only: Literal[False] = False,
) -> PatchingResult: ...


@overload
def activation_patching(
    model: TracedModel,
    clean_text: PromptLike | AlignedPair,
    corrupted_text: Corrupted | None = None,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
    metric: Any = "auto",
    target: str | int | None = None,
    foil: str | int | None = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    engine: str = "auto",
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    *,
    plan_only: Literal[True],
) -> Plan: ...


def activation_patching(
    model: TracedModel,
    clean_text: PromptLike | AlignedPair,
    corrupted_text: Corrupted | None = None,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
    metric: Any = "auto",
    target: str | int | None = None,
    foil: str | int | None = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    engine: str = "auto",
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    plan_only: bool = False,
) -> PatchingResult | Plan:
    """Patch sites from one run into another, and report how far the answer comes back.

    `recovery = 100 * (patched - corrupted) / (clean - corrupted)`, in percent: interchange interventions as in
    Meng et al. 2022 (section 2) and Heimersheim and Nanda 2024.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text: the prompt whose answer we want back: text, ids, an array or a `Prompt`; or a pair of prompts.
        corrupted_text: the broken prompt, or `GaussianNoise(subject=...)` on the clean one's embeddings.
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), head, q, k, v, pattern, neuron, router; or
            a list of them.
        layers: None for all, an int, a list or a range.
        positions: None for the whole sequence together (one number per layer); "each" for a layer x position
            map; "subject", "subject_last", "last", an int or a list: those positions together. They count
            tokens of the clean prompt.
        heads: with head, q, k, v, pattern: "each" (the default) or the heads to patch together; keys and
            values have the model's key-value heads. Patterns are patched by query position.
        window: layers patched together, centred: `[l - window//2, l + ceil(window/2))`.
        metric: auto, prob, logprob, logit, logit_diff, prob_diff, kl, rank, l2, cosine, a function, or a list of
            them. A function gets last-position logits `[rows, V]`; `metrics.every_position` asks for `[rows, T, V]`.
            auto: probability of the clean answer; kl, with a warning, when both prompts have that answer.
        target, foil: answers, as text (" Paris") or token id; default: the clean and the corrupted top token.
        subject: text (its first occurrence counts) or positions, for subject positions and labels; default: where
            the prompts differ.
        direction: "denoise" patches clean activations into the corrupted run; "noise" the other way round.
        align: "strict" wants prompts of equal length; "ends" pairs their common tail.
        engine: auto, fanout, flat or loop (see `engine.choice`).
        max_memory: bytes beside the weights that the runs, the kept activations and the passes may take (None: a
            quarter of what this process can still have); the numbers stay the same, and what cannot be done in it
            is refused before any pass.
        plot: make the figure, as `result.figure`.
        progress: True or False for a progress bar; None: in a terminal.
        plan_only: return the `Plan` and run nothing.

    Returns:
        A `PatchingResult`: `.raw` (the metric) and `.recovery` (percent), float64, shaped `[layer]`,
        `[layer, position]` or `[layer, head]`, with axes for several components and metrics before them. With
        `plan_only` a `Plan`.

    Raises:
        MlxtraceError: before any sweep, for whatever cannot mean anything: InputError and its kinds (TokenError,
            SubjectError, AlignmentError, EffectError), PositionError, UnsupportedError.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> clean, corrupted = "The Eiffel Tower is in the city of", "The Statue of Liberty is in the city of"
        >>> result = model.activation_patching(clean, corrupted, component="resid_post", progress=False)
        >>> result.raw.shape, result.target.text, result.foil.text
        ((12,), ' Paris', ' New')
        >>> round(result[11])
        100
    """
    true_or_false("plot", plot, "to write a file, result.plot(path)")
    pair = pairs.pair(model, clean_text, corrupted_text, subject, align)
    roles = pair.roles(direction)
    grid = make_grid(model, pair, component, layers, positions, heads, window)
    several = metric if isinstance(metric, list | tuple) else [metric]
    every = any(getattr(m, "every_position", False) for m in several)
    sweep = sweep_of(
        model, roles.base, roles.source, grid.cells(roles), engine, max_memory, every_position=every
    )
    if plan_only:
        return sweep.plan()
    measured = settle(model, pair, metric, target, foil, roles.clean_first(*sweep.begin()))
    outcome = sweep.run(measured, progress)
    result = _labelled(model, pair, grid, measured, outcome, direction, positions, notes_of(sweep))
    if plot:
        result.figure = result.plot()
    return result


def _labelled(
    model: TracedModel,
    pair: AlignedPair,
    grid: Grid,
    measured: Measured,
    outcome: Outcome,
    direction: str,
    positions: Any,
    notes: list[str],
) -> PatchingResult:
    """The sweep's values as an array with an axis for each thing that was asked for in the plural."""
    names = [m.name for m in measured.metrics]
    heads = [h[0] for h in grid.heads] if grid.heads and len(grid.heads) > 1 else None
    each = isinstance(positions, str) and positions == "each"
    axes = {
        "component": grid.components if len(grid.components) > 1 else None,
        "metric": names if len(names) > 1 else None,
        "layer": grid.layers,
        "position": [group[0] for group in grid.positions] if each else None,
        "head": heads,
    }
    coords = {name: labels for name, labels in axes.items() if labels is not None}
    shape = (len(names), len(grid.components), -1)
    raw = outcome.values.mean(-1).reshape(shape).swapaxes(0, 1)  # component, metric, then the cells of each
    return PatchingResult(
        raw=raw.reshape([len(labels) for labels in coords.values()]),
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
        window=grid.window,
        plan=outcome.plan,
        clean_text=pair.clean_text,
        corrupted_text=pair.corrupted_text,
        model=model.name,
        notes=[*pair.notes, *measured.notes, *notes],
        settings={"positions": positions, **({"corruption": pair.corruption} if pair.corruption else {})},
    )
