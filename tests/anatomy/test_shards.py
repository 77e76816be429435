"""Models sharded over several processes: what is found of the group."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx.nn.layers.distributed import shard_linear
from models import make

from mlxtrace.anatomy.shards import Part, group_of


class Two:
    """A group of two processes, as far as looking at it goes."""

    def size(self) -> int:
        return 2


def test_a_group_is_found_at_linear_layers_and_at_mixtures_of_experts():
    net = make("qwen3_moe")
    assert group_of(net) is None
    net.shard(mx.distributed.init())  # a group of one process shares nothing out
    assert group_of(net) is None
    net.model.layers[0].mlp.sharding_group = two = Two()
    assert group_of(net) is two
    net = make("llama")
    attention = net.model.layers[1].self_attn
    attention.q_proj = shard_linear(attention.q_proj, "all-to-sharded", group=mx.distributed.init())
    attention.q_proj.group = two
    assert group_of(net) is two


class OfFour:
    """One of four ranks; each of them hands in what this one does, and 10 more for each rank before it."""

    def __init__(self, rank: int):
        self._rank = rank

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return 4


@pytest.fixture
def gathered(monkeypatch):
    def all_gather(x, group):
        return mx.concatenate([x + 10.0 * rank for rank in range(group.size())])

    monkeypatch.setattr(mx.distributed, "all_gather", all_gather)


def test_slices_of_which_each_two_ranks_hold_the_same(gathered):
    """Key-value heads of four ranks: the first copy counts, and a gradient is that of both, once."""
    part, x, whole = Part(OfFour(2), 1, copies=2), mx.ones((1, 2, 3)), mx.arange(12.0).reshape(1, 4, 3)
    assert part.whole(x)[0, :, 0].tolist() == [1, 1, 21, 21]
    assert mx.array_equal(part.own(whole), whole[:, 2:])
    [_], [gradient] = mx.vjp(part.whole, [x], [whole])
    assert mx.array_equal(gradient, whole[:, 2:] / 2)
    [_], [gradient] = mx.vjp(part.own, [whole], [x])
    assert gradient[0, :, 0].tolist() == [12, 12, 52, 52]  # 1 + 11, 21 + 31


def test_of_a_sum_the_first_rank_has_all():
    x = mx.arange(3.0)
    for rank in (0, 3):
        part = Part(OfFour(rank), None)
        assert mx.array_equal(part.own(x), x if rank == 0 else mx.zeros(3))
        [_], [gradient] = mx.vjp(part.own, [x], [x + 1])
        assert mx.array_equal(gradient, x + 1)
