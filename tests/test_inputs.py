"""What goes in is checked: each odd call ends in the right number or in one readable error."""

from __future__ import annotations

import json
import math

import mlx.core as mx
import mlx.nn as nn
import models
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel, errors, metrics, plotting
from mlxtrace import interventions as iv
from mlxtrace.engine import embeddings
from mlxtrace.experiments.causal_trace import CausalTrace
from mlxtrace.experiments.noise import embedding_std
from mlxtrace.results.patching_result import PatchingResult
from mlxtrace.text import tokens
from mlxtrace.text.alignment import align

IDS, OTHER = [5, 17, 42, 9, 63, 21], [5, 80, 42, 9, 63, 21]
QUIET = {"progress": False}


def patch(model, **options):
    return model.activation_patching(IDS, OTHER, **{"component": "mlp", "metric": "kl", **QUIET, **options})


# ---- edits


@pytest.mark.parametrize(
    "make",
    [
        lambda: iv.replace_with(math.nan),
        lambda: iv.replace_with(np.array([1.0, np.nan])),
        lambda: iv.replace_with(math.inf),
        lambda: iv.scale(1e39),
        lambda: iv.scale(math.inf),
        lambda: iv.clamp(math.nan, 1),
        lambda: iv.clamp(0, math.inf),
        lambda: iv.noise(math.inf),
        lambda: iv.noise(1, seed=True),
        lambda: iv.add_vector(math.inf),
        lambda: iv.add_vector(10**400),
        lambda: iv.add_vector(np.ones(4, complex)),
        lambda: iv.add_vector([True, False]),
        lambda: iv.replace_with(mx.array([True])),
        lambda: iv.replace_with(np.array(["a"])),
        lambda: iv.replace_with(1j),
        lambda: iv.replace_with([]),
        lambda: iv.replace_with(True),
        lambda: iv.compose(iv.zero_out),
    ],
)
def test_interventions_of_what_is_no_number(make):
    with pytest.raises(errors.MlxtraceError):
        make()


@pytest.mark.parametrize(
    "edit",
    [
        iv.zero_out,
        iv.scale,
        iv.clamp,
        iv.replace_at,
        iv.add_vector(np.array([np.inf] + [0.0] * 63)),
        iv.replace_with(mx.full((64,), -math.inf)),
        iv.compose(iv.scale(1e30), iv.scale(1e30)),
        lambda x: x / 0,
        lambda x: mx.full(x.shape, math.nan),
        iv.replace_at(0.0, b"\x01"),
        iv.zero_at("1"),
        iv.zero_at([1.0]),
        iv.zero_at([np.True_]),
    ],
)
def test_declared_edits_that_break_the_pass(llama, edit):
    with pytest.raises(errors.MlxtraceError), llama.trace(IDS, interventions={"layers.1.mlp": edit}):
        pass


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1j, True, np.True_, mx.array(True), np.array([1j])]
)
def test_body_edits_that_break_the_pass(llama, value):
    with pytest.raises(errors.EditError), llama.trace(IDS):
        llama.layers[1].mlp.output[:] = value


@pytest.mark.parametrize("value", [True, 1j, mx.array([True]), np.ones(64, complex), math.nan])
def test_in_place_operators_take_real_numbers(llama, value):
    with pytest.raises(errors.EditError), llama.trace(IDS):
        llama.layers[1].mlp.output *= value


def test_a_token_may_be_ruled_out(llama):
    with llama.trace(IDS) as trace:
        llama.output[..., 7] = -math.inf
    assert mx.isneginf(trace.output[..., 7]).all() and mx.isfinite(trace.output[..., :7]).all()


# ---- numbers of every kind


