"""One pair or many, as users write them: what a set is, what is asked of each pair, one error for all wrong ones."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel, Substitution
from mlxtrace.errors import AlignmentError, EffectError, InputError, SubjectError, TokenError
from mlxtrace.experiments.grid import grid_of
from mlxtrace.experiments.pair_sets import each, grids_of, is_many, named, read_pairs, read_prompts
from mlxtrace.prompts import Pair

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8, 77], [3, 17, 66, 12, 41, 8, 77]
LONG, LONG_CORRUPTED = [3, 5, 9, 14, 8, 77, 6, 2], [3, 7, 9, 14, 8, 77, 6, 2]
EIFFEL, COLOSSEUM = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.mark.parametrize(
    ("given", "many"),
    [
        ("text", False),
        (["text"], True),
        ([], True),
        (["a", "b"], True),
        ([5, 6, 7], False),
        ((5, 6, 7), False),
        (range(3), False),
        ([np.int64(5), np.int64(6)], False),
        ([[5, 6, 7]], False),
        ([[5, 6, 7], [8, 9]], True),
        (mx.array([5, 6]), False),
        (mx.array([[5, 6]]), False),
        (mx.array([[5, 6], [7, 8]]), True),
        (np.array([[5, 6], [7, 8]]), True),
        (Pair("a", "b"), False),
        ([Pair("a", "b")], True),
    ],
)
def test_what_is_a_set(given, many):
    assert is_many(given) is many


def test_a_pair_by_itself_and_a_list_of_one(model):
    alone, one = read_pairs(model, Pair(CLEAN, CORRUPTED)), read_pairs(model, [Pair(CLEAN, CORRUPTED)])
    assert alone.alone and not one.alone
    assert alone.pairs[0].clean == one.pairs[0].clean and one.ids == ["0"]


def test_every_way_to_write_a_set_is_the_same_set(model):
    pairs = [Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)]
    ways = [
        read_pairs(model, pairs),
        read_pairs(model, tuple(pairs)),
        read_pairs(model, [CLEAN, LONG], [CORRUPTED, LONG_CORRUPTED]),
        read_pairs(model, [CLEAN, LONG], [Substitution(CORRUPTED), Substitution(LONG_CORRUPTED)]),
    ]
    for way in ways:
        assert [p.clean.ids for p in way.pairs] == [tuple(CLEAN), tuple(LONG)]
        assert [p.corrupted.ids for p in way.pairs] == [tuple(CORRUPTED), tuple(LONG_CORRUPTED)]
        assert way.ids == ["0", "1"] and not way.alone
    batch = read_pairs(model, mx.array([CLEAN, CLEAN[::-1]]), np.array([CORRUPTED, CORRUPTED[::-1]]))
    assert [p.corrupted.ids for p in batch.pairs] == [tuple(CORRUPTED), tuple(CORRUPTED[::-1])]


def test_what_is_asked_of_each(model):
    pairs = [
        Pair(CLEAN, CORRUPTED, target=7, id="a"),
        Pair(CLEAN, CORRUPTED, regions={"X": [2, 3], "END": -1}),
    ]
    made = read_pairs(model, pairs, foil=[1, 2])
    assert made.targets == [7, None] and made.foils == [1, 2] and made.ids == ["a", "1"]
    assert made.pairs[1].regions == {"X": (2, 3), "END": (6,)} and made.pairs[0].regions == {}
    shared = read_pairs(model, [CLEAN, LONG], [CORRUPTED, LONG_CORRUPTED], subject=[2, 3], target=5)
    assert [p.subject for p in shared.pairs] == [range(2, 4)] * 2, "a list of numbers is positions, for all"
    apart = read_pairs(model, [CLEAN, LONG], [CORRUPTED, LONG_CORRUPTED], subject=[[2, 3], range(1, 2)])
    assert [p.subject for p in apart.pairs] == [range(2, 4), range(1, 2)] and shared.targets == [5, 5]


def test_noise_for_all_or_one_for_each(model):
    noise = GaussianNoise(level=0.5, samples=2)
    made = read_pairs(model, [CLEAN, LONG], noise, subject=[[2, 3], [1]])
    assert [p.corrupted.noised for p in made.pairs] == [(2, 3), (1,)]
    given = read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)], noise, subject=[[2], [1]])
    assert [p.corrupted.noised for p in given.pairs] == [(2,), (1,)], (
        "pairs that name no subject take the call's"
    )
    own = read_pairs(model, [Pair(CLEAN, CORRUPTED, subject=[4])], noise)
    assert own.pairs[0].corrupted.noised == (4,), "noise in the place of the corrupted prompt"
    two = read_pairs(model, [CLEAN, LONG], [GaussianNoise([1], 0.5), GaussianNoise([2], 0.5)])
    assert [p.corrupted.noised for p in two.pairs] == [(1,), (2,)]


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda m: read_pairs(m, []), InputError, "the set is empty"),
        (lambda m: read_pairs(m, CLEAN, [CORRUPTED, LONG]), InputError, "several corrupted prompts"),
        (lambda m: read_pairs(m, [CLEAN, LONG], CORRUPTED), InputError, "2 clean prompts but one corrupted"),
        (
            lambda m: read_pairs(m, [CLEAN, LONG], [CORRUPTED, LONG, LONG]),
            InputError,
            "3 entries for 2 pairs",
        ),
        (lambda m: read_pairs(m, [CLEAN, LONG]), InputError, "no corrupted prompt"),
        (
            lambda m: read_pairs(m, [Pair(CLEAN, CORRUPTED)], [CORRUPTED]),
            InputError,
            "has its corrupted prompt",
        ),
        (lambda m: read_pairs(m, [("The Louvre", "Rome is")]), InputError, "neither a prompt nor a pair"),
        (lambda m: read_pairs(m, [{"clean": CLEAN}]), InputError, "neither a prompt nor a pair"),
        (lambda m: read_pairs(m, iter([Pair(CLEAN, CORRUPTED)])), InputError, "neither a prompt nor a pair"),
        (lambda m: read_pairs(m, [Pair(CLEAN, CORRUPTED)], "mlp"), InputError, "by name, such as component="),
        (lambda m: read_pairs(m, Pair(CLEAN, CORRUPTED), ["mlp", "attn"]), InputError, "such as component="),
        (
            lambda m: read_pairs(m, [Pair(CLEAN, CORRUPTED, target=3)], target=4),
            InputError,
            "the pair has its own",
        ),
        (
            lambda m: read_pairs(m, [Pair(CLEAN, CORRUPTED, id="x")] * 2),
            InputError,
            "two pairs have the id 'x'",
        ),
        (
            lambda m: read_pairs(m, [Pair(CLEAN, CORRUPTED)], target=[1, 2]),
            InputError,
            "target has 2 entries for 1",
        ),
        (lambda m: read_pairs(m, [Pair(CLEAN, LONG)]), AlignmentError, "clean prompt has 7 tokens"),
        (lambda m: read_pairs(m, [Pair(CLEAN, CLEAN)]), EffectError, "same tokens"),
        (lambda m: read_prompts(m, []), InputError, "the set is empty"),
    ],
)
def test_what_cannot_be_meant(model, call, kind, said):
    with pytest.raises(kind, match=said):
        call(model)


def test_prompts_that_do_not_line_up_have_their_cure(demo):
    with pytest.raises(AlignmentError, match=r'one \d+\. Mend .* align="ends"; prompts'):
        read_pairs(demo, [Pair(EIFFEL, "Rome is in the city of"), Pair(EIFFEL, COLOSSEUM)])


def test_one_error_names_every_pair_that_is_wrong(demo):
    pairs = [
        Pair(EIFFEL, COLOSSEUM),
        Pair(EIFFEL, "Rome is in the city of"),
        Pair(EIFFEL, COLOSSEUM, subject="Louvre"),
    ]
    with pytest.raises(InputError) as caught:
        read_pairs(demo, pairs)
    assert "2 of 3 pairs" in str(caught.value)
    assert "pair 1: The clean prompt has" in str(caught.value) and "pair 2: The subject" in str(caught.value)
    assert "prompts.suitable" in str(caught.value)
    with pytest.raises(SubjectError, match="1 of 3 pairs cannot be used: pair 2"):
        read_pairs(demo, [pairs[0], Pair(COLOSSEUM, EIFFEL), pairs[2]])
    many = [Pair(EIFFEL, "Rome is", id=f"p{i}") for i in range(9)]
    with pytest.raises(AlignmentError) as caught:
        read_pairs(demo, [*many, Pair(EIFFEL, COLOSSEUM)])
    assert "9 of 10" in str(caught.value) and "and 6 more" in str(caught.value)


def test_what_is_wrong_with_the_question_is_said_once():
    def read(i):
        raise TokenError("no such answer")

    with pytest.raises(TokenError, match=r"^no such answer$"):
        each(["a", "b"], False, read)


def test_copies_are_said(model):
    made = read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)])
    assert len(made.notes) == 1 and "1 of 3 pairs (1) is a copy" in made.notes[0]
    assert read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)]).notes == []
    assert named(list("abcde"), list("abcdefg")) == "5 of 7 pairs (a, b, c and 2 more)"


def test_each_position_needs_one_length(model):
    made = read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)])
    grid = grid_of(model, "mlp")
    with pytest.raises(InputError, match=r"1 of 7, 1 of 8 tokens.*regions"):
        grids_of(model, made, grid, "each")
    grids = grids_of(model, made, grid, "regions")
    assert [g.places.axis for g in grids] == ["region"] * 2


def test_numbers_that_mean_other_tokens_in_other_prompts_are_said(model):
    made = read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(LONG, LONG_CORRUPTED)])
    grid = grid_of(model, "mlp")
    for grids in (grids_of(model, made, grid, 2), grids_of(model, made, grid, [2, 3])):
        assert all("prompts of 7 to 8 tokens" in g.places.notes[0] for g in grids)
    for positions in (-1, "last", None, "subject"):
        assert not any(g.places.notes for g in grids_of(model, made, grid, positions))
    same = read_pairs(model, [Pair(CLEAN, CORRUPTED), Pair(CLEAN[::-1], CORRUPTED[::-1])])
    assert not any(g.places.notes for g in grids_of(model, same, grid, 2))


def test_prompts_of_pairs_are_their_clean_ones(model):
    made = read_prompts(model, [Pair(CLEAN, CORRUPTED, target=4), LONG])
    assert [p.clean.ids for p in made.pairs] == [tuple(CLEAN), tuple(LONG)] and made.targets == [4, None]
    assert read_prompts(model, CLEAN).alone
