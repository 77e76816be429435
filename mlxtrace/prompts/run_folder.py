"""The folder of a run over facts: its settings, a trace for each fact and kind, and the facts that were skipped.

Everything is written whole or not at all. A folder is of one model, one set of facts and one set of settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import storage
from ..errors import InputError, LoadError
from ..results.causal_trace_result import CausalTrace
from .fact_files import Fact

KIND_NAMES = {None: "state", "mlp": "mlp", "attn": "attn"}
SETTINGS = "settings.json"
FORMAT = 2  # of the folder; 1 named files otherwise, and knew weights by the first numbers of each array
PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}")  # ids that are file names, and on every file system another
HASHED = re.compile(r".*-[0-9a-f]{16}")


class Folder:
    """The files of one run over facts; `settings` is None when a folder is only read."""

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any] | None = None, model: str = ""):
        self.path, self.model = storage.named(path), model
        self.traces, self.settings = self.path / "traces", storage.plain(settings)
        self.hash = None if settings is None else storage.digest(settings)

    # ---- settings

    def make(self) -> None:
        """Make the folder, empty, unless it is there; InputError when it cannot be, or leads elsewhere."""
        storage.writable_folder(self.path)
        storage.writable_folder(self.traces)
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
            storage.remove_litter(folder)
        with storage.locked(self.path) as alone:
            if self._is_begun():
                return
            for path in sorted(self.traces.glob("*.npz")):
                self._check_settings_of(path)
            if alone:  # else another run's may be there by now; damaged ones stay, and `check` says so
                (self.path / SETTINGS).unlink(missing_ok=True)
            begun = {"format": FORMAT, "hash": self.hash, "model": self.model, "settings": self.settings}
            storage.create(self.path / SETTINGS, (json.dumps(begun, indent=1) + "\n").encode())

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path))

    def own(self, path: Path) -> Path:
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

    def _check_settings_of(self, path: Path) -> None:
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
                f"{self.path} was begun by an earlier mlxtrace, which knew a model by the first numbers of each array "
                "only: choose another folder (facts.averages still reads this one)"
            )
        before, now = there["settings"], self.settings
        names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        words = {"weights": "the model's weights", "facts": "the facts"}
        differences = [
            f"{words[n]} differ" if n in words else f"{n} is {before.get(n)!r} there and {now.get(n)!r} here"
            for n in names
        ]
        raise InputError(
            f"{self.path} was begun with other settings ({there.get('model')}): {'; '.join(differences)}. "
            "Choose another folder, or the same settings"
        )

    def begun(self) -> dict[str, Any]:
        """What settings.json says; LoadError when there is none, or it is damaged."""
        try:
            return _checked(storage.read_object(self.path / SETTINGS))
        except LoadError as error:
            raise LoadError(f"{self.path} is not a folder of traces: {error}") from error

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
        if fact_and_kind(found) != (id, kind) or not is_complete(found):
            return None
        if self.hash is not None and found.settings.get("hash") != self.hash:
            raise InputError(f"{path} was made with other settings: remove it")
        return found

    def save(self, id: str, kind: str | None, trace: CausalTrace) -> None:
        """Write a fact's trace, whole or not at all."""
        trace.save(self.own(self.trace_path(id, kind)))

    def skipped(self, id: str) -> dict[str, Any] | None:
        """What was recorded when a fact was skipped; None when it was not, or its file is damaged or another's."""
        record = self.skipped_in(self.traces / f"{self.name(id)}.skipped.json", self.hash)
        return record if record is not None and record["id"] == id else None

    def skipped_in(self, path: Path, settings: str | None) -> dict[str, Any] | None:
        """The record of a skipped fact in a file, if it was made with settings of this hash; else None."""
        try:
            record = storage.read_object(path)
        except LoadError:
            return None
        made_with, check = record.pop("hash", None), record.pop("check", None)
        texts = [record.get(name) for name in ("id", "subject", "prompt", "attribute", "why")]
        if not all(isinstance(text, str) for text in texts):
            return None
        if self.hash is None and check is None:  # in a folder of format 1, which is only read
            return record
        return record if made_with == settings and check == storage.digest([made_with, record]) else None

    def skip(self, fact: Fact, why: str) -> None:
        """Record that a fact is not traced, and why."""
        record = storage.plain({**fact.to_dict(), "why": why})
        record |= {"hash": self.hash, "check": storage.digest([self.hash, record])}
        path = self.traces / f"{self.name(fact.id)}.skipped.json"
        storage.write_atomic(self.own(path), json.dumps(record).encode())


def _checked(begun: dict[str, Any]) -> dict[str, Any]:
    """The settings, once they are what `begin` wrote."""
    settings, version = begun.get("settings"), begun.get("format")
    damaged = not isinstance(settings, dict) or begun.get("hash") != storage.digest(settings)
    if damaged or type(version) is not int:
        raise LoadError(f"{SETTINGS} is damaged")
    if version > FORMAT:
        raise InputError(f"it was begun by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return begun


def fact_and_kind(trace: CausalTrace) -> tuple[Any, str | None]:
    """The id of the fact that a trace says it is of, and its kind."""
    fact = trace.settings.get("fact") if isinstance(trace.settings, dict) else None
    return (fact.get("id") if isinstance(fact, dict) else None), trace.kind


def is_complete(trace: CausalTrace) -> bool:
    """Whether there is a number for every position, as a run over facts makes them."""
    raw, tokens = trace.raw, trace.tokens
    if trace.kind not in list(KIND_NAMES) or raw.dtype != np.float64 or not isinstance(tokens, list):
        return False
    return raw.ndim == 3 and len(raw) == len(tokens) and bool(np.isfinite(raw).all())
