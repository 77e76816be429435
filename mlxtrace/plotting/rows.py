"""Which rows of a long map are shown, and what is said of those that are not: for figures, tables and pages alike."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import ends_of
from ..arguments import text_at as text_at
from ..errors import InputError

MOST = 60  # rows that are all shown, and that a longer map is cut to
FAINT = 0.05  # of the scale: what is nearer to no effect looks white
BRIDGED = 2  # rows in a gap that is not worth a cut
LISTED = 3  # cuts that are said one by one
NOTHING = 1e-9  # of the scale: nearer to no effect is no effect


class Cut(NamedTuple):
    """Rows that are left out between two that are shown.

    at: how many of the shown rows stand before it; first, last: the numbers of its first and last row; least, largest:
    its values' range, NaN where it has none; nothing: whether every value is the one of no effect.
    """

    at: int
    first: int
    last: int
    rows: int
    least: float
    largest: float
    nothing: bool

    @property
    def span(self) -> str:
        """Its rows: "0-411", or "7"."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def words(self) -> str:
        """What is left out: "rows 0-411 are 0"."""
        name, verb = ("row", "is") if self.first == self.last else ("rows", "are")
        return f"{name} {self.span} {verb} {_range(self.least, self.largest, self.nothing)}"


class Rows(NamedTuple):
    """The rows of a map that are shown, as indices in their order; what is said of the others; where they stood.

    labels: what the rows shown are called, such as positions.
    """

    shown: list[int]
    said: list[str]
    cuts: list[Cut]
    labels: list[int | str]


def matter(
    values: Any,
    rows: Any = "auto",
    *,
    white: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    keep: Collection[int | str] = (),
    most: int = MOST,
    labels: Sequence[int | str] | None = None,
) -> Rows:
    """Choose the rows of a map that are shown, and say what is cut.

    "auto" shows every row where there are up to `most`. Of more, those with a value that does not look like no effect,
    those of `keep`, and short gaps between them; the strongest where these are still too many.

    Args:
        values: `[rows, ...]`, of all panels that share the rows; NaN is no value.
        rows: "auto", "all", or the labels of rows: a range, a slice or a list; -1 is the last.
        white: the value that means nothing happened.
        low, high: where the colours end; default: the values' own ends, `white` included.
        keep: labels of rows that are shown in any case, such as the subject's and the last token's.
        most: rows that are shown at most.
        labels: what each row is called, such as its position in the prompt, or a span's, "32-63"; default: 0, 1, 2, ...

    Returns:
        `Rows`: the indices of the rows shown, lines that say what the others hold, and the cuts one by one.

    Raises:
        InputError: `rows` is none of these, or names a row that is not there.

    Example:
        >>> import numpy as np
        >>> from mlxtrace.plotting.rows import matter
        >>> values = np.zeros((500, 12))
        >>> values[412:415] = 50
        >>> found = matter(values, keep=[499])
        >>> found.shown, found.said
        ([412, 413, 414, 499], ['rows 0-411 are 0; rows 415-498 are 0'])
        >>> matter(values, range(400, 500)).said
        ['rows 0-399 are 0']
    """
    values = np.asarray(values, np.float64)
    values = values.reshape(len(values), -1)
    known = range(len(values)) if labels is None else labels
    labels = [label if isinstance(label, str) else int(label) for label in known]
    moved = np.abs(values - white)
    low = min(float(np.nanmin(values, initial=white)), white) if low is None else low
    high = max(float(np.nanmax(values, initial=white)), white) if high is None else high
    if not isinstance(rows, str):
        shown = _asked(rows, labels)
    elif rows not in ("auto", "all"):
        raise InputError(
            f'rows={rows!r}: give "auto", "all", or positions such as range(400, 500) or [3, 4, -1]'
        )
    elif rows == "all" or len(values) <= most:
        shown = list(range(len(values)))
    else:
        strength = np.nan_to_num(moved).max(1, initial=0.0)
        shown = _strongest(strength, FAINT * (high - low), _kept(keep, labels, most), most)
    cuts = _cuts(values, moved <= NOTHING * max(high - low, NOTHING), shown, labels)
    return Rows(shown, _said(cuts, len(values)), cuts, [labels[i] for i in shown])


def no_rows(rows: Any) -> None:
    """InputError for `rows` that choose tokens, where what is drawn has none."""
    if not isinstance(rows, str) or rows not in ("auto", "all"):
        raise InputError(f"rows={rows!r} are tokens of a map, and this result is not by token")


