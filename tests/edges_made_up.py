"""Scores of edges that nobody measured, for what chooses, draws and saves them."""

from __future__ import annotations

import numpy as np

from mlxtrace.results.edges_result import Edges


def graph(layers: int, heads: int, kv_heads: int | None = None):
    """Senders, receivers, and bool `[senders, receivers]`: what is downstream of what."""
    kv_heads = kv_heads or heads
    senders, receivers, written, read = ["embed"], [], [0], []
    for layer in range(layers):
        names = [f"a{layer}.h{h}" for h in range(heads)]
        senders += [*names, f"m{layer}"]
        written += [2 * layer + 1] * heads + [2 * layer + 2]
        reads = [f"{name}.q" for name in names]
        reads += [f"a{layer}.h{h}.{kind}" for kind in "kv" for h in range(kv_heads)]
        receivers += [*reads, f"m{layer}"]
        read += [2 * layer] * len(reads) + [2 * layer + 1]
    return senders, [*receivers, "logits"], np.array(written)[:, None] <= np.array([*read, 2 * layers])


def made_up(values: dict[tuple[str, str], float] | None = None, pairs: int = 1, **changes) -> Edges:
    """Scores as named, or random ones; the second pair's are twice the first's, and so on."""
    senders, receivers, upstream = graph(*changes.pop("size", (2, 4, 2)))
    scores = np.zeros(upstream.shape)
    for (sender, receiver), value in (values or {}).items():
        scores[senders.index(sender), receivers.index(receiver)] = value
    if values is None:
        scores = np.random.RandomState(0).randn(*upstream.shape)
    fields = {
        "per_pair": np.stack([(i + 1) * scores * upstream for i in range(pairs)]),
        "upstream": upstream, "clean": np.arange(pairs) + 2.0, "corrupted": -np.ones(pairs),
        "senders": senders, "receivers": receivers, "metric": "logit_diff", "method": "exact", "direction": "denoise",
        "ids": [str(i) for i in range(pairs)], "alone": pairs == 1, "clean_texts": ["a"] * pairs,
        "corrupted_texts": ["b"] * pairs, "targets": [" x"] * pairs, "foils": [" y"] * pairs, "model": "made up",
    }  # fmt: skip
    return Edges(**{**fields, **changes})
