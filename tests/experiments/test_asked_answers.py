"""The tokens of the answers of a pair, what is run behind the prompts for them, and what cannot be."""

import models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError, MlxtraceError, TokenError, UnsupportedError
from mlxtrace.experiments import asked_answers
from mlxtrace.experiments.asked_answers import Asked, asked_of
from mlxtrace.experiments.pair_sets import AnyOf, read_pairs
from mlxtrace.experiments.pairs import pair
from mlxtrace.prompts import Pair

CLEAN, CORRUPTED = [3, 17, 5, 90], [3, 17, 66, 90]


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama"))


@pytest.fixture(scope="module")
def made(model):
    return pair(model, CLEAN, CORRUPTED)


@pytest.mark.parametrize(
    ("target", "foil", "contexts"),
    [
        (((5, 6, 7),), (5, 6, 8), [(5, 6)]),
        (((5, 6, 7),), (5,), [(5, 6)]),
        (((5, 6, 7),), (9,), [(5, 6)]),
        (((5, 6, 7),), (9, 10), [(5, 6), (9,)]),
        (((9, 10),), (5, 6, 7), [(9,), (5, 6)]),
        (((5,),), (5, 6, 7), [(5, 6)]),
        (((5, 6), (8, 7), (9,)), None, [(5,), (8,)]),
        (((5,), (6,)), None, [()]),
        (None, None, [()]),
    ],
)
def test_one_run_serves_all_answers_that_it_begins(target, foil, contexts):
    assert list(Asked(target, foil).contexts) == contexts


def test_answers_of_one_token_are_scored_as_ever(model, made):
    assert asked_of(model, made, 5, (6,)) is None and asked_of(model, made, None, None) is None
    assert asked_of(model, made, AnyOf((5,)), None).target == ((5,),)
    assert asked_of(model, made, [5, 6], 7) == Asked(((5, 6),), (7,))


@pytest.mark.parametrize(
    ("target", "foil", "error", "says"),
    [
        (AnyOf((5, 5)), None, InputError, "same tokens"),
        (AnyOf(((5, 6), 5)), None, InputError, "begins with"),
        ([5, 6], AnyOf((5, 7)), InputError, "foil is one answer"),
        ([5, 10**6], None, TokenError, "1000000"),
        ([], None, TokenError, "no tokens"),
        ([" a", " b"], None, TokenError, "answers="),
    ],
)
def test_answers_that_cannot_be_scored(model, made, target, foil, error, says):
    with pytest.raises(error, match=says):
        asked_of(model, made, target, foil)


def test_an_answer_that_does_not_fit_behind_the_prompt(made):
    short = InterpretableModel(models.make("gpt2", n_positions=5, n_ctx=5))
    if short.resolver.structure.max_length != 5:
        pytest.skip("this version of mlx-lm sets no such limit")
    here = pair(short, CLEAN, CORRUPTED)
    assert asked_of(short, here, [5, 6], None).contexts == ((5,),)
    with pytest.raises(TokenError, match="first 2 tokens of the answer"):
        asked_of(short, here, [5, 6, 7], None)


def test_a_model_that_sees_later_tokens_is_refused(model, made, monkeypatch):
    monkeypatch.setattr(asked_answers, "is_causal", lambda model: False)
    with pytest.raises(UnsupportedError, match="later tokens"):
        asked_of(model, made, [5, 6], None)
    assert asked_of(model, made, AnyOf((5, 6)), None).contexts == ((),)


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ({"answers": [5, [6, 7]]}, [AnyOf((5, (6, 7)))] * 2),
        ({"answers": [[" a", " b"], [" c"]]}, [AnyOf((" a", " b")), AnyOf((" c",))]),
        ({"target": [5, 6]}, [5, 6]),
        ({"target": [[5, 6], 7]}, [[5, 6], 7]),
    ],
)
def test_a_list_for_a_set_is_one_for_each_pair(model, given, targets):
    made = read_pairs(model, [CLEAN, CORRUPTED], [CORRUPTED, CLEAN], **given)
    assert made.targets == targets


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"answers": [[5, 6], [7, 8]]}, "could be"),
        ({"answers": [[" a"]]}, "1 lists for 2 pairs"),
        ({"answers": []}, "empty"),
        ({"answers": " a"}, "is a list"),
        ({"answers": [5], "target": 6}, "takes the place"),
        ({"target": [5, 6, 7]}, "3 entries for 2 pairs"),
        ({"target": models.mx.array([5, 6])}, "array"),
    ],
)
def test_what_could_mean_two_things_is_refused(model, given, says):
    with pytest.raises(InputError, match=says):
        read_pairs(model, [CLEAN, CORRUPTED], [CORRUPTED, CLEAN], **given)


def test_a_pair_has_answers_of_its_own(model):
    own = Pair(CLEAN, CORRUPTED, answers=[5, 6])
    assert read_pairs(model, own).targets == [AnyOf((5, 6))] == read_pairs(model, [own]).targets
    for given in ({"target": 5}, {"answers": [7]}):
        with pytest.raises(MlxtraceError, match=r"its own, 5 or 6"):
            read_pairs(model, own, **given)
    with pytest.raises(InputError, match="takes the place"):
        read_pairs(model, Pair(CLEAN, CORRUPTED, target=5, answers=[6]))
