"""What experiments return: labelled arrays that print, plot, save and load.

result.recovery              # [layer, position], percent, labelled by result.dims and result.coords
max(result, key=result.get)  # one number per layer: a mapping {layer: recovery %}
result.save("eiffel.npz");   PatchingResult.load("eiffel.npz")
"""

from __future__ import annotations

import csv
import html
import io
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import EngineError, InputError, LoadError, MlxtraceError, SiteError, closest
from .metrics import recovery

DIMS = ("component", "metric", "layer", "position", "head")
FORMAT = 1  # of saved files; raise it when old code could misread new files
WORDS = {  # what each component is called in titles
    "resid_pre": "layer input",
    "attn": "attention output",
    "resid_mid": "residual stream after attention",
    "mlp": "MLP output",
    "resid_post": "layer output",
    "head": "attention heads",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "pattern": "attention pattern",
    "neuron": "MLP neurons",
}
PLACES = {"subject": "subject tokens", "subject_last": "last subject token", "last": "last token"}
TINTS = {
    "attn": "203,24,29",
    "mlp": "35,139,69",
    "resid": "106,81,163",
}  # red, green, purple, as in the figures


@dataclass(frozen=True)
class Answer:
    """An answer token: its id, its text, and its probability in the clean and in the corrupted run."""

    token: int
    text: str
    clean_prob: float
    corrupted_prob: float

    def __index__(self) -> int:  # int(answer), logits[answer]
        return self.token


class Panel(NamedTuple):
    """One table of recoveries: `values[i, j]`, percent, belongs to `rows[i]` and `columns[j]`."""

    component: str
    head: int | None
    row_name: str  # "layer" or "position"
    column_name: str  # "layer", "head" or "component"
    rows: list
    columns: list
    values: np.ndarray


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
        key = f"{self.metrics[0]}_recovery"
        return sorted(self.to_rows(), key=lambda r: r[key], reverse=self.direction != "noise")[:k]

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
            raise SiteError(f"layer {layer!r} was not patched: layers {_short(self.coords['layer'])} were")
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
        return _text(self)

    def _repr_html_(self) -> str:
        return _html(self)

    def plot(self, path: str | os.PathLike | None = None, metric: str | None = None) -> Any:
        """A matplotlib Figure of one metric's recoveries (the first's), also written to `path` if given."""
        from . import plotting

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
            return cls(raw=arrays["raw"], **header)
        except (KeyError, TypeError, MlxtraceError) as error:
            raise LoadError(f"{path} is not a complete PatchingResult: {error}") from error

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) with everything needed to read them, as JSON."""
        text = json.dumps({**self._header(), "rows": self.to_rows()}, indent=1, ensure_ascii=False)
        return write_atomic(path, (text + "\n").encode("utf-8", "backslashreplace"))

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) as CSV with a line of column names."""
        rows, text = self.to_rows(), io.StringIO()
        table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return write_atomic(path, text.getvalue().encode("utf-8", "backslashreplace"))


# -- words, for titles and tables ----------------------------------------------------------------


def describe(result: PatchingResult) -> str:
    """What was patched, in words: "Restoring the MLP output (last subject token, 3 layers at a time)"."""
    verb = "Corrupting" if result.direction == "noise" else "Restoring"
    words = [WORDS.get(c, c) for c in result.components]
    what = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    asked = result.settings.get("positions")
    if "position" in result.dims or (isinstance(asked, str) and asked == "each"):
        where = "each token"
    elif asked is None:
        where = "whole sequence"
    elif isinstance(asked, str):
        where = PLACES.get(asked, asked)
    else:
        where = f"position {_short(np.atleast_1d(plain(asked)).tolist())}"
    window = f", {result.window} layers at a time" if result.window > 1 else ""
    return f"{verb} the {what} ({where}{window})"


