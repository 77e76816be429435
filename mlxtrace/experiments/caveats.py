"""What the sites of an experiment are not: said with its result, from what was measured on the model at hand.

An MLP may be several modules; a layer may write more than its mixer and its MLP; and the residual stream may not be
all that one layer hands to the next (keys that later layers read, several streams, embeddings given to each layer).
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterable

import numpy as np

from ..anatomy.components import KINDS, STREAM, wide_window
from ..engine import calibration, choice
from ..engine.sweep import Cell, Engine, ModuleResolver, Patch, Sweep
from ..errors import UnsupportedError
from ..plotting.labels import short

ADDED_UP = (
    "a window of {n} layers on {name} adds up {n} estimates of what is one state, held: give window=1; windows are of "
    "mlp and attn, as published"
)
WINDOW_OF_STATES = (
    "a window of {n} layers on {name} holds one state for {n} layers: of the whole sequence, or of the last token, it "
    "is its last layer's state and no more, as window=1 has it; windows are of mlp and attn, as published"
)


def of_cells(resolver: ModuleResolver, cells: Iterable[Cell], estimated: bool = False) -> list[str]:
    """What is to be said of the sites that some cells patch, or would patch where their effects are estimated."""
    cells = list(cells)
    sites = [(patch.site.component, patch.site.layer) for cell in cells for patch in cell.patches]
    said = cautions(resolver, [(c, layer) for c, layer in sites if c is not None and layer is not None])
    return [*said, *_of_windows(cells, resolver.n_layers, ADDED_UP if estimated else WINDOW_OF_STATES)]


def of_restored(component: str, window: int) -> list[str]:
    """What is to be said where all layers are noised but a window of states of the stream."""
    if component not in STREAM or window == 1:
        return []
    return [
        f"a restored {component} undoes all noise below it: of a window its last layer decides, and late windows win "
        "in any model (mlp and attn do not have this fault)"
    ]


def _of_windows(cells: list[Cell], n_layers: int, of_states: str = WINDOW_OF_STATES) -> list[str]:
    """What is to be said of layers that are patched together; of the stream's states it is warned of as well."""
    widest: dict[str, int] = {}
    for cell in cells:
        patched = Counter(patch.site.component for patch in cell.patches if not patch.fixed)
        widest.update({c: max(n, widest.get(c, 0)) for c, n in patched.items() if c is not None})
    states = [c for c, n in widest.items() if c in STREAM and n > 1]
    said = [of_states.format(name=name, n=widest[name]) for name in states]
    for note in said:
        warnings.warn(note, stacklevel=_outside())
    wide = wide_window(max((n for c, n in widest.items() if c in KINDS), default=0), n_layers)
    return [*said, wide] if wide else said


def _outside() -> int:
    """How far up the first caller is that is not of this package, as `warnings.warn` counts it for whom calls this."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mlxtrace."):
        frame, depth = frame.f_back, depth + 1
    return depth


def cautions(resolver: ModuleResolver, sites: Iterable[tuple[str, int]]) -> list[str]:
    """What is to be said of some sites, given as (component, layer): a sentence for each kind of layer."""
    layers: dict[str, set[int]] = {}
    for component, layer in sites:
        layers.setdefault(component, set()).add(layer)
    said = []
    for component, some in layers.items():
        if component in STREAM:
            said += _beside_the_stream(resolver, component, sorted(some))
        else:
            said += resolver.remarks(component, sorted(some))
    return list(dict.fromkeys(said))


def _beside_the_stream(resolver: ModuleResolver, component: str, layers: list[int]) -> list[str]:
    left = whole_stream_errors(resolver, component)
    limit = calibration.rounding(resolver)
    some = [i for i in layers if left.get(i, 0.0) > limit]
    if not some:
        return []
    worst = max(left[i] for i in some)
    return [
        f"{component} is not the whole state at layers {short(some)}: on two short test prompts, patching it at every "
        f"position leaves the logits up to {worst:.2g} (of the largest) from the other run's, because state flows "
        "beside the stream; even a patch of all positions need not restore 100 %"
    ]


@calibration.per_model
def whole_stream_errors(resolver: ModuleResolver, component: str) -> dict[int, float]:
    """For each layer, how far logits are from the source run's when the stream there is the source run's.

    Relative to the largest logit; measured on two prompts of 8 tokens, once per model.
    """
    trial = choice.trial_sweep(resolver)
    at, cells = tuple(range(len(trial.base.ids))), {}
    for layer in range(resolver.n_layers):
        try:
            cells[layer] = Cell((Patch(resolver.site(component, layer), at, at),))
        except UnsupportedError:
            continue
    name = "loop" if trial.wrong("flat") else "flat"
    sweep = Sweep(
        resolver, trial.base, trial.source, list(cells.values()), Engine(name, causal=False), 1 << 62
    )
    outcome = sweep.run(lambda logits: logits.T.astype(np.float64), progress=False)
    right = outcome.source[:, 0]
    scale = calibration.largest_logit(right)
    errors = [
        calibration.largest_difference(outcome.values[:, i, 0], right) / scale for i in range(len(cells))
    ]
    return dict(zip(cells, errors, strict=True))
