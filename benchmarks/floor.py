"""The lower bound: the multiply-adds that the cells need at the least, at the matmul speed of this machine.

Counted are only rows, layers and positions that can differ from the base run. A cell whose stream first differs
at the input of layer b, at position p: in each layer from b on the projections, attention and MLP of positions
p..T-1, but in layer b queries, keys and values of p alone; in the last layer keys and values as before, but queries,
attention and MLP of the last position only; then one row of the head. Null cells need nothing. The two plain runs
that give the base and the source are counted. Attention counts with all of its multiply-adds: of a token's query with
the key of every token up to its own, shared or not, and of as many weights with values; not with its exponentials.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .cases import Case
from .models import Shape


@dataclass(frozen=True)
class Need:
    """multiply_adds; tokens: token-layers whose MLP is computed, for the cost of the activation function."""

    multiply_adds: int
    tokens: int


def needed(case: Case) -> Need:
    """What the cells of a case and its two plain runs need at the least."""
    work, tokens = 0, 0
    for layer, position in case.cells:
        birth = _birth(case, layer, position)
        if birth is not None:
            one = _cell(case.shape, case.length, birth, position)
            work, tokens = work + one.multiply_adds, tokens + one.tokens
    rows = max(1, case.samples)
    plain = _cell(case.shape, case.length, 0, 0, plain=True)
    runs = 1 + rows  # source and base
    return Need(rows * work + runs * plain.multiply_adds, rows * tokens + runs * plain.tokens)


def textbook(case: Case) -> Need:
    """What a pass for each cell takes: all positions in all layers, and the head of each, as a model is called."""
    shape, n = case.shape, case.length
    d, tokens = shape.width, shape.layers * n
    layer = 2 * d * d + 2 * d * shape.kv_width + (3 if shape.family == "llama" else 2) * d * shape.hidden
    one = tokens * (layer + 2 * d * n) + n * d * shape.vocab  # scores of all pairs, and then a mask
    passes = max(1, case.samples) * (len(case.cells) + 1) + 1
    return Need(passes * one, passes * tokens)


def _birth(case: Case, layer: int, position: int) -> int | None:
    """The first layer whose input differs in the cell; None for a null cell."""
    first = case.layers_at(layer)[0]
    birth = first if case.component == "resid_pre" else first + 1
    if position < case.first_difference or (birth == case.shape.layers and position < case.length - 1):
        return None
    return birth


def _cell(shape: Shape, length: int, birth: int, position: int, plain: bool = False) -> Need:
    """One row of positions p..T-1 from layer b on; a plain run has all of them at its first layer."""
    d, n, layers = shape.width, length - position, shape.layers - birth
    query, keys = d * d, 2 * d * shape.kv_width
    rest = d * d + (3 if shape.family == "llama" else 2) * d * shape.hidden  # output projection, MLP
    scores = sum(2 * d * (p + 1) for p in range(position, length))
    work = d * shape.vocab
    for layer in range(layers):
        read = 1 if layer == 0 and not plain else n  # tokens whose stream differs at the layer's input
        if layer < layers - 1:
            work += read * (query + keys) + n * rest + scores
        else:
            work += read * keys + query + rest + 2 * d * length
    return Need(work, max(layers - 1, 0) * n + (layers > 0))


def matmul_speed(shape: Shape, tokens: int = 512, repeats: int = 15) -> float:
    """Floating-point operations a second of a float32 matmul of the MLP's shape, median."""
    x, w = mx.random.normal((tokens, shape.width)), mx.random.normal((shape.hidden, shape.width))
    mx.eval(x, w)
    return 2 * tokens * shape.width * shape.hidden / _median(lambda: mx.eval(x @ w.T), repeats)


def activation_seconds(shape: Shape, tokens: int = 512, repeats: int = 7) -> float:
    """Seconds per token of the activation function of one MLP, which is no matmul and may cost as much."""
    x = mx.random.normal((tokens, shape.hidden))
    mx.eval(x)
    function = nn.gelu_approx if shape.family == "gpt2" else nn.silu
    return _median(lambda: mx.eval(function(x)), repeats) / tokens


def _median(work, repeats: int) -> float:
    took = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])
