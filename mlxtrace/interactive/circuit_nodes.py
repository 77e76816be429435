"""Circuits to look around in: a graph with names and scores in the hover, and curves of faithfulness by size."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..plotting.circuit_curves import Curved
from ..plotting.circuit_graph import Drawn, places_of
from .toolbox import (
    HELPS,
    HURTS,
    NODES,
    checked,
    dress,
    finished,
    plotly,
    safe,
    short,
)

LEVEL, CLOSEST = 58, 2600  # pixels between layers, and of the tallest graph
WIDTHS = 6  # lines of as many widths
ALONG = (0.2, 0.4, 0.6, 0.8)  # where on an edge hovering finds it
Link = tuple[str, str, str, float]


def circuit(result: Drawn, path: str | os.PathLike | None = None, *, most: int | None = 60) -> Any:
    """A circuit as a graph: layers up, heads and MLPs as nodes; hovering over an edge says its ends and score.

    Args:
        result: a `Circuit`.
        path: an .html file to write as well.
        most: edges that are drawn at most, the strongest; None for all.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("induction")
        >>> words = "hive cart chair cow cork book milk hive cart chair cow"
        >>> prompts = f"{words} cork", f"{words.replace('cork', 'coat')} cork"
        >>> circuit = model.edges(*prompts, progress=False).circuit(9)
        >>> nodes = [note.text for note in interactive.circuit(circuit).layout.annotations]
        >>> nodes[0], nodes[-1]
        ('embed', 'logits')
    """
    path = checked(path)
    links = result.links(most)
    places = places_of(links)
    figure = plotly().graph_objects.Figure()
    for trace in _lines(links, places):
        figure.add_trace(trace)
    figure.add_trace(_handles(links, places, result.metric))
    _nodes(figure, links, places)
    hidden = {"visible": False, "zeroline": False, "showgrid": False}
    y = np.array([at[1] for at in places.values()])
    x = np.concatenate([[at[0] for at in places.values()], figure.data[-1].x])
    figure.update_xaxes(**hidden, range=[x.min() - 0.8, x.max() + 0.8])
    figure.update_yaxes(**hidden, range=[y.min() - 0.5, y.max() + 0.5])
    figure.update_layout(hovermode="closest", showlegend=False)
    left = f"; the {most} strongest of {result.n} are drawn" if most is not None and most < result.n else ""
    kind = (
        f"scores are approximate ({result.method}: gradients)" if result.approximate else "scores are exact"
    )
    caption = [
        f"blue edges help the clean answer, red ones work against it; width: size of the score{left}",
        f"edges run upwards, hover over their middle; q, k, v: the read that an edge goes into; {kind}",
    ]
    title = f"Circuit of {result.n} of {int(result.upstream.sum())} edges ({result.metric})"
    height = min(LEVEL * len(set(y.tolist())), CLOSEST)
    return finished(dress(figure, title, caption, height, below=20), path)


def _lines(links: list[Link], places: dict[str, tuple[float, float]]) -> list[Any]:
    """The edges, those of a width and a sign in one trace, the strongest on top."""
    most = max((abs(score) for *_, score in links), default=1.0) or 1.0
    bins: dict[tuple[int, bool], list[Link]] = {}
    for link in links:
        width = min(int(WIDTHS * abs(link[3]) / most), WIDTHS - 1)
        bins.setdefault((width, link[3] >= 0), []).append(link)
    found = []
    for (width, helps), some in sorted(bins.items()):
        curves = [_curve(places[sender], places[node], np.linspace(0, 1, 13)) for sender, node, _, _ in some]
        apart = np.pad(np.stack(curves), ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
        x, y = apart.transpose(1, 0, 2).reshape(2, -1).astype(np.float32)
        part = (width + 1) / WIDTHS
        look = {"color": HELPS if helps else HURTS, "width": 0.8 + 4 * part}
        scatter = plotly().graph_objects.Scatter
        found.append(scatter(x=x, y=y, mode="lines", line=look, opacity=0.35 + 0.5 * part, hoverinfo="skip"))
    return found


def _curve(start: tuple[float, float], end: tuple[float, float], at: np.ndarray) -> np.ndarray:
    """Points of an edge, bent where it passes other layers; `[2, points]`."""
    across, up = end[0] - start[0], end[1] - start[1]
    bend = 0.0 if up < 1.2 else (0.12 if across >= 0 else -0.12) * up
    return np.stack([start[0] + across * at + bend * 4 * at * (1 - at), start[1] + up * at])


def _handles(links: list[Link], places: dict[str, tuple[float, float]], metric: str) -> Any:
    """Points along the edges that say what these are; they are not seen."""
    spots, texts = [np.zeros((2, 0))], []
    for sender, node, read, score in links:
        spots.append(_curve(places[sender], places[node], np.array(ALONG)))
        into = f"{safe(node)}.{read}" if read else safe(node)
        way = "helps" if score >= 0 else "works against"
        said = f"score <b>{abs(score):.4g}</b> ({short(metric)}): {way} the clean answer"
        texts += [f"<b>{safe(sender)} → {into}</b><br>{said}"] * len(ALONG)
    x, y = np.concatenate(spots, 1).astype(np.float32)
    return plotly().graph_objects.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"size": 12, "opacity": 0},
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _nodes(figure: Any, links: list[Link], places: dict[str, tuple[float, float]]) -> None:
    """Boxes as wide as their names; hovering says how many edges come and go, and the strongest of them."""
    for name, (x, y) in places.items():
        said = [f"<b>{safe(name)}</b>"]
        for word, end, other in (("in", 1, 0), ("out", 0, 1)):
            some = [link for link in links if link[end] == name]
            if some:
                best = max(some, key=lambda link: abs(link[3]))
                said.append(f"{len(some)} {word}, the strongest {'from' if other == 0 else 'to'} "
                            f"{safe(str(best[other]))} {abs(best[3]):.3g}")  # fmt: skip
        figure.add_annotation(
            x=x,
            y=y,
            text=safe(name),
            hovertext="<br>".join(said),
            showarrow=False,
            bgcolor=NODES[name[0]],
            bordercolor="#555",
            borderpad=3,
            font={"size": 11},
        )


def curve(result: Curved, path: str | os.PathLike | None = None) -> Any:
    """Faithfulness by number of edges, with intervals, beside random circuits of as many edges.

    Args:
        result: a `Curve`.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> import numpy as np
        >>> from mlxtrace import Curve, interactive
        >>> arrays = np.array([[0.0], [1.0]]), np.zeros((2, 0)), np.array([2.0]), np.array([0.0])
        >>> names = {"ids": ["a"], "metric": "logit_diff", "method": "eap", "by": "greedy", "model": "demo"}
        >>> curve = Curve(*arrays, sizes=[0.5, 1.0], asked=[5, 10], edges=[5, 10], absolute=True, total=10, **names)
        >>> interactive.curve(curve).data[0].y.tolist()
        [0.0, 0.5]
    """
    path = checked(path)
    x = np.log10(1 + np.array(result.asked, float))
    figure = plotly().graph_objects.Figure()
    kind = "" if result.method == "exact" else " (approximate scores)"
    if result.random.size:
        mean = result.random.mean(1)
        texts = [
            f"{result.random.shape[1]} random circuits of {n} edges<br>faithfulness <b>{value:z.3f}</b>"
            f"<br>{row.min():z.3f} to {row.max():z.3f}"
            for n, value, row in zip(result.asked, mean, result.random, strict=True)
        ]
        reach = (mean - result.random.min(1), result.random.max(1) - mean)
        _line(figure, x, mean, reach, texts, "#888", f"{result.random.shape[1]} random of as many edges")
    halves = np.nan_to_num(result.interval)
    texts = [
        f"{n} edges, {kept} of them lead somewhere<br>faithfulness <b>{value:z.3f}</b>"
        + (f"<br>{value - half:z.3f} to {value + half:z.3f} (95 %)" if half else "")
        for n, kept, value, half in zip(result.asked, result.edges, result.faithfulness, halves, strict=True)
    ]
    name = f"{result.method}{kind}, {result.by}"
    _line(figure, x, result.faithfulness, (halves, halves), texts, HELPS, safe(name))
    ticks = [0, *(10**i for i in range(12) if 10**i <= 2 * result.total)]
    plain = {"gridcolor": "#e5e5e5", "zeroline": False, "automargin": True}
    figure.update_xaxes(
        **plain, tickvals=np.log10(1 + np.array(ticks, float)), ticktext=[str(n) for n in ticks]
    )
    figure.update_xaxes(title_text=f"edges of {result.total}")
    figure.update_yaxes(**plain, title_text="faithfulness")
    for height in (0.0, 1.0):
        figure.add_hline(height, line={"color": "#555", "width": 1, "dash": "dot"})
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    caption = [
        f"metric: {result.metric}; CPR {result.cpr:z.3f}, CMD {result.cmd:z.3f} (areas over shares of edges)"
    ]
    caption += ["whiskers: 95 % intervals over the pairs"] * (len(result.ids) > 1)
    caption += ["of random circuits: from the least to the most faithful"] * bool(result.random.size)
    return finished(dress(figure, "Faithfulness by size of the circuit", caption, 340, True), path)


def _line(
    figure: Any, x: Any, y: Any, reach: tuple[Any, Any], texts: list[str], colour: str, name: str
) -> None:
    error = {"type": "data", "arrayminus": reach[0], "array": reach[1], "thickness": 1, "width": 3}
    figure.add_scatter(
        x=x,
        y=y,
        error_y=error if np.any(reach) else None,
        mode="lines+markers",
        line={"color": colour},
        name=name,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
    )
