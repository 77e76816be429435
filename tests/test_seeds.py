"""The code of the tutorials that users come from, run as it is written, on the demo.

The blocks are read from the seed files when the test runs. Only three things change: the package's name, the
hub model's name, and fragments, which get their obvious completion (`SETUP`, `FILLED`).
"""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import mlxtrace
from mlxtrace import InterpretableModel, metrics

SEEDS = Path(__file__).parents[2] / "shared" / "seeds"
HUB = "mlx-community/Llama-3.2-1B-Instruct-4bit"
DEMO = Path(mlxtrace.__file__).parent / "demo" / "model.safetensors"

pytestmark = [
    pytest.mark.skipif(not SEEDS.is_dir(), reason="the tutorials that users come from are not at hand"),
    pytest.mark.skipif(not DEMO.is_file(), reason="the demo model is not trained"),
]

# What has to be defined before a fragment can run, by the words that the block starts with.
SETUP = {
    "def position_patch": "",
    "factual_prompts": "n_layers = model.n_layers",
    "noisy_embeddings": """
tokens = model.to_tokens(clean_text)
embeddings = model._module_resolver.get_embedding_layer()(tokens)
noise = mx.random.normal(embeddings.shape)
""",
    "def replace_at_position": """
with model.trace(clean_text) as trace:
    clean_layer = model.layers[24].output.save()
""",
}

# The gaps that the tutorial leaves: what is written, and what it stands for.
FILLED = {
    "mx.dequantize(...)": "mx.dequantize(embed_layer.weight[tokens], embed_layer.scales[tokens], "
    "embed_layer.biases[tokens], group_size=embed_layer.group_size, bits=embed_layer.bits)",
    "        # Mask noise to only affect subject tokens\n        ...": "        at = mx.arange(tokens.shape[1])\n"
    "        noise = mx.where(((at >= subject_range[0]) & (at <= subject_range[-1]))[None, :, None], noise, 0)",
    "# Use as intervention\n": "import functools\nposition_patch = functools.partial("
    "position_patch, clean_activation=clean_mlp, subject_last_pos=4)\n",
    "# Recovery metric\n": """
with model.trace("The Colosseum is located in the city of"):
    rome_output = model.output.save()
clean_prob, patched_prob, corrupted_prob = (
    get_target_token_probability(logits, model.answer_token(" Paris", clean_text))
    for logits in (clean_output, patched_output, rome_output)
)
""",
    "    # ... more prompts\n": "",
    "# ... your comparison code ...": "comparison = {l: (output_results[l], mlp_results[l]) for l in output_results}",
    "# ... your analysis code ...": """
analysis = [model.activation_patching(clean, corrupted, "mlp") for clean, corrupted in corruptions]""",
    "# ... your visualization code ...": """
image = np.array([[all_results[comp][l] for l in sorted(all_results[comp])] for comp in components])
plt.imshow(image)
plt.close("all")""",
}


def seed(start: str) -> str:
    return next(SEEDS.glob(f"{start}*.txt")).read_text()


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def completed(block: str) -> str:
    for gap, code in FILLED.items():
        block = block.replace(gap, code)
    setup = next((code for start, code in SETUP.items() if block.startswith(start)), "")
    return setup + "\n" + block


def run(block: str, namespace: dict, model: str) -> None:
    code = completed(block.replace("mlxterp", "mlxtrace").replace(HUB, model))
    exec(compile(code, f"<{block.splitlines()[0]}>", "exec"), namespace)


# ---- the tutorial, from top to bottom


