"""The clean and the corrupted run of an experiment: how their positions are paired, and which of them is patched.

    made = pair(model, clean, corrupted)
    roles = made.roles("denoise")       # roles.base is patched with activations of roles.source

Every bad input raises here, before a sweep. Prompts are read once; a pair that is made already passes through `pair`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import EffectError, InputError, SubjectError
from ..text.alignment import Alignment, align_turns, check_align, infer_subject, outside_turns
from ..text.alignment import align as align_prompts
from ..text.regions import regions_of
from .noise import GaussianNoise, Run, Substitution, noised_run, samples_in_words, table_scale
from .protocol import Prompt, PromptLike, TracedModel

DIRECTIONS = ("denoise", "noise")
Corrupted = PromptLike | GaussianNoise | Substitution  # how a corrupted run is made
T = TypeVar("T")
__all__ = [
    "DIRECTIONS",
    "AlignedPair",
    "Corrupted",
    "GaussianNoise",
    "Roles",
    "Substitution",
    "pair",
    "regions_of",
]


@dataclass(frozen=True)
class AlignedPair:
    """The clean and the corrupted run of one experiment, and how their positions answer to each other.

    regions: the clean prompt's own, by name; empty when it has none but the roles of its tokens.
    """

    clean_prompt: Prompt
    corrupted_prompt: Prompt
    clean: Run
    corrupted: Run
    alignment: Alignment
    corruption: str = ""
    notes: tuple[str, ...] = ()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

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

    def roles(self, direction: str) -> Roles:
        """Which run is patched and which one gives the activations: "denoise" patches the corrupted run.

        InputError for a direction that there is not.
        """
        if not isinstance(direction, str) or direction not in DIRECTIONS:
            raise InputError(f"direction={direction!r} is unknown; it is one of {', '.join(DIRECTIONS)}")
        clean = (self.clean, {p: p for p in self.of_clean})
        corrupted = (self.corrupted, self.of_clean)
        patched, giving = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
        (base, at), (source, source_at) = patched, giving
        return Roles(direction, base, source, at, source_at)


@dataclass(frozen=True)
class Roles:
    """The runs of a pair by what they do: base is patched with activations of source.

    at, source_at: clean position -> where it is written in the base run, and read in the source run.
    """

    direction: str
    base: Run
    source: Run
    at: dict[int, int]
    source_at: dict[int, int]

    def clean_first(self, of_base: T, of_source: T) -> tuple[T, T]:
        """What there is of the base and of the source run, as of the clean and of the corrupted run."""
        return (of_source, of_base) if self.direction == "denoise" else (of_base, of_source)


def pair(
    model: TracedModel,
    clean: PromptLike | AlignedPair,
    corrupted: Corrupted | None = None,
    subject: Any = None,
    align: Any = "strict",
    same: bool = False,
    noised_by: TracedModel | None = None,
) -> AlignedPair:
    """Read both prompts, or draw the noise, and line them up; every bad input raises here.

    Args:
        clean: a prompt, or an `AlignedPair` that this model has made, which is returned.
        corrupted: a prompt, `GaussianNoise` or `Substitution`; None with an `AlignedPair`.
        subject: text or positions in the clean prompt; default: its own, or where the prompts differ.
        align: "strict" or "ends", for prompts of different lengths.
        same: both may be the same tokens, run in two models; the clean prompt is both where there is no other.
        noised_by: the model whose embeddings are noised; None: `model`.
    """
    check_align(align)
    if isinstance(clean, AlignedPair):
        return _made(model, clean, corrupted, subject)
    first = model.prompt(clean)
    if isinstance(corrupted, GaussianNoise):
        return _noised(noised_by or model, first, corrupted, subject)
    corrupted = clean if same and corrupted is None else corrupted
    second = model.prompt(corrupted.text if isinstance(corrupted, Substitution) else corrupted)
    if first.ids == second.ids and not same:
        raise EffectError(
            "the clean and the corrupted prompt are the same tokens, so there is nothing to recover"
        )
    first, second = _with_subjects(first, second, subject)
    notes = [first.note]
    if first.chat is not None and second.chat is not None:
        alignment = align_turns(first, second, align)
        notes += [
            second.chat.note if second.chat.note != first.chat.note else "",
            outside_turns(first, second),
        ]
    else:
        alignment = align_prompts(
            first.ids, second.ids, first.tokens, second.tokens, align, first.subject, second.subject
        )
    notes = tuple(filter(None, notes))
    return AlignedPair(first, second, Run(first.ids), Run(second.ids), alignment, notes=notes)


def uncorrupted(prompt: Prompt) -> AlignedPair:
    """A prompt as a pair with itself, for what corrupts it in its own way."""
    alignment = Alignment([(i, i) for i in range(len(prompt))], len(prompt))
    return AlignedPair(prompt, prompt, Run(prompt.ids), Run(prompt.ids), alignment, notes=())


def _made(model: TracedModel, made: AlignedPair, corrupted: Any, subject: Any) -> AlignedPair:
    """A pair that was made before, checked against the model."""
    if corrupted is not None or subject is not None:
        raise InputError("a pair has its corrupted prompt and its subject: give the pair alone")
    model.prompt(made.clean_prompt)
    model.prompt(made.corrupted_prompt)
    return made


def _with_subjects(clean: Prompt, corrupted: Prompt, subject: Any) -> tuple[Prompt, Prompt]:
    """Both prompts with their subjects: as given, the same text in the other prompt, or where the two differ."""
    inferred = infer_subject(clean.ids, corrupted.ids) or (None, None)
    for prompt, where in zip((clean, corrupted), inferred, strict=True):
        if where is not None and prompt.chat is not None and not prompt.chat.in_one_turn(where):
            inferred = (None, None)  # the template between two turns is of no subject
    subject = inferred[0] if subject is None and clean.subject is None else subject
    if subject is not None:
        clean = clean.with_subject(subject)
    if corrupted.subject is None:
        same = clean.subject_text
        found = same is not None and not corrupted.decoded and same in corrupted.wording
        other = same if found else inferred[1]
        corrupted = corrupted if other is None else corrupted.with_subject(other)
    return clean, corrupted


def _noised(model: TracedModel, clean: Prompt, noise: GaussianNoise, subject: Any) -> AlignedPair:
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
    std, note = table_scale(model, noise)
    notes = [said for said in (note, read.note) if said]
    run = noised_run(model, read.ids, read.subject, noise, std)
    alignment = Alignment([(i, i) for i in range(len(read))], read.subject[0])
    what = f"{noise.parsed_level} on the subject's embeddings, {samples_in_words(noise)}"
    return AlignedPair(read, read, Run(read.ids), run, alignment, what, tuple(notes))
