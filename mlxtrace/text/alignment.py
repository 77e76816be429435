"""Two prompts side by side: which positions answer to each other, and where the prompts differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import AlignmentError, InputError


@dataclass(frozen=True)
class Alignment:
    """Which positions of two prompts answer to each other.

    pairs: (clean position, corrupted position), ascending. first_difference: the first pair whose
    activations can differ, because the tokens there or before do; len(pairs) when none can. Prompts of
    different lengths differ from the first pair on.
    """

    pairs: list[tuple[int, int]]
    first_difference: int


def common_affixes(a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """The lengths of the common prefix and, in what is left, of the common suffix."""
    prefix = _common(a, b)
    limit = min(len(a), len(b)) - prefix
    return prefix, min(limit, _common(a[::-1], b[::-1]))


def infer_subject(clean_ids: Sequence[int], corrupted_ids: Sequence[int]) -> tuple[range, range] | None:
    """Where two prompts differ between common prefix and suffix; None when one has nothing there."""
    prefix, suffix = common_affixes(clean_ids, corrupted_ids)
    clean, corrupted = range(prefix, len(clean_ids) - suffix), range(prefix, len(corrupted_ids) - suffix)
    return (clean, corrupted) if clean and corrupted else None


def check_align(mode: Any) -> None:
    """InputError for a way of aligning that there is not."""
    if not isinstance(mode, str) or mode not in ("strict", "ends"):
        raise InputError(f'align={mode!r} is unknown: "strict" (equal lengths) or "ends" (the common tail).')


def align(
    clean_ids: Sequence[int],
    corrupted_ids: Sequence[int],
    clean_str: Sequence[str],
    corrupted_str: Sequence[str],
    mode: Literal["strict", "ends"] = "strict",
    clean_subject: range | None = None,
    corrupted_subject: range | None = None,
) -> Alignment:
    """Pair the positions of two prompts.

    Of equal length: one by one. Otherwise "strict" raises AlignmentError with both prompts side by side,
    and "ends" pairs the longest common tail, counted from the right, and the subjects' last tokens when
    both are known; it raises when there is no common tail.
    """
    check_align(mode)
    n, m = len(clean_ids), len(corrupted_ids)
    if n == m:
        return Alignment([(i, i) for i in range(n)], _common(clean_ids, corrupted_ids))
    tail = _common(clean_ids[::-1], corrupted_ids[::-1])
    pairs = [(n - k, m - k) for k in range(tail, 0, -1)]
    if clean_subject and corrupted_subject:
        last = (clean_subject[-1], corrupted_subject[-1])
        if last[0] < n - tail and last[1] < m - tail:
            pairs.insert(0, last)
    if mode == "ends" and tail:
        return Alignment(pairs, 0)
    cure = f"a subject that makes the corrupted prompt {n} tokens long"
    cure = f'Use align="ends", which patches {len(pairs)} of them, or {cure}.' if tail else f"Use {cure}."
    no_tail = "" if mode == "strict" else " and no common tail"
    raise AlignmentError(
        f"The clean prompt has {n} tokens and the corrupted one {m}{no_tail}:\n"
        f"{_side_by_side(clean_ids, corrupted_ids, clean_str, corrupted_str)}\n{cure}"
    )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _side_by_side(
    a: Sequence[int], b: Sequence[int], a_str: Sequence[str], b_str: Sequence[str], keep: int = 6
) -> str:
    """Both token lists in columns, common parts opposite each other, `|` where they differ."""
    prefix, suffix = common_affixes(a, b)
    left = [f"{i} {token!r}" for i, token in enumerate(a_str)]
    right = [f"{i} {token!r}" for i, token in enumerate(b_str)]
    middle = max(len(a), len(b)) - prefix - suffix
    left[len(a) - suffix : len(a) - suffix] = [""] * (middle + prefix + suffix - len(a))
    right[len(b) - suffix : len(b) - suffix] = [""] * (middle + prefix + suffix - len(b))
    marks = [" "] * prefix + ["|"] * middle + [" "] * suffix
    width = max(map(len, [*left, "clean"]))
    rows = [f"  {x:<{width}}  {mark}  {y}".rstrip() for x, mark, y in zip(left, marks, right, strict=True)]
    if suffix > 2 * keep:
        rows[prefix + middle + keep : -keep] = ["  ..."]
    if prefix > 2 * keep:
        rows[keep : prefix - keep] = ["  ..."]
    return "\n".join([f"  {'clean':<{width}}     corrupted", *rows])
