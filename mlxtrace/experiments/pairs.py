"""The two runs of an experiment, clean and corrupted, and which position of one answers to which of the other.

    both = pair(model, clean, corrupted)

Every bad input raises here, before a sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..engine import corruption, embeddings
from ..engine.corruption import GaussianNoise, Substitution
from ..engine.runs import Run
from ..errors import EffectError, SubjectError
from ..text import tokens
from ..text.alignment import Alignment, check_align, infer_subject
from ..text.alignment import align as align_prompts
from .protocol import TracedModel

Prompt = str | Sequence[int] | Any


DIRECTIONS = ("denoise", "noise")


@dataclass(frozen=True)
class Pair:
    """The clean and the corrupted run of one experiment, and how their positions answer to each other."""

    clean_text: str
    corrupted_text: str
    clean: Run
    corrupted: Run
    alignment: Alignment
    subject: range | None
    corruption: str
    notes: tuple[str, ...] = ()

    @property
    def of_clean(self) -> dict[int, int]:
        """Clean position -> corrupted position, where they are paired."""
        return dict(self.alignment.pairs)


def pair(
    model: TracedModel,
    clean: Prompt,
    corrupted: Prompt | GaussianNoise | Substitution,
    subject: Any = None,
    align: str = "strict",
) -> Pair:
    """Tokenize both prompts, or draw the noise, and line them up; every bad input raises here."""
    check_align(align)
    if isinstance(corrupted, GaussianNoise):
        return _noised(model, clean, corrupted, subject)
    corrupted = corrupted.text if isinstance(corrupted, Substitution) else corrupted
    a, b = model.ids(clean), model.ids(corrupted)
    if a == b:
        raise EffectError(
            "the clean and the corrupted prompt are the same tokens, so there is nothing to recover"
        )
    inferred = infer_subject(a, b) or (None, None)
    ours = inferred[0] if subject is None else model.subject_range(clean, subject)
    theirs = inferred[1]
    if (
        subject is not None
        and isinstance(corrupted, str)
        and isinstance(subject, str)
        and subject in corrupted
    ):
        theirs = model.subject_range(corrupted, subject)
    alignment = align_prompts(a, b, model.to_str_tokens(a), model.to_str_tokens(b), align, ours, theirs)
    runs = Run(tuple(a)), Run(tuple(b))
    notes = tokens.repeated(model.tokenizer, clean, subject, a, ours) if ours else ""
    texts = _text(model, clean), _text(model, corrupted)
    return Pair(*texts, *runs, alignment, ours, "", (notes,) if notes else ())


def _noised(model: TracedModel, clean: Prompt, noise: GaussianNoise, subject: Any) -> Pair:
    told = [s for s in (noise.subject, subject) if s is not None]
    if not told:
        raise SubjectError("noise needs to know the subject: GaussianNoise(subject=...) or subject=...")
    ids = model.ids(clean)
    where, *others = [model.subject_range(clean, s) for s in told]
    if others and others[0] != where:
        raise SubjectError(
            f"the noise goes to {noise.subject!r}, but subject={subject!r} is another one: leave subject= out"
        )
    std, notes = None, []
    if noise.parsed_level.kind == "s":
        std = embedding_std(model)
        notes.append(f"noise scale from the whole embedding table: std {std:.4g}")
    if twice := tokens.repeated(model.tokenizer, clean, told[0], ids, where):
        notes.append(twice)
    run = noised_run(model, ids, where, noise, std)
    text = _text(model, clean)
    alignment = Alignment([(i, i) for i in range(len(ids))], where[0])
    what = f"{noise.parsed_level} on the subject's embeddings, {noise.samples} samples"
    return Pair(text, text, Run(tuple(ids)), run, alignment, where, what, tuple(notes))


def noised_run(
    model: TracedModel, ids: Sequence[int], where: range, noise: GaussianNoise, std: float | None
) -> Run:
    """The prompt with noise on the embeddings at `where`, one row per sample."""
    array = corruption.noise_array(noise, len(where), model.d_model, std)
    return Run(tuple(ids), array, tuple(where), noise.replace)


def embedding_std(model: TracedModel) -> float:
    """The standard deviation of the whole embedding table, dequantized; measured anew when its numbers changed."""
    module = model.resolver.get_embedding_layer()
    key = embeddings.table_key(module)
    known = model.resolver.measured.setdefault("table_std", {})
    if key not in known:
        known.clear()
        known[key] = embeddings.table_std(module)
    return known[key]


def _text(model: TracedModel, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(model.to_str_tokens(prompt))
