"""Causal mediation: what a component carries from one prompt's answer to another's, both ways round.

    effects = model.causal_effects("Paris is in the country of", "Rio is in the country of")
    effects.direct           # [layers]: P(" Brazil") in the base run with the source run's activation
    effects.indirect         # [layers]: how far P(" Brazil") falls in the source run with the base's activation

Interchange interventions (Vig et al. 2020, section 3; Geiger et al. 2021): the base run is patched with
activations of the source run (is the component sufficient for the source's answer?) and the source run with those of
the base run (is it necessary?). `noising_window` is another probe: noise everywhere but in a window of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..anatomy.components import HEADED
from ..errors import InputError
from ..results.causal_effects_result import CausalEffects
from . import pairs
from .answers import answers_of
from .grid import Grid, make_grid
from .pairs import AlignedPair, Corrupted
from .protocol import PromptLike, TracedModel
from .sweeps import notes_of, sweep_of


def causal_effects(
    model: TracedModel,
    base: Corrupted,
    source: PromptLike,
    component: str = "resid_post",
    *,
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    window: int = 1,
    metric: str | Callable[[Any], Any] = "prob",
    target: str | int | None = None,
    foil: str | int | None = None,
    subject: Any = None,
    align: str = "strict",
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
            source's embeddings, and then every value is the mean over its samples.
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), neuron.
        layers: None for all.
        positions: None for the whole sequence together; "each" for a layer x position map; "subject",
            "subject_last", "last", an int or a list: those together.
        window: layers patched together, `[l - window//2, l + ceil(window/2))`.
        metric: prob, logprob, logit, rank (of the source's answer), logit_diff and prob_diff (source's answer less
            base's), kl, l2, cosine (to the source run), or a function of logits.
        target, foil: the source's and the base's answer; default: the runs' top tokens.
        subject, align, engine, max_memory, progress: as in `activation_patching`.

    Returns:
        A `CausalEffects`: `.direct` and `.indirect`, float64 `[layers]` or `[layers, positions]`, in the metric's unit.

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
    pair = pairs.pair(model, source, base, subject, align)
    grid = make_grid(model, pair, component, layers, positions, None, window)
    sweeps = {}
    for direction in pairs.DIRECTIONS:
        roles = pair.roles(direction)
        cells = grid.cells(roles)
        sweeps[direction] = sweep_of(model, roles.base, roles.source, cells, engine, max_memory)
        sweeps[direction].fit()  # both are refused before either is run
    base_logits, source_logits = sweeps["denoise"].begin()
    answers = answers_of(model, pair, target, foil, source_logits, base_logits)
    measure = answers.bind(metric, source_logits[0])
    outcomes = {name: sweep.run(lambda rows: measure(rows)[None], progress) for name, sweep in sweeps.items()}
    each = isinstance(positions, str) and positions == "each"
    shape = (len(grid.layers), len(grid.positions)) if each else (len(grid.layers),)
    values = {name: outcome.values[0].mean(-1).reshape(shape) for name, outcome in outcomes.items()}
    source_value = float(measure(source_logits).mean())
    return CausalEffects(
        direct=values["denoise"],
        indirect=source_value - values["noise"],
        base_value=float(measure(base_logits).mean()),
        source_value=source_value,
        base_answer=answers.foil,
        source_answer=answers.target,
        positions=[group[0] for group in grid.positions] if each else None,
        metric=measure.name,
        model=model.name,
        plan={name: outcome.plan for name, outcome in outcomes.items()},
        notes=[*pair.notes, *answers.notes, *notes_of(sweeps["denoise"])],
        **_labels(pair, grid),
    )


def _labels(pair: AlignedPair, grid: Grid) -> dict[str, Any]:
    """What was patched in what, in words."""
    return {
        "component": grid.components[0],
        "layers": grid.layers,
        "window": grid.window,
        "tokens": list(pair.clean_prompt.tokens),
        "base_tokens": list(pair.corrupted_prompt.tokens),
        "subject_range": pair.subject,
        "base_text": pair.corruption or pair.corrupted_text,
        "source_text": pair.clean_text,
    }
