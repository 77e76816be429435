"""The prompts of a page: both, token by token, with what differs marked.

receipt(clean_tokens, corrupted_tokens, subject)
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plotting.labels import quoted
from ..text.alignment import common_affixes
from .elements import Html, el, joined

AROUND, ENDS = 12, 8  # of a long prompt: tokens beside what differs, and at either end, that are shown
LONG = 150


def receipt(
    clean: Sequence[str],
    corrupted: Sequence[str] = (),
    subject: Sequence[int] = (),
    noise: str = "",
) -> Html:
    """Both prompts as their tokens, what differs marked; of long ones what is around that and at the ends.

    Args:
        clean, corrupted: their tokens' texts.
        subject: its positions in the clean prompt.
        noise: in words, where the corrupted run is the clean prompt with noise on its subject.

    Returns:
        HTML.

    Example:
        >>> from mlxtrace.pages.receipts import receipt
        >>> html = receipt(["The", " Louvre"], ["The", " Forum"], subject=[1])
        >>> html.count("<mark"), "Louvre" in html
        (2, True)
    """
    ours, theirs = differences(clean, corrupted)
    if noise:
        ours = set(subject)
    parts = [_prompt("Clean prompt", clean, ours, subject)]
    if noise:
        said = f"The same tokens, with {noise.removesuffix('.')} on the embeddings of the marked ones."
        parts.append(joined([el("h3", "Corrupted run"), el("p", said)]))
    elif corrupted:
        parts.append(_prompt("Corrupted prompt", corrupted, theirs, ()))
    legend = "Each box is one token"
    legend += "; marked: where the two runs differ" if ours or theirs else ""
    legend += "; underlined: the subject" if subject else ""
    return joined([*parts, el("p", f"{legend}.", class_="small gap")])


def differences(clean: Sequence[str], corrupted: Sequence[str]) -> tuple[set[int], set[int]]:
    """The positions of either prompt at which the two differ; of unlike lengths all between what they share.

    Args:
        clean, corrupted: the tokens; none of the second is no difference.

    Returns:
        Two sets of positions.

    Example:
        >>> from mlxtrace.pages.receipts import differences
        >>> differences(["a", "b", "c"], ["a", "x", "y", "c"])
        ({1}, {1, 2})
    """
    if not corrupted:
        return set(), set()
    if len(clean) == len(corrupted):
        found = {i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b}
        return found, found
    numbers = {token: i for i, token in enumerate(dict.fromkeys([*clean, *corrupted]))}
    sides = [[numbers[token] for token in side] for side in (clean, corrupted)]
    before, behind = common_affixes(*sides)
    ours, theirs = (set(range(before, len(side) - behind)) for side in sides)
    return ours, theirs


def _prompt(title: str, tokens: Sequence[str], marked: set[int], subject: Sequence[int]) -> Html:
    shown = _shown(len(tokens), marked | set(subject))
    parts, last = [], -1
    for i in shown:
        if i > last + 1:
            parts.append(el("span", f" … {i - last - 1} tokens … ", class_="gap"))
        kind = "token subject" if i in subject else "token"
        parts.append(
            el("mark" if i in marked else "span", _visible(tokens[i]), class_=kind, title=f"position {i}")
        )
        last = i
    cut = "" if len(shown) == len(tokens) else f", of which {len(tokens) - len(shown)} are not shown"
    heading = el("h3", title, " ", el("span", f"({len(tokens)} tokens{cut})", class_="gap"))
    return joined([heading, el("div", *parts, class_="tokens")])


def _shown(n: int, matter: set[int]) -> list[int]:
    if n <= LONG:
        return list(range(n))
    near = {j for i in matter for j in range(i - AROUND, i + AROUND + 1)}
    near |= {*range(ENDS), *range(n - ENDS, n)}
    return sorted(j for j in near if 0 <= j < n)


def _visible(token: str) -> str:
    """A token's text with its line breaks and tabs written out; spaces are kept."""
    return quoted(token)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
