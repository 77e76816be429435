"""Pairs of prompts: read once, with their subjects, in every form that a prompt and a subject are given in."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel, Substitution
from mlxtrace.errors import AlignmentError, EffectError, InputError, SubjectError, TokenError
from mlxtrace.experiments.pairs import pair

CLEAN = "The Eiffel Tower is located in the city of"
CORRUPTED = "The Colosseum is located in the city of"
TWICE = "The Eiffel Tower, yes the Eiffel Tower, is located in the city of"
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return InterpretableModel("demo")


def words(prompt, positions):
    return "".join(prompt.tokens[p] for p in positions).strip()


def test_the_subject_is_where_the_prompts_differ_unless_it_is_given(model):
    inferred = pair(model, CLEAN, CORRUPTED, align="ends")
    given = pair(model, CLEAN, CORRUPTED, "Eiffel Tower", align="ends")
    read = pair(model, model.prompt(CLEAN, "Eiffel Tower"), model.prompt(CORRUPTED), align="ends")
    assert words(given.clean_prompt, given.subject) == "Eiffel Tower" and given == read
    assert words(inferred.corrupted_prompt, inferred.corrupted_prompt.subject) == "Colosseum"
    assert set(inferred.subject) <= set(given.subject)


def test_an_explicit_subject_wins_over_the_prompts_own(model):
    read = model.prompt(CLEAN, "Eiffel Tower")
    assert words(read, pair(model, read, CORRUPTED, "city", align="ends").subject) == "city"


def test_a_subject_of_both_prompts_is_found_in_both(model):
    """The subjects' last tokens are paired, so each has to be the one in its own prompt."""
    made = pair(
        model, "Yes, the Eiffel Tower is in", "Eiffel Tower fans are in", "Eiffel Tower", align="ends"
    )
    other = made.corrupted_prompt
    assert words(other, other.subject) == "Eiffel Tower"
    assert (made.subject[-1], other.subject[-1]) in made.alignment.pairs


@pytest.mark.parametrize("form", ["prompt", "ids", "array"])
def test_prompts_in_any_form_give_the_same_pair(model, form):
    make = {"prompt": model.prompt, "ids": model.ids, "array": lambda x: mx.array([model.ids(x)])}[form]
    plain = pair(model, CLEAN, CORRUPTED, align="ends")
    other = pair(model, make(CLEAN), make(CORRUPTED), align="ends")
    assert (other.clean, other.corrupted, other.alignment) == (plain.clean, plain.corrupted, plain.alignment)
    assert other.subject == plain.subject and other.clean_text.endswith(plain.clean_text)


def test_a_substitution_is_its_text(model):
    assert pair(model, CLEAN, Substitution(CORRUPTED), align="ends") == pair(
        model, CLEAN, CORRUPTED, align="ends"
    )


@pytest.mark.parametrize("where", ["noise", "argument", "prompt", "noise and prompt"])
def test_noise_goes_to_the_subject_wherever_that_is_named(model, where):
    subject = "Eiffel Tower"
    noise = GaussianNoise(subject if "noise" in where else None, samples=2)
    clean = model.prompt(CLEAN, subject) if "prompt" in where else CLEAN
    made = pair(model, clean, noise, subject if where == "argument" else None)
    expected = pair(model, CLEAN, GaussianNoise(subject, samples=2))
    assert made.subject == expected.subject and made.notes == expected.notes
    assert np.array_equal(made.corrupted.noise, expected.corrupted.noise)
    assert made.corrupted.noised == tuple(made.subject) and made.alignment == expected.alignment


@pytest.mark.parametrize("subject", ["city", None])
def test_noise_and_another_subject_are_refused(model, subject):
    clean = CLEAN if subject else model.prompt(CLEAN, "city")
    with pytest.raises(SubjectError, match="'Eiffel Tower', but subject='city'"):
        pair(model, clean, GaussianNoise("Eiffel Tower", level=0.1), subject)
    with pytest.raises(SubjectError, match="needs to know the subject"):
        pair(model, CLEAN, GaussianNoise(level=0.1))


@pytest.mark.parametrize("corrupted", [CORRUPTED, GaussianNoise("Eiffel Tower", level=0.1)])
def test_a_subject_that_occurs_twice_is_noted_once(model, corrupted):
    made = pair(model, TWICE, corrupted, "Eiffel Tower", align="ends")
    assert sum("occurs 2 times" in note for note in made.notes) == 1


def test_a_pair_that_is_made_passes_through(model):
    made = pair(model, CLEAN, CORRUPTED, align="ends")
    assert pair(model, made) is made
    result = model.activation_patching(made, **QUIET)
    again = model.activation_patching(CLEAN, CORRUPTED, align="ends", **QUIET)
    assert np.array_equal(result.raw, again.raw) and result.to_rows() == again.to_rows()
    for more in ({"corrupted": CORRUPTED}, {"subject": "city"}):
        with pytest.raises(InputError, match="give the pair alone"):
            pair(model, made, **more)
    foreign = dataclasses.replace(made.clean_prompt, tokens=("x",) * len(made.clean_prompt), tokenizer=None)
    with pytest.raises(TokenError, match="another tokenizer"):
        pair(model, dataclasses.replace(made, clean_prompt=foreign))


def test_pairs_that_mean_nothing(model):
    with pytest.raises(EffectError, match="same tokens"):
        pair(model, CLEAN, model.ids(CLEAN))
    with pytest.raises(AlignmentError):
        pair(model, CLEAN, CLEAN + " the")
    with pytest.raises(TokenError):
        pair(model, CLEAN)


def test_the_direction_says_which_run_is_patched_and_where(model):
    made = pair(model, CLEAN, "The Brandenburg Gate is located in the city of", align="ends")
    assert any(p != q for p, q in made.of_clean.items())  # otherwise nothing below could be mixed up
    denoise, noise = made.roles("denoise"), made.roles("noise")
    assert (denoise.base, denoise.source) == (made.corrupted, made.clean)
    assert (noise.base, noise.source) == (made.clean, made.corrupted)
    for p, q in made.of_clean.items():
        assert (denoise.at[p], denoise.source_at[p]) == (q, p) and (noise.at[p], noise.source_at[p]) == (p, q)
    assert denoise.clean_first("base", "source") == ("source", "base")
    assert noise.clean_first("base", "source") == ("base", "source")
    for wrong in ("both", None, ["noise"]):
        with pytest.raises(InputError, match="direction="):
            made.roles(wrong)


def test_the_corrupted_prompts_own_subject_is_kept(model):
    corrupted = model.prompt("Yes, the Colosseum is located in the city of", "Yes")
    made = pair(model, CLEAN, corrupted, "Eiffel Tower", align="ends")
    assert made.corrupted_prompt is corrupted and words(corrupted, corrupted.subject) == "Yes"
    assert (made.subject[-1], corrupted.subject[-1]) in made.alignment.pairs
