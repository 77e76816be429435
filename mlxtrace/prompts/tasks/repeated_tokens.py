"""Induction: random tokens, and the first of them again: what came after the last one before?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...text.pair import Pair
from ...text.tokens import special_marks, token_to_str
from .drawing import Drawing

SMALL = 128  # without a model: ids that any vocabulary has
RESERVED = 3  # its first ids, which may be special
POOL = 2000  # tokens that pairs are drawn from


def induction(
    model: Any = None, n: int = 64, seed: int = 0, length: int = 16, differs: str = "B1"
) -> list[Pair]:
    """Repeated random tokens (Olsson et al. 2022, arXiv:2209.11895): `... A B ... A` -> `B`.

    Published: attention-only models of two layers, and all larger ones, have induction heads: they attend from A to the
    token after its earlier occurrence, B, and copy it. A head in an earlier layer that attends to the previous token
    (K-composition) has written A where B stands.

    A clean prompt is BOS, where the tokenizer has one, then `length` different random tokens, and the first half of
    them again; no special tokens. The answer is the token that comes next, B. In the corrupted prompt the first B is
    another token, which is the foil; nothing else differs. Regions: A1 (the earlier A), B1 (the token after it), END
    (A again). All pairs have one length.

    With `differs="A1"` what was copied stays and what it is found by changes: clean `... A B ... X C ... A` -> B,
    corrupted `... X B ... A C ... A` -> C, which is the foil. A and X change places, so the answer depends on which
    token the head attends to, hence on keys, and on nothing that is read there. Regions X1 and C1 beside the others.

    Args:
        model: An `InterpretableModel`, with a tokenizer or not. None: ids from 3 to 127, without BOS.
        n: How many pairs.
        seed: Which ones.
        length: How many tokens are drawn, 2 at least; 5 with `differs="A1"`.
        differs: "B1" or "A1": the region whose token is another in the corrupted prompt.

    Returns:
        n different pairs, of token ids.

    Raises:
        InputError: The vocabulary is too small for so many different tokens.

    Example:
        >>> from mlxtrace import prompts
        >>> pair = prompts.load("induction", n=1)[0]
        >>> pair.clean[pair.regions["B1"]] == pair.target, pair.corrupted[pair.regions["B1"]] == pair.foil
        (True, True)
    """
    drawing = Drawing("induction", model, n, seed, text=False)
    if not isinstance(differs, str) or differs not in MAKERS:
        raise drawing.refusal(f'differs={differs!r} is neither "B1" nor "A1"')
    length = drawing.number("length", length, least=2 if differs == "B1" else 5)
    return drawing.collect(_drawn(drawing, length, MAKERS[differs]), "draw longer ones, length=...")


def _drawn(drawing: Drawing, length: int, make: Callable[..., Pair]) -> Iterator[Pair]:
    bos = getattr(getattr(drawing.model, "tokenizer", None), "bos_token_id", None)
    start = [] if bos is None else [int(bos)]
    pool = np.arange(RESERVED, SMALL) if drawing.model is None else _plain_ids(drawing.model, drawing.rng)
    if len(pool) <= length:
        raise drawing.refusal(
            f"there are {len(pool)} tokens to draw {length + 1} from: give a smaller length="
        )
    for _ in range(20 * drawing.n + 200):
        *drawn, other = pool[drawing.rng.permutation(len(pool))[: length + 1]].tolist()
        yield make(start, drawn, other, drawing.rng)


def _another_answer(start: list[int], drawn: list[int], other: int, _: np.random.RandomState) -> Pair:
    """The first B is another token in the corrupted prompt."""
    half = len(drawn) // 2
    clean, at = [*start, *drawn, *drawn[:half]], len(start) + half
    corrupted = [*clean[:at], other, *clean[at + 1 :]]
    return Pair(clean, corrupted, drawn[half], other, at, {"A1": at - 1, "B1": at, "END": -1})


def _another_match(start: list[int], drawn: list[int], _: int, rng: np.random.RandomState) -> Pair:
    """The first A and a later X, which is not repeated, change places."""
    half = len(drawn) // 2
    clean, at = [*start, *drawn, *drawn[:half]], len(start) + half - 1
    later = len(start) + rng.randint(half + 1, len(drawn) - 1)
    corrupted = list(clean)
    corrupted[at], corrupted[later] = clean[later], clean[at]
    regions = {"A1": at, "B1": at + 1, "X1": later, "C1": later + 1, "END": -1}
    return Pair(clean, corrupted, clean[at + 1], clean[later + 1], at, regions)


MAKERS: dict[str, Callable[..., Pair]] = {"B1": _another_answer, "A1": _another_match}


def _plain_ids(model: Any, rng: np.random.RandomState) -> np.ndarray:
    """Ids that have an embedding, are not special, and have a text of their own; no more than are worth looking at."""
    ids = rng.permutation(model._known_ids())[:POOL].tolist()
    if model.tokenizer is None:
        return np.array(ids)
    special = special_marks(model.tokenizer, ids)
    texts = {token: token_to_str(model.tokenizer, token) for i, token in enumerate(ids) if i not in special}
    return np.array([token for token, text in texts.items() if text.strip("\ufffd")])
