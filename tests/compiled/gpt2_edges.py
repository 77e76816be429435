"""Edges of a `gpt2`, run by hand on its weights: `Edges(net, base, source).logits(sender, receiver)`."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np


class Edges:
    """All edges from one prompt's run into another's."""

    def __init__(self, net: nn.Module, base: tuple[int, ...], source: tuple[int, ...]):
        self.net, self.ids = net, base
        (_, ours), (_, theirs) = (self.passed(ids) for ids in (base, source))
        self.changes = {name: theirs[name] - ours[name] for name in ours}

    def logits(self, sender: str, receiver: str) -> np.ndarray:
        """The last position's logits when the receiver reads the stream with the sender's change."""
        found, _ = self.passed(self.ids, receiver, self.changes[sender])
        return np.array(found[0, -1]).astype(np.float64)

    def passed(self, ids: tuple[int, ...], receiver: str = "", change: mx.array | None = None):
        """Logits, and what each sender writes."""
        model, sent = self.net.model, {}

        def seen(x: mx.array, name: str) -> mx.array:
            return x + change if name == receiver else x

        x = sent["embed"] = model.wte(mx.array([ids])) + model.wpe(mx.arange(len(ids)))
        for i, block in enumerate(model.h):
            heads, out = block.attn.n_head, block.attn.c_proj
            width = x.shape[-1] // heads
            mixed = mx.zeros_like(x)
            plain = mx.split(block.attn.c_attn(block.ln_1(x)), 3, axis=-1)
            edited = plain
            if receiver.startswith(f"a{i}."):
                edited = mx.split(block.attn.c_attn(block.ln_1(x + change)), 3, axis=-1)
            for h in range(heads):
                named = [receiver == f"a{i}.h{h}.{kind}" for kind in "qkv"]
                q, k, v = (edited[n] if of_it else plain[n] for n, of_it in enumerate(named))
                own = slice(h * width, (h + 1) * width)
                scores = q[..., own] @ k[..., own].swapaxes(-1, -2) * width**-0.5
                causal = mx.tril(mx.ones(scores.shape[-2:])) > 0
                head = mx.softmax(mx.where(causal, scores, -mx.inf), axis=-1) @ v[..., own]
                sent[f"a{i}.h{h}"] = head @ out.weight[:, own].T
                mixed = mixed + sent[f"a{i}.h{h}"]
            x = x + mixed + out.bias
            sent[f"m{i}"] = block.mlp(block.ln_2(seen(x, f"m{i}")))
            x = x + sent[f"m{i}"]
        return model.wte.as_linear(model.ln_f(seen(x, "logits"))), sent
