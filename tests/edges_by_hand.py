"""A GPT-2 or a Llama in NumPy, float64, in which every read of the residual stream is given an input of its own.

    hand = Hand(net)                                  # mlx-lm's gpt2, llama, qwen3
    values = hand.circuit(clean, corrupted, kept)     # kept(sender, receiver) -> bool; the last position's logits
    hand.edge(base, source, "a0.h1", "a1.h0.q")       # one edge, everything after it computed anew

Nothing of mlxtrace is used but the names of senders and receivers.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np


def _weights(module) -> dict[str, np.ndarray]:
    return {
        name: np.array(x.astype(mx.float32)).astype(np.float64) for name, x in module.parameters().items()
    }


def _linear(x, module):
    w = _weights(module)
    return x @ w["weight"].T + w.get("bias", 0)


def _norm(x, module, layer_norm: bool):
    w = _weights(module)
    x = x - x.mean(-1, keepdims=True) if layer_norm else x
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + module.eps) * w["weight"] + w.get("bias", 0)


class Hand:
    def __init__(self, net):
        self.net, self.gpt2 = net, hasattr(net.model, "wte")
        self.layers = net.model.h if self.gpt2 else net.model.layers
        mixer = self._mixer(0)
        self.heads = mixer.n_head if self.gpt2 else mixer.n_heads
        self.kv_heads = self.heads if self.gpt2 else mixer.n_kv_heads
        self.senders = ["embed"]
        self.receivers = []
        for i in range(len(self.layers)):
            self.senders += [*(f"a{i}.h{h}" for h in range(self.heads)), f"m{i}"]
            self.receivers += [f"a{i}.h{h}.q" for h in range(self.heads)]
            self.receivers += [f"a{i}.h{h}.{kind}" for kind in "kv" for h in range(self.kv_heads)]
            self.receivers.append(f"m{i}")
        self.receivers.append("logits")

    def _mixer(self, i):
        return self.layers[i].attn if self.gpt2 else self.layers[i].self_attn

    # ---- the parts

    def embed(self, ids):
        model = self.net.model
        if not self.gpt2:
            return _weights(model.embed_tokens)["weight"][list(ids)]
        return _weights(model.wte)["weight"][list(ids)] + _weights(model.wpe)["weight"][: len(ids)]

    def read(self, i, kind, head, x):
        """One head's queries, keys or values `[T, width]`."""
        mixer, layer = self._mixer(i), self.layers[i]
        if self.gpt2:
            found = np.split(_linear(_norm(x, layer.ln_1, True), mixer.c_attn), 3, -1)["qkv".index(kind)]
            return found.reshape(len(x), self.heads, -1)[:, head]
        given = _norm(x, layer.input_layernorm, False)
        heads = self.heads if kind == "q" else self.kv_heads
        found = _linear(given, getattr(mixer, f"{kind}_proj")).reshape(len(x), heads, -1)[:, head]
        if kind != "v" and hasattr(mixer, f"{kind}_norm"):
            found = _norm(found, getattr(mixer, f"{kind}_norm"), False)
        return found if kind == "v" else self._rotated(found, mixer.rope.base)

    @staticmethod
    def _rotated(x, base):
        half = x.shape[1] // 2
        angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
        a, b, cos, sin = x[:, :half], x[:, half:], np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def head(self, i, h, q, k, v):
        """What one head writes `[T, D]`; the projection's bias is shared by the heads."""
        mixer = self._mixer(i)
        scores = q @ k.T * mixer.scale + np.triu(np.full((len(q), len(q)), -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = weights / weights.sum(-1, keepdims=True) @ v
        w = _weights(mixer.c_proj if self.gpt2 else mixer.o_proj)
        width = out.shape[1]
        return out @ w["weight"][:, h * width : (h + 1) * width].T + w.get("bias", 0) / self.heads

    def mlp(self, i, x):
        layer = self.layers[i]
        if self.gpt2:
            y = _linear(_norm(x, layer.ln_2, True), layer.mlp.c_fc)
            y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
            return _linear(y, layer.mlp.c_proj)
        given = _norm(x, layer.post_attention_layernorm, False)
        gate = _linear(given, layer.mlp.gate_proj)
        return _linear(gate / (1 + np.exp(-gate)) * _linear(given, layer.mlp.up_proj), layer.mlp.down_proj)

    def logits(self, x):
        model = self.net.model
        normed = _norm(x[-1:], model.ln_f if self.gpt2 else model.norm, self.gpt2)[0]
        if self.gpt2 or not hasattr(self.net, "lm_head"):
            return _weights(model.wte if self.gpt2 else model.embed_tokens)["weight"] @ normed
        return _linear(normed, self.net.lm_head)

    # ---- whole passes

    def run(self, start, given):
        """Logits and what each sender writes; given(receiver, written so far) is what a read is given `[T, D]`."""
        written = {"embed": start}
        for i in range(len(self.layers)):
            reads = {}
            for kind, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
                for h in range(heads):
                    reads[kind, h] = self.read(i, kind, h, given(f"a{i}.h{h}.{kind}", written))
            group = self.heads // self.kv_heads
            after = {
                f"a{i}.h{h}": self.head(i, h, reads["q", h], reads["k", h // group], reads["v", h // group])
                for h in range(self.heads)
            }
            written |= after
            written[f"m{i}"] = self.mlp(i, given(f"m{i}", written))
        return self.logits(given("logits", written)), written

    def plain(self, ids):
        return self.run(self.embed(ids), lambda _, written: sum(written.values()))

    def circuit(self, clean, corrupted, kept):
        _, theirs = self.plain(corrupted)

        def given(receiver, written):
            return sum(x if kept(s, receiver) else theirs[s] for s, x in written.items())

        return self.run(self.embed(clean), given)[0]

    def edge(self, base, source, sender, receiver, share=1.0, start=None):
        """One read is given `share` of what a sender writes more in the source run; start: other embeddings."""
        (_, ours), (_, theirs) = self.plain(base), self.plain(source)
        more = share * (theirs[sender] - ours[sender])
        start = self.embed(base) if start is None else start
        return self.run(start, lambda r, written: sum(written.values()) + (more if r == receiver else 0))[0]
