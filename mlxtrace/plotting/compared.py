"""Results of activation patching on one scale: of several models, quantizations, directions, metrics, sets of pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from ..text.regions import union
from .charts import (
    WHISKERS_MEAN,
    Look,
    Sheet,
    by_layer,
    capital,
    escape,
    family,
    legend,
    matter,
    no_rows,
    style,
)
from .heatmaps import Map, draw, hatching_explained
from .labels import elided, ends_of, joint, model_name, words_of
from .recoveries import Panel, Patched, describe, marked_rows, row_labels, scale_of, words_of_metric
from .side_by_side import Series, aligned, side_by_side, too_thin

MOST_MAPS = 16
TURNED = "effect: the recovery where clean activations are restored, 100 % less the recovery where they are corrupted"
LABEL = 40  # letters of a result's name
MOST_CHARTED = 8  # results: of more, bars and lines are not told apart


def compare(
    results: Sequence[Patched],
    labels: Sequence[str] | None = None,
    path: str | os.PathLike | None = None,
    metric: str | None = None,
    rows: Any = "auto",
    **look: Unpack[Look],
) -> Figure:
    """Several results on one scale: bars side by side for each layer, or maps in a row with one range of colours.

    Where layers are too many for bars they are lines, and more results than eight the rows of a map.
    Sets of pairs have whiskers or hatching. Layers, regions and heads that one result lacks stay empty (bars) or grey
    (maps): each layer keeps its own number. Where some results denoise and others noise, what is drawn is the effect:
    the recovery, and for noise 100 less the recovery.

    Args:
        results: two or more results of `activation_patching`, of pairs or sets, all by layer or all by the same thing.
        labels: what each is called.
        path: where the figure goes as well, .png, .pdf or .svg; its folder exists.
        metric: whose recoveries are shown; default: the first of each result.
        rows: which tokens maps show: "auto", of a long prompt those that matter, which is said; "all"; or positions.
        look: `ax` or `fig` to draw on, and `caption`, as in every plot.

    Returns:
        A matplotlib Figure.

    Raises:
        InputError: for results that have no common axes, missing labels, a metric that one does not have, or a path
            that cannot be written, before drawing.

    Example:
        >>> from mlxtrace import InterpretableModel, plotting
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> both = [model.activation_patching(*prompts, component=c, progress=False) for c in ("mlp", "attn")]
        >>> figure = plotting.compare(both, labels=["MLPs", "attention"])
        >>> len(figure.axes[0].patches) == 2 * model.n_layers  # a bar for each layer of each
        True
    """
    sheet = Sheet(path, **look)
    results, labels = _checked(results, labels)
    panels = [_effects(result, result.panels(metric), _mixed(results)) for result in results]
    _check_axes(results, panels, labels)
    by_layer_only = panels[0][0].column_name == "component"
    if panels[0][0].row_name != "position":
        no_rows(rows)
    with style():
        label = _label(results, metric)
        if not by_layer_only:
            explained = _maps(results, panels, labels, label, sheet, rows)
        else:
            drawn = _charts if len(results) <= MOST_CHARTED else _rows
            explained = drawn(results, panels, labels, label, sheet)
        explained += [TURNED] if _mixed(results) else []
        titles = {describe(result) for result in results}
        headline = titles.pop() if len(titles) == 1 else _title(results)
        sheet.headline(headline, [*_told(results, labels, metric), *explained])
    return sheet.finish()


# ---- what can be compared


def _checked(results: Any, labels: Any) -> tuple[list[Patched], list[str]]:
    """Both as lists; InputError unless there are two or more results of activation patching with a label each."""
    if not isinstance(results, list | tuple):
        raise InputError(
            f"compare takes a list of results, compare([a, b], labels=[...]), not {type(results).__name__}"
        )
    for i, result in enumerate(results):
        if not all(hasattr(result, name) for name in ("panels", "direction", "settings")):
            raise InputError(
                f"result {i} is a {type(result).__name__}: compare draws results of activation_patching; causal traces "
                "of two models are drawn by compare_bits(...).plot(), effects one by one by their own .plot()"
            )
    if len(results) < 2:
        raise InputError(f"compare draws two or more results, not {len(results)}: one has its own .plot()")
    if labels is None or isinstance(labels, str) or len(labels) != len(results):
        raise InputError(f"labels= names each of the {len(results)} results; got {labels!r}")
    labels = [str(label) for label in labels]
    if len(set(labels)) < len(labels):
        raise InputError(f"each result has a label of its own; got {labels}")
    return list(results), labels


def _check_axes(results: list[Patched], panels: list[list[Panel]], labels: list[str]) -> None:
    """InputError unless all have the same axes, and components that can stand in the same panels."""
    kinds = [(of_one[0].row_name, of_one[0].column_name, of_one[0].head is None) for of_one in panels]
    for label, result, kind in zip(labels, results, kinds, strict=True):
        if kind != kinds[0]:
            one, other = (" x ".join(d for d in r.dims if d != "metric") for r in (results[0], result))
            raise InputError(f"{labels[0]!r} has {one}, {label!r} has {other}: these share no axes")
        if kind[0] == "position" and result.tokens != results[0].tokens:
            raise InputError(
                f"{labels[0]!r} and {label!r} are by position, of prompts with other tokens: "
                'patch positions="regions" to compare them'
            )
        both = (results[0].components, result.components)
        if both[0] != both[1] and max(map(len, both)) > 1:
            one, other = map(", ".join, both)
            raise InputError(f"{labels[0]!r} has {one}, {label!r} has {other}: patch the same components")
    if kinds[0][1] != "component" and (n := sum(map(len, panels))) > MOST_MAPS:
        raise InputError(
            f"these are {n} maps, and a figure has up to {MOST_MAPS}: patch fewer heads or components"
        )


# ---- one scale


def _mixed(results: Sequence[Patched]) -> bool:
    """Whether some denoise and some noise, so that effects are drawn instead of recoveries."""
    return len({result.direction for result in results}) > 1


def _effects(result: Patched, panels: list[Panel], mixed: bool) -> list[Panel]:
    if mixed and result.direction == "noise":
        return [panel._replace(values=100 - panel.values) for panel in panels]
    return panels


def _label(results: Sequence[Patched], metric: str | None) -> str:
    words = {words_of_metric(metric or result.metrics[0], result) for result in results}
    of = f" of {words.pop()}" if len(words) == 1 else ""
    return f"effect{of.replace('of', 'on')} (%)" if _mixed(results) else f"recovery{of} (%)"


def _title(results: Sequence[Patched]) -> str:
    numbers = {len(result.ids) for result in results}
    over = f" over {numbers.pop()} pairs" if len(numbers) == 1 and max(numbers) > 1 else ""
    return f"{len(results)} results of activation patching{over}"


def _told(results: list[Patched], labels: list[str], metric: str | None) -> list[str]:
    """What each result is, those of which the same is said on one line."""
    said: dict[str, list[str]] = {}
    for label, result in zip(labels, results, strict=True):
        said.setdefault(_said(result, metric), []).append(label)
    if len(said) == 1:
        return [f"each: {_said(results[0], metric)}"]
    return [f"{', '.join(elided(name, LABEL) for name in names)}: {what}" for what, names in said.items()]


def _said(result: Patched, metric: str | None) -> str:
    """What a result is, for the caption: what was patched, the metric, the model, and in how many layers."""
    words = words_of_metric(metric or result.metrics[0], result)
    return f"{describe(result)}, {words}, {model_name(result.model)}, {len(result.coords['layer'])} layers"


# ---- figures


def _charts(
    results: list[Patched], panels: list[list[Panel]], labels: list[str], label: str, sheet: Sheet
) -> list[str]:
    """Bars at each layer, or lines where they would be too thin; a panel for each component."""
    components, layers = results[0].components, _all_labels([panel.rows for (panel,) in panels])
    x_label = "layer" if all(result.window == 1 for result in results) else "centre of the layers"
    axes = by_layer(sheet, layers, len(components), x_label, label, beside=2.4, bars=len(results))
    lines = too_thin(
        axes[0].get_position().width * axes[0].figure.bbox.width / axes[0].figure.dpi,
        len(results),
        len(layers),
    )
    for i, (ax, component) in enumerate(zip(axes, components, strict=True)):
        many = [
            Series(
                name,
                np.array([layers.index(layer) for layer in panel.rows]),
                panel.values[:, i],
                None if panel.halves is None else panel.halves[:, i],
            )
            for name, (panel,) in zip(labels, panels, strict=True)
        ]
        side_by_side(ax, many, _white(results), lines)
        if len(components) > 1:
            ax.set_title(escape(capital(words_of(component))))
    legend(axes[0], sheet.ax is not None)
    if not any(len(result.ids) > 1 for result in results):
        return []
    return [WHISKERS_MEAN.replace("whiskers", "bands") if lines else WHISKERS_MEAN]


def _rows(
    results: list[Patched], panels: list[list[Panel]], labels: list[str], label: str, sheet: Sheet
) -> list[str]:
    """A map for each component, with a row for each result: for more of them than bars can show."""
    layers, maps = _all_labels([panel.rows for (panel,) in panels]), []
    names = [elided(name, LABEL) for name in labels]
    for i, component in enumerate(results[0].components):
        only = [panel._replace(columns=[component], values=panel.values[:, [i]]) for (panel,) in panels]
        values = np.stack([aligned(p.values, p, layers, [component])[:, 0] for p in only])
        known = [None if panel.halves is None else panel.halves[:, [i]] for (panel,) in panels]
        halves = np.stack(
            [aligned(h, p, layers, [component])[:, 0] for h, p in zip(known, only, strict=True)]
        )
        title = capital(words_of(component)) if len(results[0].components) > 1 else ""
        maps.append(Map(values, names, [str(x) for x in layers], family(component), title, halves=halves))
    return _drawn(maps, results, label, "layer", "", sheet)


def _maps(
    results: list[Patched], panels: list[list[Panel]], labels: list[str], label: str, sheet: Sheet, asked: Any
) -> list[str]:
    every, first = [panel for of_one in panels for panel in of_one], panels[0][0]
    rows, columns = (_all_labels([getattr(panel, side) for panel in every]) for side in ("rows", "columns"))
    first = first._replace(rows=rows)
    names = [str(row) for row in rows] if first.row_name != "position" else row_labels(results[0], first)
    maps = [
        Map(
            aligned(panel.values, panel, rows, columns),
            names,
            [str(column) for column in columns],
            family(panel.component),
            _map_title(elided(name, LABEL), panel, len(of_one) > 1),
            halves=aligned(panel.halves, panel, rows, columns),
        )
        for name, of_one in zip(labels, panels, strict=True)
        for panel in of_one
    ]
    down = "layer" if first.row_name == "layer" else ""
    keep = [rows[i] for i in marked_rows(results[0], first)]
    shown = (asked, rows, keep) if first.row_name == "position" else None
    spans = joint(rows) if first.row_name == "position" else []
    return [*spans, *_drawn(maps, results, label, first.column_name, down, sheet, shown)]


def _drawn(
    maps: list[Map],
    results: list[Patched],
    label: str,
    across: str,
    down: str,
    sheet: Sheet,
    asked: tuple[Any, list, list] | None = None,
) -> list[str]:
    """Draw the maps; asked: of tokens which are shown, the positions that there are, and those to keep."""
    every = np.concatenate([one.values for one in maps], axis=1)
    scale, rows = scale_of(every.ravel(), _white(results) == 100), None
    if asked is not None:
        low, high, white = scale.low, scale.high, scale.white
        rows = matter(every, asked[0], white=white, low=low, high=high, keep=asked[2], labels=asked[1])
    draw(maps, scale, label, across, down, sheet=sheet, rows=rows)
    empty = ["grey: there is no such cell"] if np.isnan(every).any() else []
    return [*hatching_explained(maps, scale), *empty]


def _white(results: list[Patched]) -> float:
    """What is no effect for all: effects are drawn where the directions are mixed."""
    return 0.0 if _mixed(results) else results[0].no_effect


def _all_labels(lists: list[list]) -> list:
    """Every label of an axis once: numbers in their order, spans before their tokens, regions as the prompts do."""
    every = union(lists)
    if all(isinstance(label, str) for label in every):
        return every
    return sorted(every, key=lambda label: (ends_of(label)[0], -ends_of(label)[1]))


def _map_title(label: str, panel: Panel, several: bool) -> str:
    head = "" if panel.head is None else f" {panel.head}"
    return f"{label}: {panel.component}{head}" if several else label
