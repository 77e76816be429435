"""Pairs of facts: same sentence, another subject of as many tokens, and both answers verified."""

from __future__ import annotations

import numpy as np
import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import facts, prompts
from mlxtrace.errors import InputError

KNOWN = {fact.prompt: fact for fact in facts.load()}


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("demo")


def check(pair):
    clean, other = KNOWN[pair.clean], KNOWN[pair.corrupted]
    assert clean.relation == other.relation and clean.attribute != other.attribute
    assert (
        pair.clean.replace(clean.subject, other.subject, 1) == pair.corrupted
        and pair.subject == clean.subject
    )
    assert (pair.target, pair.foil) == (f" {clean.attribute}", f" {other.attribute}") and not pair.regions
    return other


def test_both_answers_are_the_models_own(model):
    pairs = prompts.load("facts", model=model, n=64)
    for pair in pairs:
        other = check(pair)
        clean, corrupted = model.prompt(pair.clean, pair.subject), model.prompt(pair.corrupted, other.subject)
        assert len(clean) == len(corrupted) and clean.subject == corrupted.subject
    assert len({pair.clean for pair in pairs}) == 64 and len({len(model.prompt(p.clean)) for p in pairs}) > 3
    assert len({KNOWN[pair.clean].relation for pair in pairs}) > 5
    assert len(prompts.suitable(model, pairs, "top")) == len(prompts.suitable(model, pairs)) == 64
    for pair in pairs[::16]:
        for text, answer in ((pair.clean, pair.target), (pair.corrupted, pair.foil)):
            top = int(np.array(model.run_with_cache(text, [])[0])[0, -1].argmax())
            assert model.token_to_str(top) == answer


def test_the_seed_draws(model):
    draw = lambda seed, n=5: prompts.load("facts", model=model, n=n, seed=seed)  # noqa: E731
    assert draw(1) == draw(1) != draw(2) and draw(1, 3) == draw(1)[:3]


def test_without_a_model():
    pairs = prompts.load("facts", n=300)
    for pair in pairs:
        other = check(pair)
        assert len(other.subject.split()) == len(pair.subject.split())
        assert " " not in pair.target.strip() and " " not in pair.foil.strip()
    assert len({pair.clean for pair in pairs}) == 300
    with pytest.raises(
        InputError, match=r"facts: \d+ pairs can be made, not 753; .*: write pairs .*; ask for n=\d+"
    ):
        prompts.load("facts", n=753)


def test_facts_that_are_read_but_not_known_are_left_out():
    """A random model whose tokenizer has every answer as one token says other things."""
    answers = {fact.attribute for fact in facts.load() if fact.attribute.isalpha()}
    with pytest.raises(InputError, match=r"facts: \d pairs can be made, not 16; 7\d\d facts are not known"):
        prompts.load("facts", model=model_of(sorted(answers)), n=16)


def test_all_that_there_are(model):
    """Asked for too many, the error says how many there are."""
    with pytest.raises(InputError) as caught:
        prompts.load("facts", model=model, n=753)
    text = str(caught.value)
    n = int(text.split()[1])
    assert 300 < n < 753 and f"ask for n={n}" in text and "facts are not known to the model" in text
    assert "known facts have no other subject" in text
