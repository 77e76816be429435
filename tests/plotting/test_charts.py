"""Charts by layer: nothing lies over anything, at any size, on whatever they are drawn, on light and dark grounds."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.style
import numpy as np
import pytest
from bounds import faults
from edges_made_up import made_up
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_circuit_curve import curve
from test_colours import lab
from test_patching_result import make
from test_path_maps import large
from test_screen_figure import Found

from mlxtrace import plotting
from mlxtrace.errors import InputError
from mlxtrace.plotting.charts import by_layer, legend
from mlxtrace.plotting.circuit_curves import circuit_curve
from mlxtrace.plotting.circuit_graph import circuit_graph
from mlxtrace.plotting.edge_maps import edge_map
from mlxtrace.plotting.path_maps import path_map
from mlxtrace.plotting.screen_figure import screen_figure
from mlxtrace.plotting.sheet import Sheet
from mlxtrace.plotting.subtraction import difference
from mlxtrace.results.average_trace import ROLES
from mlxtrace.results.saved import Answer

LONG = "mlx-community/a-model-with-a-long-name-4bit, fine-tuned on facts, number"


def numbers(*shape, low=-1.0, high=1.0):
    return np.random.default_rng(0).uniform(low, high, shape)


def average(kinds=1, layers=12, size=0.3):
    shape = (kinds, 6, layers)
    return SimpleNamespace(
        indirect_effect=numbers(*shape, low=-0.1) * size, interval=numbers(*shape, low=0.0) * size / 3,
        kinds=[None, "mlp", "attn"][:kinds], counts=[9] * 6, roles=ROLES, facts=300, window=10, total_effect=0.5,
        total_interval=0.1, high_score=0.7, low_score=0.2,
    )  # fmt: skip


def effects(layers=12, size=1.0, tokens=None):
    shape = (layers,) if tokens is None else (layers, tokens)
    names = ("direct", "direct_change", "indirect")
    return SimpleNamespace(
        **{name: numbers(*shape) * size for name in names}, base_value=0.1, component="mlp",
        layers=list(range(layers)), positions=None if tokens is None else list(range(tokens)), window=1,
        metric="logit_diff", tokens=[f" token{i}" for i in range(tokens or 4)], subject_range=range(1, 3),
        regions=None, within="mean", ids=["a"] * 64, halves={name: np.abs(numbers(*shape)) * size for name in names},
        runs=[("base", f'{"Paris is in the country of and " * 20} → " France" 0.70'), ("source", "Rio is in")],
    )  # fmt: skip


def noised(layers=12, size=0.9):
    return SimpleNamespace(
        layers=list(range(layers)), scores=np.abs(numbers(layers)) * size, clean=0.9 * size, noised=0.1 * size,
        component="mlp", window=3, prompt="The Eiffel Tower is in " * 40, answer=Answer(1, " Paris", 0.9, 0.1),
        ids=["a"] * 30, halves=np.abs(numbers(layers)) * size / 5,
    )  # fmt: skip


def compared(n=2, layers=12, components=1, **look):
    shape = (components, layers) if components > 1 else (layers,)
    dims = ("component", "layer") if components > 1 else ("layer",)
    results = [make(numbers(*shape, low=-0.3) * (i + 1) / n, dims) for i in range(n)]
    return plotting.compare(results, [f"{LONG} {i}" for i in range(n)], **look)


def subtracted(layers=12, size=1.0, **look):
    first, second = (make(numbers(2, layers) * size * part, ("component", "layer")) for part in (1, 0.3))
    return difference(first - second, **look)


def screened(n=60, furthest=1.0, **look):
    found = Found(numbers(n) * np.logspace(-3, 0, n))
    found.estimates = found.estimates.copy()
    found.estimates[0], found.verify, found.sentence = furthest, n // 2, "What was done. " * 20
    return screen_figure(found, **look)


def grown(**look):
    values = np.cumsum(numbers(9, 4, low=0.0, high=0.3), 0)
    return circuit_curve(curve([[0.0] * 2, [1.0, 2.0], [2.0, 2.0]], random=values[:3, :2]), **look)


def graph(edges=40, size=(6, 4, 4), **look):
    return circuit_graph(made_up(size=size).circuit(edges, prune=False), **look)


DRAW = {  # what is drawn, and the least size that the user's own figure may have
    "average_lines": lambda **look: plotting.average_lines(average(), **look),
    "three average_lines": lambda **look: plotting.average_lines(average(3), **look),
    "average_maps": lambda **look: plotting.average_maps(average(3), **look),
    "effects": lambda **look: plotting.effects(effects(), **look),
    "effects by token": lambda **look: plotting.effects(effects(12, tokens=9), **look),
    "noising": lambda **look: plotting.noising(noised(), **look),
    "compare": compared,
    "compare lines": lambda **look: compared(4, 80, **look),
    "compare many": lambda **look: compared(12, 24, **look),
    "difference": subtracted,
    "curve": grown,
    "graph": graph,
    "edges": lambda **look: edge_map(made_up(size=(4, 4, 2)), **look),
    "paths": lambda **look: path_map(large(), **look),
    "screen": screened,
}
MORE_PANELS = ("three average_lines", "average_maps", "effects", "effects by token", "difference")
QUICK = ("average_lines", "effects", "compare lines", "graph", "screen")
EACH = [pytest.param(what, marks=[] if what in QUICK else pytest.mark.heavy) for what in DRAW]


@pytest.mark.parametrize("what", EACH)
def test_nothing_lies_over_anything(what):
    assert faults(DRAW[what]()) == []


@pytest.mark.heavy
@pytest.mark.parametrize("layers", [1, 2, 12, 80, 126])
@pytest.mark.parametrize("size", [0.0, 0.003, 1.0, 300.0])
def test_at_any_depth_and_range(layers, size):
    figures = {
        "lines": plotting.average_lines(average(1, layers, size)),
        "three": plotting.average_lines(average(3, layers, size)),
        "maps": plotting.average_maps(average(3, layers, size)),
        "effects": plotting.effects(effects(layers, size)),
        "tokens": plotting.effects(effects(layers, size, 500)),
        "noising": plotting.noising(noised(layers, size)),
        "difference": subtracted(layers, size),
        **{f"compare {n}": compared(n, layers) for n in (2, 4, 8, 9, 30)},
        **{f"compare {n} components": compared(n, layers, 2) for n in (2, 8, 12)},
    }
    assert {what: found for what, fig in figures.items() if (found := faults(fig))} == {}


@pytest.mark.heavy
@pytest.mark.parametrize("size", [(2, 4, 2), (12, 12, 12), (80, 8, 8), (4, 64, 8)])
def test_graphs_and_edges_of_any_size(size):
    drawn = [graph(n, size) for n in (3, 60, 500) if n <= int(made_up(size=size).upstream.sum())]
    assert [found for fig in [*drawn, edge_map(made_up(size=size))] if (found := faults(fig))] == []
    assert all(max(fig.get_size_inches()) <= 14 for fig in drawn)
    for furthest in (1e-6, 3.0, 1e3, 1e9):
        assert faults(screened(200, furthest)) == []


@pytest.mark.parametrize("what", EACH)
def test_on_the_user_s_own_figure_and_axes(what):
    fig = Figure(figsize=(13, 7), layout="constrained")
    one, other = fig.subfigures(1, 2, width_ratios=(2, 1))
    ax = other.subplots()
    assert DRAW[what](fig=one, caption=False) is fig
    assert one.axes and one._supxlabel is None
    if what in MORE_PANELS:
        with pytest.raises(InputError, match="panels, and ax= is one"):
            DRAW[what](ax=ax)
    else:
        assert DRAW[what](ax=ax) is fig and ax.get_title()
        assert [x for x in faults(fig) if "legend covers" in x] == []
    with pytest.raises(InputError, match="axes already"):
        DRAW[what](fig=one)


def words(fig):
    """Every text outside of boxes and maps, with its colour."""
    found = [fig._suptitle, fig._supxlabel]
    for ax in fig.axes:
        ticks = [*ax.get_xticklabels(), *ax.get_yticklabels()]
        found += [ax.title, ax.xaxis.label, ax.yaxis.label, *ticks]
        found += ax.get_legend().get_texts() if ax.get_legend() else []
    return [text for text in found if text is not None and text.get_text()]


@pytest.mark.parametrize("what", EACH)
def test_everything_is_read_on_a_dark_ground(what):
    with matplotlib.style.context("dark_background"):
        fig = DRAW[what]()
    assert to_rgb(fig.get_facecolor()[:3]) == (0, 0, 0)
    assert all(lab(to_rgb(text.get_color()))[0] > 40 for text in words(fig))
    for ax in fig.axes:
        lines = [line for line in ax.lines if len(line.get_xdata())]
        assert all(lab(to_rgb(line.get_color()))[0] > 36 for line in lines)
        bars = [patch for container in ax.containers for patch in getattr(container, "patches", ())]
        assert all(lab(to_rgb(bar.get_facecolor()[:3]))[0] > 36 for bar in bars)


def test_panels_stand_below_each_other_where_layers_are_many():
    for layers, panels, grid in ((12, 3, (1, 3)), (80, 3, (3, 1)), (12, 5, (2, 4)), (1, 1, (1, 1))):
        sheet = Sheet()
        axes = by_layer(sheet, range(layers), panels, "layer", "what")
        assert len(axes) == panels == len(sheet.whole.axes)
        assert axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
        labelled = [ax for ax in axes if ax.get_xlabel()]
        assert len(labelled) == min(panels, grid[1]) and axes[0].get_ylabel() == "what"


def test_a_legend_in_the_user_s_axes_stands_above_the_data():
    ax = Figure(figsize=(4, 3), layout="constrained").subplots()
    ax.plot([0, 1, 2], [0.0, 5.0, 5.0], label="a line that goes where legends stand")
    assert legend(Figure().subplots()) is None
    legend(ax, given=True)
    assert ax.get_ylim()[1] > 6 and faults(ax.figure) == []
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylim(-5, 5)
    legend(ax, given=True)
    assert faults(ax.figure) == [] and ax.get_ylim()[0] == -5 and ax.get_ylim()[1] > 20


def test_the_ruler_sees_what_overlaps():
    fig = Figure(figsize=(4, 3))
    ax = fig.subplots()
    ax.plot([0, 1], [0, 1], label="a line with a long name that stands in its way")
    ax.bar([0.2], [0.9])
    ax.legend(loc="center")
    ax.set_xticks(np.linspace(0, 1, 30), [f"layer {i}" for i in range(30)])
    ax.set_yticks([0.0], ["\N{MINUS SIGN}0.0"])
    fig.suptitle("a title that is wider than all of what it stands above, and more than that", y=0.92)
    found = " ".join(faults(fig))
    for fault in ("covers a line", "covers a bar", "an x axis overlap", "leaves the canvas", "-0 on an axis"):
        assert fault in found
    ax.set_title("here")
    assert any("the title lies over" in fault for fault in faults(fig))
