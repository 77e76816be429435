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


def align_turns(clean: Any, corrupted: Any, mode: Literal["strict", "ends"] = "strict") -> Alignment:
    """Pair the positions of two chats, given as `Prompt`s, turn by turn.

    Turns of equal length one by one, and what the template writes between them too. Otherwise "strict" raises
    AlignmentError with the two versions of each such turn, and "ends" pairs the common tail of each, and the subjects'
    last tokens. Chats of other turns have only the common tail of the whole.
    """
    check_align(mode)
    parts, others = clean.chat.segments, corrupted.chat.segments
    if [part.name for part in parts] != [part.name for part in others]:
        return _of_other_turns(clean, corrupted, mode)
    both = list(zip(parts, others, strict=True))
    pairs = [pair for ours, theirs in both for pair in _of_turn(clean, corrupted, ours, theirs)]
    odd = [(ours, theirs) for ours, theirs in both if len(ours.positions) != len(theirs.positions)]
    if odd and mode == "strict":
        raise AlignmentError(_odd_turns(clean, corrupted, odd, len(pairs)))
    same = _common(clean.ids, corrupted.ids)
    return Alignment(pairs, sum(p == q < same for p, q in pairs))


def outside_turns(clean: Any, corrupted: Any) -> str:
    """A sentence when two chats of one length differ in what is no turn's content; "" for others."""
    template = set(clean.positions) - {p for turn in clean.chat.turns for p in turn.positions}
    odd = [p for p in sorted(template) if clean.ids[p : p + 1] != corrupted.ids[p : p + 1]]
    if len(clean) != len(corrupted) or not odd:
        return ""
    return (
        f"the chats differ outside the contents of their turns too: {clean.tokens[odd[0]]!r} at position {odd[0]} is "
        f"{corrupted.tokens[odd[0]]!r} in the corrupted one"
    )


def _of_turn(clean: Any, corrupted: Any, ours: Any, theirs: Any) -> list[tuple[int, int]]:
    """The pairs of one turn: all, or the common tail and the subjects' last tokens."""
    a, b = list(ours.positions), list(theirs.positions)
    if len(a) == len(b):
        return list(zip(a, b, strict=True))
    tail = _common([clean.ids[p] for p in a[::-1]], [corrupted.ids[p] for p in b[::-1]])
    pairs = list(zip(a[len(a) - tail :], b[len(b) - tail :], strict=True))
    if clean.subject and corrupted.subject:
        last = (clean.subject[-1], corrupted.subject[-1])
        if last[0] in a[: len(a) - tail] and last[1] in b[: len(b) - tail]:
            pairs.insert(0, last)
    return pairs


def _of_other_turns(clean: Any, corrupted: Any, mode: str) -> Alignment:
    """The common tail of chats with other turns; AlignmentError that names them."""
    n, m = len(clean), len(corrupted)
    tail = _common(clean.ids[::-1], corrupted.ids[::-1])
    if mode == "ends" and tail:
        return Alignment([(n - k, m - k) for k in range(tail, 0, -1)], 0)
    named = [", ".join(turn.name for turn in prompt.chat.turns) for prompt in (clean, corrupted)]
    cure = f', or use align="ends", which patches the {tail} tokens of their common tail' if tail else ""
    raise AlignmentError(
        f"the chats have other turns: the clean one {named[0]}; the corrupted one {named[1]}. Give both the same{cure}"
    )


def _odd_turns(clean: Any, corrupted: Any, odd: list[tuple[Any, Any]], paired: int) -> str:
    """What is wrong with turns of several lengths, each side by side."""
    sizes = [
        f"{a.name} has {len(a.positions)} tokens in the clean chat and {len(b.positions)}" for a, b in odd
    ]
    lines = [f"{', '.join(sizes)} in the corrupted one:"]
    for a, b in odd:
        sides = [[getattr(clean, of)[p] for p in a.positions] for of in ("ids", "tokens")]
        others = [[getattr(corrupted, of)[p] for p in b.positions] for of in ("ids", "tokens")]
        starts = a.positions[0], b.positions[0]
        lines += [a.name, _side_by_side(sides[0], others[0], sides[1], others[1], starts=starts)]
    lines.append(f'Use align="ends", which patches {paired} tokens, or turns of equal lengths.')
    return "\n".join(lines)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _side_by_side(
    a: Sequence[int],
    b: Sequence[int],
    a_str: Sequence[str],
    b_str: Sequence[str],
    keep: int = 6,
    starts: tuple[int, int] = (0, 0),
) -> str:
    """Both token lists in columns, common parts opposite each other, `|` where they differ.

    starts: the positions of their first tokens.
    """
    prefix, suffix = common_affixes(a, b)
    left = [f"{i} {token!r}" for i, token in enumerate(a_str, starts[0])]
    right = [f"{i} {token!r}" for i, token in enumerate(b_str, starts[1])]
    middle = max(len(a), len(b)) - prefix - suffix
    left[len(a) - suffix : len(a) - suffix] = [""] * (middle + prefix + suffix - len(a))
    right[len(b) - suffix : len(b) - suffix] = [""] * (middle + prefix + suffix - len(b))
    marks = [" "] * prefix + ["|"] * middle + [" "] * suffix
    width = max(map(len, [*left, "clean"]))
    rows = [f"  {x:<{width}}  {mark}  {y}".rstrip() for x, mark, y in zip(left, marks, right, strict=True)]
    if middle > 8 * keep:
        left_out = middle - 7 * keep
        rows[prefix + 5 * keep : prefix + middle - 2 * keep] = [f"  ... {left_out} lines that differ ..."]
        middle -= left_out - 1
    if suffix > 2 * keep:
        rows[prefix + middle + keep : -keep] = ["  ..."]
    if prefix > 2 * keep:
        rows[keep : prefix - keep] = ["  ..."]
    return "\n".join([f"  {'clean':<{width}}     corrupted", *rows])
