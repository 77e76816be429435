"""What the sites of an experiment are not: said with its result, from what was measured on the model at hand.

An MLP may be several modules; a layer may write more than its mixer and its MLP; and the residual stream may not be
all that one layer hands to the next (keys that later layers read, several streams, embeddings given to each layer).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..anatomy.components import STREAM
from ..engine import calibration, choice
from ..engine.sweep import Cell, Engine, ModuleResolver, Patch, Sweep
from ..errors import UnsupportedError
from ..plotting.labels import short


def of_cells(resolver: ModuleResolver, cells: Iterable[Cell]) -> list[str]:
    """What is to be said of the sites that some cells patch."""
    sites = [(patch.site.component, patch.site.layer) for cell in cells for patch in cell.patches]
    return cautions(resolver, [(c, layer) for c, layer in sites if c is not None and layer is not None])


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
