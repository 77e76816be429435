"""Rules written into mlx-lm's `gpt2` as weights, so that float32 computes them without any rounding.

- The features are rows of a Hadamard matrix but the first: every number is +1 or -1, each row's mean is 0, and all that
  is written to the stream is a sum of whole numbers.
- A layer norm subtracts a mean that is 0 and divides by sqrt(variance + epsilon), which is sqrt(epsilon) = 2^30 to the
  last bit as long as the variance is below 2^35; its gain is 2^30, so it is the identity.
- Scores are whole numbers times 128: what is not the best has a weight of exp(-128), which float32 holds as 0.
- A neuron's input is a whole number times 16, where GELU is the number itself or 0 in float32.

Sums of whole numbers below 2^24 are the same in any order, so no BLAS, batch or engine changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .rules import HEADS, LENGTH, NEURONS, ONE, WIDTH, Reading, Rules, Stream

SHARPNESS = 128  # scores that differ by one differ by this where the softmax sees them
SATURATED = 16  # a neuron's whole number times this is where GELU is straight
EPSILON, GAIN = 2.0**60, 2.0**30


class Basis:
    """Where the features lie in the residual stream: a direction of +1 and -1 for each, all orthogonal."""

    def __init__(self, rules: Rules):
        features, width = rules.features, WIDTH
        if len(features) >= width:
            raise ValueError(f"{len(features)} features do not fit into a stream of width {width}")
        hadamard = np.ones((1, 1))
        while len(hadamard) < width:
            hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
        random = np.random.RandomState(rules.seed)
        rows = 1 + random.permutation(width - 1)[: len(features)]
        signs = random.choice([-1.0, 1.0], len(features))
        columns = random.permutation(width)
        directions = hadamard[rows][:, columns] * signs[:, None]
        self.width, self.directions = width, dict(zip(features, directions, strict=True))

    def written(self, stream: Stream) -> np.ndarray:
        """The vector `[width]` of a sum of features."""
        parts = (weight * self.directions[name] for name, weight in stream.items())
        return sum(parts, np.zeros(self.width))

    def reading(self, reading: Reading) -> tuple[np.ndarray, float]:
        """The weights `[width]` and the bias with which a linear map reads the features."""
        of_stream = {name: weight for name, weight in reading.items() if name != ONE}
        return self.written(of_stream) / self.width, float(reading.get(ONE, 0))


def gpt2(rules: Rules) -> Any:
    """The model that computes the rules: mlx-lm's `gpt2.Model` in float32."""
    import mlx.core as mx
    from mlx_lm.models import gpt2 as architecture

    args = architecture.ModelArgs(
        model_type="gpt2",
        n_ctx=LENGTH,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_head=HEADS,
        n_layer=len(rules.layers),
        layer_norm_epsilon=EPSILON,
        vocab_size=len(rules.words),
    )
    net = architecture.Model(args)
    weights = weights_of(rules)
    net.load_weights([(name, mx.array(x.astype(np.float32))) for name, x in weights.items()])
    mx.eval(net.parameters())
    return net


def weights_of(rules: Rules) -> dict[str, np.ndarray]:
    """Every array of the model by its name there."""
    basis, width = Basis(rules), WIDTH
    gain, zeros = np.full(width, GAIN), np.zeros(width)
    found = {
        "model.wte.weight": np.stack([basis.written(rules.embeds.get(word, {})) for word in rules.words]),
        "model.wpe.weight": np.stack([basis.written(rules.position(p)) for p in range(LENGTH)]),
        "model.ln_f.weight": gain
        / width,  # a logit is one feature's number, and directions have length sqrt(width)
        "model.ln_f.bias": zeros,
    }
    for i, layer in enumerate(rules.layers):
        arrays = {"ln_1.weight": gain, "ln_1.bias": zeros, "ln_2.weight": gain, "ln_2.bias": zeros}
        arrays |= _attention(rules, basis, layer.heads.items()) | _mlp(rules, basis, layer.neurons.items())
        found |= {f"model.h.{i}.{name}": x for name, x in arrays.items()}
    return found


def _attention(rules: Rules, basis: Basis, heads: Iterable) -> dict[str, np.ndarray]:
    """The channels of each head: a match each for queries and keys, a copied feature each for values."""
    width, channels = WIDTH, WIDTH // HEADS
    sharp = SHARPNESS * channels**0.5  # the model divides scores by the root
    maps, biases = np.zeros((3, width, width)), np.zeros((3, width))
    out = np.zeros((width, width))
    for index, head in heads:
        if max(len(head.matches), len(head.copies)) > channels:
            raise ValueError(f"the head {head.role!r} needs more than {channels} channels")
        first = index * channels
        for c, match in enumerate(head.matches, first):
            for i, (reading, factor) in enumerate(((match.query, sharp), (match.key, 1.0))):
                weights, bias = basis.reading(reading)
                maps[i, c], biases[i, c] = factor * weights, factor * bias
        for c, (name, writes) in enumerate(head.copies.items(), first):
            maps[2, c], _ = basis.reading({name: 1})
            out[:, c] = basis.written(writes)
    return {
        "attn.c_attn.weight": maps.reshape(3 * width, width),
        "attn.c_attn.bias": biases.reshape(-1),
        "attn.c_proj.weight": out,
        "attn.c_proj.bias": np.zeros(width),
    }


def _mlp(rules: Rules, basis: Basis, neurons: Iterable) -> dict[str, np.ndarray]:
    into, bias = np.zeros((NEURONS, WIDTH)), np.zeros(NEURONS)
    out = np.zeros((WIDTH, NEURONS))
    for index, neuron in neurons:
        weights, constant = basis.reading(neuron.reads)
        into[index], bias[index] = SATURATED * weights, SATURATED * constant
        out[:, index] = basis.written(neuron.writes) / SATURATED
    return {
        "mlp.c_fc.weight": into,
        "mlp.c_fc.bias": bias,
        "mlp.c_proj.weight": out,
        "mlp.c_proj.bias": np.zeros(WIDTH),
    }
