"""The figure: seconds of a whole map against layers, positions and noise samples."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

PANELS = (
    ("layers", "layers", "layers", "{length} positions"),
    ("positions", "length", "positions", "{layers} layers"),
    ("samples", "samples", "noise samples", "{layers} layers, {length} positions"),
)
STYLES = {
    "mlxtrace fanout": ("mlxtrace, fan-out", "#0b6e4f", "o"),
    "mlxtrace loop": ("mlxtrace, one pass per cell", "#8a8a8a", "s"),
    "nnsight loop": ("nnsight, one trace per cell", "#c1440e", "^"),
    "ROME authors' way": ("ROME's batch per cell (torch)", "#3d5a98", "D"),
}


def draw(rows: list[dict], path: Path) -> None:
    """Three panels, log-log; the dashed line is the lower bound, at the matmul speed of the machine."""
    with plt.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        made, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharey=True, layout="constrained")
        handles: dict = {}
        for axis, (section, key, label, fixed) in zip(axes, PANELS, strict=True):
            shown = [r for r in rows if r["section"] == section]
            _panel(axis, shown, key, handles)
            axis.set_xlabel(f"{label}  ({fixed.format(**shown[0])})")
        axes[0].set_ylabel("seconds for the whole map")
        made.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
        made.savefig(path, dpi=200)
        plt.close(made)


def _panel(axis, rows: list[dict], key: str, handles: dict) -> None:
    xs = sorted({r[key] for r in rows})
    for contender, (label, colour, marker) in STYLES.items():
        found = sorted((r[key], r["seconds"]) for r in rows if r["contender"] == contender)
        if found:
            wide = 1.8 if contender == "mlxtrace fanout" else 1.1
            (handles[label],) = axis.plot(
                *zip(*found, strict=True), color=colour, marker=marker, ms=3.5, lw=wide
            )
    least = sorted({(r[key], r["floor"]) for r in rows if r["contender"] == "mlxtrace fanout"})
    if least:
        (handles["lower bound (matmuls alone)"],) = axis.plot(*zip(*least, strict=True), "k--", lw=0.9)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(xs))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([str(x) for x in xs])
    axis.grid(True, axis="y", lw=0.3, color="#cccccc")
