"""Adapters: the model that `mlx_lm.load` makes with them, its name, and one line for each folder that fits it not."""

from __future__ import annotations

import json

import mlx.core as mx
import mlx_lm
import pytest
from adapter_folders import LORA, save_adapters
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxtrace import InterpretableModel, adapters, check, compiled, errors, patch

IDS = mx.array([[3, 17, 5, 90, 41, 8, 77]])


@pytest.fixture(scope="module")
def made(tmp_path_factory, llama_folder):
    """LoRA adapters of the tiny Llama, in a folder."""
    return save_adapters(tmp_path_factory.mktemp("adapters") / "lora", mlx_lm.load(str(llama_folder))[0])


@pytest.fixture
def folder(made, tmp_path):
    """A copy of them, for the test to break."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("kind", adapters.KINDS)
@pytest.mark.parametrize("bits", [None, 4])
def test_they_are_what_mlx_lm_loads(request, tmp_path, kind, bits):
    model_folder = request.getfixturevalue("llama_4bit_folder" if bits else "llama_folder")
    base, _ = mlx_lm.load(str(model_folder))
    before = base(IDS)
    folder = save_adapters(tmp_path / kind, base, kind)
    right, _ = mlx_lm.load(str(model_folder), adapter_path=str(folder))
    model = InterpretableModel(model_folder, adapter_path=folder)
    with model.trace(IDS) as trace:
        pass
    assert mx.array_equal(trace.output, right(IDS)) and mx.array_equal(trace.output, base(IDS))
    assert not mx.allclose(trace.output, before, atol=1e-3)
    assert model.is_quantized == bool(bits)
    full = InterpretableModel(model_folder, adapter_path=folder, dtype="float32")
    assert not full.is_quantized
    assert mx.allclose(full.net(IDS), trace.output, atol=2e-3 if bits else 1e-5)


@pytest.mark.parametrize("bits", [None, 4])
def test_they_are_cast_as_they_are_fused(request, tmp_path, bits):
    model_folder = request.getfixturevalue("llama_4bit_folder" if bits else "llama_folder")
    net, _ = mlx_lm.load(str(model_folder))
    folder = save_adapters(tmp_path, net)
    from mlx.utils import tree_unflatten

    fused = [(name, m.fuse(dequantize=True)) for name, m in net.named_modules() if hasattr(m, "fuse")]
    net.update_modules(tree_unflatten(fused))
    right = InterpretableModel(net, dtype="float32").net(IDS)
    model = InterpretableModel(model_folder, adapter_path=folder, dtype="float32")
    assert mx.allclose(model.net(IDS), right, atol=1e-4)


def test_the_name_says_so(made, llama_folder):
    model = InterpretableModel(llama_folder, adapter_path=str(made))
    assert model.name == f"{llama_folder.name} + {made.name}" and model.name in repr(model)
    result = model.activation_patching([3, 5, 8], [3, 6, 8], metric="kl", progress=False)
    assert result.model == model.name


def test_bundled_models_take_them(tmp_path):
    net = InterpretableModel("demo").net
    folder = save_adapters(tmp_path, net)
    model = InterpretableModel("demo", adapter_path=folder)
    assert model.name == f"demo + {folder.name}" and mx.allclose(model.net(IDS), net(IDS), atol=1e-4)
    assert model.net.layers[-1].self_attn.q_proj.lora_b.dtype == mx.float32


def refused(model, folder, text):
    with pytest.raises(errors.LoadError, match=text) as caught:
        InterpretableModel(model, adapter_path=folder)
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_of_adapters(llama_folder, folder, tmp_path):
    refused(llama_folder, tmp_path / "none", "there is no folder")
    refused(llama_folder, "", "adapter_path")
    refused(llama_folder, 3, "adapter_path is a folder")
    refused(llama_folder, "owner/adapters", "there is no folder")
    refused(llama_folder, folder / "adapters.safetensors", "is a file, not a folder")
    refused(llama_folder, llama_folder, "no adapter_config.json and no adapters.safetensors")
    (folder / "adapters.safetensors").rename(folder / "kept")
    refused(llama_folder, folder, "holds no adapters.safetensors")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    refused(llama_folder, folder, "PEFT")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapters.safetensors").write_bytes((folder / "kept").read_bytes()[:-100])
    refused(llama_folder, folder, "do not fit")
    (folder / "adapter_config.json").unlink()
    refused(llama_folder, folder, "holds no adapter_config.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("{oops", "not JSON"),
        ("[1]", "no JSON object"),
        ({"fine_tune_type": "Full"}, "fine_tune_type is 'Full'"),
        ({"num_layers": None}, "num_layers None"),
        ({"lora_parameters": None}, "lora_parameters None"),
        ({"lora_parameters": {**LORA, "rank": 3}}, "shape"),
        ({"lora_parameters": {"rank": 2, "alpha": 8.0}}, "scale"),
        ({"lora_parameters": {**LORA, "keys": ["no.such"]}}, "not an adapter parameter|the model has none"),
        ({"num_layers": 1}, "not an adapter parameter|the model has none"),
        ({"num_layers": -1}, "no tensors in adapters.safetensors"),
        ({"fine_tune_type": "dora"}, "no tensors in adapters.safetensors"),
        ({"fine_tune_type": "full"}, "not an adapter parameter|the model has none"),
    ],
)
def test_configs_that_say_something_else(llama_folder, folder, change, text):
    path = folder / "adapter_config.json"
    if isinstance(change, dict):
        change = json.dumps({**json.loads(path.read_text()), **change})
    path.write_text(change)
    refused(llama_folder, folder, text)


def test_adapters_of_another_model(gpt2_folder, llama_folder, folder, made):
    refused(gpt2_folder, folder, "do not fit")
    mx.save_safetensors(str(folder / "adapters.safetensors"), {})
    refused(llama_folder, folder, "no tensor")
    tensors = mx.load(str(made / "adapters.safetensors"))
    name = next(n for n in tensors if n.endswith("lora_b"))
    mx.save_safetensors(str(folder / "adapters.safetensors"), {n: x for n, x in tensors.items() if n != name})
    refused(llama_folder, folder, name.removesuffix(".lora_b"))


def test_what_takes_no_adapters(llama, made):
    refused(llama.net, made, "module that is passed in")
    refused("compiled", made, "compiled program")
    refused(compiled.lookup(), made, "compiled program")
    assert not any("lora_a" in m for _, m in llama.net.named_modules())


def test_mlx_lms_own_check_is_not_all(llama_folder, folder, monkeypatch):
    """Earlier versions of mlx-lm pass over what fits no layer; here it is found whatever they do."""
    import mlx_lm.tuner.utils as tuner

    def lenient(net, path):
        linear_to_lora_layers(net, 2, LORA)
        net.load_weights(f"{path}/adapters.safetensors", strict=False)

    monkeypatch.setattr(tuner, "load_adapters", lenient)
    InterpretableModel(llama_folder, adapter_path=folder)
    tensors = mx.load(str(folder / "adapters.safetensors"))
    path = str(folder / "adapters.safetensors")
    mx.save_safetensors(path, {**tensors, "model.layers.9.self_attn.q_proj.lora_a": mx.zeros((2, 2))})
    refused(llama_folder, folder, "the model has none")


def test_adapters_are_loaded_for_running_not_training(llama_folder, tmp_path):
    net, _ = mlx_lm.load(str(llama_folder))
    folder = save_adapters(tmp_path, net, lora_parameters={**LORA, "dropout": 0.5})
    model = InterpretableModel(llama_folder, adapter_path=folder)
    assert not any(m.training for _, m in model.net.named_modules())
    assert mx.array_equal(model.net(IDS), model.net(IDS))


def test_on_the_command_line(made, llama_folder, capsys, tmp_path):
    asked = "--subject Paris --noise 0.5 --samples 2 --metric kl --quiet --adapter-path"
    words = ["--model", str(llama_folder), "--clean", "Paris is in France", *asked.split()]
    table = tmp_path / "table.json"
    assert patch.main([*words, str(made), "--json", str(table)]) == 0
    assert json.loads(table.read_text())["model"] == f"{llama_folder.name} + {made.name}"
    capsys.readouterr()
    assert patch.main([*words, str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert check.main([str(llama_folder), "--adapter-path", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_models_are_called_by_their_names_and_not_by_where_they_are(tmp_path, monkeypatch):
    (tmp_path / "owner" / "tiny").mkdir(parents=True)
    cached = "/x/hub/models--mlx-community--Llama-3.2-1B--4bit/snapshots/0a1b2c"
    monkeypatch.chdir(tmp_path)
    for given, name in {
        "demo": "demo",
        "/home/me/models/Llama-3.2-1B/": "Llama-3.2-1B",
        "~/models/Llama-3.2-1B": "Llama-3.2-1B",
        cached: "mlx-community/Llama-3.2-1B--4bit",
        "owner/tiny": "tiny",  # a folder
        "owner/other": "owner/other",  # of the hub
        "./owner/other": "other",
        ".": tmp_path.name,
        "owner/..": tmp_path.name,
    }.items():
        assert adapters.named(given) == name, given
    assert adapters.named("demo", tmp_path / "lora-7") == "demo + lora-7"


def test_results_of_a_models_folder_have_its_name(llama_folder):
    model = InterpretableModel(str(llama_folder))
    result = model.activation_patching([3, 5, 8], [3, 6, 8], metric="kl", progress=False)
    for said in (model.name, result.model, repr(model), repr(result), result._repr_html_()):
        assert str(llama_folder.parent) not in said
    assert model.name == llama_folder.name
