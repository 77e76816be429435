"""Answers of several tokens in one sweep, against a pass for each cell and answer; and generating under interventions.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.answers       # the GPT-2-small shape and the demo's
    python -m benchmarks.answers --quick                      # seconds, on a toy model

The textbook scores a target and a foil of two tokens by teacher forcing: each is appended to the prompt, and each cell
is a trace of that whole text. It is timed on a sample of the cells, taken times the number of all. The textbook
generates by running the whole text anew for each token, with the edits in place. Contenders take turns, and their
numbers are compared before any time is given; the ratios are of medians of one run.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

import mlx.core as mx
import numpy as np

from mlxtrace import InterpretableModel
from mlxtrace import interventions as iv

from . import THREADS, cases, models
from .timing import timed

LENGTH, NEW, SAMPLE, REPEATS = 12, 32, 16, 3
OFF = 2e-4  # how far log-probabilities of float32 runs of the same cell may be apart


class Scores:
    """A layer x position map of the summed log-probability of a target of two tokens less that of a foil.

    target, foil: token ids; None: drawn, another first token each, so that nothing is shared.
    """

    def __init__(self, model: InterpretableModel, case: cases.Case, seed: int = 0):
        self.model, self.case = model, case
        ids = random.Random(seed).sample(range(1, case.shape.vocab), 4)
        self.target, self.foil = ids[:2], ids[2:]
        self.sites = [f"layers.{layer}.{case.component}" for layer in range(case.shape.layers)]

    def sweep(self) -> np.ndarray:
        """All cells in one sweep, `[layer, position]`."""
        result = self.model.activation_patching(
            list(self.case.clean), list(self.case.corrupted), component=self.case.component, positions="each",
            metric="logit_diff", target=self.target, foil=self.foil, progress=False,
        )  # fmt: skip
        return result.raw

    def by_passes(self, cells: list[tuple[int, int]]) -> list[float]:
        """Some cells, a trace for each and either answer."""
        sources = {}
        for answer in (self.target, self.foil):
            _, cache = self.model.run_with_cache([*self.case.clean, *answer[:-1]], sites=self.sites)
            sources[tuple(answer)] = cache
        return [
            self._logprob(sources, self.target, *cell) - self._logprob(sources, self.foil, *cell)
            for cell in cells
        ]

    def _logprob(self, sources: dict, answer: list[int], layer: int, position: int) -> float:
        source = sources[tuple(answer)][self.sites[layer]]
        edit = {self.sites[layer]: iv.replace_at(source, position)}
        with self.model.trace([*self.case.corrupted, *answer[:-1]], edit, cache=False) as trace:
            pass
        logits = np.array(trace.output[0, -len(answer) :].astype(mx.float32), dtype=np.float64)
        logits -= logits.max(-1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return float(sum(row[token] for row, token in zip(logprobs, answer, strict=True)))


class Steered:
    """Text after a prompt, with a vector added in the middle layer at the prompt's last token and at every new one."""

    def __init__(self, model: InterpretableModel, case: cases.Case, tokens: int):
        self.model, self.prompt, self.tokens = model, list(case.clean), tokens
        self.site = f"layers.{case.shape.layers // 2}"
        self.vector = 0.5 * np.random.RandomState(0).randn(case.shape.width).astype(np.float32)

    def generated(self) -> list[int]:
        """By mlx-lm's loop, with its cache."""
        edits = {self.site: iv.add_vector(self.vector, slice(len(self.prompt) - 1, None))}
        return list(self.model.generate(self.prompt, max_tokens=self.tokens, interventions=edits).tokens)

    def anew(self) -> list[int]:
        """The whole text anew for each token."""
        ids, end = list(self.prompt), len(self.prompt)
        while len(ids) < end + self.tokens:
            edits = {self.site: iv.add_vector(self.vector, range(end - 1, len(ids)))}
            with self.model.trace(ids, edits, cache=False) as trace:
                pass
            ids.append(int(trace.output[0, -1].argmax().item()))
            if ids[-1] == self.model.tokenizer.eos_token_id:
                break
        return ids[end:]


def compare_scores(name: str, scores: Scores, sample: int, repeats: int) -> str:
    """One row: the sweep, the passes that do the same, and their ratio; ValueError where they disagree."""
    cells, sweeps, passes = scores.case.cells, [], []
    map_of_all = scores.sweep()
    off = 0.0
    for repeat in range(repeats):
        some = scores.case.some(sample, repeat)
        sweeps.append(timed(scores.sweep)[0])
        took, found = timed(lambda some=some: scores.by_passes(some))
        passes.append(took * len(cells) / len(some))
        ours = [map_of_all[layer, position] for layer, position in some]
        off = max(off, float(np.abs(np.array(ours) - found).max()))
    if off > OFF:
        raise ValueError(f"{name}: the sweep and the passes are {off:.1e} apart")
    ours, theirs = statistics.median(sweeps), statistics.median(passes)
    return (
        f"| {name}: target and foil of 2 tokens, {len(cells)} cells | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} "
        f"| {off:.0e} |"
    )


def compare_text(name: str, steered: Steered, repeats: int) -> str:
    """One row: tokens with the cache, and with the whole text anew; ValueError where they are not the same."""
    cached, whole = [], []
    if steered.generated() != steered.anew():
        raise ValueError(f"{name}: another text with the cache than without")
    for _ in range(repeats):
        cached.append(timed(steered.generated)[0])
        whole.append(timed(steered.anew)[0])
    ours, theirs = statistics.median(cached), statistics.median(whole)
    return (
        f"| {name}: {steered.tokens} tokens after {len(steered.prompt)}, steered | {ours:.2f} | {theirs:.2f} "
        f"| {theirs / ours:.1f} | same tokens |"
    )


def rows_of(shape: models.Shape, tokens: int, sample: int, repeats: int) -> list[str]:
    """Both comparisons on one shape with random weights."""
    net: Any = models.mlx_model(shape, models.draw(shape))
    model = InterpretableModel(net, models.tokenizer(shape))
    case = cases.different(shape, LENGTH)
    return [
        compare_scores(shape.name, Scores(model, case), sample, repeats),
        compare_text(shape.name, Steered(model, case, tokens), repeats),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    print(
        f"{THREADS} threads\n\n| | ours, s | textbook, s | ratio | largest difference |\n|---|--:|--:|--:|--:|"
    )
    shapes = [models.GPT2_TOY] if args.quick else [models.GPT2_SMALL, models.DEMO]
    for shape in shapes:
        for row in rows_of(shape, 8 if args.quick else NEW, SAMPLE, args.repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
