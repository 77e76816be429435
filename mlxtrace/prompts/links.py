"""TCP links between the processes of one run: one that fails, or dies, ends all of them, with a message.

MLX's own connections wait for ever for a machine that is gone, and a process that is not in a sum when another one
dies does not hear of it. So each process also holds a link to its neighbours, which the system closes when a process
dies, and which looks after the machine at the other end while nothing is said.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

START, GRACE, LINGER = 60.0, 5.0, 8.0  # seconds: until all are there; to fail by oneself; to be heard
STUCK = 20.0  # seconds in one call of MLX, for one that has left
KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPALIVE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
}  # by system; 20 seconds
DIED = "has ended without a word: its process was killed, or ran out of memory, or its machine is gone"
LEFT = "has come to its end, while rank {} waits for it in a pass: all ranks make the same calls"
PASSES = (str(Path(__file__).parents[1]), "mlx_lm")  # whose code a process is in that waits
Address = tuple[str, int]


class Places:
    """Who listens where, by the variables that `mlx.launch` sets. size is 1 where it has not, or does not say.

    A ring is a chain: each listens at its own address in the hostfile, for the one before it, as neighbours may be
    all that its cables reach. Elsewhere the first listens for all, beside the port that MLX has there.
    """

    def __init__(self, env: Mapping[str, str]):
        self.rank, self.size = int(env.get("MLX_RANK") or 0), 1
        self.listens: Address | None = None
        self.calls: dict[int, Address] = {}
        self.hears: list[int] = []
        if env.get("MLX_HOSTFILE"):
            text = Path(env["MLX_HOSTFILE"]).read_text()
            self._chain([one[0] for one in json.loads(text)] if text.strip() else [])
        elif env.get("MLX_JACCL_COORDINATOR") and env.get("MLX_IBV_DEVICES"):
            devices = json.loads(Path(env["MLX_IBV_DEVICES"]).read_text())
            self._star(len(devices), env["MLX_JACCL_COORDINATOR"])
        elif env.get("NCCL_HOST_IP") and env.get("MLX_WORLD_SIZE"):
            self._star(int(env["MLX_WORLD_SIZE"]), f"{env['NCCL_HOST_IP']}:{env.get('NCCL_PORT') or 12345}")

    def _chain(self, hosts: list[str]) -> None:
        self.size = max(1, len(hosts))
        if self.rank > 0:
            self.listens, self.hears = address(hosts[self.rank]), [self.rank - 1]
        if self.rank + 1 < self.size:
            self.calls = {self.rank + 1: address(hosts[self.rank + 1])}

    def _star(self, size: int, first: str) -> None:
        self.size, (host, port) = size, address(first)
        if self.rank == 0:
            self.listens, self.hears = (host, port + 1), list(range(1, size))
        else:
            self.calls = {0: (host, port + 1)}


def address(text: str) -> Address:
    """ "10.0.0.1:5000" -> ("10.0.0.1", 5000)."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def connected(places: Places) -> dict[int, socket.socket]:
    """A link to each neighbour, by its rank; a TimeoutError where one does not come."""
    until, found = time.monotonic() + START, {}
    caller = threading.Thread(target=lambda: found.update(_call(places, until)), daemon=True)
    caller.start()
    if places.listens is not None:
        found.update(_hear(places, until))
    caller.join()
    missing = sorted({*places.calls, *places.hears} - set(found))
    if missing:
        raise TimeoutError(
            f"rank {places.rank} has waited {START:.0f} s for rank {missing[0]}, which has not started, has ended, or "
            "loads no model with shard= (all ranks run the same program)"
        )
    for link in found.values():
        link.settimeout(None)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return found


def _hear(places: Places, until: float) -> dict[int, socket.socket]:
    """The links of those who call; they hear of it once nobody listens any more, as MLX will at the same address."""
    found: dict[int, socket.socket] = {}
    assert places.listens is not None
    with socket.socket() as listener:
        for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listener.bind(places.listens)
        listener.listen()
        while len(found) < len(places.hears) and time.monotonic() < until:
            listener.settimeout(max(0.1, until - time.monotonic()))
            with contextlib.suppress(OSError, ValueError):
                link, _ = listener.accept()
                link.settimeout(5)
                word, number = link.recv(64).decode().split()
                if word == "mlxtrace" and int(number) in places.hears:
                    found[int(number)] = link
    for link in found.values():
        link.sendall(b"mlxtrace\n")
    return found


def _call(places: Places, until: float) -> dict[int, socket.socket]:
    """The links to those who listen, however late they start."""
    found: dict[int, socket.socket] = {}
    for rank, where in places.calls.items():
        while rank not in found and time.monotonic() < until:
            with contextlib.suppress(OSError):
                link = socket.create_connection(where, timeout=5)
                link.sendall(f"mlxtrace {places.rank}\n".encode())
                link.settimeout(max(0.1, until - time.monotonic()))
                if link.recv(9) == b"mlxtrace\n":
                    found[rank] = link
                    break
            time.sleep(0.1)
    return found