def _asked(rows: Any, labels: list[int | str]) -> list[int]:
    """The indices of the rows that were asked for, in the map's order; of a span's token its own row, or the span's."""
    if isinstance(rows, slice):
        inside = _slice(rows, labels)
        return _some([i for i, label in enumerate(labels) if ends_of(label)[0] in inside], rows, labels)
    listed = [rows] if not isinstance(rows, Iterable) else list(rows)
    at, found = {label: i for i, label in enumerate(labels)}, set()
    for row in listed:
        try:
            if isinstance(row, bool):
                raise TypeError
            row = operator.index(row)
        except TypeError:
            raise InputError(
                f"rows={rows!r}: {row!r} is no position; give whole numbers, not a mask"
            ) from None
        i = at.get(row, len(labels) + row if -len(labels) <= row < 0 else _around(row, labels))
        if i is None:
            raise InputError(f"rows={_shortened(rows)}: there is no row {row}; the map has {_spans(labels)}")
        found.add(i)
    return _some(sorted(found), rows, labels)


def _around(row: int, labels: list[int | str]) -> int | None:
    """The row of the span that a position is in."""
    spans = [(i, *ends_of(label)) for i, label in enumerate(labels) if isinstance(label, str)]
    return next((i for i, first, last in spans if first <= row <= last), None)


def _slice(rows: slice, labels: list[int | str]) -> range:
    try:
        return range(*rows.indices(max(ends_of(label)[1] for label in labels) + 1))
    except TypeError:
        raise InputError(f"rows={rows!r}: the ends of a slice are whole numbers") from None


def _some(found: list[int], rows: Any, labels: list[int | str]) -> list[int]:
    if not found:
        raise InputError(f"rows={_shortened(rows)} are none of the map's: {_spans(labels)}")
    return found


def _shortened(rows: Any) -> str:
    text = repr(rows)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _spans(labels: list[int | str]) -> str:
    first, last = ends_of(labels[0])[0], ends_of(labels[-1])[1]
    run = labels == list(range(first, last + 1))
    return f"{first}-{last}" if run else _shortened(labels)


def _kept(keep: Collection[int | str], labels: list[int | str], most: int) -> list[int]:
    """The indices of the rows to keep; of more than half of what fits, the ends of each run."""
    at = [i for i, label in enumerate(labels) if label in keep]
    if len(at) <= most // 2:
        return at
    ends = [i for i in at if i - 1 not in at or i + 1 not in at]
    return ends[-(most // 2) :]


def _strongest(strength: np.ndarray, faint: float, kept: list[int], most: int) -> list[int]:
    """Rows that do not look white and those to keep, the strongest of them; then the gaps that are not worth a cut.

    A map is never empty: where no row matters, it is the last.
    """
    order = strength.copy()
    order[kept] = np.inf
    telling = np.flatnonzero(order > faint) if (order > faint).any() else np.array([len(order) - 1])
    chosen = sorted(telling[np.argsort(-order[telling], kind="stable")][:most].tolist())
    out = chosen[:1]
    for i in chosen[1:]:
        gap = list(range(out[-1] + 1, i))
        left = most - len(out) - sum(j >= i for j in chosen)
        out += [*(gap if len(gap) <= min(BRIDGED, left) else []), i]
    return out


def _cuts(values: np.ndarray, nothing: np.ndarray, shown: list[int], labels: list[int | str]) -> list[Cut]:
    found = []
    for at, (before, after) in enumerate(zip([-1, *shown], [*shown, len(values)], strict=True)):
        if after - before < 2:
            continue
        inside = values[before + 1 : after]
        known = inside[~np.isnan(inside)]
        least, largest = (float(known.min()), float(known.max())) if known.size else (np.nan, np.nan)
        none = bool(nothing[before + 1 : after][~np.isnan(inside)].all())
        span = min(ends_of(labels[before + 1])), max(ends_of(labels[after - 1]))
        found.append(Cut(at, *span, len(inside), least, largest, none))
    return found


def _said(cuts: list[Cut], n: int) -> list[str]:
    """What is cut, in one line: each gap where there are few, else all together."""
    if len(cuts) <= LISTED:
        return ["; ".join(cut.words for cut in cuts)] if cuts else []
    left = sum(cut.rows for cut in cuts)
    known = [cut for cut in cuts if not np.isnan(cut.least)]
    ends = (min((c.least for c in known), default=np.nan), max((c.largest for c in known), default=np.nan))
    return [f"{left} of {n} rows are not shown; they are {_range(*ends, all(c.nothing for c in cuts))}"]


def _range(least: float, largest: float, nothing: bool) -> str:
    if np.isnan(least):
        return "without a value"
    if nothing:
        return f"{round(largest, 6) + 0.0:g}"
    ends = [_digits(v) for v in (least, largest)]
    if ends[0] != ends[1]:
        return f"between {ends[0]} and {ends[1]}"
    return ends[0] if least == largest == float(ends[0]) else f"about {ends[0]}"


def _digits(value: float) -> str:
    """A number in two digits; one that is all but 0 is 0."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return "0" if abs(value) < 1e-6 else text
