"""Attribution patching: what it costs beside a forward and a backward pass, and how well it agrees with exact maps.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.attribution [--repeats 5] [--pairs 8]

The cost is that of nine components in one call, on the GPT-2-small shape with random weights, once the model has been
measured. The agreement is Pearson's r with the exact layer x position maps of the demo, over pairs of its facts: the
median and the worst pair.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import mlxtrace
from mlxtrace import InterpretableModel
from mlxtrace.prompts import Pair

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)
import numpy as np

from . import models, sets
from .cases import different

NINE = ["resid_pre", "resid_mid", "resid_post", "attn", "mlp", "head", "q", "k", "v"]
PARTS = ["resid_pre", "attn", "mlp", "resid_post", "neuron"]
HEADED = ["head", "q", "k", "v", "pattern"]
METHODS = ("atp", "atp*", "ig")
OPTIONS: dict[str, Any] = {"positions": "each", "metric": "logit_diff", "progress": False}


def cost(shape: models.Shape, repeats: int) -> str:
    """A line with the best times of the call and of one forward and backward pass, in turn."""
    net, case = models.mlx_model(shape, models.draw(shape)), different(shape, 12)
    model = InterpretableModel(net)
    positions = net.model.wpe.weight  # a small table below all layers, so that its own gradient costs nothing
    tokens = mx.array([case.corrupted])

    def loss(table: mx.array) -> mx.array:
        net.model.wpe.weight = table
        logits = net(tokens)[0, -1]
        return logits[target] - logits[foil]

    foil, target = np.array(net(mx.array([case.clean]))[0, -1]).argsort()[-2:].tolist()
    both, answers = mx.value_and_grad(loss), {"target": target, "foil": foil}
    plain, ours = [], []
    for _ in range(repeats + 1):  # the first of each measures the model
        began = time.perf_counter()
        mx.eval(both(positions))
        plain.append(time.perf_counter() - began)
        net.model.wpe.weight = positions
        began = time.perf_counter()
        model.attribution_patching(list(case.clean), list(case.corrupted), NINE, **answers, **OPTIONS)
        ours.append(time.perf_counter() - began)
    a, b = min(ours[1:]), min(plain[1:])
    return (
        f"{shape.name}, 12 tokens: nine components {a:.2f} s, a forward and a backward pass {b:.2f} s, "
        f"{a / b:.1f} times; the first call {ours[0]:.1f} s"
    )


def maps(model: InterpretableModel, pair: Pair, method: str | None) -> dict[str, np.ndarray]:
    """The map of each component: exact for None, or estimated."""
    ask = model.activation_patching
    how: dict[str, Any] = dict(OPTIONS)
    if method is not None:
        ask, how["method"] = model.attribution_patching, method
    found = dict(zip(PARTS, ask(pair, component=PARTS, **how).raw, strict=True))
    for component in HEADED:
        found[component] = ask(pair, component=component, **how).raw
    return found


def agreement(n: int) -> list[str]:
    """A line for each component, with the median and the worst r of each method."""
    model, pairs = sets.demo_pairs(n)
    correlations: dict[tuple[str, str], list[float]] = {}
    used = 0
    for pair in pairs:
        try:
            exact = maps(model, pair, None)
        except mlxtrace.errors.EffectError:
            continue  # both prompts have one answer
        used += 1
        for method in METHODS:
            for component, found in maps(model, pair, method).items():
                r = float(np.corrcoef(found.ravel(), exact[component].ravel())[0, 1])
                correlations.setdefault((component, method), []).append(r)
    lines = [f"demo, {used} pairs: median r with exact maps, and the worst"]
    for component in [*PARTS, *HEADED]:
        cells = [correlations[component, method] for method in METHODS]
        lines.append(f"{component:>10}  " + "  ".join(f"{np.median(x):5.2f} ({min(x):5.2f})" for x in cells))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=8)
    args = parser.parse_args()
    print(cost(models.GPT2_SMALL, args.repeats), flush=True)
    print("\n".join(agreement(args.pairs)))


if __name__ == "__main__":
    main()
