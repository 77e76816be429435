"""Causal tracing as published: which hidden states bring a fact back after its subject was corrupted.

    trace = model.causal_trace("The Eiffel Tower is located in the city of", "Eiffel Tower")
    trace.scores             # [tokens, layers]: probability of the answer with that one state restored
    trace.low_score          # ... with nothing restored;  trace.high_score: in the clean run

A clean run gives the answer. A corrupted run has noise on the embeddings of the subject's tokens, so that the
answer is lost. Then the corrupted run is repeated with some of its states set to those of the clean run, and the
probability that comes back says what those states carry (Meng et al. 2022, section 2 and appendix B). Details
that the paper leaves open are those of the authors' released code.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics, plotting
from ..anatomy.components import ALIASES, KINDS, short_words
from ..arguments import positions_in, whole_number
from ..engine import choice, corruption
from ..engine.corruption import GaussianNoise
from ..engine.runs import Cell, Patch, Run, capture
from ..engine.sweep import Plan, Sweep
from ..errors import InputError, SubjectError, closest
from ..plotting.labels import probability, quoted
from ..results.patching_result import Answer
from ..results.record import Record, text_map
from ..terminal import printable
from . import caveats
from .grid import window_of
from .pairs import embedding_std, noised_run
from .protocol import TracedModel


@dataclass(repr=False, eq=False)
class CausalTrace(Record):
    """A causal trace of one prompt: the probability of the answer for each restored state.

    raw: float64 `[positions, layers, samples]`, probabilities. scores: `raw` averaged over the samples.
    low_score: mean probability in the corrupted run; high_score: in the clean run. subject_range: the corrupted
    positions. positions: those that were restored, one per row. tokens: of the whole prompt. noise_level: the
    noise's absolute standard deviation (half-width if uniform). kind: None (one layer output), "mlp" or "attn"
    (the outputs of `window` layers). severed: the component held at its corrupted values, or None.
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
        """`[positions, layers]`: scores - low_score (Meng et al. 2022, section 2.1)."""
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
        """The k cells that restore most, as in `to_rows`."""
        return sorted(self.to_rows(), key=lambda row: -row["score"])[: whole_number("k", k, 0)]

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """A matplotlib Figure as figure 1 of Meng et al. (2022): tokens down, layers across, colour p(answer)."""
        inside = [i for i, p in enumerate(self.positions) if p in self.subject_range]
        return plotting.rome_heatmap(
            self.scores,
            [self.tokens[p] for p in self.positions],
            low=self.low_score,
            high=self.high_score,
            subject_range=range(inside[0], inside[-1] + 1) if inside else None,
            kind=self.kind,
            window=self.window,
            answer=self.answer.text,
            model=self.model,
            title=self._title(),
            path=path,
        )

    def _title(self) -> str:
        cut = f", {short_words(self.severed)} severed" if self.severed else ""
        return f"Impact of restoring {short_words(self.kind)} after corrupted input{cut}"

    def __repr__(self) -> str:
        what = (
            "a layer's output"
            if self.kind is None
            else f"{self.window} layers' {short_words(self.kind)} outputs"
        )
        lines = [
            f"CausalTrace: restoring {what} at one token"
            + (f", with the {short_words(self.severed)} of that token severed" if self.severed else ""),
            f"  prompt:    {self.prompt} → {quoted(self.answer.text)}",
            f"  clean:     {probability(self.high_score)}",
            f"  corrupted: {probability(self.low_score)}, {self.raw.shape[-1]} samples, "
            f"noise {self.noise_level:.4g}",
            *(f"  note: {note}" for note in self.notes),
            "",
            f"  layers 0-{self.raw.shape[1] - 1} across; ░ ▒ ▓ █ from 5, 25, 45, 65 % of the total effect",
        ]
        names = [
            f"{p:>3} {quoted(self.tokens[p])[1:-1]}{'*' if p in self.subject_range else ''}"
            for p in self.positions
        ]
        lines += text_map(names, self.indirect_effect, self.total_effect)
        lines += ["", "  strongest:"]
        for row in self.top():
            lines.append(
                f"  {row['score']:8.4f}  layer {row['layer']}, position {row['position']} {quoted(row['token'])}"
            )
        return printable("\n".join(lines))


