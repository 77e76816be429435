"""The numbers of an embedding table, however it is stored: rows, the whole, and the scale that noise is measured in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..errors import InputError, TokenError, UnsupportedError
from ..text.tokens import as_ids

_CHUNK = 1 << 20  # elements of the table that are in float64 at a time: 8 MB


def embedding_rows(module: Any, ids: Sequence[int] | mx.array) -> mx.array:
    """The embeddings of some tokens, float32 [n, D]; of a quantized table only these rows are dequantized.

    They are what the module puts out: a table scaled later by the model is not scaled here. LoRA and DoRA
    wrappers count with their update. UnsupportedError when the module holds no table, TokenError for an id that it
    has no row for: MLX would read what lies behind it.
    """
    ids = _row_ids(ids, _vocabulary(module))
    if "lora_a" in _keys(module) and "embedding" in _keys(module):
        rows = embedding_rows(module.embedding, ids)
        rows = rows + module.scale * (module.lora_a[ids] @ module.lora_b).astype(mx.float32)
        if "m" in _keys(module):  # DoRA keeps the lengths of the rows by themselves
            rows = rows * (module.m[ids].astype(mx.float32) / mx.linalg.norm(rows, axis=-1))[:, None]
        return rows
    weight = _weight(module)
    if "scales" not in _keys(module):
        return weight[ids].astype(mx.float32)
    if isinstance(module, nn.Module) and not isinstance(module, nn.QuantizedEmbedding):
        # a packing of its own (rotated, say): only the module can undo it
        return module(ids).astype(mx.float32)
    biases = getattr(module, "biases", None)
    return mx.dequantize(
        weight[ids],
        scales=module.scales[ids],
        biases=None if biases is None else biases[ids],
        group_size=module.group_size,
        bits=module.bits,
        mode=getattr(module, "mode", "affine"),
    ).astype(mx.float32)


def _row_ids(ids: Any, rows: int) -> mx.array:
    given = np.asarray(ids)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not given.size:
        raise TokenError(f"embeddings are looked up by a list of token ids, not {ids!r}")
    outside = given[(given < 0) | (given >= rows)]
    if outside.size:
        raise TokenError(f"token id {outside[0]} has no embedding: the table's rows are 0 to {rows - 1}")
    return mx.array(given)


def embedding_table(module: Any) -> mx.array:
    """The whole table, float32 [V, D], dequantized with the layer's own group size, bits and mode."""
    return embedding_rows(module, mx.arange(_vocabulary(module)))


def table_std(module: Any) -> float:
    """The unbiased standard deviation over all elements of the table, in float64.

    Read in chunks of rows whose means and squares are merged (Chan, Golub and LeVeque 1983), so that a large
    quantized table is never whole in memory.
    """
    count, mean, squares = 0, 0.0, 0.0
    for chunk in _chunks(module):
        n, m = chunk.size, chunk.mean()
        chunk = (chunk - m).ravel()
        squares += chunk @ chunk + (m - mean) ** 2 * count * n / (count + n)
        mean += (m - mean) * n / (count + n)
        count += n
    return float(math.sqrt(squares / (count - 1)))


def table_key(module: Any) -> tuple:
    """What tells one table's numbers from another's, in whatever way they were changed: two sums of its mixed bits.

    Weights can change behind the same array (`weight *= 2`), so that no identity tells. Rows in another order have
    the same key, and the same standard deviation.
    """
    named = dict(tree_flatten(module.parameters())) if isinstance(module, nn.Module) else {"": module.weight}
    parts: list[mx.array] = list(named.values())
    sums: list[int] = []
    for x in parts:
        bits = x.reshape(-1).view({1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[x.dtype.size])
        for start in range(0, bits.size, 8 * _CHUNK):
            words = bits[start : start + 8 * _CHUNK].astype(mx.uint32)
            for odd in (0x9E3779B1, 0x85EBCA6B):
                # mixed first: sums of plain bits cancel when all change alike
                mixed = (words ^ (words >> 15)) * mx.array(odd, mx.uint32)
                sums.append(int(np.array((mixed ^ (mixed >> 13)).sum())))
    kinds = (type(module).__name__, getattr(module, "bits", None), getattr(module, "group_size", None))
    return (*kinds, getattr(module, "scale", None), *((x.shape, str(x.dtype)) for x in parts), *sums)


def subjects_std(module: Any, tokenizer: Any, subjects: Sequence[str]) -> float:
    """The unbiased standard deviation over all elements of the subjects' embeddings (the ROME authors' "s").

    Each subject is tokenized alone, with the special tokens that the tokenizer adds. InputError when there
    is none.
    """
    if isinstance(subjects, str) or not isinstance(subjects, Sequence) or not subjects:
        raise InputError(f"subjects_std takes a list of one subject or more, not {subjects!r}.")
    vocabulary = _vocabulary(module)
    ids = []
    for subject in subjects:
        ids += as_ids(tokenizer, subject, vocabulary)
    return float(np.array(embedding_rows(module, ids), dtype=np.float64).std(ddof=1))


def _keys(module: Any) -> Any:
    return module if isinstance(module, nn.Module) else getattr(module, "__dict__", {})


def _weight(module: Any) -> mx.array:
    weight = getattr(module, "weight", None)
    floating = isinstance(weight, mx.array) and mx.issubdtype(weight.dtype, mx.floating)
    if not isinstance(weight, mx.array) or weight.ndim != 2 or not (floating or "scales" in _keys(module)):
        raise UnsupportedError(
            f"{type(module).__name__} is no embedding table: it has no 2-D `weight` (float, or quantized "
            "with `scales`). Noise needs an absolute level here, such as level=0.1."
        )
    return weight


def _vocabulary(module: Any) -> int:
    inner = module.embedding if "lora_a" in _keys(module) and "embedding" in _keys(module) else module
    return _weight(inner).shape[0]


def _chunks(module: Any) -> Iterator[np.ndarray]:
    """The table as float64 arrays of a few rows each."""
    vocabulary = _vocabulary(module)
    width = embedding_rows(module, [0]).shape[1]
    step = max(1, _CHUNK // width)
    for start in range(0, vocabulary, step):
        ids = mx.arange(start, min(start + step, vocabulary))
        yield np.array(embedding_rows(module, ids), dtype=np.float64)
