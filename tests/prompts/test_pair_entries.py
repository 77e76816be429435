"""Entries become pairs, or one error that names each of those that cannot."""

from __future__ import annotations

import json

import pytest

from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.pair_entries import COLUMNS, SHOWN, entry, parse, row
from mlxtrace.prompts.pair_fields import ALIASES, CHATS, NUMBERS

ENTRY = {"clean": "Rome is in", "corrupted": "Paris is in", "target": " Italy", "foil": " France"}
FULL = Pair(
    "Rome is in", [1, 2], " Italy", 7, "Rome", {"A": "Rome", "B": ["is", 1], "END": -1, "X": [0, 1]}, "a"
)


def only(given, **options):
    (pair,) = parse([given], "x", **options)
    return pair


def test_entries_and_numbers_for_ids():
    assert parse([ENTRY, {**ENTRY, "id": 7}, ENTRY], "x") == [
        Pair(**ENTRY, id=i) for i in ("0000", "7", "0002")
    ]
    assert only({"clean": [1, 2]}) == Pair([1, 2], id="0000")
    assert only({**ENTRY, "foil": None, "subject": None}).foil is None


@pytest.mark.parametrize("name", [name for names in ALIASES.values() for name in names])
def test_what_other_libraries_call_it(name):
    field = next(field for field, names in ALIASES.items() if name in names)
    value = {"regions": {"A": 1}, "id": "i", "answers": (" x", " y")}.get(field, "a text")
    if name in NUMBERS:
        value = [1, 2] if field in ("clean", "corrupted", "subject") or name.endswith("_ids") else 5
    if name in CHATS:
        value = [{"role": "user", "content": "a text"}]
    rest = {"clean": "c", "foil": " f"}
    made = only({**{k: v for k, v in rest.items() if k != field}, name: value})
    assert getattr(made, field) == value
    if name in (*NUMBERS, *CHATS):  # and as the text that a CSV file has
        assert only({**{k: v for k, v in rest.items() if k != field}, name: json.dumps(value)}) == made


def test_data_sets_of_others():
    """Entries as the files of EAP-IG, auto-circuit and feature circuits have them."""
    eap = {"clean": "a b", "corrupted": "a c", "correct_idx": "262", "incorrect_idx": "263"}
    assert only(eap) == Pair("a b", "a c", 262, 263, id="0000")
    auto = {"clean": "a b", "corrupt": "a c", "answers": [" x"], "wrong_answers": [" y"]}
    assert only(auto) == Pair("a b", "a c", " x", " y", id="0000")
    marks = {
        "clean_prefix": "a b",
        "patch_prefix": "a c",
        "clean_answer": " x",
        "patch_answer": " y",
        "case": "rc",
    }
    assert only(marks, fields={"case": None}) == only(auto)


@pytest.mark.parametrize(
    ("given", "target", "answers"),
    [
        ([" x", " y"], None, (" x", " y")),
        ('[" x", " y"]', None, (" x", " y")),  # as a column of text has it
        ([5, " y", [6, 7]], None, (5, " y", [6, 7])),
        ([" x"], " x", ()),
        ('[" x"]', " x", ()),
        (" x", " x", ()),
        ("[x, y]", "[x, y]", ()),  # no JSON: a text
        ("[]", "[]", ()),
    ],
)
def test_acceptable_answers(given, target, answers):
    made = only({"clean": "a", "answers": given})
    assert (made.target, made.answers) == (target, answers)
    assert parse([entry(made)], "x") == parse([row(made)], "x") == [made]


def test_a_set_of_one_is_a_target():
    with pytest.raises(InputError, match="answers has a single entry: give it as the target"):
        entry(Pair("a", answers=(" x",)))


def test_answers_of_several_tokens_by_their_ids():
    made = Pair("a", "b", [5, 6], [7, 8, 9], id="k")
    assert parse([entry(made)], "x") == parse([row(made)], "x") == [made]
    assert row(made)["target_ids"] == [5, 6] and only({"clean": "a", "foil_ids": "[7, 8]"}).foil == [7, 8]


def test_renamed_fields():
    given = {"base": "a", "source": "b", "label": " x", "split": "train", "where": [0]}
    fields = {"base": "clean", "source": "corrupted", "label": "target", "split": None, "where": "region.A"}
    assert only(given, fields=fields) == Pair("a", "b", " x", regions={"A": [0]}, id="0000")
    for wrong in ({"base": "klean"}, {1: "clean"}, "clean", {"base": 1}, {"base": "region."}):
        with pytest.raises(InputError, match="say what each of the file's names is called here"):
            parse([given], "x", wrong)


