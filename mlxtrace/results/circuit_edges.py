"""Which edges make a circuit: the strongest, those found from the logits backwards, or those above a threshold.

kept = strongest(sizes, upstream, 50)         # bool [senders, receivers]
kept = pruned(kept, senders, receivers)       # without the edges that lead nowhere

Senders and receivers are names: `embed`, `a3.h5`, `m3`; `a7.h3.q`, `a7.h3.k`, `a7.h3.v`, `m7`, `logits`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..errors import InputError, closest

BY = ("top", "greedy", "threshold")
FIRST, LAST = "embed", "logits"
READ = re.compile(r"a(\d+)\.h(\d+)\.([qkv])")


def feeds(senders: Sequence[str], receivers: Sequence[str]) -> np.ndarray:
    """bool `[receivers, senders]`: which sender's output a read goes into; the logits go into none.

    A key-value head feeds every query head of its group.
    """
    heads: dict[tuple[int, str], int] = {}  # how many there are of a kind
    for name in receivers:
        if found := READ.fullmatch(name):
            key = int(found[1]), found[3]
            heads[key] = max(heads.get(key, 0), int(found[2]) + 1)
    place = {name: i for i, name in enumerate(senders)}
    into = np.zeros((len(receivers), len(senders)), bool)
    for i, name in enumerate(receivers):
        for sender in _written_by(name, heads):
            if sender in place:
                into[i, place[sender]] = True
    return into


def _written_by(receiver: str, heads: dict[tuple[int, str], int]) -> list[str]:
    """The senders that a read goes into."""
    found = READ.fullmatch(receiver)
    if not found:
        return [receiver]
    layer, head, kind = int(found[1]), int(found[2]), found[3]
    group = heads.get((layer, "q"), heads[layer, kind]) // heads[layer, kind] if kind != "q" else 1
    return [f"a{layer}.h{h}" for h in range(head * group, (head + 1) * group)]


def pruned(kept: np.ndarray, senders: Sequence[str], receivers: Sequence[str]) -> np.ndarray:
    """The kept edges without those that lead nowhere: their sender reads none of them, or none of them reads it.

    Such edges change nothing: what has no kept edge into it carries its corrupted value, and what nothing reads is
    not seen.
    """
    into, kept = feeds(senders, receivers), kept.copy()
    starts, ends = np.array(senders) == FIRST, np.array(receivers) == LAST
    while True:
        alive = (starts | (into[kept.any(0)].any(0))) & kept.any(1)
        left = kept & alive[:, None] & (ends | (into & alive).any(1))
        if (left == kept).all():
            return kept
        kept = left


def strongest(sizes: np.ndarray, upstream: np.ndarray, n: int) -> np.ndarray:
    """The n edges of the largest size; of equal ones the first in the stream."""
    kept = np.zeros(upstream.shape, bool)
    order = np.argsort(-np.where(upstream, sizes, -np.inf), axis=None, kind="stable")[:n]
    kept.flat[order] = True
    return kept & upstream


def greedy(
    sizes: np.ndarray, upstream: np.ndarray, senders: Sequence[str], receivers: Sequence[str], n: int
) -> np.ndarray:
    """n edges found from the logits backwards: each the largest of those that go into what is in the circuit already.

    As Hanna et al. 2024 (arXiv:2403.17806, section 3).
    """
    into, kept = feeds(senders, receivers), np.zeros(upstream.shape, bool)
    waiting: list[tuple[float, int, int]] = []

    def offer(reads: Any) -> None:
        for r in reads:
            offered.add(int(r))
            for s in np.flatnonzero(upstream[:, r]).tolist():
                heapq.heappush(waiting, (-float(sizes[s, r]), s, int(r)))

    offered: set[int] = set()
    offer([list(receivers).index(LAST)])
    while waiting and n > 0:
        _, s, r = heapq.heappop(waiting)
        kept[s, r] = True
        n -= 1
        offer([r for r in np.flatnonzero(into[:, s]) if int(r) not in offered])
    return kept


def chosen(
    sizes: np.ndarray, upstream: np.ndarray, senders: Sequence[str], receivers: Sequence[str], n: Any, by: str
) -> np.ndarray:
    """The edges of a circuit as a user asks for them: n of them, or by="threshold", those of a size of n or more."""
    if not isinstance(by, str) or by not in BY:
        raise InputError(f"by={by!r} is unknown; {closest(str(by), BY)}")
    if by == "threshold":
        if isinstance(n, bool) or not isinstance(n, int | float | np.number) or not np.isfinite(n) or n < 0:
            raise InputError(f'with by="threshold" n is the least size of a score, 0 or more, not {n!r}')
        return upstream & (sizes >= n)
    total = int(upstream.sum())
    if isinstance(n, float | np.floating):
        raise InputError(
            f"n={n!r}: n counts edges, of which there are {total}; for a share of them, n=round(share * {total}); for "
            'a least score, by="threshold"'
        )
    n = whole_number("n", n, 0, total)
    return strongest(sizes, upstream, n) if by == "top" else greedy(sizes, upstream, senders, receivers, n)


def random_edges(upstream: np.ndarray, n: int, draws: int, seed: int) -> np.ndarray:
    """bool `[draws, senders, receivers]`: n edges each, drawn without preference."""
    drawn, edges = np.random.RandomState(seed), np.flatnonzero(upstream)
    kept = np.zeros((draws, upstream.size), bool)
    for row in kept:
        row[drawn.choice(edges, n, replace=False)] = True
    return kept.reshape(draws, *upstream.shape)


def ranked(sizes: np.ndarray, upstream: np.ndarray, k: Any = None) -> np.ndarray:
    """`[k, 2]`: sender and receiver of the k edges of the largest size (None: of all), largest first."""
    k = int(upstream.sum()) if k is None else min(whole_number("k", k, 0), int(upstream.sum()))
    order = np.argsort(-np.where(upstream, sizes, -np.inf), axis=None, kind="stable")[:k]
    return np.stack(np.unravel_index(order, upstream.shape), -1)


def edge_of(
    given: Any, senders: Sequence[str], receivers: Sequence[str], upstream: np.ndarray
) -> tuple[int, int]:
    """The numbers of an edge's sender and receiver; it is given as two names, or as a text `a3.h5->a7.h3.q`.

    `input` is the embedding, and `a7.h3<q>` is `a7.h3.q`, as elsewhere.
    """
    ends = re.split(r"\s*->\s*", given.strip()) if isinstance(given, str) else given
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(isinstance(x, str) for x in ends):
        raise InputError(
            f"an edge is two names, such as 'a3.h5', 'a7.h3.q', or 'a3.h5->a7.h3.q'; not {given!r}"
        )
    names = [re.sub(r"<([qkv])>$", r".\1", end.strip()) for end in ends]
    names[0] = FIRST if names[0] == "input" else names[0]
    for what, name, known in (("sender", names[0], senders), ("receiver", names[1], receivers)):
        if name not in known:
            raise InputError(f"there is no {what} {name!r}; {closest(name, known)}")
    s, r = list(senders).index(names[0]), list(receivers).index(names[1])
    if not upstream[s, r]:
        raise InputError(f"{names[0]} writes after {names[1]} has read, so that there is no such edge")
    return s, r