@pytest.mark.parametrize("window", [2, np.int64(2), mx.array(2), np.array(2)])
def test_counts_of_any_integer_type(llama, window):
    assert patch(llama, window=window).window == 2
    trace = llama.causal_trace(IDS, [1], kind="mlp", window=window, samples=window, seed=window, **QUIET)
    assert trace.window == 2 and trace.raw.shape[-1] == 2 and json.dumps(trace.settings)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": b"\x01"},
        {"layers": bytearray(b"\x01")},
        {"layers": "1"},
        {"layers": ["1"]},
        {"layers": 1.0},
        {"layers": True},
        {"layers": np.True_},
        {"layers": np.array([True, False])},
        {"layers": {0: 1}},
        {"layers": []},
        {"layers": 10**30},
        {"positions": b"\x04"},
        {"positions": bytearray(b"\x04")},
        {"positions": "4"},
        {"positions": np.array([0.0])},
        {"positions": mx.array([True, False])},
        {"positions": slice("a", None)},
        {"positions": slice(0, 2, 0)},
        {"positions": []},
        {"positions": [0, 0]},
        {"window": mx.array([2])},
        {"window": 2.0},
        {"window": np.True_},
        {"window": "2"},
        {"component": "head", "heads": b"\x00"},
        {"component": "head", "heads": [np.True_]},
        {"target": ""},
        {"target": [1, 2.5]},
        {"target": []},
        {"target": 10**9},
        {"metric": "prob_diff", "target": 3, "foil": 3},
        {"metric": ["kl", "kl"]},
        {"metric": 3},
        {"metric": []},
    ],
    ids=str,
)
def test_odd_arguments(llama, options):
    with pytest.raises(errors.MlxtraceError):
        patch(llama, **options)


@pytest.mark.parametrize(
    "level", ["s_3", "s-1", "S3", "snan", "sinf", "s3_0", "s 3", "u", "", "u-3", "٣", b"s3", None]
)
def test_levels_that_mean_nothing(level):
    with pytest.raises(errors.InputError, match="Valid"):
        GaussianNoise("x", level)


@pytest.mark.parametrize("token", [[1, 2], [1], "a", 1.0, True, None, 10**9, -1])
def test_one_token_is_one_token(llama, token):
    with pytest.raises(errors.MlxtraceError):
        llama.token_to_str(token)


# ---- metrics


@pytest.mark.parametrize(
    "metric",
    [
        lambda x: np.exp(x).T[0] / np.exp(x).sum(),  # a softmax without axis
        lambda x: x[:, 0] - x[0, 0],
        lambda x: x[:, 0] - x.mean(),
        lambda x: np.full(len(x), np.random.default_rng().normal()),
        lambda x: x[:, 0].astype(str),
        lambda x: ["1"] * len(x),
        lambda x: x[:, 0] + 0j,
        lambda x: x[:, :1],
        lambda x: x[:, 0] * np.nan,
        lambda x: None,
        lambda: 1,
    ],
)
def test_functions_that_are_no_metric(metric):
    clean = np.random.default_rng(0).normal(size=9)
    with pytest.raises(errors.InputError):
        metrics.bind(metric, target=1, foil=2, clean_logits=clean)


def test_metrics_of_the_kinds_that_people_write():
    clean = np.random.default_rng(0).normal(size=9)
    for fn in (
        lambda x: x.argmax(-1) == 3,
        lambda x: mx.softmax(mx.array(x), axis=-1)[:, 3],
        lambda x: [r[0] for r in x],
    ):
        metrics.bind(fn, target=1, foil=2, clean_logits=clean)


def test_prob_diff_is_the_difference_of_two_probs(llama):
    found = patch(llama, component="head", metric=["prob_diff", "prob"], target=3, foil=9)
    other = patch(llama, component="head", metric="prob", target=9, foil=3)
    np.testing.assert_allclose(found.raw[0], found.raw[1] - other.raw, atol=1e-9)


# ---- prompts


