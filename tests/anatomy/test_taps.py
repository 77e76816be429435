"""Taps: the class trick, its reach, and that it always comes off."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlxtrace.anatomy import taps
from mlxtrace.anatomy.taps import arrays_of, first_array, put_argument, put_first, tapping, untapped


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def __call__(self, x, scale=None):
        return self.b(self.a(x)), scale


X = mx.ones((1, 4))


def test_only_tapped_modules_are_routed_and_their_class_is_still_theirs():
    net, seen = Pair(), []

    def handler(forward, args, kwargs):
        seen.append(type(net.a))
        return forward(*args, **kwargs) * 2

    plain, _ = net(X)
    with tapping([(net.a, handler)]):
        assert isinstance(net.a, nn.Linear) and type(net.a) is not nn.Linear
        assert type(net.a).__name__ == "Linear" and type(net.b) is nn.Linear
        assert mx.array_equal(net(X)[0], net.b(2 * nn.Linear.__call__(net.a, X)))
        with untapped():
            assert mx.array_equal(net(X)[0], plain)
    assert type(net.a) is nn.Linear
    assert mx.array_equal(net(X)[0], plain)
    assert len(seen) == 1


def test_nested_taps_do_not_see_each_other():
    net, seen = Pair(), []

    def note(name):
        return lambda forward, args, kwargs: (seen.append(name), forward(*args, **kwargs))[1]

    with tapping([(net.a, note("outer"))]):
        with tapping([(net.a, note("inner"))]):
            net(X)
        assert type(net.a) is not nn.Linear
        net(X)
    assert seen == ["inner", "outer"]
    assert type(net.a) is nn.Linear and not taps._traced


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_inside_take_the_taps_out(error):
    net = Pair()

    def fail(forward, args, kwargs):
        raise error

    with pytest.raises(error), tapping([(net.a, fail)]):
        net(X)
    assert type(net.a) is nn.Linear and not taps._traced


def test_an_interrupt_while_taps_go_in(monkeypatch):
    net, made = Pair(), taps._traced_class
    calls = []

    def second_time(cls):
        calls.append(cls)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(cls)

    monkeypatch.setattr(taps, "_traced_class", second_time)
    handler = lambda forward, args, kwargs: forward(*args, **kwargs)  # noqa: E731
    with pytest.raises(KeyboardInterrupt), tapping([(net.a, handler), (net.b, handler)]):
        pass
    assert type(net.a) is type(net.b) is nn.Linear and not taps._traced


def test_a_tapped_model_keeps_its_parameters_and_attributes():
    net = Pair()
    before = net.parameters()
    with tapping([(m, lambda forward, a, k: forward(*a, **k)) for m in net.modules()]):
        assert net.parameters() == before or set(net.parameters()) == set(before)
        assert net.a.weight.shape == (4, 4)


def test_arguments_and_outputs():
    x, y = mx.zeros(2), mx.ones(2)
    assert [k for k, _ in arrays_of((1, x), {"mask": y, "cache": None})] == [1, "mask"]
    assert put_argument((1, x), {"mask": y}, 1, y) == ((1, y), {"mask": y})
    assert put_argument((1,), {"mask": y}, "mask", x) == ((1,), {"mask": x})
    assert first_array((None, x, y)) is x and first_array(None) is None and first_array("text") is None
    assert put_first((None, x, y), y) == (None, y, y)
    assert put_first([x], y) == [y]