class Links:
    """What holds the processes of a run together. rank, size: of this process, and how many there are.

    sockets: to the neighbours, by rank; the lower one leads to rank 0, which alone speaks for all.
    """

    def __init__(self, rank: int, size: int, sockets: dict[int, socket.socket]):
        self.rank, self.size, self._sockets = rank, size, sockets
        self._news = threading.Condition()
        self._sums: dict[int, queue.Queue] = {neighbour: queue.Queue() for neighbour in sockets}
        self._left: set[int] = set()  # neighbours that have said why they end
        self._closed: set[int] = set()
        self._over: dict[str, Any] | None = None
        self._first_fails = self._failing = False
        for neighbour in sockets:
            threading.Thread(target=self._listen, args=(neighbour,), daemon=True).start()

    def total(self, number: int) -> int:
        """The sum of a number over all processes, once every one of them has given its own."""
        up, down = [x for x in self._sockets if x < self.rank], [x for x in self._sockets if x > self.rank]
        for one in down:
            number += self._sum_of(one)
        for one in up:
            self._send(one, sum=number)
            number = self._sum_of(one)
        for one in down:
            self._send(one, sum=number)
        return number

    def fail(self, why: str, status: int) -> int:
        """Tell all that this process cannot go on, and wait until it was heard; the exit status."""
        with self._news:
            self._failing = True
            self._news.notify_all()
        self._send_all(failed=self.rank, why=why, status=status)
        up = min(self._sockets)
        with self._news:
            if self.rank == 0:
                self._news.wait_for(lambda: self._closed == set(self._sockets), LINGER)
            else:
                self._news.wait_for(lambda: self._first_fails or up in self._closed, LINGER)
        return status

    def leave(self) -> None:
        """This process ends, and nothing is wrong."""
        if not self._failing:
            self._send_all(left=self.rank)

    # ---- what others say

    def _listen(self, neighbour: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._sockets[neighbour].makefile("rb"):
                self._heard(json.loads(line), neighbour)
        with self._news:
            self._closed.add(neighbour)
            self._news.notify_all()
        if neighbour not in self._left:
            self._told({"failed": neighbour, "why": DIED, "status": 1, "died": True}, neighbour)

    def _heard(self, said: dict[str, Any], neighbour: int) -> None:
        if "sum" in said:
            self._sums[neighbour].put(said["sum"])
            return
        self._left.add(neighbour)
        self._sums[neighbour].put(None)
        if "left" in said:
            threading.Thread(target=self._wait_for_nobody, args=(neighbour,), daemon=True).start()
        if "failed" in said:
            with self._news:
                self._first_fails = self._first_fails or said["failed"] == 0
                self._news.notify_all()
            threading.Thread(target=self._told, args=(said, neighbour), daemon=True).start()

    def _told(self, failure: dict[str, Any], neighbour: int) -> None:
        """End this process, unless it fails by itself, as it does when all are given the same bad input."""
        died, rank = bool(failure.get("died")), failure["failed"]
        with self._news:
            if self._over is not None and (self._over.get("died") or not died):
                return
            self._over = failure
        self._send_all(but=neighbour, **failure)
        with self._news:
            if not died:
                self._news.wait_for(lambda: self._failing, GRACE)
            failing = self._failing
        speaker = 1 if rank == 0 else 0
        if self.rank == speaker and (
            died or not (failing or rank == 0)
        ):  # the first says itself why it fails
            words = failure["why"] if died else f"failed: {failure['why']}"
            os.write(2, f"mlxtrace: rank {rank} {words}; the run ends on every rank\n".encode())
        if not failing:
            self._send_all(left=self.rank)
            os._exit(failure["status"])

    def _wait_for_nobody(self, neighbour: int) -> None:
        """End the run when this process waits in a pass for one that has left, as MLX would for ever."""
        main, before, since = threading.main_thread().ident, None, time.monotonic()
        while self._over is None and not self._failing:
            frame = sys._current_frames().get(main or 0)
            within = frame is not None and any(part in frame.f_code.co_filename for part in PASSES)
            here = (id(frame), frame.f_lasti) if frame is not None and within else None
            if here is None or here != before:
                before, since = here, time.monotonic()
            elif time.monotonic() - since > STUCK:
                failure = {"failed": neighbour, "why": LEFT.format(self.rank), "status": 1, "died": True}
                self._told(failure, neighbour)
            time.sleep(0.2)

    def _sum_of(self, neighbour: int) -> int:
        found = self._sums[neighbour].get()
        if found is None:
            with self._news:  # where the run is over, `_told` ends this process meanwhile, and says why
                self._news.wait_for(lambda: self._failing, GRACE + 2)
            raise RuntimeError(f"rank {neighbour} has left the run before the others")
        return found

    def _send_all(self, but: int | None = None, **said: Any) -> None:
        for neighbour in self._sockets:
            if neighbour != but:
                self._send(neighbour, **said)

    def _send(self, neighbour: int, **said: Any) -> None:
        with contextlib.suppress(OSError):  # who is gone is noticed by who listens
            self._sockets[neighbour].sendall(json.dumps(said).encode() + b"\n")


# ---- those of this process

_mine: Links | None = None


def join() -> Links | None:
    """The links of this process, made when it is first asked for; None where it was started by itself, or by MPI."""
    global _mine
    places = Places(os.environ)
    if _mine is None and places.size > 1:
        _mine = Links(places.rank, places.size, connected(places))
        _mine.total(1)  # nobody listens any more, where MLX's rings will
        atexit.register(_mine.leave)
        sys.excepthook = _failing(sys.excepthook, _mine)
    return _mine


def _failing(before: Callable[..., Any], links: Links) -> Callable[..., Any]:
    """What Python calls for an exception that nothing has caught: all ranks hear of it."""

    def hook(kind: type[BaseException], value: BaseException, trace: Any) -> None:
        before(kind, value, trace)
        links.fail(" ".join(f"{kind.__name__}: {value}".split())[:500], 1)

    return hook
