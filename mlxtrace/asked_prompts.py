"""The prompts that the command's options name: a pair, or the pairs of a file or a task that the model can be asked.

both = pair_of(model, args, print)         # without prompts the bundled fact
chosen, limit, said = pairs_of(model, args)
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from . import prompts
from .errors import AlignmentError, InputError
from .experiments.pairs import pair

CLEAN = "The Eiffel Tower is located in the city of"
CORRUPTED = "The Colosseum is located in the city of"
SUBJECT = "Eiffel Tower"


def pair_of(model: Any, args: argparse.Namespace, say: Callable[[str], None]) -> Any:
    """The pair of prompts in the options; without prompts, the bundled fact."""
    if args.clean is None and args.align is None:
        return _bundled(model, args.subject, say)
    clean = CLEAN if args.clean is None else args.clean
    corrupted = CORRUPTED if args.corrupted is None else args.corrupted
    if args.noise is not None:
        corrupted = args.gaussian
    if args.auto:
        corrupted = _other_subject(model, clean, args.subject, say)
    return pair(model, clean, corrupted, args.subject, args.align or "strict")


def _bundled(model: Any, subject: str | None, say: Callable[[str], None]) -> Any:
    """The bundled fact; where this tokenizer reads its two prompts as unlike many tokens, with another subject."""
    try:
        return pair(model, CLEAN, CORRUPTED, subject, "strict")
    except AlignmentError:
        say("this tokenizer reads the two bundled prompts as unlike many tokens")
    try:
        corrupted = _other_subject(model, CLEAN, SUBJECT, say)
    except InputError as error:
        say(f"{str(error).split(';')[0]}\nso what the prompts share is patched, as with --align ends\n")
        return pair(model, CLEAN, CORRUPTED, subject or SUBJECT, "ends")
    return pair(model, CLEAN, corrupted, subject or SUBJECT, "strict")


def _other_subject(model: Any, clean: Any, subject: str, say: Callable[[str], None]) -> Any:
    """The clean prompt with another subject, of the same length and with another answer, in place of its own."""
    found = model.substitutes(clean, subject)
    if not found:
        raise InputError(f"--corrupted auto: no subject that is known fits in the place of {subject!r}")
    say(f"corrupted: {found[0]!r} in the place of {subject!r}, the first of {len(found)} that fit\n")
    if isinstance(clean, str):
        return clean.replace(subject, found[0], 1)
    messages = list(model.prompt(clean).chat.messages)
    first = next(i for i, one in enumerate(messages) if subject in one["content"])
    content = messages[first]["content"].replace(subject, found[0], 1)
    return [*messages[:first], {**messages[first], "content": content}, *messages[first + 1 :]]


def pairs_of(model: Any, args: argparse.Namespace) -> tuple[list, int, str]:
    """The pairs, how many of the first of them to run, and in words how many were left out for which reason.

    A folder is begun with all pairs of a file, so that a later run may go further; else `--limit` cuts the list here.
    """
    seed = {} if args.seed is None else {"seed": args.seed}
    found = args.known or prompts.load(args.pairs, model=model, n=args.limit or 64, **seed)
    asked = found[: args.limit]
    if args.noise is not None:
        bare = [dataclasses.replace(one, corrupted=None) for one in found]
        return (
            bare,
            len(asked),
            f"{len(asked)} pairs of {args.pairs}, their subjects noised; none was left out",
        )
    kept = prompts.suitable(model, asked)
    said = f"{len(kept)} of {len(asked)} pairs of {args.pairs} are suitable"
    if kept.dropped:
        said += "; dropped: " + ", ".join(f"{n} ({reason})" for reason, n in kept.dropped.items())
    if not kept:
        raise InputError(f"nothing can be patched: {said}")
    every = kept if args.out is None or len(asked) == len(found) else prompts.suitable(model, found)
    return list(every), len(kept), said
