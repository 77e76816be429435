"""Figures of the causal experiments beside the maps of `plotting`: effects, averages, severed traces, comparisons.

They follow the same convention: purple is the residual stream, green the MLP, red attention; a figure is returned,
and written if a path is given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..anatomy.components import COMPONENTS, short_words
from .labels import probability, quoted
from .maps import (
    PALETTES,
    _capital,
    _draw,
    _kind,
    _Map,
    _Scale,
    _starred,
    _style,
    _ticks,
    _title,
    check_path,
    escape,
    save,
    token_label,
)

if TYPE_CHECKING:
    from ..experiments.causal_effects import CausalEffects
    from ..experiments.causal_trace import CausalTrace
    from ..experiments.compare_bits import Comparison
    from ..experiments.noising_window import NoisingWindow
    from ..prompts.averages import AverageTrace

ROLE_COLOURS = ("#c7b8e0", "#8f7cc0", "#4b2e83", "#f2b701", "#9a9a9a", "#d1495b")  # first token to last


def _colour(component: str | None, shade: float = 0.7) -> Any:
    return mpl.colormaps[PALETTES[_kind(component)][0]](shade)


def _finish(fig: Figure, path: str | os.PathLike | None) -> Figure:
    if path is not None:
        save(fig, path)
    return fig


def _checked(path: str | os.PathLike | None) -> Path | None:
    return None if path is None else check_path(path)


def _plain_axes(ax: Any) -> None:
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


# ---- causal mediation


def effects(result: CausalEffects, path: str | os.PathLike | None = None) -> Figure:
    """Direct and indirect effects side by side: bars by layer, or maps with tokens down and layers across."""
    path = _checked(path)
    words = COMPONENTS[result.component].words
    with _style():
        fig = _effect_bars(result) if result.positions is None else _effect_maps(result)
        caption = [
            f"base: {result.base_text} → {quoted(result.base_answer.text)} "
            f"{probability(result.base_answer.corrupted_prob)}",
            f"source: {result.source_text} → {quoted(result.source_answer.text)} "
            f"{probability(result.source_answer.clean_prob)}",
        ]
        _title(fig, f"Causal effects of the {words}", caption)
    return _finish(fig, path)


def _effect_bars(result: CausalEffects) -> Figure:
    fig = Figure(figsize=(8, 3.6), layout="constrained")
    axes = fig.subplots(1, 2, sharex=True)
    panels = (
        (result.direct, result.base_value, "Direct: source's activation into the base run", "base run"),
        (result.indirect, 0.0, "Indirect: drop in the source run", "no drop"),
    )
    for ax, (values, line, title, name) in zip(axes, panels, strict=True):
        ax.bar(range(len(values)), values, color=_colour(result.component), width=0.8)
        ax.axhline(line, color="black", linewidth=0.8, linestyle="--", label=name)
        ax.set_title(title)
        ax.set_xlabel("layer" if result.window == 1 else f"centre of {result.window} layers")
        ax.legend(frameon=False, fontsize=7)
        _ticks(ax.xaxis, [str(layer) for layer in result.layers], most=16)
        _plain_axes(ax)
    axes[0].set_ylabel(escape(result.metric))
    return fig


def _effect_maps(result: CausalEffects) -> Figure:
    rows = [_starred(token_label(result.tokens[p]), p, result.subject_range) for p in result.positions]
    columns, kind = [str(layer) for layer in result.layers], _kind(result.component)
    maps = [
        _Map(result.direct_change.T, rows, columns, kind, "Direct (less the base run)"),
        _Map(result.indirect.T, rows, columns, kind, "Indirect (drop in the source run)"),
    ]
    both = np.stack([m.values for m in maps])
    scale = _Scale(min(both.min(), 0.0), max(both.max(), 1e-3), 0.0)
    return _draw(maps, scale, result.metric, "layer")


def noising(result: NoisingWindow, path: str | os.PathLike | None = None) -> Figure:
    """A bar for each window that is restored, with lines at the clean and the fully noised run."""
    path = _checked(path)
    with _style():
        fig = Figure(figsize=(5, 3.2), layout="constrained")
        ax = fig.subplots()
        ax.bar(range(len(result.layers)), result.scores, color=_colour(result.component), width=0.8)
        for value, name, dashes in ((result.clean, "clean", "-"), (result.noised, "all layers noised", ":")):
            ax.axhline(value, color="black", linewidth=0.8, linestyle=dashes, label=name)
        _ticks(ax.xaxis, [str(layer) for layer in result.layers], most=20)
        ax.set_xlabel(f"centre of the {result.window} restored layers")
        ax.set_ylabel(f"p({escape(result.answer.text.strip())})")
        ax.legend(frameon=False, fontsize=7)
        _plain_axes(ax)
        words = COMPONENTS[result.component].words
        _title(fig, f"Noise on every layer's {words} but a window", [f"prompt: {result.prompt}"])
    return _finish(fig, path)


# ---- causal traces


def severed(traces: dict[str | None, CausalTrace], path: str | os.PathLike | None = None) -> Figure:
    """Figure 3 of Meng et al. (2022): one token's indirect effects by layer, as it is and with a path cut.

    `traces`: `{None: trace, "attn": trace, "mlp": trace}`, by what was severed, of one position each.
    """
    path = _checked(path)
    with _style():
        fig = Figure(figsize=(6.5, 2.9), layout="constrained")
        ax = fig.subplots()
        width = 0.8 / len(traces)
        for i, (cut, trace) in enumerate(traces.items()):
            effect = trace.scores[-1] - traces[None].low_score
            label = "one layer output" if cut is None else f"with {short_words(cut)} severed"
            at = np.arange(len(effect)) + (i - (len(traces) - 1) / 2) * width
            ax.bar(at, effect, width, color=_colour(cut), label=label)
        _ticks(ax.xaxis, [str(layer) for layer in range(len(effect))], most=24)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xlabel("layer whose output is restored")
        ax.set_ylabel("indirect effect")
        ax.legend(frameon=False, fontsize=7)
        _plain_axes(ax)
        token = quoted(trace.tokens[trace.positions[-1]])
        _title(
            fig,
            f"Effect of layer outputs at {token} with attention or MLPs severed",
            [f"prompt: {trace.prompt}"],
        )
    return _finish(fig, path)


# ---- averages over facts


def average_maps(result: AverageTrace, path: str | os.PathLike | None = None) -> Figure:
    """Average indirect effects as six-row heatmaps, one for each kind, on one colour scale."""
    path = _checked(path)
    there = [i for i in range(len(result.roles)) if result.counts[i]]
    rows = [result.roles[i] for i in there]
    maps = []
    for kind, effect in zip(result.kinds, result.indirect_effect, strict=True):
        columns = [str(layer) for layer in range(effect.shape[1])]
        x_label = "single restored layer" if kind is None else f"centre of {result.window} restored layers"
        maps.append(_Map(effect[there], rows, columns, _kind(kind), _capital(short_words(kind)), x_label))
    values = np.concatenate([m.values.ravel() for m in maps])
    with _style():
        fig = _draw(
            maps, _Scale(min(values.min(), 0.0), max(values.max(), 1e-3), 0.0), "average indirect effect"
        )
        _title(fig, f"Average indirect effect over {result.facts} facts", [_total(result)])
    return _finish(fig, path)


def average_lines(result: AverageTrace, path: str | os.PathLike | None = None) -> Figure:
    """Average indirect effects by layer, a line for each kind of token with its 95 % band, a panel for each kind."""
    path = _checked(path)
    n = len(result.kinds)
    with _style():
        fig = Figure(figsize=(3.4 * n + 1.2, 3.2), layout="constrained")
        axes = fig.subplots(1, n, sharey=True, squeeze=False)[0]
        for ax, kind, effect, band in zip(
            axes, result.kinds, result.indirect_effect, result.interval, strict=True
        ):
            for role, line, half, colour in zip(result.roles, effect, band, ROLE_COLOURS, strict=True):
                if np.isnan(line).any():
                    continue
                ax.plot(line, color=colour, label=role, linewidth=1.4)
                if not np.isnan(half).any():
                    ax.fill_between(
                        range(len(line)), line - half, line + half, color=colour, alpha=0.2, linewidth=0
                    )
            _ticks(ax.xaxis, [str(layer) for layer in range(effect.shape[1])], most=14)
            ax.axhline(0, color="black", linewidth=0.6)
            ax.set_title(_capital(short_words(kind)), color=_colour(kind))
            ax.set_xlabel("layer" if kind is None else f"centre of {result.window} layers")
            _plain_axes(ax)
        axes[0].set_ylabel("average indirect effect")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7)
        _title(fig, f"Average indirect effect, 95 % intervals, {result.facts} facts", [_total(result)])
    return _finish(fig, path)


def _total(result: AverageTrace) -> str:
    return (
        f"average total effect {result.total_effect:.3f} ± {result.total_interval:.3f}: "
        f"clean {result.high_score:.3f}, corrupted {result.low_score:.3f}"
    )


# ---- two models


def comparison(result: Comparison, path: str | os.PathLike | None = None) -> Figure:
    """The same trace on two models side by side, on one colour scale."""
    path = _checked(path)
    first = result.first
    rows = [_starred(token_label(first.tokens[p]), p, first.subject_range) for p in first.positions]
    columns = [str(layer) for layer in range(first.raw.shape[1])]
    maps = [
        _Map(trace.scores, rows, columns, _kind(trace.kind), name)
        for name, trace in zip(result.names, (first, result.second), strict=True)
    ]
    low, top = first.low_score, max(float(m.values.max()) for m in maps)
    with _style():
        label = f"p({escape(first.answer.text.strip())})"
        fig = _draw(maps, _Scale(low, max(top, low + 1e-3), low), label, "layer")
        caption = f"correlation {result.correlation:.4f}, largest difference {result.largest_difference:.4f}"
        _title(fig, f"Impact of restoring {short_words(first.kind)}", [caption])
    return _finish(fig, path)