def causal_trace(
    model: TracedModel,
    prompt: Any,
    subject: Any = None,
    *,
    kind: str | None = None,
    window: int = 10,
    samples: int = 10,
    noise: str | float = "s3",
    seed: int = 1,
    replace: bool = False,
    target: str | int | None = None,
    positions: Any = "each",
    severed: str | None = None,
    severed_noise: str = "next",
    subjects: Sequence[str] | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    plan_only: bool = False,
) -> CausalTrace | Plan:
    """Trace a fact as in Meng et al. 2022, section 2: restore states, one cell at a time, after noise on its subject.

    Args:
        prompt: text, ids or an array. subject: its text (the first occurrence counts) or its positions.
        kind: None restores one layer's output; "mlp" or "attn" the outputs of `window` layers around each layer,
            `[l - window//2, l + ceil(window/2))`, cut at the edges (appendix B).
        samples, seed, noise, replace: rows of noise, drawn with `RandomState(seed)`, the same for every cell.
            noise: "s3" (3 x the standard deviation of embeddings), a float (absolute), or "u3" (uniform).
            replace: overwrite the embeddings instead of adding, in every noised row. The authors' code overwrites in
            the restored rows only: its `low_score` comes from a run with noise added, so that with replace=True this
            one's `low_score` (and what is measured from it) is another number, by up to 0.38 of probability.
        subjects: the data set's subjects, whose embeddings give the "s" its scale as in the authors' code; without
            them the whole embedding table does, which the notes say.
        target: the answer, as text or token id; default: the clean run's top token.
        positions: "each", "subject", "subject_last", "last", or a list: the rows of the map, each restored alone.
        severed: "mlp" or "attn": hold these outputs of the restored token, in every layer, at the values they have
            in a corrupted run (figure 3).
        severed_noise: "next": as in the authors' notebook that corrupted run has the generator's first `samples`
            draws and the severed run, which is patched, the next ones; `low_score` is the first one's, and the notes
            say what the second gives with nothing restored. "same": one draw for both.
        engine, max_memory, progress, plan_only: as in `activation_patching`.

    Raises SubjectError, PositionError, InputError or TokenError, before any sweep, for what cannot mean anything.
    """
    kind, severed = _component("kind", kind), _component("severed", severed)
    if severed is not None and kind is not None:
        raise InputError(
            "severed= goes with kind=None: it restores layer outputs, as figure 3 of the paper does"
        )
    if not isinstance(severed_noise, str) or severed_noise not in ("next", "same"):
        raise InputError(f'severed_noise={severed_noise!r} is unknown: "next" (as published) or "same"')
    window = whole_number("window", window)
    drawn = GaussianNoise(level=noise, samples=samples, seed=seed, replace=replace)
    samples, seed = drawn.samples, drawn.seed
    prompt = model.prompt(prompt, subject)
    ids, where = list(prompt.ids), prompt.subject
    if where is None:
        raise SubjectError(
            "a causal trace puts noise on the subject: give subject=, as it stands in the prompt"
        )
    std, notes = spread(model, drawn, subjects)
    clean = Run(tuple(ids))
    corrupted, held = _corrupted_runs(model, ids, where, drawn, std, severed and severed_noise == "next")
    rows = _rows(positions, where, len(ids))
    cells = [_cell(model, kind, window, severed, p, layer) for p in rows for layer in range(model.n_layers)]
    sweep = Sweep(
        model.resolver, corrupted, clean, cells, choice.choose(model.resolver, engine), max_memory, held
    )
    if plan_only:
        return sweep.plan()
    _, (logits,) = sweep.begin()
    token, more = _answer(model, prompt, target, logits)
    measure = metrics.bind("prob", target=token, foil=None, clean_logits=logits)
    outcome = sweep.run(lambda found: measure(found)[None], progress)
    low, high = float(outcome.base.mean()), float(outcome.source[0, 0])
    if held is not None:
        more.append(f"with nothing restored the severed run, a draw of its own, gives {probability(low)}")
        low = float(measure(capture(model.resolver, held, [])[0]).mean())
    level = drawn.parsed_level
    return CausalTrace(
        raw=outcome.values[0].reshape(len(rows), model.n_layers, samples),
        low_score=low,
        high_score=high,
        answer=Answer(token, model.token_to_str(token), high, low),
        subject_range=where,
        positions=rows,
        tokens=list(prompt.tokens),
        ids=ids,
        noise_level=level.value * std if level.kind == "s" else level.value,
        kind=kind,
        window=window if kind else 1,
        severed=severed,
        prompt=prompt.text,
        model=model.name,
        plan=outcome.plan,
        notes=[
            *notes,
            *([prompt.note] if prompt.note else []),
            *more,
            *caveats.of_cells(model.resolver, cells),
        ],
        settings={"noise": str(noise), "samples": samples, "seed": seed, "replace": replace},
    )


