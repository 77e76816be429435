"""Figures from results, in the field's convention, and nothing but results.

    fig = plot(result, "eiffel.pdf")   # bars per layer, a token x layer map, or a layer x head map
    rome_heatmap(scores, tokens, subject_range=range(1, 4), low=0.02, kind="mlp", answer=" Paris")

Tokens run down the y axis with the subject's marked `*`, layers along the x axis; purple is the residual
stream, green the MLP, red attention (Meng et al. 2022, figure 1). Figures are returned, never shown, and
unknown to pyplot.
"""

from __future__ import annotations

import io
import os
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from ..anatomy.components import COMPONENTS, KINDS, short_words
from ..errors import InputError
from ..results.patching_result import PatchingResult
from ..storage import writable, write_atomic
from ..terminal import printable
from .labels import Panel, describe, position_label, probability, run_lines

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 200
MAX_HEADS = 16  # panels of one figure; the strongest are kept
CLIP = (-100.0, 200.0)  # percent; the colour bar gets an arrow where values go beyond
PALETTES = {"resid": ("Purples", "Oranges"), "mlp": ("Greens", "RdPu"), "attn": ("Reds", "Blues")}
METRIC_WORDS = {
    "prob": "probability",
    "logprob": "log-probability",
    "logit_diff": "logit difference",
    "prob_diff": "probability difference",
    "kl": "KL divergence",
    "l2": "logit distance",
    "cosine": "cosine similarity",
}
FALLBACK_FONTS = (  # for tokens that the first font cannot draw, if installed
    "Hiragino Sans",
    "PingFang SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Apple Color Emoji",
    "Noto Emoji",
)


def plot(result: PatchingResult, path: str | os.PathLike | None = None, metric: str | None = None) -> Figure:
    """The figure that fits the result's dims: bars per layer, or a heatmap per component (and per head).

    Shows the recovery of `metric` (the first) in percent; panels share one scale. Noising is drawn from 100,
    where a cell changes nothing. Raises InputError for an unknown metric or file type, before drawing.
    """
    path = None if path is None else check_path(path)
    panels = result.panels(metric)
    metric = metric or result.metrics[0]
    label = f"recovery of {METRIC_WORDS.get(metric, token_label(metric))} (%)"
    with _style():
        bars = panels[0].column_name == "component"
        fig = _bars(result, panels[0], label) if bars else _maps(result, panels, label)
    if path is not None:
        save(fig, path)
    return fig


def check_path(path: str | os.PathLike) -> Path:
    """The path, once it is known that a figure can be written there: call it before a long computation."""
    path = writable(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"cannot write a figure as {path.suffix or 'a file without suffix'}: use {', '.join(SUFFIXES)}"
        )
    return path


