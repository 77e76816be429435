"""Averages of causal traces over facts, by the role of a token and by layer, with 95 % intervals.

    average = average_traces([[state, mlp, attn], ...])     # a list of traces for each fact, one of each kind
    average.indirect_effect      # [kinds, roles, layers];  average.interval: the half-width of its 95 % interval

Facts differ in length, so their tokens are pooled by what they are: first, middle and last token of the subject,
the token after it, those further on, and the last (Meng et al. 2022, figure 2 and appendix B.2).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import plotting
from ..anatomy.components import short_words
from ..errors import InputError
from ..experiments.causal_trace import CausalTrace
from ..results.record import Record
from ..terminal import printable

ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first subsequent token",
    "further tokens",
    "last token",
)
NORMAL_95 = 1.96  # standard errors on either side


def roles_of(subject: range, length: int) -> list[list[int]]:
    """The positions of each role in a prompt of `length` tokens.

    As in the authors' code a subject of one token is its first and its last one, and a token may be both the first
    subsequent and the last one; nothing comes after a subject at the end of the prompt.
    """
    after = subject.stop
    return [
        [subject[0]],
        list(subject[1:-1]),
        [subject[-1]],
        [after] if after < length else [],
        list(range(after + 1, length - 1)),
        [length - 1],
    ]


def interval_of(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of pooled tokens and the half-width of its 95 % interval, facts being the independent units.

    sums: `[facts, layers]`, each fact's sum over its tokens of that role; sizes: `[facts]`, how many. The standard
    error of the ratio of both is `sqrt(F / (F - 1) sum (sum_f - mean n_f)^2) / sum n_f` (Cochran 1977, section 2.11),
    which is std / sqrt(F) when every fact has one such token. NaN where there is no token, or a single fact.
    """
    n, facts = sizes.sum(), int((sizes > 0).sum())
    if not facts:
        return np.full((2, sums.shape[1]), np.nan)
    mean = sums.sum(0) / n
    if facts == 1:
        return mean, np.full_like(mean, np.nan)
    spread = (sums - np.outer(sizes, mean)) ** 2
    return mean, NORMAL_95 * np.sqrt(facts / (facts - 1) * spread.sum(0)) / n


