"""What patchscopes show: what a model says when a token of one prompt has been put into another.

scope.text                 # generated after the target prompt, patched
scope.prob                 # of the answer; of a map [target layers, source layers]
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Unpack

import numpy as np

from ..plotting import token_maps
from .saved import Record
from .token_table import (
    SHADES,
    bars_of,
    cut,
    document,
    heat,
    listed,
    marked,
    page,
    probability,
    quoted,
    shaded,
    short,
    shown,
)

STRONGEST = 5  # cells of a map that are printed


@dataclass(repr=False, eq=False)
class Scoped(Record):
    """What the results of patchscopes have in common: two prompts, a place in each, and an answer."""

    ANSWERS: ClassVar[tuple[str, ...]] = ()  # `answer` is a text here
    WHOLE: ClassVar[tuple[str, ...]] = ("ids", "rank")  # arrays of whole numbers

    answer: str
    answer_ids: list[int]
    texts: dict[int, str]
    source: str
    source_tokens: list[str]
    source_position: int
    source_said: str
    source_prob: float
    target_prompt: str
    target_tokens: list[str]
    target_position: int
    model: str

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: x.astype(np.float64) for name, x in super()._arrays().items()}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        whole = {name: arrays[name].astype(np.int64) for name in cls.WHOLE if name in arrays}
        fields = header["fields"]
        fields["texts"] = {int(token): text for token, text in fields["texts"].items()}
        return super()._made_of(header, arrays | whole)

    @property
    def where(self) -> list[str]:
        """The two prompts in words, the tokens that are read and written in ⟦ ⟧."""
        source = marked(self.source_tokens, self.source_position)
        target = marked(self.target_tokens, self.target_position)
        return [
            f"source: {source} → {quoted(self.source_said)} {probability(self.source_prob)}",
            f"target: {target}",
        ]


@dataclass(repr=False, eq=False, kw_only=True)
class Patchscope(Scoped):
    """One patchscope: what is generated after the target prompt when the source's token stands in it.

    Args:
        text, generated: what the model goes on with, and its token ids.
        ids, probabilities: `[k]`, the likeliest first tokens of it, and theirs.
        base_ids, base_probabilities: the same of the target prompt as it is.
        prob, rank: of the answer; the probability of all its tokens, and the largest rank among them (0: the model
            says it).
        base_prob: of the answer after the target prompt as it is.
        source_site, target_site: what is read, and what is written.
        mapping: the function between them, by name; "" for the identity.
        answer, answer_ids: the answer's text, and its tokens.
        texts: `{id: text}` of the tokens that are shown.
        source, source_tokens, source_position: the prompt that is read, its tokens, and which of them.
        source_said, source_prob: the model's own next token after that one, and its probability.
        target_prompt, target_tokens, target_position: the prompt that is written, its tokens, and which of them.
        model: the model's name.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> scope = model.patchscope("The Eiffel Tower is in the city of", "layers.8", max_tokens=1)
        >>> scope.text, scope.source_tokens[scope.source_position], scope.target_tokens[scope.target_position]
        ('Paris', ' of', ' ?')
        >>> scope.to_rows()[0]["token"]
        ' Paris'
        >>> figure = scope.plot()
    """

    WHOLE: ClassVar[tuple[str, ...]] = ("ids", "base_ids")

    text: str
    generated: list[int]
    ids: np.ndarray
    probabilities: np.ndarray
    base_ids: np.ndarray
    base_probabilities: np.ndarray
    prob: float
    rank: int
    base_prob: float
    source_site: str
    target_site: str
    mapping: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def top(self) -> list[tuple[str, float]]:
        """The likeliest first tokens, with the patch, and their probabilities."""
        return self._said(self.ids, self.probabilities)

    @property
    def base_top(self) -> list[tuple[str, float]]:
        """The same of the target prompt as it is."""
        return self._said(self.base_ids, self.base_probabilities)

    def _said(self, ids: np.ndarray, probabilities: np.ndarray) -> list[tuple[str, float]]:
        return [(self.texts[t], p) for t, p in zip(ids.tolist(), probabilities.tolist(), strict=True)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (len(self.top),)
        return {"ids": shape, "probabilities": shape, "base_ids": shape, "base_probabilities": shape}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict for each of the likeliest tokens, patched (`patched` true), then as it is."""
        rows = [(True, *pair) for pair in self.top] + [(False, *pair) for pair in self.base_top]
        return [{"patched": patched, "token": token, "prob": p} for patched, token, p in rows]

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[token_maps.Look]) -> Any:
        """Draw bars: the likeliest tokens with the patch, and without.

        Args:
            path, look: a PNG, PDF or SVG to write as well; `ax=` or `fig=` to draw on, `caption=False`.

        Returns:
            The matplotlib `Figure`.
        """
        return token_maps.said(self, path, **look)

    @property
    def lines(self) -> list[str]:
        """What was done, and what came of it, in words."""
        through = f" through {self.mapping}" if self.mapping else ""
        done = f"{self.source_site} at {self.source_position} is read{through}, {self.target_site} at "
        done += f"{self.target_position} written"
        answer = (
            f"{quoted(self.answer)}: patched {probability(self.prob)}, as it is {probability(self.base_prob)}"
        )
        return [*self.where, done, answer, *([f"generated: {quoted(self.text)}"] if self.generated else [])]

    def __repr__(self) -> str:
        body = ["the likeliest next token, patched, and of the target prompt as it is:"]
        for (a, p), (b, q) in zip(self.top, self.base_top, strict=True):
            body.append(f"  {bars_of(a, p)}   {bars_of(b, q)}".rstrip())
        return page(f"Patchscope on {self.model}", self.lines, self.notes, body)

    def _repr_html_(self) -> str:
        both = zip(self.top, self.base_top, strict=True)
        rows = [
            {"patched": shown(a, 24), "p": p, "as it is": shown(b, 24), "p as it is": q}
            for (a, p), (b, q) in both
        ]
        return document(f"Patchscope on {self.model}", self.lines, self.notes, [listed(rows, len(rows))])


