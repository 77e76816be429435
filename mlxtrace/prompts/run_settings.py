"""The settings that the folder of a run is begun with: written once, and compared ever after.

    out/settings.json            what the folder was begun with; anything else is refused

Everything is written whole or not at all. A folder is of one model, one set of items and one set of settings.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from .. import storage
from ..errors import InputError, LoadError

SETTINGS = "settings.json"
FORMAT = 2  # of the folder; 1 named files otherwise, and knew weights by the first numbers of each array


class BegunFolder:
    """A folder with its settings, which are None when it is only read.

    items: what it is about, the key of the hash of all of them in the settings; room: the folder of their files; noun:
    what a result is called. whole: the setting of a run that scores all of answers of several tokens; without it their
    first tokens were scored.
    """

    items, room, noun = "", "", "result"
    whole = "whole_answers"

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

    @classmethod
    def there(cls, path: str | os.PathLike) -> Self:
        """A folder to be read; LoadError when there is none."""
        return cls(storage.readable_folder(path))

    def load(self, path: Path) -> Any:
        """The result in a file; LoadError when there is none, or it is damaged."""
        raise NotImplementedError

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
        words = {"weights": "the model's weights differ", self.items: f"the {self.items} differ"}
        if self.whole in names:
            first, every = "the first token of each answer alone", "all of each answer"
            there_now = (first, every) if self.whole in now else (every, first)
            words[self.whole] = "what is scored is {} there and {} here".format(*there_now)
        differences = [
            words[n] if n in words else f"{n} is {before.get(n)!r} there and {now.get(n)!r} here"
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


def _checked(begun: dict[str, Any]) -> dict[str, Any]:
    """The settings, once they are what `begin` wrote."""
    settings, version = begun.get("settings"), begun.get("format")
    damaged = not isinstance(settings, dict) or begun.get("hash") != storage.digest(settings)
    if damaged or type(version) is not int:
        raise LoadError(f"{SETTINGS} is damaged")
    if version > FORMAT:
        raise InputError(f"it was begun by a newer mlxtrace (format {version}); this one reads {FORMAT}")
    return begun
