"""Settings of a folder: written by the first, compared by all, and not mixed with those of other runs."""

from __future__ import annotations

import json

import pytest

from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts.run_settings import BegunFolder


class Sweeps(BegunFolder):
    """A folder whose results are texts."""

    items, room, noun = "sweeps", "files", "sweep"

    def load(self, path):
        raise LoadError(str(path))


SETTINGS = {"sweeps": "h", "seed": 1, "weights": "w"}


def test_the_first_begins_and_the_others_are_compared(tmp_path):
    first = Sweeps(tmp_path / "out", SETTINGS, "m", ["a", "b"])
    first.compare()
    assert not list(tmp_path.iterdir())
    first.begin()
    begun = Sweeps.there(tmp_path / "out").begun()
    assert begun["settings"] == SETTINGS and begun["ids"] == ["a", "b"] and begun["hash"] == first.hash
    Sweeps(tmp_path / "out", dict(reversed(SETTINGS.items()))).compare()
    other = Sweeps(tmp_path / "out", {**SETTINGS, "seed": 2, "weights": "v", "window": 3})
    says = "seed is 1 there and 2 here; the model's weights differ; window is None there and 3 here"
    for look in (other.compare, other.check):
        with pytest.raises(InputError, match=says):
            look()
    other.begin()  # changes nothing
    assert Sweeps(tmp_path / "out").begun() == begun
    with pytest.raises(InputError, match="the sweeps differ"):
        Sweeps(tmp_path / "out", {**SETTINGS, "sweeps": "other"}).check()
    with pytest.raises(InputError, match="no folder of sweeps of sweeps"):
        Sweeps(tmp_path / "out2", {"seed": 1}).begin()
        Sweeps(tmp_path / "out2", SETTINGS).check()


def test_settings_that_were_changed_by_hand_are_damaged(tmp_path):
    folder = Sweeps(tmp_path, SETTINGS)
    folder.begin()
    path = tmp_path / "settings.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    assert not folder.is_begun()
    with pytest.raises(LoadError, match=r"not a folder of sweeps: .*damaged"):
        folder.begun()
    folder.begin()
    assert json.loads(path.read_text())["settings"]["seed"] == 1


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(InputError):
            Sweeps(place, SETTINGS).compare()
    with pytest.raises(LoadError):
        Sweeps.there(tmp_path / "nothing")
