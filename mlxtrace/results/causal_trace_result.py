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
from .printing import (
    SHADES,
    TINTS,
    decimals,
    document,
    ends_of,
    heat,
    page,
    probability,
    quoted,
    shaded,
    text_at,
    top_rows,
)  # fmt: skip
from .samples import OverSamples
from .saved import Answer, Record


@dataclass(repr=False, eq=False)
class CausalTrace(OverSamples, Record):
    """A causal trace of one prompt: the probability of its answer for each restored state, by position and layer.

    Args:
        raw: float64 `[positions, layers, samples]`, probabilities.
        low_score: mean probability in the corrupted run.
        high_score: probability in the clean run.
        answer: the token whose probability it is.
        subject_range: the corrupted positions.
        positions: those that were restored, one per row; "32-63" where the tokens of a span were restored together.
        tokens, ids: of the whole prompt.
        noise_level: the noise's absolute standard deviation (half-width if uniform).
        kind: what was restored: None (one layer output), "mlp" or "attn" (the outputs of `window` layers).
        window: the number of layers that were restored together.
        severed: the component whose outputs had their corrupted values, or None.
        prompt, model: the text and the model's name.
        plan: what was run.
        notes: what must be known to read the numbers.
        settings: how the noise was drawn.
        corrupted_raw: with samples="until" the probability in the corrupted run of each sample, `[samples]`, with which
            cells are compared; `raw` is then NaN behind the samples that a cell had.
        within: with samples="until", how narrow intervals were asked for, percentage points of recovery.

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
    positions: list[int | str]
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
    corrupted_raw: np.ndarray | None = None
    within: float | None = None

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
        ends = {end for label in self.positions for end in ends_of(label)}
        if len(self.ids) != len(self.tokens) or not ends <= set(range(len(self.tokens))):
            told = f"{len(self.ids)} ids, {len(self.tokens)} tokens, positions {self.positions}"
            raise InputError(f"it has {told}")
        finite = np.isfinite([self.low_score, self.high_score, self.noise_level]).all()
        if not finite or self.kind not in KINDS:
            raise InputError("its scores, noise level or kind are none")
        shape = len(self.positions), self.raw.shape[1]
        if self.corrupted_raw is None:
            return {"raw": (*shape, self.settings.get("samples", self.raw.shape[-1]))}
        if not self.in_order:
            raise InputError("a cell has no sample, or one behind its last")
        return {"raw": (*shape, self.raw.shape[-1]), "corrupted_raw": self.raw.shape[-1:]}

    def known(self, name: str) -> Any:
        """The index of the numbers that must be finite: with samples="until" those of samples that cells had.

        Args:
            name: of the array.

        Returns:
            A mask, or an ellipsis for all.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model, options = InterpretableModel("demo"), {"positions": "last", "progress": False}
            >>> trace = model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", samples="until", **options)
            >>> bool((trace.known("raw").sum(-1) == trace.samples).all())
            True
        """
        return ~np.isnan(self.raw) if name == "raw" and self.corrupted_raw is not None else ...

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: kind, position, token, subject, layer, score, indirect_effect.

        Where spans were restored together `width` says how many tokens; of the subject is one that has a token of it.
        With samples="until" the samples that it had, and the half-width of its recovery's interval, percent, as well.
        """
        scores, effects = self.scores, self.indirect_effect
        until = self.corrupted_raw is not None
        n, halves = np.broadcast_to(self.samples, self.raw.shape[:2]), self.interval
        return [
            {
                "kind": self.kind,
                **place,
                "layer": layer,
                "score": float(scores[i, layer]),
                "indirect_effect": float(effects[i, layer]),
                **({"samples": int(n[i, layer]), "interval": float(halves[i, layer])} if until else {}),
            }
            for i, place in enumerate(map(self._place, self.positions))
            for layer in range(scores.shape[1])
        ]

    def _place(self, label: int | str) -> dict[str, Any]:
        """Where a row of the map is, as rows of tables say it."""
        first, last = ends_of(label)
        width = {"width": last - first + 1} if "spans" in self.settings else {}
        inside = any(first <= p <= last for p in self.subject_range)
        return {
            "position": label,
            **width,
            "token": text_at(label, self.tokens.__getitem__),
            "subject": inside,
        }

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
            [text_at(p, self.tokens.__getitem__) for p in self.positions],
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
        cut += f", spans of {spans['width']} tokens together" if (spans := self.settings.get("spans")) else ""
        cut += "" if self.corrupted_raw is None else f" ({self.drawn})"
        return f"Impact of restoring {short_words(self.kind)} after corrupted input{cut}"

    def __repr__(self) -> str:
        return page(*self._said(), self.notes, [*self._map(), "", *self._strongest()])

    def _repr_html_(self) -> str:
        title, lines = self._said()
        cells = self._names(), range(self.raw.shape[1]), self.scores, decimals(self.scores)
        rows: dict[str, Any] = {"labels": self.positions, "keep": self._kept()}
        ends = {"whole": self.total_effect, "white": self.low_score}
        table = heat("position", *cells, TINTS[self.kind or "resid"], **ends, **rows)
        below = f"cells: p({quoted(self.answer.text)}), layers across; colour: of the total effect"
        return document(title, [*lines, below], self.notes, [table])

    def _said(self) -> tuple[str, list[str]]:
        """The title, and what must be known to read the numbers."""
        several = f"{self.window} layers' {short_words(self.kind)} outputs"
        what = "a layer's output" if self.kind is None else several
        cut = f", with the {short_words(self.severed)} of that token severed" if self.severed else ""
        lines = [
            f"prompt:    {self.prompt} → {quoted(self.answer.text)}",
            f"clean:     {probability(self.high_score)}",
            f"corrupted: {probability(self.low_score)}, {self.drawn}, noise {self.noise_level:z.4g}",
        ]
        spans = self.settings.get("spans")
        where = "one token" if spans is None else f"a span of {spans['width']} tokens, or at one token"
        return f"CausalTrace: restoring {what} at {where}{cut}", lines

    def _names(self) -> list[str]:
        stars = [quoted(t)[1:-1] + "*" * (i in self.subject_range) for i, t in enumerate(self.tokens)]
        wide = max(3, *(len(str(p)) for p in self.positions))
        return [f"{p:>{wide}} {text_at(p, stars.__getitem__)}" for p in self.positions]

    def _kept(self) -> set[int]:
        """The rows of the map that are shown in any case: of the subject's tokens and the last one."""
        return {*self.subject_range, len(self.tokens) - 1}

    def _map(self) -> list[str]:
        heading = f"  layers 0-{self.raw.shape[1] - 1} across; {SHADES} of the total effect"
        rows = {"labels": self.positions, "keep": self._kept()}
        return shaded(heading, self._names(), self.indirect_effect, self.total_effect, **rows)

    def _half(self, row: dict[str, Any]) -> str:
        """The half-width of a cell's interval as a probability, where there is one."""
        return f" ± {row['interval'] / 100 * abs(self.total_effect):z.4f}" if "interval" in row else ""

    def _strongest(self) -> list[str]:
        lines = ["  strongest:"]
        for row in self.top():
            where = f"layer {row['layer']}, position {row['position']} {quoted(row['token'])}"
            lines.append(f"  {row['score']:z8.4f}{self._half(row)}  {where}")
        return lines
