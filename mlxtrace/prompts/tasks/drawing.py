"""What the makers of tasks share: words of one token, where a word stands in a text, as many pairs as were asked."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...arguments import whole_number
from ...errors import InputError
from ...text.tokens import encode_plain
from ..pair_reading import reader_of


class Drawing:
    """A task that is being made: for which model, how many pairs, and the generator that they are drawn with.

    Args:
        task: Its name.
        model: An `InterpretableModel`, or None.
        n: How many pairs.
        seed: Of the generator.
        text: Whether the task is text, which takes a tokenizer.
    """

    def __init__(self, task: str, model: Any, n: Any, seed: Any, text: bool = True):
        if model is not None and not hasattr(model, "resolver"):
            raise InputError(f"{task} is made for an InterpretableModel, not {model!r}")
        if model is not None and model.tokenizer is None and text:
            raise InputError(
                f"{task} is text, and {model.name!r} has no tokenizer; the task 'induction' needs none"
            )
        self.task, self.n = task, whole_number("n", n)
        self.model: Any = model
        self.rng = np.random.RandomState(whole_number("seed", seed, least=0, most=2**32 - 1))

    @cached_property
    def read(self) -> Any:
        """The reader of the model's prompts."""
        return reader_of(self.model)

    def refusal(self, why: str) -> InputError:
        """The error of this task, to be raised."""
        return InputError(f"{self.task}: {why}")

    def number(self, name: str, value: Any, least: int) -> int:
        """A further argument of the task that counts something."""
        return whole_number(name, value, least)

    def behind(self, head: Any, text: Any) -> list[int] | None:
        """The tokens of a text that follows another; None where the two melt together."""
        before = encode_plain(self.model.tokenizer, head)
        after = encode_plain(self.model.tokenizer, head + text)
        return after[len(before) :] if after[: len(before)] == before else None

    def one_token(self, words: Sequence[str], before: str) -> list[str]:
        """Those of the words that are one token behind another word and a space; all of them without a model."""
        if self.model is None:
            return list(words)
        return [word for word in words if len(self.behind(before, f" {word}") or []) == 1]

    def collect(self, drawn: Iterable[Any], cure: str) -> list[Any]:
        """The first n pairs that differ, numbered; InputError when fewer are drawn.

        drawn: pairs, and for what cannot be made the reason. cure: what else can be done about too few.
        """
        made: dict[tuple[str, str], Any] = {}
        reasons: Counter[str] = Counter()
        for pair in drawn:
            if isinstance(pair, str):
                reasons[pair] += 1
                continue
            made.setdefault((str(pair.clean), str(pair.corrupted)), pair)
            if len(made) == self.n:
                return [dataclasses.replace(pair, id=f"{i:04}") for i, pair in enumerate(made.values())]
        tried = "".join(f"; {times} {reason}" for reason, times in reasons.most_common(4))
        less = f"; ask for n={len(made)}" if made else ""
        raise self.refusal(f"{len(made)} pairs can be made, not {self.n}{tried}: {cure}{less}")


def place(text: str, word: str, start: int) -> str | list | None:
    """The region of the word that starts at a character: the word, or `[word, k]`; None where it cannot be said so."""
    starts = [match.start() for match in re.finditer(re.escape(word), text)]
    if start not in starts:
        return None  # another occurrence overlaps it
    k = starts.index(start) + 1
    return word if k == 1 else [word, k]


def found(prompt: Any, region: Any) -> range:
    """The positions of a region that is a text, or `[text, k]`, in a `Prompt`."""
    return prompt.find(region) if isinstance(region, str) else prompt.find(*region)


def differences(clean: Any, corrupted: Any) -> list[int] | None:
    """The positions where two prompts differ; None when they differ in length."""
    if len(clean) != len(corrupted):
        return None
    return [i for i, (a, b) in enumerate(zip(clean.ids, corrupted.ids, strict=True)) if a != b]
