"""The cells of a result: one by one, as the rows of a table, or side by side, as panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..plotting.protocols import Panel


def cells_of(
    dims: Sequence[str], coords: Mapping[str, list], component: str, tokens: Sequence[str]
) -> list[dict[str, Any]]:
    """A dict for each cell, in the array's order: component, layer, position with its token, region, head.

    Metrics are no cells: their axis is left out.
    """
    dims, rows = [d for d in dims if d != "metric"], []
    for index in np.ndindex(*(len(coords[d]) for d in dims)):
        row: dict[str, Any] = {"component": component}
        for dim, i in zip(dims, index, strict=True):
            label = coords[dim][i]
            row[dim] = label.item() if isinstance(label, np.generic) else label
            if dim == "position":
                row["token"] = tokens[row[dim]]
        rows.append(row)
    return rows


def panels_of(
    coords: Mapping[str, list], components: list[str], values: np.ndarray, halves: np.ndarray | None = None
) -> list[Panel]:
    """Values `[component, layer, ...]` of one metric as tables; of one component without that axis.

    One number per layer: one table, layers x components. With positions or regions: those x layers for each component,
    and each head. Heads alone: layers x heads for each component. halves: of the values' intervals.
    """
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
