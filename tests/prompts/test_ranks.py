"""Ranks: alone without a group; with one, its number, and waiting for all."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxtrace.prompts.ranks import LAUNCHED, Ranks


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in LAUNCHED:
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
    assert waited == [group] and Ranks(group).total(2) == 6
    monkeypatch.setenv("MLX_RANK", "1")
    monkeypatch.setattr(mx.distributed, "init", lambda: group)
    assert Ranks().rank == 1
