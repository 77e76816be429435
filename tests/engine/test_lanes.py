"""Passes side by side: how many, in which order, each on a stream of its own."""

import os

import mlx.core as mx
import pytest

from mlxtrace.engine import lanes
from mlxtrace.engine.lanes import in_lanes


class Begun:
    """A pass: the logits of a group, and the stream that they were laid out on."""

    def __init__(self, group):
        self.group = group

    def begin(self):
        self.logits = mx.array([self.group]) * 2
        self.stream = mx.default_stream(mx.Device(mx.cpu))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("groups", [0, 1, 5])
def test_every_group_comes_once_and_in_order(n, groups):
    found = list(in_lanes(list(range(groups)), Begun, n))
    assert [group for group, _ in found] == list(range(groups))
    assert [begun.logits.item() for _, begun in found] == [2 * group for group in range(groups)]


def test_passes_at_the_same_time_have_streams_of_their_own():
    with mx.stream(mx.Device(mx.cpu)):
        found = [begun.stream for _, begun in in_lanes(list(range(6)), Begun, 3)]
        assert found[:3] == found[3:] and found[0] == mx.default_stream(mx.Device(mx.cpu))
    assert len({str(stream) for stream in found}) == 3


def test_no_more_are_begun_than_there_are_lanes():
    begun = []
    passes = in_lanes(list(range(5)), lambda group: begun.append(group) or Begun(group), 2)
    next(passes)
    assert begun == [0, 1]
    next(passes), next(passes)
    assert begun == [0, 1, 2, 3]


def test_there_are_as_many_lanes_as_cores_but_one_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu))
    for cores, expected in ((1, 1), (2, 2), (64, lanes.MOST_LANES)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert lanes.lanes() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert lanes.lanes() == 1
    monkeypatch.setattr(mx, "default_device", lambda: "gpu")
    assert lanes.lanes() == 1
