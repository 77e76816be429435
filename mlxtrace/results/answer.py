"""An answer: one token, and how likely it is in the two runs that an experiment compares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """An answer token: its id, its text, and its probability in the clean and in the corrupted run."""

    token: int
    text: str
    clean_prob: float
    corrupted_prob: float

    def __index__(self) -> int:  # int(answer), logits[answer]
        return self.token
