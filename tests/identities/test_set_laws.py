"""Laws of sets, on every tiny architecture: a set gives the numbers of its pairs alone, and averages made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from models import SAMPLED, make
from noise import close

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.errors import UnsupportedError
from mlxtrace.prompts import Pair

FEW = ["llama", "qwen3_next"]  # with a prefix that rows share, and without
# Of two lengths; the subject (where the prompts differ) begins at another position in each, and is of another length.
PAIRS = [
    Pair([3, 17, 40, 41, 52, 60, 77, 8, 9], [3, 17, 90, 91, 52, 60, 77, 8, 9], id="a"),
    Pair([5, 9, 23, 31, 64, 12, 7], [5, 62, 23, 31, 64, 12, 7], id="b"),
    Pair([3, 44, 40, 41, 52, 18, 77, 8, 21], [3, 45, 46, 47, 52, 18, 77, 8, 21], id="c"),
    Pair([11, 9, 23, 31, 64, 12, 3], [11, 9, 23, 48, 49, 12, 3], id="d"),
    Pair([7, 17, 20, 41, 52, 60, 77, 8, 9], [7, 17, 20, 41, 53, 60, 77, 8, 9], id="e"),
]
ANSWERS = {"target": 6, "foil": 30}
OPTIONS = [
    {"positions": "regions", "component": "resid_post"},
    {"positions": "regions", "component": ["mlp", "attn"], "within": "last", "direction": "noise"},
    {"component": "resid_pre", "window": 3, "metric": ["logit", "logit_diff"]},
]


@pytest.fixture(scope="module", params=SAMPLED)
def model(request):
    return InterpretableModel(make(request.param))


def patch(model, pairs, corrupted=None, **options):
    options = {"metric": "logit_diff", **ANSWERS, "progress": False, **options}
    return model.activation_patching(pairs, corrupted, **options)


def has_all(model, components):
    names = [components] if isinstance(components, str) else components
    try:
        return all(model.resolver.site(name, i) for name in names for i in range(model.n_layers))
    except UnsupportedError:
        return False


@pytest.fixture(scope="module", params=FEW)
def one_of_few(request):
    return InterpretableModel(make(request.param))


@pytest.mark.parametrize("options", OPTIONS[1:], ids=lambda options: "-".join(map(str, options.values())))
def test_components_windows_and_metrics_of_a_set(one_of_few, options):
    test_a_set_gives_the_numbers_of_its_pairs_alone(one_of_few, options)


@pytest.mark.parametrize("options", OPTIONS[:1], ids=["regions"])
def test_a_set_gives_the_numbers_of_its_pairs_alone(model, options):
    if not has_all(model, options["component"]):
        pytest.skip(f"this architecture has no {options['component']}")
    together = patch(model, PAIRS, **options)
    assert together.ids == list("abcde")
    for pair, single in zip(PAIRS, together.singles, strict=True):
        alone = patch(model, pair, **options)
        assert (single.dims, single.coords) == (alone.dims, alone.coords)
        close(single.raw, alone.raw, model, least=5e-5)
        for run in ("_clean", "_corrupted"):
            for name, value in getattr(alone, run).items():
                close(getattr(single, run)[name], value, model, least=5e-5)


def test_every_engine_gives_the_numbers_of_the_textbook(one_of_few):
    model = one_of_few
    pairs, options = [PAIRS[0], PAIRS[2], PAIRS[1]], OPTIONS[0]
    fast = patch(model, pairs, **options)
    slow = patch(model, pairs, engine="loop", **options)
    for a, b in zip(fast.singles, slow.singles, strict=True):
        close(a.raw, b.raw, model, least=5e-5)


def test_noise_is_drawn_for_each_pair_as_for_it_alone(one_of_few):
    model = one_of_few
    noise = GaussianNoise(level=0.5, samples=3)
    subjects = [[2, 3], [1], [1, 2, 3]]
    options = {"component": "resid_post", "positions": "subject_last"}
    prompts = [pair.clean for pair in PAIRS[:3]]
    together = patch(model, prompts, noise, subject=subjects, **options)
    for single, prompt, subject in zip(together.singles, prompts, subjects, strict=True):
        alone = patch(model, prompt, noise, subject=subject, **options)
        close(single.raw, alone.raw, model, least=5e-5)
        close(single.corrupted, alone.corrupted, model, least=5e-5)


def test_memory_changes_no_number():
    model = InterpretableModel(make("llama"))
    whole = patch(model, PAIRS, **OPTIONS[0])
    least = patch(model, PAIRS, max_memory=_least(model), **OPTIONS[0])
    assert least.plan.passes > whole.plan.passes
    for a, b in zip(whole.singles, least.singles, strict=True):
        close(a.raw, b.raw, model, least=5e-5)


def _least(model) -> int:
    """About as little memory as one of the pairs takes."""
    return max(patch(model, pair, plan_only=True, **OPTIONS[0]).bytes for pair in PAIRS)


def test_averages_are_those_of_the_pairs():
    model = InterpretableModel(make("llama"))
    found = patch(model, PAIRS, **OPTIONS[0])
    singles = [patch(model, pair, **OPTIONS[0]) for pair in PAIRS]
    for r, region in enumerate(found.coords["region"]):
        have = [s for s in singles if region in s.coords["region"]]
        assert found.n[0, r] == len(have)
        for layer in range(model.n_layers):
            raw = [s.raw[layer, s.coords["region"].index(region)] for s in have]
            moved = sum(x - s.corrupted for x, s in zip(raw, have, strict=True))
            gap = sum(s.clean - s.corrupted for s in have)
            close(found.raw[layer, r], np.mean(raw), model, least=5e-5)
            assert abs(found.recovery[layer, r] - 100 * moved / gap) < 0.1


def test_effects_of_a_set_are_those_of_its_pairs(one_of_few):
    model = one_of_few
    together = model.causal_effects(PAIRS[:3], positions="regions", metric="logit", progress=False, target=6)
    for pair, single in zip(PAIRS, together.singles, strict=False):
        alone = model.causal_effects(pair, positions="regions", metric="logit", progress=False, target=6)
        assert single.regions == alone.regions
        close(single.direct, alone.direct, model, least=5e-5)
        close(single.indirect, alone.indirect, model, least=5e-5)


def test_noising_windows_of_a_set_are_those_of_its_prompts():
    model = InterpretableModel(make("llama"))
    together = model.noising_window(PAIRS, level=0.3, target=6)
    for pair, single in zip(PAIRS, together.singles, strict=True):
        alone = model.noising_window(pair.clean, level=0.3, target=6)
        np.testing.assert_allclose(single.scores, alone.scores, atol=1e-7)
    np.testing.assert_allclose(together.scores, np.mean([s.scores for s in together.singles], 0))
