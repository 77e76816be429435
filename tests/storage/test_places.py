"""Places that are looked at before any work is done."""

from __future__ import annotations

import pytest
from test_patching_result import full

from mlxtrace import storage
from mlxtrace.errors import InputError
from mlxtrace.storage import write_atomic


@pytest.mark.parametrize(
    "name",
    [
        "x" * 300,
        "é" * 200,
        "a/b",
        "",
        "x\0y",
        "\ud800",
        "x" * 5000,
        "loop",
        "folder",
        "file/x",
        "folder/../no/x",
    ],
)
def test_places_that_cannot_be_written_to_are_refused_beforehand(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        storage.writable(f"{tmp_path}/{name}" if name else "")
    if name not in ("a/b", "", "folder", "folder/../no/x"):
        with pytest.raises(InputError):
            storage.writable_folder(f"{tmp_path}/{name}")


def test_where_nothing_can_be_written(tmp_path):
    for bad in (tmp_path, tmp_path / "missing" / "a.npz"):
        with pytest.raises(InputError, match="folder"):
            write_atomic(bad, b"")
    for nameless in (None, 3, "", "a\0.npz"):
        with pytest.raises(InputError, match="named by"):
            write_atomic(nameless, b"")
        with pytest.raises(InputError, match="named by"):
            full().save(nameless)
