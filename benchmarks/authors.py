"""Edges and circuits beside the code of EAP-IG's authors (Hanna et al. 2024, arXiv:2403.17806): numbers, then time.

    git clone https://github.com/hannamw/EAP-IG
    python -m benchmarks.authors EAP-IG [--shape gpt2-toy gpt2-eight] [--pairs 2]

Their `exact`, `EAP` and `EAP-IG-inputs` scores of every edge, and the logit difference of the circuits that they choose
out of these, on the torch twin of a model with random weights (TransformerLens before version 4). Their code asks for
CUDA and for text: here it is given the CPU and token ids. One thread each.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from mlxtrace import InterpretableModel
from mlxtrace.prompts import Pair

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)
import numpy as np

from . import models, peers

LENGTH, STEPS = 12, 5
METHODS = {"exact": "exact", "eap": "EAP", "eap-ig": "EAP-IG-inputs"}
SHAPES = {
    "gpt2-toy": models.GPT2_TOY,
    "gpt2-eight": models.Shape("gpt2-eight", "gpt2", 4, 256, 1024, 8, 8, 211),
}


class Authors:
    """Their graph, attribution and evaluation, on the torch twin."""

    def __init__(self, source: Path, shape: models.Shape, weights: dict[str, np.ndarray], pairs: list[Pair]):
        import torch

        sys.path.insert(0, str(source / "src"))
        from eap import attribute, evaluate, graph, utils

        torch.set_num_threads(1)
        zeros = torch.zeros
        torch.zeros = lambda *a, **k: zeros(
            *a, **({**k, "device": "cpu"} if k.get("device") == "cuda" else k)
        )
        for module in (attribute, evaluate, utils):
            module.tokenize_plus = _as_ids
        self.attribute, self.evaluate, self.graph = attribute, evaluate, graph
        self.model = peers._hooked(shape, weights)
        for name in ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in"):
            setattr(self.model.cfg, name, True)
        self.model.setup()
        self.pairs = pairs
        self.batches = [([pair.clean], [pair.corrupted], [pair]) for pair in pairs]

    @staticmethod
    def metric(logits: Any, _clean: Any, _lengths: Any, labels: list[Pair]) -> Any:
        return logits[:, -1, labels[0].target] - logits[:, -1, labels[0].foil]

    def scores(self, method: str) -> tuple[Any, dict[tuple[str, str], float]]:
        """Their graph, and the score of each edge by our names."""
        graph = self.graph.Graph.from_model(self.model)

        def summed(*args: Any) -> Any:
            return self.metric(*args).sum()

        metric = self.metric if method == "exact" else summed
        steps = {"ig_steps": STEPS} if method == "eap-ig" else {}
        self.attribute.attribute(
            self.model, graph, self.batches, metric, method=METHODS[method], quiet=True, **steps
        )
        return graph, {_named(edge.name): float(edge.score) for edge in graph.edges.values()}

    def circuit(self, graph: Any, n: int, greedy: bool) -> tuple[int, float]:
        """How many edges their circuit has once pruned, and its metric, averaged over the pairs."""
        (graph.apply_greedy if greedy else graph.apply_topn)(n, True)
        value = self.evaluate.evaluate_graph(self.model, graph, self.batches, self.metric, quiet=True).mean()
        return graph.count_included_edges(), float(value)


def _as_ids(_model: Any, inputs: list, max_length: int | None = None) -> tuple:
    import torch

    tokens = torch.tensor([list(ids) for ids in inputs])
    mask = torch.ones_like(tokens)
    return tokens, mask, mask.sum(1), tokens.shape[1]


def _named(edge: str) -> tuple[str, str]:
    sender, receiver = edge.split("->")
    return ("embed" if sender == "input" else sender), receiver.replace("<", ".").replace(">", "")


def drawn_pairs(model: InterpretableModel, n: int) -> list[Pair]:
    """Random prompts that differ in two tokens; the answers are the two runs' own."""
    random, vocab, pairs = np.random.RandomState(0), model.vocab_size, []
    while len(pairs) < n:
        clean = random.randint(0, vocab, LENGTH).tolist()
        corrupted = [*clean[:3], *random.randint(0, vocab, 2).tolist(), *clean[5:]]
        target, foil = np.array(model.net(mx.array([clean, corrupted])))[:, -1].argmax(-1).tolist()
        if target != foil:
            pairs.append(Pair(clean, corrupted, target=target, foil=foil, id=str(len(pairs))))
    return pairs


def beside(source: Path, shape: models.Shape, n: int) -> None:
    """Print the largest differences and both times, method by method."""
    weights = models.draw(shape)
    model = InterpretableModel(models.mlx_model(shape, weights))
    pairs = drawn_pairs(model, n)
    theirs = Authors(source, shape, weights, pairs)
    model.edges(
        pairs[:1], method="eap", metric="logit_diff", progress=False
    )  # what is measured once per model
    for method in METHODS:
        began = time.perf_counter()
        ours = model.edges(
            pairs, method=method, metric="logit_diff", direction="noise", steps=STEPS, progress=False
        )
        took = time.perf_counter() - began
        began = time.perf_counter()
        graph, scores = theirs.scores(method)
        their_time = time.perf_counter() - began
        error = max(abs(ours[edge] - score) for edge, score in scores.items())
        largest = max(map(abs, scores.values()))
        print(
            f"{shape.name}, {n} pairs, {method}: {len(scores)} edges, largest score {largest:.3g}, largest difference "
            f"{error:.1e}; ours {took:.2f} s, theirs {their_time:.2f} s, {their_time / took:.1f} times"
        )
        off = 0.0
        for size in (len(scores) // 50, len(scores) // 10, len(scores) // 3):
            for by in ("top", "greedy"):
                edges, value = theirs.circuit(graph, size, by == "greedy")
                circuit = ours.circuit(size, by=by)
                if circuit.n != edges:
                    print(f"  {by} {size}: {circuit.n} edges, theirs {edges}")
                off = max(off, abs(circuit.faithfulness(pairs).values.mean() - value))
        print(f"  six circuits out of these scores: largest difference of their logit differences {off:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a clone of the authors' repository")
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--pairs", type=int, default=2)
    args = parser.parse_args()
    for name in args.shape:
        beside(args.source, SHAPES[name], args.pairs)


if __name__ == "__main__":
    main()
