"""What a logit lens shows: the likeliest tokens of each layer and position, and the probability of an answer.

lens.prob                    # [layers, positions]: of the answer
lens.top[-1][0]              # of the first layer, at the last position: [(token, probability), ...]
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Unpack

import numpy as np

from ..plotting import token_maps
from .saved import Record
from .token_table import ALL, document, last_that_fit, page, probability, quoted, shown, token_table

SHOWN = 3  # tokens of a layer that are printed
MOST = 40  # layers that are shown
COLUMNS, MOST_HTML = 60, 1200  # columns and cells of a notebook's table
HOVERED = 500  # cells of one that says every likeliest token


@dataclass(repr=False, eq=False)
class LogitLens(Record):
    """What each layer's stream says, read by the model's own norm and head: tokens and probabilities.

    Args:
        ids: `[layers, positions, k]`, the likeliest tokens, the likeliest first.
        probabilities: float64 `[layers, positions, k]`, theirs.
        prob: float64 `[layers, positions]`, the answer's.
        rank: `[layers, positions]`: how many tokens are likelier than the answer; 0 where it is the likeliest.
        layers, positions: the labels of the axes.
        answer, answer_id: the token that `prob` and `rank` are of.
        final: its probability at the end of the prompt, by the model itself.
        texts: `{id: text}` of every token in `ids`.
        tokens: the prompt's.
        component: what was read of each layer.
        prompt, model: the text and the model's name.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> lens = model.logit_lens("The Eiffel Tower is in the city of", layers=[0, 11], k=2)
        >>> lens.prob.shape, lens.ids.shape, lens.answer
        ((2, 10), (2, 10, 2), ' Paris')
        >>> lens.top[-1][-1][0][0], bool(abs(lens.prob[-1, -1] - lens.final) < 1e-4)
        (' Paris', True)
        >>> lens.to_rows()[0]["layer"], lens.to_rows()[-1]["top_1"]
        (0, ' Paris')
        >>> figure = lens.plot()
    """

    ANSWERS: ClassVar[tuple[str, ...]] = ()  # `answer` is a text here

    ids: np.ndarray
    probabilities: np.ndarray
    prob: np.ndarray
    rank: np.ndarray
    layers: list[int]
    positions: list[int]
    answer: str
    answer_id: int
    final: float
    texts: dict[int, str]
    tokens: list[str]
    component: str
    prompt: str
    model: str
    notes: list[str] = field(default_factory=list)

    @property
    def top(self) -> list[list[list[tuple[str, float]]]]:
        """By layer and position the likeliest tokens: lists `[layers][positions][k]` of (text, probability)."""
        return [[self._said(i, j) for j in range(len(self.positions))] for i in range(len(self.layers))]

    def _said(self, i: int, j: int) -> list[tuple[str, float]]:
        pairs = zip(self.ids[i, j].tolist(), self.probabilities[i, j].tolist(), strict=True)
        return [(self.texts[token], p) for token, p in pairs]

    @property
    def first(self) -> list[list[str]]:
        """By layer and position the likeliest token, `[layers][positions]`."""
        return [[self.texts[token] for token in row] for row in self.ids[..., 0].tolist()]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per layer and position: its token, the answer's probability and rank, the likeliest tokens."""
        rows = []
        for i, layer in enumerate(self.layers):
            for j, position in enumerate(self.positions):
                row = {"component": self.component, "layer": layer, "position": position}
                row |= {"token": self.tokens[position], "prob": float(self.prob[i, j])}
                row["rank"] = int(self.rank[i, j])
                for n, (text, p) in enumerate(self._said(i, j), 1):
                    row |= {f"top_{n}": text, f"top_{n}_prob": p}
                rows.append(row)
        return rows

    def plot(
        self,
        path: str | os.PathLike | None = None,
        of: str = "top",
        rows: Any = "all",
        **look: Unpack[token_maps.Look],
    ) -> Any:
        """Draw a map, layers upwards and tokens across: the likeliest token of each cell.

        Cells in which that is the answer are framed. Beyond 20 positions or 90 layers there are colours only:
        ask for fewer (`rows=`; or `layers=`, `positions=` of the lens).

        Args:
            path: a PNG, PDF or SVG to write as well.
            of: whose probability the colour is: "top" for the likeliest token's, "answer" for the answer's.
            rows: which tokens are shown: "all", or positions such as `range(480, 500)`.
            look: `ax=` or `fig=` to draw on, `caption=False`.

        Returns:
            The matplotlib `Figure`.

        Raises:
            InputError: `of` is neither, there are no such rows, or nothing can be drawn on this or written there.
        """
        return token_maps.lens(self, path, of, rows, **look)

    # ---- in a file

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: x.astype(np.float64) for name, x in super()._arrays().items()}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        whole = {name: arrays[name].astype(np.int64) for name in ("ids", "rank")}
        fields = header["fields"]
        fields["texts"] = {int(token): text for token, text in fields["texts"].items()}
        return super()._made_of(header, arrays | whole)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shape = len(self.layers), len(self.positions)
        if set(self.ids.reshape(-1).tolist()) - self.texts.keys():
            raise ValueError("some of its tokens have no text")
        every = (*shape, self.ids.shape[-1])
        return {"ids": every, "probabilities": every, "prob": shape, "rank": shape}

    # ---- in words

    def _lines(self) -> list[str]:
        said = f"{quoted(self.answer)} {probability(self.final)}"
        return [f"prompt: {token_maps.ending(self.prompt)} → {said}", f"model: {self.model}"]

    @property
    def _title(self) -> str:
        return f"{type(self).__name__}: {token_maps.lens_title(self.component)}"

    def __repr__(self) -> str:
        at, rows = self.positions[-1], self._layers()
        body = [f"at position {at} {quoted(self.tokens[at])}{self._cut(rows)}:"]
        name = f"p({shown(self.answer, 14)})"
        body.append(f"  layer  {name:<17}  rank  likeliest")
        for i in rows:
            bar = "█" * round(10 * float(self.prob[i, -1]))
            said = ", ".join(f"{shown(t, 16)} {probability(p)}" for t, p in self._said(i, -1)[:SHOWN])
            numbers = f"{self.prob[i, -1]:z.4f} {bar:<10}  {self.rank[i, -1]:>4}"
            body.append(f"  {self.layers[i]:>5}  {numbers}  {said}")
        n = last_that_fit(len(self.positions), 5)
        if len(self.positions) > 1:
            left = f", the last {n} of {len(self.positions)} positions ({ALL})"
            body += ["", f"the likeliest token{left if n < len(self.positions) else ''}:"]
            heads = [f"{p} {shown(self.tokens[p], 8)}" for p in self.positions[-n:]]
            names, first = [f"{self.layers[i]:>5}" for i in rows], self.first
            body += token_table("layer", names, heads, [first[i][-n:] for i in rows])
        return page(self._title, self._lines(), self.notes, body)

    def _layers(self) -> list[int]:
        """Which layers are shown, by their place: of many every second, or third, and the last in any case."""
        n = len(self.layers)
        return list(range(n))[:: -max(1, -(-n // MOST))][::-1]

    def _cut(self, rows: list[int]) -> str:
        n = len(self.layers)
        return f", {len(rows)} of {n} layers ({ALL})" if len(rows) < n else ""

    def _repr_html_(self) -> str:
        rows = self._layers()
        n = min(len(self.positions), COLUMNS, max(4, MOST_HTML // len(rows)))
        cut = f"{self._cut(rows)[2:]}" if len(rows) < len(self.layers) else ""
        last = f"the last {n} of {len(self.positions)} positions ({ALL})" if n < len(self.positions) else ""
        names = (f"{p} {html.escape(shown(self.tokens[p], 16))}" for p in self.positions[-n:])
        table = [f"<tr><th>layer</th>{''.join(f'<th>{name}</th>' for name in names)}</tr>"]
        columns = range(len(self.positions) - n, len(self.positions))
        for i in reversed(rows):
            cells = "".join(self._cell(i, j, n * len(rows) <= HOVERED) for j in columns)
            table.append(f"<tr><th>{self.layers[i]}</th>{cells}</tr>")
        lines = [*self._lines(), *filter(None, [cut, last])]
        return document(self._title, lines, self.notes, [f"<table>{''.join(table)}</table>"])

    def _cell(self, i: int, j: int, every: bool) -> str:
        """A cell's likeliest token; every: and the others where the pointer rests on it."""
        said = self._said(i, j)
        others = "&#10;".join(f"{html.escape(shown(text, 24))} {probability(p)}" for text, p in said)
        title = f' title="{others}"' if every else ""
        shade = f"background:#6a51a3{round(191 * said[0][1]):02x}"
        return f'<td style="{shade}"{title}>{html.escape(shown(said[0][0], 16))}</td>'
