"""The files of a run over facts: settings, a trace for each fact and kind, what was skipped, and the averages.

Everything is written whole or not at all. A folder belongs to one model, one set of facts and one set of settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .averages import AverageTrace, average_traces
from .errors import InputError, LoadError
from .storage import named, plain, write_atomic
from .tracing import CausalTrace

if TYPE_CHECKING:
    from .facts import Fact

KIND_NAMES = {None: "state", "mlp": "mlp", "attn": "attn"}
FORMAT = 1
STALE = 3600.0  # seconds after which a half-written file belongs to nobody


def digest(value: Any) -> str:
    """A short hash of a value that JSON can hold."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Folder:
    """The files of one run over facts; `settings` is None when a folder is only read."""

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any] | None = None, model: str = ""):
        self.path, self.model = named(path).expanduser(), model
        self.traces, self.settings = self.path / "traces", settings
        self.hash = None if settings is None else digest(settings)

    # ---- settings

    def begin(self) -> None:
        """Make the folder and write down its settings, unless that was done before."""
        if self.path.is_file():
            raise InputError(f"out={str(self.path)!r} is a file; name a folder")
        try:
            self.traces.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out={str(self.path)!r} cannot be made: {error}") from error
        for part in self.traces.glob(".*.part"):  # of a run that was killed in mid-write
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink(missing_ok=True)
        if not (self.path / "settings.json").exists():
            if any(self.traces.glob("*.npz")):
                raise InputError(f"{self.path} has traces but no settings.json: choose another folder")
            told = {"format": FORMAT, "hash": self.hash, "model": self.model, "settings": self.settings}
            self._write("settings.json", json.dumps(told, indent=1))

    def check(self) -> None:
        """InputError when the folder was begun with other settings, naming each that differs."""
        there = self.begun()
        if there.get("hash") == self.hash:
            return
        before, now = there.get("settings", {}), self.settings
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
        """What settings.json says; LoadError when there is none."""
        try:
            return json.loads((self.path / "settings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"{self.path} is no folder of traces: {error}") from error

    # ---- facts

    def name(self, id: str) -> str:
        """A file name for a fact: its id, or what can be kept of it and a hash."""
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", id)[:80]
        return safe if safe == id else f"{safe}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"

    def trace_path(self, id: str, kind: str | None) -> Path:
        return self.traces / f"{self.name(id)}.{KIND_NAMES[kind]}.npz"

    def trace(self, id: str, kind: str | None) -> CausalTrace | None:
        """The trace that is there; None when there is none, or its file is damaged."""
        try:
            found = CausalTrace.load(self.trace_path(id, kind))
        except LoadError:
            return None
        if self.hash is not None and found.settings.get("hash") != self.hash:
            raise InputError(f"{self.trace_path(id, kind)} was made with other settings: remove it")
        return found

    def skipped(self, id: str) -> dict[str, Any] | None:
        """What was recorded when a fact was skipped; None when it was not."""
        try:
            return json.loads((self.traces / f"{self.name(id)}.skipped.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def skip(self, fact: Fact, why: str) -> None:
        """Record that a fact is not traced, and why."""
        told = {**fact.to_dict(), "why": why}
        text = json.dumps(told, ensure_ascii=False)
        write_atomic(
            self.traces / f"{self.name(fact.id)}.skipped.json", text.encode("utf-8", "backslashreplace")
        )

    # ---- averages

    def average(self, kinds: list[str | None], ids: list[str] | None = None) -> AverageTrace:
        """The averages over the facts that have a trace of every kind."""
        begun = self.begun()
        ids = self._ids() if ids is None else ids
        traced = {id: [self.trace(id, kind) for kind in kinds] for id in ids if not self.skipped(id)}
        whole = {id: traces for id, traces in traced.items() if None not in traces}
        skipped = [told for told in map(self.skipped, ids) if told]
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

    def _ids(self) -> list[str]:
        """The ids of all facts that have a file here, by name."""
        found = {}
        for path in sorted(self.traces.glob("*.npz")):
            try:
                found.setdefault(CausalTrace.load(path).settings["fact"]["id"], None)
            except (LoadError, KeyError):
                continue
        for path in sorted(self.traces.glob("*.skipped.json")):
            found.setdefault(json.loads(path.read_text(encoding="utf-8"))["id"], None)
        return list(found)

    def publish(self, average: AverageTrace) -> None:
        """Write the averages, as numbers, as a table, and as figures."""
        average.save(self.path / "average.npz")
        average.to_csv(self.path / "average.csv")
        self._write("average.txt", f"{average}\n")
        average.plot(self.path / "average.png")
        average.plot_lines(self.path / "average_lines.png")

    def _write(self, name: str, text: str) -> None:
        write_atomic(self.path / name, text.encode("utf-8", "backslashreplace"))
