"""What experiments return: labelled arrays that print, plot, save and load.

result.recovery              # [layer, position], percent, labelled by result.dims and result.coords
max(result, key=result.get)  # one number per layer: a mapping {layer: recovery %}
result.save("eiffel.npz");   PatchingResult.load("eiffel.npz")
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
from matplotlib.figure import Figure

from .. import plotting
from ..arguments import whole_number
from ..errors import InputError, SiteError, closest
from . import tables
from .cells import cells_of, largest, panels_of, with_metrics
from .labelled import Labelled
from .one_pair import OnePair
from .patching_difference import PatchingDifference
from .saved import Answer, Saved
from .subtracting import subtracted
from .tables import Panel


class PatchingResult(OnePair, Labelled, Saved, Mapping[int, float]):
    """The recoveries of a sweep; a mapping `{layer: recovery %}` when there is one number per layer.

    Recovery is `100 * (raw - corrupted) / (clean - corrupted)`, in percent, whatever the direction: with `denoise` 0
    is no effect and 100 full restoration; with `noise` 100 is no effect and 0 as broken as the corrupted run.

    Args:
        raw: the metric's own values, float64, an axis per entry of `dims`; `recovery` has the same shape, in percent.
        dims: a subset of component, metric, layer, position, region, head, neuron, in that order; positions or regions.
        coords: the labels of each dim; positions count tokens of the clean prompt, regions are names.
        clean, corrupted: the metric in either run; a dict by name if there are several.
        metrics, components: their names, also when there is one.
        target, foil: the answers, or None.
        tokens, corrupted_tokens: of the two prompts.
        subject_range: the subject's positions, or None.
        direction: "denoise" or "noise". window: layers patched together; the most, where components have windows
            of their own (`settings["windows"]`).
        plan: cells, rows, passes, engine.
        clean_text, corrupted_text, model: the prompts' texts, and the model's name.
        notes: what is to be said of these numbers.
        settings: `positions` as given, and the `corruption` in words, for titles.
        part_of_set: one of many pairs: where its gap is too small its recoveries are NaN instead of an error.

    Raises:
        EngineError: when the array is not what the labels say, or has a NaN.
        EffectError: when a recovery would mean nothing.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = model.activation_patching(*prompts, positions="each", progress=False)
        >>> result.dims, result.recovery.shape == (model.n_layers, len(result.tokens))
        (('layer', 'position'), True)
        >>> result.target.text
        ' Paris'
    """

    ANSWERS: ClassVar[tuple[str, ...]] = ("target", "foil")
    INTERVAL: ClassVar[str] = tables.OF_A_RATIO  # what `interval` is, of a set
    figure: Figure | None = None  # what `plot=True` drew

    def __init__(
        self,
        *,
        raw: np.ndarray,
        dims: tuple[str, ...],
        coords: dict[str, list],
        clean: dict[str, float],
        corrupted: dict[str, float],
        metrics: list[str],
        components: list[str],
        target: Answer | None,
        foil: Answer | None,
        tokens: list[str],
        corrupted_tokens: list[str],
        subject_range: range | None,
        direction: str,
        window: int,
        plan: Any,
        clean_text: str,
        corrupted_text: str,
        model: str,
        notes: list[str] | None = None,
        settings: dict | None = None,
        part_of_set: bool = False,
    ) -> None:
        Labelled.__init__(self, raw, dims, coords, clean, corrupted, metrics, components, part_of_set)
        self.target, self.foil = target, foil
        self.tokens, self.corrupted_tokens = list(tokens), list(corrupted_tokens)
        self.subject_range, self.direction, self.window, self.plan = subject_range, direction, window, plan
        self.clean_text, self.corrupted_text, self.model = clean_text, corrupted_text, model
        self.notes, self.settings = list(notes or []), dict(settings or {})
        if isinstance(self.settings.get("positions"), range):  # a file would hold its ends
            self.settings["positions"] = list(self.settings["positions"])

    @property
    def source_model(self) -> str | None:
        """The model of the source run, where that is another one than `model`: denoising of the clean run."""
        return self.settings.get("source_model")

    @property
    def no_effect(self) -> float:
        """The recovery of a cell that changes nothing: 0 when denoising, 100 when noising."""
        return 100.0 if self.direction == "noise" else 0.0

    def to_rows(self) -> list[dict[str, Any]]:
        """The cells as a table.

        Returns:
            One dict per cell, plain Python values: component, layer, position, token, region, head, neuron, window
            (those there are; the window where components differ in it), then for each metric its value, and
            `<metric>_recovery` in percent (None where that means nothing).

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> list(model.activation_patching(*prompts, progress=False).to_rows()[0])
            ['component', 'layer', 'prob', 'prob_recovery']
        """
        return self._rows()

    def _rows(self, at: np.ndarray | None = None) -> list[dict[str, Any]]:
        cells = cells_of(self.dims, self.coords, self.components[0], self.tokens, at)
        numbers = self._by_cell(self.raw, at), self._by_cell(self.recovery, at)
        rows = with_metrics(cells, self.metrics, *numbers, self.settings.get("windows", {}))
        return self._with_samples(rows, at) if "sampling" in self.settings else rows

    def _with_samples(self, rows: list[dict[str, Any]], at: np.ndarray | None) -> list[dict[str, Any]]:
        """The rows with the samples that each cell had, and the ends of its intervals."""
        n, low, high = (self._by_cell(np.asarray(x), at) for x in (self.samples, self.low, self.high))
        before = [f"{metric}_" for metric in self.metrics] if len(self.metrics) > 1 else [""]
        for i, row in enumerate(rows):
            count = float(n[i, 0])  # of a region the mean of its tokens'
            row["samples"] = int(count) if count.is_integer() else count
            for j, metric in enumerate(before):
                ends = {f"{metric}low": low[i, j], f"{metric}high": high[i, j]}
                row.update({name: None if np.isnan(x) else float(x) for name, x in ends.items()})
        return rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The k strongest cells by the first metric.

        Args:
            k: how many.

        Returns:
            Dicts as in `to_rows`: denoising, those that restore most; noising, those that break most.

        Raises:
            InputError: when k is not a whole number of 0 or more.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> result = model.activation_patching(*prompts, progress=False)
            >>> result.top(1)[0]["layer"] == max(result, key=result.get)
            True
        """
        k = whole_number("k", k, 0)
        return self._rows(
            largest(self._by_cell(self.recovery)[:, 0] * (-1 if self.direction == "noise" else 1), k)
        )

    def panels(self, metric: str | None = None) -> list[Panel]:
        """The recoveries of one metric (the first) as tables, as they are printed and drawn.

        One number per layer: one table, layers x components. Maps: positions or regions x layers for each
        component, and each head if heads were patched one by one. Head maps: layers x heads for each component. Of
        single neurons the strongest of each layer, or of each place in it.
        """
        metric = self.metrics[0] if metric is None else metric
        if metric not in self.metrics:
            raise InputError(f"this result has no metric {metric!r}; {closest(str(metric), self.metrics)}")
        arrays = [self.recovery, *([self.interval] if self.ids else [])]
        arrays = [self._metric_last(x)[..., self.metrics.index(metric)] for x in arrays]
        halves = arrays[1] if self.ids else None
        return panels_of(self.coords, self.components, arrays[0], halves, self.no_effect)

    def __sub__(self, other: Any) -> PatchingDifference:
        """The recoveries less those of another result of the same pair or pairs, in percentage points."""
        if not isinstance(other, PatchingResult):
            raise InputError(f"a result less {type(other).__name__}: subtract .recovery, or another result")
        title = tables.less(tables.describe(self), tables.describe(other))
        return PatchingDifference(title=title, **subtracted(self, other))

    # -- a mapping, when there is one number per layer -------------------------------------------

    def __getitem__(self, layer: int) -> float:
        self._check_mapping()
        place = self._place("layer", layer)
        if place is None:
            raise SiteError(
                f"layer {layer!r} was not patched: layers {tables.short(self.coords['layer'])} were"
            )
        return float(self.recovery[place])

    def __iter__(self) -> Iterator[int]:
        self._check_mapping()
        return iter(self.coords["layer"])

    def __len__(self) -> int:
        return len(self.coords.get("layer", ()))

    def __bool__(self) -> bool:
        return self.raw.size > 0

    def __eq__(self, other: object) -> bool:
        return self is other  # Mapping's would iterate, and a map of positions cannot

    def __hash__(self) -> int:
        return id(self)

    def _check_mapping(self) -> None:
        if self.dims != ("layer",):
            raise InputError(
                f"this result has {' x '.join(self.dims)}, not one number per layer: use .recovery (an array "
                "with these axes), .sel(layer=...), .top() or .to_rows()"
            )

    # -- to look at ------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return tables.text(self)

    def _repr_html_(self) -> str:
        return tables.as_html(self)

    def plot(
        self,
        path: str | os.PathLike | None = None,
        metric: str | None = None,
        rows: Any = "auto",
        **look: Unpack[plotting.Look],
    ) -> Figure:
        """The figure that fits the dims: bars by layer, or a heatmap for each component (and head).

        Args:
            path, metric, rows, look: see `plotting.plot`: a file, whose recoveries, which tokens, and what is drawn on.

        Returns:
            A matplotlib Figure.

        Raises:
            InputError: for an unknown metric, rows that are not there, or a path that cannot be written.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> figure = model.activation_patching(*prompts, progress=False).plot()
            >>> figure.axes[0].get_ylabel()
            'recovery of probability (%)'
        """
        return plotting.plot(self, path, metric=metric, rows=rows, **look)

    # -- to keep ---------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        without = ("raw", "recovery", "_clean", "_corrupted", "figure")
        header = {name: value for name, value in vars(self).items() if name not in without}
        return {**header, "clean": self._clean, "corrupted": self._corrupted}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"raw": self.raw}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> PatchingResult:
        return cls(raw=arrays["raw"], **cls._restored(header))
