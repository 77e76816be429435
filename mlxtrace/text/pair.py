"""A pair: a clean and a corrupted prompt with their answers, as it is written down. Many of them are a set.

Pair("The Louvre is in", "The Colosseum is in", target=" Paris", foil=" Rome", subject="Louvre")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .prompt import PromptLike


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupted prompt, their answers, and the regions of the clean one.

    Args:
        clean: The prompt whose answer we want back: text, ids, an array, a `Prompt`, or the messages of a chat.
        corrupted: The broken prompt; None where a corruption is named for the whole set (`GaussianNoise`).
        target: The answer, as text (" Paris") or token id; None: the clean run's top token.
        foil: The other answer; None: the corrupted run's top token.
        subject: Text in the clean prompt, or positions; None: where the two prompts differ.
        regions: `{name: where}` in the clean prompt: a text (its first occurrence), `[text, k]` (its k-th), or
            positions (an int, a list; negative ones count from the end). Without any, a token's role counts:
            subject first, middle and last, first subsequent, further, last.
        id: A name, another for each pair of a set; "" for its number.
        answers: Acceptable answers in place of a target, whose probabilities are added.

    Example:
        >>> from mlxtrace.prompts import Pair
        >>> pair = Pair("The Louvre is in the city of", "The Colosseum is in the city of", target=" Paris")
        >>> pair.target, pair.foil
        (' Paris', None)
    """

    clean: PromptLike
    corrupted: PromptLike | None = None
    target: str | int | None = None
    foil: str | int | None = None
    subject: Any = None
    regions: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str = ""
    answers: tuple = ()
