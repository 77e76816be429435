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
    """Both `Prompt`s of a pair, with the subject in the clean one, and its answers as token ids, where it has them."""

    clean: Any
    corrupted: Any
    target: int | None
    foil: int | None


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
    target = None if pair.target is None else model.answer_token(pair.target, clean)
    behind = clean if corrupted is None else corrupted
    foil = None if pair.foil is None else model.answer_token(pair.foil, behind)
    return ReadPair(clean, corrupted, target, foil)


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
