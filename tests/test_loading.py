"""Loading a model from a folder or the hub, casting it, and the one line that says what went wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import mlx.core as mx
import models
import pytest

from mlxtrace import InterpretableModel, errors, loading

IDS = [3, 17, 5, 90, 41, 8, 77]
PROMPT = "The Eiffel Tower is located in the city of"


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
    before = net(mx.array([IDS]))
    mx.eval(before)
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


def test_a_dtype_has_a_name():
    assert loading.dtype_of("bfloat16") == loading.dtype_of(mx.bfloat16) == mx.bfloat16
    assert loading.dtype_of(None) is None


def test_a_module_is_changed_in_place_only_where_a_dtype_is_given():
    net = models.make("llama", quantize=4)
    same, tokenizer, name = loading.load_any(net)
    assert (
        same is net and tokenizer is None and name == "llama" and hasattr(net.layers[0].mlp.up_proj, "bits")
    )
    cast, _, _ = loading.load_any(net, dtype="float32")
    assert cast is net and not hasattr(net.layers[0].mlp.up_proj, "bits")


def test_the_demo_is_computed_in_float32_unless_another_dtype_is_named():
    for dtype, expected in ((None, mx.float32), ("float16", mx.float16)):
        net, tokenizer, name = loading.load_any("demo", dtype=dtype)
        assert net.layers[0].mlp.up_proj.weight.dtype == expected and name == "demo" and tokenizer.encode("a")


def test_a_tokenizer_that_is_given_is_taken_before_the_folders(llama_folder):
    class Own:
        def encode(self, text):
            return [7]

    own = Own()
    assert loading.load_any(llama_folder, own)[1] is own
    assert InterpretableModel(llama_folder, own).encode("anything") == [7]


def test_a_model_that_wants_its_own_code_is_refused(broken):
    """No file of a model is ever run, neither by its config nor by its tokenizer's."""
    ran = broken / "ran"
    (broken / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    with pytest.raises(errors.LoadError, match="runs no model's code"):
        InterpretableModel(broken)
    assert not ran.exists()
