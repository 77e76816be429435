"""Other subjects of the same length: each gives another answer, and the surest of the same relation come first."""

from __future__ import annotations

import importlib
import json
from itertools import pairwise

import models
import numpy as np
import pytest

import mlxtrace
from mlxtrace import facts, metrics, prompts
from mlxtrace.errors import InputError, SubjectError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.fact_files import DEMO
from mlxtrace.prompts.substitutes import SURE

PROMPT, SUBJECT = "The Eiffel Tower is in the city of", "Eiffel Tower"
FACTS = json.loads(DEMO.read_text())["facts"]


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("demo")


@pytest.fixture(scope="module")
def found(model):
    return model.substitutes(PROMPT, SUBJECT)


def says(model, text):
    p = metrics.softmax(np.array(model.run_with_cache(text, [])[0])[0, -1])
    return int(p.argmax()), float(p.max())


def test_each_is_verified_by_a_run_of_its_own(model, found):
    top, _ = says(model, PROMPT)
    assert len(found) > 20 and len(set(found)) == len(found) and SUBJECT not in found
    for subject in found[::8]:
        text = PROMPT.replace(SUBJECT, subject)
        other, sure = says(model, text)
        assert len(model.prompt(text)) == len(model.prompt(PROMPT)) and other != top and sure >= SURE - 1e-4
    pairs = [Pair(PROMPT, PROMPT.replace(SUBJECT, s), id=s) for s in found]
    assert len(prompts.suitable(model, pairs)) == len(pairs)


def test_landmarks_come_first_and_the_surest_of_them(model, found):
    relations = {fact["relation"] for fact in FACTS if fact["subject"] == SUBJECT}
    same = {fact["subject"] for fact in FACTS if fact["relation"] in relations}
    first = [subject in same for subject in found]
    assert first == sorted(first, reverse=True) and 10 < sum(first) < len(first)
    sure = [says(model, PROMPT.replace(SUBJECT, s))[1] for s in found[: sum(first) : 5]]
    assert all(a > b - 1e-4 for a, b in pairwise(sure))


def test_by_the_answer_where_the_subject_is_not_known(model):
    """A subject that no fact is about: those whose relation has the answer come first."""
    prompt = "The Tower Eiffel is in the city of"
    answer = model.token_to_str(says(model, prompt)[0]).strip()
    relations = {fact["relation"] for fact in FACTS if fact["attribute"].split()[0] == answer}
    same = {fact["subject"] for fact in FACTS if fact["relation"] in relations}
    first = [s in same for s in model.substitutes(prompt, "Tower Eiffel")]
    assert relations and first == sorted(first, reverse=True) and any(first)


SAID = {  # probabilities of three tokens; of the prompt as it is [0.5, 0.3, 0.2]
    "Berlin": [0.1, 0.7, 0.2],
    "London": [0.1, 0.1, 0.8],
    "Madrid": [0.6, 0.3, 0.1],  # the same answer
    "Rome": [0.4, 0.3, 0.3],  # the same, less surely
    "Vienna": [0.05, 0.19, 0.18],  # another, but hardly (the rest is elsewhere)
    "Oslo": [0.5, 0.51, 0.0],  # another, but as likely as before
}


def test_what_is_kept_and_in_which_order(model, monkeypatch):
    """With runs that say what they are told to: by how sure another answer is, relations first."""
    module = importlib.import_module("mlxtrace.prompts.substitutes")

    def fake(model, asked, of):
        texts = [prompt.text.removesuffix(" is in the country of") for prompt in asked]
        return [of(i, np.array(SAID.get(text, [0.5, 0.3, 0.2]))) for i, text in enumerate(texts)]

    monkeypatch.setattr(module, "of_each", fake)
    names = [name for name in SAID if len(model.encode(name)) == len(model.encode("Paris"))]
    assert set(names) == set(SAID)
    assert model.substitutes("Paris is in the country of", "Paris", SAID) == ["London", "Berlin"]
    answer = model.token_to_str(0)
    known = [facts.Fact(s, "{} is", a, r) for s, a, r in (
        ("London", "x", "other"), ("Berlin", answer, "answered"), ("Paris", "y", "ours"), ("Madrid", "y", "ours"),
    )]  # fmt: skip
    monkeypatch.setattr(module, "load", lambda: known)
    assert model.substitutes("Paris is in the country of", "Paris") == ["Berlin", "London"]
    known += [facts.Fact("London", "{} is", "z", "ours")]
    assert model.substitutes("Paris is in the country of", "Paris") == ["London", "Berlin"]


