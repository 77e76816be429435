"""Interventions and sites that are named before the pass: refused before it, or applied in it, or missed aloud."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward.declared import declared, edit_at

IDS = [3, 17, 5, 90, 41, 8, 77]


WRONG = {
    "nothing": (lambda x: None, errors.EditError, "return the array"),
    "a float": (lambda x: 0.0, errors.EditError, "float"),
    "a shape": (lambda x: x[:, :3], errors.EditError, "shape"),
    "a list": (lambda x: [x], errors.EditError, "list"),
    "no function": (3, errors.InputError, "not a function"),
    "several functions": ([abs, abs], errors.InputError, "compose"),
}


@pytest.mark.parametrize("case", WRONG)
def test_interventions_that_return_the_wrong_thing(llama, case):
    fn, error, text = WRONG[case]
    with pytest.raises(error, match=text), llama.trace(IDS, interventions={"layers.1.mlp": fn}):
        pass


@pytest.mark.parametrize("sites", [3, True])
def test_sites_that_are_no_list(llama, sites):
    with pytest.raises(errors.InputError, match="list of names"):
        llama.run_with_cache(IDS, sites)


def test_interventions_must_be_a_mapping(llama):
    for nothing in (0, [], False):
        with pytest.raises(errors.InputError, match="mapping"):
            llama.trace(IDS, interventions=nothing)
    with pytest.raises(errors.InputError, match="mapping"):
        llama.trace(IDS, interventions=[("layers.1.mlp", iv.zero_out())])


def test_an_intervention_may_edit_in_place(llama):
    kept = []

    def zero(x):
        x[:, 4] = 0.0
        kept.append(x)
        return x

    with llama.trace(IDS, interventions={"layers.1.mlp": zero}) as trace:
        pass
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    assert mx.array_equal(trace.output, expected.output)
    kept[0][:] = 1.0  # its own array by now
    assert mx.array_equal(trace.activations["layers.1.mlp"], expected.activations["layers.1.mlp"])


def test_an_intervention_at_a_site_that_never_fires():
    net = models.make("llama")
    net.model.spare = nn.Linear(4, 4)
    model = InterpretableModel(net)
    with (
        pytest.raises(errors.OrderError, match="did not happen"),
        model.trace(IDS, interventions={"spare": iv.zero_out()}),
    ):
        pass
    with pytest.raises(errors.OrderError, match="never reached"), model.trace(IDS):
        model.model.spare.output  # noqa: B018
    with pytest.raises(errors.OrderError, match="did not happen"):
        model.run_with_cache(IDS, sites=["spare"])


@pytest.mark.parametrize("maker", [iv.zero_out, iv.scale])
def test_an_intervention_without_its_parentheses(llama, maker):
    with pytest.raises(errors.InputError, match=rf"write iv\.{maker.__name__}\("):
        declared(llama.resolver, {"layers.1.mlp": maker})


def test_names_are_found_before_anything_runs(llama):
    fn = iv.zero_out()
    ((key, site, found),) = declared(llama.resolver, {"layers.1.resid_mid": fn})
    assert (key, site.name, found) == ("layers.1.resid_mid", "layers.1.resid_mid", fn)
    with pytest.raises(errors.SiteError, match="closest"):
        declared(llama.resolver, {"layers.1.resid_mdi": fn})


def test_an_edit_of_a_sum_is_an_edit_of_its_last_part(llama):
    site = llama.resolver.resolve("layers.1.resid_mid")
    base, attn = mx.ones((1, 2, 4)), mx.full((1, 2, 4), 2.0)
    edit = edit_at("mid", site, lambda x: x * 10, lambda site: base)
    assert mx.array_equal(base + edit(attn), mx.full((1, 2, 4), 30.0))


def test_what_an_intervention_was_given_is_its_own_afterwards(llama):
    given = []
    site = llama.resolver.resolve("layers.1.mlp")
    edit = edit_at("mlp", site, lambda x: given.append(x) or x * 0, lambda site: None)
    assert edit(mx.ones((1, 2, 4))).sum().item() == 0
    given[0][:, 0] = 5.0
    assert given[0].state.free and given[0][0, 0, 0].item() == 5.0


def test_an_intervention_that_makes_nan_is_named(llama):
    edit = edit_at("the mlp", llama.resolver.resolve("layers.1.mlp"), lambda x: x / 0, lambda site: None)
    with pytest.raises(errors.EditError, match="NaN or infinite"):
        edit(mx.ones((1, 2, 4)))


def test_the_model_may_be_run_by_an_intervention(llama):
    """Such a run is not the pass: it fires nothing, and is not edited."""
    ids, found = mx.array([IDS[::-1]]), []
    plain = llama.net(ids)

    def run_another(x):
        found.append(llama.net(ids))
        return x * 0

    with llama.trace(IDS, interventions={"layers.1.mlp": run_another}) as trace:
        pass
    assert len(found) == 1 and mx.array_equal(found[0], plain)
    assert mx.abs(trace.activations["layers.1.mlp"]).max().item() == 0
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_out()}) as expected:
        pass
    assert mx.array_equal(trace.activations["layers.2"], expected.activations["layers.2"])
    assert list(trace.activations) == list(expected.activations)
