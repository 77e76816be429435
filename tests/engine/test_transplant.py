"""Vectors written into a run: by every engine what one traced pass for each gives, whatever the memory."""

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace import interventions as iv
from mlxtrace.engine.choice import choose
from mlxtrace.engine.runs import Run
from mlxtrace.engine.transplant import Transplant
from mlxtrace.errors import EngineError, InputError

IDS = (7, 31, 32, 90, 15, 120)


@pytest.fixture(scope="module")
def llama():
    return InterpretableModel(models.make("llama"))


def vectors(width, n=3):
    return mx.array(np.random.default_rng(0).normal(size=(n, width)).astype(np.float32))


def measure(logits):
    """Two tokens of the first and of the last position that is read."""
    return np.stack([logits[:, 0, 5], logits[:, -1, 9]]).astype(np.float64)


def by_hand(model, component, position, given, read):
    found = np.zeros((2, model.n_layers, len(given)))
    for layer in range(model.n_layers):
        for n in range(len(given)):
            edit = iv.replace_at(given[n], position)
            with model.trace(list(IDS), interventions={f"layers.{layer}.{component}": edit}) as trace:
                pass
            found[:, layer, n] = measure(np.array(trace.output[:, -read:]))[:, 0]
    return found


@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
@pytest.mark.parametrize(
    "component, position, read", [("resid_post", 5, 1), ("resid_post", 2, 2), ("attn", 4, 1)]
)
def test_every_engine_is_the_loop_by_hand(llama, engine, component, position, read):
    sites = [llama.resolver.site(component, layer) for layer in range(llama.n_layers)]
    given = vectors(llama.d_model)
    moved = Transplant(llama.resolver, Run(IDS), sites, position, choose(llama.resolver, engine), read)
    found = moved.run(given, measure, progress=False)
    np.testing.assert_allclose(found.values, by_hand(llama, component, position, given, read), atol=2e-5)
    with llama.trace(list(IDS)) as plain:
        pass
    np.testing.assert_allclose(found.base, measure(np.array(plain.output[:, -read:]))[:, 0], atol=2e-5)


def test_less_memory_is_more_passes_with_the_same_numbers(llama):
    sites = [llama.resolver.site("resid_pre", layer) for layer in range(llama.n_layers)]
    engine, given = choose(llama.resolver), vectors(llama.d_model, 4)
    whole = Transplant(llama.resolver, Run(IDS), sites, 3, engine).run(given, measure, False)
    small = Transplant(llama.resolver, Run(IDS), sites, 3, engine)
    small.allowed = small._bytes(3)
    parts = small.run(given, measure, False)
    assert whole.passes == 1 and parts.passes == 4
    np.testing.assert_allclose(parts.values, whole.values, atol=2e-5)
    with pytest.raises(InputError, match="a single row needs about"):
        Transplant(llama.resolver, Run(IDS), sites, 3, engine, max_memory=10).run(given, measure, False)


def test_where_nothing_can_reach_the_logits_nothing_is_run(llama):
    last = [llama.resolver.site("resid_post", llama.n_layers - 1)]
    moved = Transplant(llama.resolver, Run(IDS), last, 2, choose(llama.resolver))
    found = moved.run(vectors(llama.d_model), measure, False)
    assert found.passes == 0 and (found.values == found.base[:, None, None]).all()


def test_a_base_row_that_is_not_the_plain_run_is_an_error(llama, monkeypatch):
    moved = Transplant(llama.resolver, Run(IDS), [llama.resolver.site("mlp", 1)], 3, choose(llama.resolver))
    honest = moved._each_read
    monkeypatch.setattr(moved, "_each_read", lambda x: honest(x) + len(x))
    with pytest.raises(EngineError, match="base row"):
        moved.run(vectors(llama.d_model), measure, False)
