"""Whether a model knows a fact: the first token of the attribute, and words for what it says instead."""

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