def test_regions_in_columns():
    given = {
        "clean": "a b",
        "region.A": "a",
        "region.K": '["b", 1]',
        "region.END": "-1",
        "region.X": "[0, 1]",
    }
    assert only(given).regions == {"A": "a", "K": ["b", 1], "END": -1, "X": [0, 1]}
    assert only({**given, "region.T": "true", "region.F": "1.5"}).regions["T"] == "true"
    assert only({"clean": "a", "regions": '{"A": "a"}', "region.B": 0}).regions == {"A": "a", "B": 0}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "entry 0: is int 3, not an object"),
        ({}, "entry 0: field 'clean' is missing"),
        ({**ENTRY, "clean": ""}, "entry 0: field 'clean' is ''"),
        ({**ENTRY, "target": 1.5}, "field 'target' is 1.5, not a text or a token id"),
        ({**ENTRY, "target_id": 5}, "fields 'target' and 'target_id' both say what the target is"),
        ({**ENTRY, "prompt": "x"}, "fields 'clean' and 'prompt' both say"),
        ({"clean": "a", "target_id": "five"}, "field 'target_id' is 'five', not JSON"),
        ({"clean": "a", "target_id": '"five"'}, "field 'target_id' is 'five', not numbers"),
        ({"clean": "a", "wrong_answers": ["x", "y"]}, "field 'wrong_answers' is .*: a pair has one foil"),
        ({"clean": "a", "answers": ["x", 1.5]}, "field 'answers' is 1.5, not a text or a token id"),
        ({"clean": "a", "answers": []}, "field 'answers' is an empty list"),
        ({**ENTRY, "answers": [" x", " y"]}, "fields 'target' and 'answers' both say what the target is"),
        ({**ENTRY, "answers": " x"}, "fields 'target' and 'answers' both say what the target is"),
        (
            {"clean": "a", "correct_idx": 5},
            "'correct_idx' without 'incorrect_idx' may be a token id, or a year",
        ),
        ({**ENTRY, "regions": {"A": 1.5}}, "field 'regions' has a region 'A' that is 1.5, not a text"),
        ({**ENTRY, "regions": {"A": 1}, "region.A": 2}, "region 'A' is named twice"),
        ({**ENTRY, "region.A": "[]"}, r"field 'region.A' is \[\], not a text"),
        ({**ENTRY, "id": "x", "subject": 0.5}, r"entry 0 \(id 'x'\): field 'subject' is 0.5"),
        ({**ENTRY, "tagret": " x"}, r"field 'tagret' is not known \(1 entry\); closest: target"),
        ({**ENTRY, "attribute": "x"}, "facts .* are read by mlxtrace.facts.load"),
        ({"clean;corrupted": "x"}, "columns of a CSV file are separated by commas"),
        ({**ENTRY, "case": 1}, r'leave it out with fields=\{.case.: "clean"\} or None'),
    ],
)
def test_what_is_malformed(given, says):
    with pytest.raises(InputError, match=says):
        parse([given], "x")


def test_a_year_is_a_token_only_when_that_is_said():
    given = {"clean": "a", "correct_idx": 5}
    assert only(given, fields={"correct_idx": "target_id"}).target == 5
    assert only(given, fields={"correct_idx": None}).target is None


def test_every_malformed_entry_is_named():
    bad = [
        {"clean": "a"},
        {"id": "k", "corrupted": "b", "foil": []},
        {"clean": 1.5},
        "b",
        {"clean": "a", "odd": 1},
    ]
    with pytest.raises(InputError) as caught:
        parse([*bad, {**ENTRY, "id": "k"}, {**ENTRY, "id": "0000"}], "x.json")
    lines = str(caught.value).split("\n")
    assert lines[0] == "x.json, malformed:"
    found = "\n".join(lines)
    for said in ("entry 1 (id 'k'): field 'foil' is []", "field 'clean' is missing", "entry 2: field 'clean' is 1.5",
                 "entry 3: is str", "entries 1, 5 have the same id 'k'", "entries 0, 6 have the same id '0000'",
                 "field 'odd' is not known (1 entry)"):  # fmt: skip
        assert said in found, said
    assert "entry 0" not in found and "entry 4" not in found


def test_many_malformed_entries_are_counted():
    with pytest.raises(InputError) as caught:
        parse([{"clean": 1.5, "odd": 1}] * 50 + [ENTRY], "x")
    text = str(caught.value)
    assert (
        f"entry {SHOWN - 1}:" in text and f"entry {SHOWN}:" not in text and f"and {50 - SHOWN} more" in text
    )
    assert "field 'odd' is not known (50 entries)" in text and len(text.split("\n")) < SHOWN + 6


@pytest.mark.parametrize(("given", "says"), [([], "no pairs"), ({"a": 1}, "not dict"), ("x", "not str")])
def test_what_is_no_list_of_entries(given, says):
    with pytest.raises(InputError, match=says):
        parse(given, "x")


def test_entries_and_rows_of_pairs_are_read_as_these():
    assert parse([entry(FULL)], "x") == parse([row(FULL)], "x") == [FULL]
    assert set(row(FULL)) <= set(COLUMNS)
    assert row(Pair([1], "x", 1, " y", [2, 3])) == {
        "clean_ids": [1], "corrupted": "x", "target_id": 1, "foil": " y", "subject_positions": "[2, 3]",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"foil is 1.5"):
        entry(Pair("a", foil=1.5))  # type: ignore[arg-type]