@dataclass(repr=False, eq=False, kw_only=True)
class PatchscopeMap(Scoped):
    """Patchscopes from some layers of a source prompt into some layers of a target prompt.

    Args:
        prob: float64 `[target layers, source layers]`, of the answer: of all its tokens.
        rank: the same shape: how many tokens are likelier, the most among the answer's tokens (0: the model says it).
        ids, probabilities: the same shape: the likeliest next token, and its probability.
        layers, target_layers: those that are read, and those that are written.
        base_prob: of the answer after the target prompt as it is.
        base_said, base_said_prob: what is likeliest there, as it is.
        component: what is read and written.
        answer, answer_ids: the answer's text, and its tokens.
        texts: `{id: text}` of the tokens that are shown.
        source, source_tokens, source_position: the prompt that is read, its tokens, and which of them.
        source_said, source_prob: the model's own next token after that one, and its probability.
        target_prompt, target_tokens, target_position: the prompt that is written, its tokens, and which of them.
        model: the model's name.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> scope = model.patchscope_map("The Louvre is in the city of", layers=[0, 8], target_layers=8, progress=False)
        >>> scope.prob.shape, scope.answer, scope.to_rows()[1]["top"]
        ((1, 2), ' Paris', ' Paris')
        >>> figure = scope.plot()
    """

    prob: np.ndarray
    rank: np.ndarray
    ids: np.ndarray
    probabilities: np.ndarray
    layers: list[int]
    target_layers: list[int]
    base_prob: float
    base_said: str
    base_said_prob: float
    component: str
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> list[list[str]]:
        """The likeliest next token of each cell, `[target layers][source layers]`."""
        return [[self.texts[token] for token in row] for row in self.ids.tolist()]

    @property
    def where(self) -> list[str]:
        """The two prompts in words, and what the target prompt says as it is."""
        source, target = super().where
        return [source, f"{target} → {quoted(self.base_said)} {probability(self.base_said_prob)} as it is"]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if set(self.ids.reshape(-1).tolist()) - self.texts.keys():
            raise ValueError("some of its tokens have no text")
        shape = len(self.target_layers), len(self.layers)
        return {"prob": shape, "rank": shape, "ids": shape, "probabilities": shape}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: the two layers, the answer's probability and rank, the likeliest token and its own."""
        rows, first = [], self.first
        for i, target in enumerate(self.target_layers):
            for j, layer in enumerate(self.layers):
                row = {"component": self.component, "source_layer": layer, "target_layer": target}
                row |= {"prob": float(self.prob[i, j]), "rank": int(self.rank[i, j])}
                rows.append(row | {"top": first[i][j], "top_prob": float(self.probabilities[i, j])})
        return rows

    def plot(self, path: str | os.PathLike | None = None, **look: Unpack[token_maps.Look]) -> Any:
        """Draw the map: source layers across, target layers upwards, the colour is the answer's probability.

        Args:
            path, look: a PNG, PDF or SVG to write as well; `ax=` or `fig=` to draw on, `caption=False`.

        Returns:
            The matplotlib `Figure`.
        """
        return token_maps.scope(self, path, **look)

    @property
    def _lines(self) -> list[str]:
        return [
            *self.where,
            f"p({quoted(self.answer)}) as it is: {probability(self.base_prob)}; largest {self.prob.max():z.4f}",
        ]

    def __repr__(self) -> str:
        title = f"PatchscopeMap on {self.model}: {self.component}, from each layer into each"
        names = [f"{layer:>3}" for layer in self.target_layers]
        largest = float(self.prob.max())
        where = f"target layers down, source layers across: {cut(short(self.layers), 40)}"
        heading = f"p({quoted(self.answer)}), {where}; {SHADES} of {largest:z.4f}"
        body = shaded(heading, names, self.prob, largest, row="layer", labels=self.target_layers)
        body += ["", "strongest:"]
        for row in sorted(self.to_rows(), key=lambda row: -row["prob"])[:STRONGEST]:
            said = f"{shown(row['top'], 16)} {probability(row['top_prob'])}"
            body.append(
                f"  {row['prob']:z.4f}  source {row['source_layer']}, target {row['target_layer']}: says {said}"
            )
        return page(title, self._lines, self.notes, body)

    def _repr_html_(self) -> str:
        first = self.first
        table = heat(
            "target \\ source",
            self.target_layers,
            self.layers,
            self.prob,
            lambda i, j: shown(first[i][j]),
            "106,81,163",
            row="layer",
            labels=self.target_layers,
        )
        return document(f"PatchscopeMap on {self.model}", self._lines, self.notes, [table])
