"""The manual's own figures, from the models that ship: `python docs/figures.py [NAME ...]` writes docs/figures/*.png.

engine       how a map of cells becomes the rows of one pass (docs/engine.md)
directions   restoring and corrupting where two parts are both needed, and where either is enough (docs/choosing.md)
metrics      heads by logit difference, log-probability and probability
corruption   another subject against noise of three levels
windows      causal traces in windows of 1, 3 and 10 layers

Each computes what it draws; figures/numbers.json has the numbers that the pages quote, which a test holds to the text.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from mlxtrace import GaussianNoise, InterpretableModel, compiled, facts, prompts
from mlxtrace.engine import choice
from mlxtrace.engine.sweep import Sweep
from mlxtrace.experiments import grid, pairs

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#7b4fa0", "#8c8c8c"
STYLE = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9}
QUIET = {"progress": False}
EIFFEL = "The Eiffel Tower is located in the city of", "The Colosseum is located in the city of"
Numbers = dict[str, object]


def sheet(width: float, height: float, rows: int = 1, columns: int = 1, **sharing: object):
    """A figure and its axes `[rows, columns]`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def titled(axis, title: str) -> None:
    axis.set_title(title, loc="left")


# ---- the engine


def engine() -> tuple[Figure, Numbers]:
    """The cells of a map, as they are planned: not run, or a row from the layer on in which it first differs."""
    model = InterpretableModel("demo")
    pair = pairs.pair(model, *EIFFEL)
    cells = grid.make_grid(model, pair, "resid_post", None, "each", None, 1).cells(pair.roles("denoise"))
    sweep = Sweep(model.resolver, pair.corrupted, pair.clean, cells, choice.choose(model.resolver, "auto"))
    (part,) = sweep.fit()
    (group,) = part.groups
    start, tokens, layers = (
        sweep.request.start_of(group, part.prefix),
        len(pair.corrupted.ids),
        model.n_layers,
    )
    births = sorted(cell.birth for cell in group)
    born = np.full((layers, tokens), np.nan)
    for cell in group:
        born[divmod(cell.index, tokens)] = cell.birth
    figure, ((cells_axis, rows_axis),) = sheet(8.2, 3.7, columns=2, width_ratios=(1, 1.35))
    _cells(cells_axis, born, model.to_str_tokens(EIFFEL[1]))
    _rows(rows_axis, births, layers, len(cells))
    computed = sum(layers - birth for birth in births)
    with_base = (computed + layers) * (tokens - start)
    numbers = {
        "cells": len(cells),
        "null": len(cells) - len(group),
        "start": start,
        "textbook": len(cells) * layers * tokens,
        "fanout": with_base + 2 * layers * tokens,  # and the two plain runs
    }
    return figure, numbers


def _cells(axis, born: np.ndarray, tokens: list[str]) -> None:
    colours = colormaps["viridis"].copy()
    axis.imshow(born, origin="lower", cmap=colours, aspect="auto", vmin=1, vmax=len(born))
    axis.set_facecolor("white")
    for layer, position in np.argwhere(np.isnan(born)):
        axis.add_patch(
            _box(
                position - 0.5, layer - 0.5, 1, 1, facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="///", lw=0
            )
        )
    axis.set_xticks(
        range(len(tokens)), [token.strip() for token in tokens], rotation=60, ha="right", fontsize=7
    )
    axis.set_yticks(range(0, len(born), 2))
    axis.set_ylabel("layer")
    said = {"size": 7, "ha": "center", "va": "center", "bbox": {"fc": "white", "ec": "none", "pad": 1.5}}
    axis.text(0.5, 5, "before the first difference:\nshared by all rows", rotation=90, **said)
    axis.text(5.5, 11, "only the last token is read", **said)
    titled(axis, "Cells of the map; hatched ones cannot differ\nfrom the base run and are not run")


