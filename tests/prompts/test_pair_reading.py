"""A pair as a model reads it, and an error that names every pair that it cannot read."""

from __future__ import annotations

import models
import pytest

import mlxtrace
from mlxtrace.errors import InputError, MlxtraceError, SubjectError, TokenError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.pair_reading import check_read, is_one_token, read_pair, reader_of

CLEAN, CORRUPTED = "The Louvre Museum is in the city of", "The Colosseum is in the city of"


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("demo")


def test_both_prompts_and_the_answers(model):
    read = read_pair(model, Pair(CLEAN, CORRUPTED, " Paris", 7, "Louvre"), reader_of(model))
    assert read.clean == model.prompt(CLEAN, "Louvre") and read.corrupted == model.prompt(CORRUPTED)
    assert (read.target, read.foil) == ((model.answer_token(" Paris"),), (7,))
    behind = Pair("The Louvre is in", "The Louvre (", foil="Rome")  # which needs a space behind "in" only
    assert read_pair(model, behind, reader_of(model)).foil == (model.answer_tokens("Rome", "The Louvre ("))
    read = read_pair(model, Pair([1, 2]), reader_of(model))
    assert (read.corrupted, read.target, read.foil) == (None, None, None)


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        (Pair(CLEAN, subject="Colosseum"), SubjectError),
        (Pair(CLEAN, regions={"A": "Rome"}), SubjectError),
        (Pair(CLEAN, regions={"A": 99}), MlxtraceError),
        (Pair([10**6]), TokenError),
        (Pair(CLEAN, [10**6]), TokenError),
        (Pair(CLEAN, target="Paris"), TokenError),
        (Pair(CLEAN, CORRUPTED, foil=10**6), TokenError),
    ],
)
def test_what_cannot_be_read(model, pair, kind):
    with pytest.raises(kind):
        read_pair(model, pair, reader_of(model))


def test_a_prompt_that_is_too_long_is_refused_as_ever():
    net = models.make("gpt2")
    model = mlxtrace.InterpretableModel(net)
    longest = net.args.n_positions
    read = reader_of(model)
    assert len(read([1] * longest)) == longest
    with pytest.raises(
        TokenError, match=f"has {longest + 1} tokens, but the model has embeddings for {longest}"
    ):
        read([1] * (longest + 1))


def test_every_pair_that_is_not_read_is_named(model):
    pairs = [Pair(CLEAN, id="good"), *(Pair(CLEAN, subject="Rome", id=f"bad {i}") for i in range(25))]
    check_read(model, pairs[:1], "x")
    with pytest.raises(InputError) as caught:
        check_read(model, pairs, "a.json")
    text = str(caught.value)
    assert text.startswith("a.json, not read by demo:") and "and 5 more" in text
    assert "'bad 19'" in text and "'bad 20'" not in text and "good" not in text


def test_answers_of_one_token(model):
    prompt = model.prompt(CLEAN)
    assert is_one_token(model, prompt, " Paris") and is_one_token(model, prompt, 5)
    assert not is_one_token(model, prompt, " New York City")
    assert is_one_token(model, model.prompt(list(prompt.ids)), " Paris")
