"""How the corrupted run is made: another prompt, or noise on the subject's embeddings.

    Substitution(text)            the corrupted prompt, written out
    GaussianNoise(subject, ...)   noise on the embedding module's output at the subject's tokens
    embedding_table, embedding_rows, table_std, subjects_std    the scale that the noise is measured in
    noise_array, corrupt          the draw, and putting it there

The method is causal tracing's (Meng et al. 2022, section 2.1 and appendix B.1). Where the paper leaves
details open the authors' released code decides: NumPy's `RandomState(seed)`, and a standard deviation taken
over all elements of the embeddings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..arguments import as_integer, positions_in
from ..errors import EditError, InputError, TokenError, UnsupportedError
from ..text.tokens import as_ids

_FORMS = (
    '"s3" (3 x the standard deviation of the embeddings; "s" is 1 x), '
    'a number of 0 or more (absolute standard deviation), or "u3" (uniform in [-3, 3])'
)
_LEVEL = re.compile(r"([su]?)((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)?")
_CHUNK = 1 << 20  # elements of the table that are in float64 at a time: 8 MB


@dataclass(frozen=True)
class NoiseLevel:
    """A parsed level: `value` in standard deviations ("s"), absolute ("abs"), or a half-width ("u")."""

    kind: Literal["s", "abs", "u"]
    value: float

    def __str__(self) -> str:
        if self.kind == "u":
            return f"uniform in [-{self.value:g}, {self.value:g}]"
        return f"{self.value:g} x std of the embeddings" if self.kind == "s" else f"std {self.value:g}"


@dataclass(frozen=True)
class GaussianNoise:
    """Corrupt by noise on the embeddings of the subject's tokens (Meng et al. 2022, section 2.1).

    subject: its text, or its positions as a range or list; None when the experiment names the subject.
    level: "s3", a float (absolute standard deviation) or "u3" (uniform). samples: rows of independent
    noise, over which metrics are averaged. seed: of NumPy's RandomState. replace: overwrite the embeddings
    instead of adding, in the corrupted baseline as well as in the patched rows (the ROME authors' baseline adds
    either way). InputError when a value has no meaning.
    """

    subject: str | range | Sequence[int] | None = None
    level: str | float = "s3"
    samples: int = 10
    seed: int = 1
    replace: bool = False

    def __post_init__(self) -> None:
        parse_level(self.level)
        _check_int("samples", self.samples, 1, "an integer of 1 or more")
        _check_int("seed", self.seed, 0, "an integer from 0 to 2**32 - 1", 2**32 - 1)
        for name in ("samples", "seed"):  # as plain ints, whatever they were given as
            object.__setattr__(self, name, as_integer(getattr(self, name)))
        if not isinstance(self.replace, bool):
            raise InputError(f"GaussianNoise(replace={self.replace!r}): give True or False.")
        if isinstance(self.subject, str) and not self.subject.strip():
            raise InputError(
                "GaussianNoise(subject=...) is empty: give the subject as it stands in the prompt."
            )
        if isinstance(self.subject, bytes | bytearray) or not isinstance(
            self.subject, str | range | Sequence | mx.array | np.ndarray | None
        ):
            raise InputError(
                f"GaussianNoise(subject={self.subject!r}): give a text, a range or a list of token positions."
            )

    @property
    def parsed_level(self) -> NoiseLevel:
        return parse_level(self.level)


@dataclass(frozen=True)
class Substitution:
    """Corrupt by another prompt, as text or token ids: usually the clean one with another subject."""

    text: str | list[int]

    def __post_init__(self) -> None:
        if not isinstance(self.text, str | Sequence | mx.array | np.ndarray) or not _size(self.text):
            raise InputError(f"Substitution({self.text!r}): give the corrupted prompt as text or token ids.")


def _size(text: Any) -> int:
    return len(text) if getattr(text, "ndim", 1) else 0


def _check_int(name: str, value: object, low: int, valid: str, high: float = math.inf) -> None:
    number = as_integer(value)
    if number is None or not low <= number <= high:
        raise InputError(f"GaussianNoise({name}={value!r}): `{name}` is {valid}.")


def parse_level(level: str | float) -> NoiseLevel:
    """Read a level: "s3", "s", "s1.5", 0.13, "0.13" or "u3"; InputError with the valid forms otherwise."""
    kind, number = "abs", level
    if isinstance(level, str):
        form = _LEVEL.fullmatch(level)
        kind = (form and form[1]) or "abs"
        number = (form and form[2]) or ("1" if level == "s" else "")
    try:
        value = math.nan if isinstance(number, bool) or not isinstance(number, Real | str) else float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"Noise level {level!r} has no meaning. Valid: {_FORMS}.")
    return NoiseLevel(kind, value)


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
        if "m" in _keys(module):  # DoRA keeps the lengths of the rows apart
            rows = rows * (module.m[ids].astype(mx.float32) / mx.linalg.norm(rows, axis=-1))[:, None]
        return rows
    weight = _weight(module)
    if "scales" not in _keys(module):
        return weight[ids].astype(mx.float32)
    if isinstance(module, nn.Module) and not isinstance(module, nn.QuantizedEmbedding):
        return module(ids).astype(
            mx.float32
        )  # a packing of its own (rotated, say): only the module can undo it
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
    parts = (
        [x for _, x in tree_flatten(module.parameters())]
        if isinstance(module, nn.Module)
        else [module.weight]
    )
    sums: list[int] = []
    for x in parts:
        bits = x.reshape(-1).view({1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[x.dtype.size])
        for start in range(0, bits.size, 8 * _CHUNK):
            words = bits[start : start + 8 * _CHUNK].astype(mx.uint32)
            for odd in (
                0x9E3779B1,
                0x85EBCA6B,
            ):  # mixed first: sums of plain bits cancel when all change alike
                mixed = (words ^ (words >> 15)) * mx.array(odd, mx.uint32)
                sums.append(int((mixed ^ (mixed >> 13)).sum().item()))
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
    ids = [i for subject in subjects for i in as_ids(tokenizer, subject, vocabulary)]
    return float(np.array(embedding_rows(module, ids), dtype=np.float64).std(ddof=1))


def noise_array(noise: GaussianNoise, n_tokens: int, width: int, std: float | None = None) -> np.ndarray:
    """Draw the noise as the ROME authors' code does: float64 [samples, n_tokens, width].

    std: the standard deviation that "s" levels multiply; others ignore it. Equal arguments give equal
    numbers.
    """
    level = noise.parsed_level
    if level.kind == "s" and (std is None or not math.isfinite(std) or std < 0):
        raise InputError(f"Noise level {noise.level!r} is relative: give the embeddings' std, not {std!r}.")
    draw = np.random.RandomState(noise.seed)
    shape = (noise.samples, n_tokens, width)
    if level.kind == "u":
        return draw.uniform(-1, 1, shape) * level.value
    return draw.randn(*shape) * (level.value * std if level.kind == "s" else level.value)


def corrupt(
    x: mx.array, noise: np.ndarray, positions: range | Sequence[int], replace: bool = False
) -> mx.array:
    """Add the noise to embeddings x at some positions, or overwrite them with it.

    x [samples, T, D]; noise [samples, n, D], n the number of positions. Returns a new array of x's shape
    and dtype; the sum is taken in float32. EditError when the shapes differ, PositionError when a position
    is outside x.
    """
    index = positions_in(positions, x.shape[1]) if x.ndim == 3 else []
    if x.ndim != 3 or tuple(noise.shape) != (x.shape[0], len(index), x.shape[2]):
        raise EditError(
            f"Noise of shape {list(noise.shape)} does not fit embeddings of shape {list(x.shape)} "
            f"at {len(index)} positions: they are [samples, positions, width] and [samples, tokens, width]."
        )
    index, rows = mx.array(index), mx.array(noise.astype(np.float32))
    if not replace:
        rows = x[:, index].astype(mx.float32) + rows
    y = mx.array(x)  # a handle of its own: models write to their embeddings in place
    y[:, index] = rows.astype(x.dtype)
    return y


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
