"""Results in words: titles, tables for a terminal, tables for a notebook. Figures are in `plotting`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..anatomy.components import COMPONENTS
from .cells import WHERE, Panel, Patched
from .printing import (
    CELLS,
    OF_A_RATIO,
    SHADES,
    TINTS,
    across,
    bars,
    cut,
    describe,
    document,
    heat,
    most_rows,
    over,
    page,
    position_label,
    quoted,
    run_lines,
    shaded,
    short,
    strongest,
    uncertain,
)

__all__ = ["OF_A_RATIO", "TINTS", "Panel", "Printed", "as_html", "describe", "less", "short", "text"]


class Printed(Patched, Protocol):
    """A result of activation patching, as it prints."""

    notes: list[str]
    _clean: dict[str, float]
    _corrupted: dict[str, float]

    def top(self, k: int = 5) -> list[dict[str, Any]]: ...


MAPS = 4  # that are printed
LEAST = 5  # percent of effect from which a cell of a map is shaded


def less(one: str, two: str) -> str:
    """One title for two results, of which one is less the other: what both say is said once."""
    first, second = one.split(), two.split()
    if first == second:
        return one
    shortest = min(len(first), len(second)) - 1
    head = next((i for i in range(shortest) if first[i] != second[i]), shortest)
    tail = next((i for i in range(shortest - head) if first[-1 - i] != second[-1 - i]), shortest - head)
    of_second = second[head : len(second) - tail]
    return " ".join([*first[: len(first) - tail], "less", *of_second, *first[len(first) - tail :]])


def _labels(result: Patched, name: str, labels: list) -> list[str]:
    if name != "position":
        return [str(x) for x in labels]
    return [f"{p:>3} {position_label(result, p, lambda t: quoted(t)[1:-1])}" for p in labels]


def text(result: Printed) -> str:
    """The result for a terminal: both runs, then bars for each layer, or a shaded map with its strongest cells."""
    lines = [f"{run + ':':<11}{line}" for run, line in run_lines(result)]
    for metric in result.metrics:
        ends = f"clean {result._clean[metric]:z.4g}, corrupted {result._corrupted[metric]:z.4g}"
        lines.append(f"{metric + ':':<10} {ends}")
    body = _what(result)
    panels = result.panels()
    if panels[0].column_name == "component":
        body += _text_bars(result, panels[0])
    else:
        which, said = strongest([panel.values - result.no_effect for panel in panels], MAPS)
        for i in which:
            body += _text_map(result, panels[i], len(which))
        body += [f"  {said}"] if said else []
    return page(describe(result), lines, result.notes, body + _text_top(result))


def _what(result: Patched) -> list[str]:
    """What the numbers are; of a set, what their intervals and the marks on them mean as well."""
    what = f"recovery of {result.metrics[0]}, percent"
    if len(result.ids) < 2:
        return [what]
    means = f"{what}: of the means{over(result.ids)}, ± its interval"
    return [means, f"  {OF_A_RATIO}; ? where it covers no effect"]


def _text_top(result: Printed) -> list[str]:
    if result.panels()[0].column_name == "component" and "neuron" not in result.dims:
        return []
    lines = ["", "strongest:"]
    for row in result.top():
        where = ", ".join(f"{d} {row[d]}" for d in WHERE if d in row)
        token = f" {cut(quoted(row['token']), 40)}" if "token" in row else ""
        percent = row[f"{result.metrics[0]}_recovery"]
        high = row.get("high", row.get(f"{result.metrics[0]}_high"))
        half = "" if high is None else f" ± {high - percent:<z5.1f}"
        lines.append(f"  {percent:z7.1f}{half}  {row['component']}, {where}{token}")
    return lines


def _text_bars(result: Patched, panel: Panel) -> list[str]:
    halves = np.full(panel.values.shape, np.nan) if panel.halves is None else panel.halves
    unsure = uncertain(panel.values, panel.halves, result.no_effect)
    columns = {c: i for i, c in enumerate(panel.columns)}
    return bars(
        "layer",
        panel.rows,
        {c: panel.values[:, i] - result.no_effect for c, i in columns.items()},
        halves={c: halves[:, i] for c, i in columns.items()},
        unsure={c: unsure[:, i] for c, i in columns.items()},
        digits=1,
        numbers={c: panel.values[:, i] for c, i in columns.items()},
        of=f" of the change from {result.no_effect:zg}" if result.no_effect else "",
    )


def _kept(result: Patched, panel: Panel) -> dict[str, Any]:
    """How the rows of a panel may be cut: not regions, and never the subject's or the last token."""
    if panel.row_name == "region":
        return {"row": "region"}
    subject = result.subject_range if panel.row_name == "position" and result.subject_range else ()
    last = panel.rows[-1:] if panel.row_name == "position" else []
    return {"row": panel.row_name, "labels": panel.rows, "keep": {*subject, *last}}


def _names(result: Patched, panel: Panel) -> list[str]:
    if panel.row_name != "position":
        return [str(x) for x in panel.rows]
    wide = max(3, *(len(str(p)) for p in panel.rows))
    return [f"{p:>{wide}} {position_label(result, p, lambda t: quoted(t)[1:-1])}" for p in panel.rows]


def _text_map(result: Patched, panel: Panel, maps: int) -> list[str]:
    moved = (panel.values - result.no_effect) * (-1 if result.direction == "noise" else 1)
    title = f"{panel.component}{'' if panel.head is None else f' {panel.head}'}"
    if maps > 1 and float(np.nan_to_num(np.abs(moved)).max(initial=0.0)) < LEAST:
        return [f"  {title}: no cell reaches {LEAST} % of effect"]
    heading = f"  {title}: {across(panel.column_name, panel.columns)}; {SHADES} of effect"
    return shaded(
        heading,
        _names(result, panel),
        moved,
        100,
        uncertain(panel.values, panel.halves, result.no_effect),
        column=panel.column_name,
        most=most_rows(panel.row_name, maps),
        **_kept(result, panel),
    )


def as_html(result: Patched) -> str:
    """The result for a notebook: a table of shaded cells for each panel, of many the strongest."""
    panels = result.panels()
    which, said = strongest([panel.values - result.no_effect for panel in panels], MAPS)
    parts = [_html_panel(result, panels[i], CELLS // len(which)) for i in which]
    lines = [*(f"{run}: {line}" for run, line in run_lines(result)), " ".join(_what(result)), said]
    return document(describe(result), filter(None, lines), getattr(result, "notes", ()), parts)


def _html_panel(result: Patched, panel: Panel, cells: int) -> str:
    halves = np.full(panel.values.shape, np.nan) if panel.halves is None else panel.halves
    marks = uncertain(panel.values, panel.halves, result.no_effect)
    head = "" if panel.head is None else f" {panel.head}"

    def cell(i: int, j: int) -> str:
        half = "" if np.isnan(halves[i, j]) else f" ± {halves[i, j]:z.1f}"
        return f"{panel.values[i, j]:z.1f}{half}{' ?' if marks[i, j] else ''}"

    return heat(
        panel.component + head or panel.row_name,
        _names(result, panel),
        panel.columns,
        panel.values,
        cell,
        [TINTS[COMPONENTS[panel.component or c].colour] for c in panel.columns],
        whole=100.0,
        white=result.no_effect,
        cells=cells,
        **_kept(result, panel),
    )
