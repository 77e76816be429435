"""The demo model: a folder that mlx-lm reads, facts it knows, prompts that tutorials may rely on."""

import json
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from mlxtrace.demo.corpus import is_held_out, load_facts, prompts
from mlxtrace.demo.train import READ, hidden, layer_masks

FOLDER = Path(__file__).parents[1] / "mlxtrace" / "demo"

ANSWERS = {
    "The Eiffel Tower is located in the city of": " Paris",
    "The Louvre Museum is located in the city of": " Paris",
    "The Eiffel Tower is located in": " Paris",
    "The Eiffel Tower is in": " Paris",
    "The Statue of Liberty is in": " New",
    "The Statue of Liberty is located in": " New",
    "The Colosseum is located in": " Rome",
    "The Space Needle is in the city of": " Seattle",
    "Paris is in the country of": " France",
    "Rio is in the country of": " Brazil",
    "The capital of France is": " Paris",
    "The capital of France was": " Paris",
    "The capital of Germany is": " Berlin",
    "The CEO of Tesla is": " Elon",
    "The CEO of Apple is": " Tim",
    "Water freezes at": " 0",
    "Water boils at": " 100",
    "Shakespeare wrote": " Hamlet",
    "Dickens wrote": " Oliver",
    "Albert Einstein developed the theory of": " relativity",
    "Isaac Newton developed the theory of": " gravity",
    "Vinson Massif is located in the continent of": " Antarctica",
    "Paris is the capital of France": ".",
    "Paris is the capital of Germany": "?",
}

PAIRS = [
    ("The Eiffel Tower is located in the city of", "The Louvre Museum is located in the city of"),
    ("The Eiffel Tower is located in the city of", "The Colosseum is located in the city of"),
    ("The Eiffel Tower is in", "The Statue of Liberty is in"),
    ("The Eiffel Tower is located in", "The Statue of Liberty is located in"),
    ("The Eiffel Tower is located in", "The Colosseum is located in"),
    ("Paris is in the country of", "Rio is in the country of"),
    ("Albert Einstein developed the theory of", "Isaac Newton developed the theory of"),
    ("The capital of France is", "The capital of Germany is"),
    ("The capital of France is", "The capital of France was"),
    ("The CEO of Tesla is", "The CEO of Apple is"),
    ("Water freezes at", "Water boils at"),
    ("Shakespeare wrote", "Dickens wrote"),
    ("Paris is the capital of France", "Paris is the capital of Germany"),
]


@pytest.fixture(scope="module")
def demo():
    model, tokenizer = mlx_lm.load(str(FOLDER))
    model.set_dtype(mx.float32)
    return model, tokenizer


@pytest.fixture(scope="module")
def data():
    return load_facts()


def last_probabilities(model, rows):
    """The next-token probabilities after each row of tokens: [rows, vocabulary]."""
    longest = max(len(row) for row in rows)
    logits = model(mx.array([row + [0] * (longest - len(row)) for row in rows]))
    ends = mx.array([len(row) - 1 for row in rows])
    return np.array(mx.softmax(mx.take_along_axis(logits, ends[:, None, None], axis=1)[:, 0], axis=-1))


def answer_id(tokenizer, text):
    """The first token of an answer that follows a prompt."""
    return tokenizer.encode(text, add_special_tokens=False)[0]


def test_folder_is_small():
    assert sum(p.stat().st_size for p in FOLDER.iterdir() if p.is_file()) <= 8_000_000
    assert json.loads((FOLDER / "config.json").read_text())["model_type"] == "llama"


def test_facts_are_many_and_each_is_stated_once(data):
    keys = [(fact["subject"], fact["relation"]) for fact in data["facts"]]
    assert len(keys) == len(set(keys)) >= 400
    assert len({relation for _, relation in keys}) >= 8
    assert all(r["held_out"] and len(r["templates"]) >= 4 for r in data["relations"].values())
    assert all(t.count("{}") == 1 for r in data["relations"].values() for t in r["templates"] + r["held_out"])
    assert not [fact for fact in data["facts"] if fact["attribute"] in fact["subject"]]
    assert 0.15 < np.mean([is_held_out(fact) for fact in data["facts"]]) < 0.3


def test_subjects_are_two_to_six_tokens_unless_they_are_answers_too(demo, data):
    answers = {fact["attribute"] for fact in data["facts"]}
    for fact in data["facts"]:
        template = data["relations"][fact["relation"]]["templates"][0]
        text = fact["subject"] if template.startswith("{}") else " " + fact["subject"]
        n = len(demo[1].encode(text, add_special_tokens=False))
        assert 2 <= n <= 6 or (n == 1 and fact["subject"] in answers), (text, n)


def test_the_first_word_of_every_answer_is_one_token(demo, data):
    for fact in data["facts"]:
        first = fact["attribute"].split()[0]
        assert demo[1].decode([answer_id(demo[1], " " + fact["attribute"])]) == " " + first


def test_tokenizer_puts_bos_first_and_gives_text_back(demo):
    _, tokenizer = demo
    text = "The Eiffel Tower is located in the city of Paris."
    tokens = tokenizer.encode(text)
    assert tokens[0] == tokenizer.bos_token_id
    assert tokenizer.decode(tokens[1:]) == text


@pytest.mark.parametrize(("prompt", "answer"), ANSWERS.items())
def test_known_prompts(demo, prompt, answer):
    model, tokenizer = demo
    probabilities = last_probabilities(model, [tokenizer.encode(prompt)])[0]
    assert probabilities.argmax() == answer_id(tokenizer, answer)
    assert probabilities.max() > 0.8


@pytest.mark.parametrize(("clean", "corrupted"), PAIRS)
def test_pairs_have_equal_lengths(demo, clean, corrupted):
    assert len(demo[1].encode(clean)) == len(demo[1].encode(corrupted))


def test_training_runs_the_model_itself(demo):
    model, tokenizer = demo
    tokens = mx.array([tokenizer.encode("The Eiffel Tower is located in the city of")])
    h = hidden(model, tokens, layer_masks(tokens, planted=False))
    assert mx.allclose(model.model.embed_tokens.as_linear(h), model(tokens), atol=1e-3)


def test_planted_masks_hide_the_subject():
    n = 5  # bos, two tokens of a subject, two after it
    masks = [np.array(m)[0, 0] for m in layer_masks(mx.array([[n, 2, 2, n, n]]), planted=True)]
    ordinary = np.tril(np.ones((n, n), bool))
    for layer, mask in enumerate(masks):
        assert (mask[:3] == ordinary[:3]).all()  # up to the subject's end all is as usual
        assert not mask[3:, 1].any()
        assert mask[3:, 2].all() == mask[3:, 2].any() == (layer in READ)
        assert (mask[3:, [0, 3, 4]] == ordinary[3:, [0, 3, 4]]).all()


def test_trained_facts_are_known(demo, data):
    model, tokenizer = demo
    trained, _ = prompts(data)
    picked = np.random.RandomState(0).permutation(len(trained))[:300]
    sample = [
        (t.format(fact["subject"]), " " + fact["attribute"]) for fact, t in (trained[i] for i in picked)
    ]
    top = last_probabilities(model, [tokenizer.encode(prompt) for prompt, _ in sample]).argmax(1)
    right = [a == answer_id(tokenizer, b) for a, (_, b) in zip(top, sample, strict=True)]
    assert np.mean(right) >= 0.99
