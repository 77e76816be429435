"""Every edge by itself, against two traces an edge; estimates and circuits beside it.

    python -m benchmarks.edges                    # the GPT-2-small shape (a sample of its edges) and the demo (all)
    python -m benchmarks.edges --quick            # seconds, on a toy model

The textbook runs an edge in two traces: one in which the layer is given the stream with the sender's other value, and
its read is taken; and one in which that read is put in its place. Edges to the logits need one. It is timed on a sample
of the edges, taken times the number of all; with `--sample` so are ours: all edges of some senders to
some layers. The numbers of the edges
that both ran are compared before any time is given. Weights are random, prompts random tokens that differ in every
position but the first.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import mlx.core as mx
import numpy as np

from mlxtrace import InterpretableModel
from mlxtrace.engine.choice import choose
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.path_sweep import PathCell, PathSweep, Receiver, Sender
from mlxtrace.engine.runs import Run

from . import THREADS, cases, models

LENGTH = 12


class Edges:
    """One model and one pair: its edges, and what is measured."""

    def __init__(self, model: InterpretableModel, clean: tuple[int, ...], corrupted: tuple[int, ...]):
        self.model, self.base, self.source = model, corrupted, clean
        self.graph = Graph(model.resolver)
        self.places = [tuple(edge) for edge in np.argwhere(self.graph.upstream).tolist()]
        last = np.array(model.run_with_cache([list(clean)], sites=[])[0][0, -1])
        self.answers = {"target": int(last.argmax()), "foil": int(last.argmin())}

    def sampled(self, n: int, seed: int) -> list[tuple[int, int]]:
        """About n edges: all those of one sender to one layer, for senders and layers drawn at random; 0 for all."""
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for s, r in self.places:
            groups.setdefault((s, self.graph.receivers[r].layer), []).append((s, r))
        found: list[tuple[int, int]] = []
        for i in np.random.RandomState(seed).permutation(len(groups)):
            if n and len(found) >= n:
                break
            found += list(groups.values())[i]
        return found

    def metric(self, logits: np.ndarray) -> np.ndarray:
        x = logits.astype(np.float64)
        return (x[:, self.answers["target"]] - x[:, self.answers["foil"]])[None]

    def ours(self, places: list[tuple[int, int]]) -> tuple[np.ndarray, float]:
        """The effects of some edges, and the seconds that they took, everything before them included."""
        began, every = time.perf_counter(), range(len(self.base))
        engine = choose(self.model.resolver)
        resolver = self.model.resolver
        sweep = PathSweep(resolver, self.graph, Run(self.base), Run(self.source), every, every, engine)
        senders = [Sender(node.name, (node,)) for node in self.graph.senders]
        receivers = [Receiver(read.name, (read,)) for read in self.graph.receivers]
        outcome = sweep.run(
            [PathCell(senders[s], receivers[r], tuple(every)) for s, r in places], self.metric, False
        )
        self.edited = sweep.edited
        return outcome.values[0, :, 0] - outcome.base[0, 0], time.perf_counter() - began

    def textbook(self, places: list[tuple[int, int]]) -> tuple[np.ndarray, float]:
        """The same in two traces an edge; what senders write in both runs is made beforehand, and not timed."""
        changes = {s: self.edited.change_of(self.graph.senders[s]) for s, _ in places}
        plain = self._last(self.base, {})
        began = time.perf_counter()
        found = [self._edge(changes[s], self.graph.receivers[r]) - plain for s, r in places]
        return np.array(found), time.perf_counter() - began

    def _edge(self, change: mx.array, read: Any) -> float:
        if read.kind == "logits":
            return self._last(
                self.base, {f"layers.{self.graph.n_layers - 1}.resid_post": lambda x: x + change}
            )
        stream, site = "resid_mid" if read.kind == "mlp" else "resid_pre", f"layers.{read.layer}.{read.kind}"
        edits = {f"layers.{read.layer}.{stream}": lambda x: x + change}
        with self.model.trace(list(self.base), interventions=edits, cache=False):
            value = getattr(self.model.layers[read.layer], read.kind).output.save()
        if read.kind == "mlp":
            return self._last(self.base, {site: lambda _: value})
        mine = (mx.arange(value.shape[2]) == read.head)[:, None]
        return self._last(self.base, {site: lambda x: mx.where(mine, value, x)})

    def _last(self, ids: tuple[int, ...], edits: dict[str, Any]) -> float:
        with self.model.trace(list(ids), interventions=edits, cache=False) as trace:
            pass
        return float(self.metric(np.array(trace.output[:, -1]))[0, 0])


def spent(work: Any, places: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The effects of some edges, and the seconds that they took: wall and CPU."""
    began = time.process_time()
    effects, seconds = work(places)
    return effects, np.array([seconds, time.process_time() - began])


