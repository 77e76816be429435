"""The induction model: what it knows on layouts never trained, which heads do it, and that they are what does it."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import mlxtrace
from mlxtrace import interventions as iv
from mlxtrace import prompts
from mlxtrace.demo import train_induction as script

FOLDER = Path(mlxtrace.__file__).parent / "demo" / "induction"
PREVIOUS = 1  # the head of layer 0 that looks one word back


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("induction")


def test_the_folder_is_small_and_computed_in_float32(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000
    assert mx.load(str(FOLDER / "model.safetensors"))["model.wte.weight"].dtype == mx.float16
    assert (model.net.model.wte.weight.dtype, model.name, model.n_layers) == (mx.float32, "induction", 2)
    half = mlxtrace.InterpretableModel("induction", dtype="float16")
    assert half.net.model.wte.weight.dtype == mx.float16


def test_attention_is_all_that_it_has(model):
    for block in model.net.model.h:
        assert not any(
            mx.any(x).item() for part in block.mlp.children().values() for x in part.parameters().values()
        )
    tokens = mx.array(script.rows(np.random.RandomState(0), 4, True))
    assert mx.allclose(script.logits(model.net, tokens), model.net(tokens), atol=1e-4)


def test_layouts_that_were_never_trained(model):
    for name, share in script.accuracies(model.net).items():
        assert share > (0.85 if name.startswith("45") else 0.99), (name, share)


def test_rows_hold_repeats_and_only_what_they_tell_is_asked():
    rng = np.random.RandomState(0)
    for anywhere in (False, True):
        tokens = script.rows(rng, 200, anywhere)
        assert (tokens[:, 0] == 0).all() and (tokens[:, 1:] >= len(script.SPECIAL)).all()
        assert tokens.max() == len(script.SPECIAL) + len(script.WORDS) - 1
        asked = script.told(tokens)
        assert 0.03 < asked.mean() < 0.4
        row, at = np.argwhere(asked)[7]
        before = [i for i in range(at) if tokens[row, i] == tokens[row, at]]
        assert before and all(tokens[row, i + 1] == tokens[row, at + 1] for i in before)
        lag = [at - np.flatnonzero(tokens[row, :at] == tokens[row, at])[-1] for row, at in np.argwhere(asked)]
        assert np.bincount(lag).max() < 0.15 * len(lag)  # no distance is a shortcut
    unclear = np.array([[0, 5, 6, 5, 7, 5, 6, 9]])
    assert script.told(unclear).tolist() == [[False, False, False, False, False, False, False]]
    assert script.told(np.array([[0, 5, 6, 9, 5, 6, 9]])).tolist() == [
        [False, False, False, False, True, True]
    ]


def test_heads_as_the_card_has_them(model):
    previous, induction = script.head_scores(model.net)
    assert previous[0].argmax() == PREVIOUS and previous[0, PREVIOUS] > 0.9 and np.sort(previous[0])[-2] < 0.5
    assert (induction[1] > 0.9).all() and induction[0].max() < 0.1
    tokens = script.repeated(np.random.RandomState(3), 1, 8)
    _, cache = model.run_with_cache(tokens[0].tolist(), sites=["layers.0.pattern", "layers.1.pattern"])
    for layer, pattern in enumerate(script.patterns(model.net, mx.array(tokens))):
        assert np.allclose(pattern[:, 0], np.array(cache[f"layers.{layer}.pattern"])[0], atol=1e-5)


def looks(model, pairs, edits):
    """The mean attention of each head of layer 1 from the last A to the first B."""
    seen = []
    for pair in pairs:
        with model.trace(pair.clean, interventions=edits):
            seen.append(np.array(model.layers[1].pattern.output[0, :, -1, pair.regions["B1"]]))
    return np.mean(seen, axis=0)


def test_without_the_head_before_them_the_induction_heads_look_nowhere(model):
    """K-composition: the head that looks one word back is needed for where they look, the others are not."""

    def without(head):
        def edit(x):
            x[:, :, head] = 0
            return x

        return {"layers.0.head": edit}

    pairs = prompts.induction(model, n=8, seed=5)
    assert (looks(model, pairs, {}) > 0.8).all()
    assert (looks(model, pairs, without(PREVIOUS)) < 0.15).all()
    for head in {0, 1, 2, 3} - {PREVIOUS}:
        assert (looks(model, pairs, without(head)) > 0.5).all()
    assert (looks(model, pairs, {"layers.0.mlp": iv.zero_out()}) > 0.8).all()


def test_the_circuit_is_the_head_before_into_the_keys(model):
    """Found on some pairs, faithful on others: the embedding, that head, the keys behind it, the logits."""
    pairs, others = (prompts.induction(model, n=8, seed=seed, differs="A1") for seed in (0, 1))
    paths = model.path_patching(
        pairs, senders="head", receivers=["q", "k", "v"], metric="logit_diff", progress=False
    )
    keys = {(f"a0.h{PREVIOUS}", f"a1.h{head}.k") for head in range(4)}
    assert {(row["sender"], row["receiver"]) for row in paths.top(4)} == keys
    strongest = [abs(row["effect"]) for row in paths.top(5)]
    assert strongest[3] > 3 * strongest[4]
    circuit = model.edges(pairs, progress=False).circuit(9)
    written = {(f"a1.h{head}", "logits") for head in range(4)}
    assert set(circuit.edges) == {("embed", f"a0.h{PREVIOUS}.v"), *keys, *written}
    assert circuit.faithfulness(others) > 0.95 and circuit.random(10, others).max() < 0.05
    assert circuit.without(("embed", f"a0.h{PREVIOUS}.v")).faithfulness(others) < 0.05


def test_text_and_pairs(model):
    with model.trace("cat horse bell dog fish map cat horse bell") as trace:
        pass
    assert model.token_to_str(int(mx.argmax(trace.output[0, -1]))) == " dog"
    assert model.answer_token("dog") == model.answer_token(" dog")
    for made in (prompts.load("induction", model=model, n=32), prompts.induction(model, n=32, differs="A1")):
        assert len(prompts.suitable(model, made)) >= 31
    with pytest.raises(mlxtrace.errors.LoadError, match='"demo", "induction"'):
        mlxtrace.InterpretableModel("inductoin")


def test_the_script_trains_and_writes_a_model(tmp_path, capsys):
    script.main(["--steps", "2", "--batch", "4", "--out", str(tmp_path)])
    assert "previous word, layer 0" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()} - {
        "README.md"
    }
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text()
    assert mlxtrace.InterpretableModel(tmp_path).encode("cat dog")[0] == 0
