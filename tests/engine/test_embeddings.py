"""Embeddings in every quantization against the whole table, and the scale of noise against NumPy's formula."""

from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxtrace.engine import embeddings
from mlxtrace.errors import InputError, TokenError, UnsupportedError

MODES = [
    ("affine", 64, 4),
    ("affine", 32, 8),
    ("affine", 128, 3),
    ("affine", 64, 2),
    ("mxfp4", 32, 4),
    ("mxfp8", 32, 8),
    ("nvfp4", 16, 4),
]


def embedding(rows=300, width=128, dtype=mx.float32, seed=0):
    module = nn.Embedding(rows, width)
    module.weight = (mx.random.normal((rows, width), key=mx.random.key(seed)) * 0.3 + 0.1).astype(dtype)
    return module


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_float_tables(dtype):
    module = embedding(dtype=dtype)
    table = embeddings.embedding_table(module)
    assert table.dtype == mx.float32 and mx.array_equal(table, module.weight.astype(mx.float32))


@pytest.mark.parametrize(("mode", "group_size", "bits"), MODES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_quantized_tables_are_the_modules_output(mode, group_size, bits, dtype):
    module = nn.QuantizedEmbedding.from_embedding(embedding(dtype=dtype), group_size, bits, mode=mode)
    biases = module.get("biases")
    whole = mx.dequantize(
        module.weight, module.scales, biases, group_size=group_size, bits=bits, mode=mode
    ).astype(mx.float32)
    table = embeddings.embedding_table(module)
    assert table.dtype == mx.float32 and table.shape == (300, 128)
    assert mx.array_equal(table, whole)
    assert mx.array_equal(table, module(mx.arange(300)).astype(mx.float32))
    ids = [7, 0, 299, 7]
    assert mx.array_equal(embeddings.embedding_rows(module, ids), whole[mx.array(ids)])
    expected = np.array(whole, dtype=np.float64).std(ddof=1)
    assert embeddings.table_std(module) == pytest.approx(expected, rel=1e-12)


def test_lora_and_dora_count_with_their_update():
    from mlx_lm.tuner.dora import DoRAEmbedding
    from mlx_lm.tuner.lora import LoRAEmbedding

    base = embedding()
    quantized = nn.QuantizedEmbedding.from_embedding(base, 64, 8)
    for wrapper in (
        LoRAEmbedding.from_base(base),
        LoRAEmbedding.from_base(quantized),
        DoRAEmbedding.from_base(base),
    ):
        wrapper.lora_b = mx.random.normal(wrapper.lora_b.shape)
        wrapper.eval()
        expected = np.array(wrapper(mx.arange(300)).astype(mx.float32))
        assert np.allclose(np.array(embeddings.embedding_table(wrapper)), expected, atol=1e-5)
        assert not np.allclose(expected, np.array(base.weight), atol=1e-2)


class Rotated(nn.Module):
    """A quantized table stored in another basis, as some models on the hub have it."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.scales, self.biases = mx.quantize(weight, 64, 4)
        self.group_size, self.bits = 64, 4

    def __call__(self, ids):
        parts = (p[ids] for p in (self.weight, self.scales, self.biases))
        return mx.dequantize(*parts, group_size=64, bits=4)[:, ::-1]


def test_a_packing_of_its_own_is_asked_for_its_output():
    module = Rotated(embedding().weight)
    assert mx.array_equal(embeddings.embedding_table(module), module(mx.arange(300)))


def test_any_module_with_a_table():
    table = mx.ones((5, 3), dtype=mx.float16)
    assert mx.array_equal(embeddings.embedding_table(SimpleNamespace(weight=table)), table)


@pytest.mark.parametrize(
    "module",
    [nn.Identity(), nn.LayerNorm(8), SimpleNamespace(weight=mx.zeros((3, 4), dtype=mx.uint32)), None, 3],
    ids=lambda m: type(m).__name__,
)
def test_what_holds_no_table_is_refused(module):
    for read in (
        embeddings.embedding_table,
        embeddings.table_std,
        lambda m: embeddings.embedding_rows(m, [0]),
    ):
        with pytest.raises(UnsupportedError, match="no embedding table"):
            read(module)


def test_the_chunked_std_is_exact_for_any_chunk(monkeypatch):
    module = embedding(rows=301, width=24)
    module.weight = module.weight + 100  # a large mean is where naive sums of squares fail
    expected = np.array(module.weight, dtype=np.float64).std(ddof=1)
    for chunk in (1, 24 * 7, 24 * 300, 1 << 22):
        monkeypatch.setattr(embeddings, "_CHUNK", chunk)
        assert embeddings.table_std(module) == pytest.approx(expected, rel=1e-11)


class Words:
    """A tokenizer of one id per word, behind a BOS of id 0."""

    def encode(self, text, add_special_tokens=True):
        return [0] * add_special_tokens + [len(word) for word in text.split()]


def test_subjects_std_concatenates_the_subjects_with_their_special_tokens():
    module = embedding()
    ids = [0, 6, 5, 0, 9]  # "Eiffel Tower" and "Colosseum"
    expected = np.array(module.weight, dtype=np.float64)[ids].std(ddof=1)
    assert embeddings.subjects_std(module, Words(), ["Eiffel Tower", "Colosseum"]) == pytest.approx(
        expected, rel=1e-12
    )
    for bad in ([], "Eiffel Tower"):
        with pytest.raises(InputError):
            embeddings.subjects_std(module, Words(), bad)
    with pytest.raises(TokenError):
        embeddings.subjects_std(module, Words(), ["x" * 300])


def test_the_key_of_a_table_tells_changes_behind_the_same_array():
    module = embedding()
    before, weight = embeddings.table_key(module), module.weight
    assert embeddings.table_key(module) == before
    weight *= 2
    assert embeddings.table_key(module) != before
    module.weight = weight / 2
    assert embeddings.table_key(module) == before
    module.weight = -module.weight  # every number changed alike
    assert embeddings.table_key(module) != before