@pytest.mark.parametrize("name", ["gpt2", "gpt_bigcode"])
def test_a_prompt_longer_than_the_table_of_positions(name):
    own = {"n_positions": 16} if name == "gpt2" else {}
    if name == "gpt_bigcode":
        own = {"n_embd": 48, "n_layer": 2, "n_inner": 96, "n_head": 3, "n_positions": 16, "vocab_size": 160}
        module = pytest.importorskip("mlx_lm.models.gpt_bigcode")
        made = {"model_type": name, "layer_norm_epsilon": 1e-5, **own}
        net = module.Model(module.ModelArgs.from_dict(made))
    else:
        net = models.make(name, **own)
    model = InterpretableModel(net)
    fits, long = [i % 50 for i in range(16)], [i % 50 for i in range(17)]
    model.run_with_cache(fits)
    for call in (
        lambda: model.trace(long),
        lambda: model.run_with_cache(mx.array([long, long])),
        lambda: model.activation_patching(long, long[::-1]),
        lambda: model.causal_trace(long, [1]),
        lambda: model.noising_window(long),
        lambda: model.to_tokens(long),
    ):
        with pytest.raises(errors.TokenError, match=r"17 tokens.*16 positions"):
            call()
    assert len(model.receipt(long).ids) == 17


@pytest.mark.parametrize("ids", [[160], [-1], [2**40], [0.5], [True], [], "1", None, [[1]]])
def test_rows_that_the_table_does_not_have(llama, ids):
    with pytest.raises(errors.MlxtraceError):
        embeddings.embedding_rows(llama.net.model.embed_tokens, ids)


def test_the_table_is_measured_anew_when_it_changes():
    model = InterpretableModel(models.make("llama"))
    before, weight = embedding_std(model), model.net.model.embed_tokens.weight
    weight *= 2  # behind the same array
    assert embedding_std(model) == pytest.approx(2 * before, rel=1e-6)
    model.net.update({"model": {"embed_tokens": {"weight": weight / 4}}})
    assert embedding_std(model) == pytest.approx(before / 2, rel=1e-6)


def test_a_model_quantized_in_place_is_looked_at_anew():
    model = InterpretableModel(models.make("llama"))
    model.run_with_cache(IDS)
    nn.quantize(model.net, group_size=32, bits=4)
    logits, cache = model.run_with_cache(IDS)
    assert mx.array_equal(logits, model.net(mx.array([IDS]))) and len(cache) > 10


def test_a_subject_that_occurs_twice_is_told_of():
    model = InterpretableModel("demo")
    prompt = "The Eiffel Tower, yes the Eiffel Tower, is located in the city of"
    trace = model.causal_trace(prompt, "Eiffel Tower", samples=2, **QUIET)
    assert any("occurs 2 times" in note for note in trace.notes)
    assert "occurs 2 times" in str(model.receipt(prompt, "Eiffel Tower"))
    once = model.receipt("The Eiffel Tower is located in the city of", "Eiffel Tower")
    assert not once.note and tokens.repeated(None, [1, 1], [0], [1, 1], range(1)) == ""


def test_ends_without_a_common_tail():
    with pytest.raises(errors.AlignmentError, match="no common tail"):
        align([1, 2, 3], [1, 5, 6, 7], list("abc"), list("axyz"), "ends", range(1, 3), range(1, 4))


# ---- files and figures


def _rewritten(path, raw):
    with np.load(path) as file:
        header = file["header"]
    np.savez(path, header=header, raw=raw)
    return path


@pytest.mark.parametrize("kind", [PatchingResult, CausalTrace])
def test_files_with_other_arrays(llama, tmp_path, kind):
    result = patch(llama) if kind is PatchingResult else llama.causal_trace(IDS, [1], samples=2, **QUIET)
    path, raw = result.save(tmp_path / "x.npz"), result.raw
    kind.load(path)
    broken = raw.copy()
    broken.flat[0] = np.nan
    wrong = [
        raw.astype(str),
        raw + 0j,
        broken,
        raw[:-1],
        raw.ravel()[:2],
        raw > 0,
        raw[..., :1, None],
        raw[..., :0],
    ]
    for other in wrong:
        with pytest.raises(errors.LoadError):
            kind.load(_rewritten(path, other))


@pytest.mark.parametrize(
    "options",
    [
        {"layers": [1]},
        {"heads": [0]},
        {"layers": 2},
        {"layers": "01"},
        {"values": [["a"]]},
        {"values": [[1], [1, 2]]},
    ],
)
def test_head_maps_are_not_mislabelled(options):
    with pytest.raises(errors.InputError):
        plotting.head_heatmap(**{"values": np.ones((2, 3)), **options})
