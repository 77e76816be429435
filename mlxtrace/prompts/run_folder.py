"""The folder of a run over many prompts: its settings, the results of each item, and the items that were skipped.

    out/settings.json            what the folder was begun with; anything else is refused
    out/ROOM/NAME.npz            a result, with its provenance; several of an item have a part each, NAME.PART.npz
    out/ROOM/NAME.skipped.json   an item that has no result, and why

Everything is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .. import storage
from ..errors import InputError, LoadError
from .run_settings import BegunFolder

PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}")  # ids that are file names, and on every file system another
HASHED = re.compile(r".*-[0-9a-f]{16}")
Found = dict[str, dict[Any, Any]]  # results, by the item's id and by part


class Folder(BegunFolder):
    """The files of one run.

    A subclass says what the items are. item: the key of an item's fields in the settings of its results, with an "id";
    parts: what an item has results of, with their names in files; texts: what the record of a skipped item has.
    """

    item = ""
    parts: ClassVar[Mapping[Any, str]] = {None: ""}
    texts: tuple[str, ...] = ("id", "why")

    def part_of(self, result: Any) -> Any:
        """The part that a result says it is."""
        return None

    def is_complete(self, result: Any) -> bool:
        """Whether a result has all the numbers that a run gives it."""
        return True

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
