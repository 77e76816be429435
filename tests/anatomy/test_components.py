"""Every component of the table through everything that it can be used for: one entry and one finder are enough.

A component that is added to the table is found here by itself; one without finder, stage or words fails at import.
"""

from __future__ import annotations

import functools

import mlx.core as mx
import models
import numpy as np
import pytest
from noise import allowed

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.components import (
    ALIASES,
    COMPONENTS,
    GLOBAL_SITES,
    HEADED,
    KINDS,
    Component,
    canonical,
    centre_of,
    complete,
    short_words,
    wide_window,
)
from mlxtrace.anatomy.finders import FINDERS
from mlxtrace.anatomy.resolver import rows_first
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.pass_by_hand import HEADED as HEADED_BY_HAND
from mlxtrace.laws.pass_by_hand import Write
from mlxtrace.plotting.kit import PALETTES
from mlxtrace.results.tables import TINTS

CLEAN, CORRUPTED = [3, 17, 5, 90, 41, 8], [3, 17, 66, 90, 41, 8]
LAYER = 1


@functools.cache
def model_with(component: str) -> InterpretableModel:
    """A dense model, or a mixture of experts for what only these have."""
    for name in ("llama", "mixtral"):
        model = loaded(name)
        if f"layers.{LAYER}.{component}" in model.resolver.table:
            return model
    raise AssertionError(f"no model here has {component}: add one that does")


@functools.cache
def loaded(name: str) -> InterpretableModel:
    return InterpretableModel(models.make(name))


def each(component: str, engine: str):
    model = model_with(component)
    return model.activation_patching(
        CLEAN, CORRUPTED, component=component, layers=[0, LAYER], positions="each", metric=["kl", "l2"],
        target=7, engine=engine, progress=False,
    )  # fmt: skip


def logits_of(model: InterpretableModel, **options) -> mx.array:
    with model.trace(CLEAN, **options) as trace:
        pass
    return trace.output


@pytest.mark.parametrize("component", COMPONENTS)
def test_it_is_traced_cached_and_edited(component):
    model, name = model_with(component), f"layers.{LAYER}.{component}"
    with model.trace(CLEAN) as trace:
        seen = getattr(model.layers[LAYER], component).output.save()
    assert mx.array_equal(seen, trace.activations[name])
    tokens = rows_first(model.resolver, model.resolver.site(component, LAYER), seen)
    assert tokens.shape[:2] == (1, len(CLEAN))
    logits, kept = model.run_with_cache(CLEAN, sites=[name])
    assert mx.array_equal(kept[name], seen)
    assert mx.array_equal(logits_of(model, interventions={name: lambda x: seen}), logits)
    moved = logits_of(model, interventions={name: lambda x: mx.concatenate([x[:, 1:], x[:, :1]], axis=1)})
    assert not mx.array_equal(moved, logits)


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_fast_engine_and_the_loop_agree(component):
    fast, loop = each(component, "fanout"), each(component, "loop")
    assert fast.plan.engine == "fanout" and loop.plan.engine == "loop"
    model = model_with(component)
    logits = np.abs(np.array(model.run_with_cache(CLEAN, sites=[])[0])).max()
    off = (
        allowed(model, least=2e-6) * logits * np.sqrt(model.resolver.structure.vocab_size)
    )  # of l2, and so of kl
    for metric in loop.metrics:
        found, right = (
            one.raw.take(one.metrics.index(metric), one.dims.index("metric")) for one in (fast, loop)
        )
        np.testing.assert_allclose(found, right, rtol=0, atol=off, err_msg=metric)
    moved = np.abs(right - loop.corrupted[metric])
    assert moved.max() > 1e-3, "no cell does anything"


@pytest.mark.parametrize("component", COMPONENTS)
def test_table_figure_and_rows(component):
    result, entry = each(component, "fanout"), COMPONENTS[component]
    assert entry.words in repr(result).splitlines()[0]
    assert "<table>" in result._repr_html_() and TINTS[entry.colour] in result._repr_html_()
    titles = [text.get_text() for text in result.plot().findobj(lambda x: hasattr(x, "get_text"))]
    assert any(entry.words.lower() in title.replace("\n", " ").lower() for title in titles)
    rows = result.to_rows()
    assert {row["component"] for row in rows} == {component}
    heads = {row.get("head") for row in rows}
    assert (heads == {None}) == (component not in HEADED)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_patch_is_what_a_loop_by_hand_does(component):
    """Of the package the loop takes only where the module is; values, writes and logits are its own."""
    tested = ModelUnderTest(model_with(component))
    at, heads = (3, 6), (0,) if component in HEADED else None
    name, run = (component, LAYER), tested.by_hand.run
    plain, own = run(tested.ids, keep=[name])
    _, kept = run(tested.other, keep=[name])
    itself, _ = run(tested.ids, [Write(component, LAYER, at, own[name], at, heads)])
    other, _ = run(tested.ids, [Write(component, LAYER, at, kept[name], at, heads)])
    limit = tested.limit * np.abs(plain).max()
    assert np.abs(itself - plain).max() <= limit
    assert np.abs(other[-1] - tested.sweep.loop[name]).max() <= limit
    assert np.abs(other[-1] - plain[-1]).max() > 10 * limit


# ---- the table


def test_the_loop_by_hand_knows_the_same_heads():
    """It shares no table with the package, so its own is held to be alike."""
    assert set(HEADED_BY_HAND) == set(HEADED)


def test_one_finder_for_each_and_colours_for_all():
    assert FINDERS.keys() == COMPONENTS.keys()
    assert {c.colour for c in COMPONENTS.values()} == PALETTES.keys() == TINTS.keys()
    assert not COMPONENTS.keys() & {*ALIASES, *GLOBAL_SITES}
    assert len({c.words for c in COMPONENTS.values()}) == len(COMPONENTS)


@pytest.mark.parametrize(
    "fields",
    [
        ("router2", "sometime", "words", "mlp"),
        ("router2", None, "words", "mlp"),
        ("router2", "output", "", "mlp"),
        ("", "output", "words", "mlp"),
        ("router2", "output", "words", "pink"),
        ("router2", "output", "words", "mlp", "some"),
    ],
)
def test_an_entry_without_stage_words_or_colour_cannot_be_made(fields):
    with pytest.raises(TypeError, match="needs a stage"):
        Component(*fields)


def test_an_entry_without_a_finder_fails_at_import():
    with pytest.raises(TypeError, match="router"):
        complete(name for name in COMPONENTS if name != "router")
    with pytest.raises(TypeError, match="rooter"):
        complete([*COMPONENTS, "rooter"])


@pytest.mark.parametrize("name", ["mpl", "rooter", "", None, 3, ["mlp"]])
def test_unknown_names_are_refused_with_all_of_them(name):
    with pytest.raises(errors.SiteError, match="unknown component") as raised:
        canonical(name)
    assert all(component in str(raised.value) for component in COMPONENTS)


def test_words_for_causal_traces():
    assert [short_words(kind) for kind in KINDS] == ["layer output", "MLP", "attention"]
    assert [canonical(alias) for alias in ("output", "self_attn", "mlp")] == ["resid_post", "attn", "mlp"]


def test_a_window_of_more_layers_than_there_are_is_not_said_to_have_a_centre_of_so_many():
    assert centre_of(12, 12) == "centre of 12 layers" and "40" not in centre_of(40, 12)
    assert wide_window(40, 12).startswith("a window of 40 spans all of this model's 12 layers")
