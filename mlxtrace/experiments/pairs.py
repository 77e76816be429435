"""The two runs of an experiment, clean and corrupted, and which position of one answers to which of the other.

    both = pair(model, clean, corrupted)

Every bad input raises here, before a sweep. Prompts are read once; a pair that is made already passes through `pair`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..engine import corruption
from ..engine.corruption import GaussianNoise, Substitution
from ..engine.runs import Run
from ..errors import EffectError, InputError, SubjectError
from ..text.alignment import Alignment, check_align, infer_subject
from ..text.alignment import align as align_prompts
from ..text.prompt import Prompt, PromptLike
from .protocol import TracedModel

DIRECTIONS = ("denoise", "noise")


@dataclass(frozen=True)
class Pair:
    """The clean and the corrupted run of one experiment, and how their positions answer to each other."""

    clean_prompt: Prompt
    corrupted_prompt: Prompt
    clean: Run
    corrupted: Run
    alignment: Alignment
    corruption: str = ""
    notes: tuple[str, ...] = ()

    @property
    def clean_text(self) -> str:
        return self.clean_prompt.text

    @property
    def corrupted_text(self) -> str:
        return self.corrupted_prompt.text

    @property
    def subject(self) -> range | None:
        """The positions of the clean prompt's subject."""
        return self.clean_prompt.subject

    @property
    def of_clean(self) -> dict[int, int]:
        """Clean position -> corrupted position, where they are paired."""
        return dict(self.alignment.pairs)


def pair(
    model: TracedModel,
    clean: PromptLike | Pair,
    corrupted: PromptLike | GaussianNoise | Substitution | None = None,
    subject: Any = None,
    align: Any = "strict",
) -> Pair:
    """Read both prompts, or draw the noise, and line them up; every bad input raises here.

    Args:
        clean: a prompt, or a `Pair` that this model has made, which is returned.
        corrupted: a prompt, `GaussianNoise` or `Substitution`; None with a `Pair`.
        subject: text or positions in the clean prompt; default: its own, or where the prompts differ.
        align: "strict" or "ends", for prompts of different lengths.
    """
    check_align(align)
    if isinstance(clean, Pair):
        return _made(model, clean, corrupted, subject)
    first = model.prompt(clean)
    if isinstance(corrupted, GaussianNoise):
        return _noised(model, first, corrupted, subject)
    second = model.prompt(corrupted.text if isinstance(corrupted, Substitution) else corrupted)
    if first.ids == second.ids:
        raise EffectError(
            "the clean and the corrupted prompt are the same tokens, so there is nothing to recover"
        )
    first, second = _with_subjects(first, second, subject)
    alignment = align_prompts(
        first.ids, second.ids, first.tokens, second.tokens, align, first.subject, second.subject
    )
    notes = (first.note,) if first.note else ()
    return Pair(first, second, Run(first.ids), Run(second.ids), alignment, notes=notes)


def _made(model: TracedModel, made: Pair, corrupted: Any, subject: Any) -> Pair:
    """A pair that was made before, checked against the model."""
    if corrupted is not None or subject is not None:
        raise InputError("a pair has its corrupted prompt and its subject: give the pair alone")
    model.prompt(made.clean_prompt)
    model.prompt(made.corrupted_prompt)
    return made


def _with_subjects(clean: Prompt, corrupted: Prompt, subject: Any) -> tuple[Prompt, Prompt]:
    """Both prompts with their subjects: as given, the same text in the other prompt, or where the two differ."""
    inferred = infer_subject(clean.ids, corrupted.ids) or (None, None)
    subject = inferred[0] if subject is None and clean.subject is None else subject
    if subject is not None:
        clean = clean.with_subject(subject)
    if corrupted.subject is None:
        same = clean.subject_text
        found = same is not None and not corrupted.decoded and same in corrupted.text
        other = same if found else inferred[1]
        corrupted = corrupted if other is None else corrupted.with_subject(other)
    return clean, corrupted


def _noised(model: TracedModel, clean: Prompt, noise: GaussianNoise, subject: Any) -> Pair:
    wanted = subject if noise.subject is None else noise.subject
    read = clean if wanted is None else clean.with_subject(wanted)
    if read.subject is None:
        raise SubjectError("noise needs to know the subject: GaussianNoise(subject=...) or subject=...")
    other = clean.subject if subject is None else clean.find(subject)
    if other not in (None, read.subject):
        given = clean.subject_text or other if subject is None else subject
        raise SubjectError(
            f"the noise goes to {noise.subject!r}, but subject={given!r} is another one: leave subject= out"
        )
    std, notes = None, []
    if noise.parsed_level.kind == "s":
        std = embedding_std(model)
        notes.append(f"noise scale from the whole embedding table: std {std:.4g}")
    if read.note:
        notes.append(read.note)
    run = noised_run(model, read.ids, read.subject, noise, std)
    alignment = Alignment([(i, i) for i in range(len(read))], read.subject[0])
    what = f"{noise.parsed_level} on the subject's embeddings, {noise.samples} samples"
    return Pair(read, read, Run(read.ids), run, alignment, what, tuple(notes))


def noised_run(
    model: TracedModel, ids: Sequence[int], where: range, noise: GaussianNoise, std: float | None
) -> Run:
    """The prompt with noise on the embeddings at `where`, one row per sample."""
    array = corruption.noise_array(noise, len(where), model.d_model, std)
    return Run(tuple(ids), array, tuple(where), noise.replace)


def embedding_std(model: TracedModel) -> float:
    """The standard deviation of the whole embedding table, dequantized; measured anew when its numbers changed."""
    module = model.resolver.get_embedding_layer()
    key = corruption.table_key(module)
    known = model.resolver.measured.setdefault("table_std", {})
    if key not in known:
        known.clear()
        known[key] = corruption.table_std(module)
    return known[key]
