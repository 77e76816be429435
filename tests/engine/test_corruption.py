"""Corruption against NumPy formulas, and embeddings in every quantization against the whole table."""

import math
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxtrace.engine import corruption as c
from mlxtrace.errors import EditError, InputError, PositionError, TokenError, UnsupportedError

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


# --- levels and descriptions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "kind", "value"),
    [
        ("s3", "s", 3),
        ("s", "s", 1),
        ("s1.5", "s", 1.5),
        (0.13, "abs", 0.13),
        ("0.13", "abs", 0.13),
        (0, "abs", 0),
        (np.float32(0.5), "abs", 0.5),
        ("u3", "u", 3),
    ],
)
def test_levels(level, kind, value):
    assert c.parse_level(level) == c.NoiseLevel(kind, value)


@pytest.mark.parametrize(
    "level",
    ["", "m", "t3", "u", "s-1", "x3", "snan", "3s", -0.1, math.nan, math.inf, True, None, [3], "sinf"],
)
def test_levels_without_meaning_name_the_valid_forms(level):
    with pytest.raises(InputError, match=r'"s3".*"u3"'):
        c.parse_level(level)
    with pytest.raises(InputError):
        c.GaussianNoise("x", level=level)


@pytest.mark.parametrize(
    "bad",
    [
        {"samples": 0},
        {"samples": 2.0},
        {"samples": True},
        {"seed": -1},
        {"seed": "1"},
        {"seed": 2**32},
        {"replace": 1},
        {"subject": " "},
        {"subject": 3.5},
    ],
)
def test_noise_is_checked_when_it_is_made(bad):
    with pytest.raises(InputError):
        c.GaussianNoise(**{"subject": "Eiffel Tower", **bad})


@pytest.mark.parametrize("bad", ["", [], None, 3, np.array(3)])
def test_a_substitution_needs_a_prompt(bad):
    with pytest.raises(InputError):
        c.Substitution(bad)


def test_descriptions_read_well():
    noise = c.GaussianNoise("Eiffel Tower")
    assert (noise.level, noise.samples, noise.seed, noise.replace) == ("s3", 10, 1, False)
    assert str(noise.parsed_level) == "3 x std of the embeddings"
    assert str(c.parse_level("u3")) == "uniform in [-3, 3]" and str(c.parse_level(0.1)) == "std 0.1"
    assert c.Substitution("The Louvre").text == "The Louvre"


# --- the embedding table -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_float_tables(dtype):
    module = embedding(dtype=dtype)
    table = c.embedding_table(module)
    assert table.dtype == mx.float32 and mx.array_equal(table, module.weight.astype(mx.float32))


