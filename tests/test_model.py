"""Loading, casting and walking a model; the BLAS that is loaded ahead of mlx."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
import warnings

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, blas, errors

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


@pytest.fixture
def broken(tmp_path, llama_folder):
    """A copy of a good folder, for the test to break."""
    return shutil.copytree(llama_folder, tmp_path / "model")


def test_folders_that_cannot_be_loaded(broken, tmp_path):
    def refused(text, path=broken):
        with pytest.raises(errors.LoadError, match=text) as caught:
            InterpretableModel(path)
        assert "\n" not in str(caught.value)

    config = json.loads((broken / "config.json").read_text())
    weights = (broken / "model.safetensors").read_bytes()
    refused("no model folder", tmp_path / "missing")
    refused("it is a file", broken / "config.json")
    (tmp_path / "empty").mkdir()
    refused("no config.json", tmp_path / "empty")
    (broken / "config.json").write_text("{oops")
    refused("cannot be read")
    (broken / "config.json").write_text("[1]")
    refused("model_type")
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    refused("unheard_of")
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused("model.safetensors|load_safetensors")
    (broken / "model.safetensors").unlink()
    refused("No safetensors")


@pytest.mark.parametrize("name", ["", "  ", "nothing-here", "a/b/c", "~/nowhere/at/all"])
def test_names_that_are_no_model(name):
    with pytest.raises(errors.LoadError):
        InterpretableModel(name)


@pytest.mark.parametrize("model", [3, None, object(), ["a"], dict])
def test_what_is_no_model(model):
    with pytest.raises(errors.LoadError, match="not"):
        InterpretableModel(model)


@pytest.mark.parametrize("tokenizer", ["a name", 3, object()])
def test_what_is_no_tokenizer(llama, tokenizer):
    with pytest.raises(errors.LoadError, match="tokenizer"):
        InterpretableModel(llama.net, tokenizer)


@pytest.mark.parametrize("dtype", ["fp32", "int8", 7, [1], mx.int32])
def test_what_is_no_dtype(llama, dtype):
    with pytest.raises(errors.InputError, match="float32"):
        InterpretableModel(llama.net, dtype=dtype)


@pytest.mark.parametrize("offline", ["1", "0"])
def test_hub_names_without_a_network_fail_fast(offline):
    """In a process of its own, because the hub's client reads its settings once; port 9 answers nobody."""
    code = (
        "import mlxtrace\ntry:\n mlxtrace.InterpretableModel('some-owner/some-model')\n"
        "except mlxtrace.errors.LoadError as e:\n print(e)"
    )
    env = {
        "HF_HUB_OFFLINE": offline,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
    }
    # it ends long before the limit, imports included, unless it waits for an answer
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("cannot load 'some-owner/some-model'"), done.stderr
    assert len(done.stdout.strip().splitlines()) == 1


# ---- casting


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mixtral", "mamba"])
def test_dtype_dequantizes(name):
    net = models.make(name, quantize=4)
    before = plain(net)
    model = InterpretableModel(net, dtype="float32")
    assert not model.is_quantized and model.net is net
    with model.trace(IDS) as trace:
        pass
    assert trace.output.dtype == mx.float32
    assert mx.allclose(trace.output, before, atol=2e-3, rtol=1e-3)


def test_dtype_of_a_folder(llama_4bit_folder):
    model = InterpretableModel(llama_4bit_folder, dtype="bfloat16")
    with model.trace(PROMPT) as trace:
        pass
    assert trace.output.dtype == mx.bfloat16 and not model.is_quantized


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


@pytest.mark.parametrize(
    "prompt", [IDS, tuple(IDS), mx.array(IDS), mx.array([IDS]), np.array(IDS)], ids=lambda p: type(p).__name__
)
def test_prompts_of_ids(llama, prompt):
    with llama.trace(prompt) as trace:
        pass
    assert mx.array_equal(trace.output, plain(llama.net))


@pytest.mark.parametrize(
    "prompt", [[], [1.5], [models.VOCAB], [-1], "text", 3, [[1, 2], [3]], mx.zeros((2, 0))]
)
def test_prompts_that_mean_nothing(llama, prompt):
    with pytest.raises(errors.MlxtraceError):
        llama.trace(prompt)


def test_no_warnings(llama, recwarn):
    with llama.trace(IDS):
        llama.layers[0].mlp.output[:, 0] = 0.0
    assert not recwarn.list


# ---- BLAS


@pytest.fixture
def fresh_blas(monkeypatch):
    monkeypatch.delenv("MLXTRACE_BLAS", raising=False)
    monkeypatch.setattr(blas, "_message", None)
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setattr(blas, "_on_cpu", lambda: True)
    modules = {k: v for k, v in sys.modules.items() if k != "mlx.core"}
    monkeypatch.setattr(blas.sys, "modules", modules)
    return monkeypatch


def told() -> list[str]:
    """What is warned of when a model is made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        InterpretableModel(models.make("llama"))
        InterpretableModel(models.make("llama"))
    return [str(w.message) for w in caught]


def test_a_missing_blas_is_told_once_and_names_the_line(fresh_blas):
    fresh_blas.setattr(blas, "_candidates", lambda: ["libnothing.so.7"])
    blas.preload()
    with pytest.warns(UserWarning, match="openblas") as caught:
        InterpretableModel(models.make("llama"))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)
    assert told() == []


def test_a_model_that_cannot_be_loaded_gets_its_error_and_no_advice(fresh_blas, recwarn):
    fresh_blas.setattr(blas, "_candidates", lambda: [])
    blas.preload()
    with pytest.raises(errors.LoadError):
        InterpretableModel("no-such-folder")
    assert not recwarn.list and len(told()) == 1


def test_a_blas_that_is_there_says_nothing(fresh_blas):
    loaded = []
    fresh_blas.setattr(blas, "_candidates", lambda: ["first.so", "second.so"])
    fresh_blas.setattr(blas.ctypes, "CDLL", lambda name, mode: loaded.append((name, mode)))
    blas.preload()
    assert loaded == [("first.so", blas.ctypes.RTLD_GLOBAL)]
    assert told() == []


@pytest.mark.parametrize(("chosen", "tried"), [("none", []), ("NONE", []), ("/opt/x.so", ["/opt/x.so"])])
def test_the_environment_chooses_the_blas(fresh_blas, chosen, tried):
    asked = []

    def refuse(name, mode):
        asked.append(name)
        raise OSError

    fresh_blas.setenv("MLXTRACE_BLAS", chosen)
    fresh_blas.setattr(blas.ctypes, "CDLL", refuse)
    blas.preload()
    assert asked == tried
    (line,) = told()
    assert "MLXTRACE_BLAS" in line and (not tried or tried[0] in line)


def test_mlx_imported_earlier_is_told(fresh_blas):
    blas.sys.modules["mlx.core"] = mx
    blas.preload()
    assert "before mlxtrace" in told()[0]


def test_nothing_on_other_systems_or_accelerators(fresh_blas):
    fresh_blas.setattr(blas, "_candidates", lambda: [])
    fresh_blas.setattr(blas.sys, "platform", "darwin")
    blas.preload()
    assert blas._message is None
    fresh_blas.setattr(blas.sys, "platform", "linux")
    fresh_blas.setattr(blas, "_on_cpu", lambda: False)
    blas.preload()
    assert told() == []
