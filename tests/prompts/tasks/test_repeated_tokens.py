"""Induction pairs: what is repeated, what differs, and that no token is special."""

from __future__ import annotations

import models
import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import prompts
from mlxtrace.errors import InputError
from mlxtrace.text.regions import regions_of


def check(pair, length, start):
    clean, corrupted, half = pair.clean, pair.corrupted, length // 2
    first, again = clean[start : start + length], clean[start + length :]
    assert len(set(first)) == length and again == first[:half]
    a, b, end = (pair.regions[name] for name in ("A1", "B1", "END"))
    assert clean[a] == clean[end] and end == -1 and b == a + 1 and clean.index(clean[-1], start) == a
    assert clean[b] == pair.target == first[half] and corrupted[b] == pair.foil not in clean
    assert [i for i, (x, y) in enumerate(zip(clean, corrupted, strict=True)) if x != y] == [
        b
    ] and pair.subject == b
    assert pair.target not in clean[start + length :]


def test_without_a_model():
    pairs = prompts.load("induction", n=100)
    for pair in pairs:
        check(pair, 16, 0)
        assert len(pair.clean) == 24 and all(3 <= token < 128 for token in (*pair.clean, pair.foil))
    assert len({tuple(pair.clean) for pair in pairs}) == 100
    assert (
        prompts.load("induction", seed=1)
        == prompts.load("induction", seed=1)
        != prompts.load("induction", seed=2)
    )


@pytest.mark.parametrize("length", [2, 3, 7, 40])
def test_lengths(length):
    for pair in prompts.induction(n=10, length=length):
        check(pair, length, 0)


@pytest.mark.parametrize("length", [5, 6, 16, 41])
def test_what_the_answer_is_found_by_may_differ(length):
    half, places = length // 2, set()
    for pair in prompts.induction(n=300, length=length, differs="A1"):
        clean, corrupted = pair.clean, pair.corrupted
        assert len(set(clean[:length])) == length and clean[length:] == clean[:half]
        a, b, x, c = (pair.regions[name] for name in ("A1", "B1", "X1", "C1"))
        assert (a, b, pair.subject) == (half - 1, half, half - 1) and b < x == c - 1 < length - 1
        assert clean[a] == clean[-1] == corrupted[-1] == corrupted[x] and corrupted[a] == clean[x]
        assert [i for i in range(len(clean)) if clean[i] != corrupted[i]] == [a, x]
        assert (pair.target, pair.foil) == (clean[b], clean[c])
        places.add(x)
    assert places == set(range(half + 1, length - 1))
    assert prompts.induction(n=40, length=length, differs="B1") == prompts.induction(n=40, length=length)


def test_what_differs_is_one_of_two():
    for wrong in ("A", "END", None, 1, ["A1"]):
        with pytest.raises(InputError, match='neither "B1" nor "A1"'):
            prompts.induction(differs=wrong)
    with pytest.raises(InputError, match="length"):
        prompts.induction(length=4, differs="A1")


def test_without_a_tokenizer():
    model = mlxtrace.InterpretableModel(models.make("llama"))
    pairs = prompts.load("induction", model=model, n=50)
    for pair in pairs:
        check(pair, 16, 0)
        regions_of(model.prompt(pair.clean), pair.regions)
    used = {token for pair in pairs for token in pair.clean}
    assert max(used) < models.VOCAB and len(used) > 120
    assert len(prompts.suitable(model, pairs)) + sum(prompts.suitable(model, pairs).dropped.values()) == 50


@pytest.mark.parametrize("style", ["bytes", "metaspace"])
def test_a_bos_in_front_and_no_special_token_behind_it(style):
    model = model_of(["Mary", "John"], style)
    for pair in prompts.load("induction", model=model, n=60):
        check(pair, 16, 1)
        assert pair.clean[0] == pair.corrupted[0] == model.tokenizer.bos_token_id
        assert list(model.prompt(pair.clean).special) == [0] == list(model.prompt(pair.corrupted).special)
        assert all(model.token_to_str(token).strip("\ufffd") for token in pair.clean[1:])


def test_the_bundled_model():
    model = mlxtrace.InterpretableModel("demo")
    for pair in prompts.load("induction", model=model, n=30):
        check(pair, 16, 1)
        assert list(model.prompt(pair.clean).special) == [0]


def test_too_small_a_vocabulary():
    with pytest.raises(InputError, match="there are 125 tokens to draw 126 from: give a smaller length="):
        prompts.induction(length=125)
    assert len(prompts.induction(n=3, length=124)) == 3
    for wrong in (1, 0, "16", 2.5):
        with pytest.raises(InputError, match="length"):
            prompts.induction(length=wrong)
    few = mlxtrace.InterpretableModel(models.make("llama", vocab_size=32))
    with pytest.raises(InputError, match="there are 32 tokens"):
        prompts.induction(few, length=32)
    with pytest.raises(
        InputError, match=r"24 pairs can be made, not 99: draw longer ones, length=...; ask for n=24"
    ):
        prompts.induction(mlxtrace.InterpretableModel(models.make("llama", vocab_size=4)), n=99, length=2)
