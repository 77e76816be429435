"""noising_window: seed 000's loop by hand, laws, its memory and notes, and what bad input gets."""

import math

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import close

import mlxtrace
from mlxtrace.engine import memory
from mlxtrace.errors import InputError
from mlxtrace.experiments import noising_window as module
from mlxtrace.experiments.noising_window import noising_window

BASE = [7, 31, 32, 90, 15, 120]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return mlxtrace.InterpretableModel(models.make(request.param, seed=2))


def probabilities(model, ids, edits=None):
    with model.trace(ids, interventions=edits or {}) as trace:
        pass
    x = np.array(trace.output[0, -1], dtype=np.float64)
    p = np.exp(x - x.max())
    return p / p.sum(), trace.activations


def noised_by_hand(model, centre, window, level, seed, sample, samples, answer):
    """Seed 000's loop: noise or restore, layer by layer, in one pass of one row."""
    _, clean = probabilities(model, BASE)
    n = model.n_layers
    noise = np.random.RandomState(seed).randn(samples, n, len(BASE), model.d_model)

    def edit(layer):
        def fn(x):
            if centre is not None and abs(layer - centre) <= window // 2:
                return clean[f"layers.{layer}.resid_post"]
            return x + level * mx.array(noise[sample, layer].astype(np.float32))

        return fn

    edits = {f"layers.{layer}.resid_post": edit(layer) for layer in range(n)}
    return probabilities(model, BASE, edits)[0][answer]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_noising_window_is_the_seeds(model, window):
    result = noising_window(model, BASE, window=window, level=0.4, samples=2, seed=3)
    for centre in range(model.n_layers):
        for sample in range(2):
            expected = noised_by_hand(model, centre, window, 0.4, 3, sample, 2, result.answer.token)
            close(result.raw[centre, sample], expected, model, "probability")
    every = [noised_by_hand(model, None, 1, 0.4, 3, s, 2, result.answer.token) for s in range(2)]
    close(result.noised, np.mean(every), model, "probability")
    assert result.scores[-1] == pytest.approx(
        result.clean, abs=1e-6
    )  # nothing is noised above the last window


def test_noising_window_laws(model, monkeypatch):
    result = noising_window(model, BASE, level=0.4, samples=3)
    again = noising_window(model, BASE, level=0.4, samples=3)
    np.testing.assert_array_equal(result.raw, again.raw)
    assert np.abs(noising_window(model, BASE, level=0.4, samples=3, seed=1).raw - result.raw).max() > 1e-4
    still = noising_window(model, BASE, level=0)
    close(still.scores, np.full_like(still.scores, still.clean), model, "probability")
    monkeypatch.setattr("mlxtrace.experiments.noising_window.CHUNK_ROWS", 5)
    close(noising_window(model, BASE, level=0.4, samples=3).raw, result.raw, model, "probability")
    some = noising_window(model, BASE, level=0.4, samples=3, layers=[1])
    close(some.raw[0], result.raw[1], model, "probability")
    for bad in (
        *({"level": x} for x in (-1.0, "s3", math.inf, math.nan, True)),
        *({"window": 0}, {"samples": 0}, {"seed": 2**32}),
        *({"component": x} for x in ("embed", "mpl", None, ["mlp"])),
    ):
        with pytest.raises(InputError):
            noising_window(model, BASE, **bad)


def rows_of_passes(model, monkeypatch):
    rows, real = [], type(model).trace

    def trace(self, prompt, **options):
        rows.append(prompt.shape[0])
        return real(self, prompt, **options)

    monkeypatch.setattr(type(model), "trace", trace)
    return rows


def test_a_pass_takes_the_rows_that_memory_allows(model, monkeypatch):
    options = {"level": 0.4, "samples": 7}
    whole, passes = noising_window(model, BASE, **options), rows_of_passes(model, monkeypatch)
    noising_window(model, BASE, **options)
    every = sum(passes)
    assert passes == [every] and every == 7 * (model.n_layers + 1)
    least = next(m for m in range(1000, 10**9, 1000) if _fits(model, m, options))
    passes.clear()
    narrow = noising_window(model, BASE, max_memory=least, **options)
    assert len(passes) > 1 and sum(passes) == every and max(passes) < every
    close(narrow.raw, whole.raw, model, "probability")
    with pytest.raises(InputError, match="a single row needs about"):
        noising_window(model, BASE, max_memory=1000, **options)
    with pytest.raises(InputError, match="bytes above 0"):
        noising_window(model, BASE, max_memory="2GB", **options)


def _fits(model, max_memory, options):
    try:
        return module._rows_of_a_pass(model, "resid_post", len(BASE), options["samples"], max_memory) > 0
    except InputError:
        return False


def test_by_itself_it_takes_what_is_free(model, monkeypatch):
    monkeypatch.setattr(memory, "default_memory", lambda: 1000)
    with pytest.raises(InputError, match="1000 bytes"):
        noising_window(model, BASE)


def test_notes_say_what_the_sites_are_not_and_whose_answer_it_is(model, monkeypatch):
    told = {}

    def cautions(resolver, sites):
        told["sites"] = list(sites)
        return ["a caution"]

    monkeypatch.setattr(module.caveats, "cautions", cautions)
    top = noising_window(model, BASE, component="mlp")
    assert told["sites"] == [("mlp", i) for i in range(model.n_layers)] and top.notes == ["a caution"]
    other = (top.answer.token + 1) % model.vocab_size
    result = noising_window(model, BASE, target=other)
    assert "own answer" in result.notes[0] and "note: a caution" in repr(result)
    assert noising_window(model, BASE, component="mlp", target=top.answer.token).notes == ["a caution"]
    assert (
        len(noising_window(model, BASE, target=top.answer.token).notes) == 2
    )  # a state undoes the noise below it
