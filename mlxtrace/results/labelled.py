"""Numbers with labelled axes, what they mean in percent, and the answers that they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EffectError, EngineError, InputError, SiteError, closest
from ..metrics import recovery

DIMS = ("component", "metric", "layer", "position", "region", "head", "neuron")


@dataclass(frozen=True)
class Answer:
    """An answer: its tokens, its text, and its probability in the clean and in the corrupted run.

    token: the first of its tokens. others: further answers that are right, whose probabilities are added.
    """

    token: int
    text: str
    clean_prob: float
    corrupted_prob: float
    tokens: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens) or (self.token,))
        object.__setattr__(self, "others", tuple(map(tuple, self.others)))

    @property
    def all(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of every answer that is right."""
        return (self.tokens, *self.others)

    def __index__(self) -> int:  # int(answer), logits[answer]
        if len(self.tokens) > 1 or self.others:
            raise InputError(f"{self.text!r} is no one token: use .tokens, or .token for its first")
        return self.token


class Labelled:
    """The values of one or more metrics over cells, `raw`, with a list of labels, `coords[dim]`, for each of `dims`.

    EngineError when the array is not what the labels say, or has a NaN; EffectError when a recovery would mean nothing,
    but for a part of a set: the set has a mean gap, and a recovery that means nothing by itself is NaN.
    """

    def __init__(
        self,
        raw: np.ndarray,
        dims: tuple[str, ...],
        coords: dict[str, list],
        clean: dict[str, float],
        corrupted: dict[str, float],
        metrics: list[str],
        components: list[str],
        part_of_set: bool = False,
    ) -> None:
        self.raw = np.asarray(raw, dtype=np.float64)
        self.dims = tuple(dims)
        self.coords = {dim: list(coords[dim]) for dim in self.dims}
        self.metrics, self.components = list(metrics), list(components)
        self._clean, self._corrupted = dict(clean), dict(corrupted)
        self.part_of_set = part_of_set
        self._check()
        self.recovery = self._recovery()

    def _check(self) -> None:
        labelled = tuple(len(self.coords[dim]) for dim in self.dims)
        if self.raw.shape != labelled or self.dims != tuple(d for d in DIMS if d in self.dims):
            raise EngineError(
                f"results shaped {self.raw.shape} do not fit their labels {self.dims}, {labelled}"
            )
        if {"position", "region"} <= set(self.dims):
            raise EngineError("results have positions or regions, not both")
        several = {"metric": self.metrics, "component": self.components}
        for dim, names in several.items():
            if self.coords.get(dim, names) != names or (dim not in self.dims and len(names) != 1):
                raise EngineError(f"results have {dim}s {names} but their labels are {self.coords.get(dim)}")
        if not np.isfinite(self.raw).all():
            raise EngineError(f"{int((~np.isfinite(self.raw)).sum())} cells of the sweep have no value")

    def _recovery(self) -> np.ndarray:
        axis = self.dims.index("metric") if "metric" in self.dims else None
        parts = [self.raw] if axis is None else np.moveaxis(self.raw, axis, 0)
        parts = [self._percent(part, m) for part, m in zip(parts, self.metrics, strict=True)]
        return parts[0] if axis is None else np.stack(parts, axis)

    def _percent(self, raw: np.ndarray, metric: str) -> np.ndarray:
        try:
            return recovery(raw, self._clean[metric], self._corrupted[metric], metric)
        except EffectError:
            if not self.part_of_set:
                raise
            return np.full_like(raw, np.nan)

    @property
    def clean(self) -> float | dict[str, float]:
        """The metric of the clean run; a dict by name when there are several metrics."""
        return self._clean if "metric" in self.dims else self._clean[self.metrics[0]]

    @property
    def corrupted(self) -> float | dict[str, float]:
        """The metric of the corrupted run; a dict by name when there are several metrics."""
        return self._corrupted if "metric" in self.dims else self._corrupted[self.metrics[0]]

    def sel(self, **labels: Any) -> np.ndarray:
        """The recoveries at some labels, percent; those axes go away.

        Args:
            labels: one label for a dim: a layer, a position, a head, or the name of a region, component or metric.

        Returns:
            An array of the other dims, in their order.

        Raises:
            SiteError: for a dim that the result does not have, or a label that was not patched.
            InputError: for several labels at once.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> result = model.activation_patching(*prompts, component=["mlp", "attn"], progress=False)
            >>> result.sel(component="mlp").shape == (model.n_layers,)
            True
        """
        index: list[Any] = [slice(None)] * len(self.dims)
        for dim, label in labels.items():
            if dim not in self.dims:
                raise SiteError(f"this result has no {dim}: its dims are {', '.join(self.dims)}")
            place = self._place(dim, label)
            if place is None:
                near = closest(str(label), map(str, self.coords[dim]))
                raise SiteError(f"no {dim} {label!r} among those that were patched; {near}")
            index[self.dims.index(dim)] = place
        return self.recovery[tuple(index)]

    def _place(self, dim: str, label: Any) -> int | None:
        """Where a label stands on its axis; None when it does not."""
        if getattr(label, "ndim", 0):
            raise InputError(
                f"{dim} is given as one label, not as an array {list(label.shape)}: index .recovery for several"
            )
        return self.coords[dim].index(label) if label in self.coords[dim] else None

    def _metric_last(self, values: np.ndarray) -> np.ndarray:
        if "metric" not in self.dims:
            return values[..., None]
        return np.moveaxis(values, self.dims.index("metric"), -1)

    def _by_cell(self, values: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """Values `[cells, metrics]`, of all cells or of some, by their places in the order of the rows."""
        return self._metric_last(values).reshape(-1, len(self.metrics))[slice(None) if at is None else at]
