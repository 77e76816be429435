"""Loading a model from a folder or the hub, casting it, and the one line that says what went wrong."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys

import mlx.core as mx
import models
import pytest
from adapter_folders import save_adapters
from mlx.utils import tree_flatten

from mlxtrace import InterpretableModel, errors, loading
from mlxtrace.engine.calibration import measured_peak

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


# Offline, the command is asked in test_patch.py.
@pytest.mark.parametrize("offline", [pytest.param("1", marks=pytest.mark.heavy), "0"])
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


# ---- shares of a model


class First:
    """The first of several processes, of which the others are not there."""

    def __init__(self, n):
        self.rank, self.size = (lambda: 0), (lambda: n)


@pytest.fixture
def alone(monkeypatch):
    met = []  # where all processes were waited for
    monkeypatch.setattr(mx.distributed, "all_sum", lambda x, group, stream: met.append(group) or x)
    return met


def test_a_share_is_read_and_no_more(alone):
    """Half of each matrix but the embeddings', and on the way there one whole matrix more, never the model."""
    sizes = []
    for group in (None, First(2)):
        gc.collect()
        with measured_peak() as peak:
            net, _, name = loading.load_any("demo", group=group)
            sizes.append((sum(x.nbytes for _, x in tree_flatten(net.parameters())), peak()))
    assert name == "demo" and sizes[1][0] < 0.65 * sizes[0][0] and len(alone) == 1
    assert sizes[1][1] < 1.2 * sizes[1][0], "more than one whole matrix at a time"
    assert net.layers[0].self_attn.n_heads == 4 and net.layers[0].self_attn.n_kv_heads == 2


def test_of_a_pipeline_each_reads_its_own_layers_and_one_blank_one(alone):
    sizes = []
    for n in (1, 2, 4):
        gc.collect()
        with measured_peak() as peak:
            net = loading.load_any("demo", group=First(n), pipeline=True)[0]
            sizes.append(peak())
        assert [layer._mlxtrace_staged for layer in net.layers][-12 // n :] == [0] * (12 // n)
    layer = sum(x.nbytes for _, x in tree_flatten(net.layers[0].parameters()))
    rest = sizes[0] - 12 * layer  # read by each: the embeddings
    assert sizes[1] < rest + 7.2 * layer and sizes[2] < rest + 4.2 * layer
    assert (
        mx.isnan(net.layers[0].mlp.up_proj.weight).all()
        and not mx.isnan(net.layers[9].mlp.up_proj.weight).any()
    )


def test_what_cannot_be_a_pipeline():
    with pytest.raises(
        errors.LoadError, match="demo cannot be run as a pipeline of 13 processes: it has 12 layers"
    ):
        loading.load_any("demo", group=First(13), pipeline=True)
    net = models.make("llama")
    net.layers[2].mlp = net.layers[0].mlp
    with pytest.raises(errors.LoadError, match="its layers have modules in common"):
        loading._dealt_out(net, First(3), "twin")
    with pytest.raises(errors.LoadError, match="goes with a model's name or folder"):
        loading.load_any(net, group=First(2), pipeline=True)
    for shard in ("pipelines", "tensor", ""):
        with pytest.raises(errors.InputError, match='"pipeline" deals its layers out to all'):
            InterpretableModel("demo", shard=shard)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_shares_with_adapters_are_of_both_together(alone, llama_folder, tmp_path, dtype):
    import mlx_lm

    net = mlx_lm.load(str(llama_folder))[0]
    folder = save_adapters(tmp_path, net)
    if dtype is not None:
        net.set_dtype(mx.bfloat16)
    whole = net.layers[-1].self_attn.q_proj.fuse().weight
    found = loading.load_any(llama_folder, dtype=dtype, adapter_path=folder, group=First(2))[0]
    share = found.layers[-1].self_attn.q_proj.weight
    assert share.dtype == whole.dtype and mx.array_equal(share, whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("model", "n", "text"),
    [
        ("induction", 2, "cannot shard gpt2 models.*no shard in its gpt2.py; run it whole"),
        ("compiled", 2, "compiled program is not sharded"),
        ("demo", 3, "demo cannot be sharded over 3 processes: Cannot shard the output of size 128"),
        ("demo", 8, r"they do not divide its 4 heads \(model.*n_kv_heads\)"),
        ("nowhere", 2, "no model folder"),
    ],
)
def test_what_cannot_be_sharded(model, n, text):
    with pytest.raises(errors.LoadError, match=text):
        InterpretableModel(model, shard=First(n))


def test_a_module_is_not_sharded_again(llama):
    with pytest.raises(errors.LoadError, match=r"shard it yourself, net.shard\(group\)"):
        InterpretableModel(llama.net, shard=First(2))


@pytest.mark.parametrize(
    ("name", "n", "heads", "kv_heads", "text"),
    [
        ("llama", 4, 4, 2, r"over 4 processes: .* its 2 heads \(model.layers.\d.self_attn\), .* hold 0.5"),
        ("qwen3", 4, 4, 2, "its 2 heads"),  # which does not keep how wide they are
        ("llama", 2, 6, 3, "its 3 heads"),
        ("qwen3", 2, 3, 3, "its 3 heads .* hold 1.5"),  # it runs, as another model
    ],
)
def test_a_module_whose_heads_were_cut(name, n, heads, kv_heads, text):
    net = models.make(name, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=16)
    net.shard(First(n))
    with pytest.raises(errors.LoadError, match=text):
        InterpretableModel(net)


def test_adapters_on_quantized_weights_are_not_sharded(alone, llama_4bit_folder, tmp_path):
    import mlx_lm

    folder = save_adapters(tmp_path, mlx_lm.load(str(llama_4bit_folder))[0])
    with pytest.raises(errors.LoadError, match=r"would round these anew; give dtype=.bfloat16."):
        loading.load_any(llama_4bit_folder, adapter_path=folder, group=First(2))
    assert loading.load_any(llama_4bit_folder, dtype="float32", adapter_path=folder, group=First(2))
