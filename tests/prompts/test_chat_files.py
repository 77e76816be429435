"""Chats in files: one, two, or a pair of them; what is none is refused in one line."""

import json

import pytest

from mlxtrace.errors import LoadError, MlxtraceError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.chat_files import read_chats

CLEAN = [{"role": "user", "content": "Where is the Louvre?"}]
CORRUPTED = [{"role": "user", "content": "Where is the Colosseum?"}]


@pytest.fixture
def written(tmp_path):
    def write(*values, suffix="json"):
        paths = [tmp_path / f"{i}.{suffix}" for i in range(len(values))]
        for path, value in zip(paths, values, strict=True):
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return [str(path) for path in paths]

    return write


def test_one_chat_two_or_a_pair(written):
    assert read_chats(written(CLEAN)) == read_chats(written({"messages": CLEAN})) == Pair(CLEAN)
    assert read_chats(written(CLEAN, {"messages": CORRUPTED})) == Pair(CLEAN, CORRUPTED)
    given = {"clean": CLEAN, "corrupted": CORRUPTED, "target": "Paris", "subject": "Louvre"}
    assert read_chats(written(given)) == Pair(CLEAN, CORRUPTED, "Paris", subject="Louvre", id="0000")
    lines = "\n".join(json.dumps(one) for one in [*CLEAN, {"role": "assistant", "content": "In"}])
    assert len(read_chats(written(lines, suffix="jsonl")).clean) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["text"], "is not JSON"),
        (['"text"'], r"a chat is a list of \{"),
        ([[]], r"a chat is a list of \{"),
        ([["a"]], r"a chat is a list of \{"),
        ([[{"content": "a"}]], r"a chat is a list of \{"),
        ([CLEAN[0]], r"a chat is a list of \{"),
        ([{"messages": CLEAN, "tools": []}], r"a chat is a list of \{"),
        ([{"clean": "a", "corrupted": CORRUPTED}], "clean is no chat"),
        ([{"clean": CLEAN, "corrupted": "a"}], "corrupted is no chat"),
        ([{"clean": [1, 2]}], "a prompt is no chat"),
        ([{"clean": CLEAN, "corupted": CORRUPTED}], "'corupted' is not known"),
        ([{"clean": CLEAN, "regions": {"A": 1}}], "the regions of a chat are its turns"),
        ([CLEAN, {"clean": CLEAN}], "1.json: of two files each has a list"),
        ([CLEAN] * 3, "not 3 files"),
    ],
)
def test_what_is_no_chat(written, values, said):
    with pytest.raises(MlxtraceError, match=said):
        read_chats(written(*values))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LoadError):
        read_chats([str(tmp_path / "none.json")])
