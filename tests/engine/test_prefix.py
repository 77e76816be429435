"""The prefix that the rows of a pass share: whole where a model looks at it, and taken apart in its attention."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from models import make

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy import attention_parts
from mlxtrace.anatomy.attention_parts import Joined, Queries
from mlxtrace.engine import choice
from mlxtrace.engine.batch import Prefix
from mlxtrace.engine.plan import Engine
from mlxtrace.engine.sweep import Cell, Patch, Run, Runs, Sweep
from mlxtrace.engine.transplant import Transplant


def base_cache(rows=2):
    draw = np.random.RandomState(0)
    base = KVCache()
    base.update_and_fetch(*(mx.array(draw.randn(rows, 3, 6, 4).astype(np.float32)) for _ in "kv"))
    return base


@pytest.mark.parametrize("taken_apart", [False, True])
def test_a_prefix_is_the_base_rows_keys_and_values(taken_apart):
    base, origin = base_cache(), np.array([0, 1, 1, 0])
    queries = Queries.of(np.ones((4, 2), bool), origin, np.zeros(4, int)) if taken_apart else None
    prefix = Prefix(base, 4, origin, queries)
    more = mx.ones((4, 3, 2, 4))
    found = prefix.update_and_fetch(more, 2 * more)
    assert prefix.offset == 6 and found[0].shape == (4, 3, 6, 4)
    for got, of_base, own in zip(found, (base.keys, base.values), (more, 2 * more), strict=True):
        assert mx.array_equal(got[:, :, :4], of_base[mx.array(origin), :, :4])
        assert mx.array_equal(got[:, :, 4:], own)
        assert isinstance(got, Joined) == taken_apart
        if taken_apart:
            assert mx.array_equal(got.shared, of_base[:, :, :4]) and mx.array_equal(got.own, own)
            assert got.queries is queries and not isinstance(got * 1, Joined)


def test_an_empty_cache_is_no_prefix():
    with pytest.raises(errors.EngineError, match="empty"):
        Prefix(KVCache(), 2, np.array([0]))


# ---- sweeps


def both_kinds(monkeypatch, arithmetic):
    """Attention taken apart by NumPy, or by MLX, a few scores at a time."""
    if arithmetic == "mlx":
        monkeypatch.setattr(attention_parts, "on_processor", lambda: False)
    monkeypatch.setattr(attention_parts, "IN_CACHE", 64)
    monkeypatch.setattr(attention_parts, "IN_MEMORY", 64)


def engines(resolver):
    """By how a prefix is shared: the engines that must agree."""
    trial = choice.trial_sweep(resolver)
    known = {"causal": trial.causal, "axes": trial.axes}
    return {
        "loop": Engine("loop", causal=False),
        "no prefix": Engine("fanout", False, **known),
        "copied": Engine("fanout", True, **known),
        "looked at once": Engine("fanout", True, **known, merges=lambda shared, ran: True),
    }


def cells_of(resolver, positions, prompts=1):
    sites = [
        resolver.site(name, layer)
        for name in ("resid_pre", "attn", "mlp", "resid_post")
        for layer in (0, resolver.n_layers - 1)
    ]
    places = [(site, (p,), i) for site in sites for p in positions for i in range(prompts)]
    places += [(sites[0], tuple(positions), 0)]
    return [Cell((Patch(site, at, at),), i) for site, at, i in places]


def agree(resolver, base, source, cells, monkeypatch, max_memory=1 << 40, **asked):
    """Every way of sharing a prefix gives the loop's numbers, and the last one does look at it once."""
    looked, honest = [], attention_parts._joined
    monkeypatch.setattr(attention_parts, "_joined", lambda *args: looked.append(1) or honest(*args))
    found = {}
    for name, engine in engines(resolver).items():
        looked.clear()
        sweep = Sweep(resolver, base, source, cells, engine, max_memory, **asked)
        outcome = sweep.run(lambda x: x.reshape(len(x), -1).T.astype(float), progress=False)
        assert bool(looked) == (name == "looked at once"), name
        found[name] = outcome.values
    scale = np.abs(found["loop"]).max()
    for name, values in found.items():
        np.testing.assert_allclose(values, found["loop"], atol=2e-5 * scale, err_msg=name)
    assert np.ptp(found["loop"], axis=1).max() > 1e-2 * scale  # the cells do something
    return outcome.plan


CLEAN = (3, 17, 40, 41, 52, 60, 77, 8, 9, 11)
CORRUPTED = (3, 17, 40, 41, 52, 90, 91, 92, 9, 11)


@pytest.mark.parametrize("arithmetic", ["numpy", "mlx"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "qwen3_moe"])
def test_a_prefix_looked_at_once_changes_nothing(name, arithmetic, monkeypatch):
    both_kinds(monkeypatch, arithmetic)
    resolver = InterpretableModel(make(name)).resolver
    agree(resolver, Run(CLEAN), Run(CORRUPTED), cells_of(resolver, (5, 7, 9)), monkeypatch, read=2)