def test_candidates_of_ones_own(model):
    given = [
        "Colosseum",
        "Louvre Museum",
        "Nowhere At All",
        SUBJECT,
        "eiffel tower",
        " Colosseum ",
        "Big Ben",
    ]
    top, _ = says(model, PROMPT)
    length = len(model.prompt(PROMPT))
    fitting = [s for s in ("Colosseum", "Big Ben") if len(model.prompt(PROMPT.replace(SUBJECT, s))) == length]
    fitting = [s for s in fitting if says(model, PROMPT.replace(SUBJECT, s))[0] != top]
    assert sorted(model.substitutes(PROMPT, SUBJECT, given)) == sorted(fitting) and "Colosseum" in fitting
    assert model.substitutes(PROMPT, SUBJECT, candidates=(s for s in ["Colosseum"])) == ["Colosseum"]


def test_the_subject_in_every_form(model):
    where, given = model.prompt(PROMPT, SUBJECT).subject, ["Colosseum", "Times Square"]
    found = model.substitutes(PROMPT, SUBJECT, given)
    assert sorted(found) == given
    for prompt, subject in ((PROMPT, where), (PROMPT, list(where)), (model.prompt(PROMPT, SUBJECT), None),
                            (PROMPT, f" {SUBJECT}"), (model.prompt(PROMPT, where), None)):  # fmt: skip
        assert model.substitutes(prompt, subject, given) == found


def test_only_the_occurrence_that_is_meant_is_replaced(model):
    prompt = "Paris is in Europe. Paris is in the country of"
    other = next(
        s for s in ("Berlin", "London", "Madrid") if len(model.encode(s)) == len(model.encode("Paris"))
    )
    module = importlib.import_module("mlxtrace.prompts.substitutes")
    second = model.prompt(prompt).find("Paris", 2)
    for subject, text in (("Paris", f"{other} is in Europe. Paris is in the country of"),
                          (second, f"Paris is in Europe. {other} is in the country of")):  # fmt: skip
        made = module._fitting(model, model.prompt(prompt, subject), "Paris", [other])
        assert [(name, read.text) for name, read in made] == [(other, text)]


def test_when_there_is_none_what_was_tried_is_said(model):
    with pytest.raises(InputError) as caught:
        model.substitutes(PROMPT, SUBJECT, ["Louvre Museum", "x y z w v u"])
    text = str(caught.value)
    assert "of 2 subjects 1 have its 3 tokens there, 0 of these another answer than ' Paris'" in text
    assert text.endswith("candidates=[...]")


def test_what_cannot_be_asked(model):
    with pytest.raises(InputError, match="give the prompt's text"):
        model.substitutes(model.encode(PROMPT), range(2, 5))
    with pytest.raises(SubjectError, match="which part of"):
        model.substitutes(PROMPT)
    with pytest.raises(SubjectError, match="does not occur"):
        model.substitutes(PROMPT, "Colosseum")
    for wrong in ("Colosseum", [], [5], [" "], 7):
        with pytest.raises(InputError, match="candidates"):
            model.substitutes(PROMPT, SUBJECT, wrong)
    with pytest.raises(InputError, match="give the prompt's text"):
        mlxtrace.InterpretableModel(models.make("llama")).substitutes([1, 2, 3], [1])


def test_a_model_that_knows_nothing(llama_folder):
    """Random weights: what is found holds, or nothing is found and that is said."""
    model = mlxtrace.InterpretableModel(llama_folder)
    try:
        found = model.substitutes("The Louvre Museum is located in the city of", "Louvre Museum")
    except InputError as error:
        assert "no substitute for 'Louvre Museum'" in str(error)
    else:
        assert all(says(model, f"The {s} is located in the city of")[1] >= SURE - 1e-4 for s in found[:5])
