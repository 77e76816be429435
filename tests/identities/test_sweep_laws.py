"""Laws of the sweep, on every tiny architecture: the engines agree, and patches do what they must."""

import mlx.core as mx
import numpy as np
import pytest
from models import SAMPLED, make
from noise import allowed, close
from test_head_laws import KINDS

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.anatomy.components import COMPONENTS
from mlxtrace.engine import choice
from mlxtrace.engine.differences import side_axes
from mlxtrace.engine.runs import Cell, Patch, Run, capture
from mlxtrace.engine.sweep import Sweep
from mlxtrace.errors import UnsupportedError
from mlxtrace.experiments.grid import HEADED
from mlxtrace.metrics import softmax

CLEAN = [3, 17, 40, 41, 52, 60, 77, 8, 9]
CORRUPTED = [3, 17, 90, 91, 52, 60, 77, 8, 9]
OPTIONS = [  # one for each component in turn: the full cross product takes minutes and finds no more
    {"positions": "each"},
    {"positions": "each", "window": 3, "layers": [0, -1]},
    {"positions": [2, -1], "direction": "noise"},
]


@pytest.fixture(scope="module", params=SAMPLED)
def model(request):
    return InterpretableModel(make(request.param))


def has(model, component):
    try:
        model.resolver.site(component, 0)
        return [model.resolver.site(component, i) for i in range(model.n_layers)] != []
    except UnsupportedError:
        return False


def patch(model, corrupted=CORRUPTED, **options):
    return model.activation_patching(CLEAN, corrupted, metric="logit", progress=False, **options)


def percent(result, model):
    """The model's noise as recovery: each of its three logits may be off by that much."""
    logits = max(abs(result.clean), abs(result.corrupted), 1.0)
    return 100 * 3 * allowed(model) * logits / abs(result.clean - result.corrupted)


@pytest.mark.parametrize("component", COMPONENTS)
def test_auto_equals_the_textbook(model, component, request):
    if component in HEADED and request.node.callspec.params["model"] in KINDS:
        pytest.skip("test_head_laws has every head of this architecture")
    if not has(model, component):
        pytest.skip(f"this architecture has no {component}")
    options = OPTIONS[list(COMPONENTS).index(component) % len(OPTIONS)]
    if component in HEADED:  # one of the heads: of other architectures test_head_laws has them all
        fewest = min(model.resolver.head_count(component, i) for i in range(model.n_layers))
        options = {**options, "heads": [fewest - 1]}
    fast = patch(model, component=component, **options)
    slow = patch(model, component=component, engine="loop", **options)
    close(fast.raw, slow.raw, model, least=5e-5)
    assert fast.dims == slow.dims


def test_noise_samples_are_rows(model):
    noise = GaussianNoise(subject=range(2, 4), level=0.5, samples=3)
    fast = patch(model, noise, component="resid_post", positions="each")
    slow = patch(model, noise, component="resid_post", positions="each", engine="loop")
    close(fast.raw, slow.raw, model, least=5e-5)


def test_the_whole_stream_is_the_whole_run(model):
    if not has(model, "resid_pre"):
        pytest.skip("layers are never called")
    if side_axes(model.resolver):
        pytest.skip("layers read more than the stream: per-layer inputs, shared keys")
    result = patch(model, component="resid_pre")
    close(result.raw, np.full_like(result.raw, result.clean), model)
    np.testing.assert_allclose(result.recovery, 100, atol=percent(result, model))


def test_cells_that_cannot_differ_recover_exactly_nothing(model):
    if not has(model, "resid_post"):
        pytest.skip("layers are never called")
    for engine in ("auto", "loop"):
        result = patch(model, component="resid_post", positions="each", engine=engine)
        exact = 0 if engine == "auto" else percent(result, model)
        assert np.abs(result.recovery[:, :2]).max() <= exact
        assert np.abs(result.recovery[-1, :-1]).max() <= exact


def test_patching_with_itself_changes_nothing(model):
    sweep = _sweep_of_itself(model)
    logits, _ = sweep.begin()
    outcome = sweep.run(lambda rows: rows.T.astype(float), progress=False)
    right = np.broadcast_to(logits[0][:, None], outcome.values[..., 0].shape)
    close(outcome.values[..., 0], right, model)


def _sweep_of_itself(model):
    run = Run(tuple(CLEAN))
    cells = [
        Cell((Patch(model.resolver.site(component, layer), (2, 5), (2, 5)),))
        for component in ("attn", "mlp", "resid_mid", "resid_post")
        if has(model, component)
        for layer in range(model.n_layers)
    ]
    engine = choice.choose(model.resolver)
    return Sweep(model.resolver, run, run, cells, type(engine)(engine.name, False, False, engine.axes))


def test_metrics_are_of_the_models_own_logits(model):
    result = model.activation_patching(
        CLEAN, CORRUPTED, metric="prob", component="attn", layers=0, progress=False
    )
    logits, _ = capture(model.resolver, Run(tuple(CLEAN)), [])
    with model.trace(CLEAN) as trace:
        pass
    whole = np.array(trace.output[0, -1].astype(mx.float32))
    close(logits[0], whole, model, least=5e-5)
    close(result.clean, softmax(whole)[int(whole.argmax())], model, "probability", least=2e-6)