@pytest.mark.parametrize("arithmetic", ["numpy", "mlx"])
def test_noise_has_a_prefix_for_each_sample(arithmetic, monkeypatch):
    both_kinds(monkeypatch, arithmetic)
    resolver = InterpretableModel(make("llama")).resolver
    noise = 0.5 * np.random.RandomState(0).randn(3, 2, resolver.structure.d_model)
    cells = cells_of(resolver, (5, 8))
    agree(resolver, Run(CLEAN, noise, (2, 3)), Run(CLEAN), cells, monkeypatch)


@pytest.mark.parametrize("arithmetic", ["numpy", "mlx"])
@pytest.mark.parametrize("share", [1.0, 0.7])  # of the memory that one pass would take
def test_prompts_of_one_pass_have_prefixes_of_their_own(arithmetic, share, monkeypatch):
    both_kinds(monkeypatch, arithmetic)
    resolver = InterpretableModel(make("llama")).resolver
    bases = Runs(tuple(Run((*CLEAN[:1], i + 20, *CLEAN[2:])) for i in range(3)))
    sources = Runs(tuple(Run((*CORRUPTED[:1], i + 20, *CORRUPTED[2:])) for i in range(3)))
    cells = cells_of(resolver, (5, 7, 9), prompts=3)[::-1]
    whole = Sweep(resolver, bases, sources, cells, engines(resolver)["looked at once"], 1 << 40).plan()
    assert whole.passes == 1
    plan = agree(resolver, bases, sources, cells, monkeypatch, int(share * whole.bytes))
    assert (plan.passes > 1) == (share < 1)


def test_a_model_that_computes_attention_itself_is_given_all_keys(monkeypatch):
    model = InterpretableModel(make("gemma2"))
    looked = []
    monkeypatch.setattr(attention_parts, "_joined", lambda *args: looked.append(1))
    trial = choice.trial_sweep(model.resolver)
    assert not trial.merged_wrong() and not looked


def test_where_it_is_wrong_the_prefix_is_copied(monkeypatch):
    trial = choice.TrialSweep(InterpretableModel(make("llama")).resolver)
    honest = attention_parts._joined
    monkeypatch.setattr(attention_parts, "_joined", lambda *args: 1.1 * honest(*args))
    engine = trial.engine("fanout")
    assert engine.prefix and not engine.merges(1000, 10) and "differ" in trial.merged_wrong()


def test_short_prefixes_are_copied():
    engine = choice.choose(InterpretableModel(make("llama")).resolver)
    assert [engine.merges(*lengths) for lengths in ((63, 4), (64, 4), (64, 200), (1000, 900))] == [0, 1, 0, 1]


@pytest.mark.parametrize("differs_at", [1, 72])
def test_long_prompts_are_attended_to_in_parts(differs_at, monkeypatch):
    """In each layer of the plain runs, and in each of a pass: the rows' own and what they share apart."""
    resolver = InterpretableModel(make("llama")).resolver
    ids = np.random.RandomState(0).randint(3, 150, 80)
    others = np.where(np.arange(80) == differs_at, ids + 1, ids)
    base, source, called = Run(tuple(ids.tolist())), Run(tuple(others.tolist())), []
    honest = attention_parts.attention
    choice.choose(resolver).merges(70, 10)
    monkeypatch.setattr(attention_parts, "on_processor", lambda: True)
    monkeypatch.setattr(
        attention_parts, "attention", lambda *args: called.append(len(args[0])) or honest(*args)
    )
    cells = [Cell((Patch(resolver.site("resid_pre", 0), (differs_at,), (differs_at,)),))]
    sweep = Sweep(resolver, base, source, cells, choice.choose(resolver), 1 << 40)
    sweep.plan()  # passes are timed once per model
    called.clear()
    found = sweep.run(lambda x: x.T.astype(float), progress=False)
    assert called == [2] * 3 + ([2, 1] * 3 if differs_at == 72 else [2] * 3)
    np.testing.assert_allclose(
        found.values[:, 0, 0], found.source[:, 0], atol=2e-5 * np.abs(found.source).max()
    )


def test_transplants_look_at_a_long_prefix_once(monkeypatch):
    resolver = InterpretableModel(make("llama")).resolver
    engine, looked, honest = choice.choose(resolver), [], attention_parts._joined
    engine.merges(70, 10)
    monkeypatch.setattr(attention_parts, "_joined", lambda *args: looked.append(1) or honest(*args))
    run, vectors = Run(tuple(range(3, 83))), mx.ones((2, resolver.structure.d_model))
    found = [
        Transplant(resolver, run, [resolver.site("resid_pre", 1)], 75, way).run(
            vectors, lambda x: x[:, 0].T, False
        )
        for way in (engine, choice.choose(resolver, "loop"))
    ]
    assert looked == [1] * 3
    np.testing.assert_allclose(found[0].values, found[1].values, atol=2e-5 * np.abs(found[1].values).max())
