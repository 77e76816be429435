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

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np

from ..plotting.labels import probability
from ..results.causal_trace_result import CausalTrace
from .followed_answers import Followed, OneAnswer
from .grid import InputError, SubjectError, kind_of, positions_of, window_of, windows_of
from .long_prompts import Rows, Spans, label_of, planned, refined, refuse_until, spans_of
from .noise import GaussianNoise, noised_run, published_scale, two_draws
from .protocol import Prompt, PromptLike, TracedModel
from .sweeps import Cell, Chunk, Job, Outcome, Patch, Plan, Run, chunk_of, notes_of
from .until import notes_until, plan_until, sweep_until


@overload
def causal_trace(
    model: TracedModel,
    prompt: PromptLike,
    subject: Any = None,
    *,
    kind: str | None = None,
    window: int | str = 10,
    samples: int | str = 10,
    noise: str | float = "s3",
    seed: int = 1,
    replace: bool = False,
    target: Any = None,
    positions: Any = "each",
    severed: str | None = None,
    severed_noise: str = "next",
    subjects: Sequence[str] | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    plan_only: Literal[False] = False,
    answers: Any = None,
    within: float | None = None,
) -> CausalTrace: ...


@overload
def causal_trace(
    model: TracedModel,
    prompt: PromptLike,
    subject: Any = None,
    *,
    kind: str | None = None,
    window: int | str = 10,
    samples: int | str = 10,
    noise: str | float = "s3",
    seed: int = 1,
    replace: bool = False,
    target: Any = None,
    positions: Any = "each",
    severed: str | None = None,
    severed_noise: str = "next",
    subjects: Sequence[str] | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    plan_only: Literal[True],
    answers: Any = None,
    within: float | None = None,
) -> Plan: ...


