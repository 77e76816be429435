"""Samples until cells are known, against a fixed number: batch rows, strongest cells, and how many intervals hold.

    python -m benchmarks.until                  # rows on all of the demo's facts: some twenty minutes of one core
    python -m benchmarks.until --every 50       # ... on each fiftieth
    python -m benchmarks.until --every 60 --long 100    # and against a run of 100 samples for every cell

Rows are those of `result.plan`. A fixed number of the same certainty is, trace by trace, the number of samples that the
cell that took most had, or the corrupted run: a run of a fixed number gives every cell as many.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from mlxtrace import GaussianNoise, InterpretableModel, facts
from mlxtrace.prompts.known import FactReader, read_known
from mlxtrace.prompts.noise_scale import level_of_run

KINDS = (None, "mlp", "attn")
TIED = 1.0  # points of recovery: cells that differ by less are as strong as each other


def agreement(found: Any, long: Any) -> dict[str, float]:
    """What of a trace a longer one bears out: its strongest cell, its strongest five, and its intervals."""
    ours, theirs = found.recovery.reshape(-1), long.recovery.reshape(-1)
    top, best = np.argsort(-ours, kind="stable")[:5], np.sort(theirs)[::-1]
    held = np.abs(ours - theirs) <= found.interval.reshape(-1) + 1e-4
    return {
        "top 1": float(theirs[top[0]] >= best[0] - TIED),
        "top 5": float((theirs[top] >= best[min(4, len(best) - 1)] - TIED).mean()),
        "intervals that hold": float(held.mean()),
        "those of the top 5": float(held[np.argsort(-theirs)[:5]].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="of so many facts one")
    parser.add_argument("--long", type=int, default=0, help="samples of a long run to compare with")
    parser.add_argument("--within", type=float, default=None)
    parser.add_argument("--window", default="10", help="layers of mlp and attn, or auto")
    args = parser.parse_args()
    model, known = InterpretableModel("demo"), facts.load()
    noise = GaussianNoise(samples="until", within=args.within)
    level, *_ = level_of_run(model, noise, [fact.subject for fact in known])
    reader, began = FactReader(model), time.process_time()
    rows: dict[Any, list[list[int]]] = {kind: [] for kind in KINDS}
    agreed, most, unsettled = [], [], 0
    for fact in known[:: args.every]:
        read = read_known(model, fact, False, reader)
        if read.prompt is None:
            continue
        asked: dict[str, Any] = {
            "window": args.window if args.window == "auto" else int(args.window),
            "noise": level,
            "progress": False,
            "target": None if read.answer is None else list(read.answer),
        }
        for kind in KINDS:
            found = model.causal_trace(read.prompt, kind=kind, samples="until", within=args.within, **asked)
            n = len(found.corrupted_raw)
            fixed = [
                model.causal_trace(read.prompt, kind=kind, samples=k, plan_only=True, **asked).rows
                for k in (10, n)
            ]
            rows[kind].append([found.plan.rows, *fixed])
            most.append(n)
            unsettled += sum("not settled" in note for note in found.notes)
            if args.long:
                long = model.causal_trace(read.prompt, kind=kind, samples=args.long, **asked)
                agreed.append(agreement(found, long))
    for kind, of_kind in rows.items():
        until, ten, same = np.sum(of_kind, axis=0)
        print(
            f"{kind or 'state':<6} {len(of_kind)} traces, rows: {until} until, {ten} with 10 samples "
            f"({ten / until:.2f} times), {same} with as many as the cell that took most ({same / until:.1f} times)"
        )
    print(
        f"samples of the cell that took most, or the corrupted run: median {np.median(most):g}, most {max(most)}"
    )
    print(f"traces with a cell that is not settled: {unsettled} of {len(most)}")
    for name in agreed[0] if agreed else ():
        print(f"{name}: {100 * np.mean([one[name] for one in agreed]):.1f} %")
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
