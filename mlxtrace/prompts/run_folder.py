"""The files of a run over facts: settings, a trace for each fact and kind, what was skipped, and the averages.

Everything is written whole or not at all. A folder belongs to one model, one set of facts and one set of settings.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, LoadError
from ..experiments.causal_trace import CausalTrace
from ..storage import create, named, plain, regular, remove_litter, writable_folder, write_atomic
from .averages import AverageTrace, average_traces

if TYPE_CHECKING:
    from .facts import Fact

KIND_NAMES = {None: "state", "mlp": "mlp", "attn": "attn"}
SETTINGS = "settings.json"
FORMAT = 2  # of the folder; 1 named files otherwise, and knew weights by the first numbers of each array
PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}")  # ids that are file names, and on every file system another
HASHED = re.compile(r".*-[0-9a-f]{16}")


def digest(value: Any) -> str:
    """A short hash of a value that JSON can hold."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Folder:
    """The files of one run over facts; `settings` is None when a folder is only read."""

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any] | None = None, model: str = ""):
        self.path, self.model = named(path).expanduser(), model
        self.traces, self.settings = self.path / "traces", plain(settings)
        self.hash = None if settings is None else digest(settings)

    # ---- settings

    def make(self) -> None:
        """Make the folder, empty, unless it is there; InputError when it cannot be, or leads elsewhere."""
        writable_folder(self.path)
        writable_folder(self.traces)
        try:
            self.traces.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out={str(self.path)!r} cannot be made: {error}") from error
        if not self._is_inside(self.traces):
            raise InputError(
                f"{self.traces} is a link that leads out of the folder: remove it, or choose another"
            )

    def begin(self) -> None:
        """Write down the settings, unless that was done before; whoever is first wins, and the others are refused."""
        self.make()
        for folder in (self.path, self.traces):
            remove_litter(folder)
        with locked(self.path):
            if not self._is_begun():
                for path in sorted(self.traces.glob("*.npz")):
                    self._is_ours(path)
                (self.path / SETTINGS).unlink(missing_ok=True)
                told = {"format": FORMAT, "hash": self.hash, "model": self.model, "settings": self.settings}
                create(self.path / SETTINGS, (json.dumps(told, indent=1) + "\n").encode())

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path))

    def _own(self, path: Path) -> Path:
        """A path in the folder to write to: a link out of it, or a pipe in the file's place, is removed first."""
        if os.path.lexists(path) and not (self._is_inside(path) and path.is_file()) and not path.is_dir():
            path.unlink()
        return path

    def _is_begun(self) -> bool:
        """Whether there are settings that can be read; damaged ones count as none."""
        if not os.path.lexists(self.path / SETTINGS):
            return False
        try:
            self.begun()
        except LoadError:
            return False
        return True

    def _is_ours(self, path: Path) -> None:
        """InputError when the settings are lost and a trace is there that was made with others."""
        try:
            made_with = CausalTrace.load(path).settings.get("hash")
        except LoadError:
            return  # it is made again
        if made_with != self.hash:
            raise InputError(
                f"{self.path} has no readable {SETTINGS}, and traces of other settings, such as {path.name}: "
                "choose another folder"
            )

    def check(self) -> None:
        """InputError when the folder was begun with other settings, naming each that differs."""
        there = self.begun()
        if there["hash"] == self.hash and there["format"] == FORMAT:
            return
        if there["format"] < FORMAT:
            raise InputError(
                f"{self.path} was begun by an earlier mlxtrace, which told models apart by the first numbers of each "
                "array only: choose another folder (facts.averages still reads this one)"
            )
        before, now = there["settings"], self.settings
        names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        words = {"weights": "the model's weights", "facts": "the facts"}
        told = [
            f"{words[n]} differ" if n in words else f"{n} is {before.get(n)!r} there and {now.get(n)!r} here"
            for n in names
        ]
        raise InputError(
            f"{self.path} was begun with other settings ({there.get('model')}): {'; '.join(told)}. "
            "Choose another folder, or the same settings"
        )

    def begun(self) -> dict[str, Any]:
        """What settings.json says; LoadError when there is none, or it is damaged."""
        try:
            return _checked(_read(self.path / SETTINGS))
        except LoadError as error:
            raise LoadError(f"{self.path} is no folder of traces: {error}") from error

    # ---- facts

    def name(self, id: str) -> str:
        """A file name for a fact, another for every id, also where case or accents make no difference.

        The id itself, or what can be kept of it and a hash. Folders of format 1 had other names.
        """
        if PLAIN.fullmatch(id) and not HASHED.fullmatch(id):
            return id
        hashed = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9_]', '_', id)[:60]}-{hashed[:16]}"

    def trace_path(self, id: str, kind: str | None) -> Path:
        return self.traces / f"{self.name(id)}.{KIND_NAMES[kind]}.npz"

    def trace(self, id: str, kind: str | None) -> CausalTrace | None:
        """The trace that is there; None when there is none, its file is damaged, or it is of another fact or kind."""
        path = self.trace_path(id, kind)
        try:
            found = CausalTrace.load(path)
        except LoadError:
            return None
        if _key(found) != (id, kind) or not _complete(found):
            return None
        if self.hash is not None and found.settings.get("hash") != self.hash:
            raise InputError(f"{path} was made with other settings: remove it")
        return found

    def save(self, id: str, kind: str | None, trace: CausalTrace) -> None:
        """Write a fact's trace, whole or not at all."""
        trace.save(self._own(self.trace_path(id, kind)))

    def skipped(self, id: str) -> dict[str, Any] | None:
        """What was recorded when a fact was skipped; None when it was not, or its file is damaged or another's."""
        told = self._skipped_in(self.traces / f"{self.name(id)}.skipped.json", self.hash)
        return told if told is not None and told["id"] == id else None

    def _skipped_in(self, path: Path, settings: str | None) -> dict[str, Any] | None:
        try:
            told = _read(path)
        except LoadError:
            return None
        made_with, check = told.pop("hash", None), told.pop("check", None)
        texts = [told.get(name) for name in ("id", "subject", "prompt", "attribute", "why")]
        if not all(isinstance(text, str) for text in texts):
            return None
        if self.hash is None and check is None:  # in a folder of format 1, which is only read
            return told
        return told if made_with == settings and check == digest([made_with, told]) else None

    def skip(self, fact: Fact, why: str) -> None:
        """Record that a fact is not traced, and why."""
        told = plain({**fact.to_dict(), "why": why})
        told |= {"hash": self.hash, "check": digest([self.hash, told])}
        path = self.traces / f"{self.name(fact.id)}.skipped.json"
        write_atomic(self._own(path), json.dumps(told).encode())

    # ---- averages

    def average(self, kinds: list[str | None], ids: list[str] | None = None) -> AverageTrace:
        """The averages over the facts that have a trace of every kind."""
        begun = self.begun()
        if ids is None:
            traced, skipped = self._all(begun["hash"])
        else:
            traced = {
                id: {kind: self.trace(id, kind) for kind in kinds} for id in ids if not self.skipped(id)
            }
            skipped = [told for told in map(self.skipped, ids) if told]
        sets = {id: [found.get(kind) for kind in kinds] for id, found in traced.items()}
        whole = {id: traces for id, traces in sets.items() if not any(trace is None for trace in traces)}
        ids = [*sets, *(told["id"] for told in skipped)]
        if not whole:
            first = f", such as {skipped[0]['prompt']!r}: {skipped[0]['why']}" if skipped else ""
            raise InputError(f"{self.path}: the model gets none of {len(ids)} facts right{first}")
        return average_traces(
            list(whole.values()),
            list(whole),
            skipped=skipped,
            folder=str(self.path),
            settings={**begun["settings"], "hash": begun["hash"]},
        )

    def _all(self, made_with: str) -> tuple[dict[str, dict], list[dict]]:
        """Every fact's traces by kind, and the facts that were skipped, from what the files themselves say."""
        traced: dict[str, dict] = {}
        for path in sorted(self.traces.glob("*.npz")):
            try:
                found = CausalTrace.load(path)
            except LoadError:
                continue
            id, kind = _key(found)
            if not isinstance(id, str) or not _complete(found):
                continue
            if found.settings.get("hash") != made_with:
                raise InputError(f"{path} was made with other settings: remove it")
            if kind in traced.setdefault(id, {}):
                raise InputError(
                    f"{path} is a second trace of the fact {id!r}: a copy under another's name; remove it"
                )
            traced[id][kind] = found
        told = (self._skipped_in(path, made_with) for path in sorted(self.traces.glob("*.skipped.json")))
        skipped = {one["id"]: one for one in told if one is not None}
        return {id: found for id, found in traced.items() if id not in skipped}, list(skipped.values())

    def publish(self, average: AverageTrace) -> None:
        """Write the averages, as numbers, as a table, and as figures."""
        average.save(self._own(self.path / "average.npz"))
        average.to_csv(self._own(self.path / "average.csv"))
        text = f"{average}\n".encode("utf-8", "backslashreplace")
        write_atomic(self._own(self.path / "average.txt"), text)
        average.plot(self._own(self.path / "average.png"))
        average.plot_lines(self._own(self.path / "average_lines.png"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process or thread at a time, where the file system has locks; `create` decides where it has none."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; LoadError when there is none."""
    try:
        told = json.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path}: {error}") from error
    if not isinstance(told, dict):
        raise LoadError(f"{path} holds no JSON object")
    return told


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    """The settings, once they are what `begin` wrote."""
    settings, version = told.get("settings"), told.get("format")
    if not isinstance(settings, dict) or told.get("hash") != digest(settings) or type(version) is not int:
        raise LoadError(f"{SETTINGS} is damaged")
    if version > FORMAT:
        raise InputError(f"it was begun by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return told


def _key(trace: CausalTrace) -> tuple[Any, str | None]:
    """The id of the fact that a trace says it is of, and its kind."""
    fact = trace.settings.get("fact") if isinstance(trace.settings, dict) else None
    return (fact.get("id") if isinstance(fact, dict) else None), trace.kind


def _complete(trace: CausalTrace) -> bool:
    """Whether there is a number for every position, as a run over facts makes them."""
    raw, tokens = trace.raw, trace.tokens
    if trace.kind not in list(KIND_NAMES) or raw.dtype != np.float64 or not isinstance(tokens, list):
        return False
    return raw.ndim == 3 and len(raw) == len(tokens) and bool(np.isfinite(raw).all())
