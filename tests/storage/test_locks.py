"""Locks: one at a time where the file system has them, and a word when it has none."""

from __future__ import annotations

import threading
import time

from mlxtrace.storage import locked, locks


def test_one_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        with locked(tmp_path) as alone:
            assert alone
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == [1] * 8


def test_without_locks_nobody_waits_and_it_is_said(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert (first, second) == (False, False)


def test_the_lock_ends_with_an_error(tmp_path):
    for _ in range(2):
        try:
            with locked(tmp_path):
                raise ValueError
        except ValueError:
            continue
