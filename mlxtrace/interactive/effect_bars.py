"""Causal effects, noised layers and differences of results to look around in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .toolbox import (
    NATURAL,
    WITHIN,
    Bars,
    Effects,
    Hover,
    Map,
    NoisedButAWindow,
    Scale,
    bar_figure,
    checked,
    colour_of,
    facets,
    family,
    finished,
    numbered,
    over,
    prompts,
    refuse_rows,
    rows_that_matter,
    safe,
    short,
    words_of,
)

PANELS = (
    ("direct_change", "Direct less the base run: natural indirect effect"),
    ("indirect", "Indirect: drop in the source run"),
)


def effects(result: Effects, path: str | os.PathLike | None = None, *, rows: Any = "auto") -> Any:
    """Direct and indirect effects side by side on one scale: bars by layer, or maps of tokens and layers.

    Args:
        result: what `causal_effects` returns.
        path: an .html file to write as well.
        rows: of maps, tokens that are shown: "auto", those that matter where there are many; "all"; or a range.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompts = "Paris is in the country of", "Rome is in the country of"
        >>> figure = interactive.effects(model.causal_effects(*prompts, component="mlp", progress=False))
        >>> [bars.name for bars in figure.data][1]
        'Indirect: drop in the source run'
    """
    path = checked(path)
    where = f" ({WITHIN.get(result.within, 'each region')})" if result.regions is not None else ""
    title = f"Causal effects of the {words_of(result.component)}{over(result.ids)}{where}"
    caption = [*prompts(result.runs), NATURAL]
    across = "layer" if result.window == 1 else f"centre of {result.window} layers"
    if result.direct.ndim == 1:
        refuse_rows(rows)
        caption.append(f"{result.metric} in the base run: {result.base_value:.4g}")
        return finished(
            bar_figure(
                _bars(result), short(result.metric), "layer", "", title, caption, ".4f", x_label=across
            ),
            path,
        )
    maps, scale = _maps(result)
    if result.positions is not None:
        keep = {*(result.subject_range or ()), len(result.tokens) - 1}
        maps, said = rows_that_matter(maps, scale, rows, result.positions, keep)
        caption += said
    else:
        refuse_rows(rows)
    row = "token" if result.regions is None else "region"
    hover = Hover(row, "layer", short(result.metric), ".4f")
    return finished(facets(maps, scale, hover, title, caption, across), path)


def _bars(result: Effects) -> list[Bars]:
    names = [str(layer) for layer in result.layers]
    return [
        Bars(title, names, getattr(result, name), result.halves.get(name), colour_of(result.component))
        for name, title in PANELS
    ]


def _maps(result: Effects) -> tuple[list[Any], Any]:
    rows = numbered(result.tokens, result.positions or (), result.subject_range)
    if result.regions is not None:
        rows = [safe(name) for name in result.regions]
    columns, maps = [str(layer) for layer in result.layers], []
    for name, title in PANELS:
        half, values = result.halves.get(name), getattr(result, name).T
        maps.append(
            Map(
                values,
                rows,
                columns,
                family(result.component),
                title,
                halves=None if half is None else half.T,
            )
        )
    values = np.stack([one.values for one in maps])
    return maps, Scale(min(values.min(), 0.0), max(values.max(), 1e-3), 0.0)


def noising(result: NoisedButAWindow, path: str | os.PathLike | None = None) -> Any:
    """A bar for each window that is restored, with lines at the clean and the fully noised run.

    Args:
        result: what `noising_window` returns.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> figure = interactive.noising(model.noising_window("The Eiffel Tower is in the city of"))
        >>> figure.layout.yaxis.title.text
        'p(Paris)'
    """
    path = checked(path)
    answer = "answer" if result.answer is None else result.answer.text.strip()
    names = [str(layer) for layer in result.layers]
    bars = Bars("", names, result.scores, result.halves, colour_of(result.component))
    title = f"Noise on every {words_of(result.component)} but a window{over(result.ids)}"
    lines = [
        (result.clean, f"clean {result.clean:.4g}"),
        (result.noised, f"all layers noised {result.noised:.4g}"),
    ]
    across = f"centre of the {result.window} restored layers"
    options: dict[str, Any] = {"form": ".4f", "lines": lines, "x_label": across}
    caption: Sequence[str] = prompts([("prompt", result.prompt)])
    return finished(bar_figure([bars], f"p({short(answer)})", "centre", "", title, caption, **options), path)
