"""The folder of a run over many prompts: its settings, the results of each item, and the items that were skipped.

    out/settings.json            what the folder was begun with; anything else is refused
    out/ROOM/NAME.npz            a result, with its provenance; several of an item have a part each, NAME.PART.npz
    out/ROOM/NAME.skipped.json   an item that has no result, and why

Everything is written whole or not at all. A folder is of one model, one set of items and one set of settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .. import storage
from ..errors import InputError, LoadError

SETTINGS = "settings.json"
FORMAT = 2  # of the folder; 1 named files otherwise, and knew weights by the first numbers of each array
PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}")  # ids that are file names, and on every file system another
HASHED = re.compile(r".*-[0-9a-f]{16}")
Found = dict[str, dict[Any, Any]]  # results, by the item's id and by part


class Folder:
    """The files of one run; `settings` is None when a folder is only read.

    A subclass says what the items are. item: the key of an item's fields in the settings of its results, with an "id";
    items: the key of the hash of all of them in the settings; room: the folder of their files; noun: what a result is
    called; parts: what an item has results of, with their names in files; texts: what the record of a skipped item has.
    """

    item, items, room, noun = "", "", "", "result"
    parts: ClassVar[Mapping[Any, str]] = {None: ""}
    texts: tuple[str, ...] = ("id", "why")

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict[str, Any] | None = None,
        model: str = "",
        ids: list[str] | None = None,
    ):
        self.path, self.model, self.ids = storage.named(path), model, ids
        self.files, self.settings = self.path / self.room, storage.plain(settings)
        self.hash = None if settings is None else storage.digest(settings)

    def load(self, path: Path) -> Any:
        """The result in a file; LoadError when there is none, or it is damaged."""
        raise NotImplementedError

    def part_of(self, result: Any) -> Any:
        """The part that a result says it is."""
        return None

    def is_complete(self, result: Any) -> bool:
        """Whether a result has all the numbers that a run gives it."""
        return True

    # ---- settings

    def make(self) -> None:
        """Make the folder, empty, unless it is there; InputError when it cannot be, or leads elsewhere."""
        storage.writable_folder(self.path)
        storage.writable_folder(self.files)
        try:
            self.files.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"out={str(self.path)!r} cannot be made: {error}") from error
        if not self._is_inside(self.files):
            raise InputError(
                f"{self.files} is a link that leads out of the folder: remove it, or choose another"
            )

    def compare(self) -> None:
        """Write nothing; InputError when nothing can be written here, or the folder was begun with other settings."""
        storage.writable_folder(self.path)
        storage.writable_folder(self.files)
        if self.is_begun():
            self.check()
            return
        for path in sorted(self.files.glob("*.npz")):
            self._check_settings_of(path)

    def begin(self) -> None:
        """Write down the settings, unless that was done before; whoever is first wins, and the others are refused."""
        self.make()
        for folder in (self.path, self.files):
            storage.remove_litter(folder)
        with storage.locked(self.path) as alone:
            if self.is_begun():
                return
            for path in sorted(self.files.glob("*.npz")):
                self._check_settings_of(path)
            if alone:  # else another run's may be there by now; damaged ones stay, and `check` says so
                (self.path / SETTINGS).unlink(missing_ok=True)
            begun = {"format": FORMAT, "hash": self.hash, "model": self.model, "settings": self.settings}
            begun |= {} if self.ids is None else {"ids": self.ids}
            storage.create(self.path / SETTINGS, (json.dumps(begun, indent=1) + "\n").encode())

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path))

    def own(self, path: Path) -> Path:
        """A path in the folder to write to: a link out of it, or a pipe in the file's place, is removed first."""
        if os.path.lexists(path) and not (self._is_inside(path) and path.is_file()) and not path.is_dir():
            path.unlink()
        return path

    def is_begun(self) -> bool:
        """Whether there are settings that can be read; damaged ones count as none."""
        if not os.path.lexists(self.path / SETTINGS):
            return False
        try:
            self.begun()
        except LoadError:
            return False
        return True

    def _check_settings_of(self, path: Path) -> None:
        """InputError when the settings are lost and a result is there that was made with others."""
        try:
            made_with = self.load(path).settings.get("hash")
        except LoadError:
            return  # it is made again
        if made_with != self.hash:
            raise InputError(
                f"{self.path} has no readable {SETTINGS}, and {self.noun}s of other settings, such as {path.name}: "
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
        if self.items not in before:
            raise InputError(
                f"{self.path} is no folder of {self.noun}s of {self.items}: it was begun by another kind of run"
            )
        names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        words = {"weights": "the model's weights", self.items: f"the {self.items}"}
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
            raise LoadError(f"{self.path} is not a folder of {self.noun}s: {error}") from error

    # ---- items

    def name(self, id: str) -> str:
        """A file name for an item, another for every id, also where case or accents make no difference.

        The id itself, or what can be kept of it and a hash. Folders of format 1 had other names.
        """
        if PLAIN.fullmatch(id) and not HASHED.fullmatch(id):
            return id
        hashed = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9_]', '_', id)[:60]}-{hashed[:16]}"

    def path_of(self, id: str, part: Any = None) -> Path:
        """The file of an item's result, or of one part of it."""
        return self.files / ".".join(filter(None, [self.name(id), self.parts[part], "npz"]))

    def result(self, id: str, part: Any = None) -> Any:
        """The result that is there; None when there is none, its file is damaged, or it is another's."""
        path = self.path_of(id, part)
        try:
            found = self.load(path)
        except LoadError:
            return None
        if self.whose(found) != (id, part) or not self.is_complete(found):
            return None
        if self.hash is not None and found.settings.get("hash") != self.hash:
            raise InputError(f"{path} was made with other settings: remove it")
        return found

    def whose(self, result: Any) -> tuple[Any, Any]:
        """The id of the item that a result says it is of, and its part."""
        fields = result.settings.get(self.item) if isinstance(result.settings, dict) else None
        return (fields.get("id") if isinstance(fields, dict) else None), self.part_of(result)

    def missing(self, id: str, parts: list[Any]) -> list[Any]:
        """The parts of an item that have no file yet; none for one that was skipped."""
        if self.skipped(id) is not None:
            return []
        return [part for part in parts if self.result(id, part) is None]

    def save(self, id: str, part: Any, result: Any) -> None:
        """Write an item's result, whole or not at all."""
        result.save(self.own(self.path_of(id, part)))

    def skipped(self, id: str) -> dict[str, Any] | None:
        """What was recorded when an item was skipped; None when it was not, or its file is damaged or another's."""
        record = self.skipped_in(self.files / f"{self.name(id)}.skipped.json", self.hash)
        return record if record is not None and record["id"] == id else None

    def skipped_in(self, path: Path, settings: str | None) -> dict[str, Any] | None:
        """The record of a skipped item in a file, if it was made with settings of this hash; else None."""
        try:
            record = storage.read_object(path)
        except LoadError:
            return None
        made_with, check = record.pop("hash", None), record.pop("check", None)
        if not all(isinstance(record.get(name), str) for name in self.texts):
            return None
        if self.hash is None and check is None:  # in a folder of format 1, which is only read
            return record
        return record if made_with == settings and check == storage.digest([made_with, record]) else None

    def skip(self, fields: Mapping[str, Any], why: str) -> None:
        """Record that an item has no result, and why."""
        record = storage.plain({**fields, "why": why})
        record |= {"hash": self.hash, "check": storage.digest([self.hash, record])}
        path = self.files / f"{self.name(fields['id'])}.skipped.json"
        storage.write_atomic(self.own(path), json.dumps(record).encode())

    # ---- all of them

    def some(self, ids: list[str], parts: list[Any]) -> tuple[Found, list[dict[str, Any]]]:
        """What there is of some items, by id and part, and the records of those of them that were skipped."""
        found: Found = {}
        skipped = []
        for id in ids:
            record = self.skipped(id)
            if record is not None:
                skipped.append(record)
                continue
            of_item = {part: self.result(id, part) for part in parts}
            found[id] = {part: result for part, result in of_item.items() if result is not None}
        return found, skipped

    def everything(self) -> tuple[Found, list[dict[str, Any]]]:
        """What there is of every item, from what the files themselves say, and the records of those skipped."""
        made_with = self.begun()["hash"]
        found: Found = {}
        for path in sorted(self.files.glob("*.npz")):
            try:
                result = self.load(path)
            except LoadError:
                continue
            id, part = self.whose(result)
            if not isinstance(id, str) or not self.is_complete(result):
                continue
            if result.settings.get("hash") != made_with:
                raise InputError(f"{path} was made with other settings: remove it")
            if part in found.setdefault(id, {}):
                raise InputError(
                    f"{path} is a second {self.noun} of the {self.item} {id!r}: a copy under another's name; remove it"
                )
            found[id][part] = result
        records = [self.skipped_in(path, made_with) for path in sorted(self.files.glob("*.skipped.json"))]
        skipped = {record["id"]: record for record in records if record is not None}
        return {id: results for id, results in found.items() if id not in skipped}, list(skipped.values())

    def publish(self, average: Any) -> None:
        """Write what all results come to beside them, as numbers, as a table, as text, and as figures."""
        at = {tail: self.own(self.path / f"average{tail}") for tail in (".npz", ".csv", ".txt", ".png")}
        average.save(at[".npz"])
        average.to_csv(at[".csv"])
        storage.write_atomic(at[".txt"], f"{average}\n".encode("utf-8", "backslashreplace"))
        average.plot(at[".png"])
        if hasattr(average, "plot_lines"):
            average.plot_lines(self.own(self.path / "average_lines.png"))


def _checked(begun: dict[str, Any]) -> dict[str, Any]:
    """The settings, once they are what `begin` wrote."""
    settings, version = begun.get("settings"), begun.get("format")
    damaged = not isinstance(settings, dict) or begun.get("hash") != storage.digest(settings)
    if damaged or type(version) is not int:
        raise LoadError(f"{SETTINGS} is damaged")
    if version > FORMAT:
        raise InputError(f"it was begun by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return begun
