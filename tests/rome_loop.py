"""Causal tracing straight from Meng et al. 2022, section 2 and appendix B: NumPy in float64, one pass per cell.

Nothing of mlxtrace is used. The models' arithmetic is written out too, from their weights; an `edit(name, x)` sees
the embeddings ("embed"), each layer's "attn" and "mlp" outputs and the layer's own ("block"), x being `[B, T, D]`.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

Edit = Callable[[tuple[str, int], np.ndarray], np.ndarray]


def weights(net) -> dict[str, np.ndarray]:
    return {k: np.array(v.astype(mx.float32), dtype=np.float64) for k, v in tree_flatten(net.parameters())}


def linear(w: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention; q, k, v `[B, H, T, d]` -> `[B, T, H * d]`."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores[..., ~np.tri(q.shape[2], dtype=bool)] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    out = p / p.sum(-1, keepdims=True) @ v
    return out.swapaxes(1, 2).reshape(q.shape[0], q.shape[2], -1)


def heads(x: np.ndarray, n: int) -> np.ndarray:
    return x.reshape(*x.shape[:2], n, -1).swapaxes(1, 2)


class GPT2:
    def __init__(self, net):
        self.w, self.n_layers, self.n_heads = weights(net), net.args.n_layer, net.args.n_head

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y * self.w[name + ".weight"] + self.w[name + ".bias"]

    def __call__(self, ids: np.ndarray, edit: Edit) -> np.ndarray:
        w = self.w
        x = edit(("embed", 0), w["model.wte.weight"][ids]) + w["model.wpe.weight"][: ids.shape[1]]
        for layer in range(self.n_layers):
            at = f"model.h.{layer}."
            qkv = linear(w, at + "attn.c_attn", self.norm(at + "ln_1", x))
            q, k, v = (heads(part, self.n_heads) for part in np.split(qkv, 3, axis=-1))
            x = x + edit(("attn", layer), linear(w, at + "attn.c_proj", attend(q, k, v)))
            up = linear(w, at + "mlp.c_fc", self.norm(at + "ln_2", x))
            up = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
            x = edit(("block", layer), x + edit(("mlp", layer), linear(w, at + "mlp.c_proj", up)))
        return self.norm("model.ln_f", x) @ w["model.wte.weight"].T


class Llama:
    def __init__(self, net):
        self.w, self.args, self.n_layers = weights(net), net.args, net.args.num_hidden_layers

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * self.w[name + ".weight"]

    def rotate(self, x: np.ndarray) -> np.ndarray:
        half = x.shape[-1] // 2
        angle = np.arange(x.shape[2])[:, None] * self.args.rope_theta ** (-np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate(
            [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1
        )

    def __call__(self, ids: np.ndarray, edit: Edit) -> np.ndarray:
        w, n, kv = self.w, self.args.num_attention_heads, self.args.num_key_value_heads
        x = edit(("embed", 0), w["model.embed_tokens.weight"][ids])
        for layer in range(self.n_layers):
            at = f"model.layers.{layer}."
            h = self.norm(at + "input_layernorm", x)
            q = self.rotate(heads(linear(w, at + "self_attn.q_proj", h), n))
            k = self.rotate(heads(linear(w, at + "self_attn.k_proj", h), kv)).repeat(n // kv, axis=1)
            v = heads(linear(w, at + "self_attn.v_proj", h), kv).repeat(n // kv, axis=1)
            x = x + edit(("attn", layer), linear(w, at + "self_attn.o_proj", attend(q, k, v)))
            h = self.norm(at + "post_attention_layernorm", x)
            gate = linear(w, at + "mlp.gate_proj", h)
            h = gate / (1 + np.exp(-gate)) * linear(w, at + "mlp.up_proj", h)
            x = edit(("block", layer), x + edit(("mlp", layer), linear(w, at + "mlp.down_proj", h)))
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return self.norm("model.norm", x) @ head.T


def softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def trace(
    model,
    ids,
    subject,
    level,
    kind=None,
    window=10,
    samples=10,
    seed=1,
    severed=None,
    draw="randn",
    replace=False,
):
    """(scores [T, L], low, high, answer): row 0 of the batch is clean, the others are corrupted."""
    batch = np.array([list(ids)] * (samples + 1))
    clean = softmax(model(batch[:1], lambda name, x: x)[0, -1])
    answer = int(clean.argmax())

    def run(patches, held, random, kept=None):
        def edit(name, x):
            x = x.copy()
            if name[0] == "embed":
                shape = (samples, len(subject), x.shape[2])
                noise = random.randn(*shape) if draw == "randn" else random.uniform(-1, 1, shape)
                here = slice(subject[0], subject[-1] + 1)
                x[1:, here] = level * noise + (0 if replace else x[1:, here])
            for position in patches.get(name, ()):
                x[1:, position] = x[0, position]
            if name in held:
                position, values = held[name]
                x[1:, position] = values[1:, position]
            if kept is not None:
                kept[name] = x.copy()
            return x

        return softmax(model(batch, edit)[1:, -1])[:, answer].mean()

    low = run({}, {}, np.random.RandomState(seed))
    scores = np.empty((len(ids), model.n_layers))
    for position in range(len(ids)):
        for layer in range(model.n_layers):
            if kind is None:
                patches = {("block", layer): [position]}
            else:
                around = range(max(0, layer - window // 2), min(model.n_layers, layer - (-window // 2)))
                patches = {(kind, i): [position] for i in around}
            random, held = np.random.RandomState(seed), {}
            if severed:
                first: dict = {}
                run({}, {}, random, first)
                held = {(severed, i): (position, first[severed, i]) for i in range(model.n_layers)}
            scores[position, layer] = run(patches, held, random)
    return scores, low, clean[answer], answer
