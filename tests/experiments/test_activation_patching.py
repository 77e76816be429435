"""activation_patching: what bad input gets, before anything is computed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import close

from mlxtrace import GaussianNoise, InterpretableModel, errors
from mlxtrace.engine import choice
from mlxtrace.experiments.grid import components_of, layers_of

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]
NAN = float("nan")
WRONG = [
    *(
        ("component", x, "component")
        for x in (None, 3, True, [], [None], [["mlp"]], ["mlp", "mlp"], "mpl", b"mlp")
    ),
    *(
        ("layers", x, "layer")
        for x in ([], 99, 3.0, NAN, "1", True, [1.5], np.array([1.5]), slice(0, 2), [0, 0])
    ),
    *(("positions", x, "osition") for x in ([], 99, 1.5, True, "lst", [None], [1, 1], slice(0, 99))),
    *(("window", x, "window") for x in (0, 1.5, True, "3", None)),
    *(("metric", x, "metric") for x in (None, "porb", [], 3, [None], np.array(["prob"]), lambda rows: 1)),
    *(("target", x, "oken") for x in (True, 1.5, -1, 10**6, [3, 10**6], mx.array([3, 10**6]), "Paris")),
    *(("direction", x, "direction") for x in (None, "both", ["denoise"])),
    *(("align", x, "align") for x in (None, "start", ["ends"])),
    *(("engine", x, "engine") for x in (None, 3, True, ["fanout"])),
    *(("max_memory", x, "bytes") for x in (0, "2GB", True, NAN, float("inf"))),
    *(("plot", x, "result.plot") for x in ("figure.png", 3, None)),
]
HEADS = [[], "", 1.5, NAN, [0, 0], [0, -4], [True], range(0), slice(0, 2), 99]


@pytest.fixture
def still(llama, monkeypatch):
    """A sweep that runs is a failure of the test."""
    choice.choose(
        llama.resolver
    )  # or the model that tests share would be found wrong for all engines but the loop

    def run(*_):
        raise AssertionError("something was computed")

    monkeypatch.setattr("mlxtrace.engine.sweep.Sweep.run", run)


@pytest.mark.parametrize(
    ("name", "value", "says"), WRONG, ids=lambda x: "function" if callable(x) else str(x)[:30]
)
def test_bad_input(llama, still, name, value, says):
    with pytest.raises(errors.MlxtraceError, match=says):
        llama.activation_patching(CLEAN, CORRUPTED, **{name: value})


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_heads_that_mean_nothing(llama, still, heads):
    with pytest.raises(errors.MlxtraceError, match="head"):
        llama.activation_patching(CLEAN, CORRUPTED, "head", heads=heads)


def test_noise_has_one_subject(llama, still):
    noise = GaussianNoise([2, 3], level=1.0)
    with pytest.raises(errors.SubjectError, match="another"):
        llama.activation_patching(CLEAN, noise, subject=[4])
    with pytest.raises(errors.InputError, match="align"):
        llama.activation_patching(CLEAN, noise, align="start")
    assert llama.activation_patching(CLEAN, noise, subject=range(2, 4), plan_only=True).cells


def test_numbers_may_come_in_any_container(llama):
    for layers in ([1, 2], (1, 2), range(1, 3), np.array([1, 2]), mx.array([1, 2]), (x for x in (1, 2))):
        assert layers_of(llama, layers) == [1, 2]
    for one in (1, np.int64(1), np.array(1), mx.array(1)):
        assert layers_of(llama, one) == [1]
    assert components_of("output") == components_of(["resid_post"]) == ["resid_post"]
    for heads in (np.array([0, 1]), mx.array([0, 1])):
        plan = llama.activation_patching(CLEAN, CORRUPTED, "head", heads=heads, plan_only=True)
        assert plan.cells == llama.n_layers


def test_logit_diff_of_one_answer_says_so(llama):
    logits, _ = llama.run_with_cache(CORRUPTED, [])
    with pytest.raises(errors.InputError, match="both are"):
        llama.activation_patching(CLEAN, CORRUPTED, metric="logit_diff", target=int(logits[0, -1].argmax()))


def test_engines_are_listed(llama):
    with pytest.raises(errors.InputError, match="fanout"):
        choice.choose(llama.resolver, None)


@pytest.mark.heavy
def test_calls_type_check():
    """`.plot(` after an experiment is known to be there, and with `plan_only=True` it is not."""
    pyright = shutil.which("pyright") or Path(sys.executable).with_name("pyright")
    if not Path(pyright).is_file():
        pytest.skip("pyright is not installed")
    root, use = Path(__file__).parents[2], Path(__file__).with_name("typed_use.py")
    command = [str(pyright), "--pythonpath", sys.executable, str(use)]
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


NEURONS = {
    "denoise": lambda clean, corrupted: (corrupted, clean),
    "noise": lambda clean, corrupted: (clean, corrupted),
}


# Gated and plain MLPs both ways, and of those with another norm or another place one way each.
BOTH_WAYS, ONE_WAY = ("gpt2", "llama"), {("gemma3_text", "noise"), ("olmo2", "denoise"), ("phi", "noise")}


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        pytest.param(
            name, way, marks=[] if name in BOTH_WAYS or (name, way) in ONE_WAY else [pytest.mark.heavy]
        )
        for name in ("gpt2", "llama", "gemma3_text", "olmo2", "phi")
        for way in NEURONS
    ],
)
def test_single_neurons_by_hand(name, direction):
    """A traced pass for each neuron, edited in place, gives the sweep's number."""
    model = InterpretableModel(models.make(name, seed=5))
    base, source = NEURONS[direction](CLEAN, CORRUPTED)
    result = model.activation_patching(
        CLEAN, CORRUPTED, "neuron", layers=[0, 2], positions="each", neurons="each", metric="logit",
        direction=direction, progress=False, target=7,
    )  # fmt: skip
    n = model.resolver.neuron_count(0)
    assert result.dims == ("layer", "position", "neuron") and result.raw.shape == (2, len(CLEAN), n)
    with model.trace(source):
        given = {layer: model.layers[layer].neuron.output.save() for layer in (0, 2)}
    for layer, position, neuron in [(0, 2, 1), (0, 6, n - 1), (2, 6, 0), (2, 6, n // 2), (0, 3, 40)]:
        with model.trace(base) as trace:
            model.layers[layer].neuron.output[:, position, neuron] = given[layer][:, position, neuron]
        by_hand = float(trace.output[0, -1, 7])
        assert result.raw[layer // 2, position, neuron] == pytest.approx(by_hand, abs=2e-5)
    every = model.activation_patching(
        CLEAN, CORRUPTED, "neuron", layers=[0, 2], positions=[2, 6], metric="logit", progress=False,
        neurons=list(range(n)), direction=direction, target=7,
    )  # fmt: skip
    whole = model.activation_patching(
        CLEAN, CORRUPTED, "neuron", layers=[0, 2], positions=[2, 6], metric="logit", progress=False,
        direction=direction, target=7,
    )  # fmt: skip
    assert every.raw == pytest.approx(whole.raw, abs=2e-5)
    assert every.settings["neurons"] == list(range(n))


def test_thousands_of_neurons_print_and_plot_as_their_strongest(llama, tmp_path):
    result = llama.activation_patching(
        CLEAN, CORRUPTED, "neuron", neurons="each", metric="l2", progress=False
    )
    said = repr(result)
    assert "one by one" in said and "the strongest of 96 shown" in said and len(said.splitlines()) < 20
    best = result.top(1)[0]
    assert f"neuron, layer {best['layer']}, neuron {best['neuron']}" in said
    assert len(result._repr_html_()) < 4000 and len(result.to_rows()) == result.raw.size
    assert (result.plot().axes[0].patches[0].get_height() == result.recovery[0]).any()
    again = type(result).load(result.save(tmp_path / "neurons.npz"))
    assert again.dims == result.dims and again.top(3) == result.top(3)
    one = llama.activation_patching(CLEAN, CORRUPTED, "neuron", neurons=[3, 17], metric="l2", progress=False)
    assert "MLP neurons 3, 17" in repr(one) and dict(one)


def test_single_neurons_of_a_set_and_of_noise(llama):
    clean, other = [CLEAN, CLEAN[::-1]], [CORRUPTED, CORRUPTED[::-1]]
    options = {"component": "neuron", "layers": 1, "neurons": "each", "metric": "l2", "progress": False}
    made = llama.activation_patching(clean, other, positions="each", **options)
    single = llama.activation_patching(CLEAN, CORRUPTED, positions="each", **options)
    assert made.dims == single.dims
    close(made.per_pair[0], single.raw, llama, least=2e-6)
    noise = GaussianNoise(subject=[2, 3], samples=2)
    noised = llama.activation_patching(CLEAN, noise, **options)
    assert noised.raw.shape == (1, 96) and np.isfinite(noised.recovery).all()
    assert "one by one" in repr(made - made)
