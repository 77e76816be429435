"""Many pairs: their layer x region map in shared passes, by a call for each pair, and by one forward pass a cell.

    python -m benchmarks.sets [--pairs 64] [--repeats 3] [--only demo gpt2]

The third way is the peers': a batch of eight prompts of one length, and a forward pass for each layer and position (as
in TransformerLens' demos). It is written with this package's traces, so that nothing but the way differs; a sample of
its passes is timed and scaled. Contenders take turns; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlxtrace
from mlxtrace import InterpretableModel
from mlxtrace.prompts import Pair

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)
import numpy as np

from . import models

BATCH, SAMPLE, LENGTH = 8, 6, 12
OPTIONS = {"positions": "regions", "metric": "prob", "progress": False}


def demo_pairs(n: int, seed: int = 0) -> tuple[InterpretableModel, list[Pair]]:
    """The demo, and pairs of its own facts: two subjects of one length in one sentence, lengths mixed."""
    model, rng, pairs = InterpretableModel("demo"), random.Random(seed), []
    facts = json.loads((Path(mlxtrace.__path__[0]) / "demo" / "facts.json").read_text())
    while len(pairs) < n:
        fact = rng.choice(facts["facts"])
        text = rng.choice(facts["relations"][fact["relation"]]["templates"][:4])
        size = len(model.ids(text.format(fact["subject"])))
        others = [
            text.format(f["subject"])
            for f in facts["facts"]
            if f["relation"] == fact["relation"] and f["attribute"] != fact["attribute"]
        ]
        others = [other for other in others if len(model.ids(other)) == size]
        if others:
            clean = text.format(fact["subject"])
            pairs.append(Pair(clean, rng.choice(others), subject=fact["subject"], id=str(len(pairs))))
    return model, pairs


def random_pairs(n: int, seed: int = 0) -> tuple[InterpretableModel, list[Pair]]:
    """The GPT-2-small shape with random weights, and random prompts that differ in a subject of three tokens."""
    shape = models.GPT2_SMALL
    model = InterpretableModel(models.mlx_model(shape, models.draw(shape)), models.tokenizer(shape))
    rng = np.random.RandomState(seed)
    clean = rng.randint(0, shape.vocab, (n, LENGTH))
    corrupted = clean.copy()
    corrupted[:, 2:5] = (clean[:, 2:5] + 1) % shape.vocab
    rows = zip(clean.tolist(), corrupted.tolist(), strict=True)
    return model, [Pair(a, b, subject=range(2, 5), id=str(i)) for i, (a, b) in enumerate(rows)]


def peers_way(model: InterpretableModel, pairs: Sequence[Pair], component: str) -> float:
    """Seconds of one forward pass a cell over batches of eight prompts of one length, from a sample of passes."""
    by_length: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_length.setdefault(len(model.ids(pair.clean)), []).append(pair)
    total = 0.0
    for length, some in by_length.items():
        for first in range(0, len(some), BATCH):
            rows = some[first : first + BATCH]
            clean, corrupted = (
                mx.array([model.ids(getattr(p, side)) for p in rows]) for side in ("clean", "corrupted")
            )
            starts = [model.prompt(p.clean, p.subject).subject.start for p in rows]
            cells = [(i, at) for i in range(model.n_layers) for at in range(min(starts), length)]
            began = time.perf_counter()
            with model.trace(clean) as run:
                pass
            total += time.perf_counter() - began
            sample = random.Random(length).sample(cells, min(SAMPLE, len(cells)))
            began = time.perf_counter()
            for layer, at in sample:
                _one_cell(
                    model, corrupted, run.activations[f"layers.{layer}.{component}"], layer, at, component
                )
            total += (time.perf_counter() - began) * len(cells) / len(sample)
    return total


def _one_cell(model: Any, tokens: mx.array, source: mx.array, layer: int, at: int, component: str) -> None:
    def write(x: mx.array) -> mx.array:
        x = mx.array(x)
        x[:, at] = source[:, at]
        return x

    with model.trace(tokens, {f"layers.{layer}.{component}": write}, cache=False) as run:
        pass
    logits = np.array(run.output[:, -1].astype(mx.float32)).astype(np.float64)
    np.exp(logits - logits.max(-1, keepdims=True))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(name: str, model: InterpretableModel, pairs: list[Pair], component: str, repeats: int) -> str:
    """One row of the table: medians, contenders in turn."""
    options = {**OPTIONS, "component": component}
    joint, single = [], []
    ours = model.activation_patching(pairs, **options)
    alone = [model.activation_patching(pair, **options) for pair in pairs]
    error = max(float(np.abs(a.raw - b.raw).max()) for a, b in zip(ours.singles, alone, strict=True))
    for _ in range(repeats):
        joint.append(timed(lambda: model.activation_patching(pairs, **options)))
        single.append(timed(lambda: [model.activation_patching(pair, **options) for pair in pairs]))
    peers = peers_way(model, pairs, component)
    (a, a_cpu), (b, b_cpu) = ([statistics.median(x) for x in zip(*t, strict=True)] for t in (joint, single))
    return (
        f"| {name}, `{component}` | {len(pairs)} | {a:.2f} | {b:.2f} | {peers:.1f} | {b / a:.1f} | {peers / a:.1f} "
        f"| {b_cpu / a_cpu:.1f} | {error:.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["demo", "gpt2"])
    args = parser.parse_args()
    print("| model | pairs | joint, s | single calls, s | a pass a cell, s | over single | over a pass a cell "
          "| over single, processor time | largest difference |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    for name in args.only:
        model, pairs = (demo_pairs if name == "demo" else random_pairs)(args.pairs)
        for component in ("resid_post", "mlp"):
            print(compare(name, model, pairs, component, args.repeats), flush=True)


if __name__ == "__main__":
    main()
