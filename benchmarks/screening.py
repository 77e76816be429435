"""Single neurons: a screen (200 verified, 300 audited) against exact sweeps of every neuron at every position.

    python -m benchmarks.screening [--only gpt2-small gpt2-toy] [--cells 1000] [--passes 30] [--repeats 3]

The exact sweeps would take hours: both are timed on a random sample of the cells and scaled to all that can differ from
the base run. The first is this package's own (each cell a row, born at its layer; scaled is what more cells add), the
second the textbook's: one forward pass a cell with one neuron written by hand. Contenders take turns; the ratios are of
medians. The effects of a random sample are compared between both sweeps, and those of the screen with the sweep's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from mlxtrace import InterpretableModel
from mlxtrace.experiments.pairs import pair as aligned
from mlxtrace.experiments.sweeps import Cell, Patch, sweep_of

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)
import numpy as np

from . import models

LENGTH = 12
SHAPES = {shape.name: shape for shape in (models.GPT2_SMALL, models.GPT2_TOY)}


class Case:
    """A model with random weights, two prompts that differ in one token, and every neuron that can differ."""

    def __init__(self, shape: models.Shape, seed: int = 0):
        self.model = InterpretableModel(models.mlx_model(shape, models.draw(shape)))
        rng = np.random.RandomState(seed)
        self.clean = rng.randint(0, shape.vocab, LENGTH).tolist()
        self.corrupted = [*self.clean[:1], (self.clean[1] + 1) % shape.vocab, *self.clean[2:]]
        self.target, self.foil = (int(self._logits(ids).argmax()) for ids in (self.clean, self.corrupted))
        if self.target == self.foil:
            self.foil = int(np.argsort(self._logits(self.corrupted))[-2])
        self.options = {"target": self.target, "foil": self.foil, "metric": "logit_diff", "progress": False}
        sites = [self.model.resolver.site("neuron", i) for i in range(shape.layers)]
        places = [(s, p) for s in sites for p in range(1, LENGTH)]
        places = [(s, p) for s, p in places if s is not sites[-1] or p == LENGTH - 1]
        self.places, self.hidden = places, shape.hidden

    @property
    def cells(self) -> int:
        """Neurons at positions that can differ from the base run."""
        return len(self.places) * self.hidden

    def some(self, n: int, seed: int) -> list[tuple[Any, int, int]]:
        """A random sample of them: site, position, neuron."""
        drawn = np.random.RandomState(seed).permutation(self.cells)[:n].tolist()
        return [(*self.places[i // self.hidden], i % self.hidden) for i in drawn]

    def measure(self, logits: np.ndarray) -> np.ndarray:
        """The logit difference, as a sweep measures it."""
        logits = np.asarray(logits, dtype=np.float64)
        return (logits[:, self.target] - logits[:, self.foil])[None]

    def _logits(self, ids: list[int]) -> np.ndarray:
        return np.array(self.model.net(mx.array([ids]))[0, -1])


def screened(case: Case) -> Any:
    """The screen as a user asks for it."""
    return case.model.screen(case.clean, case.corrupted, verify=200, audit=300, **case.options)


def swept(case: Case, cells: list[tuple[Any, int, int]]) -> np.ndarray:
    """The effects of some cells by this package's exact sweep."""
    roles = aligned(case.model, case.clean, case.corrupted).roles("denoise")
    made = [Cell((Patch(site, (p,), (p,), (j,)),)) for site, p, j in cells]
    outcome = sweep_of(case.model, roles.base, roles.source, made).run(case.measure, progress=False)
    return outcome.values[0, :, 0] - outcome.base[0, 0]


def by_hand(case: Case, cells: list[tuple[Any, int, int]]) -> tuple[float, np.ndarray]:
    """One forward pass a cell, one neuron written on the way; seconds of these, and the effects."""
    layers, kept = [site.layer for site, _, _ in cells], {}
    blocks = (
        case.model.net.transformer.h if hasattr(case.model.net, "transformer") else case.model.net.model.h
    )

    class Written:
        """A layer's down projection that sees, and may change, what it is given."""

        def __init__(self, inner: Any, see: Any):
            self.inner, self.see = inner, see

        def __call__(self, x: mx.array) -> mx.array:
            return self.inner(self.see(x))

    def run(ids: list[int], layer: int, see: Any) -> np.ndarray:
        mlp = blocks[layer].mlp
        inner = mlp.c_proj
        try:
            mlp.c_proj = Written(inner, see)
            return np.array(case.model.net(mx.array([ids]))[:, -1])
        finally:
            mlp.c_proj = inner

    for layer in set(layers):
        run(case.clean, layer, lambda x, layer=layer: kept.setdefault(layer, x))
    mx.eval(kept)
    base, effects = case.measure(case._logits(case.corrupted)[None])[0, 0], []
    began = time.perf_counter()
    for site, p, j in cells:

        def write(x: mx.array, layer: int = site.layer, p: int = p, j: int = j) -> mx.array:
            y = mx.array(x)
            y[:, p, j] = kept[layer][:, p, j]
            return y

        effects.append(case.measure(run(case.corrupted, site.layer, write))[0, 0] - base)
    return time.perf_counter() - began, np.array(effects)


def _seconds(work: Any, *arguments: Any) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def compare(shape: models.Shape, cells: int, passes: int, repeats: int) -> dict[str, Any]:
    """One row: seconds of the screen, and of both exact sweeps scaled to all cells."""
    case = Case(shape)
    screened(case)  # what is measured once per model
    some = case.some(cells, 0)
    took: dict[str, list[float]] = {"screen": [], "sweep": [], "loop": []}
    for _ in range(repeats):
        began = time.perf_counter()
        found = screened(case)
        took["screen"].append(time.perf_counter() - began)
        few = some[: len(some) // 10]  # what does not grow with the cells is not scaled
        seconds = [_seconds(swept, case, part) for part in (some, few)]
        took["sweep"].append((seconds[0] - seconds[1]) * case.cells / (len(some) - len(few)))
        seconds, right = by_hand(case, case.some(cells, 0)[:passes])
        took["loop"].append(seconds * case.cells / passes)
    effects, rows = swept(case, some), found.to_rows()
    sites = {i: case.model.resolver.site("neuron", i) for i in range(shape.layers)}
    again = swept(case, [(sites[r["layer"]], r["position"], r["neuron"]) for r in rows])
    off = [np.abs(effects[:passes] - right).max(), np.abs(again - [r["effect"] for r in rows]).max()]
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    return {
        "model": shape.name,
        "cells": case.cells,
        "screen s": medians["screen"],
        "sweep s (scaled)": medians["sweep"],
        "loop s (scaled)": medians["loop"],
        "sweep / screen": medians["sweep"] / medians["screen"],
        "loop / screen": medians["loop"] / medians["screen"],
        "needed": found.needed,
        "r": found.audit.correlation,
        "missed": found.missed_bound,
        "off": float(max(off)),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    names = list(rows[0])
    cells = [
        [
            f"{v:.4g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v)
            for v in row.values()
        ]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [names, ["---"] * len(names), *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=["gpt2-small"], choices=SHAPES)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print(table([compare(SHAPES[name], asked.cells, asked.passes, asked.repeats) for name in asked.only]))


if __name__ == "__main__":
    main()
