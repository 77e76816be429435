"""What is saved comes back, every field of every pair in every format; what a format does not hold is refused."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import InterpretableModel, prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair, columns, pair_formats
from mlxtrace.prompts.pair_formats import SUFFIXES

HARD = [
    Pair("a", id="only clean"),
    Pair(
        ' leading "quotes", commas\r\nlines\r\tÜ 東京 ▁\u2028',
        " b ",
        " Paris",
        "\n",
        "quotes",
        {"IO": " M"},
        "ü",
    ),
    Pair([0, 5, 7], [0, 6, 7], 5, 0, [1, 2], {"A": 0, "B": [1, 2], "END": -1, "x y,z": ["t", 2]}, "ids"),
    Pair("2+2=", "2+3=", "4", "5", 0, {"END": [-1]}, "7"),
    Pair("=SUM(A1)", "@x", "[1]", "null", "SUM", {}, "-1"),
    Pair(
        [{"role": "system", "content": "Ü\n"}, {"role": "user", "content": "東京", "name": "A"}],
        [{"role": "user", "content": "a"}],
        id="chats",
    ),
    Pair("'quoted", None, " true", None, None, {"R": "[1, 2]", "S": "-1"}, "0001"),
]


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_every_field_comes_back(tmp_path, suffix):
    path = prompts.save(HARD, tmp_path / f"a{suffix}")
    back = prompts.load(path)
    assert back == HARD
    assert [[type(v) for v in vars(pair).values()] for pair in back] == [
        [type(v) for v in vars(pair).values()] for pair in HARD
    ]
    assert prompts.save(back, tmp_path / f"b{suffix}").read_bytes() == path.read_bytes()


def test_one_by_one_too(tmp_path, suffix):
    """A column that only one pair has, or none, changes nothing."""
    for pair in HARD:
        assert prompts.load(prompts.save(pair, tmp_path / f"a{suffix}")) == [pair]


def test_pairs_without_ids_have_their_numbers(tmp_path, suffix):
    pairs = [Pair("a"), Pair("b", id="x"), Pair("c")]
    assert [p.id for p in prompts.load(prompts.save(pairs, tmp_path / f"a{suffix}"))] == ["0000", "x", "0002"]


def test_other_kinds_of_positions_come_back_as_lists(tmp_path, suffix):
    pair = Pair(
        mx.array([1, 2, 3]), np.array([1, 2, 4]), np.int64(3), 4, range(1, 3), {"A": ("t", 1), "B": (0, 1)}
    )
    (back,) = prompts.load(prompts.save([pair], tmp_path / f"a{suffix}"))
    assert back == Pair([1, 2, 3], [1, 2, 4], 3, 4, [1, 2], {"A": ["t", 1], "B": [0, 1]}, "0000")


def test_bundled_tasks_come_back(tmp_path, suffix):
    for task in ("facts", "ioi", "greater_than", "gender", "induction"):
        pairs = prompts.load(task, n=8)
        assert prompts.load(prompts.save(pairs, tmp_path / f"{task}{suffix}")) == pairs


def test_half_a_character(tmp_path, suffix):
    path, pair = tmp_path / f"a{suffix}", Pair("a\ud800b", id="x")
    if suffix in (".json", ".jsonl"):
        assert prompts.load(prompts.save([pair], path)) == [pair]
    else:
        with pytest.raises(InputError, match=f"a {suffix} file does not hold these pairs"):
            prompts.save([pair], path)
        assert not path.exists()
    with pytest.raises(InputError, match="does not hold"):  # which JSON would make one character of
        prompts.save([Pair("\ud83d\ude00", id="x")], path)


def test_a_number_that_parquet_has_not(tmp_path):
    pytest.importorskip("pyarrow")
    pair = Pair("a", target=2**70, id="x")
    with pytest.raises(InputError, match="does not hold these pairs"):
        prompts.save(pair, tmp_path / "a.parquet")
    assert prompts.load(prompts.save(pair, tmp_path / "a.csv")) == [pair]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], "there are no pairs"),
        (["a"], "a list of Pair is saved, not 'a'"),
        ("ab", "a list of Pair is saved"),
        (
            [Pair("a"), Pair("", target=1.5), Pair("c", foil=[])],
            r"pair 1: clean is ''.*\n.*pair 2: foil is \[\]",
        ),
        ([Pair("a", id="x"), Pair("b", id="x")], "entries 0, 1 have the same id 'x'"),
        ([Pair("a"), Pair("b", id="0000")], "the same id '0000'"),
        ([Pair("a", regions={"A": 1.5})], "pair 0: regions has a region 'A' that is 1.5"),
        ([Pair("")] * 30, "and 10 more"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(tmp_path, suffix, pairs, says):
    path = tmp_path / f"a{suffix}"
    path.write_text("as before")
    with pytest.raises(InputError, match=says):
        prompts.save(pairs, path)
    assert path.read_text() == "as before" and len(list(tmp_path.iterdir())) == 1


def test_a_prompt_of_a_model_is_no_text(tmp_path):
    with pytest.raises(InputError, match="is a Prompt"):
        prompts.save([Pair(InterpretableModel("demo").prompt("The Louvre"))], tmp_path / "a.json")


def test_places_that_are_none(tmp_path):
    for path in (tmp_path / "a.txt", tmp_path, tmp_path / "none" / "a.json", 5):
        with pytest.raises(InputError):
            prompts.save(HARD, path)


def test_what_would_be_read_otherwise_is_refused(tmp_path, monkeypatch):
    """Whatever a format does to a text is seen before the file is there."""
    monkeypatch.setitem(pair_formats.TABLES, ".csv", (lambda data, source: [
        {name: cell.strip() for name, cell in row.items()} for row in columns.csv_rows(data, source)
    ], columns.csv_bytes))  # fmt: skip
    with pytest.raises(InputError, match="does not hold pair 1 as it is"):
        prompts.save([Pair("a"), Pair("a", target=" b")], tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_without_pyarrow(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(columns.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install pyarrow"):
        prompts.save(HARD, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_json_is_a_list_that_others_can_read(tmp_path):
    path = prompts.save([Pair("a ü", "b", target=" x", id="i")], tmp_path / "a.json")
    assert json.loads(path.read_text()) == [{"clean": "a ü", "corrupted": "b", "target": " x", "id": "i"}]
    assert "ü" in path.read_text()
