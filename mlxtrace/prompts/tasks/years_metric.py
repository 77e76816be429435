"""The measure of greater-than: the probability of the years after the first, minus that of the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...metrics import softmax
from .drawing import Drawing
from .years import CENTURIES


def greater_than_metric(model: Any, pair: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The measure of Hanna et al. (section 2): the probability of the years after YY, minus that of the others.

    A function of logits for `metric=`; it is of this pair, because YY is.

    Args:
        model: The `InterpretableModel` that runs it.
        pair: A pair of `greater_than`.

    Returns:
        A function: float64 logits `[rows, V]` -> `[rows]`, from -1 to 1.

    Raises:
        InputError: The pair is of another form, or a year from 00 to 99 is not one token.

    Example:
        >>> from mlxtrace import InterpretableModel, prompts
        >>> pair = prompts.load("greater_than", n=1)[0]
        >>> try:
        ...     metric = prompts.greater_than_metric(InterpretableModel("demo"), pair)
        ... except ValueError as error:
        ...     print("of 100 years are not one token" in str(error))  # a small vocabulary
        True
    """
    drawing = Drawing("greater_than", model, 1, 0)
    text = getattr(pair, "clean", pair)
    written = (
        re.search(r"from the year (\d\d)(\d\d) to the year \1$", text) if isinstance(text, str) else None
    )
    if written is None:
        raise drawing.refusal(f'pairs are "... from the year XXYY to the year XX", not {text!r}')
    tokens = np.array([_token(drawing, text, year) for year in range(100)])
    odd = [year for year, token in enumerate(tokens) if token < 0]
    if odd:
        raise drawing.refusal(
            f"{len(odd)} of 100 years are not one token behind a century (such as {odd[0]:02})"
        )
    signs = np.where(np.arange(100) > int(written[2]), 1.0, -1.0)

    def years_after(logits: np.ndarray) -> np.ndarray:
        return softmax(logits)[..., tokens] @ signs

    return years_after


def _token(drawing: Drawing, prompt: str, year: int) -> int:
    """The token of YY behind a prompt that ends in XX, or behind another century where a year is one token; else -1."""
    centuries = (prompt[-2:], *CENTURIES)
    all_of_them = (drawing.behind(f"{prompt[:-2]}{century}", f"{year:02}") or [] for century in centuries)
    return next((tokens[0] for tokens in all_of_them if len(tokens) == 1), -1)
