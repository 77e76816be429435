"""The calls of a pass are written down by layer, also where a stack runs twice; and which layers are parallel."""

import mlx.core as mx
from models import make

from mlxtrace.anatomy.recording import forward
from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.layer_records import Hooks, parallel_layers, record_calls


def test_every_call_of_every_layer_is_written_down():
    resolver = ModuleResolver(make("nanbeige"))  # two layers, run twice
    hooks = Hooks(resolver)
    calls = record_calls(hooks)
    plain = forward(resolver.net, mx.array([[3, 4, 5]]))
    with hooks.hooked():
        again = forward(resolver.net, mx.array([[3, 4, 5]]))
        mx.eval(again)
    assert mx.array_equal(again, plain)  # writing down changes nothing
    assert list(calls) == [0, 1, 2, 3] and calls[0].layer.path == calls[2].layer.path
    assert [call.rows for call in calls.values()] == [1] * 4
    assert not mx.array_equal(calls[0].args[0], calls[2].args[0])


def test_which_layers_are_parallel():
    assert parallel_layers(ModuleResolver(make("phi"))) == (True, True, True)
    assert parallel_layers(ModuleResolver(make("olmo2"))) == (False, False, False)
    assert parallel_layers(ModuleResolver(make("mamba"))) == (False, False, False)


def test_a_model_is_looked_at_once_however_often_its_calls_are_written_down(monkeypatch):
    resolver = ModuleResolver(make("llama"))
    record_calls(Hooks(resolver))
    monkeypatch.setattr("mlxtrace.engine.differences.record", None)  # nothing is recorded a second time
    assert record_calls(Hooks(resolver)) == {}
