"""mlx-lm's caches: what they hold, and whether a prompt may run in one piece where mlx-lm would run it in two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..anatomy.recording import find_vocab, probe_tokens
from ..errors import UnsupportedError

# How far logits may differ, relative to the largest: rounding, and no more.
ROUNDING = {mx.float32: 1e-3, mx.float16: 3e-2, mx.bfloat16: 1.5e-1}


def tokens_in(cache: Any) -> int:
    """How many tokens a cache has had."""
    return max((held for held, _, _ in _held_in(cache)), default=0)


def _held_in(cache: Any) -> Iterator[tuple[int, int | None, int]]:
    """Of each cache of the layers: how many tokens it has had, the most that it keeps, how many of the first always."""
    for one in cache or ():
        inner = getattr(one, "caches", None)
        if inner is not None:
            yield from _held_in(inner)
            continue
        offset = getattr(one, "offset", 0)
        yield (
            (offset if isinstance(offset, int) else 0),
            getattr(one, "max_size", None),
            getattr(one, "keep", 0),
        )


def refuse_sinks(cache: Any, prompt: int) -> None:
    """UnsupportedError where the last token of a prompt would see other tokens than in mlx-lm's two pieces."""
    for held, most, first in _held_in(cache):
        if first and most is not None and held + prompt > most:
            raise UnsupportedError(
                f"the cache keeps {most} tokens, the first {first} always, and the prompt has {prompt}: under "
                "interventions it runs in one piece, in which its last token would see others than in mlx-lm's own. "
                "Give max_kv_size the prompt's length at least, or where='new'"
            )


def short_pass(net: nn.Module) -> tuple[mx.array, Any]:
    """A few tokens `[1, n]`, and a fresh cache for a pass of them."""
    from mlx_lm.models.cache import make_prompt_cache

    return probe_tokens(find_vocab(net)), make_prompt_cache(net)


def refuse_pieces(net: nn.Module, measured: dict) -> None:
    """UnsupportedError where one piece and mlx-lm's two give other logits: which of them is right nobody knows.

    measured: what was measured of this model before.
    """
    if "pieces" not in measured:
        tokens, cache = short_pass(net)
        whole = net(tokens, cache=cache)[:, -1]
        cache = short_pass(net)[1]
        net(tokens[:, :-1], cache=cache)
        last = net(tokens[:, -1:], cache=cache)[:, -1]
        finite = mx.isfinite(whole) & mx.isfinite(last)
        a, b = (mx.where(finite, x, 0).astype(mx.float32) for x in (whole, last))
        error = float(np.array(mx.abs(a - b).max() / mx.maximum(mx.abs(a).max(), 1e-12)))
        measured["pieces"] = error, ROUNDING.get(whole.dtype, ROUNDING[mx.bfloat16])
    error, most = measured["pieces"]
    if not error <= most:
        raise UnsupportedError(
            "in this model a prompt that runs in one piece gives other logits than in mlx-lm's two (all but its last "
            f"token, then that one), by {error:.2g} of the largest: interventions on the prompt have no right answer "
            "while text is generated; where='new' edits new tokens"
        )
