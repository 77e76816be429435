"""One trace on two models: full precision against quantized."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mlxtrace
from mlxtrace.errors import InputError
from mlxtrace.experiments.compare_bits import compare, compare_bits


@pytest.fixture(scope="module")
def model(llama_folder):
    return mlxtrace.InterpretableModel(llama_folder)


def test_compare_bits(model, tmp_path):
    prompt, subject = "The Eiffel Tower is located in the city of", "Eiffel Tower"
    options = {"samples": 2, "progress": False}
    close = compare_bits(model, prompt, subject, bits=8, **options)
    far = model.compare_bits(prompt, subject, bits=2, **options)
    assert close.correlation > 0.999 > far.correlation and close.largest_difference < far.largest_difference
    assert close.first.answer.token == close.second.answer.token and not close.peak_moved
    assert close.first.noise_level == close.second.noise_level
    np.testing.assert_array_equal(close.difference, close.second.scores - close.first.scores)
    assert not model.is_quantized  # the model itself was left alone
    tied, scores = close.first, close.first.raw
    for gap, moved in ((1e-4, False), (0.5, True)):
        raws = [np.zeros_like(scores) + tied.low_score for _ in range(2)]
        for raw, cell in zip(raws, (0, 1), strict=True):
            raw[0, 0] = raw[0, 1] = tied.high_score - gap * tied.total_effect
            raw[0, cell] = tied.high_score
        pair = [replace(tied, raw=raw) for raw in raws]
        assert replace(close, first=pair[0], second=pair[1]).peak_moved == moved
    plain = model.causal_trace(prompt, subject, **options)
    np.testing.assert_array_equal(close.first.raw, plain.raw)
    close.plot(tmp_path / "both.png")
    assert "correlation" in repr(far) and "peak" in repr(far) and len(far.to_rows()) == far.first.scores.size


def test_comparing_a_model_with_itself_and_what_cannot_be_compared(model, llama_4bit_folder, gpt2_folder):
    same = compare(
        model, model, "The Eiffel Tower is in", "Eiffel Tower", samples=2, noise="u1", progress=False
    )
    assert same.largest_difference == 0 and same.correlation == pytest.approx(1) and not same.peak_moved
    quantized = mlxtrace.InterpretableModel(llama_4bit_folder)
    with pytest.raises(InputError, match="quantized already"):
        compare_bits(quantized, "The Eiffel Tower is in", "Eiffel Tower")
    with pytest.raises(InputError, match="cannot quantize"):
        compare_bits(model, "The Eiffel Tower is in", "Eiffel Tower", bits=11)
    for bad in (
        *({"bits": x} for x in (1, True, None, "4", 3.5)),
        *({"group_size": x} for x in (0, 3, 1.5, "64", 1024)),
        {"group_size": 128},  # which divides no width of this model: nothing would be quantized
    ):
        with pytest.raises(InputError, match=r"quantize|group_size"):
            compare_bits(model, "The Eiffel Tower is in", "Eiffel Tower", **bad)
    with pytest.raises(InputError, match="26 layers"):
        compare(model, mlxtrace.InterpretableModel(gpt2_folder), "The Eiffel Tower is in", "Eiffel Tower")
