"""The law that the laws of experiments hold on a small model of known make, so that each of them applies somewhere."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama

from .law import Law, Measurement
from .model_under_test import ModelUnderTest


def small_model_law(laws: Sequence[Law]) -> Law:
    """The law that all of these hold on the small model. It counts those that do not."""

    @functools.cache  # the same whatever model is checked, so measured once
    def failures(model_class: type) -> tuple[str, ...]:
        tested = ModelUnderTest(model_class(grouped_heads_in_4_bits()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(text for text in (_failure(one, tested) for one in laws) if text)

    def measure(tested: ModelUnderTest) -> Measurement:
        wrong = failures(type(tested.model))
        note = "; ".join(wrong)[:600] if wrong else f"{len(laws)} laws, 4 bits, grouped heads"
        return Measurement(float(len(wrong)), 0.0, note)

    return Law("all of this on a small model of known make", "this installation of the package", measure)


def _failure(one: Law, tested: ModelUnderTest) -> str:
    """The law's name and what was found, or "" where it holds."""
    try:
        found = one.measure(tested)
    except Exception as error:
        return f"{one.name} (inf; {type(error).__name__}: {str(error)[:200]})"
    if found.error <= found.tolerance:
        return ""
    return f"{one.name} ({found.error:.2g}; {found.note})" if found.note else one.name


def grouped_heads_in_4_bits() -> nn.Module:
    """A Llama of 5 layers, 4 heads and 2 key-value heads, in 4 bits, whose embedding is quantized too."""
    args = llama.ModelArgs(
        model_type="llama",
        hidden_size=64,
        num_hidden_layers=5,
        intermediate_size=64,
        num_attention_heads=4,
        rms_norm_eps=1e-5,
        vocab_size=96,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        max_position_embeddings=64,
    )
    net, random = llama.Model(args), np.random.RandomState(3)
    weights = []
    for name, x in dict(tree_flatten(net.parameters())).items():
        width = 1.0 if "embed" in name else 1.6 / x.shape[-1] ** 0.5
        new = random.randn(*x.shape) * width if x.ndim > 1 else 1 + 0.2 * random.randn(*x.shape)
        weights.append((name, mx.array(new.astype(np.float32))))
    net.load_weights(weights)
    nn.quantize(net, group_size=32, bits=4)
    mx.eval(net.parameters())
    return net
