"""The cells of a result: one by one, as the rows of a table, or side by side, as panels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..plotting.labels import Panel as Panel
from ..plotting.labels import Patched as Patched
from ..plotting.labels import ends_of, text_at

WHERE = ("layer", "head", "neuron", "position", "region")  # how lists of cells say where one is


def cells_of(
    dims: Sequence[str],
    coords: Mapping[str, list],
    component: str,
    tokens: Sequence[str],
    at: Sequence[int] | np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """A dict for each cell, in the array's order: component, layer, position with its token, region, head, neuron.

    Where some are spans of positions, `width` says how many tokens were patched together.
    Metrics are no cells: their axis is left out. at: which cells, by their places in that order; None: all.
    """
    parts = []
    for dim in dims:
        labels = [label.item() if isinstance(label, np.generic) else label for label in coords[dim]]
        if dim == "position":
            spans = any(isinstance(label, str) for label in labels)
            parts.append([_place(label, tokens) | (_width(label) if spans else {}) for label in labels])
        elif dim != "metric":
            parts.append([{dim: label} for label in labels])
    found: Any = itertools.product(*parts)
    if at is not None:
        places = zip(*np.unravel_index(np.asarray(at, int), [len(part) for part in parts]), strict=True)
        found = [[part[i] for part, i in zip(parts, place, strict=True)] for place in places]
    return [functools.reduce(dict.__or__, labels, {"component": component}) for labels in found]


def _place(label: int | str, tokens: Sequence[str]) -> dict[str, Any]:
    return {"position": label, "token": text_at(label, tokens.__getitem__)}


def _width(label: int | str) -> dict[str, int]:
    first, last = ends_of(label)
    return {"width": last - first + 1}


def with_metrics(
    cells: list[dict[str, Any]],
    metrics: Sequence[str],
    raw: np.ndarray,
    percent: np.ndarray,
    windows: Mapping[str, int],
) -> list[dict[str, Any]]:
    """The cells with each metric's value and recovery `[cells, metrics]`, None where that means nothing.

    windows: of each component, where they have their own.
    """
    for row, values, recoveries in zip(cells, raw, percent, strict=True):
        row.update({"window": windows[row["component"]]} if windows else {})
        for metric, value, recovery in zip(metrics, values, recoveries, strict=True):
            row[metric] = float(value)
            row[f"{metric}_recovery"] = None if np.isnan(recovery) else float(recovery)
    return cells


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """The places of the k largest values, largest first, the first of equal ones first; never where there is none."""
    return np.argsort(-values, kind="stable")[: min(k, int((~np.isnan(values)).sum()))]  # NaN stands last


def panels_of(
    coords: Mapping[str, list],
    components: list[str],
    values: np.ndarray,
    halves: np.ndarray | None = None,
    no_effect: float = 0.0,
) -> list[Panel]:
    """Values `[component, layer, ...]` of one metric as tables; of one component without that axis.

    One number per layer: one table, layers x components. With positions or regions: those x layers for each component,
    and each head. Heads alone: layers x heads for each component. Of single neurons, which are thousands, each cell
    has the one furthest from `no_effect`. halves: of the values' intervals.
    """
    if "neuron" in coords:
        furthest = np.nan_to_num(np.abs(values - no_effect)).argmax(-1)[..., None]
        values = np.take_along_axis(values, furthest, -1)[..., 0]
        halves = None if halves is None else np.take_along_axis(halves, furthest, -1)[..., 0]
    found = _panels(coords, components, values)
    if halves is None:
        return found
    return [
        p._replace(halves=h.values) for p, h in zip(found, _panels(coords, components, halves), strict=True)
    ]


def _panels(coords: Mapping[str, list], components: list[str], values: np.ndarray) -> list[Panel]:
    values = values if "component" in coords else values[None]
    layers, heads = coords["layer"], coords.get("head", [None])
    place = next((dim for dim in ("position", "region") if dim in coords), None)
    if place is not None:
        values = values if "head" in coords else values[..., None]
        return [
            Panel(c, head, place, "layer", coords[place], layers, v[..., h].T)
            for c, v in zip(components, values, strict=True)
            for h, head in enumerate(heads)
        ]
    if "head" not in coords:
        return [Panel("", None, "layer", "component", layers, components, values.T)]
    named = zip(components, values, strict=True)
    return [Panel(c, None, "layer", "head", layers, heads, v) for c, v in named]
