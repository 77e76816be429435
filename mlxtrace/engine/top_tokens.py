"""What some logits say: the likeliest tokens and their probabilities, and those of one token, in float64.

said = read(logits, k=5, token=1234)      # [N, V]
said.ids, said.probabilities              # [N, k], the likeliest first
said.prob, said.rank                      # [N], of the token; rank 0 is the likeliest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import InputError, log_softmax


@dataclass(frozen=True)
class Said:
    """What each row of some logits says: its likeliest tokens, and one token's probability and rank."""

    ids: np.ndarray
    probabilities: np.ndarray
    prob: np.ndarray
    rank: np.ndarray


def read(logits: np.ndarray, k: int, token: int | None = None) -> Said:
    """Read logits `[N, V]`, a row at a time; without a token the likeliest one's probability and rank stand there.

    Raises:
        InputError: a row has NaN or infinity in it (-inf is a token that the model rules out).
    """
    found = [_row(row, k, token) for row in logits]
    ids, probabilities, prob, rank = zip(*found, strict=True)
    return Said(np.array(ids), np.array(probabilities), np.array(prob), np.array(rank))


def joined(parts: Sequence[Said]) -> Said:
    """The rows of several parts, one after the other."""
    names = ("ids", "probabilities", "prob", "rank")
    return Said(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _row(row: np.ndarray, k: int, token: int | None) -> tuple[np.ndarray, np.ndarray, float, int]:
    top = row.max()
    if np.isnan(top) or np.isposinf(top):
        raise InputError(
            "some logits are NaN or infinite, so no token has a probability: the model overflows here; "
            'try dtype="float32"'
        )
    ids = likeliest(row, k)
    token = int(ids[0]) if token is None else token
    log_probs = log_softmax(row)
    return ids, np.exp(log_probs[ids]), float(np.exp(log_probs[token])), int((row > row[token]).sum())


def likeliest(row: np.ndarray, k: int) -> np.ndarray:
    """The k tokens with the largest logits, the largest first; of equal ones the smaller id first."""
    least = np.partition(row, len(row) - k)[len(row) - k]
    found = np.flatnonzero(row >= least)
    return found[np.argsort(-row[found].astype(np.float64), kind="stable")][:k]
