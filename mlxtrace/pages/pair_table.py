"""The pairs of a set: the first token by token, and all as a table.

pair_list(result.singles)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .asked import asked_of
from .elements import Html, el, joined
from .number_tables import folded, table
from .receipts import receipt

MOST = 200


def pair_list(singles: Sequence[Any]) -> Html:
    """The pairs of a set: how many, the first as a receipt, and a table with the probabilities of each.

    Args:
        singles: the results of the pairs.

    Returns:
        HTML.
    """
    first = asked_of(singles[0])
    more = "" if len(singles) <= MOST else f", the first {MOST}"
    rows = [_row(i, single) for i, single in enumerate(singles[:MOST])]
    every = table(rows, "Probabilities are those of the answer, in the clean and in the corrupted run.")
    parts = [el("p", f"{len(singles)} pairs of prompts. The first of them:")]
    if first.tokens:
        parts.append(receipt(first.tokens, first.corrupted_tokens, first.subject, first.noise))
    return joined([*parts, folded(f"All {len(singles)} pairs{more}", every)])


def _row(number: int, single: Any) -> dict[str, Any]:
    asked = asked_of(single)
    row = {"pair": str(number + 1), "clean": asked.clean, "corrupted": asked.noise or asked.corrupted}
    for said in asked.answers:
        row[said.role] = said.words
        if said.role == "answer":
            row |= {"p clean": said.clean, "p corrupted": said.corrupted}
    return row
