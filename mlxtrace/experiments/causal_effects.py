"""Causal mediation: what a component carries from one prompt's answer to another's, both ways round.

    effects = model.causal_effects("Paris is in the country of", "Rio is in the country of")
    effects.direct           # [layers]: P(" Brazil") in the base run with the source run's activation
    effects.indirect         # [layers]: how far P(" Brazil") falls in the source run with the base's activation

Interchange interventions (Vig et al. 2020, section 3; Geiger et al. 2021): the base run is patched with
activations of the source run (is the component sufficient for the source's answer?) and the source run with those of
the base run (is it necessary?). `noising_window`
in the room next door is another probe: noise everywhere but in a window of layers.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics, plotting
from ..anatomy.components import COMPONENTS, HEADED
from ..arguments import whole_number
from ..engine import choice
from ..engine.sweep import Sweep
from ..errors import EffectError, InputError
from ..plotting.labels import probability, quoted, text_bar
from ..results.patching_result import Answer
from ..results.record import Record, text_map
from ..terminal import printable
from . import caveats
from .grid import grid, layers_of
from .noising_window import NoisingWindow, noising_window
from .pairs import Pair, pair
from .protocol import TracedModel

__all__ = ["CausalEffects", "NoisingWindow", "causal_effects", "noising_window"]


@dataclass(repr=False, eq=False)
class CausalEffects(Record):
    """Effects of one component, by layer `[layers]` or by layer and position `[layers, positions]`.

    direct: the metric in the base run with the source run's activation. indirect: the source run's metric less that
    of the source run with the base's activation, the drop. base_value, source_value: the metric in the plain runs.
    total: for `prob`, P(base answer) in the base run - P(source answer) in the source run, as the published tutorial
    has it; for other metrics `change`. The metric is of the source's answer; `prob_diff` is P(source answer) - P(base
    answer). Positions count tokens of the source prompt. In an Answer `clean_prob` is the source run's.
    """

    direct: np.ndarray
    indirect: np.ndarray
    base_value: float
    source_value: float
    base_answer: Answer
    source_answer: Answer
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

    @property
    def total(self) -> float:
        if self.metric == "prob":
            return self.base_answer.corrupted_prob - self.source_answer.clean_prob
        return self.change

    @property
    def change(self) -> float:
        """The total effect on one metric: its value in the source run less that in the base run (Vig et al. 2020)."""
        return self.source_value - self.base_value

    @property
    def direct_change(self) -> np.ndarray:
        """direct - base_value: what the source's activation adds in the base run."""
        return self.direct - self.base_value

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not np.isfinite([self.base_value, self.source_value]).all():
            raise InputError("its values of the plain runs are not finite")
        shape = (len(self.layers), *([] if self.positions is None else [len(self.positions)]))
        return {"direct": shape, "indirect": shape}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: component, layer, position and token (in maps), direct, indirect."""
        rows = []
        for index in np.ndindex(*self.direct.shape):
            row: dict[str, Any] = {"component": self.component, "layer": self.layers[index[0]]}
            if self.positions is not None:
                row["position"] = self.positions[index[1]]
                row["token"] = self.tokens[row["position"]]
            row["direct"], row["indirect"] = float(self.direct[index]), float(self.indirect[index])
            rows.append(row)
        return rows

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The k cells with the largest direct effect, as in `to_rows`."""
        return sorted(self.to_rows(), key=lambda row: -row["direct"])[: whole_number("k", k, 0)]

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """A matplotlib Figure: direct and indirect effects as bars by layer, or as maps of tokens and layers."""
        return plotting.effects(self, path)

    def __repr__(self) -> str:
        together = f", {self.window} layers at a time" if self.window > 1 else ""
        lines = [
            f"CausalEffects of the {COMPONENTS[self.component].words}"
            f" ({'whole sequence' if self.positions is None else 'each token'}{together}), metric {self.metric}",
            f"  base:   {self.base_text} → {_said(self.base_answer, self.base_answer.corrupted_prob)}",
            f"  source: {self.source_text} → {_said(self.source_answer, self.source_answer.clean_prob)}",
            f"  {self.metric}: {self.base_value:.4f} in the base run, {self.source_value:.4f} in the source run, "
            f"a change of {self.change:.4f}",
            *([f"  total: {self.total:.4f}, of each run's own answer"] if self.metric == "prob" else []),
            *(f"  note: {note}" for note in self.notes),
            "",
        ]
        if self.positions is None:
            return printable("\n".join(lines + self._bars()))
        names = [f"{p:>3} {quoted(self.tokens[p])[1:-1]}" for p in self.positions]
        for name, values in (("direct - base", self.direct_change), ("indirect", self.indirect)):
            lines.append(
                f"  {name}: layers {self.layers[0]}-{self.layers[-1]} across; ░ ▒ ▓ █ from 5, 25, 45, 65 %"
            )
            lines += text_map(names, values.T, self.change)
        return printable("\n".join(lines))

    def _bars(self) -> list[str]:
        lines = [f"  layer  {'direct':<34}indirect"]
        high = max(self.direct.max(), self.indirect.max(), 1e-9)
        low = min(self.direct.min(), self.indirect.min(), 0.0)
        for layer, *both in zip(self.layers, self.direct, self.indirect, strict=True):
            cells = [f"  {v:8.4f} {text_bar(v, low, high):<24}" for v in both]
            lines.append(f"  {layer:>5}{''.join(cells)}".rstrip())
        return lines