def causal_trace(
    model: TracedModel,
    prompt: PromptLike,
    subject: Any = None,
    *,
    kind: str | None = None,
    window: int | str = 10,
    samples: int | str = 10,
    noise: str | float = "s3",
    seed: int = 1,
    replace: bool = False,
    target: Any = None,
    positions: Any = "each",
    severed: str | None = None,
    severed_noise: str = "next",
    subjects: Sequence[str] | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
    plan_only: bool = False,
    answers: Any = None,
    within: float | None = None,
) -> CausalTrace | Plan:
    """Trace a fact: restore states, one cell at a time, after noise on its subject (Meng et al. 2022, section 2).

    `score = mean over samples of p(answer)` in the corrupted run with that state restored; `indirect_effect` is the
    score less the corrupted run's own.

    Args:
        model: what is traced; not given where this is called as its method.
        prompt: text, ids, an array, the messages of a chat, or a `Prompt`.
        subject: its text (the first occurrence counts) or its positions; None: the `Prompt`'s own.
        kind: None restores one layer's output; "mlp" or "attn" the outputs of `window` layers around each layer,
            `[l - window//2, l + ceil(window/2))`, cut at the edges (appendix B).
        window: the number of layers that are restored together, for "mlp" and "attn". 10, as published, is of the 48
            layers of GPT-2 XL; "auto" is as many for the depth of this model (3 of 12, 7 of 32).
        samples, within: rows of noise, the same for every cell; "until" as many for each as it takes (`GaussianNoise`).
        noise: "s3" (3 x the standard deviation of embeddings), a float (absolute), or "u3" (uniform).
        seed: of NumPy's `RandomState`.
        replace: overwrite the embeddings instead of adding, in every noised row. The authors' code overwrites in
            the restored rows only: its `low_score` comes from a run with noise added, so that with replace=True this
            one's `low_score` (and what is measured from it) is another number, by up to 0.38 of probability.
        target: the answer, as text, token id or ids; default: the clean run's top token. One of several tokens is run
            behind the prompt, and its probability is the product of theirs (nothing behind the prompt is restored).
        positions: "each", "subject", "subject_last", "last", or a list: the rows of the map, each restored alone;
            of a long prompt `spans(32)`, whose tokens are restored together, and then one by one where that matters.
        severed: "mlp" or "attn": hold these outputs of the restored token, in every layer, at the values they have
            in a corrupted run (figure 3).
        severed_noise: "next": as in the authors' notebook that corrupted run has the generator's first `samples`
            draws and the severed run, which is patched, the next ones; `low_score` is the first one's, and the notes
            say what the second gives with nothing restored. "same": one draw for both.
        subjects: the data set's subjects, whose embeddings give the "s" its scale as in the authors' code; without
            them the whole embedding table does, which the notes say.
        engine, max_memory, progress, plan_only: as in `activation_patching`.
        answers: in the target's place a list of answers that are right, whose probabilities are added.

    Returns:
        A `CausalTrace`: `.scores` `[positions, layers]`, probabilities. With `plan_only` a `Plan`.

    Raises:
        InputError, SubjectError, PositionError, TokenError: before any sweep, for what cannot mean anything.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in the city of"
        >>> trace = model.causal_trace(prompt, "Eiffel Tower", positions="subject_last", samples=2, progress=False)
        >>> trace.scores.shape, [trace.tokens[p] for p in trace.positions]
        ((1, 12), [' Tower'])
    """
    kind, severed = _checked(kind, severed, severed_noise)
    window = window_in(model, window)
    drawn = GaussianNoise(level=noise, samples=samples, seed=seed, replace=replace, within=within)
    read = model.prompt(prompt, subject)
    std, notes = published_scale(model, drawn, subjects)
    twice = severed is not None and severed_noise == "next"
    corrupted, fixed = _corrupted_runs(model, read, drawn, std, twice)
    followed = Followed.of_prompt(model, read, target, answers)
    runs, how = (corrupted, Run(read.ids), fixed), {"engine": engine, "max_memory": max_memory}
    restored = _Restored(model, kind, window, severed, followed, runs, how)
    spanned, groups = _rows(positions, read)
    job = restored.job(groups)
    chunk = None if refuse_until(spanned, job.until) else restored.chunk(job)
    own = notes_of(model, job.cells)  # measured once per model: a plan has it in its time
    plan = plan_until(model, [job], **how) if chunk is None else chunk.sweep.plan()
    plan = planned(plan, len(groups), spanned, False)
    if plan_only:
        return plan
    (measured, outcome), told = restored.run(job, chunk, progress), {}
    if spanned is not None:
        again = functools.partial(restored.again, measured, progress)
        spanned, (outcome,) = refined(spanned, (1, 1, len(groups), model.n_layers), [outcome], again)
        groups, told, notes = spanned.rows, spanned.settings, [*notes, spanned.note]
    low, more = _low_score(followed, measured, float(outcome.base.mean()), fixed)
    high, level = float(outcome.source[0, 0]), drawn.parsed_level
    trace = CausalTrace(
        raw=outcome.values[0].reshape(len(groups), model.n_layers, -1),
        corrupted_raw=outcome.base[0] if job.until else None, within=drawn.within,
        low_score=low, high_score=high, answer=measured.answer(high, low),
        positions=[label_of(at) for at in groups],
        noise_level=level.value if std is None else level.value * std,
        kind=kind, window=window if kind else 1, severed=severed, plan=outcome.plan,
        notes=[*notes, *filter(None, [read.note]), *measured.notes, *more, *own],
        settings={"noise": str(noise), "samples": drawn.samples, "seed": drawn.seed, "replace": replace} | told,
        subject_range=_subject(read), tokens=list(read.tokens), ids=list(read.ids), prompt=read.text, model=model.name,
    )  # fmt: skip
    return _noted(trace)


def _noted(trace: CausalTrace) -> CausalTrace:
    """The trace with a note on its samples, where cells had as many as it took."""
    if trace.within is not None:
        trace.notes += notes_until(np.asarray(trace.samples), trace.interval, trace.within)
    return trace


def window_in(model: TracedModel, window: Any) -> int:
    """The number of layers of a window; for "auto" the published one at the model's depth."""
    return windows_of(model, ["mlp"], window)["mlp"]


def _checked(kind: Any, severed: Any, severed_noise: Any) -> tuple[str | None, str | None]:
    """What is restored and what is severed; InputError for what there is not, or both at once."""
    kind, severed = kind_of("kind", kind), kind_of("severed", severed)
    if severed is not None and kind is not None:
        raise InputError(
            "severed= goes with kind=None: it restores layer outputs, as figure 3 of the paper does"
        )
    if not isinstance(severed_noise, str) or severed_noise not in ("next", "same"):
        raise InputError(f'severed_noise={severed_noise!r} is unknown: "next" (as published) or "same"')
    return kind, severed


