"""A model in its forms: from a folder or a module, its facts, and the paths to its parts."""

from __future__ import annotations

import copy
import pickle

import mlx.core as mx
import models
import pytest

from mlxtrace import InterpretableModel, errors

IDS = [3, 17, 5, 90, 41, 8, 77]
PROMPT = "The Eiffel Tower is located in the city of"


def plain(net, ids=IDS):
    out = net(mx.array([ids]))
    mx.eval(out)
    return out


# ---- folders


@pytest.mark.parametrize("folder", ["llama_folder", "llama_4bit_folder", "gpt2_folder", "gpt2_4bit_folder"])
def test_folders_load_and_trace(request, folder):
    path = request.getfixturevalue(folder)
    model = InterpretableModel(path)
    assert model.is_quantized == ("4bit" in folder)
    ids = model.encode(PROMPT)
    assert model.decode(ids) == PROMPT
    assert "".join(model.to_str_tokens(PROMPT)) == PROMPT
    with model.trace(PROMPT) as trace:
        h = model.layers[1].output.save()
    assert h.shape == (1, len(ids), model.d_model)
    assert mx.array_equal(trace.output, plain(model.net, ids))
    assert model.n_layers == (26 if folder == "gpt2_folder" else 3)


def test_the_tutorials_deep_key(gpt2_folder):
    model = InterpretableModel(str(gpt2_folder))
    with model.trace(PROMPT, interventions={"h.24": lambda x: x * 0}) as trace:
        pass
    assert mx.abs(trace.activations["layers.24"]).max() == 0


@pytest.mark.parametrize("bits", [None, 4])
def test_adapters(bits):
    from mlx_lm.tuner.utils import linear_to_lora_layers

    net = models.make("llama", quantize=bits)
    linear_to_lora_layers(net, 2, {"rank": 4, "scale": 8.0, "dropout": 0.0})
    for layer in net.layers[1:]:
        layer.self_attn.q_proj.lora_b = mx.random.normal(layer.self_attn.q_proj.lora_b.shape) * 0.3
    expected = plain(net)
    model = InterpretableModel(net)
    with model.trace(IDS) as trace:
        model.layers[2].resid_mid.output *= 1.0
    assert mx.allclose(trace.output, expected, atol=1e-6)
    assert "layers.2.head" in model.resolver.sites()
    cast = InterpretableModel(net, dtype="float32")
    with cast.trace(IDS) as trace:
        pass
    assert mx.allclose(trace.output, expected, atol=2e-3)


def test_a_dropout_that_acts_is_refused():
    from mlx_lm.tuner.utils import linear_to_lora_layers

    net = models.make("llama")
    linear_to_lora_layers(net, 2, {"rank": 2, "scale": 8.0, "dropout": 0.1})
    net.train()
    with pytest.raises(errors.LoadError, match=r"training mode, where its dropout \(0.1\)"):
        InterpretableModel(net)
    net.eval()
    model = InterpretableModel(net)
    net.train()  # as mlx-lm's trainer leaves it
    with pytest.raises(errors.LoadError, match="eval"):
        model.activation_patching([3, 5, 8], [3, 6, 8], progress=False)
    net.eval()
    model.trace([3, 5, 8])


# ---- facts and paths


def test_facts(llama):
    facts = (
        llama.n_layers,
        llama.d_model,
        llama.n_heads,
        llama.n_kv_heads,
        llama.vocab_size,
        llama.is_quantized,
    )
    assert facts == (3, 64, 4, 2, models.VOCAB, False)
    assert "3 layers" in repr(llama)


def test_paths_lead_to_modules_and_sites(llama):
    assert llama.layers[0].self_attn.module is llama.net.model.layers[0].self_attn
    assert llama.model.layers[2].mlp.down_proj.module is llama.net.model.layers[2].mlp.down_proj
    assert llama.layers[-1].module is llama.net.model.layers[-1]
    assert [layer.module for layer in llama.layers] == llama.net.model.layers
    assert len(llama.layers) == len(llama.model.layers) == 3
    assert [x.module for x in llama.layers[1:]] == llama.net.model.layers[1:]
    assert llama.layers[0].self_attn.n_heads == 4
    assert not hasattr(llama.layers[0], "nope") and not hasattr(llama, "nope")
    assert hasattr(llama.layers[0], "mlp") and hasattr(llama.layers[0], "resid_mid")
    assert "mlp" in repr(llama.layers[0].mlp) and "resid_mid" in repr(llama.layers[0].resid_mid)


def test_paths_read_and_edit(llama):
    with llama.trace(IDS) as trace:
        embedded = llama.embed.output.save()
        into = llama.model.layers[1].self_attn.o_proj.input.save()
        head = llama.layers[1].head.output
        head[:, :, 2] = 0.0
        mlp = llama.layers[1].mlp.output.save()
        llama.layers[2].input = llama.layers[2].input * 2
        normed = llama.norm.output.save()
        raw = llama.lm_head.output.save()
        logits = llama.output.save()
    acts = trace.activations
    assert mx.array_equal(embedded, acts["embed"]) and mx.array_equal(mlp, acts["layers.1.mlp"])
    assert into.shape == (1, 7, 64) and mx.abs(acts["layers.1.head"][:, :, 2]).max() == 0
    assert mx.array_equal(normed, acts["norm"])
    assert mx.array_equal(raw, logits) and mx.array_equal(logits, trace.output)


def test_a_tied_model_has_no_head_and_says_so(gpt2):
    with pytest.raises(AttributeError, match="tied"):
        gpt2.lm_head  # noqa: B018
    with gpt2.trace(IDS) as trace:
        gpt2.output[:] = 0.0
    assert mx.abs(trace.output).max() == 0


def test_references_can_be_copied(llama):
    for reference in (llama.layers[0], llama.layers[0].mlp, llama.layers[0].resid_mid, llama.layers):
        assert repr(copy.copy(reference)) == repr(reference)
        with pytest.raises(AttributeError):
            reference.__missing__  # noqa: B018
    for cls in (type(llama.layers[0]), type(llama)):
        with pytest.raises(AttributeError):
            cls.__new__(cls).anything  # noqa: B018
    copied = copy.deepcopy(llama.layers[0])
    assert repr(copied) == repr(llama.layers[0])
    with pytest.raises(Exception):  # noqa: B017 - mlx modules hold what cannot be pickled; only no endless recursion
        pickle.loads(pickle.dumps(object.__new__(type(llama.layers[0])))).path  # noqa: B018


def test_no_warnings(llama, recwarn):
    with llama.trace(IDS):
        llama.layers[0].mlp.output[:, 0] = 0.0
    assert not recwarn.list
