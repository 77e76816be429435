"""Reading vectors by norm and head: the model's own logits, in parts that fit the memory, or a reason why not."""

import dataclasses

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.engine import lens
from mlxtrace.errors import InputError, UnsupportedError

IDS = [7, 31, 32, 90, 15, 120]


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(models.make("llama"))


def kept(model, positions):
    site = model.resolver.site("resid_post", model.n_layers - 1)
    return lens.streams(model.resolver, IDS, [site], positions)[1][site.name][0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_the_last_stream_is_read_as_the_model_reads_it(name):
    model = InterpretableModel(models.make(name))
    with model.trace(IDS) as trace:
        pass
    found = lens.read_out(model.resolver, kept(model, range(len(IDS))))
    np.testing.assert_allclose(found, np.array(trace.output[0]), rtol=1e-5, atol=1e-5)
    lens.check(model.resolver)


def test_positions_come_in_the_order_in_which_they_are_asked_for(llama):
    some, every = kept(llama, [4, 0, 2]), kept(llama, range(len(IDS)))
    assert mx.array_equal(some, every[mx.array([4, 0, 2])])


def test_less_memory_is_more_passes_with_the_same_numbers(llama, monkeypatch):
    vectors, seen = kept(llama, range(len(IDS))), []
    whole = lens.read_all(llama.resolver, vectors, 3, 12)
    honest = lens.read_out
    monkeypatch.setattr(lens, "read_out", lambda r, v: seen.append(len(v)) or honest(r, v))
    parts = lens.read_all(llama.resolver, vectors, 3, 12, max_memory=lens.METRIC_BYTES * 160 + 2 * 160 * 12)
    assert seen == [2, 2, 2]
    for name in ("ids", "probabilities", "prob", "rank"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4)
    with pytest.raises(InputError, match="max_memory is 100 bytes"):
        lens.read_all(llama.resolver, vectors, 3, 12, max_memory=100)


def test_a_model_without_a_norm_of_its_own_is_refused_with_the_reason():
    model = InterpretableModel(models.make("llama"))
    model.resolver.structure = dataclasses.replace(model.resolver.structure, norm=None)
    with pytest.raises(UnsupportedError, match="no logit lens: no single module follows the last layer"):
        lens.check(model.resolver)


def test_what_stands_between_the_last_layer_and_the_norm_is_seen(monkeypatch):
    model = InterpretableModel(models.make("llama"))
    honest = lens.read_out
    monkeypatch.setattr(lens, "read_out", lambda r, v: honest(r, v + 0.1))
    with pytest.raises(UnsupportedError, match="are off its own logits by"):
        model.logit_lens(IDS)
    monkeypatch.setattr(lens, "read_out", lambda r, v: honest(r, v)[:1])
    model.resolver.measured.clear()
    with pytest.raises(UnsupportedError, match="its head makes"):
        model.logit_lens(IDS)
