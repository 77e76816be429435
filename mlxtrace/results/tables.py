"""Results in words: titles, tables for a terminal, tables for a notebook. Figures are in `plotting`."""

from __future__ import annotations

import html
from typing import Any, Protocol

import numpy as np

from ..anatomy.components import COMPONENTS
from ..plotting.labels import (
    OF_A_RATIO,
    describe,
    over,
    position_label,
    quoted,
    run_lines,
    short,
    text_bar,
    text_map,
    uncertain,
)
from ..plotting.protocols import Panel, Patched
from ..terminal import printable
from .cells import WHERE


class Printed(Patched, Protocol):
    """A result of activation patching, as it prints."""

    notes: list[str]
    _clean: dict[str, float]
    _corrupted: dict[str, float]

    def top(self, k: int = 5) -> list[dict[str, Any]]: ...


TINTS = {
    "attn": "203,24,29",
    "mlp": "35,139,69",
    "resid": "106,81,163",
}  # red, green, purple, as in the figures


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
    lines = [describe(result), *(f"  {run + ':':<11}{line}" for run, line in run_lines(result))]
    for metric in result.metrics:
        ends = f"clean {result._clean[metric]:.4g}, corrupted {result._corrupted[metric]:.4g}"
        lines.append(f"  {metric + ':':<10} {ends}")
    lines += [f"  note: {note}" for note in result.notes]
    lines += ["", *_what(result)]
    panels = result.panels()
    if panels[0].column_name == "component":
        lines += _text_bars(result, panels[0])
    elif len(panels) <= 4:
        for panel in panels:
            lines += _text_map(result, panel)
    return printable("\n".join(lines + _text_top(result)))


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
        token = f" {quoted(row['token'])}" if "token" in row else ""
        percent = row[f"{result.metrics[0]}_recovery"]
        high = row.get("high", row.get(f"{result.metrics[0]}_high"))
        half = "" if high is None else f" ± {high - percent:<5.1f}"
        lines.append(f"  {percent:7.1f}{half}  {row['component']}, {where}{token}")
    return lines


def _text_bars(result: Patched, panel: Panel) -> list[str]:
    halves = np.full(panel.values.shape, np.nan) if panel.halves is None else panel.halves
    wide = 9 if np.isfinite(halves).any() else 0
    moved = np.nan_to_num(panel.values - result.no_effect)
    low, high = min(moved.min(), 0.0), max(moved.max(), 0.0)
    unsure = uncertain(panel.values, panel.halves, result.no_effect)
    lines = ["  layer" + "".join(f"  {c:<{33 + wide}}" for c in panel.columns).rstrip()]
    for layer, *row in zip(panel.rows, panel.values, halves, unsure, moved, strict=True):
        cells = [
            f"  {v:7.1f}{_half(h, u, wide)}  {text_bar(d, low, high):<24}"
            for v, h, u, d in zip(*row, strict=True)
        ]
        lines.append(f"  {layer:>5}" + "".join(cells).rstrip())
    return lines


def _half(half: float, uncertain: bool, width: int) -> str:
    """The half-width of an interval behind its number, with its mark, in so many characters."""
    known = "" if np.isnan(half) else f" ± {half:.1f}"
    return f"{known}{' ?' if uncertain else ''}"[:width].ljust(width)


def _text_map(result: Patched, panel: Panel) -> list[str]:
    moved = (panel.values - result.no_effect) * (-1 if result.direction == "noise" else 1)
    names = _labels(result, panel.row_name, panel.rows)
    title = f"{panel.component}{'' if panel.head is None else f' {panel.head}'}"
    across = f"{panel.column_name}s {short(panel.columns)} across"
    heading = f"  {title}: {across}; ░ ▒ ▓ █ from 5, 25, 45, 65 % of effect"
    return [heading, *text_map(names, moved, 100, uncertain(panel.values, panel.halves, result.no_effect))]


def as_html(result: Patched) -> str:
    """The result for a notebook: a table of shaded cells for each panel."""
    parts = [f"<b>{html.escape(describe(result))}</b>"]
    parts += [f"<br>{run}: {html.escape(line)}" for run, line in run_lines(result)]
    parts.append("<br>" + html.escape(" ".join(_what(result))))
    for panel in result.panels():
        head = "" if panel.head is None else f" {panel.head}"
        top = "".join(f"<th>{html.escape(str(c))}</th>" for c in panel.columns)
        rows = [f"<tr><th>{html.escape(panel.component + head) or panel.row_name}</th>{top}</tr>"]
        halves = np.full(panel.values.shape, np.nan) if panel.halves is None else panel.halves
        marks = uncertain(panel.values, panel.halves, result.no_effect)
        names = _labels(result, panel.row_name, panel.rows)
        for name, *row in zip(names, panel.values, halves, marks, strict=True):
            cells = "".join(
                _html_cell(v, v - result.no_effect, panel.component or c, _half(h, u, 20).rstrip())
                for v, h, u, c in zip(*row, panel.columns, strict=True)
            )
            rows.append(f'<tr><th style="text-align:left">{html.escape(name)}</th>{cells}</tr>')
        parts.append(f"<table>{''.join(rows)}</table>")
    return "".join(parts)


def _html_cell(value: float, moved: float, component: str, half: str) -> str:
    tint = TINTS[COMPONENTS[component].colour]
    if np.isnan(value):
        return "<td></td>"
    shade = f"background:rgba({tint},{min(abs(moved) / 100, 1) * 0.75:.2f})"
    return f'<td style="{shade};text-align:right">{value:.1f}{half}</td>'
