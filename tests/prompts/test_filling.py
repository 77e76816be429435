"""Filling a folder: what is missing is made once, by one rank; what comes before a first result is held."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from mlxtrace.errors import InputError
from mlxtrace.prompts.filling import Filling, Made, Ranks


@dataclass
class Folder:
    """A folder in memory, which several ranks may share."""

    there: dict = field(default_factory=dict)
    log: list = field(default_factory=list)
    item, items, hash = "pair", "pairs", "h"
    settings = {"seed": 1}  # noqa: RUF012

    def missing(self, id, parts):
        return [part for part in parts if (id, part) not in self.there]

    def begin(self):
        self.log.append("begin")

    def check(self):
        self.log.append("check")

    def save(self, id, part, result):
        assert "begin" in self.log and (id, part) not in self.there
        self.there[id, part] = result
        self.log.append(id)

    def skip(self, fields, why):
        self.save(fields["id"], None, why)


ITEMS = [SimpleNamespace(id=str(i)) for i in range(7)]
BATCHES = [ITEMS[:3], ITEMS[3:4], ITEMS[4:6], ITEMS[6:]]


def result():
    return SimpleNamespace(settings={"own": 2})


def maker(bad=()):
    """What makes the missing items of a batch; what it was asked for is in `.asked`."""

    def make(batch, missing):
        make.asked.append([item.id for item in batch])
        for item in batch:
            for part in missing[item.id]:
                fields = {"id": item.id}
                yield Made(fields, why="bad") if item.id in bad else Made(fields, part, result())

    make.asked = []
    return make


def fill(folder, make, ranks=None, begun=True, parts=(None,), **more):
    filling = Filling(folder, ranks or Ranks())
    if begun:
        filling.begin()
    filling.fill(BATCHES, list(parts), make, progress=False, **more)
    return filling


def test_what_is_missing_is_made_and_says_where_it_comes_from():
    folder, make = Folder(), maker(bad={"3"})
    folder.there = {(id, None): "before" for id in ("0", "4", "5")}
    fill(folder, make)
    assert make.asked == [["0", "1", "2"], ["3"], ["6"]]
    assert folder.there["4", None] == "before" and folder.there["3", None] == "bad"
    told = folder.there["1", None].settings
    assert told["pair"] == {"id": "1"} and (told["seed"], told["own"], told["hash"]) == (1, 2, "h")
    assert "mlx" in told["versions"]


def test_nothing_is_written_before_a_first_result():
    folder = Folder()
    fill(folder, maker(bad={"0", "1"}), begun=False)
    assert folder.log[:5] == ["begin", "check", "0", "1", "2"] and folder.log.count("begin") == 1
    folder = Folder()
    with pytest.raises(InputError, match="none of the pairs can be used, such as 0: bad"):
        fill(folder, maker(bad={item.id for item in ITEMS}), begun=False)
    assert not folder.log


def test_what_is_there_shows_that_the_settings_can_mean_something():
    folder = Folder({("6", None): "before"})
    fill(folder, maker(bad={item.id for item in ITEMS}), begun=False)
    assert folder.log[0] == "begin" and len(folder.there) == 7


class Together:
    """Ranks that are threads of this process."""

    def __init__(self, size):
        self.size, self._barrier, self._sums = size, threading.Barrier(size), {}

    def of(self, rank):
        calls = iter(range(100))

        def total(number):
            call = next(calls)
            self._sums.setdefault(call, []).append(number)
            self._barrier.wait(5)
            return sum(self._sums[call])

        return SimpleNamespace(
            rank=rank, size=self.size, total=total, wait=lambda: total(1), leads=True, led=lambda work: work()
        )


@pytest.mark.parametrize("bad", [set(), {"0", "1", "2"}, {"3", "6"}])
@pytest.mark.parametrize("begun", [True, False])
def test_ranks_share_the_batches_and_one_of_them_begins(bad, begun):
    folder, group, makes, wrong = Folder(), Together(2), [maker(bad), maker(bad)], []

    def run(rank):
        try:
            fill(folder, makes[rank], group.of(rank), begun)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong and folder.log.count("begin") == 1 and len(folder.there) == len(ITEMS)
    assert [make.asked for make in makes] == [[["0", "1", "2"], ["4", "5"]], [["3"], ["6"]]]


def test_only_the_first_rank_shows_a_bar(capfd):
    filling = Filling(Folder({("0", None): "before"}), Ranks())
    filling.begin()
    filling.fill(BATCHES, [None], maker(), progress=True)
    shown = capfd.readouterr().err
    assert "1/7" in shown and "7/7" in shown and "pair" in shown
    filling = Filling(
        Folder(log=["begin"]),
        SimpleNamespace(
            rank=1, size=2, total=lambda n: n, wait=lambda: None, leads=True, led=lambda work: work()
        ),
    )
    filling.begin()
    filling.fill(BATCHES, [None], maker(), progress=True)
    assert capfd.readouterr().err == ""


def test_parts_of_an_item_are_made_one_by_one():
    folder = Folder({("0", "mlp"): "before"})
    fill(folder, maker(), parts=("mlp", "attn"))
    assert len(folder.there) == 14 and folder.there["0", "mlp"] == "before"