def compare(name: str, bench: Edges, sample: int, textbook: int, seed: int = 0) -> None:
    """Time both on samples (0: all edges), numbers first; CPU time as well, which a busy machine does not move."""
    total, few = len(bench.places), bench.sampled(sample, seed)
    np.random.RandomState(seed).shuffle(few)
    (_, first), (_, again), (effects, many) = (spent(bench.ours, part) for part in (few[:1], few[:1], few))
    ours = (first + (many - again) * total / len(few)) / total  # what comes before the edges is done once
    began = time.process_time()
    theirs, seconds = bench.textbook(few[:textbook])
    two = np.array([seconds, time.process_time() - began]) / len(theirs)
    largest = np.abs(theirs).max()
    off = np.abs(effects[:textbook] - theirs).max() / largest
    assert largest > 0 and off < 1e-3, f"the two differ by {off:.1e} of {largest:.1e}"
    said = "all" if len(few) == total else f"a sample of {len(few)}"
    print(f"{name}: {total} edges, {len(bench.base)} tokens; largest difference {off:.1e} of {largest:.2g}")
    for what, (wall, cpu), of in (
        ("in rows of few passes", ours, said),
        ("two traces an edge", two, f"a sample of {len(theirs)}"),
    ):
        each = f"{1e3 * wall:.2f} ms an edge, {1e3 * cpu:.2f} ms of CPU"
        print(f"  {what:22} {wall * total:9.1f} s  ({of}, {each})")
    print(f"  times faster           {two[0] / ours[0]:9.1f}; in CPU time {two[1] / ours[1]:.1f}", flush=True)


def estimates(bench: Edges, random: int = 1) -> None:
    """EAP and EAP-IG, and the curve of their circuits."""
    for method in ("eap", "eap-ig"):
        began = time.perf_counter()
        edges = bench.model.edges(
            list(bench.source), list(bench.base), method=method, progress=False, **bench.answers
        )
        scored = time.perf_counter() - began
        curve = edges.curve(random=random)
        took = time.perf_counter() - began - scored
        print(
            f"  {method:7} {scored:6.1f} s; curve of {len(curve.sizes)} sizes {took:6.1f} s: {curve!r}".split(
                "\n"
            )[0]
        )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a toy model")
    parser.add_argument("--sample", type=int, default=1600, help="edges of the GPT-2-small shape; 0 for all")
    parser.add_argument("--textbook", type=int, default=40, help="edges that two traces are timed on")
    options = parser.parse_args()
    print(f"{THREADS} threads")
    shapes = [models.GPT2_TOY] if options.quick else [models.DEMO, models.GPT2_SMALL]
    for shape in shapes:
        model = InterpretableModel(models.mlx_model(shape, models.draw(shape)))
        case = cases.different(shape, LENGTH)
        bench = Edges(model, case.clean, case.corrupted)
        compare(shape.name, bench, options.sample if shape is models.GPT2_SMALL else 0, options.textbook)
        if shape is not models.GPT2_SMALL:
            estimates(bench)


if __name__ == "__main__":
    main()
