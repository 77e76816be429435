"""What makers of tasks share."""

from __future__ import annotations

import models
import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.tasks.drawing import Drawing, differences, found, place


@pytest.fixture(scope="module", params=["bytes", "metaspace"])
def model(request):
    return model_of(["Mary", "Mar", "and"], request.param)


def test_words_of_one_token(model):
    drawing = Drawing("x", model, 1, 0)
    words = ["Mary", "Mark", "Mar", "and", "the"]
    assert drawing.one_token(words, "and") == drawing.one_token(words, "the") == ["Mary", "Mar", "and"]
    assert Drawing("x", None, 1, 0).one_token(words, "and") == words
    assert drawing.behind("and", " Mary") == [model.encode("and Mary")[-1]]
    assert drawing.behind("and Mar", "y") is None  # the two melt into one token


def test_where_a_word_stands():
    assert place("a b a", "a", 0) == "a" and place("a b a", "a", 4) == ["a", 2]
    assert place("Sarah and Sara", "Sara", 10) == ["Sara", 2]  # as `Prompt.find` counts
    assert place("1222", "22", 2) is None and place("a", "b", 0) is None
    prompt = mlxtrace.InterpretableModel("demo").prompt("Paris and Paris")
    assert (
        found(prompt, "Paris")
        == prompt.find("Paris")
        != found(prompt, ["Paris", 2])
        == prompt.find("Paris", 2)
    )


def test_differences():
    a, b, c = (
        mlxtrace.InterpretableModel(models.make("llama")).prompt(ids) for ids in ([1, 2, 3], [1, 5, 4], [1])
    )
    assert differences(a, b) == [1, 2] and differences(a, a) == [] and differences(a, c) is None


def test_as_many_different_pairs_as_were_asked():
    drawing = Drawing("x", None, 2, 0)
    drawn = [Pair("a", "b"), "are odd", Pair("a", "b", target="t"), Pair("a", "c"), Pair("d", "e")]
    assert drawing.collect(drawn, "cure") == [Pair("a", "b", id="0000"), Pair("a", "c", id="0001")]


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        ([Pair("a", "b"), "are odd", "are odd", "are wide"],
         r"x: 1 pairs can be made, not 2; 2 are odd; 1 are wide: cure; ask for n=1"),
        ([], r"x: 0 pairs can be made, not 2: cure"),
    ],
)  # fmt: skip
def test_fewer_are_an_error_that_says_how_many_and_why(drawn, says):
    with pytest.raises(InputError, match=says):
        Drawing("x", None, 2, 0).collect(drawn, "cure")


def test_what_cannot_be_asked():
    bare = mlxtrace.InterpretableModel(models.make("llama"))
    with pytest.raises(InputError, match="has no tokenizer; the task 'induction' needs none"):
        Drawing("x", bare, 1, 0)
    assert Drawing("x", bare, 1, 0, text=False).model is bare
    for model, n, seed in (("demo", 1, 0), (None, 0, 0), (None, 1, -1), (None, 1, 2**32), (None, "1", 0)):
        with pytest.raises(InputError):
            Drawing("x", model, n, seed)
    with pytest.raises(InputError):
        Drawing("x", None, 1, 0).number("length", 1, 2)
    assert str(Drawing("x", None, 1, 0).refusal("why")) == "x: why"
