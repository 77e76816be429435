"""Gender pairs against the templates of Vig et al. 2020."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts.tasks.pronouns import FEMALE, MALE, TEMPLATES
from mlxtrace.text.regions import regions_of

PUBLISHED = """
The {} said that|The {} yelled that|The {} whispered that|The {} wanted that|The {} desired that|The {} wished that
The {} ate because|The {} ran because|The {} drove because|The {} slept because|The {} cried because
The {} laughed because|The {} went home because|The {} stayed up because|The {} was fired because
The {} was promoted because|The {} yelled because
"""
PUBLISHED = re.split(r"[|\n]", PUBLISHED.strip())
VERBS = {template: template.removeprefix("The {} ").rpartition(" ")[0] for template in PUBLISHED}
WORDS = [
    "The",
    "man",
    "woman",
    "he",
    "she",
    "that",
    "because",
    "nurse",
    "teacher",
    "doctor",
    "captain",
    "boss",
]


def template_of(text: str, word: str) -> str:
    (found,) = [template for template in PUBLISHED if template.format(word) == text]
    return found


def check(pair) -> str:
    """The pair is the paper's set-gender intervention; its profession."""
    word = pair.regions["PROFESSION"]
    template = template_of(pair.clean, word)
    if word in ("nurse", "teacher", "secretary", "dancer", "clerk"):
        assert (pair.target, pair.foil, pair.corrupted) == (" she", " he", template.format("man"))
    else:
        assert (pair.target, pair.foil, pair.corrupted) == (" he", " she", template.format("woman"))
        assert word in ("doctor", "captain", "boss", "soldier", "officer")
    assert pair.subject == word and pair.regions["VERB"] == VERBS[template] and pair.regions["END"] == -1
    return word


def test_the_published_templates():
    assert list(TEMPLATES) == PUBLISHED and len(PUBLISHED) == 17
    pair = next(p for p in prompts.load("gender", n=170) if p.clean == "The nurse said that")
    assert (pair.corrupted, pair.target, pair.foil) == ("The man said that", " she", " he")


def test_all_pairs_without_a_model_half_of_each_kind():
    pairs = prompts.load("gender", n=170, seed=2)
    words = Counter(check(pair) for pair in pairs)
    assert len(words) == 10 and set(words.values()) == {17} and len({p.clean for p in pairs}) == 170
    assert Counter(p.target for p in prompts.load("gender", n=20)) == {" she": 10, " he": 10}
    with pytest.raises(
        InputError,
        match="170 pairs can be made, not 171: 10 professions are common, in 17 templates; ask for n=170",
    ):
        prompts.load("gender", n=171)
    assert prompts.load("gender", seed=1) == prompts.load("gender", seed=1) != prompts.load("gender", seed=2)


def test_stereotypes_are_not_definitions():
    assert not set(FEMALE) & set(MALE) and len(set(FEMALE)) == len(FEMALE) and len(set(MALE)) == len(MALE)
    defined = {
        "actress",
        "waitress",
        "nun",
        "policeman",
        "fireman",
        "waiter",
        "monk",
        "dad",
        "businesswoman",
        "maid",
    }
    assert not defined & {*FEMALE, *MALE}


@pytest.mark.parametrize("style", ["bytes", "metaspace"])
def test_words_are_one_token_and_regions_stand_where_they_should(style):
    model = model_of(WORDS, style)
    pairs = prompts.load("gender", model=model, n=85)
    assert Counter(check(pair) for pair in pairs) == dict.fromkeys(
        ["nurse", "teacher", "doctor", "captain", "boss"], 17
    )
    assert Counter(p.target for p in pairs[:68]) == {" she": 34, " he": 34}
    for pair in pairs:
        clean, corrupted = model.prompt(pair.clean), model.prompt(pair.corrupted)
        regions = regions_of(clean, pair.regions)
        (at,), (end,) = regions["PROFESSION"], regions["END"]
        assert clean.tokens[at].strip() == pair.subject and end == len(clean) - 1
        assert [i for i, (a, b) in enumerate(zip(clean.ids, corrupted.ids, strict=True)) if a != b] == [at]
        assert at < regions["VERB"][0] <= regions["VERB"][-1] < end
        assert "".join(clean.tokens[i] for i in regions["VERB"]).strip() == pair.regions["VERB"]
    with pytest.raises(
        InputError, match=r"85 pairs can be made, not 86: .*5 professions are one token for this"
    ):
        prompts.load("gender", model=model, n=86)


def test_a_tokenizer_without_the_words():
    for missing in ("she", "woman"):
        with pytest.raises(InputError, match=f"'{missing}' must be one token behind a space"):
            prompts.load("gender", model=model_of([word for word in WORDS if word != missing]))
    with pytest.raises(InputError, match="0 pairs can be made"):
        prompts.load("gender", model=model_of(WORDS[:7]))
    with pytest.raises(InputError):
        prompts.load("gender", model=mlxtrace.InterpretableModel("demo"))
