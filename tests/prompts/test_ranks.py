"""Ranks: alone without a group; with one, its number, and waiting for all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest

from mlxtrace import InterpretableModel, prompts
from mlxtrace.anatomy import model_parts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.prompts import ranks as module
from mlxtrace.prompts.ranks import LAUNCHED, Ranks, sharing


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in (*LAUNCHED, "MLX_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)


def test_alone(monkeypatch):
    monkeypatch.setattr(mx.distributed, "init", lambda *_: pytest.fail("no group was asked for"))
    ranks = Ranks()
    assert (ranks.rank, ranks.size) == (0, 1)
    ranks.wait()
    assert ranks.total(3) == 3


def test_of_a_group(monkeypatch):
    class Group:
        rank, size = staticmethod(lambda: 1), staticmethod(lambda: 3)

    waited = []
    monkeypatch.setattr(mx.distributed, "all_sum", lambda x, group, stream: waited.append(group) or 3 * x)
    group = Group()
    assert (Ranks(group).rank, Ranks(group).size) == (1, 3)
    Ranks(group).wait()
    assert waited == [group] and Ranks(group).total(2) == 6 and Ranks(group).leads
    monkeypatch.setenv("MLX_RANK", "1")
    monkeypatch.setattr(mx.distributed, "init", lambda: group)
    assert Ranks().rank == 1


# ---- several processes that hold one model


class Fake:
    """A group of processes, of which this is one; sums are of what the others are said to give."""

    def __init__(self, rank, size, others=()):
        self._rank, self._size, self.others = rank, size, list(others)

    def rank(self):
        return self._rank

    def size(self):
        return self._size


@pytest.fixture
def sums(monkeypatch):
    def all_sum(x, group, stream):
        return x + mx.array(group.others.pop(0), dtype=x.dtype)

    monkeypatch.setattr(mx.distributed, "all_sum", all_sum)


def test_processes_that_hold_a_model_are_one_worker(sums):
    for rank in range(2):
        ranks = Ranks(sharded=Fake(rank, 2, [[0] if rank == 0 else [5]]))
        assert (ranks.rank, ranks.size, ranks.leads) == (0, 1, rank == 0)
        assert ranks.total(5) == 5


def test_groups_that_a_group_was_split_into(sums):
    """Of six processes 0, 2, 4 hold one model and 1, 3, 5 another; this is process 3."""
    world = Fake(3, 6, [[0, 1, 1, 1, 1, 1], [2]])
    ranks = Ranks(world, Fake(1, 3, [[1]]))
    assert (ranks.rank, ranks.size, ranks.leads) == (1, 2, False)
    world.others = [[7]]
    assert ranks.total(100) == 7  # once for each model


def bytes_of(value):
    data = list(json.dumps(value).encode())
    return [[len(data)], data]


def test_what_leads_decides_for_all(sums):
    ranks = Ranks(sharded=Fake(1, 2, bytes_of({"value": [{"0": ["mlp"]}]})))
    assert ranks.led(lambda: pytest.fail("it does not lead")) == [{"0": ["mlp"]}]
    ranks = Ranks(sharded=Fake(1, 2, bytes_of({"error": "LoadError", "why": "damaged"})))
    with pytest.raises(LoadError, match="damaged"):
        ranks.led(lambda: None)

    def refuse():
        raise InputError("taken")

    ranks = Ranks(sharded=Fake(0, 2, [[0], [0]]))
    with pytest.raises(InputError, match="taken"):
        ranks.led(refuse)

    def full():
        raise OSError(28, "No space left")

    with pytest.raises(OSError, match="No space left"):  # the others hear of it, and do not wait for ever
        Ranks(sharded=Fake(0, 2, [[0], [0]])).led(full)
    told = bytes_of({"error": "OSError", "why": "No space left"})
    with pytest.raises(RuntimeError, match="OSError: No space left"):
        Ranks(sharded=Fake(1, 2, told)).led(lambda: None)
    assert Ranks().led(lambda: {1: "as it is"}) == {1: "as it is"}


def test_the_result_of_what_leads_is_told(sums, tmp_path):
    model = InterpretableModel("demo")
    made = model.causal_trace("The Louvre is in", "Louvre", samples=1, progress=False)
    data = made.save(tmp_path / "made.npz").read_bytes()
    ranks = Ranks(sharded=Fake(1, 2, [*bytes_of({"value": None}), [len(data)], list(data)]))
    found = ranks.result(lambda: pytest.fail("it does not lead"))
    assert type(found) is type(made) and (found.raw == made.raw).all()
    ranks = Ranks(sharded=Fake(0, 2, [[0], [0], [0], [0]]))
    assert ranks.result(lambda: made) is made and Ranks().result(lambda: made) is made


def test_only_what_leads_writes(sums, tmp_path, monkeypatch):
    """A run over pairs, in the second process of two that hold the model: the first says what is there."""
    told = iter([None, [{"0000": [None]}], None, None])  # of compare, of what is missing, of begin and check
    monkeypatch.setattr(Ranks, "led", lambda self, work: next(told))
    monkeypatch.setattr(Ranks, "result", lambda self, work: "told")
    model = InterpretableModel("demo")
    monkeypatch.setattr(model.resolver, "group", Fake(1, 2, [[1], [1], [1]]))
    pair = prompts.Pair("The Louvre is in", "The Kremlin is in", " Paris")
    options = {"component": "resid_post", "layers": 0, "positions": "all", "align": "ends", "progress": False}
    monkeypatch.setattr(prompts.pair_running.Calls, "on", lambda self, batch: [("made", "")] * len(batch))
    assert prompts.run(model, [pair], out=tmp_path / "out", **options) == "told"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", [0, -2, 1.5, "2", [2], object()])
def test_what_is_no_shard(shard):
    with pytest.raises(InputError, match="True shards the model over all processes"):
        InterpretableModel("demo", shard=shard)


def test_a_model_of_one_process():
    """Nothing is sharded over one process, which is said; several for each copy need several."""
    assert sharing(None) is None and sharing(False) is None and sharing(1) is None
    assert sharing(Fake(0, 1)) is None
    two = Fake(0, 2)
    assert sharing(two) is two
    with pytest.warns(UserWarning, match="one process, so the model is whole: start it with mlx.launch -n 2"):
        assert sharing(True) is None
    with pytest.raises(
        InputError, match=r"1 process cannot be dealt out to models of 4 each.*mlx.launch -n 4"
    ):
        sharing(4)


def test_a_module_that_comes_sharded_is_linked(monkeypatch):
    """Where a rank dies the others hear of it, whoever sharded the model."""
    joined = []
    monkeypatch.setattr(module.links, "join", lambda: joined.append(1))
    monkeypatch.setattr(model_parts, "_group", lambda net: (Fake(0, 2), False))
    InterpretableModel("demo")
    assert joined == [1]


@pytest.fixture
def ring(monkeypatch, tmp_path):
    """As rank 3 of four on a ring; what mlx is asked for."""
    asked = []
    (tmp_path / "hosts.json").write_text(
        json.dumps([[f"10.0.0.{i}:5000", f"10.1.0.{i}:5001"] for i in range(4)])
    )
    monkeypatch.setenv("MLX_RANK", "3")
    monkeypatch.setenv("MLX_HOSTFILE", str(tmp_path / "hosts.json"))
    monkeypatch.setattr(module, "_ring_size", 0)
    linked = SimpleNamespace(rank=3, size=4, total=lambda n: asked.append(n) or 9)
    monkeypatch.setattr(module.links, "join", lambda: linked)

    def init(backend="any"):
        hosts = json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text())
        asked.append((backend, os.environ["MLX_RANK"], [one[0] for one in hosts]))
        return Fake(int(os.environ["MLX_RANK"]), len(hosts))

    monkeypatch.setattr(mx.distributed, "init", init)
    return asked


def test_a_ring_is_made_into_rings(ring, tmp_path):
    """MLX cannot split one: each two processes make their own, and the links count over all."""
    group = sharing(2)
    assert (group.rank(), group.size()) == (1, 2)
    assert ring == [("ring", "1", ["10.0.0.2:5000", "10.0.0.3:5000"])]
    assert os.environ["MLX_RANK"] == "3" and os.environ["MLX_HOSTFILE"] == str(tmp_path / "hosts.json")
    ranks = Ranks(sharded=group)
    assert (ranks.rank, ranks.size, ranks.leads) == (1, 2, False)
    assert ranks.total(5) == 9 and ring[1:] == [0]
    whole = Ranks()  # a second model, of which each process has its own
    assert (whole.rank, whole.size, whole.leads) == (3, 4, True)


def test_rings_that_cannot_be_made(ring, monkeypatch):
    with pytest.raises(InputError, match="4 processes cannot be dealt out to models of 3 each"):
        sharing(3)
    assert sharing(4).size() == 4 and sharing(True).size() == 4
    monkeypatch.setattr(mx.distributed, "init", lambda **_: Fake(3, 4))
    with pytest.raises(InputError, match="was called before, and has made one ring of all 4"):
        sharing(2)


def test_groups_that_mlx_splits_or_not(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "2")

    class World(Fake):
        def split(self, color, key):
            return color, key

    monkeypatch.setattr(mx.distributed, "init", lambda: World(2, 4))
    assert sharing(2) == (1, 2)

    def refuse(*_):
        raise RuntimeError("[jaccl] Group split not supported.")

    monkeypatch.setattr(World, "split", refuse)
    with pytest.raises(InputError, match=r"cannot split their group \(\[jaccl\].*use --backend ring or mpi"):
        sharing(2)
