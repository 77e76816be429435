"""Rules written into mlx-lm's `llama`, which has rotary positions, RMS norms and a gated MLP.

What `weights` says of `gpt2` holds here with three changes:

- Positions are in no embedding: what a head reads of them is in the rotary angles of its queries and keys. Scores are
  not whole numbers then, but the best is best by more than a softmax can see: patterns are 0 and 1 all the same.
- Rotary channels turn by frequencies from 1 down to next to nothing; what is matched by content lies in the slow ones.
- A gate of 128 times a whole number is that number or 0 after SiLU in float32.

An RMS norm is the identity with the same epsilon and gain as a layer norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .rules import HEADS, LENGTH, NEURONS, WIDTH, Head, Neuron, Rules
from .weights import EPSILON, GAIN, Basis

CHANNELS = 64  # of a head
THETA = 1e36  # base of the rotary frequencies
HALF = CHANNELS // 2
PREVIOUS, LATEST = (0, 1, 2), 2  # the rotary pairs that tell the token before, and earlier from later
CONTENT = [*range(8, HALF), *range(HALF + 8, CHANNELS)]  # channels that turn by less than 1e-7 over a prompt
SHARPNESS = 256 * CHANNELS**0.5  # of one match by content; the model divides by the root
ORDER, OFFSET = 2.0**18, 2.0**16  # of a step between positions, and of the token before
GATE = 128
POSITIONS = ("pos", "pos squared")


def llama(rules: Rules) -> Any:
    """The model that computes the rules: mlx-lm's `llama.Model` in float32."""
    import mlx.core as mx
    from mlx_lm.models import llama as architecture

    args = architecture.ModelArgs(
        model_type="llama",
        hidden_size=WIDTH,
        num_hidden_layers=len(rules.layers),
        intermediate_size=NEURONS,
        num_attention_heads=HEADS,
        head_dim=CHANNELS,
        rms_norm_eps=EPSILON,
        vocab_size=len(rules.words),
        max_position_embeddings=LENGTH,
        attention_bias=True,
        mlp_bias=True,
        rope_theta=THETA,
        tie_word_embeddings=True,
    )
    net = architecture.Model(args)
    net.load_weights([(name, mx.array(x.astype(np.float32))) for name, x in weights_of(rules).items()])
    mx.eval(net.parameters())
    return net


def weights_of(rules: Rules) -> dict[str, np.ndarray]:
    """Every array of the model by its name there."""
    basis, gain = Basis(rules), np.full(WIDTH, GAIN)
    found = {
        "model.embed_tokens.weight": np.stack([basis.written(rules.embeds.get(w, {})) for w in rules.words]),
        "model.norm.weight": gain / WIDTH,
    }
    for i, layer in enumerate(rules.layers):
        arrays = {"input_layernorm.weight": gain, "post_attention_layernorm.weight": gain}
        arrays |= _attention(basis, layer.heads) | _mlp(basis, layer.neurons)
        found |= {f"model.layers.{i}.{name}": x for name, x in arrays.items()}
    return found


def _attention(basis: Basis, heads: Mapping[int, Head]) -> dict[str, np.ndarray]:
    total = HEADS * CHANNELS
    found = {f"self_attn.{name}_proj.weight": np.zeros((total, WIDTH)) for name in "qkv"}
    found |= {f"self_attn.{name}_proj.bias": np.zeros(total) for name in "qkv"}
    found |= {"self_attn.o_proj.weight": np.zeros((WIDTH, total)), "self_attn.o_proj.bias": np.zeros(WIDTH)}
    for index, head in heads.items():
        first = index * CHANNELS
        own = {name: x[first : first + CHANNELS] for name, x in found.items() if "o_proj" not in name}
        if any("pos" in match.query for match in head.matches):
            _look_one_back(own)
        else:
            _look_by_content(basis, head, own)
        for c, (name, writes) in enumerate(head.copies.items()):
            own["self_attn.v_proj.weight"][c], _ = basis.reading({name: 1})
            found["self_attn.o_proj.weight"][:, first + c] = basis.written(writes)
    return found


def _look_one_back(own: Mapping[str, np.ndarray]) -> None:
    """The score is the sum of the cosines of how far a position is from the one before, at three frequencies."""
    for pair in PREVIOUS:
        angle = THETA ** (-pair / HALF)
        own["self_attn.q_proj.bias"][[pair, HALF + pair]] = (
            OFFSET * math.cos(angle),
            -OFFSET * math.sin(angle),
        )
        own["self_attn.k_proj.bias"][pair] = 1.0


def _look_by_content(basis: Basis, head: Head, own: Mapping[str, np.ndarray]) -> None:
    """A slow channel for each match, and for the order of positions the sine of their distance at a low frequency."""
    for c, match in zip(CONTENT, head.matches, strict=False):
        content = {name: weight for name, weight in match.key.items() if name not in POSITIONS}
        for part, reading, factor in (("q", match.query, SHARPNESS), ("k", content, 1.0)):
            weights, bias = basis.reading(reading)
            own[f"self_attn.{part}_proj.weight"][c] = factor * weights
            own[f"self_attn.{part}_proj.bias"][c] = factor * bias
        if "pos" in match.key:
            weights, bias = basis.reading(match.query)
            order = ORDER * match.key["pos"]
            own["self_attn.q_proj.weight"][HALF + LATEST] = order * weights
            own["self_attn.q_proj.bias"][HALF + LATEST] = order * bias
            own["self_attn.k_proj.bias"][LATEST] = 1.0


def _mlp(basis: Basis, neurons: Mapping[int, Neuron]) -> dict[str, np.ndarray]:
    gate, bias, down = np.zeros((NEURONS, WIDTH)), np.zeros(NEURONS), np.zeros((WIDTH, NEURONS))
    for index, neuron in neurons.items():
        weights, constant = basis.reading(neuron.reads)
        gate[index], bias[index] = GATE * weights, GATE * constant
        down[:, index] = basis.written(neuron.writes) / GATE
    return {
        "mlp.gate_proj.weight": gate,
        "mlp.gate_proj.bias": bias,
        "mlp.up_proj.weight": np.zeros((NEURONS, WIDTH)),
        "mlp.up_proj.bias": np.ones(NEURONS),
        "mlp.down_proj.weight": down,
        "mlp.down_proj.bias": np.zeros(WIDTH),
    }
