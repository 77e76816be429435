"""ActivationCache: its names, and files that come back as they were or are refused."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import ActivationCache, InterpretableModel, errors
from mlxtrace import interventions as iv

IDS = [3, 17, 5, 90, 41, 8, 77]


@pytest.fixture(scope="module")
def cache(llama):
    return llama.run_with_cache(IDS)[1]


def test_it_is_a_mapping_of_module_paths(cache, llama):
    assert "model.layers.1.mlp" in list(cache)
    assert len(cache) == len(list(cache.keys())) == len(dict(cache))
    assert set(llama.resolver.modules) - {""} - set(cache) <= {"model.rotary_emb"}
    assert cache["model.layers.1.mlp"].shape == (1, 7, 64)
    assert "MB" in repr(cache) and cache.nbytes > 0


@pytest.mark.parametrize("name", ["layers.1.mlp", "1.mlp", "layers.1.mlp.output", "model.layers.1.mlp"])
def test_suffixes(cache, name):
    assert mx.array_equal(cache[name], cache["model.layers.1.mlp"])


def test_canonical_names(cache):
    assert cache["layers.1.head"].shape == (1, 7, 4, 16)
    assert cache["layers.1.neuron"].shape == (1, 7, 96)
    assert mx.array_equal(cache["layers.1.resid_mid"], cache["layers.1.resid_pre"] + cache["layers.1.attn"])
    assert mx.array_equal(cache["layers.1.output"], cache["layers.1"])
    assert mx.array_equal(cache["layers.1.input"], cache["layers.0.resid_post"])
    assert mx.array_equal(cache["layers.1.self_attn"], cache["layers.1.attn"])
    assert mx.array_equal(cache["embed"], cache["layers.0.resid_pre"])
    assert cache["logits"].shape == (1, 7, models.VOCAB)


@pytest.mark.parametrize(
    ("name", "text"),
    [("layers.1.mpl", "layers.1.mlp"), ("mlp", "ambiguous"), (3, "string"), ("layers.7.mlp", "closest")],
)
def test_names_that_are_not_there(cache, name, text):
    with pytest.raises(KeyError, match=text):
        cache[name]
    assert name not in cache
    assert cache.get("layers.7.mlp") is None


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_tutorials_way_to_find_a_key(name):
    model = InterpretableModel(models.make(name))
    stack = "layers" if name == "llama" else "h"
    with model.trace(IDS) as trace:
        pass
    mlp_key = None
    for key in sorted(trace.activations.keys()):
        if key.endswith(f"{stack}.1.mlp"):
            mlp_key = key
            break
    clean = trace.activations[mlp_key]
    key = mlp_key[6:] if mlp_key.startswith("model.") else mlp_key
    with model.trace([9, *IDS[1:]], interventions={key: iv.replace_with(clean)}) as patched:
        output = model.output.save()
    assert mx.array_equal(patched.activations[mlp_key], clean)
    assert mx.array_equal(output, patched.output)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("name", ["llama", "nanbeige"])
def test_files_come_back_as_they_were(tmp_path, name, dtype):
    model = InterpretableModel(models.make(name, dtype=dtype))
    _, cache = model.run_with_cache(IDS)
    cache.save(tmp_path / "x.safetensors")
    loaded = ActivationCache.load(tmp_path / "x.safetensors")
    assert list(loaded) == list(cache) or set(loaded) == set(cache)
    assert loaded.nbytes == cache.nbytes
    for key in [*cache, *model.resolver.sites(), "layers.1.output", "logits"]:
        assert loaded[key].dtype == dtype
        assert mx.array_equal(loaded[key], cache[key]), key
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_partial_caches_come_back(tmp_path, llama):
    _, cache = llama.run_with_cache(IDS, sites=["layers.1.resid_mid"])
    cache.save(str(tmp_path / "x.safetensors"))
    loaded = ActivationCache.load(str(tmp_path / "x.safetensors"))
    assert mx.array_equal(loaded["layers.1.resid_mid"], cache["layers.1.resid_mid"])
    with pytest.raises(errors.SiteError):
        loaded["layers.0.resid_mid"]


def test_files_that_are_no_cache(tmp_path, cache):
    with pytest.raises(errors.LoadError, match="there is no file"):
        ActivationCache.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    mx.save_safetensors(str(tmp_path / "weights.safetensors"), {"a": mx.ones(3)})
    mx.save_safetensors(str(tmp_path / "odd.safetensors"), {"a": mx.ones(3)}, {"mlxtrace": "[1, 2]"})
    cache.save(tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("text", "weights", "odd", "cut", "empty"):
        with pytest.raises(errors.LoadError, match="not a cache"):
            ActivationCache.load(tmp_path / f"{name}.safetensors")
    for nameless in (None, 3, ""):
        with pytest.raises(errors.LoadError, match="named by"):
            ActivationCache.load(nameless)
        with pytest.raises(errors.InputError, match="named by"):
            cache.save(nameless)
    with pytest.raises(errors.InputError, match="does not exist"):
        cache.save(tmp_path / "nowhere" / "x.safetensors")
    with pytest.raises(errors.InputError, match="folder"):
        cache.save(tmp_path)


def test_the_caches_arrays_cannot_be_changed_from_outside(llama):
    with llama.trace(IDS) as trace:
        pass
    x = trace.activations["layers.1.mlp"]
    x *= 0
    assert mx.abs(trace.activations["layers.1.mlp"]).max() > 0


# ---- NumPy


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_activations_of_any_dtype_reach_numpy_in_float32(dtype):
    model = InterpretableModel(models.make("llama"), dtype=dtype)
    _, cache = model.run_with_cache(IDS)
    for name in (
        "layers.1.mlp",
        "1.mlp",
        "layers.1.head",
        "layers.1.resid_mid",
        "layers.1.pattern",
        "logits",
    ):
        x = cache.numpy(name)
        assert x.dtype == np.float32 and np.array_equal(x, np.array(cache[name].astype(mx.float32)))
        x += 1  # a copy: the cache stays as it is
        assert np.array_equal(cache.numpy(name) + 1, x)
    with pytest.raises(KeyError, match=r"layers\.1\.mlp"):
        cache.numpy("layers.1.mpl")
    with pytest.raises(KeyError, match="ambiguous"):
        cache.numpy("mlp")


def test_numbers_that_are_no_floats_stay_what_they_are():
    arrays = {("output", "a.chosen"): mx.array([[3, 1]]), ("output", "a.mask"): mx.array([[True]])}
    cache = ActivationCache(arrays, {})
    assert cache.numpy("a.chosen").dtype == np.int32 and cache.numpy("a.mask").dtype == np.bool_


# ---- suffixes


@pytest.mark.parametrize("suffix", [".npz", ".NPZ", ".pt", ".npy", ".bin", ".json", ".pkl", ".h5"])
def test_a_file_of_another_format_is_refused(cache, tmp_path, suffix):
    with pytest.raises(errors.InputError, match=r"name it x\.safetensors") as caught:
        cache.save(tmp_path / f"x{suffix}")
    assert "cache.numpy" in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.safetensors", "x.SafeTensors", "x", "layers.3", "run_0.5"])
def test_the_file_has_the_name_that_was_given(cache, tmp_path, name):
    cache.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert mx.array_equal(ActivationCache.load(tmp_path / name)["layers.1.mlp"], cache["layers.1.mlp"])
