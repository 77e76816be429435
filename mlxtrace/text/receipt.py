"""A prompt's receipt: a line for each token, of long prompts those that matter; for a terminal and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

MOST = 60  # tokens that are all shown
ENDS, AROUND = 8, 3  # of longer prompts, tokens at either end, and around subject and turns
TEXT = 60  # characters of a token


def rows_that_matter(n: int, places: Sequence[Sequence[int]]) -> list[int]:
    """Which of n tokens are shown: all of a few; else both ends, and both ends of every place with what is around.

    Example:
        >>> from mlxtrace.text.receipt import rows_that_matter
        >>> rows = rows_that_matter(4000, [range(1200, 1203)])
        >>> rows[7:10], rows[-9:-7], len(rows)
        ([7, 1197, 1198], [1205, 3992], 25)
    """
    if n <= MOST:
        return list(range(n))
    shown = {*range(ENDS), *range(n - ENDS, n)}
    for place in places:
        for end in (place[0], place[-1]):
            near = range(max(0, end - AROUND), min(n, end + AROUND + 1))
            if len(shown.union(near)) <= 2 * MOST:
                shown.update(near)
    return sorted(shown)


def gaps(shown: list[int], n: int) -> dict[int, str]:
    """What is left out, by the token before which it is: `{1197: "positions 8 to 1196"}`."""
    before = [-1, *shown]
    found = zip(before, [*shown, n], strict=True)
    return {b: f"positions {a + 1} to {b - 1}" for a, b in found if b > a + 1}


def _rows(prompt: Any, shown: list[int]) -> list[tuple[str, str, str, str]]:
    chat, rows = prompt.chat, []
    for i in shown:
        mark = "*" if prompt.subject and i in prompt.subject else prompt.special.get(i, "")
        turn = chat.name_at(i) if chat is not None else ""
        token = repr(prompt.tokens[i])
        token = token if len(token) <= TEXT else f"{token[: TEXT - 1]}…"
        rows.append((str(i), str(prompt.ids[i]), token, " ".join(filter(None, [turn, mark]))))
    return rows


def _shown(prompt: Any) -> list[int]:
    places = [prompt.subject] if prompt.subject else []
    return rows_that_matter(len(prompt.ids), [*places, *(t.positions for t in _turns(prompt) if t.positions)])


def _turns(prompt: Any) -> list[Any]:
    return prompt.chat.turns if prompt.chat is not None else []


def _counted(prompt: Any, shown: list[int]) -> str:
    """How many tokens there are, where the turns are, and how to see all of them."""
    said = [f"{len(prompt.ids)} tokens"]
    if len(shown) < len(prompt.ids):
        said[0] += f", {len(shown)} of them shown: .tokens and .ids have all"
    turns = _turns(prompt)
    if turns:
        named = [f"{t.name} {t.positions[0]} to {t.positions[-1]}" for t in turns]
        said.append(", ".join(named if len(named) <= 12 else [*named[:6], "...", *named[-3:]]))
    return "; ".join([*said, *(["* marks the subject"] if prompt.subject else [])])


def text(prompt: Any) -> str:
    """The receipt for a terminal."""
    shown = _shown(prompt)
    left = gaps(shown, len(prompt.ids))
    rows = [("position", "id", "token", ""), *_rows(prompt, shown)]
    wide = [max(len(row[k]) for row in rows) for k in range(3)]
    lines = [f"{p:>{wide[0]}}  {i:>{wide[1]}}  {t:<{wide[2]}}  {m}".rstrip() for p, i, t, m in rows]
    out = lines[:1]
    for i, line in zip(shown, lines[1:], strict=True):
        out += [f"{'⋮':>{wide[0]}}  {left[i]}", line] if i in left else [line]
    more = [f"note: {prompt.note}"] if prompt.note else []
    return "\n".join([*out, _counted(prompt, shown), *more])


def as_html(prompt: Any) -> str:
    """The receipt for a notebook."""
    shown = _shown(prompt)
    left = gaps(shown, len(prompt.ids))
    body = ["<tr><th>position</th><th>id</th><th>token</th><th></th></tr>"]
    for i, row in zip(shown, _rows(prompt, shown), strict=True):
        body += [f'<tr><td>⋮</td><td colspan="3">{left[i]}</td></tr>'] if i in left else []
        body.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>")
    note = f"<p>note: {html.escape(prompt.note)}</p>" if prompt.note else ""
    return f"<table>{''.join(body)}</table><p>{html.escape(_counted(prompt, shown))}</p>{note}"
