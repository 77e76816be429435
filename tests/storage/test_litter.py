"""Half-written files: those of the dead go, all others stay."""

from __future__ import annotations

import multiprocessing
import os

from mlxtrace import storage
from mlxtrace.storage import litter


def test_litter_is_removed_and_nothing_else(tmp_path):
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    place = litter._place()
    stale = [
        f".mlxtrace-{place}-{dead.pid}-0123abcd.part",
        ".old.npz.0123abcd.part",
        ".mlxtrace-00000000-1-0123abcd.part",
    ]
    kept = [
        f".mlxtrace-{place}-{os.getpid()}-0123abcd.part",
        ".young.npz.0123abcd.part",
        ".film.part",
        "x.part",
    ]
    for name in stale + kept:
        (tmp_path / name).write_text("")
    for name in [*stale[1:], ".film.part", "x.part"]:
        os.utime(tmp_path / name, (0, 0))
    storage.remove_litter(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
