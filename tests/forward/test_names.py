"""Names of a model's parts: what completes, what type-checks, and what is refused."""

from __future__ import annotations

import ast
import copy
import inspect
import rlcompleter

import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.anatomy.resolver import COMPONENTS
from mlxtrace.forward import names

IDS = [3, 17, 5, 90]


def completed(text, **objects):
    """What Tab offers in Python's own prompt after a text, without the parentheses of functions."""
    completer, found = rlcompleter.Completer(objects), []
    while (match := completer.complete(text, len(found))) is not None:
        found.append(match.removesuffix("(").removesuffix(")"))
    return found


def test_the_model_offers_its_own_methods_its_modules_and_its_sites(llama):
    assert {"trace", "activation_patching", "layers", "output", "n_layers"} <= set(dir(llama))
    assert {"model", "lm_head", "embed", "norm", "logits"} <= set(dir(llama))
    assert "model.lm_head" in completed("model.lm", model=llama)
    assert "model.layers" in completed("model.la", model=llama)


def test_a_layer_offers_its_modules_and_the_components_that_it_has(llama):
    layer = llama.layers[1]
    assert {"self_attn", "mlp", "input_layernorm", "output", "input"} <= set(dir(layer))
    has = {c for c in COMPONENTS if f"layers.1.{c}" in llama.resolver.table}
    assert has >= {"resid_mid", "q", "neuron"} and set(COMPONENTS) & set(dir(layer)) == has
    assert completed("layer.resid", layer=layer) == ["layer.resid_mid", "layer.resid_post", "layer.resid_pre"]
    assert completed("layer.self_attn.q_", layer=layer) == ["layer.self_attn.q_proj"]
    assert {"output", "input", "gate_proj"} <= set(dir(layer.mlp))
    assert "output" in dir(layer.resid_mid) and "layer.resid_mid.output" in completed(
        "layer.resid_mid.o", layer=layer
    )


def test_what_a_model_has_not_is_not_offered():
    model = InterpretableModel(models.make("mamba"))
    offered = set(dir(model.layers[0]))
    assert "resid_post" in offered and not {"q", "pattern", "resid_mid"} & offered


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
def test_everything_that_is_offered_is_there(name):
    model = InterpretableModel(models.make(name))
    layer = model.layers[0]
    inside = names.part_names(model, model.resolver.layer(0).path, 0)
    assert len(inside) >= 3
    for thing in (layer, *(getattr(layer, name) for name in inside)):
        for word in set(dir(thing)) - {"input", "output"}:  # which are there in a trace
            getattr(thing, word)
    for word in names.part_names(model):
        assert getattr(model, word) is not None


def test_a_list_of_modules_offers_its_items(llama):
    inner = llama.model.layers
    assert len(inner) == llama.n_layers and "resid_mid" in dir(inner[0])
    assert "layers" in dir(llama.model) and "0" not in dir(llama.model)
    assert names.submodules(llama, "model.layers") == {"0", "1", "2"}
    assert names.part_names(llama, "model.layers") == set()  # numbers are written in brackets


def test_what_editors_complete_is_there(llama):
    written = set(inspect.get_annotations(names.LayerReference))
    assert {"mlp", "attn"} <= written <= set(COMPONENTS)
    assert all(isinstance(getattr(llama.layers[0], name), names.Reference) for name in written)


def test_the_models_class_is_not_imported():
    imports = [n for n in ast.walk(ast.parse(inspect.getsource(names))) if isinstance(n, ast.ImportFrom)]
    assert not [n.module for n in imports if n.module == "model"]


class Named:
    """The least that names need of a model."""

    def __init__(self, model):
        self.name, self.net, self.resolver = "named", model.net, model.resolver


def test_names_need_no_more_than_the_protocol(llama):
    layers = names.LayerList(Named(llama))
    assert "q_proj" in dir(layers[1].self_attn) and "resid_mid" in dir(layers[1])
    with llama.trace(IDS) as trace:
        x = layers[1].mlp.output.save()
    assert x.shape == trace.activations["layers.1.mlp"].shape


def test_references_are_copied_and_print_what_they_are(llama):
    layer = llama.layers[1]
    assert repr(copy.deepcopy(layer.resid_mid)) == "<site layers.1.resid_mid>"
    assert repr(copy.copy(layer)) == repr(layer) == "<model.layers.1: TransformerBlock>"
    assert len(llama.layers[1:]) == llama.n_layers - 1


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda m: m.layers[9], errors.PositionError, "numbered 0 to"),
        (lambda m: m.layers["mlp"], errors.InputError, "numbered"),
        (lambda m: m.layers[True], errors.InputError, "numbered"),
        (lambda m: m.layers[0].mpl, errors.SiteAttributeError, "closest: mlp"),
        (lambda m: m.layers[0].resid_mid.input, errors.SiteAttributeError, "output only"),
        (lambda m: setattr(m.layers[0], "otput", 1), errors.SiteAttributeError, "not to .otput"),
        (lambda m: m.layers.__setitem__(0, 1), errors.EditError, "assign to its .output"),
        (lambda m: m.layers[0].mlp.__setitem__(0, 1), errors.EditError, "write .output"),
        (lambda m: m.lm_hed, errors.SiteAttributeError, "closest: lm_head"),
    ],
)
def test_names_that_mean_nothing(llama, act, error, text):
    with pytest.raises(error, match=text):
        act(llama)
