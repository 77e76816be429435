"""Whether a model knows a fact: all tokens of the attribute, and words for what it says instead."""

from __future__ import annotations

import numpy as np
import pytest
from mlxtrace.facts import Fact

import mlxtrace
from mlxtrace.prompts.known import read_known

PROMPT = "The Eiffel Tower is in"


@pytest.fixture(scope="module")
def model(llama_folder):
    return mlxtrace.InterpretableModel(llama_folder)


@pytest.fixture(scope="module")
def says(model):
    return model.token_to_str(int(np.array(model.run_with_cache(PROMPT, [])[0][0, -1]).argmax()))


def test_what_it_says_is_known(model, says):
    found = read_known(model, Fact("Eiffel Tower", PROMPT, says.strip() or says))
    prompt, why = found.prompt, found.why
    assert why == "" and list(prompt.ids) == model.encode(PROMPT)
    assert prompt.subject == model.subject_range(PROMPT, "Eiffel Tower")


def test_another_attribute_is_not_known_and_it_is_said(model, says):
    found = read_known(model, Fact("Eiffel Tower", PROMPT, "Berlin"))
    prompt, why = found.prompt, found.why
    assert prompt is None and why.startswith("the model says ") and why.endswith('not "Berlin"')


def test_a_fact_that_cannot_be_read_says_why(model, says):
    attribute = says.strip() or says
    for fact, word in (
        (Fact("Louvre", PROMPT, attribute), "Louvre"),
        (Fact("x", "x \ud800", attribute), "surrogate"),
    ):
        found = read_known(model, fact)
        assert found.prompt is None and word in found.why


LIBERTY = "The Statue of Liberty is located in the city of"


@pytest.fixture(scope="module")
def demo():
    return mlxtrace.InterpretableModel("demo")


def test_an_attribute_of_several_tokens_is_known_when_all_of_it_is_said(demo):
    found = read_known(demo, Fact("Statue of Liberty", LIBERTY, "New York"))
    assert found.why == "" and found.answer == demo.answer_tokens(" New York", LIBERTY)
    assert len(found.answer) == 4 and demo.decode(found.answer) == " New York"
    one = read_known(demo, Fact("Eiffel Tower", "The Eiffel Tower is located in the city of", "Paris"))
    assert one.why == "" and one.answer is None  # its top token is all of it


@pytest.mark.parametrize("attribute", ["New Delhi", "New York City", "New Yonkers"])
def test_its_first_tokens_alone_are_not_enough_unless_asked(demo, attribute):
    fact = Fact("Statue of Liberty", LIBERTY, attribute)
    found = read_known(demo, fact)
    assert found.prompt is None and found.why.startswith('the model says " New Y')
    assert found.why.endswith(f'not "{attribute}"')
    first = read_known(demo, fact, first_token=True)
    assert first.why == "" and first.answer is None and first.prompt is not None
    assert read_known(demo, Fact("Statue of Liberty", LIBERTY, "Rome"), first_token=True).prompt is None


def test_there_is_room_for_the_attribute_or_it_is_said(demo, monkeypatch):
    longest = len(demo.encode(LIBERTY)) + 2
    monkeypatch.setattr(type(demo), "_longest", lambda self: longest)
    found = read_known(demo, Fact("Statue of Liberty", LIBERTY, "New York"))
    assert found.prompt is None and f"embeddings for {longest} positions" in found.why


def test_where_the_tokenizer_leaves_the_first_token_open_the_text_decides(demo, monkeypatch):
    """As where the prompt ends in a space, and an answer's own tokens are not to be had."""

    def refused(*given):
        raise mlxtrace.errors.TokenError("it melts into the prompt")

    monkeypatch.setattr(type(demo), "answer_tokens", refused)
    tokens = tuple(demo.encode(LIBERTY + " New York")[len(demo.encode(LIBERTY)) :])
    assert read_known(demo, Fact("Statue of Liberty", LIBERTY, "New York")).answer == tokens
    other = read_known(demo, Fact("Statue of Liberty", LIBERTY, "New Yonkers"))
    assert other.prompt is None and other.why == 'the model says " New Yor", not "New Yonkers"'
    assert (
        read_known(demo, Fact("Statue of Liberty", LIBERTY, "New Yonkers"), first_token=True).answer is None
    )
    assert read_known(demo, Fact("Statue of Liberty", LIBERTY, "Old York")).prompt is None
