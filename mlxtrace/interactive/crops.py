"""What of a large result goes into an interactive figure: the rows that matter, and as many heads as a file holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..plotting.heatmaps import Map, Scale
from ..plotting.rows import matter, text_at
from .texts import token

MARKED = 8  # cuts that have a grey row each
CELLS = 150_000  # numbers of one figure, so that its file stays below 6 MB with plotly.js


def rows_that_matter(
    maps: Sequence[Map],
    scale: Scale,
    rows: Any = "auto",
    labels: Sequence[int | str] | None = None,
    keep: Collection[int] = (),
) -> tuple[list[Map], list[str]]:
    """Maps that share their rows without those that say nothing; a grey row stands for each cut.

    Args:
        maps: all of one shape.
        scale: of their colours.
        rows, labels, keep: as `plotting.rows.matter` takes them.

    Returns:
        The maps, and lines that say what is cut.
    """
    values = np.stack([one.values for one in maps], 1)
    found = matter(values, rows, white=scale.white, low=scale.low, high=scale.high, keep=keep, labels=labels)
    if not found.cuts:
        return list(maps), []
    if (
        len(found.cuts) > MARKED
    ):  # more grey than rows: the numbers before the tokens say where something is cut
        names = [maps[0].rows[i] for i in found.shown]
        some = [
            replace(
                one,
                values=one.values[found.shown],
                halves=None if one.halves is None else one.halves[found.shown],
                rows=names,
            )
            for one in maps
        ]
        return some, [*found.said, 'rows="all" shows all']
    at = [cut.at for cut in found.cuts]
    marks = [f"⋮ {cut.span}" for cut in found.cuts]
    names = np.insert(np.array([maps[0].rows[i] for i in found.shown], object), at, marks).tolist()

    def cut(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else np.insert(x[found.shown], at, np.nan, axis=0)

    cropped = [replace(one, values=cut(one.values), halves=cut(one.halves), rows=names) for one in maps]
    return cropped, [*found.said, 'grey rows stand for these; rows="all" shows them']


def heads_that_fit(
    maps: Sequence[Map], heads: Sequence[int | None], scale: Scale, asked: Any = "auto"
) -> tuple[list[int], list[str]]:
    """Which maps of heads a figure has: the strongest, as many as `CELLS` allows; and what is said of the others.

    Args:
        maps: one for each head, or for each component and head.
        heads: the head of each map.
        scale: of their colours.
        asked: "auto"; "all"; or the heads, as a list or a number.

    Returns:
        The indices of the maps, in their order, and lines that say how many are left out.

    Raises:
        InputError: for a head that there is not.
    """
    if isinstance(asked, str) and asked not in ("auto", "all"):
        raise InputError(f'heads={asked!r}: give "auto", "all", or heads such as [0, 5]')
    if isinstance(asked, str) and asked == "all":
        return list(range(len(maps))), []
    if not isinstance(asked, str):
        wanted = list(asked) if isinstance(asked, Iterable) else [asked]
        if odd := [head for head in wanted if head not in heads]:
            raise InputError(
                f"heads={asked!r}: there is no head {odd[0]!r}; there are {list(dict.fromkeys(heads))}"
            )
        if not wanted:
            raise InputError("heads=[] names no head")
        return [i for i, head in enumerate(heads) if head in wanted], []
    each = sum(one.values.size * (1 if one.halves is None else 2) for one in maps) / len(maps)
    most = max(1, int(CELLS / each))
    if len(maps) <= most:
        return list(range(len(maps))), []
    strength = [float(np.nan_to_num(np.abs(one.values - scale.white)).max()) for one in maps]
    found = sorted(np.argsort(strength, kind="stable")[::-1][:most].tolist())
    rest = max(strength[i] for i in set(range(len(maps))) - set(found))
    return found, [
        f"the {most} strongest of {len(maps)} heads; the others are at most {rest:.3g} from no effect; "
        'heads="all" has them'
    ]


def refuse_rows(rows: Any) -> None:
    """InputError for a choice of rows where there is no row for each token."""
    if not (isinstance(rows, str) and rows in ("auto", "all")):
        raise InputError(f"rows={rows!r}: this result has no map with a row for each token")


def numbered(
    tokens: Sequence[str], positions: Collection[int | str], subject: Collection[int] | None
) -> list[str]:
    """The labels of rows: the position, its token, and `*` where it is of the subject; each is there once."""
    starred = [f"{token(text)}{'*' if i in (subject or ()) else ''}" for i, text in enumerate(tokens)]
    return [f"{p} {text_at(p, starred.__getitem__)}" for p in positions]


def strongest_lines(size: np.ndarray, most: int) -> np.ndarray:
    """The indices of the largest `most`, in their own order.

    Example:
        >>> import numpy as np
        >>> from mlxtrace.interactive.crops import strongest_lines
        >>> strongest_lines(np.array([1.0, 5.0, 0.0, 3.0]), 2).tolist()
        [1, 3]
    """
    return np.sort(np.argsort(-np.nan_to_num(size), kind="stable")[:most])


def tokens_that_fit(
    patterns: np.ndarray, rows: Any = "auto", keys: Any = "auto"
) -> tuple[list[int], list[int], list[str]]:
    """Which queries and keys of attention patterns `[heads, T, T]` are shown, and what is said of the others.

    "auto": all, or as many of the last as a file holds; of the keys the first as well, where idle heads look.
    """
    heads, n = patterns.shape[:2]
    queries, looked = (None if _auto(x) else matter(np.zeros((n, 1)), x).shown for x in (rows, keys))
    if queries is None:
        most = CELLS / heads / len(looked) if looked is not None else np.sqrt(CELLS / heads)
        queries = list(range(max(0, n - max(1, int(most))), n))
    if looked is None:
        most = max(2, int(CELLS / heads / len(queries)))
        looked = list(range(n)) if n <= most else [0, *range(n - most + 1, n)]
    said = [f'queries: {len(queries)} of {n} tokens; rows="all" has all'] * (len(queries) < n)
    if len(looked) < n:
        outside = 1 - patterns[:, queries][:, :, looked].sum(-1)
        said.append(
            f"keys: {len(looked)} of {n} tokens; attention to the others is {100 * outside.mean():z.0f} % on average, "
            f'{100 * outside.max():z.0f} % at most; keys="all" has all'
        )
    return queries, looked, said


def _auto(asked: Any) -> bool:
    return isinstance(asked, str) and asked == "auto"
