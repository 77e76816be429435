"""The record of a pass: which calls were made inside which, with arrays that nobody changes afterwards."""

from __future__ import annotations

import time
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import errors
from mlxtrace.anatomy import recording
from mlxtrace.anatomy.recording import (
    Recorder,
    find_vocab,
    forward,
    module_paths,
    probe_tokens,
    record,
    same,
    snapshot,
    without_caches,
)

IDS = mx.array([[3, 17, 5, 90]])


@pytest.fixture(scope="module")
def calls(llama):
    return record(llama.net, IDS)


def test_calls_begin_in_order_and_lie_inside_each_other(calls):
    assert calls[0].path == "" and calls[0].parent is None and calls[0].end == len(calls)
    for call in calls[1:]:
        outer = calls[call.parent]
        assert outer.index < call.index < call.end <= outer.end
        assert call.path.startswith(outer.path)


def test_outputs_are_those_of_a_plain_pass(llama, calls):
    assert same(calls[0].hidden(), forward(llama.net, IDS))
    norm = next(c for c in calls if c.path == "model.norm")
    assert same(llama.net.model.norm(norm.inputs()[0]), norm.hidden())
    assert same(norm.forward(*norm.args, **norm.kwargs), norm.hidden())


def test_attention_calls_are_noted_at_the_module_that_makes_them(llama, calls):
    noted = {c.path: c.attention for c in calls if c.attention}
    heads = (llama.n_heads, llama.n_kv_heads)
    assert noted == {layer.attention: (heads,) for layer in llama.resolver.structure.layers}
    assert not any(c.gathered for c in calls)


def test_a_record_is_not_changed_by_what_the_model_does_to_its_arrays():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def __call__(self, tokens):
            x = tokens.astype(mx.float32)
            y = self.part(x)
            y += 1
            return y

    net = Adds()
    whole, part = record(net, IDS)
    assert part.path == "part" and same(part.inputs()[0], IDS.astype(mx.float32))
    assert same(part.hidden(), IDS.astype(mx.float32)) and same(whole.hidden(), IDS + 1.0)


def test_an_error_inside_leaves_no_call_open():
    class Fails(nn.Module):
        def __call__(self, x):
            raise ZeroDivisionError

    recorder, net = Recorder(IDS), Fails()
    with pytest.raises(ZeroDivisionError), recorder.tapping({"": net}):
        net(IDS)
    with recorder.tapping({"part": nn.Identity()}):
        pass
    assert len(recorder.calls) == 1 and recorder._stack == []


def test_what_is_no_language_model_says_what_it_returned():
    with pytest.raises(errors.LoadError, match="returned NoneType, not logits"):
        forward(type("Mute", (nn.Module,), {"__call__": lambda self, x: None})(), IDS)


def test_snapshots_and_caches():
    x, pair = mx.ones(2), (mx.zeros(2), [mx.ones(1)])
    copy = snapshot((x, pair, "text"))
    x += 1
    assert copy[0].tolist() == [1, 1] and copy[2] == "text" and isinstance(copy[1][1], list)
    call = record(models.make("llama"), IDS)[0]
    cache = type("Cache", (), {"update_and_fetch": None})()
    call.args, call.kwargs = (IDS, cache), {"cache": [cache], "mask": x}
    args, kwargs = without_caches(call)
    assert args[1] is None and kwargs["cache"] is None and same(kwargs["mask"], x)


def test_equal_means_bit_for_bit_and_of_one_type():
    assert same(mx.ones(2), mx.ones(2)) and not same(mx.ones(2), mx.ones(2, mx.float16))
    assert not same(mx.ones(2), mx.ones((1, 2))) and not same(mx.ones(2), None)


def test_visits_count_the_calls_of_a_module():
    calls = record(models.make("nanbeige"), IDS)
    assert [c.visit for c in calls if c.path == "model.layers.0.mlp"] == [0, 1]


def test_paths_are_in_natural_order():
    paths = module_paths(models.make("gpt2", n_layer=12))
    assert [p for p in paths if p.startswith("model.h.") and p.count(".") == 2] == [
        f"model.h.{i}" for i in range(12)
    ]


def test_vocabulary_and_tokens():
    assert find_vocab(models.make("llama")) == find_vocab(models.make("gpt2")) == models.VOCAB
    assert find_vocab(nn.Linear(2, 2)) is None
    assert find_vocab(nn.Sequential(nn.Embedding(7, 4))) == 7
    tokens = probe_tokens(5)
    assert tokens.shape == (1, 8) and tokens.max() < 5 and len(set(tokens[0].tolist())) > 2


def test_arguments_by_slot(calls):
    layer = next(c for c in calls if c.path == "model.layers.1")
    assert same(layer.argument(0), layer.inputs()[0])
    assert layer.argument(None) is None and layer.argument("nothing") is None


def test_a_rank_that_waits_for_others_says_so(monkeypatch, capfd):
    """It may wait for ever, for a rank that is alive and elsewhere; one that need not wait says nothing."""
    group = SimpleNamespace(rank=lambda: 1, size=lambda: 2)
    monkeypatch.setattr(mx.distributed, "all_gather", lambda x, group, stream: x)
    recording.meet(group, "a pass over something")
    monkeypatch.setattr(recording, "WAITING", 0.01)
    evaluate = mx.eval
    monkeypatch.setattr(mx, "eval", lambda *x: time.sleep(0.2) or evaluate(*x))
    recording.meet(group, "a pass over something else")
    said = "mlxtrace: rank 1 has waited 0 s for the other ranks, at a pass over something else\n"
    assert capfd.readouterr().err == said