def run_lines(result: PatchingResult) -> list[tuple[str, str]]:
    """The two runs in words: ("clean", 'The Eiffel Tower is in → " Paris" 0.98'), then ("corrupted", ...)."""
    lines = []
    for run, text in (("clean", result.clean_text), ("corrupted", result.corrupted_text)):
        if run == "corrupted" and text == result.clean_text:
            text = result.settings.get("corruption", text)
        answers = [a for a in (result.target, result.foil) if a is not None]
        if len(answers) == 2 and answers[0].token == answers[1].token:
            answers = answers[:1]
        answers.sort(key=lambda a: -getattr(a, f"{run}_prob"))
        shown = ", ".join(f"{quoted(a.text)} {probability(getattr(a, f'{run}_prob'))}" for a in answers)
        lines.append((run, f"{text} → {shown}" if shown else text))
    return lines


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def probability(p: float) -> str:
    return f"{p:.2f}" if p >= 0.01 else f"{p:.1g}"


def position_label(result: PatchingResult, position: int, show: Callable[[str], str] = str) -> str:
    """A position's token; both tokens where they differ; `*` behind those of the subject."""
    clean, label = result.tokens[position], show(result.tokens[position])
    same_length = len(result.tokens) == len(result.corrupted_tokens)
    if same_length and result.corrupted_tokens[position] != clean:
        label = f"{label} → {show(result.corrupted_tokens[position])}"
    return label + ("*" if result.subject_range and position in result.subject_range else "")


def text_bar(value: float, low: float, high: float, width: int = 24) -> str:
    """A signed bar of `width` cells from the zero of the scale `low` (<= 0) to `high` (>= 0)."""
    span = max(high - low, 1e-9)
    left = round(-low / span * width)
    n = round(min(abs(value), span) / span * width)
    return " " * (left - n) + "▒" * min(n, left) if value < 0 else " " * left + "█" * n


def _short(labels: list) -> str:
    runs = len(labels) > 2 and labels == list(range(labels[0], labels[-1] + 1))
    return f"{labels[0]}-{labels[-1]}" if runs else ", ".join(map(str, labels))


def _labels(result: PatchingResult, name: str, labels: list) -> list[str]:
    if name != "position":
        return [str(x) for x in labels]
    return [f"{p:>3} {position_label(result, p, lambda t: quoted(t)[1:-1])}" for p in labels]


def _text(result: PatchingResult) -> str:
    lines = [describe(result), *(f"  {run + ':':<11}{line}" for run, line in run_lines(result))]
    for metric in result.metrics:
        ends = f"clean {result._clean[metric]:.4g}, corrupted {result._corrupted[metric]:.4g}"
        lines.append(f"  {metric + ':':<10} {ends}")
    lines += [f"  note: {note}" for note in result.notes]
    lines += ["", f"recovery of {result.metrics[0]}, percent"]
    panels = result.panels()
    if panels[0].column_name == "component":
        lines += _text_bars(result, panels[0])
    elif len(panels) <= 4:
        for panel in panels:
            lines += _text_map(result, panel)
    return "\n".join(lines + _text_top(result))


def _text_top(result: PatchingResult) -> list[str]:
    if result.panels()[0].column_name == "component":
        return []
    lines = ["", "strongest:"]
    for row in result.top():
        where = ", ".join(f"{d} {row[d]}" for d in ("layer", "head", "position") if d in row)
        token = f" {quoted(row['token'])}" if "token" in row else ""
        percent = row[f"{result.metrics[0]}_recovery"]
        lines.append(f"  {percent:7.1f}  {row['component']}, {where}{token}")
    return lines


def _text_bars(result: PatchingResult, panel: Panel) -> list[str]:
    moved = panel.values - result.no_effect
    low, high = min(moved.min(), 0.0), max(moved.max(), 0.0)
    lines = ["  layer" + "".join(f"  {c:<33}" for c in panel.columns).rstrip()]
    for layer, values, deltas in zip(panel.rows, panel.values, moved, strict=True):
        cells = [f"  {v:7.1f}  {text_bar(d, low, high):<24}" for v, d in zip(values, deltas, strict=True)]
        lines.append(f"  {layer:>5}" + "".join(cells).rstrip())
    return lines


