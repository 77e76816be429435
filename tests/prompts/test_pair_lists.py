"""Lists of pairs: names, what is no list of pairs, and pairs as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import mlx.core as mx
import pytest

import mlxtrace
from mlxtrace import GaussianNoise
from mlxtrace.errors import InputError
from mlxtrace.prompts.pair_lists import digest_of, fields_of, named
from mlxtrace.text.pair import Pair

PAIR = Pair("The Louvre is in", "The Colosseum is in", " Paris", regions={"END": -1, "is": ["is", 1]})


def test_pairs_without_a_name_have_their_number():
    found = named([PAIR, replace(PAIR, id="b"), "Hello", [3, 4]])
    assert [pair.id for pair in found] == ["0000", "b", "0002", "0003"]
    assert found[2].clean == "Hello" and found[2].corrupted is None and found[0].regions == PAIR.regions
    assert named(PAIR) == [replace(PAIR, id="0000")]
    assert named(iter([PAIR]))[0].clean == PAIR.clean
    assert len(named([PAIR] * 10_001)[0].id) == 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"clean": "x"}, "list of pairs"),
        (None, "list of pairs"),
        (3, "list of pairs"),
        ([], "no pairs"),
        ([None], "entry 0 is None"),
        ([PAIR, {"clean": "x"}], "entry 1"),
        ([replace(PAIR, id=3)], "id 3"),
        ([PAIR, replace(PAIR, regions={"X": 1.5})], "entry 1 has a region 'X' that is 1.5"),
        ([replace(PAIR, regions={"X": ["is", "in"]})], "not a text and which"),
        ([replace(PAIR, id="0001"), PAIR], "'0001'"),
    ],
)
def test_what_is_no_list_of_pairs(given, says):
    with pytest.raises(InputError, match=says):
        named(given)


def test_one_corruption_for_all():
    noise = GaussianNoise(subject="Louvre")
    assert named(["The Louvre is in"], noise)[0].corrupted is noise
    with pytest.raises(InputError, match="entry 0 has a corrupted prompt of its own"):
        named([PAIR], noise)


def test_fields_are_json_and_tell_pairs_apart():
    model = mlxtrace.InterpretableModel("demo")
    read = model.prompt("The Louvre is in", subject="Louvre")
    noise = GaussianNoise(subject="Louvre", seed=3)
    pairs = [
        PAIR,
        replace(PAIR, target=" Rome"),
        replace(PAIR, foil=" Rome"),
        replace(PAIR, id="x"),
        replace(PAIR, regions={"END": -2}),
        replace(PAIR, subject="Louvre"),
        replace(PAIR, clean=read),
        replace(PAIR, clean=read.with_subject(" is")),
        replace(PAIR, clean=mx.array([3, 4])),
        replace(PAIR, corrupted=noise),
        replace(PAIR, corrupted=replace(noise, seed=4)),
    ]
    told = [json.dumps(fields_of(pair), sort_keys=True) for pair in pairs]
    assert len(set(told)) == len(pairs) and "0x" not in "".join(told)
    assert (
        fields_of(pairs[6])["prompt"] == "The Louvre is in" and fields_of(pairs[8])["prompt"] == "ids [3, 4]"
    )


def test_pairs_without_acceptable_answers_are_those_of_older_folders():
    pair = Pair("The Louvre is in", "The Colosseum is in", " Paris", 7, "Louvre", {"A": [0, 1]}, "a")
    assert digest_of([pair]) == "b737f93cd9a75ea8"
    assert digest_of([replace(pair, target=None, answers=(" Paris",))]) != digest_of(
        [replace(pair, target=None)]
    )