@dataclass(repr=False, eq=False)
class AverageTrace(Record):
    """Averages over facts: `indirect_effect` and `interval` are `[kinds, roles, layers]`.

    indirect_effect: mean over tokens of score - low_score of the same fact. interval: half-width of the 95 %
    interval of these differences, 1.96 standard errors, facts being the units. The authors' figures subtract the
    mean low_score of all facts and take the deviation of the scores themselves (ddof 0); where a fact has several
    tokens of a role or none (middle subject and further tokens) the two differ by up to 0.075, elsewhere hardly.
    counts: tokens of each role. total_effect: mean of high_score - low_score, with its total_interval. ids: the facts
    averaged; skipped: those that were not, and why.
    """

    indirect_effect: np.ndarray
    interval: np.ndarray
    kinds: list
    counts: list[int]
    total_effect: float
    total_interval: float
    high_score: float
    low_score: float
    window: int
    model: str
    ids: list[str]
    skipped: list[dict] = dataclasses.field(default_factory=list)
    folder: str = ""
    settings: dict = dataclasses.field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if len(self.counts) != len(ROLES):
            raise InputError(f"it has counts of {len(self.counts)} roles, not of {len(ROLES)}")
        shape = (len(self.kinds), len(ROLES), self.indirect_effect.shape[-1])
        return {"indirect_effect": shape, "interval": shape}

    def known(self, name: str) -> Any:
        """Roles without a token have no effect, and those of a single fact no interval: NaN, by right."""
        return np.s_[:, [name == "indirect_effect" and count > 0 for count in self.counts]]

    @property
    def facts(self) -> int:
        return len(self.ids)

    @property
    def roles(self) -> tuple[str, ...]:
        return ROLES

    def of(self, kind: str | None) -> np.ndarray:
        """`[roles, layers]`: the average indirect effects of one kind."""
        if kind not in self.kinds:
            raise InputError(f"kind {kind!r} was not traced: {self.kinds} were")
        return self.indirect_effect[self.kinds.index(kind)]

    def peak(self, kind: str | None = None) -> tuple[str, int]:
        """The role and the layer of the largest average indirect effect of a kind."""
        values = self.of(kind)
        role, layer = np.unravel_index(np.nanargmax(values), values.shape)
        return ROLES[role], int(layer)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per kind, role and layer that has tokens: indirect_effect, interval (None for one fact), tokens."""
        rows = []
        for kind, effects, halves in zip(self.kinds, self.indirect_effect, self.interval, strict=True):
            for role, effect, half, count in zip(ROLES, effects, halves, self.counts, strict=True):
                for layer, (e, h) in enumerate(zip(effect, half, strict=True)):
                    if count:
                        row = {"kind": kind, "role": role, "layer": layer, "tokens": count}
                        row["indirect_effect"] = float(e)
                        rows.append({**row, "interval": None if np.isnan(h) else float(h)})
        return rows

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """A matplotlib Figure: six rows of tokens by layers, a map for each kind, one colour scale."""
        return plotting.average_maps(self, path)

    def plot_lines(self, path: str | os.PathLike | None = None) -> Any:
        """A matplotlib Figure: a line with its 95 % band for each role, a panel for each kind."""
        return plotting.average_lines(self, path)

    def __repr__(self) -> str:
        lines = [
            f"AverageTrace: {self.facts} facts on {self.model}"
            + (f", {len(self.skipped)} skipped" if self.skipped else ""),
            f"  average total effect {self.total_effect:.4f} ± {self.total_interval:.4f}: "
            f"clean {self.high_score:.4f}, corrupted {self.low_score:.4f}",
            "",
            "  largest average indirect effect by layer, ± its 95 % interval (1.96 standard errors)",
            f"  {'':<24}{'tokens':>6}" + "".join(f"   {short_words(k):<25}" for k in self.kinds).rstrip(),
        ]
        for i, (role, count) in enumerate(zip(ROLES, self.counts, strict=True)):
            cells = [self._peak_cell(k, i) if count else "-" for k in range(len(self.kinds))]
            lines.append(f"  {role:<24}{count:>6}" + "".join(f"   {cell:<25}" for cell in cells).rstrip())
        wrong = [s for s in self.skipped[:3]]
        lines += [f"  skipped: {s['id']} {s['prompt']!r}: {s['why']}" for s in wrong]
        if len(self.skipped) > len(wrong):
            lines.append(f"  ... and {len(self.skipped) - len(wrong)} more, see .skipped")
        return printable("\n".join(lines))

    def _peak_cell(self, kind: int, role: int) -> str:
        layer = int(self.indirect_effect[kind, role].argmax())
        value, half = self.indirect_effect[kind, role, layer], self.interval[kind, role, layer]
        return f"{value:7.4f} ± {half:.4f} (layer {layer})"


def average_traces(facts: Sequence[Sequence[CausalTrace]], ids: Sequence[str], **more: Any) -> AverageTrace:
    """Average the traces of facts, one trace of each kind for every fact; InputError when there is none."""
    if not facts:
        raise InputError("there is no trace to average")
    kinds = [trace.kind for trace in facts[0]]
    roles = [roles_of(traces[0].subject_range, len(traces[0].tokens)) for traces in facts]
    sizes = np.array([[len(positions) for positions in by_role] for by_role in roles])
    n_layers = facts[0][0].raw.shape[1]
    sums = np.zeros((len(kinds), len(ROLES), len(facts), n_layers))
    for f, (traces, by_role) in enumerate(zip(facts, roles, strict=True)):
        for k, trace in enumerate(traces):
            effect = trace.indirect_effect
            for r, positions in enumerate(by_role):
                sums[k, r, f] = effect[positions].sum(0)
    pooled = [[interval_of(sums[k, r], sizes[:, r]) for r in range(len(ROLES))] for k in range(len(kinds))]
    pooled = np.array(pooled)  # [kinds, roles, mean and half-width, layers]
    high, low = (np.array([getattr(t[0], name) for t in facts]) for name in ("high_score", "low_score"))
    total, half = interval_of((high - low)[:, None], np.ones(len(facts)))
    return AverageTrace(
        indirect_effect=pooled[:, :, 0],
        interval=pooled[:, :, 1],
        kinds=kinds,
        counts=sizes.sum(0).tolist(),
        total_effect=float(total[0]),
        total_interval=float(half[0]),
        high_score=float(high.mean()),
        low_score=float(low.mean()),
        window=max(trace.window for trace in facts[0]),
        model=facts[0][0].model,
        ids=list(ids),
        **more,
    )