def _text_map(result: PatchingResult, panel: Panel) -> list[str]:
    moved = (panel.values - result.no_effect) * (-1 if result.direction == "noise" else 1)
    steps = np.clip(np.ceil(moved / 20 - 0.25), 0, 4).astype(int)  # a shade for each 20 %, from 5 % on
    names = _labels(result, panel.row_name, panel.rows)
    width = max(map(len, names))
    title = f"{panel.component}{'' if panel.head is None else f' {panel.head}'}"
    across = f"{panel.column_name}s {_short(panel.columns)} across"
    lines = [f"  {title}: {across}; ░ ▒ ▓ █ from 5, 25, 45, 65 % of effect"]
    for name, step, row in zip(names, steps, moved, strict=True):
        cells = "".join("-" if v < -5 else "·░▒▓█"[s] for s, v in zip(step, row, strict=True))
        lines.append(f"  {name:<{width}}  {cells}")
    return lines


def _html(result: PatchingResult) -> str:
    parts = [f"<b>{html.escape(describe(result))}</b>"]
    parts += [f"<br>{run}: {html.escape(line)}" for run, line in run_lines(result)]
    parts.append(f"<br>recovery of {html.escape(result.metrics[0])}, percent")
    for panel in result.panels():
        head = "" if panel.head is None else f" {panel.head}"
        top = "".join(f"<th>{html.escape(str(c))}</th>" for c in panel.columns)
        rows = [f"<tr><th>{html.escape(panel.component + head) or panel.row_name}</th>{top}</tr>"]
        for name, values in zip(_labels(result, panel.row_name, panel.rows), panel.values, strict=True):
            cells = "".join(
                _html_cell(v, v - result.no_effect, panel.component or c)
                for v, c in zip(values, panel.columns, strict=True)
            )
            rows.append(f'<tr><th style="text-align:left">{html.escape(name)}</th>{cells}</tr>')
        parts.append(f"<table>{''.join(rows)}</table>")
    return "".join(parts)


def _html_cell(value: float, moved: float, component: str) -> str:
    tint = next((rgb for name, rgb in TINTS.items() if component.startswith(name)), TINTS["attn"])
    shade = f"background:rgba({tint},{min(abs(moved) / 100, 1) * 0.75:.2f})"
    return f'<td style="{shade};text-align:right">{value:.1f}</td>'


# -- files ---------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The value as JSON can hold it: NumPy numbers, ranges, dataclasses and plans made plain."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, Answer):
        return plain(asdict(value))
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def writable(path: str | os.PathLike) -> Path:
    """The path, `~` resolved, once it is known that a file can be put there; else InputError."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written to")
    return path


def write_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write the file whole or not at all: an interrupted write leaves what was there before."""
    path = writable(path)
    real = Path(os.path.realpath(path))  # a link stays a link
    part = real.with_name(f".{real.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, real)
    finally:
        part.unlink(missing_ok=True)
    return path


def save_arrays(path: str | os.PathLike, kind: str, header: dict, arrays: dict[str, np.ndarray]) -> Path:
    """Write arrays and a JSON header to one NumPy archive, whole or not at all; its path."""
    path = Path(path)
    head = json.dumps({"format": FORMAT, "kind": kind, **header}).encode()
    data = io.BytesIO()
    np.savez_compressed(data, header=np.frombuffer(head, dtype=np.uint8), **arrays)
    return write_atomic(path if path.suffix else path.with_name(path.name + ".npz"), data.getvalue())


def load_arrays(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and arrays that `save_arrays` wrote; LoadError when the file is missing or another one."""
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        found, version = header.pop("kind"), header.pop("format")
    except FileNotFoundError as error:
        raise LoadError(f"there is no file {path}") from error
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        raise LoadError(f"{path} was not written by mlxtrace, or is damaged ({type(e).__name__}: {e})") from e
    if found != kind:
        raise LoadError(f"{path} holds a {found}, not a {kind}")
    if version > FORMAT:
        raise LoadError(f"{path} was written by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return header, arrays
