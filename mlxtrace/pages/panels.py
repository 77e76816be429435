"""The panels of a page: for each result (and each component of a map) a figure, what it found, and its numbers.

for panel in panels_of(result):
    panel.title, panel.figure, panel.said, panel.numbers
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedError
from ..interactive import div, recoveries
from ..plotting.labels import describe
from .elements import Html, el
from .number_tables import folded, table

MOST = 12  # rows of a table of the strongest cells
HEADROOM = 34  # pixels above a figure, whose title stands in the page
SPLIT = ("maps", "heads", "neurons", "attribution")  # kinds of which each component has a figure of its own
UNSHOWN = ("kind", "subject", "component", "part")
RUNS = ("clean:", "corrupted:", "base:", "source:", "prompt:")


class OneComponent:
    """A result of activation patching as if only one of its components had been patched.

    Args:
        result: of several components.
        component: one of them.
        rows: all rows of the result; default: they are made once more.
    """

    def __init__(self, result: Any, component: str, rows: Sequence[dict[str, Any]] | None = None) -> None:
        self._of, self.components = result, [component]
        every: Sequence[dict[str, Any]] = result.to_rows() if rows is None else rows
        self._rows = [row for row in every if row["component"] == component]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._of, name)

    def panels(self, metric: str | None = None) -> list[Any]:
        """Those of its component."""
        return [panel for panel in self._of.panels(metric) if panel.component == self.components[0]]

    def to_rows(self) -> list[dict[str, Any]]:
        """Those of its component."""
        return self._rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The strongest of its component."""
        key = f"{self._of.metrics[0]}_recovery"
        rows = [row for row in self._rows if row[key] is not None]
        return sorted(rows, key=lambda row: row[key], reverse=self._of.direction != "noise")[:k]


@dataclass(frozen=True)
class Panel:
    """One figure with its words. beside: what two panels share that are the two directions of one experiment."""

    kind: str
    title: str
    figure: Html
    numbers: Html
    result: Any
    beside: tuple = ()


def panels_of(result: Any, kind: str) -> list[Panel]:
    """The panels of a result.

    Args:
        result: what any experiment returns.
        kind: which of `METHODS` made it.

    Returns:
        A `Panel` for it, or for each of its components where these are maps.

    Raises:
        UnsupportedError: without plotly.
    """
    if kind not in SPLIT or len(result.components) < 2 or len(result.dims) < 3:
        return [_panel(result, kind)]
    rows = result.to_rows()
    return [_panel(OneComponent(result, name, rows), kind) for name in result.components]


def _panel(part: Any, kind: str) -> Panel:
    made, lines = _figure(part)
    metrics = getattr(part, "metrics", [])
    lines += [f"shown is {metrics[0]}; also measured: {', '.join(metrics[1:])}"] if len(metrics) > 1 else []
    caption = [el("figcaption", "; ".join(lines))] if lines else []
    patched = hasattr(part, "panels") and hasattr(part, "direction")
    title = describe(part) if patched else _title(part)
    beside = (kind, *part.components, part.window, tuple(part.dims)) if patched else ()
    figure = el("figure", made, *caption, aria_label=title) if made or lines else Html("")
    return Panel(kind, title, figure, _numbers(part), part, beside)


def _title(part: Any) -> str:
    """The first line that a result prints, without its class and its prompt."""
    named = {"Curve": "Faithfulness of circuits by their size", "Faithfulness": "Faithfulness of the circuit"}
    named["Completeness"] = "Completeness of the circuit"
    if type(part).__name__ in named:
        return named[type(part).__name__]
    own = getattr(part, "title", None)
    first = own if isinstance(own, str) else repr(part).splitlines()[0].strip()
    words = first.removeprefix(f"{type(part).__name__}: ")
    words = words if len(words) <= 110 else f"{words[:109]}…"
    return f"{words[:1].upper()}{words[1:]}"


# ---- the figure


def _figure(part: Any) -> tuple[Html, list[str]]:
    """The figure, and the lines of its caption that say more than the page does; a picture where there is no other."""
    drawn = _interactive(part)
    if drawn is not None:
        lines = _bare(drawn)
        return Html(f'<div class="plot">{div(drawn)}</div>'), lines
    if hasattr(part, "plot"):
        return _picture(part.plot(), _title(part)), []
    return el("pre", repr(part)) if len(repr(part).splitlines()) > 1 else Html(""), []


def _interactive(part: Any) -> Any:
    """The figure to look around in; None for results that have none."""
    one: Any = part
    if isinstance(part, OneComponent):
        return recoveries(one)
    try:
        return one.explore() if hasattr(part, "explore") else None
    except UnsupportedError:
        return None


def _bare(drawn: Any) -> list[str]:
    """Take the title and the caption off a figure of plotly; the lines of the caption that are not of the prompts."""
    layout, meta = drawn.layout, drawn.layout.meta or {}
    top = layout.margin.t or 0
    if layout.height and top > HEADROOM:
        layout.height -= top - HEADROOM
        layout.margin.t = HEADROOM
    layout.title, layout.meta = None, None
    return _own_lines([html.unescape(str(line)) for line in meta.get("caption", ())])


def _own_lines(lines: Sequence[str]) -> list[str]:
    """The lines of a caption that are not of the prompts; those that were broken are whole again."""
    whole: list[str] = []
    for line in lines:
        if line.startswith("   ") and whole:
            whole[-1] = f"{whole[-1]} {line.strip()}"
        else:
            whole.append(line.strip())
    return [line for line in whole if not line.startswith(RUNS)]


def _picture(figure: Any, title: str) -> Html:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return el("img", alt=title, src=source)


# ---- its numbers


def _numbers(part: Any) -> Html:
    """The strongest cells as a table that is shown when it is asked for."""
    if not hasattr(part, "to_rows"):
        return Html("")
    ranked, every = callable(getattr(part, "top", None)), part.to_rows()
    rows = part.top(MOST) if ranked else every[:MOST]
    if not rows:
        return Html("")
    rows = [_shown(row) for row in rows]
    what = "strongest" if ranked else "first"
    said = f"The {len(rows)} {what} of {len(every)}" if len(rows) < len(every) else f"All {len(rows)}"
    units = dict.fromkeys((name for name in rows[0] if name.endswith("recovery")), "%")
    return folded(f"Numbers: {said[0].lower()}{said[1:]}", table(rows, f"{said} rows of the result.", units))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in row.items() if name not in UNSHOWN}
    return {
        name.removesuffix("_recovery") + " recovery" if name.endswith("_recovery") else name: value
        for name, value in found.items()
    }
