"""Links between processes: sums, one that dies or fails ends all, and who says so. Processes without MLX, so quick."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mlxtrace.prompts import links
from mlxtrace.prompts.links import Places

PROGRAM = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("links", sys.argv[1])
links = importlib.util.module_from_spec(spec)
spec.loader.exec_module(links)
links.GRACE, links.START = 1.0, float(os.environ.get("START", 60))
mine = links.join()
def end(signal):
    os.kill(os.getpid(), signal)
"""
DIED = "mlxtrace: rank {} " + links.DIED + "; the run ends on every rank\n"


def ports(n):
    """Addresses of this machine that nobody listens at."""
    held = [socket.socket() for _ in range(n)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    [one.close() for one in held]
    return found


def run(tmp_path, n, body, star=False, only=None, **env):
    """The status, the output and the errors of each of n processes that run the same lines."""
    where = ports(n)
    if star:
        (tmp_path / "devices.json").write_text(json.dumps([[None] * n] * n))
        host, port = where[0].split(":")
        env |= {
            "MLX_JACCL_COORDINATOR": f"{host}:{int(port) - 1}",
            "MLX_IBV_DEVICES": str(tmp_path / "devices.json"),
        }
    else:
        (tmp_path / "hosts.json").write_text(json.dumps([[one] for one in where]))
        env |= {"MLX_HOSTFILE": str(tmp_path / "hosts.json")}
    started = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", PROGRAM + body, links.__file__],
            env={"PATH": os.environ["PATH"], "MLX_RANK": str(rank), **env},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (range(n) if only is None else only)
    ]  # fmt: skip
    told = [one.communicate(timeout=60) for one in started]
    return [(one.returncode, *texts) for one, texts in zip(started, told, strict=True)]


@pytest.mark.parametrize("star", [False, True])
def test_sums_of_all(tmp_path, star):
    body = "print([mine.total(10 ** mine.rank), mine.total(1)], mine.size)"
    for status, out, err in run(tmp_path, 3, body, star):
        assert (status, out, err) == (0, "[111, 3] 3\n", "")


@pytest.mark.parametrize(("star", "victim"), [(False, 0), (False, 1), (False, 3), (True, 0), (True, 2)])
def test_one_that_is_killed_ends_all(tmp_path, star, victim):
    """In a chain of four, and where all are linked to the first; nobody waits, and one rank says it."""
    body = f"mine.total(1)\nif mine.rank == {victim}: end(signal.SIGKILL)\ntime.sleep(50)"
    before = time.monotonic()
    found = run(tmp_path, 4, body, star)
    assert time.monotonic() - before < 45
    assert [status for status, _, _ in found] == [-signal.SIGKILL if i == victim else 1 for i in range(4)]
    speaker = 1 if victim == 0 else 0
    assert [err for _, _, err in found] == [DIED.format(victim) if i == speaker else "" for i in range(4)]


def test_an_exception_on_one_ends_all(tmp_path):
    body = "mine.total(1)\nif mine.rank == 2: raise OSError(28, 'No space left')\ntime.sleep(50)"
    found = run(tmp_path, 3, body)
    assert [status for status, _, _ in found] == [1, 1, 1]
    said = "mlxtrace: rank 2 failed: OSError: [Errno 28] No space left; the run ends on every rank\n"
    assert (
        found[0][2] == said
        and found[1][2] == ""
        and found[2][2].endswith("OSError: [Errno 28] No space left\n")
    )


def test_of_the_first_nobody_says_it_again(tmp_path):
    found = run(tmp_path, 3, "if mine.rank == 0: raise OSError('full')\ntime.sleep(50)")
    assert [status for status, _, _ in found] == [1, 1, 1]
    assert found[0][2].endswith("OSError: full\n") and [err for _, _, err in found[1:]] == ["", ""]


def test_what_fails_on_all_is_said_by_the_first(tmp_path):
    body = "sys.stderr.write('bad\\n' * (mine.rank == 0))\nsys.exit(mine.fail('bad', 2))"
    found = run(tmp_path, 4, body)
    assert found == [(2, "", "bad\n"), *[(2, "", "")] * 3]
    body = "if mine.rank == 1: sys.exit(mine.fail('a folder is missing', 2))\ntime.sleep(50)"
    found = run(tmp_path, 2, body)
    said = "mlxtrace: rank 1 failed: a folder is missing; the run ends on every rank\n"
    assert found == [(2, "", said), (2, "", "")]


def test_one_that_is_done_ends_nobody_but_takes_part_in_no_sum(tmp_path):
    body = "if mine.rank == 0:\n time.sleep(0.5)\n print('on')"
    assert [(status, err) for status, _, err in run(tmp_path, 3, body)] == [(0, "")] * 3
    found = run(tmp_path, 2, "if mine.rank == 0: mine.total(1)")
    assert found[0][0] == 1 and "rank 1 has left the run before the others" in found[0][2]


def test_one_that_waits_in_a_pass_for_one_that_has_left(tmp_path):
    """It would for ever; one that does something else goes on."""
    body = "links.PASSES, links.STUCK = ('<string>',), 0.4\nif mine.rank == 0: time.sleep(50)"
    found = run(tmp_path, 3, body)
    said = links.LEFT.format(0)
    assert found[0] == (1, "", f"mlxtrace: rank 1 {said}; the run ends on every rank\n")
    assert found[1:] == [(0, "", "")] * 2
    body = "links.STUCK = 0.2\nif mine.rank == 0:\n time.sleep(1)\n print('on')"
    assert run(tmp_path, 2, body) == [(0, "on\n", ""), (0, "", "")]


def test_one_that_does_not_come(tmp_path):
    [(status, _, err)] = run(tmp_path, 2, "", only=[1], START="0.5")
    assert status == 1 and "rank 1 has waited" in err and "for rank 0, which has not started" in err
    [(status, _, err)] = run(tmp_path, 2, "", only=[0], START="0.5")
    assert status == 1 and "for rank 1" in err


def test_where_each_listens(tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.1.2:5002"], ["10.0.2.3:5003"]]))
    found = [Places({"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)}) for rank in range(3)]
    assert [one.size for one in found] == [3, 3, 3] and found[0].listens is None
    assert found[0].calls == {1: ("10.0.1.2", 5002)} and found[1].listens == ("10.0.1.2", 5002)
    assert found[1].hears == [0] and found[1].calls == {2: ("10.0.2.3", 5003)} and not found[2].calls
    nccl = Places({"MLX_RANK": "2", "NCCL_HOST_IP": "10.0.0.1", "NCCL_PORT": "7000", "MLX_WORLD_SIZE": "4"})
    assert (nccl.size, nccl.calls, nccl.listens) == (4, {0: ("10.0.0.1", 7001)}, None)
    hosts.write_text("")  # as mlx.launch -n 1 leaves it
    for env in ({}, {"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)}, {"OMPI_COMM_WORLD_RANK": "1"}):
        assert Places(env).size == 1


def test_a_process_alone_has_none(monkeypatch):
    for name in ("MLX_RANK", "MLX_HOSTFILE", "MLX_JACCL_COORDINATOR", "NCCL_HOST_IP"):
        monkeypatch.delenv(name, raising=False)
    assert links.join() is None
