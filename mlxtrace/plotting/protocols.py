"""What figures and tables read of a result: any object with these attributes can be drawn."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np


class Panel(NamedTuple):
    """One table of recoveries: `values[i, j]`, percent, belongs to `rows[i]` and `columns[j]`.

    halves: of a set, half-widths of the 95 % intervals, shaped as values; NaN where there is none.
    """

    component: str
    head: int | None
    row_name: str  # "layer", "position" or "region"
    column_name: str  # "layer", "head" or "component"
    rows: list
    columns: list
    values: np.ndarray
    halves: np.ndarray | None = None


class AnswerLike(Protocol):
    """An answer's tokens, and its probability in either run."""

    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def clean_prob(self) -> float: ...
    @property
    def corrupted_prob(self) -> float: ...


class Patched(Protocol):
    """A result of activation patching."""

    dims: tuple[str, ...]
    coords: dict[str, list]
    model: str
    components: list[str]
    metrics: list[str]
    direction: str
    window: int
    settings: dict
    clean_text: str
    corrupted_text: str
    tokens: list[str]
    corrupted_tokens: list[str]
    subject_range: range | None

    @property
    def ids(self) -> list[str]: ...
    @property
    def n(self) -> np.ndarray: ...
    @property
    def target(self) -> AnswerLike | None: ...
    @property
    def foil(self) -> AnswerLike | None: ...
    @property
    def no_effect(self) -> float: ...

    def panels(self, metric: str | None = None) -> list[Panel]: ...


class Subtracted(Protocol):
    """One result of activation patching less another, in percentage points."""

    names: tuple[str, str]
    title: str
    ids: list[str]
    metrics: list[str]
    tokens: list[str]

    def panels(self, metric: str | None = None) -> list[Panel]: ...


class Traced(Protocol):
    """A causal trace: `scores` is `[positions, layers]`, probabilities of the answer."""

    tokens: list[str]
    positions: list[int | str]
    low_score: float
    kind: str | None
    prompt: str

    @property
    def scores(self) -> np.ndarray: ...
    @property
    def answer(self) -> AnswerLike: ...
    @property
    def subject_range(self) -> range | None: ...


class ComparedTraces(Protocol):
    """The same causal trace on two models."""

    names: tuple[str, str]

    @property
    def first(self) -> Traced: ...
    @property
    def second(self) -> Traced: ...
    @property
    def correlation(self) -> float: ...
    @property
    def largest_difference(self) -> float: ...


class ComparedAverages(Protocol):
    """The same causal traces of many prompts on two models: means `[roles, layers]`, and their paired difference."""

    names: tuple[str, str]
    roles: list[str]
    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    interval: np.ndarray

    @property
    def n(self) -> int: ...
    @property
    def kind(self) -> str | None: ...
    @property
    def correlation(self) -> float: ...
    @property
    def moved(self) -> list[str]: ...


class Effects(Protocol):
    """Direct and indirect effects of a component, `[layers]` or `[layers, positions]`."""

    direct: np.ndarray
    indirect: np.ndarray
    base_value: float
    component: str
    layers: list[int]
    positions: list[int] | None
    window: int
    metric: str
    tokens: list[str]
    subject_range: range | None
    regions: list[str] | None
    within: str

    @property
    def ids(self) -> list[str]: ...
    @property
    def halves(self) -> dict[str, np.ndarray]: ...
    @property
    def runs(self) -> list[tuple[str, str]]: ...
    @property
    def direct_change(self) -> np.ndarray: ...


class NoisedButAWindow(Protocol):
    """Scores `[windows]` of runs with every layer noised but those of a window."""

    layers: list[int]
    clean: float
    noised: float
    component: str
    window: int
    prompt: str

    @property
    def ids(self) -> list[str]: ...
    @property
    def halves(self) -> np.ndarray | None: ...
    @property
    def answer(self) -> AnswerLike | None: ...
    @property
    def scores(self) -> np.ndarray: ...


class Averaged(Protocol):
    """Average indirect effects over facts and their intervals, `[kinds, roles, layers]`."""

    indirect_effect: np.ndarray
    interval: np.ndarray
    kinds: list[Any]
    counts: list[int]
    total_effect: float
    total_interval: float
    high_score: float
    low_score: float
    window: int

    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def facts(self) -> int: ...
