"""mlxtrace as a contender: the same map of cells, by any of its engines.

A contender has a `name`, `prepare(case)`, which runs what is shared by all cells, and `run(case, cells)`, which
gives `[cells, 2]`: probability and logit of the target at the last position. `whole` says that a contender runs
all cells of a map together, in one call that prepares for itself.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.engine import choice
from mlxtrace.engine.sweep import Sweep
from mlxtrace.experiments import grid, pairs

from . import use_threads
from .cases import NOISE_SEED, NOISE_STD, Case

METRICS = ["prob", "logit"]


class WithThreads:
    """A contender with so many threads; one model may be in several."""

    def __init__(self, contender: Any, threads: int):
        self.contender, self.threads = contender, threads
        self.name, self.whole, self.prepares_again = contender.name, contender.whole, contender.prepares_again

    @property
    def plan(self) -> Any:
        return getattr(self.contender, "plan", None)

    def _use(self) -> None:
        self.contender.threads = self.threads
        use_threads(self.threads)

    def prepare(self, case: Case) -> None:
        self._use()
        self.contender.prepare(case)

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        self._use()
        return self.contender.run(case, cells)


class Ours:
    """mlxtrace by one engine. fanout and flat go through the public call, with every cell in one sweep."""

    def __init__(self, model: InterpretableModel, engine: str):
        self.model, self.engine = model, engine
        self.name, self.whole = f"mlxtrace {engine}", engine != "loop"
        self.prepares_again = not self.whole  # the two plain runs, in each call
        self.plan = None

    def prepare(self, case: Case) -> None:
        """Choose the engine, once per model, and for the loop run the two prompts that every cell needs."""
        chosen = choice.choose(self.model.resolver, self.engine)
        if self.whole:
            return
        pair = pairs.pair(self.model, list(case.clean), _corrupted(case))
        made = grid.make_grid(self.model, pair, case.component, None, "each", None, case.window)
        self.patches = made.cells(pair.roles("denoise"))
        self.cells = {(layer, p): i for i, (layer, p) in enumerate(_all(case))}
        self.base, self.source, self.chosen = pair.corrupted, pair.clean, chosen
        Sweep(self.model.resolver, self.base, self.source, [], chosen).run(_measure(case), progress=False)

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        if not self.whole:
            return self._loop(case, cells)
        result = self.model.activation_patching(
            list(case.clean),
            _corrupted(case),
            component=case.component,
            positions="each",
            window=case.window,
            metric=METRICS,
            target=case.target,
            engine=self.engine,
            progress=False,
        )
        self.plan = result.plan
        raw = result.raw  # metric, layer, position
        return np.array([[raw[0, layer, p], raw[1, layer, p]] for layer, p in cells])

    def _loop(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        """The textbook on some of the cells; the two plain runs are made again, 2 passes beside len(cells)."""
        chosen = [self.patches[self.cells[cell]] for cell in cells]
        sweep = Sweep(self.model.resolver, self.base, self.source, chosen, self.chosen)
        return sweep.run(_measure(case), progress=False).values.mean(-1).T


def _all(case: Case) -> list[tuple[int, int]]:
    return [(layer, p) for layer in range(case.shape.layers) for p in range(case.length)]


def _corrupted(case: Case) -> list[int] | GaussianNoise:
    if case.samples:
        return GaussianNoise(list(case.subject), NOISE_STD, case.samples, NOISE_SEED)
    return list(case.corrupted)


def _measure(case: Case):
    def measure(logits: np.ndarray) -> np.ndarray:
        x = logits.astype(np.float64)
        x -= x.max(-1, keepdims=True)
        prob = np.exp(x[:, case.target]) / np.exp(x).sum(-1)
        return np.stack([prob, logits[:, case.target].astype(np.float64)])

    return measure


def top_token(model: InterpretableModel, case: Case) -> int:
    """The clean run's most likely token."""
    return int(model.net(mx.array([list(case.clean)]))[0, -1].argmax().item())


def plain_run(model: InterpretableModel, case: Case) -> None:
    """One bare forward pass of the model, logits of every position."""
    mx.eval(model.net(mx.array([list(case.clean)])))
