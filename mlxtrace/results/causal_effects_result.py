"""Effects of one component, patched both ways between two prompts: arrays that print, make tables, save and load.

effects.direct, effects.indirect     # [layers], or [layers, positions]: the metric when restored, the drop when removed
effects.total                        # the effect of changing the whole prompt
effects.natural_indirect, effects.natural_direct     # as the literature defines them
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from .. import plotting
from ..anatomy.components import COMPONENTS
from ..errors import InputError
from .printing import (
    CELLS,
    NATURAL,
    OF_A_MEAN,
    SHADES,
    TINTS,
    WITHIN,
    across,
    bars,
    decimals,
    document,
    heat,
    most_rows,
    over,
    page,
    place_of,
    probability,
    quoted,
    shaded,
    top_rows,
    uncertain,
)
from .saved import Answer, Record

MAPS = (
    ("natural indirect effect: direct - base run", "direct_change"),
    ("indirect: the drop in the source run", "indirect"),
)
EFFECTS = ("direct", "indirect", "natural_indirect", "natural_direct")  # of each cell


@dataclass(repr=False, eq=False)
class CausalEffects(Record):
    """Effects of one component, by layer `[layers]` or by layer and position (or region) `[layers, positions]`.

    `direct` is the metric as it is read when the component is restored, `indirect` how far it falls when the component
    is corrupted. In the literature these words mean other numbers (Pearl 2001; Vig et al. 2020, section 3). With
    `Y(prompt, z)` for the metric when the component has the value z, and `Z(prompt)` for its value in a run:

        natural indirect effect  = Y(base, Z(source)) - Y(base, Z(base))   = direct - base_value
        natural direct effect    = Y(source, Z(base)) - Y(base, Z(base))   = (source_value - indirect) - base_value
        total effect             = Y(source, Z(source)) - Y(base, Z(base)) = change = natural_direct + indirect

    So `indirect` is the natural indirect effect of the way back (source to base) with its sign turned; it equals
    `natural_indirect` only where the component does not interact with what goes round it. All are differences; Vig et
    al. divide theirs by `Y(base, Z(base))`.

    The metric is of the source's answer; `prob_diff` and `logit_diff` set it against the base's. In an `Answer`
    `clean_prob` is the source run's probability, `corrupted_prob` the base run's.

    Args:
        direct: the metric in the base run with the source run's activation.
        indirect: the source run's metric less that of the source run with the base's activation: the drop.
        base_value, source_value: the metric in the two plain runs.
        base_answer, source_answer: what they say.
        component: what was patched, in `window` layers at a time.
        layers: the centres.
        positions: of the source prompt; None for the whole sequence together.
        window: the number of layers that were patched together.
        metric: its name.
        tokens, base_tokens: of the source and of the base prompt.
        subject_range: the subject's positions in the source prompt.
        base_text, source_text, model: the prompts and the model's name.
        plan: what was run, by direction.
        notes: what must be known to read the numbers.
        regions: names in the place of positions, or None.
        within: how a region's tokens were patched: "mean", "last" or "together".
        settings: `positions` as they were given, and those of the run into a folder, if it is of one.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> base, source = "The Statue of Liberty is in the city of", "The Eiffel Tower is in the city of"
        >>> effects = model.causal_effects(base, source, progress=False)
        >>> effects.direct.shape, effects.source_answer.text
        ((12,), ' Paris')
        >>> len(effects.to_rows()), sorted(effects.top(1)[0])
        (12, ['component', 'direct', 'indirect', 'layer', 'natural_direct', 'natural_indirect'])
        >>> figure = effects.plot()
        >>> bool((abs(effects.natural_direct + effects.indirect - effects.change) < 1e-9).all())
        True
    """

    direct: np.ndarray
    indirect: np.ndarray
    base_value: float
    source_value: float
    base_answer: Answer | None
    source_answer: Answer | None
    component: str
    layers: list[int]
    positions: list[int] | None
    window: int
    metric: str
    tokens: list[str]
    base_tokens: list[str]
    subject_range: range | None
    base_text: str
    source_text: str
    model: str
    plan: Any = None
    notes: list[str] = dataclasses.field(default_factory=list)
    regions: list[str] | None = None
    within: str = ""
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """The pairs of a set; none for the effects on one pair."""
        return []

    @property
    def halves(self) -> dict[str, np.ndarray]:
        """Half-widths of the 95 % intervals by name, of a set."""
        return {}

    @property
    def runs(self) -> list[tuple[str, str]]:
        """The two runs in words: what they were given, and what they answer."""
        base, source = self.base_answer, self.source_answer
        return [
            ("base", _said(self.base_text, base, base and base.corrupted_prob)),
            ("source", _said(self.source_text, source, source and source.clean_prob)),
        ]

    @property
    def total(self) -> float:
        """The effect of the whole prompt: for `prob`, P(base answer) in the base run - P(source answer) in the source
        run, as the published tutorial has it; for other metrics `change`."""
        if self.metric == "prob" and self.base_answer and self.source_answer:
            return self.base_answer.corrupted_prob - self.source_answer.clean_prob
        return self.change

    @property
    def change(self) -> float:
        """The total effect on one metric: its value in the source run less that in the base run (Vig et al. 2020)."""
        return self.source_value - self.base_value

    @property
    def direct_change(self) -> np.ndarray:
        """direct - base_value: what the source's activation adds in the base run, as `natural_indirect`."""
        return self.direct - self.base_value

    @property
    def natural_indirect(self) -> np.ndarray:
        """`Y(base, Z(source)) - Y(base, Z(base))`: direct - base_value."""
        return self.direct_change

    @property
    def natural_direct(self) -> np.ndarray:
        """`Y(source, Z(base)) - Y(base, Z(base))`: change - indirect."""
        return (self.source_value - self.indirect) - self.base_value

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not np.isfinite([self.base_value, self.source_value]).all():
            raise InputError("its values of the plain runs are not finite")
        if self.positions is not None and self.regions is not None:
            raise InputError("it has positions and regions")
        places = self.regions if self.positions is None else self.positions
        shape = (len(self.layers), *([] if places is None else [len(places)]))
        return {"direct": shape, "indirect": shape}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: component, layer, position and token or region (in maps), then the four effects."""
        arrays = {name: getattr(self, name) for name in EFFECTS}
        rows = []
        for index in np.ndindex(*self.direct.shape):
            row: dict[str, Any] = {"component": self.component, "layer": self.layers[index[0]]}
            if self.positions is not None:
                row["position"] = self.positions[index[1]]
                row["token"] = self.tokens[row["position"]]
            if self.regions is not None:
                row["region"] = self.regions[index[1]]
            rows.append(row | {name: float(array[index]) for name, array in arrays.items()})
        return rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The cells with the largest direct effect, largest first.

        Args:
            k: how many.

        Returns:
            Rows as `to_rows` has them.
        """
        return top_rows(self.to_rows(), "direct", k)

    def plot(
        self, path: str | os.PathLike | None = None, rows: Any = "auto", **look: Unpack[plotting.Look]
    ) -> Any:
        """Draw direct and indirect effects, as bars by layer or as maps of tokens and layers.

        Args:
            path: a PNG, PDF or SVG to write as well.
            rows: which tokens a map shows: "auto", of a long prompt those that matter; "all"; or positions.
            look: `fig` to draw on, and `caption`, as in every plot.

        Returns:
            The matplotlib `Figure`.
        """
        return plotting.effects(self, path, rows, **look)

    def __repr__(self) -> str:
        title, lines = self._said()
        body = self._bars() if self.direct.ndim == 1 else self._maps()
        return page(title, lines, self.notes, body)

    def _said(self) -> tuple[str, list[str]]:
        """The title, and what must be known to read the numbers."""
        together = f", {self.window} layers at a time" if self.window > 1 else ""
        lines = [f"{run + ':':<7} {said}" for run, said in self.runs]
        lines.append(
            f"{self.metric}: {self.base_value:z.4f} in the base run, {self.source_value:z.4f} in the source run, "
            f"a change of {self._with_half('change')}"
        )
        if self.metric == "prob":
            lines.append(f"total: {self._with_half('total')}, of each run's own answer")
        lines.append(NATURAL)
        if self.halves and len(self.ids) > 1:
            lines.append(f"means{over(self.ids)}, ± {OF_A_MEAN}; ? where it covers no effect")
        what = f"{type(self).__name__} of the {COMPONENTS[self.component].words}{over(self.ids)}"
        return f"{what} ({self._where()}{together}), metric {self.metric}", lines

    def _where(self) -> str:
        if self.regions is not None:
            return WITHIN.get(self.within, "each region")
        return place_of(self.settings.get("positions")) if self.positions is None else "each token"

    def _with_half(self, name: str) -> str:
        half = self.halves.get(name)
        return f"{getattr(self, name):z.4f}" + ("" if half is None or np.isnan(half) else f" ± {half:z.4f}")

    def _bars(self) -> list[str]:
        columns, halves = {"direct": self.direct, "indirect": self.indirect}, self.halves
        moved = {"direct": self.direct_change, "indirect": self.indirect}
        unsure = {
            name: uncertain(values, halves.get({"direct": "direct_change"}.get(name, name)))
            for name, values in moved.items()
        }
        return bars("layer", self.layers, columns, halves=halves, unsure=unsure)

    def _names(self) -> list[str]:
        return (
            list(self.regions)
            if self.regions is not None
            else [f"{p:>3} {quoted(self.tokens[p])[1:-1]}" for p in self.positions or []]
        )

    def _rows(self) -> dict[str, Any]:
        """How the rows of a map may be cut: not regions, and never the subject's or the last token."""
        if self.positions is None:
            return {"row": "region"}
        return {"labels": self.positions, "keep": {*(self.subject_range or ()), len(self.tokens) - 1}}

    def _maps(self) -> list[str]:
        lines = []
        for title, name in MAPS:
            values, unsure = getattr(self, name), uncertain(getattr(self, name), self.halves.get(name))
            heading = f"  {title}: {across('layer', self.layers)}; {SHADES} of {self.change:z.4f}"
            rows = {**self._rows(), "most": most_rows("position", 2)}
            lines += shaded(heading, self._names(), values.T, self.change, unsure.T, **rows)
        return lines

    def _repr_html_(self) -> str:
        if self.direct.ndim == 1:
            return super()._repr_html_()
        (title, lines), tint, parts = self._said(), TINTS[COMPONENTS[self.component].colour], []
        for what, name in MAPS:
            values, options = getattr(self, name).T, {**self._rows(), "whole": self.change}
            cell, options["cells"] = decimals(values), CELLS // 2
            parts.append(heat(what, self._names(), self.layers, values, cell, tint, **options))
        below = f"layers across; colour: of the change, {self.change:z.4f}"
        return document(title, [*lines, below], self.notes, parts)


def _said(text: str, answer: Answer | None, probability_there: float | None) -> str:
    if answer is None or probability_there is None:
        return text
    return f"{text} → {quoted(answer.text)} {probability(probability_there)}"
