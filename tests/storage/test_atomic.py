"""Files that are written whole or not at all, through links and pipes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import mlx.core as mx
import pytest

from mlxtrace import ActivationCache, storage
from mlxtrace.errors import LoadError
from mlxtrace.storage import write_atomic


def test_a_file_keeps_its_mode_and_a_new_one_has_the_default(tmp_path):
    before = os.umask(0o027)
    try:
        new = storage.write_atomic(tmp_path / "new", b"1")
        assert stat.S_IMODE(new.stat().st_mode) == 0o640
        mx.eval(x := mx.ones(3))
        ActivationCache({("output", "a"): x}, {}).save(tmp_path / "cache")
        assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    new.chmod(0o604)
    assert stat.S_IMODE(storage.write_atomic(new, b"2").stat().st_mode) == 0o604 and new.read_bytes() == b"2"
    link = tmp_path / "link"
    link.symlink_to("new")
    storage.write_atomic(link, b"3")
    assert link.is_symlink() and new.read_bytes() == b"3"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "link", "new"]


def test_what_is_no_regular_file_is_written_through_to(tmp_path):
    assert storage.write_csv("/dev/null", [{"a": 1}]) == Path("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    storage.write_atomic(pipe, b"x" * 100_000)
    reader.join()
    assert got == [b"x" * 100_000] and stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(LoadError, match="no regular file"):  # and does not wait for a writer
        storage.load_arrays(pipe, "x")


def test_standard_output_that_goes_to_a_log_is_added_to(tmp_path):
    (tmp_path / "out.csv").symlink_to("/dev/stdout")
    code = "from mlxtrace import storage as s; print('before'); s.write_csv('/dev/stdout', [{'a': 1}]); "
    code += f"s.write_atomic({str(tmp_path / 'out.csv')!r}, b'through a link\\n'); print('after')"
    log = tmp_path / "log"
    with open(log, "w") as opened:
        opened.write("old\n")
        opened.flush()
        subprocess.run([sys.executable, "-c", code], stdout=opened, check=True)
    assert log.read_text().splitlines() == ["old", "before", "a", "1", "through a link", "after"]
    assert (tmp_path / "out.csv").is_symlink()


def test_names_of_the_longest_kind_can_be_written(tmp_path):
    for name in ("x" * 255, "é" * 127):
        storage.write_atomic(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    path = tmp_path / "kept.npz"
    write_atomic(path, b"old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["kept.npz"]
