"""One trace on two models: full precision against quantized."""

from __future__ import annotations

import mlx.nn as nn
import numpy as np
import pytest

import mlxtrace
from mlxtrace.errors import InputError
from mlxtrace.experiments.compare_bits import compare, compare_bits
from mlxtrace.prompts import Pair


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
    assert far.first.answer.token == far.second.answer.token  # also where two bits would say something else
    assert close.first.noise_level == close.second.noise_level
    np.testing.assert_array_equal(close.difference, close.second.scores - close.first.scores)
    assert not model.is_quantized  # the model itself was left alone
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
    demo = mlxtrace.InterpretableModel("demo")
    other = mlxtrace.InterpretableModel(demo.net, model.tokenizer)
    with pytest.raises(InputError, match=r"12 and 12 layers, .* tokens"):
        compare(demo, other, "The Eiffel Tower is in", "Eiffel Tower")
    with pytest.raises(InputError, match="26 layers"):
        compare(model, mlxtrace.InterpretableModel(gpt2_folder), "The Eiffel Tower is in", "Eiffel Tower")


# ---- many prompts

PROMPTS = [
    "The Eiffel Tower is located in the city of",
    "The Colosseum is in",
    "In Rome stands the Colosseum",
]
SUBJECTS = ["Eiffel Tower", "Colosseum", "Colosseum"]
QUIET = {"samples": 2, "progress": False}


@pytest.fixture(scope="module")
def many(model):
    return model.compare_bits(PROMPTS, SUBJECTS, bits=2, **QUIET)


def test_a_set_holds_what_single_prompts_give(model, many):
    for one, prompt, subject in zip(many.singles, PROMPTS, SUBJECTS, strict=True):
        alone = model.compare_bits(prompt, subject, bits=2, **QUIET)
        np.testing.assert_array_equal(one.first.raw, alone.first.raw)
        np.testing.assert_array_equal(one.second.raw, alone.second.raw)
        assert one.names == alone.names == many.names
    assert many.ids == ["0", "1", "2"] and many.n == 3


def test_means_of_a_set_are_those_of_its_prompts(many):
    last = np.array([(one.first.scores[-1], one.second.scores[-1]) for one in many.singles])
    row = many.roles.index("last token")
    np.testing.assert_allclose(many.first[row], last[:, 0].mean(0), atol=1e-12)
    gaps = last[:, 1] - last[:, 0]
    np.testing.assert_allclose(many.difference[row], gaps.mean(0), atol=1e-12)
    np.testing.assert_allclose(many.interval[row], 1.96 * gaps.std(0, ddof=1) / np.sqrt(3), atol=1e-12)


def test_a_list_of_one_is_a_set_without_intervals(model):
    one = model.compare_bits(PROMPTS[:1], SUBJECTS[0], bits=8, positions="last", **QUIET)
    assert one.roles == ["last token"] and np.isnan(one.interval).all() and one.uncertain.all()
    assert one.to_rows()[0]["low"] is None


def test_pairs_bring_their_subjects_answers_and_names(model):
    pairs = [Pair(PROMPTS[i], subject=SUBJECTS[i], target=7, id=f"p{i}") for i in range(3)]
    same = compare(model, model, pairs, positions="last", **QUIET)
    assert same.ids == ["p0", "p1", "p2"] and not same.difference.any() and not same.moved
    assert {one.first.answer.token for one in same.singles} == {7}
    alone = compare(model, model, pairs[0], positions="last", **QUIET)
    np.testing.assert_array_equal(alone.first.raw, same.singles[0].first.raw)
    at = compare(model, model, PROMPTS[:2], [1, 2], positions="last", **QUIET)  # positions, in every prompt
    assert [one.first.subject_range for one in at.singles] == [range(1, 3)] * 2
    told = compare(model, model, PROMPTS, SUBJECTS, target=[7, 8, 9], positions="last", **QUIET)
    assert [one.first.answer.token for one in told.singles] == [7, 8, 9]


@pytest.mark.parametrize(
    ("prompts", "subjects", "options", "words"),
    [
        ([], None, {}, "empty"),
        (PROMPTS, SUBJECTS[:2], {}, "2 entries for 3 prompts"),
        (PROMPTS, ["Eiffel Tower", "Louvre", "Atomium"], {}, "2 of 3 .*1: .*Louvre.*2: .*Atomium"),
        (PROMPTS, None, {}, "3 of 3 .*0: .*no subject"),
        ([Pair(PROMPTS[1], subject="Colosseum")], "Colosseum", {}, "its own"),
        (PROMPTS, SUBJECTS, {"target": [7]}, "target has 1 entries"),
        (PROMPTS, SUBJECTS, {"plan_only": True}, "plan"),
        (PROMPTS[0], None, {}, "no subject"),
    ],
    ids=["empty", "unequal", "missing", "none", "twice", "targets", "plan", "single"],
)
def test_sets_that_cannot_be_compared_are_refused_before_any_work(
    model, monkeypatch, prompts, subjects, options, words
):
    monkeypatch.setattr(nn, "quantize", lambda *a, **k: pytest.fail("it was quantized"))
    with pytest.raises(InputError, match=words):
        model.compare_bits(prompts, subjects, **options)
