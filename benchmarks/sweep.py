"""mlxtrace against the textbook, in one run: times, agreement, the lower bound, and a figure of how time grows.

    python -m benchmarks.sweep                       # everything: half an hour on two cores
    python -m benchmarks.sweep --only gpt2 --repeats 3 --sample 48
    python -m benchmarks.sweep --quick --no-peers    # seconds, on toy models

All contenders run the same float32 weights and prompts, with OPENBLAS_NUM_THREADS threads (two unless set) and then
with one, one after the other in each repeat; times are medians. The peers have a process of their own: a BLAS that is
loaded ahead of torch's makes two of its threads three times slower than one. `benchmarks.tables` prints what
RESULTS.md has; ratios there are of our time with all threads to theirs with as many as they are fastest with.
`--sample` bounds the cells that a contender which runs one pass per cell is timed on in each repeat; 0 is all of them.
The checked differences are those of all cells that ran. Prompts are random tokens that differ at every position but
the first, so that null cells are not what makes a sweep fast; one case says how it is when only a subject differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlx.core as mx

from mlxtrace import InterpretableModel

from . import THREADS, cases, figure, floor, models, peers, resources, tables, targets
from .cases import Case
from .contenders import Ours, WithThreads, top_token
from .models import Shape
from .timing import AGREE, Row, compare

FEW = 6  # cells a repeat that a loop behind a long preamble is timed on
HERE = Path(__file__).parent
SECTIONS = ("gpt2", "demo", "resources", "scaling")
SCALED = ("layers", "positions", "samples")


class Bench:
    """One model, its peers and its speeds; `run` compares contenders on a case."""

    def __init__(self, section: str, shape: Shape, options: argparse.Namespace, demo: bool = False):
        self.section, self.shape, self.options = section, shape, options
        if demo:
            self.model = InterpretableModel("demo")
            weights = models.weights_of(self.model.net)
        else:
            weights = models.draw(shape)
            self.model = InterpretableModel(models.mlx_model(shape, weights))
        names = [n for n in peers.NAMES if shape.family == "gpt2" or n == "nnsight"]
        self.peers = [] if options.no_peers else peers.away(names, shape, weights)
        self.speeds = floor.matmul_speed(shape), floor.activation_seconds(shape)
        print(f"{shape.name}, {shape.layers} layers: matmul {self.speeds[0] / 1e9:.0f} GFLOP/s,", end=" ")
        print(f"activation function {self.speeds[1] * 1e6:.1f} us a token and layer", flush=True)

    def run(self, case: Case, engines: tuple[str, ...], sample: int | None = None) -> list[Row]:
        case = replace(case, target=top_token(self.model, case))
        both = [Ours(self.model, engine) for engine in engines if engine != "flat"]
        both += [peer for peer in self.peers if peer.can(case)]
        counts = (THREADS,) if self.section in SCALED else dict.fromkeys((THREADS, 1))
        contenders = [WithThreads(contender, n) for n in counts for contender in both]
        if "flat" in engines:
            contenders.append(WithThreads(Ours(self.model, "flat"), THREADS))
        sample = self.options.sample if sample is None else sample
        rows = compare(self.section, case, contenders, self.speeds, self.options.repeats, sample or 1 << 30)
        for row in rows:
            print(line(row), flush=True)
        return rows


def line(row: Row) -> str:
    what = f"{row.case}, {row.component}" + (f" window {row.window}" if row.window > 1 else "")
    part = "" if row.timed == row.cells else f", timed on {row.timed}"
    return (
        f"  {what:42} {row.contender:34} {row.threads} threads {row.seconds:9.3f} s  x{row.ratio:6.2f}  "
        f"off {row.off_prob:.1e} prob {row.off_logit:.1e} logit  ({row.cells} cells{part}; "
        f"floor {row.floor:.3f} s + activations {row.activation:.3f} s)"
    )


def gpt2(options: argparse.Namespace) -> list[Row]:
    """The maps of a GPT-2-small shape."""
    shape = models.GPT2_TOY if options.quick else models.GPT2_SMALL
    bench, rows = Bench("gpt2", shape, options), []
    short, middle, long, shared = (6, 8, 10, 16) if options.quick else (12, 24, 48, 256)
    every, ours = ("fanout", "flat", "loop"), ("fanout",)
    rows += bench.run(cases.different(shape, short), every)
    rows += bench.run(cases.different(shape, short, component="resid_pre"), ours)
    rows += bench.run(cases.different(shape, middle), every)
    rows += bench.run(cases.different(shape, middle, component="resid_pre"), ours)
    rows += bench.run(cases.realistic(shape, short), ("fanout", "loop"))
    rows += bench.run(cases.realistic(shape, middle), ("fanout", "loop"))
    rows += bench.run(cases.different(shape, short, component="mlp", window=3), every)
    rows += bench.run(cases.noised(shape, short), ours)
    rows += bench.run(cases.noised(shape, short, component="mlp", window=3), ours)
    rows += bench.run(cases.different(shape, long), ("fanout", "loop"))
    rows += bench.run(cases.preamble(shape, shared, 4 if options.quick else 16), ("fanout", "loop"), FEW)
    return rows + long_preamble(options)


def long_preamble(options: argparse.Namespace) -> list[Row]:
    """1,024 tokens that both prompts share, in a GPT-2-small shape with more positions than GPT-2 has."""
    shape = models.GPT2_TOY if options.quick else models.GPT2_LONG
    case = cases.preamble(shape, 80 if options.quick else 1024, 4 if options.quick else 16)
    return Bench("gpt2", shape, options).run(case, ("fanout", "loop"), 4)


def demo(options: argparse.Namespace) -> list[Row]:
    """The model that ships, and its twin in torch."""
    shape = models.LLAMA_TOY if options.quick else models.DEMO
    bench = Bench("demo", shape, options, demo=not options.quick)
    lengths = (6,) if options.quick else (12, 24)
    return [row for n in lengths for row in bench.run(cases.different(shape, n), ("fanout", "flat", "loop"))]


def scaling(options: argparse.Namespace) -> list[Row]:
    """How time grows with layers, with positions and with noise samples."""
    full = models.GPT2_TOY if options.quick else models.GPT2_SMALL
    depths, lengths, samples = ((3, 6, 12, 24), (6, 12, 24, 48), (1, 3, 10))
    depths, lengths, samples = ((2, 3), (4, 6), (1, 2)) if options.quick else (depths, lengths, samples)
    length, sample, rows = lengths[1], 16, []
    for depth in depths:
        shape = replace(full, layers=depth)
        rows += Bench("layers", shape, options).run(
            cases.different(shape, length), ("fanout", "loop"), sample
        )
    bench = Bench("positions", full, options)
    for n in lengths:
        rows += bench.run(cases.different(full, n), ("fanout", "loop"), sample)
    bench.section = "samples"
    for n in samples:
        rows += bench.run(cases.noised(full, length, n), ("fanout", "loop"), 12)
    return rows


def machine() -> dict:
    """The machine in words, and the versions of what ran on it."""
    packages = ("mlx", "mlx-lm", "numpy", "torch", "transformers", "nnsight", "transformer-lens")
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    where = {"system": f"{platform.system()} {platform.machine()}", "device": str(mx.default_device())}
    return {**where, "threads": THREADS, "python": platform.python_version(), "versions": found}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.sweep", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=48, help="cells per repeat of the loops; 0: all")
    parser.add_argument("--no-peers", action="store_true", help="time mlxtrace alone")
    parser.add_argument("--quick", action="store_true", help="toy models: does it run?")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and scaling.png")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the sections; 1 when contenders disagree."""
    options = parse(arguments)
    if not options.no_peers and not importlib.util.find_spec("torch"):
        options.no_peers = True
        print("torch is not installed: no peers (install the extra `bench`)")
    about = machine()
    print(json.dumps(about))
    rows: list[Row] = []
    for name, section in (("gpt2", gpt2), ("demo", demo), ("scaling", scaling)):
        if name in options.only:
            rows += section(options)
    beside = resources.measure(options.quick, options.repeats) if "resources" in options.only else {}
    reached = [] if options.quick else targets.reached(rows, beside)
    differing = [r for r in rows if r.off_prob > AGREE["prob"] and r.off_logit > AGREE["logit"]]
    for row in differing:
        print(f"DISAGREES: {line(row)}")
    found = {"machine": about, "rows": [r.to_dict() for r in rows], "resources": beside, "targets": reached}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(tables.tables(found))
    if "scaling" in options.only:
        figure.draw(found["rows"], options.out / "scaling.png")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