def _rows(axis, births: list[int], layers: int, cells: int) -> None:
    colours = colormaps["viridis"]
    axis.add_patch(_box(0, 0, cells, layers, facecolor="#f1f1f1", edgecolor="#cccccc", lw=0.6))
    axis.add_patch(_box(0, 0, 2.2, layers, facecolor="black"))
    for i, birth in enumerate(births):
        if birth < layers:
            shade = colours((birth - 1) / (layers - 1))
            axis.add_patch(_box(2.2 + i, birth, 1, layers - birth, facecolor=shade, lw=0))
    axis.set(xlim=(0, cells), ylim=(0, layers), ylabel="layer", xlabel="rows of the batch, one for each cell")
    axis.set_yticks(range(0, layers + 1, 2))
    titled(axis, "One pass: a row is born at the layer where\nits cell first differs from the base run")
    blank = {"facecolor": "#f1f1f1", "edgecolor": "#cccccc", "label": "what a pass for each cell computes"}
    marks = [
        Patch(color="black", label="base run"),
        Patch(color=colours(0.45), label="a cell"),
        Patch(**blank),
    ]
    axis.legend(handles=marks, loc="center", bbox_to_anchor=(0.7, 0.25), frameon=False, fontsize=7.5)


def _box(x: float, y: float, width: float, height: float, **look: object):
    return Rectangle((x, y), width, height, **look)


# ---- both directions


AND_OR = {  # of the compiled model: which pair, which component, and what makes one cell
    "AND: a person is known by first and last name": ("person 1", "resid_pre", ("first name", "last name")),
    "OR: a lookup, and a backup that answers instead": ("nobody 1", "attn", ("lookup", "backup")),
}


def directions() -> tuple[Figure, Numbers]:
    """Restoring and corrupting either part and both, beside what the program's interpreter says."""
    program = compiled.lookup()
    model = InterpretableModel(program)
    known = {pair.id: pair for pair in program.pairs}
    figure, axes = sheet(8.2, 3.6, 2, 2, sharex=True)
    numbers: Numbers = {}
    for row, (title, (name, component, parts)) in enumerate(AND_OR.items()):
        for column, direction in enumerate(("denoise", "noise")):
            pair = known[name]
            found, truth = _either_and_both(model, program.interpreter, pair, component, direction)
            axis, labels = axes[row, column], [*parts, "both"]
            axis.barh(range(3), found, color=BLUE if column == 0 else ORANGE, height=0.55)
            axis.plot(truth, range(3), "D", color="black", ms=4.5, clip_on=False, label="by the interpreter")
            axis.set(xlim=(0, 112), ylim=(2.6, -0.6), xticks=range(0, 101, 25))
            axis.set_yticks(range(3) if column == 0 else [], labels if column == 0 else [])
            for i, value in enumerate(found):
                axis.annotate(
                    f"{value:.0f}", (value, i), xytext=(7, 0), textcoords="offset points", va="center"
                )
            titled(axis, title if column == 0 else "")
            numbers[f"{title[:3].strip(':')} {direction}"] = [round(float(x), 6) for x in found]
            assert np.array_equal(found, truth)
    axes[0, 0].annotate("restored into the corrupted run", (0, 1.22), xycoords="axes fraction", weight="bold")
    axes[0, 1].annotate("corrupted in the clean run", (0, 1.22), xycoords="axes fraction", weight="bold")
    for axis in axes[1]:
        axis.set_xlabel("recovery of the answer, percent")
    axes[1, 1].legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.16), fontsize=7.5)
    return figure, numbers


