"""What experiments return: labelled arrays that print, plot, save and load.

result.recovery              # [layer, position], percent, labelled by result.dims and result.coords
max(result, key=result.get)  # one number per layer: a mapping {layer: recovery %}
result.save("eiffel.npz");   PatchingResult.load("eiffel.npz")
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import plotting
from ..arguments import as_integer
from ..errors import EngineError, InputError, LoadError, MlxtraceError, SiteError, closest
from ..metrics import recovery
from ..plotting.protocols import Panel
from ..storage import load_arrays, plain, save_arrays, write_csv, write_json
from . import tables

DIMS = ("component", "metric", "layer", "position", "head")


@dataclass(frozen=True)
class Answer:
    """An answer token: its id, its text, and its probability in the clean and in the corrupted run."""

    token: int
    text: str
    clean_prob: float
    corrupted_prob: float

    def __index__(self) -> int:  # int(answer), logits[answer]
        return self.token


def real_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays from a file, once it is known that each holds floating-point numbers; else InputError."""
    for name, x in arrays.items():
        if x.dtype.kind != "f":
            raise InputError(f"{name} holds {x.dtype}, not floating-point numbers")
    return arrays


class PatchingResult(Mapping):
    """The recoveries of a sweep; a mapping `{layer: recovery %}` when there is one number per layer.

    `raw`: the metric's own values, float64, one axis per entry of `dims` (a subset of component, metric,
    layer, position, head, in that order); `coords[dim]`: its labels. Positions count tokens of the clean
    prompt. `recovery`: the same shape, percent, `100 * (raw - corrupted) / (clean - corrupted)` whatever the
    direction: with `denoise` 0 is no effect and 100 full restoration; with `noise` 100 is no effect and 0 as
    broken as the corrupted run. `clean`, `corrupted`: the metric on either run, a dict if there are several.

    `settings` may hold what was asked for; `positions` and `corruption` are used in titles. Raises
    EngineError when the array is not what the labels say or has a NaN, EffectError when a recovery would
    mean nothing.
    """

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
    ) -> None:
        self.raw = np.asarray(raw, dtype=np.float64)
        self.dims = tuple(dims)
        self.coords = {dim: list(coords[dim]) for dim in self.dims}
        self.metrics, self.components = list(metrics), list(components)
        self._clean, self._corrupted = dict(clean), dict(corrupted)
        self.target, self.foil = target, foil
        self.tokens, self.corrupted_tokens = list(tokens), list(corrupted_tokens)
        self.subject_range, self.direction, self.window, self.plan = subject_range, direction, window, plan
        self.clean_text, self.corrupted_text, self.model = clean_text, corrupted_text, model
        self.notes, self.settings = list(notes or []), dict(settings or {})
        self._check()
        self.recovery = self._recovery()

    def _check(self) -> None:
        labelled = tuple(len(self.coords[dim]) for dim in self.dims)
        if self.raw.shape != labelled or self.dims != tuple(d for d in DIMS if d in self.dims):
            raise EngineError(
                f"results shaped {self.raw.shape} do not fit their labels {self.dims}, {labelled}"
            )
        several = {"metric": self.metrics, "component": self.components}
        for dim, names in several.items():
            if self.coords.get(dim, names) != names or (dim not in self.dims and len(names) != 1):
                raise EngineError(f"results have {dim}s {names} but their labels are {self.coords.get(dim)}")
        if not np.isfinite(self.raw).all():
            raise EngineError(f"{int((~np.isfinite(self.raw)).sum())} cells of the sweep have no value")

    def _recovery(self) -> np.ndarray:
        axis = self.dims.index("metric") if "metric" in self.dims else None
        parts = [self.raw] if axis is None else np.moveaxis(self.raw, axis, 0)
        parts = [
            recovery(part, self._clean[m], self._corrupted[m], m)
            for part, m in zip(parts, self.metrics, strict=True)
        ]
        return parts[0] if axis is None else np.stack(parts, axis)

    # -- numbers ---------------------------------------------------------------------------------

    @property
    def clean(self) -> float | dict[str, float]:
        """The metric of the clean run; a dict by name when there are several metrics."""
        return self._clean if "metric" in self.dims else self._clean[self.metrics[0]]

    @property
    def corrupted(self) -> float | dict[str, float]:
        """The metric of the corrupted run; a dict by name when there are several metrics."""
        return self._corrupted if "metric" in self.dims else self._corrupted[self.metrics[0]]

    @property
    def no_effect(self) -> float:
        """The recovery of a cell that changes nothing: 0 when denoising, 100 when noising."""
        return 100.0 if self.direction == "noise" else 0.0

    def sel(self, **labels: Any) -> np.ndarray:
        """The recoveries at some labels: `result.sel(layer=3, component="mlp")`; those axes go away."""
        index: list[Any] = [slice(None)] * len(self.dims)
        for dim, label in labels.items():
            if dim not in self.dims:
                raise SiteError(f"this result has no {dim}: its dims are {', '.join(self.dims)}")
            if label not in self.coords[dim]:
                near = closest(str(label), map(str, self.coords[dim]))
                raise SiteError(f"no {dim} {label!r} among those that were patched; {near}")
            index[self.dims.index(dim)] = self.coords[dim].index(label)
        return self.recovery[tuple(index)]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell, plain Python values: component, layer, position, token, head (those there are),
        then for each metric its value and `<metric>_recovery` in percent."""
        cells = [d for d in self.dims if d != "metric"]
        raw, percent = (
            self._metric_last(x).reshape(-1, len(self.metrics)) for x in (self.raw, self.recovery)
        )
        rows = []
        for i, index in enumerate(np.ndindex(*(len(self.coords[d]) for d in cells))):
            row = {"component": self.components[0]}
            for dim, j in zip(cells, index, strict=True):
                row[dim] = plain(self.coords[dim][j])
                if dim == "position":
                    row["token"] = self.tokens[row[dim]]
            for j, metric in enumerate(self.metrics):
                row[metric], row[f"{metric}_recovery"] = float(raw[i, j]), float(percent[i, j])
            rows.append(row)
        return rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The k strongest cells by the first metric, as in `to_rows`: denoising, those that restore most;
        noising, those that break most (lowest recovery first)."""
        if as_integer(k) is None or as_integer(k) < 0:
            raise InputError(f"k is a number of cells, not {k!r}")
        key = f"{self.metrics[0]}_recovery"
        return sorted(self.to_rows(), key=lambda r: r[key], reverse=self.direction != "noise")[
            : as_integer(k)
        ]

    def panels(self, metric: str | None = None) -> list[Panel]:
        """The recoveries of one metric (the first) as tables, as they are printed and drawn.

        One number per layer: one table, layers x components. Position maps: positions x layers for each
        component, and each head if heads were patched apart. Head maps: layers x heads for each component.
        """
        metric = self.metrics[0] if metric is None else metric
        if metric not in self.metrics:
            raise InputError(f"this result has no metric {metric!r}; {closest(str(metric), self.metrics)}")
        values = self._metric_last(self.recovery)[..., self.metrics.index(metric)]
        if "component" not in self.dims:
            values = values[None]
        layers, places, heads = (self.coords.get(d) for d in ("layer", "position", "head"))
        if places is None and heads is None:
            return [Panel("", None, "layer", "component", layers, self.components, values.T)]
        if places is None:
            both = zip(self.components, values, strict=True)
            return [Panel(c, None, "layer", "head", layers, heads, v) for c, v in both]
        values = values[..., None] if heads is None else values
        return [
            Panel(c, head, "position", "layer", places, layers, v[..., h].T)
            for c, v in zip(self.components, values, strict=True)
            for h, head in enumerate(heads or [None])
        ]

    def _metric_last(self, values: np.ndarray) -> np.ndarray:
        if "metric" not in self.dims:
            return values[..., None]
        return np.moveaxis(values, self.dims.index("metric"), -1)

    # -- a mapping, when there is one number per layer -------------------------------------------

    def __getitem__(self, layer: int) -> float:
        self._check_mapping()
        if layer not in self.coords["layer"]:
            raise SiteError(
                f"layer {layer!r} was not patched: layers {tables.short(self.coords['layer'])} were"
            )
        return float(self.recovery[self.coords["layer"].index(layer)])

    def __iter__(self) -> Iterator[int]:
        self._check_mapping()
        return iter(self.coords["layer"])

    def __len__(self) -> int:
        return len(self.coords.get("layer", ()))

    def __bool__(self) -> bool:
        return self.raw.size > 0

    __eq__ = object.__eq__  # Mapping's would iterate, and a map of positions cannot
    __hash__ = object.__hash__

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

    def plot(self, path: str | os.PathLike | None = None, metric: str | None = None) -> Any:
        """A matplotlib Figure of one metric's recoveries (the first's), also written to `path` if given."""
        return plotting.plot(self, path, metric=metric)

    # -- to keep ---------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        named = {k: v for k, v in vars(self).items() if k not in ("raw", "recovery", "_clean", "_corrupted")}
        return plain({**named, "clean": self._clean, "corrupted": self._corrupted})

    def save(self, path: str | os.PathLike) -> Path:
        """Write everything to one file (`.npz` if the path has no suffix), whole or not at all; its path."""
        return save_arrays(path, "PatchingResult", self._header(), {"raw": self.raw})

    @classmethod
    def load(cls, path: str | os.PathLike) -> PatchingResult:
        """Read what `save` wrote; the plan comes back as a dict. Raises LoadError for any other file."""
        header, arrays = load_arrays(path, "PatchingResult")
        try:
            for name in ("target", "foil"):
                header[name] = header[name] and Answer(**header[name])
            if header["subject_range"] is not None:
                header["subject_range"] = range(*header["subject_range"])
            return cls(raw=real_arrays(arrays)["raw"], **header)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, MlxtraceError) as error:
            raise LoadError(f"{path} is not a complete PatchingResult: {error}") from error

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) with everything needed to read them, as JSON."""
        return write_json(path, {**self._header(), "rows": self.to_rows()})

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) as CSV with a line of column names."""
        return write_csv(path, self.to_rows())
