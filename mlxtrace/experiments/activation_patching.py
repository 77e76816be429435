"""Activation patching: which sites, patched from one run into another, carry an answer.

It turns words (component, positions, window, direction, metric) into runs and cells (`experiment`), has the sweep
run them, and labels what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..engine import choice
from ..engine.corruption import GaussianNoise, Substitution
from ..engine.sweep import Plan, Sweep
from ..errors import InputError
from ..results.patching_result import PatchingResult
from ..text.prompt import PromptLike
from . import caveats
from .answers import Measured, measured
from .grid import Grid, grid
from .pairs import DIRECTIONS, Pair, pair
from .protocol import TracedModel


def prepare(
    model: TracedModel,
    both: Pair,
    direction: str,
    laid: Grid,
    engine: str,
    max_memory,
    every_position=False,
) -> Sweep:
    """The sweep of a grid of cells, in the direction asked for."""
    base, source = both.corrupted, both.clean
    if direction == "noise":
        base, source = source, base
    chosen = choice.choose(model.resolver, engine)
    return Sweep(model.resolver, base, source, laid.cells, chosen, max_memory, every_position=every_position)


def activation_patching(
    model: TracedModel,
    clean_text: PromptLike | Pair,
    corrupted_text: PromptLike | GaussianNoise | Substitution | None = None,
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
    """Patch sites from one run into another, and report how far the answer comes back, in percent.

    Interchange interventions as in Meng et al. 2022 (section 2) and Heimersheim and Nanda 2024; recovery is
    `100 * (patched - corrupted) / (clean - corrupted)`.

    Args:
        clean_text: the prompt whose answer we want back: text, ids, an array or a `Prompt`; or a `Pair` of prompts.
        corrupted_text: the broken prompt, or `GaussianNoise(subject=...)` on the clean one's embeddings.
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), head, q, k, v, pattern, neuron; or a
            list of them.
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
        engine: auto, fanout, flat or loop (see `engines`). max_memory: bytes beside the weights that the runs, the
            kept activations and the passes may take (None: a quarter of what this process can still have); the
            numbers stay the same, and what cannot be done in it is refused before any pass.
        plot: make the figure, as `result.figure`. progress: True or False for a progress bar; None: in a terminal.
        plan_only: return the `Plan` and run nothing.

    Raises an error that derives from `MlxtraceError`, before any sweep, for whatever cannot mean anything.
    """
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise InputError(f"direction={direction!r} is unknown; it is one of {', '.join(DIRECTIONS)}")
    if not isinstance(plot, bool):
        raise InputError(f"plot is True or False, not {plot!r}; to write a file, result.plot(path)")
    both = pair(model, clean_text, corrupted_text, subject, align)
    laid = grid(model, both, direction, component, layers, positions, heads, window)
    several = metric if isinstance(metric, (list, tuple)) else [metric]
    every = any(getattr(m, "every_position", False) for m in several)
    sweep = prepare(model, both, direction, laid, engine, max_memory, every)
    if plan_only:
        return sweep.plan()
    base, from_ = sweep.begin()
    clean_and_corrupted = (from_, base) if direction == "denoise" else (base, from_)
    asked = measured(model, both, metric, target, foil, logits=clean_and_corrupted)
    outcome = sweep.run(asked, progress)
    result = _result(model, both, laid, asked, outcome, direction, window, positions)
    if plot:
        result.figure = result.plot()
    return result


def _result(
    model, both: Pair, laid: Grid, asked: Measured, outcome, direction, window, positions
) -> PatchingResult:
    names = [m.name for m in asked.metrics]
    shape = (len(names), len(laid.components), len(laid.layers), len(laid.positions), len(laid.heads or [0]))
    raw = outcome.values.mean(-1).reshape(shape).swapaxes(0, 1)  # component, metric, layer, position, head
    each = isinstance(positions, str) and positions == "each"
    axes = {
        "component": laid.components if len(laid.components) > 1 else None,
        "metric": names if len(names) > 1 else None,
        "layer": laid.layers,
        "position": [group[0] for group in laid.positions] if each else None,
        "head": [h[0] for h in laid.heads] if laid.heads and len(laid.heads) > 1 else None,
    }
    coords = {name: labels for name, labels in axes.items() if labels is not None}
    return PatchingResult(
        raw=raw.reshape([len(labels) for labels in coords.values()]),
        dims=tuple(coords),
        coords=coords,
        clean=asked.clean,
        corrupted=asked.corrupted,
        metrics=names,
        components=laid.components,
        target=asked.target,
        foil=asked.foil,
        tokens=list(both.clean_prompt.tokens),
        corrupted_tokens=list(both.corrupted_prompt.tokens),
        subject_range=both.subject,
        direction=direction,
        window=int(window),
        plan=outcome.plan,
        clean_text=both.clean_text,
        corrupted_text=both.corrupted_text,
        model=model.name,
        notes=[*both.notes, *asked.notes, *caveats.of_cells(model.resolver, laid.cells)],
        settings={"positions": positions, **({"corruption": both.corruption} if both.corruption else {})},
    )
