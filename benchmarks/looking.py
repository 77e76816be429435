"""How long figures, tables and pages take, and how large they are, by the size of what is shown.

    python -m benchmarks.looking              # results of up to 2,000 tokens, 126 layers and 128 heads
    python -m benchmarks.looking --quick      # the smallest only

Results are made up: a few tokens matter, the others move by a little noise. No model is run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mlxtrace
from mlxtrace.results.patching_result import PatchingResult
from mlxtrace.results.saved import Answer

SIZES = ((12, 12, 8), (100, 48, 32), (500, 80, 64), (2000, 126, 128))  # tokens, layers, heads
CLEAN, CORRUPTED = 0.9, 0.1


def made_up(tokens: int, layers: int, heads: int | None = None) -> PatchingResult:
    """Maps of three components by layer and token, or one of heads by layer and head."""
    random, names = np.random.default_rng(0), [f" word{i}" for i in range(tokens)]
    other = [" other" if i in (tokens // 2, tokens // 2 + 1) else name for i, name in enumerate(names)]
    components = ["head"] if heads else ["resid_post", "mlp", "attn"]
    last = {"head": list(range(heads))} if heads else {"position": list(range(tokens))}
    coords = {**({} if heads else {"component": components}), "layer": list(range(layers)), **last}
    raw = CORRUPTED + 0.002 * random.standard_normal([len(x) for x in coords.values()])
    if heads:
        raw[layers // 2, : heads // 2] += 0.3
    else:
        raw[:, : layers // 2, tokens // 2] += 0.7
        raw[:, layers // 2 :, -1] += 0.7
    return PatchingResult(
        raw=raw, dims=tuple(coords), coords=coords, clean={"prob": CLEAN}, corrupted={"prob": CORRUPTED},
        metrics=["prob"], components=components, target=Answer(5, " Paris", CLEAN, CORRUPTED),
        foil=Answer(6, " Rome", 0.01, 0.8), tokens=names, corrupted_tokens=other,
        subject_range=range(tokens // 2, tokens // 2 + 2), direction="denoise", window=1, plan=None,
        clean_text="".join(names), corrupted_text="".join(other), model="made up",
    )  # fmt: skip


def seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long something takes, and what it gives."""
    start = time.perf_counter()
    given = act()
    return time.perf_counter() - start, given


def row(size: tuple[int, int, int], folder: Path) -> str:
    """One line of the table: of maps and heads together."""
    tokens, layers, heads = size
    results = [made_up(tokens, layers), made_up(tokens, layers, heads)]
    drawn, figures = seconds(lambda: [r.plot(folder / f"{i}.png") for i, r in enumerate(results)])
    widest = "x".join(f"{x:.0f}" for x in np.max([f.get_size_inches() for f in figures], axis=0))
    table = max(len(r._repr_html_()) for r in results) / 1e3
    lines = max(len(repr(r).splitlines()) for r in results)
    explored, _ = seconds(lambda: [r.explore(folder / f"{i}.html") for i, r in enumerate(results)])
    file = max((folder / f"{i}.html").stat().st_size for i in range(2)) / 1e6
    paged, page = seconds(lambda: mlxtrace.report(results, folder / "page.html"))
    page_size = page.stat().st_size / 1e6
    cells = [
        f"{tokens:,} x {layers} x {heads}", f"{drawn:.1f}", widest, str(lines), f"{table:.0f}",
        f"{explored:.1f}", f"{file:.1f}", f"{paged:.1f}", f"{page_size:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    sizes = SIZES[:1] if parser.parse_args().quick else SIZES
    row(SIZES[0], Path(tempfile.mkdtemp()))  # fonts and plotly are loaded once
    print(
        "| tokens x layers x heads | figures, s | at most, inches | lines printed | table in a notebook, kB "
        "| interactive, s | file, MB | page, s | page, MB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for size in sizes:
        print(row(size, Path(tempfile.mkdtemp())), flush=True)


if __name__ == "__main__":
    main()
