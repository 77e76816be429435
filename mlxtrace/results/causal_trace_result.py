"""A causal trace of one prompt: the probability of its answer for each state that was restored.

trace.scores             # [positions, layers]
trace.top(3); trace.plot("trace.png"); trace.save("trace.npz"); CausalTrace.load("trace.npz")
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from .. import metrics, plotting
from ..anatomy.components import KINDS, short_words
from ..errors import InputError
from .printing import SHADES, TINTS, decimals, document, heat, page, probability, quoted, shaded, top_rows
from .saved import Answer, Record


@dataclass(repr=False, eq=False)
class CausalTrace(Record):
    """A causal trace of one prompt: the probability of its answer for each restored state, by position and layer.

    Args:
        raw: float64 `[positions, layers, samples]`, probabilities.
        low_score: mean probability in the corrupted run.
        high_score: probability in the clean run.
        answer: the token whose probability it is.
        subject_range: the corrupted positions.
        positions: those that were restored, one per row.
        tokens, ids: of the whole prompt.
        noise_level: the noise's absolute standard deviation (half-width if uniform).
        kind: what was restored: None (one layer output), "mlp" or "attn" (the outputs of `window` layers).
        window: the number of layers that were restored together.
        severed: the component whose outputs had their corrupted values, or None.
        prompt, model: the text and the model's name.
        plan: what was run.
        notes: what must be known to read the numbers.
        settings: how the noise was drawn.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> trace = model.causal_trace("The Eiffel Tower is in the city of", "Eiffel Tower", samples=2, progress=False)
        >>> trace.scores.shape, trace.answer.text, trace.low_score < trace.high_score
        ((10, 12), ' Paris', True)
        >>> len(trace.to_rows()), bool(trace.top(1)[0]["score"] == trace.scores.max())
        (120, True)
        >>> figure = trace.plot()
    """

    raw: np.ndarray
    low_score: float
    high_score: float
    answer: Answer
    subject_range: range
    positions: list[int]
    tokens: list[str]
    ids: list[int]
    noise_level: float
    kind: str | None
    window: int
    severed: str | None
    prompt: str
    model: str
    plan: Any = None
    notes: list[str] = dataclasses.field(default_factory=list)
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> np.ndarray:
        """`[positions, layers]`: the mean over samples of the answer's probability."""
        return self.raw.mean(-1)

    @property
    def total_effect(self) -> float:
        """high_score - low_score (Meng et al. 2022, section 2.1)."""
        return self.high_score - self.low_score

    @property
    def indirect_effect(self) -> np.ndarray:
        """`[positions, layers]`: scores - low_score (Meng et al. 2022, section 2.1): the natural indirect effect."""
        return self.scores - self.low_score

    @property
    def recovery(self) -> np.ndarray:
        """`[positions, layers]`, percent of the total effect; EffectError when the noise hardly moved the answer."""
        return metrics.recovery(self.scores, self.high_score, self.low_score, "prob")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if len(self.ids) != len(self.tokens) or not set(self.positions) <= set(range(len(self.tokens))):
            raise InputError(
                f"it has {len(self.ids)} ids, {len(self.tokens)} tokens, positions {self.positions}"
            )
        if (
            not np.isfinite([self.low_score, self.high_score, self.noise_level]).all()
            or self.kind not in KINDS
        ):
            raise InputError("its scores, noise level or kind are none")
        samples = self.settings.get("samples", self.raw.shape[-1])
        return {"raw": (len(self.positions), self.raw.shape[1], samples)}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: kind, position, token, subject, layer, score, indirect_effect."""
        scores, effects = self.scores, self.indirect_effect
        return [
            {
                "kind": self.kind,
                "position": int(p),
                "token": self.tokens[p],
                "subject": p in self.subject_range,
                "layer": layer,
                "score": float(scores[i, layer]),
                "indirect_effect": float(effects[i, layer]),
            }
            for i, p in enumerate(self.positions)
            for layer in range(scores.shape[1])
        ]

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The cells that restore most, best first.

        Args:
            k: how many.

        Returns:
            Rows as `to_rows` has them.
        """
        return top_rows(self.to_rows(), "score", k)

    def plot(
        self, path: str | os.PathLike | None = None, rows: Any = "auto", **look: Unpack[plotting.Look]
    ) -> Any:
        """Draw it as figure 1 of Meng et al. (2022): tokens down, layers across, colour p(answer).

        Args:
            path: a PNG, PDF or SVG to write as well.
            rows: which positions are shown: "auto", of many those that matter; "all"; or positions.
            look: `ax=` or `fig=` to draw on, `caption=False`.

        Returns:
            The matplotlib `Figure`.
        """
        inside = [i for i, p in enumerate(self.positions) if p in self.subject_range]
        return plotting.rome_heatmap(
            self.scores,
            [self.tokens[p] for p in self.positions],
            low=self.low_score,
            high=self.high_score,
            subject_range=inside,
            kind=self.kind,
            window=self.window,
            answer=self.answer.text,
            model=self.model,
            title=self._title(),
            path=path,
            positions=self.positions,
            rows=rows,
            **look,
        )

    def _title(self) -> str:
        cut = f", {short_words(self.severed)} severed" if self.severed else ""
        return f"Impact of restoring {short_words(self.kind)} after corrupted input{cut}"

    def __repr__(self) -> str:
        title, lines = self._said()
        return page(title, lines, self.notes, [*self._map(), "", *self._strongest()])

    def _repr_html_(self) -> str:
        title, lines = self._said()
        table = heat(
            "position",
            self._names(),
            range(self.raw.shape[1]),
            self.scores,
            decimals(self.scores),
            TINTS[self.kind or "resid"],
            whole=self.total_effect,
            white=self.low_score,
            labels=self.positions,
            keep=self._kept(),
        )
        below = f"cells: p({quoted(self.answer.text)}), layers across; colour: of the total effect"
        return document(title, [*lines, below], self.notes, [table])

    def _said(self) -> tuple[str, list[str]]:
        """The title, and what must be known to read the numbers."""
        what = (
            "a layer's output"
            if self.kind is None
            else f"{self.window} layers' {short_words(self.kind)} outputs"
        )
        cut = f", with the {short_words(self.severed)} of that token severed" if self.severed else ""
        lines = [
            f"prompt:    {self.prompt} → {quoted(self.answer.text)}",
            f"clean:     {probability(self.high_score)}",
            f"corrupted: {probability(self.low_score)}, {self.raw.shape[-1]} samples, noise {self.noise_level:z.4g}",
        ]
        return f"CausalTrace: restoring {what} at one token{cut}", lines

    def _names(self) -> list[str]:
        return [
            f"{p:>3} {quoted(self.tokens[p])[1:-1]}{'*' if p in self.subject_range else ''}"
            for p in self.positions
        ]

    def _kept(self) -> set[int]:
        """The rows of the map that are shown in any case: of the subject's tokens and the last one."""
        return {*self.subject_range, len(self.tokens) - 1}

    def _map(self) -> list[str]:
        heading = f"  layers 0-{self.raw.shape[1] - 1} across; {SHADES} of the total effect"
        rows = {"labels": self.positions, "keep": self._kept()}
        return shaded(heading, self._names(), self.indirect_effect, self.total_effect, **rows)

    def _strongest(self) -> list[str]:
        cells = [
            f"  {row['score']:z8.4f}  layer {row['layer']}, position {row['position']} {quoted(row['token'])}"
            for row in self.top()
        ]
        return ["  strongest:", *cells]