def causal_effects(
    model: TracedModel,
    base: Any,
    source: Any,
    component: str = "resid_post",
    *,
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    window: int = 1,
    metric: str | Callable[[np.ndarray], Any] = "prob",
    target: str | int | None = None,
    foil: str | int | None = None,
    subject: Any = None,
    align: str = "strict",
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
) -> CausalEffects:
    """Total, direct and indirect effect of a component, patched both ways between two prompts.

    Args:
        base, source: the prompts, as text, ids or arrays; base may be `GaussianNoise(subject=...)` on the source's
            embeddings, and then every value is the mean over its samples.
        component: resid_pre, attn, resid_mid, mlp, resid_post (or output), neuron.
        layers: None for all. window: layers patched together, `[l - window//2, l + ceil(window/2))`.
        positions: None for the whole sequence together; "each" for a layer x position map; "subject",
            "subject_last", "last", an int or a list: those together.
        metric: prob, logprob, logit, rank (of the source's answer), logit_diff and prob_diff (source's answer less
            base's), kl, l2, cosine (to the source run), or a function of logits.
        target, foil: the source's and the base's answer; default: the runs' top tokens.
        subject, align, engine, max_memory, progress: as in `activation_patching`.

    Returns a `CausalEffects`, which says what each number is. Raises EffectError when both prompts have the same
    answer and the metric sets one against the other, and whatever `activation_patching` raises for bad input.
    """
    if not isinstance(component, str):
        raise InputError(f"component is one name, not {component!r}: make a call for each")
    if component in HEADED:
        raise InputError(f"{component!r} has no effects by head here: use activation_patching")
    both = pair(model, source, base, subject, align)
    layer_list = layers_of(model, layers)
    chosen = choice.choose(model.resolver, engine)
    sweeps, laid = {}, None
    for direction, (patched, giver) in {
        "denoise": (both.corrupted, both.clean),
        "noise": (both.clean, both.corrupted),
    }.items():
        laid = grid(model, both, direction, component, layer_list, positions, None, window)
        sweeps[direction] = Sweep(model.resolver, patched, giver, laid.cells, chosen, max_memory)
        sweeps[direction].fit()  # both are refused before either is run
    base_logits, source_logits = sweeps["denoise"].begin()
    answers, notes = _answers(model, both, target, foil, base_logits, source_logits)
    measure = _metric(metric, *answers, source_logits[0])
    each = isinstance(positions, str) and positions == "each"
    shape = (len(layer_list), len(laid.positions)) if each else (len(layer_list),)
    outcomes = {name: sweep.run(lambda rows: measure(rows)[None], progress) for name, sweep in sweeps.items()}
    values = {name: outcome.values[0].mean(-1).reshape(shape) for name, outcome in outcomes.items()}
    source_value = float(measure(source_logits).mean())
    return CausalEffects(
        direct=values["denoise"],
        indirect=source_value - values["noise"],
        base_value=float(measure(base_logits).mean()),
        source_value=source_value,
        base_answer=answers[1],
        source_answer=answers[0],
        component=laid.components[0],
        layers=layer_list,
        positions=[group[0] for group in laid.positions] if each else None,
        window=int(window),
        metric=measure.name,
        tokens=list(both.clean_prompt.tokens),
        base_tokens=list(both.corrupted_prompt.tokens),
        subject_range=both.subject,
        base_text=both.corruption or both.corrupted_text,
        source_text=both.clean_text,
        model=model.name,
        plan={name: outcome.plan for name, outcome in outcomes.items()},
        notes=[*both.notes, *notes, *caveats.of_cells(model.resolver, laid.cells)],
    )


def _said(answer: Answer, probability_there: float) -> str:
    return f"{quoted(answer.text)} {probability(probability_there)}"


def _answers(
    model: TracedModel, both: Pair, target: Any, foil: Any, base: np.ndarray, source: np.ndarray
) -> tuple[tuple[Answer, Answer], list[str]]:
    """The source's and the base's answer."""
    in_base, in_source = metrics.softmax(base).mean(0), metrics.softmax(source).mean(0)
    prompts = (both.clean_prompt, both.corrupted_prompt)
    asked = [
        int(p.argmax()) if ask is None else model.answer_token(ask, prompt)
        for ask, prompt, p in ((target, prompts[0], in_source), (foil, prompts[1], in_base))
    ]
    found = tuple(Answer(t, model.token_to_str(t), float(in_source[t]), float(in_base[t])) for t in asked)
    same = [f"both prompts have the same answer, {quoted(found[0].text)}"] if asked[0] == asked[1] else []
    return found, same


def _metric(metric: Any, source: Answer, base: Answer, clean_logits: np.ndarray) -> metrics.Metric:
    """The metric of the source's answer (target) against the base's (foil)."""
    if isinstance(metric, str) and metric in metrics.NEED_FOIL and source.token == base.token:
        raise EffectError(
            f"{metric} sets the two answers against each other, but both are {quoted(source.text)}: choose prompts "
            "with different answers, pass target= and foil=, or use metric='prob'"
        )
    return metrics.bind(metric, target=source.token, foil=base.token, clean_logits=clean_logits)