def save(fig: Figure, path: str | os.PathLike) -> Path:
    """Write the figure as PNG (200 dpi), PDF or SVG, by suffix, whole or not at all; its path."""
    path, data = check_path(path), io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn: better than no figure
        fig.savefig(data, format=path.suffix[1:].lower(), dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    return write_atomic(path, data.getvalue())


# -- patching results ----------------------------------------------------------------------------


def _bars(result: PatchingResult, panel: Panel, label: str) -> Figure:
    n, layers = len(panel.columns), len(panel.rows)
    stacked = n > 1 and layers > 20  # deep models: panels below each other, so that bars keep their width
    rows, columns = (n, 1) if stacked else (-(-n // 4), min(n, 4))
    width = min(12, max(3.2 if n > 1 else 5, 0.8 + 0.2 * layers))
    fig = Figure(figsize=(width * columns, 0.9 + (1.9 if stacked else 2.7) * rows), layout="constrained")
    grid = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, component, values in zip(grid.flat, panel.columns, panel.values.T, strict=False):
        below = values < result.no_effect
        dark, light = (mpl.colormaps[PALETTES[_kind(component)][0]](t) for t in (0.75, 0.4))
        colours = [light if b != (result.direction == "noise") else dark for b in below]
        ax.bar(range(layers), values - result.no_effect, bottom=result.no_effect, color=colours, width=0.8)
        ax.axhline(result.no_effect, color="black", linewidth=0.8)
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlim(-0.6, layers - 0.4)
        ax.margins(y=0.08)
        _ticks(ax.xaxis, [str(x) for x in panel.rows], most=int(width * 4))
        if n > 1:
            ax.set_title(escape(_capital(COMPONENTS[component].words)))
    for ax in list(grid.flat)[n:]:
        ax.remove()
    for ax in grid[:, 0]:
        ax.set_ylabel(escape(label))
    for ax in grid[-1]:
        ax.set_xlabel("layer" if result.window == 1 else f"centre of {result.window} layers")
    _words(fig, result)
    return fig


def _maps(result: PatchingResult, panels: list[Panel], label: str) -> Figure:
    total = len(panels)
    if panels[0].head is not None and total > MAX_HEADS:
        strength = [np.abs(p.values - result.no_effect).max() for p in panels]
        panels = [panels[i] for i in sorted(np.argsort(strength)[::-1][:MAX_HEADS])]
    x_label = "head" if panels[0].column_name == "head" else "layer"
    if x_label == "layer" and result.window > 1:
        x_label = f"centre of {result.window} layers"
    maps = [
        _Map(
            values=p.values,
            rows=[
                position_label(result, i, token_label) if p.row_name == "position" else str(i) for i in p.rows
            ],
            columns=[str(c) for c in p.columns],
            kind=_kind(p.component),
            title=_panel_title(p) if total > 1 else "",
        )
        for p in panels
    ]
    moved = np.concatenate([p.values.ravel() for p in panels]) - result.no_effect
    low, high = min(moved.min(), 0), max(moved.max(), 0)
    if result.direction == "noise":
        low, high = max(low, -CLIP[1]), min(high, -CLIP[0])
    else:
        low, high = max(low, CLIP[0]), min(high, CLIP[1])
    if high - low < 1:  # a map of nothing must not look like a finding
        low, high = (-1, high) if result.direction == "noise" else (low, 1)
    scale = _Scale(
        low + result.no_effect, high + result.no_effect, result.no_effect, result.direction == "noise"
    )
    fig = _draw(maps, scale, label, x_label, "" if panels[0].row_name == "position" else "layer")
    _words(fig, result, f" – the strongest {len(panels)} of {total} heads" if len(panels) < total else "")
    return fig


def _panel_title(panel: Panel) -> str:
    words = _capital(COMPONENTS[panel.component].words)
    if panel.head is None:
        return words
    return f"head {panel.head}" if panel.component == "head" else f"{panel.component}, head {panel.head}"


def _words(fig: Figure, result: PatchingResult, extra: str = "") -> None:
    _title(fig, describe(result) + extra, [f"{run}: {line}" for run, line in run_lines(result)])


# -- other experiments ---------------------------------------------------------------------------


def rome_heatmap(
    scores: Any,
    tokens: Sequence[str],
    *,
    low: float,
    high: float | None = None,
    subject_range: range | None = None,
    kind: str | None = None,
    window: int = 10,
    answer: str = "",
    model: str = "",
    top: float | None = None,
    title: str = "",
    path: str | os.PathLike | None = None,
) -> Figure:
    """Causal trace of one fact as in figure 1 of Meng et al. (2022): the colour is p(answer).

    `scores`: `[tokens, layers]`, probabilities, or a dict `{kind: scores}` for panels side by side on one
    scale; kind: None (layer outputs), "mlp" or "attn" (windows of `window` layers). `low`: the corrupted
    run's probability, where the colours start; `high`: the clean run's, told below; `top`: where the colours
    end (the largest score). `title`: instead of the usual one.
    """
    path = None if path is None else check_path(path)
    traces = scores if isinstance(scores, dict) else {kind: scores}
    for name in traces:
        if name not in KINDS:
            raise InputError(f"kind {name!r} is none of None (layer outputs), 'mlp', 'attn'")
    rows = [_starred(token_label(t), i, subject_range) for i, t in enumerate(tokens)]
    maps = []
    for name, values in traces.items():
        values = _matrix(values, (len(rows), None), "scores must be [tokens, layers]")
        within = f" within {model}" if model else ""
        x_label = f"single restored layer{within}"
        if name is not None:
            x_label = f"centre of {window} restored {short_words(name)} layers"
        panel = _capital(short_words(name)) if len(traces) > 1 else ""
        columns = [str(i) for i in range(values.shape[1])]
        maps.append(_Map(values, rows, columns, _kind(name), panel, x_label))
    names = " or ".join(", ".join(short_words(name) for name in traces).rsplit(", ", 1))
    top = max(float(m.values.max()) for m in maps) if top is None else top
    with _style():
        bar = f"p({escape(answer.strip())})" if answer else "p(answer)"
        fig = _draw(maps, _Scale(low, max(top, low + 1e-3), low), bar)
        clean = "" if high is None else f"clean {probability(high)}, "
        _title(
            fig,
            title or f"Impact of restoring {names} after corrupted input",
            [f"{bar}: {clean}corrupted {probability(low)}"],
        )
    return fig if path is None else _saved(fig, path)


def head_heatmap(
    values: Any,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    label: str = "recovery (%)",
    title: str = "",
    path: str | os.PathLike | None = None,
) -> Figure:
    """A number per head, `values` `[layers, heads]`, as a map: layers down, heads across, white at 0."""
    path = None if path is None else check_path(path)
    values = _matrix(values, (None, None), "values must be [layers, heads]")
    rows = _names("layers", layers, values.shape[0])
    columns = _names("heads", heads, values.shape[1])
    scale = _Scale(min(values.min(), 0), max(values.max(), 0, values.min() + 1e-9), 0)
    with _style():
        fig = _draw([_Map(values, rows, columns, "attn", x_label="head")], scale, label, y_label="layer")
        _title(fig, title, [])
    return fig if path is None else _saved(fig, path)


def attention_pattern(
    pattern: Any,
    tokens: Sequence[str],
    *,
    heads: Sequence[int] | None = None,
    title: str = "Attention pattern",
    subject_range: range | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Where heads look: `pattern` `[heads, T, T]` (or `[T, T]`), a row for each query token, which sums to 1.

    `heads`: their names for the panel titles. Heads share one colour scale, from 0.
    """
    path = None if path is None else check_path(path)
    rule = f"pattern must be [heads, {len(tokens)}, {len(tokens)}]"
    pattern = _numbers(pattern, rule)
    pattern = pattern[None] if pattern.ndim == 2 else pattern
    if pattern.ndim != 3 or pattern.shape[1:] != (len(tokens), len(tokens)) or not pattern.size:
        raise InputError(f"{rule}; got {list(pattern.shape)}")
    names = [_starred(token_label(t), i, subject_range) for i, t in enumerate(tokens)]
    heads = _names("heads", heads, len(pattern))
    maps = [_Map(p, names, names, "attn", f"head {h}") for p, h in zip(pattern, heads, strict=True)]
    with _style():
        scale = _Scale(0, max(float(pattern.max()), 1e-9), 0)
        fig = _draw(maps, scale, "attention", "looked at (key)", "looking (query)", upright=True)
        _title(fig, title, [])
    return fig if path is None else _saved(fig, path)


# -- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Map:
    values: np.ndarray  # [rows, columns]
    rows: list[str]
    columns: list[str]
    kind: str
    title: str = ""
    x_label: str = ""


class _Scale(NamedTuple):
    low: float
    high: float
    white: float  # the value that means nothing happened
    flip: bool = False  # the component's own colour is below white

    def colours(self, kind: str) -> Colormap:
        """White at `white`, the kind's colour on one side and its opposite on the other, equally steep."""
        up, down = PALETTES[kind][:: -1 if self.flip else 1]
        steepest = max(self.high - self.white, self.white - self.low)
        steps = np.linspace(self.low - self.white, self.high - self.white, 256) / steepest
        colours = np.array([mpl.colormaps[up if t >= 0 else down](abs(t)) for t in steps])
        tint = np.minimum(np.abs(steps) / 0.15, 1)[
            :, None
        ]  # the palettes start off-white: nothing must be white
        return ListedColormap(1 - tint + tint * colours)


def _draw(
    maps: list[_Map], scale: _Scale, label: str, x_label: str = "", y_label: str = "", upright: bool = False
) -> Figure:
    """The maps in a grid with shared axes and one scale; a colour bar for each colour."""
    grid_rows = -(-len(maps) // 4)
    columns = -(-len(maps) // grid_rows)
    n_rows, n_columns = maps[0].values.shape
    width = np.clip(0.2 * n_columns, 2.2, 6.0 if len(maps) == 1 else 3.6) + 0.5
    height = np.clip((0.2 if n_rows <= 30 else 0.16) * n_rows, 1.4, 8.0) + (1.1 if upright else 0.4)
    names = 0.075 * max(map(len, maps[0].rows)) + 0.4
    fig = Figure(figsize=(names + width * columns + 0.5, height * grid_rows + 0.8), layout="constrained")
    axes = fig.subplots(grid_rows, columns, sharex=True, sharey=True, squeeze=False)
    many_colours = len({m.kind for m in maps}) > 1
    for ax, one in zip(axes.flat, maps, strict=False):
        mesh = ax.pcolormesh(
            one.values,
            cmap=scale.colours(one.kind),
            norm=Normalize(scale.low, scale.high),
            edgecolors="face",
            linewidth=0.2,
        )
        ax.set_title(escape(one.title))
        _ticks(ax.yaxis, one.rows, most=200 if upright or y_label != "layer" else int(height * 6), offset=0.5)
        _ticks(ax.xaxis, one.columns, most=200 if upright else int(width * 5), offset=0.5)
        ax.tick_params(axis="x", rotation=90 if upright else 0)
        ax.tick_params(axis="y", labelsize=8 if n_rows <= 30 else 6.5)
        if many_colours:
            _colour_bar(fig, mesh, ax, label if one is maps[-1] else "", scale, one.values)
    axes[0, 0].invert_yaxis()
    for ax in list(axes.flat)[len(maps) :]:
        ax.remove()
    if not many_colours:
        _colour_bar(fig, mesh, list(axes.flat)[: len(maps)], label, scale, np.stack([m.values for m in maps]))
    for i, ax in enumerate(axes.flat):
        if i < len(maps) and i + columns >= len(maps):
            ax.set_xlabel(escape(maps[i].x_label or x_label))
            ax.tick_params(axis="x", labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(escape(y_label))
    return fig


def _colour_bar(fig: Figure, mesh: Any, ax: Any, label: str, scale: _Scale, values: np.ndarray) -> None:
    beyond = (values.min() < scale.low - 1e-9, values.max() > scale.high + 1e-9)
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    aspect = fig.get_figheight() / (0.16 if isinstance(ax, list) else 0.2)
    bar = fig.colorbar(mesh, ax=ax, extend=extend, pad=0.02, aspect=aspect, label=escape(label))
    bar.outline.set_visible(False)


def _ticks(axis: Any, labels: list[str], most: int, offset: float = 0.0) -> None:
    """Every label, or every 2nd, 5th, 10th ... when there are more than `most`."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if len(labels) <= s * most or s == 1000)
    axis.set_ticks([i + offset for i in range(0, len(labels), step)], [escape(x) for x in labels[::step]])
    axis.set_tick_params(length=2)


def _title(fig: Figure, title: str, caption: list[str]) -> None:
    """The title above, what was run below, both wrapped to the figure's width."""
    inches = fig.get_figwidth()
    if title:
        n = -(-len(title) // max(20, int(inches * 10)))  # lines, of about the same length
        title = escape(title)
        lines = textwrap.wrap(title, len(title) // n + (6 if n > 1 else 1))
        fig.suptitle("\n".join(lines), fontsize=10.5, fontweight="bold")
    if caption:
        glued = [
            escape(line).replace('" ', '"\u00a0') for line in caption
        ]  # no break between answer and number
        lines = [textwrap.fill(line, max(30, int(inches * 16)), subsequent_indent="    ") for line in glued]
        fig.supxlabel("\n".join(lines), fontsize=8, color="0.25", x=0.01, ha="left")


def _style() -> Any:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return mpl.rc_context(
        {
            "font.family": [*mpl.rcParams["font.family"], *(f for f in FALLBACK_FONTS if f in installed)],
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "axes.linewidth": 0.6,
        }
    )


def _saved(fig: Figure, path: Path) -> Figure:
    save(fig, path)
    return fig


def _matrix(values: Any, shape: tuple, rule: str) -> np.ndarray:
    values = _numbers(values, rule)
    fits = values.ndim == 2 and all(n in (None, m) for n, m in zip(shape, values.shape, strict=True))
    if not fits or not values.size:
        raise InputError(f"{rule}, all finite; got {list(values.shape)}")
    return values


def _numbers(values: Any, rule: str) -> np.ndarray:
    """As float64; InputError unless every element is a finite real number."""
    try:
        found = np.asarray(values)
        found = found.astype(np.float64) if found.dtype.kind in "fiu" else np.array(np.nan)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a type that NumPy does not know
        found = np.array(np.nan)
    if not np.isfinite(found).all():
        raise InputError(f"{rule}, all finite; got {' '.join(repr(values).split())[:60]}")
    return found


def _names(what: str, names: Any, n: int) -> list[str]:
    """A label for each row or column; InputError when there are more or fewer names than those."""
    if names is None:
        return [str(i) for i in range(n)]
    names = names.tolist() if hasattr(names, "tolist") else names
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise InputError(f"{what} is a list of {n} names, not {names!r}")
    names = [str(name) for name in names]
    if len(names) != n:
        raise InputError(f"the array has {n} {what}, but {what}= names {len(names)}: {', '.join(names)}")
    return names


def _kind(component: str | None) -> str:
    return COMPONENTS[component or "resid_post"].colour


# -- words ---------------------------------------------------------------------------------------


def token_label(token: str) -> str:
    """A token as an axis label: spaces as `·`, line breaks as `↵`, cut to 18 characters, `$` not math."""
    text = token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return escape(text if len(text) <= 18 else text[:17] + "…")


def escape(text: str) -> str:
    """The text as matplotlib draws it literally, not as math, and without what no font can draw; once is enough."""
    return re.sub(r"(?<!\\)\$", r"\\$", printable(text))


def _starred(label: str, position: int, subject: range | None) -> str:
    return f"{label}*" if subject is not None and position in subject else label


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