@pytest.mark.filterwarnings("ignore:the corrupted prompt has the same answer")
def test_every_block_of_the_tutorial_runs_in_order(gpt2_folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    found = blocks(seed("004"))
    assert len(found) == 19
    names: dict = {}
    for block in found:
        if block.startswith("def replace_at_position"):
            names["model"] = InterpretableModel(str(gpt2_folder))  # "h.24": a GPT-2 of 26 layers
            names["clean_text"], names["corrupted_text"] = _of_equal_length(names["model"])
        run(block, names, "demo")
        if "# Recovery metric" in block:
            assert 95 < names["recovery"] < 105  # a patch between two museums of Paris
    _checked(names, capsys.readouterr().out)


def _of_equal_length(model: InterpretableModel) -> tuple[str, str]:
    """Two prompts of this chapter's kind that this tokenizer makes equally long."""
    cities = ("Paris", "Rio", "Berlin", "Rome", "New York", "France", "Germany")
    prompts = [f"The capital of {city} is located in" for city in cities]
    lengths = [len(model.encode(prompt)) for prompt in prompts]
    same = [
        prompt for prompt, n in zip(prompts, lengths, strict=True) if lengths.count(n) > 1 and n == lengths[0]
    ]
    return same[0], same[1]


def _checked(names: dict, printed: str) -> None:
    """What the blocks leave behind and print is what the tutorial says they do."""
    assert "Clean prediction: [(' Paris'" in printed
    assert "WARNING: Corruption did not change prediction!" in printed  # both are in Paris
    assert names["mlp_key"] == "model.layers.8.mlp" and names["intervention_key"] == "layers.8.mlp"
    assert "Patched (layer 8 MLP): [(' Paris'" in printed
    assert sorted(names["mlp_results"]) == list(range(12)) == names["all_layers"]
    assert "Most important MLP layers for factual recall:\n  Layer" in printed
    assert printed.count("mean recovery") == 12 and printed.count("Peak MLP layer") == 4
    assert all(len(found) == 2 for found in names["layer_recoveries"].values())
    assert names["output_results"][11] == pytest.approx(100, abs=1e-3)
    assert names["image"].shape == (2, 12) and len(names["analysis"]) == 3
    assert names["noisy_embeddings"].shape == names["embeddings"].shape


def test_the_tutorials_helpers_do_what_they_say(llama_4bit_folder):
    """The functions that the tutorial leaves for later: noise on a quantized table, a patch at one position."""
    found = blocks(seed("004"))
    for model in (InterpretableModel("demo"), InterpretableModel(str(llama_4bit_folder))):
        names = {"mx": mx, "model": model}
        run(next(b for b in found if b.startswith("def add_gaussian_noise")), names, "demo")
        tokens = model.to_tokens("The Eiffel Tower is located in the city of")
        clean = names["add_gaussian_noise_to_embedding"](model, tokens, noise_std=0.0)
        with model.trace(tokens):
            expected = model.embed.output.save()
        assert mx.allclose(clean, expected, atol=1e-6)
        noisy = names["add_gaussian_noise_to_embedding"](model, tokens, 0.3, range(2, 5))
        moved = np.abs(np.array(noisy - clean)).max(-1)[0] > 0
        assert moved.tolist() == [2 <= i < 5 for i in range(tokens.shape[1])]


def test_a_patch_by_hand_is_what_the_package_calls_recovery(demo):
    """Blocks 4 and 9 by hand, against activation_patching of the same site and position."""
    clean, corrupted = "The Eiffel Tower is located in the city of", "The Colosseum is located in the city of"
    names = {"mx": mx, "model": demo, "clean_text": clean, "corrupted_text": corrupted}
    with demo.trace(clean) as trace:
        pass
    block = next(b for b in blocks(seed("004")) if b.startswith("def position_patch"))
    for layer in (0, 3, 8):
        names["clean_mlp"] = trace.activations[f"layers.{layer}.mlp"]
        run(block.replace("layers.8.mlp", f"layers.{layer}.mlp"), names, "demo")
        values = np.array(names["output"])[0, -1]
        result = demo.activation_patching(clean, corrupted, layers=layer, positions=4, metric="logprob")
        by_hand = metrics.log_softmax(values)[demo.answer_token(" Paris", clean)]
        assert result.raw[0] == pytest.approx(by_hand, abs=2e-5)


# ---- the other tutorials' experiments, in this package's words


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def pair_in(text: str) -> tuple[str, str]:
    """The prompts that a tutorial calls base and source."""
    found = dict(re.findall(r'^(base_prompt|source_prompt) = "(.+?)"', text, re.M))
    return found["base_prompt"], found["source_prompt"]


PAIRS = [("000", " Paris", " Rome"), ("002", " France", " Brazil")]


@pytest.mark.parametrize(("start", "base_answer", "source_answer"), PAIRS)
def test_total_direct_and_indirect_effects(demo, start, base_answer, source_answer):
    """Interchange interventions written out in traces, against activation_patching in both directions."""
    base, source = pair_in(seed(start))
    answer = demo.answer_token(source_answer, source)
    hidden, logits = {}, {}
    for name, prompt in (("base", base), ("source", source)):
        with demo.trace(prompt):
            hidden[name] = [layer.output.save() for layer in demo.layers]
            logits[name] = demo.output.save()
    assert top(logits["base"]) == demo.answer_token(base_answer, base)
    assert top(logits["source"]) == answer
    total = prob(logits["source"], answer) - prob(logits["base"], answer)
    assert total > 0.5

    asked = {"component": "resid_post", "metric": "prob", "positions": -1}
    direct = demo.activation_patching(source, base, **asked)  # source activations into the base run
    indirect = demo.activation_patching(source, base, direction="noise", **asked)
    for layer in range(demo.n_layers):
        for into, of, result in ((base, "source", direct), (source, "base", indirect)):
            with demo.trace(into):
                demo.layers[layer].output[:, -1] = hidden[of][layer][:, -1]
                patched = demo.output.save()
            assert prob(patched, answer) == pytest.approx(result.raw[layer], abs=2e-6)
    assert direct[demo.n_layers - 1] == pytest.approx(100, abs=1e-3)
    assert indirect[demo.n_layers - 1] == pytest.approx(0, abs=1e-3)


def test_information_flows_from_the_city_to_the_last_token(demo):
    """Seed 002: the map of layer x token, measured by the difference of two answers."""
    base, source = pair_in(seed("002"))
    asked = {"component": "resid_post", "positions": "each", "metric": "logit_diff"}
    flow = demo.activation_patching(source, base, target=" Brazil", foil=" France", **asked)
    city = flow.subject_range[-1]
    assert flow.sel(layer=0, position=city) > 90
    assert flow.sel(layer=demo.n_layers - 1, position=len(flow.tokens) - 1) > 99
    assert abs(flow.sel(layer=demo.n_layers - 1, position=city)) < 1


def test_heads_by_the_input_of_the_output_projection(demo):
    """Seed 002, second part: one head of `o_proj.input` at a time, over all tokens."""
    base, source = pair_in(seed("002"))
    answer, size = demo.answer_token(" Brazil", source), demo.net.args.head_dim
    with demo.trace(source):
        heads = [layer.self_attn.o_proj.input.save() for layer in demo.layers]
    result = demo.activation_patching(source, base, component="head", metric="prob")
    assert result.dims == ("layer", "head")
    for layer in (0, 5):
        for head in range(demo.n_heads):
            at = slice(head * size, (head + 1) * size)
            with demo.trace(base):
                value = demo.layers[layer].self_attn.o_proj.input
                value[:, :, at] = heads[layer][:, :, at]
                demo.layers[layer].self_attn.o_proj.input = value
                patched = demo.output.save()
            assert prob(patched, answer) == pytest.approx(result.raw[layer, head], abs=2e-6)


def test_restoring_a_window_in_a_run_with_noise_everywhere(demo):
    """Seed 000: noise on every layer's output, except in a window that is restored."""
    _, source = pair_in(seed("000"))
    answer = demo.answer_token(" Rome", source)
    with demo.trace(source):
        clean = [layer.output.save() for layer in demo.layers]
        plain = demo.output.save()
    mx.random.seed(0)
    last = demo.n_layers - 1
    found = {}
    for centre in (2, last):
        with demo.trace(source):
            for i, layer in enumerate(demo.layers):
                if abs(i - centre) <= 1:
                    layer.output[:] = clean[i]
                else:
                    layer.output[:] = layer.output + mx.random.normal(layer.output.shape)
            found[centre] = demo.output.save()
    assert mx.array_equal(found[last], plain)
    assert prob(found[2], answer) < prob(plain, answer)


def top(logits: mx.array) -> int:
    return int(mx.argmax(logits[0, -1]))


def prob(logits: mx.array, token: int) -> float:
    return float(metrics.softmax(np.array(logits[0, -1]))[token])