@pytest.mark.parametrize(("mode", "group_size", "bits"), MODES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_quantized_tables_are_the_modules_output(mode, group_size, bits, dtype):
    module = nn.QuantizedEmbedding.from_embedding(embedding(dtype=dtype), group_size, bits, mode=mode)
    biases = module.get("biases")
    whole = mx.dequantize(
        module.weight, module.scales, biases, group_size=group_size, bits=bits, mode=mode
    ).astype(mx.float32)
    table = c.embedding_table(module)
    assert table.dtype == mx.float32 and table.shape == (300, 128)
    assert mx.array_equal(table, whole)
    assert mx.array_equal(table, module(mx.arange(300)).astype(mx.float32))
    ids = [7, 0, 299, 7]
    assert mx.array_equal(c.embedding_rows(module, ids), whole[mx.array(ids)])
    expected = np.array(whole, dtype=np.float64).std(ddof=1)
    assert c.table_std(module) == pytest.approx(expected, rel=1e-12)


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
        assert np.allclose(np.array(c.embedding_table(wrapper)), expected, atol=1e-5)
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
    assert mx.array_equal(c.embedding_table(module), module(mx.arange(300)))


def test_any_module_with_a_table():
    table = mx.ones((5, 3), dtype=mx.float16)
    assert mx.array_equal(c.embedding_table(SimpleNamespace(weight=table)), table)


@pytest.mark.parametrize(
    "module",
    [nn.Identity(), nn.LayerNorm(8), SimpleNamespace(weight=mx.zeros((3, 4), dtype=mx.uint32)), None, 3],
    ids=lambda m: type(m).__name__,
)
def test_what_holds_no_table_is_refused(module):
    for read in (c.embedding_table, c.table_std, lambda m: c.embedding_rows(m, [0])):
        with pytest.raises(UnsupportedError, match="no embedding table"):
            read(module)


def test_the_chunked_std_is_exact_for_any_chunk(monkeypatch):
    module = embedding(rows=301, width=24)
    module.weight = module.weight + 100  # a large mean is where naive sums of squares fail
    expected = np.array(module.weight, dtype=np.float64).std(ddof=1)
    for chunk in (1, 24 * 7, 24 * 300, 1 << 22):
        monkeypatch.setattr(c, "_CHUNK", chunk)
        assert c.table_std(module) == pytest.approx(expected, rel=1e-11)


class Words:
    """A tokenizer of one id per word, behind a BOS of id 0."""

    def encode(self, text, add_special_tokens=True):
        return [0] * add_special_tokens + [len(word) for word in text.split()]


def test_subjects_std_concatenates_the_subjects_with_their_special_tokens():
    module = embedding()
    ids = [0, 6, 5, 0, 9]  # "Eiffel Tower" and "Colosseum"
    expected = np.array(module.weight, dtype=np.float64)[ids].std(ddof=1)
    assert c.subjects_std(module, Words(), ["Eiffel Tower", "Colosseum"]) == pytest.approx(
        expected, rel=1e-12
    )
    for bad in ([], "Eiffel Tower"):
        with pytest.raises(InputError):
            c.subjects_std(module, Words(), bad)
    with pytest.raises(TokenError):
        c.subjects_std(module, Words(), ["x" * 300])


# --- the noise -----------------------------------------------------------------------------------


def test_noise_is_the_authors_draw():
    expected = np.random.RandomState(1).randn(10, 3, 16) * (3 * 0.25)
    assert np.array_equal(c.noise_array(c.GaussianNoise("x"), 3, 16, 0.25), expected)
    expected = np.random.RandomState(4).randn(2, 1, 8) * 0.5
    assert np.array_equal(c.noise_array(c.GaussianNoise("x", 0.5, samples=2, seed=4), 1, 8), expected)
    expected = np.random.RandomState(1).uniform(-1, 1, (10, 2, 8)) * 3
    assert np.array_equal(c.noise_array(c.GaussianNoise("x", "u3"), 2, 8), expected)
    assert not c.noise_array(c.GaussianNoise("x", "s0"), 2, 8, 1.0).any()


def test_noise_leaves_numpys_global_state():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    c.noise_array(c.GaussianNoise("x"), 3, 16, 0.25)
    assert np.random.rand() == expected


@pytest.mark.parametrize("std", [None, math.nan, -1.0])
def test_relative_noise_needs_a_scale(std):
    with pytest.raises(InputError, match="relative"):
        c.noise_array(c.GaussianNoise("x", "s3"), 2, 8, std)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("positions", [range(1, 3), [1, 2], [-1, 0]])
def test_corrupt_adds_or_overwrites_at_the_positions_only(dtype, replace, positions):
    x = mx.random.normal((3, 5, 4)).astype(dtype)
    before = np.array(x.astype(mx.float32))
    noise = np.random.RandomState(0).randn(3, 2, 4)
    y = c.corrupt(x, noise, positions, replace)
    expected = before.astype(np.float64)
    index = [p % 5 for p in positions]
    expected[:, index] = noise if replace else expected[:, index] + noise
    expected = np.array(mx.array(expected.astype(np.float32)).astype(dtype).astype(mx.float32))
    got = np.array(y.astype(mx.float32))
    assert y.dtype == dtype
    assert np.allclose(got, expected, rtol={mx.float32: 1e-6, mx.float16: 1e-3}.get(dtype, 1e-2), atol=1e-6)
    others = [t for t in range(5) if t not in index]
    assert np.array_equal(got[:, others], before[:, others])
    y += 1
    assert np.array_equal(np.array(x.astype(mx.float32)), before)


def test_zero_noise_changes_nothing():
    x = mx.random.normal((2, 4, 8)).astype(mx.bfloat16)
    assert mx.array_equal(c.corrupt(x, np.zeros((2, 1, 8)), range(1, 2)), x)


@pytest.mark.parametrize("shape", [(1, 2, 4), (3, 1, 4), (3, 2, 1), (3, 2)])
def test_noise_of_another_shape_is_refused(shape):
    with pytest.raises(EditError, match="does not fit"):
        c.corrupt(mx.zeros((3, 5, 4)), np.zeros(shape), range(1, 3))


def test_noise_outside_the_prompt_is_refused():
    with pytest.raises(PositionError):
        c.corrupt(mx.zeros((3, 5, 4)), np.zeros((3, 2, 4)), range(4, 6))
    with pytest.raises(EditError):
        c.corrupt(mx.zeros((5, 4)), np.zeros((3, 2, 4)), range(1, 3))


def test_corruption_is_differentiable():
    noise = np.ones((1, 1, 2))
    gradient = mx.grad(lambda x: c.corrupt(x, noise, range(1, 2)).sum())(mx.zeros((1, 3, 2)))
    assert mx.array_equal(gradient, mx.ones((1, 3, 2)))
    gradient = mx.grad(lambda x: c.corrupt(x, noise, range(1, 2), True).sum())(mx.zeros((1, 3, 2)))
    assert gradient.tolist() == [[[1, 1], [0, 0], [1, 1]]]
