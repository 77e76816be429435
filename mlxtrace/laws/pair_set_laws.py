"""The laws of many prompts: pairs that share their passes get the numbers that each gets alone."""

from __future__ import annotations

import numpy as np

from ..engine.joint_runs import Runs
from ..engine.sweep import Cell, Patch, Run, Sweep
from .law import DoesNotApply, Measurement, law, relative_error
from .model_under_test import LENGTH, ModelUnderTest

CHANGED = ((2, 3), (3,), (1, 5))  # by pair: the positions at which its prompts differ
PLACES = ((2, 7), (3, 9), (1, 0))  # and those that are patched: one of them cannot matter
COMPONENTS = ("resid_pre", "attn", "mlp", "resid_post")
SAMPLES, LEVEL = 2, 0.05


def _prompts(tested: ModelUnderTest) -> tuple[list[Run], list[Run]]:
    """Three pairs of one length that share no token and differ at other positions."""
    vocab = tested.model.vocab_size
    bases = [tuple((3 + 5 * k + (7 + k) * i) % vocab for i in range(LENGTH)) for k in range(len(CHANGED))]
    sources = [
        tuple((t + vocab // 2) % vocab if i in changed else t for i, t in enumerate(ids))
        for ids, changed in zip(bases, CHANGED, strict=True)
    ]
    return [Run(ids) for ids in bases], [Run(ids) for ids in sources]


def _noised(tested: ModelUnderTest, runs: list[Run]) -> list[Run]:
    """The runs with noise, other numbers at other positions for each."""
    random, width = np.random.RandomState(0), tested.model.d_model
    draws = [random.randn(SAMPLES, len(at), width) * LEVEL for at in CHANGED]
    return [Run(run.ids, noise, at) for run, noise, at in zip(runs, draws, CHANGED, strict=True)]


def _cells(tested: ModelUnderTest, prompt: int) -> list[Cell]:
    """A cell for each main component, in the first or in a middle layer, and each place of a prompt."""
    layer = tested.layers[len(tested.layers) // 2]
    names = [f"layers.{i}.{name}" for name, i in zip(COMPONENTS, (0, layer, 0, layer), strict=True)]
    sites = [tested.resolver.table[name] for name in names if name in tested.resolver.table]
    return [Cell((Patch(site, (p,), (p,)),), prompt) for site in sites for p in PLACES[prompt]]


def _error(tested: ModelUnderTest, bases: list[Run], sources: list[Run]) -> float:
    """The largest error of a joint sweep, each pair with a measure of its own, against a sweep of each pair."""
    cells = [_cells(tested, i) for i in range(len(bases))]
    if not cells[0]:
        raise DoesNotApply("this model has no site to patch")

    def measure(i: int):
        return lambda logits: np.roll(logits, i, axis=-1).T.astype(np.float64)

    mixed = [cell for row in zip(*cells, strict=True) for cell in row]  # a pair's cells stand apart
    runs, engine = (Runs(tuple(bases)), Runs(tuple(sources))), tested.sweep.chosen
    joint = Sweep(tested.resolver, *runs, mixed, engine).run([measure(i) for i in range(len(bases))], False)
    errors = []
    for i, pair in enumerate(zip(bases, sources, strict=True)):
        alone = Sweep(tested.resolver, *pair, [Cell(cell.patches) for cell in cells[i]], engine)
        right = alone.run(measure(i), False)
        errors.append(relative_error(joint.values[:, i :: len(bases)], right.values))
        for found, plain in ((joint.base, right.base), (joint.source, right.source)):
            errors.append(relative_error(np.split(found, len(bases), 1)[i], plain))
    return max(errors)


@law("a set of pairs gives the numbers of its pairs alone", "a list of pairs (make a call for each)")
def sets(tested: ModelUnderTest) -> Measurement:
    """Three pairs in shared passes, without noise and with noise on either run, against a sweep of each pair."""
    bases, sources = _prompts(tested)
    noised = _noised(tested, bases)
    found = [_error(tested, *runs) for runs in ((bases, sources), (noised, bases), (bases, noised))]
    return Measurement(max(found), tested.limit)