def spread(
    model: TracedModel, noise: GaussianNoise, subjects: Sequence[str] | None
) -> tuple[float | None, list[str]]:
    """The standard deviation that "s" levels multiply, and where it comes from; None for other levels."""
    if noise.parsed_level.kind != "s":
        return None, []
    if subjects is not None:
        std = corruption.subjects_std(model.resolver.get_embedding_layer(), model.tokenizer, subjects)
        return std, [f"noise scale from the embeddings of {len(subjects)} subjects: std {std:.4g}"]
    std = embedding_std(model)
    return std, [
        f"noise scale from the whole embedding table: std {std:.4g} (published traces take it from the data "
        "set's subjects: subjects=[...])"
    ]


def _component(name: str, value: Any) -> str | None:
    found = ALIASES.get(value, value) if isinstance(value, str | None) else value
    if not isinstance(found, str | None) or found not in KINDS:
        raise InputError(f"{name}={value!r} is unknown; {closest(str(value), ['mlp', 'attn'])}, or None")
    return found


def _corrupted_runs(
    model: TracedModel,
    ids: list[int],
    where: range,
    noise: GaussianNoise,
    std: float | None,
    twice: bool,
) -> tuple[Run, Run | None]:
    """The run that is patched and, drawn first, the run whose values it is held at; None: its own."""
    if not twice:
        return noised_run(model, ids, where, noise, std), None
    # the authors' `trace_with_repatch` draws for both of its passes from one generator
    both = noised_run(model, ids, where, dataclasses.replace(noise, samples=2 * noise.samples), std)
    first, second = np.split(both.noise, 2)
    return dataclasses.replace(both, noise=second), dataclasses.replace(both, noise=first)


def _rows(positions: Any, where: range, length: int) -> list[int]:
    named = {"each": range(length), "subject": where, "subject_last": [where[-1]], "last": [length - 1]}
    if isinstance(positions, str):
        if positions not in named:
            raise InputError(f"positions={positions!r} is unknown; {closest(positions, named)}")
        return list(named[positions])
    return positions_in(positions, length)


def _cell(
    model: TracedModel, kind: str | None, window: int, severed: str | None, position: int, layer: int
) -> Cell:
    at, site = (position,), model.resolver.site
    if kind is not None:
        layers = window_of(layer, window, model.n_layers)
        return Cell(tuple(Patch(site(kind, i), at, at) for i in layers))
    held = () if severed is None else range(model.n_layers)
    return Cell(
        (
            *(Patch(site(severed, i), at, at, fixed=True) for i in held),
            Patch(site("resid_post", layer), at, at),
        )
    )


def _answer(
    model: TracedModel, prompt: Any, target: str | int | None, logits: np.ndarray
) -> tuple[int, list[str]]:
    """The token whose probability is traced, and a note when it is not the model's own answer."""
    top = int(logits.argmax())
    if target is None:
        return top, []
    token = model.answer_token(target, prompt)
    if token == top:
        return token, []
    said = f"{quoted(model.token_to_str(top))} ({probability(metrics.softmax(logits)[top])})"
    return token, [f"the model's own answer is {said}, not {quoted(model.token_to_str(token))}"]