def _either_and_both(
    model, interpreter, pair, component: str, direction: str
) -> tuple[np.ndarray, np.ndarray]:
    """Recovery of the first part, the second, and both together: by patching, and by the program's rules."""
    how = {"component": component, "metric": "logit_diff", "direction": direction, **QUIET}
    last = len(model.ids(pair.clean)) - 1
    if component == "attn":
        cells = [(2, [last]), (3, [last]), ([2, 3], [last])]
        singles = model.activation_patching(pair, positions="last", layers=[2, 3], **how)
        both = model.activation_patching(pair, positions="last", layers=[3], window=2, **how)
        found = [*singles.recovery, *both.recovery]
    else:
        places = [[1], [2], [1, 2]]
        cells = [(0, place) for place in places]
        runs = [model.activation_patching(pair, positions=place, layers=0, **how) for place in places]
        found, singles = [run.recovery.item() for run in runs], runs[0]
    ids = [interpreter.rules.words.index(answer.strip()) for answer in (pair.target, pair.foil)]
    told = []
    for layers, positions in cells:
        logits = interpreter.cell(
            pair.clean, pair.corrupted, component, layers, positions, direction=direction
        )
        margin = logits[ids[0]] - logits[ids[1]]
        told.append(100 * (margin - singles.corrupted) / (singles.clean - singles.corrupted))
    return np.array(found), np.array(told)


# ---- metrics, corruptions, windows


def demo_pairs(n: int) -> tuple[InterpretableModel, list]:
    """The demo and the first n of its pairs that it can be asked."""
    model = InterpretableModel("demo")
    return model, prompts.suitable(model, prompts.load("facts", model=model, n=n)).pairs


def metrics() -> tuple[Figure, Numbers]:
    """Attention at the last token, restored layer by layer, on three scales."""
    model, few = demo_pairs(64)
    names = {"logit_diff": BLUE, "logprob": GREEN, "kl": PURPLE, "prob": ORANGE}
    where = {"metric": list(names), "positions": "last", **QUIET}
    attention = model.activation_patching(few, component="attn", **where)
    heads = model.activation_patching(few, component="head", **where)
    figure, ((left, right),) = sheet(8.2, 3.1, columns=2, width_ratios=(1.25, 1))
    looks = {"kl": {"ls": "--", "lw": 2.2}}
    for i, (name, colour) in enumerate(names.items()):
        layers, values, half = range(model.n_layers), attention.recovery[i], attention.interval[i]
        left.plot(layers, values, "o-", ms=3, color=colour, label=name, **looks.get(name, {}))
        left.fill_between(layers, values - half, values + half, color=colour, alpha=0.18, lw=0)
    left.set(xlabel="layer", ylabel="recovery, percent")
    left.legend(frameon=False)
    titled(left, f"Attention at the last token restored, {len(few)} pairs")
    order = np.argsort(-heads.recovery[0].ravel())[:16]
    for name in ("logit_diff", "prob"):
        i = list(names).index(name)
        right.plot(heads.recovery[i].ravel()[order], "o-", ms=3, color=names[name], label=name)
    labels = [f"{k // model.n_heads}.{k % model.n_heads}" for k in order]
    right.set_xticks(range(len(order)), labels, rotation=90, fontsize=7)
    right.set(xlabel="layer.head, the 16 strongest", ylabel="recovery, percent")
    right.legend(frameon=False)
    titled(right, "Single heads at the last token")
    peak = {name: round(float(attention.recovery[i].max()), 1) for i, name in enumerate(names)}
    best = {name: round(float(heads.recovery[i].max()), 4) for i, name in enumerate(names)}
    return figure, {"pairs": len(few), "attention": peak, "head": best}


