"""One pass: what it writes where, the prefix that its rows share, and what it does not let pass."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine import choice
from mlxtrace.engine.batch import Batch, scatter
from mlxtrace.engine.runs import FLAT, Patch, Run, capture

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]


@pytest.fixture(scope="module")
def model():
    made = InterpretableModel(make("llama"))
    choice.choose(made.resolver)  # with a batch that is as it should be
    return made


@pytest.mark.parametrize("heads", [False, True])
def test_scatter_writes_where_numpy_would(heads):
    draw = np.random.RandomState(0)
    x, source = draw.randn(4, 5, 3, 2).astype(np.float32), draw.randn(2, 5, 3, 2).astype(np.float32)
    to, from_ = ([3, 1, 3], [0, 4, 2]), ([0, 1, 1], [1, 1, 4])
    if heads:
        to, from_ = (*to, [2, 0, 1]), (*from_, [2, 0, 1])
    to, from_ = tuple(map(np.array, to)), tuple(map(np.array, from_))
    given = mx.array(x)
    found = np.array(scatter(given, to, mx.array(source), from_))
    expected = x.copy()
    expected[to] = source[from_]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.array(given), x)


@pytest.mark.parametrize("birth", [FLAT, 0, 1])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_cell_of_a_pass_is_a_trace_of_its_own(model, birth, sparse):
    site = model.resolver.site("mlp", 1)
    _, sources = capture(model.resolver, Run(tuple(CLEAN)), [site])
    cells = [(birth, [Patch(site, (p,), (p,))]) for p in (2, 7)]
    batch = Batch(
        model.resolver, Run(tuple(CORRUPTED)), {False: sources}, cells, block=1, sparse=sparse and birth >= 0
    )
    logits = batch.run()
    plain = np.array(model.net(mx.array([CORRUPTED])))[0, -1]
    np.testing.assert_allclose(logits[0], plain, atol=5e-5)
    for row, position in ((1, 2), (2, 7)):
        with model.trace(CORRUPTED) as trace:
            model.layers[1].mlp.output[:, position] = sources[site.name][:, position]
        np.testing.assert_allclose(logits[row], np.array(trace.output)[0, -1], atol=5e-5)


def test_base_rows_that_differ_from_the_plain_run_raise(model, monkeypatch):
    honest = Batch.run
    monkeypatch.setattr(Batch, "run", lambda self: honest(self) + 0.01)
    with pytest.raises(errors.EngineError, match="base rows"):
        model.activation_patching(CLEAN, CORRUPTED, progress=False)


def test_a_tap_that_does_not_fire_raises(model, monkeypatch):
    honest = Batch._patch

    def forgetful(self, cells):
        honest(self, cells)
        self.planned += 1

    monkeypatch.setattr(Batch, "_patch", forgetful)
    with pytest.raises(errors.EngineError, match="planned taps fired"):
        model.activation_patching(CLEAN, CORRUPTED, progress=False)
