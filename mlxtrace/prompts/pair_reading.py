"""A pair as one model reads it: both prompts, the tokens of its answers, its regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, MlxtraceError
from ..text.regions import regions_of
from ..text.tokens import encode_plain

SHOWN = 20  # pairs that an error names


@dataclass(frozen=True)
class ReadPair:
    """Both `Prompt`s of a pair, with the subject in the clean one, and all tokens of its answers, where it has them.

    answers: of each acceptable one, in place of a target.
    """

    clean: Any
    corrupted: Any
    target: tuple[int, ...] | None
    foil: tuple[int, ...] | None
    answers: tuple[tuple[int, ...], ...] = ()

    @property
    def targets(self) -> tuple[tuple[int, ...], ...]:
        """The answers that are wanted; none where the clean run's own is."""
        return self.answers if self.target is None else (self.target,)


def reader_of(model: Any) -> Callable[..., Any]:
    """`model.prompt` for many prompts: the model is looked at once, which takes longer than to read a prompt."""
    if not hasattr(model, "receipt"):
        raise InputError(f"an InterpretableModel reads prompts, not {model!r}")
    longest = model._longest()

    def read(prompt: Any, subject: Any = None, template: Any = None) -> Any:
        made = model.receipt(prompt, subject, template)
        return (
            made if longest is None or len(made) <= longest else model.prompt(prompt)
        )  # it says what is wrong

    return read


def read_pair(model: Any, pair: Any, read: Callable[..., Any]) -> ReadPair:
    """Read a pair; the error of its first part that the model cannot read, or that is not in the prompt.

    read: `reader_of(model)`.
    """
    clean = read(pair.clean, pair.subject)
    if pair.regions:
        regions_of(clean, pair.regions)
    corrupted = None if pair.corrupted is None else read(pair.corrupted)
    if pair.answers and pair.target is not None:
        raise InputError(f"it has the target {pair.target!r} and answers {pair.answers!r}: give one of them")
    target = None if pair.target is None else model.answer_tokens(pair.target, clean)
    behind = clean if corrupted is None else corrupted
    foil = None if pair.foil is None else model.answer_tokens(pair.foil, behind)
    return ReadPair(clean, corrupted, target, foil, _acceptable(model, pair.answers, clean))


def _acceptable(model: Any, answers: Sequence[Any], clean: Any) -> tuple[tuple[int, ...], ...]:
    """The tokens of acceptable answers; InputError when one of them is the beginning of another."""
    found = tuple(model.answer_tokens(answer, clean) for answer in answers)
    for i, one in enumerate(found):
        for k, other in enumerate(found):
            if i != k and begins(other, one):
                raise InputError(
                    f"the answer {answers[i]!r} is the beginning of {answers[k]!r}, which it counts with: leave one out"
                )
    return found


def any_of_several(model: Any, pairs: Sequence[Any]) -> bool:
    """Whether an answer of some pair is several tokens; those that cannot be read are not, as they are not scored."""
    for pair in pairs:
        behind = pair.clean if pair.corrupted is None else getattr(pair.corrupted, "text", pair.corrupted)
        behind = pair.clean if hasattr(behind, "level") else behind
        for answer, prompt in ((pair.target, pair.clean), (pair.foil, behind)):
            try:
                if answer is not None and len(model.answer_tokens(answer, prompt)) > 1:
                    return True
            except MlxtraceError:
                continue
    return False


def begins(tokens: Sequence[int], start: Sequence[int]) -> bool:
    """Whether an answer's tokens begin with those of another."""
    return tuple(tokens[: len(start)]) == tuple(start)


def is_one_token(model: Any, prompt: Any, answer: Any) -> bool:
    """Whether an answer that follows a `Prompt` is one token, and not only its first."""
    if not isinstance(answer, str):
        return True
    return len(encode_plain(model.tokenizer, prompt.text + answer)) == len(prompt.plain_ids) + 1


def check_read(model: Any, pairs: Sequence[Any], source: str) -> None:
    """InputError that names every pair which the model cannot read. source: what the pairs are of."""
    read, wrong = reader_of(model), []
    for pair in pairs:
        try:
            read_pair(model, pair, read)
        except MlxtraceError as error:
            wrong.append(f"pair {pair.id!r}: {error}")
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise InputError("\n  ".join([f"{source}, not read by {model.name}:", *wrong[:SHOWN], *more]))