def corruption() -> tuple[Figure, Numbers]:
    """States restored at two places of the subject, after noise and after another subject."""
    model, few = demo_pairs(32)
    looks = {"another subject": (None, "black"), "noise s1": ("s1", "#f0a35e"), "noise s3": ("s3", ORANGE),
             "noise s10": ("s10", "#7a2e00")}  # fmt: skip
    where = {"component": "resid_post", "positions": "regions", "metric": "logit_diff", **QUIET}
    shown = {"middle subject tokens": "Middle tokens of the subject", "last subject token": "Its last token",
             "last token": "The prompt's last token"}  # fmt: skip
    figure, (axes,) = sheet(8.2, 2.9, columns=3, sharey=True)
    numbers: Numbers = {"pairs": len(few)}
    for name, (level, colour) in looks.items():
        noise = [] if level is None else [GaussianNoise(level=level, samples=5)]
        found = model.activation_patching(few, *noise, **where)
        for axis, region in zip(axes, shown, strict=True):
            at = found.coords["region"].index(region)
            values, half = found.recovery[:, at], found.interval[:, at]
            axis.plot(values, color=colour, label=name, marker="o", ms=2.5)
            axis.fill_between(
                range(len(values)), values - half, values + half, color=colour, alpha=0.15, lw=0
            )
            numbers[f"{name}, {region}"] = round(float(values.max()), 1)
        numbers[f"{name}, corrupted"] = round(float(found.corrupted), 2)
    numbers["clean"] = round(float(found.clean), 2)
    for axis, title in zip(axes, shown.values(), strict=True):
        axis.set(xlabel="layer", xticks=range(0, model.n_layers, 2))
        titled(axis, title)
    axes[0].set_ylabel("recovery of logit_diff, percent")
    axes[0].legend(frameon=False, fontsize=7.5)
    return figure, numbers


def windows() -> tuple[Figure, Numbers]:
    """Average indirect effects of MLPs and attention at two tokens, in windows of 1, 3 and 10 of the 12 layers."""
    model, some = InterpretableModel("demo"), facts.load("demo")[::30]
    figure, axes = sheet(8.2, 4.2, 2, 2, sharex=True, sharey=True)
    places = {"last subject token": 2, "last token": 5}
    planted = {"last subject token": (0, 3), "last token": (4, 8)}
    numbers: Numbers = {}
    for window, colour in ((1, BLUE), (3, ORANGE), (10, GREY)):
        with tempfile.TemporaryDirectory() as folder:
            run = {"samples": 3, "window": window, "kinds": ("mlp", "attn"), **QUIET}
            average = facts.run(model, some, out=folder, **run)
        for row, kind in enumerate(("mlp", "attn")):
            for column, (region, at) in enumerate(places.items()):
                values = average.of(kind)[at]
                label = f"{window} layer{'s' if window > 1 else ''} at a time"
                axes[row, column].plot(values, "o-", ms=3, color=colour, label=label)
                wide = [int(layer) for layer in np.flatnonzero(values > values.max() / 2)]
                numbers[f"{kind}, {region}, {window}"] = [round(float(values.max()), 2), wide]
    for row, kind in enumerate(("MLP", "attention")):
        for column, region in enumerate(places):
            axis, (first, last) = axes[row, column], planted[region]
            axis.axvspan(first - 0.5, last + 0.5, color="#f3efd8", lw=0, zorder=0)
            axis.axhline(0, color="0.8", lw=0.7, zorder=1)
            titled(axis, f"{kind}, {region}")
    for axis in axes[1]:
        axis.set_xlabel("layer at the window's centre")
    for axis in axes[:, 0]:
        axis.set_ylabel("indirect effect, p")
    axes[0, 1].legend(frameon=False, fontsize=7.5)
    return figure, {"facts": len(some), **numbers}


FIGURES: dict[str, Callable[[], tuple[Figure, Numbers]]] = {
    made.__name__: made for made in (engine, directions, metrics, corruption, windows)
}


def main(names: list[str]) -> None:
    """Write the figures of these names, or all, and their numbers."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "numbers.json"
    numbers = json.loads(file.read_text()) if file.is_file() else {}
    warnings.simplefilter("ignore")
    for name in names or FIGURES:
        with rc_context(STYLE):
            figure, numbers[name] = FIGURES[name]()
            figure.savefig(FOLDER / f"{name}.png", dpi=160)
        print(f"{FOLDER.name}/{name}.png", numbers[name])
    file.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