def _subject(prompt: Prompt) -> range:
    if prompt.subject is None:
        raise SubjectError("a causal trace needs the subject, whose tokens are corrupted: pass subject=...")
    return prompt.subject


def _corrupted_runs(
    model: TracedModel, prompt: Prompt, noise: GaussianNoise, std: float | None, twice: bool
) -> tuple[Run, Run | None]:
    """The run that is patched and, drawn first, the run that severed outputs have their values from; None: its own."""
    if not twice:
        return noised_run(model, prompt.ids, _subject(prompt), noise, std), None
    # the authors' `trace_with_repatch` draws for both of its passes from one generator
    fixed, corrupted = two_draws(model, prompt.ids, _subject(prompt), noise, std)
    return corrupted, fixed


def _low_score(
    followed: Followed, measured: OneAnswer, patched: float, fixed: Run | None
) -> tuple[float, list[str]]:
    """The corrupted run's score, given that of the run that is patched, and a note when the two are different draws."""
    if fixed is None:
        return patched, []
    note = f"with nothing restored the severed run, a draw of its own, gives {probability(patched)}"
    return followed.value(measured, followed.logits(fixed)), [note]


def _rows(positions: Any, prompt: Prompt) -> tuple[Rows | None, list[list[int]]]:
    """The positions that are restored together, row by row; of spans what is to be said of them as well."""
    if not isinstance(positions, Spans):
        return None, [[p] for p in positions_of(positions, prompt)]
    spanned = spans_of(positions, [(p, p) for p in prompt.positions], _subject(prompt)[0], len(prompt))
    return spanned, spanned.groups


@dataclass(frozen=True)
class _Restored:
    """What is restored, of which answer, in which runs: corrupted, clean, and that of severed outputs."""

    model: TracedModel
    kind: str | None
    window: int
    severed: str | None
    followed: Followed
    runs: tuple[Run, Run, Run | None]
    how: dict[str, Any]

    def job(self, groups: list[list[int]]) -> Job:
        """The cells that restore each of some groups of positions, layer by layer."""
        of, (corrupted, clean, _) = (self.model, self.kind, self.window, self.severed), self.runs
        cells = [_cell(*of, tuple(at), layer) for at in groups for layer in range(self.model.n_layers)]
        return self.followed.job(corrupted, clean, cells)

    def chunk(self, job: Job) -> Chunk:
        """The sweep of a job with a number of samples, refused where the memory is too little."""
        (made := chunk_of(self.model, [job], [0], self.runs[2], **self.how)).sweep.fit()
        return made

    def run(self, job: Job, chunk: Chunk | None, progress: bool | None) -> tuple[OneAnswer, Outcome]:
        """What is measured, and every sample's value in each cell. chunk: None where samples are drawn until then."""
        if chunk is None:
            by_clean = lambda _, base, clean: self.followed.measured(clean)  # noqa: E731
            return sweep_until(self.model, [job], by_clean, progress, **self.how)[0]
        measured = self.followed.measured(chunk.begin()[1][0])
        return measured, chunk.run([measured], progress)[0]

    def again(self, measured: Any, progress: bool | None, groups: list[list[int]]) -> list[Any]:
        """The outcome of further groups."""
        return self.chunk(self.job(groups)).run([measured], progress)


def _cell(
    model: TracedModel, kind: str | None, window: int, severed: str | None, at: tuple[int, ...], layer: int
) -> Cell:
    """What is restored at some positions and a layer, and there in all layers what is fixed at its corrupted values."""
    site = model.resolver.site
    if kind is not None:
        layers = window_of(layer, window, model.n_layers)
        return Cell(tuple(Patch(site(kind, i), at, at) for i in layers))
    restored = Patch(site("resid_post", layer), at, at)
    if severed is None:
        return Cell((restored,))
    return Cell((*(Patch(site(severed, i), at, at, fixed=True) for i in range(model.n_layers)), restored))
