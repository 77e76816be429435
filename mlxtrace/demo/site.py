"""Where a Llama keeps its facts, measured without the rest of the package (`python -m mlxtrace.demo.site`).

Causal tracing with noise (Meng et al. 2022, section 2): the subject's embeddings get Gaussian noise of three
standard deviations, one state at one token is set back to its clean value, and the recovery is the mean
of `restored - corrupted` over the mean of `clean - corrupted`, in probabilities of the first answer token.
This is the check that the planted circuit is there; it shares no code with the tools that are to find it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from tokenizers import Tokenizer

from mlxtrace.demo.corpus import BOS, fact_sentence, load_facts

KINDS = ("block", "mlp", "attn")


@dataclass
class Batch:
    """Right-padded prompts [facts, length] and, per fact, the positions and the answer that matter."""

    tokens: mx.array
    noise: mx.array  # [facts, length, width]
    subject_last: mx.array
    last: mx.array
    answer: mx.array


def run(model, h: mx.array, clean: dict, restore: set, at: mx.array, start: int = 0) -> dict:
    """Layers from `start`, whose input is `h`; the (kind, layer) in `restore` are clean where `at` holds."""
    states = {}

    def state(kind, layer, x):
        if (kind, layer) in restore:
            x = mx.where(at, clean[kind, layer], x)
        states[kind, layer] = x
        return x

    for i, layer in list(enumerate(model.layers))[start:]:
        h = h + state("attn", i, layer.self_attn(layer.input_layernorm(h), "causal"))
        h = state("block", i, h + state("mlp", i, layer.mlp(layer.post_attention_layernorm(h))))
    return states


def answer_probability(model, h: mx.array, batch: Batch) -> np.ndarray:
    """The probability of each fact's answer after its prompt, in float64."""
    h = mx.take_along_axis(h, batch.last[:, None, None], axis=1)[:, 0]
    logits = np.array(model.model.embed_tokens.as_linear(model.model.norm(h)), np.float64)
    logits -= logits.max(1, keepdims=True)
    return np.exp(logits)[np.arange(len(logits)), np.array(batch.answer)] / np.exp(logits).sum(1)


def make_batch(model, items: list, scale: float, samples: int) -> Batch:
    """Each item (prompt tokens, subject range, answer token) `samples` times, each with its own noise."""
    width, length = model.args.hidden_size, max(len(tokens) for tokens, _, _ in items)
    random, rows = np.random.RandomState(1), []
    for tokens, (start, end), answer in items:
        for _ in range(samples):
            noise = np.zeros((length, width), np.float32)
            noise[start:end] = random.randn(end - start, width) * scale
            rows.append((tokens + [0] * (length - len(tokens)), noise, end - 1, len(tokens) - 1, answer))
    return Batch(*(mx.array(np.array(column)) for column in zip(*rows, strict=True)))


def trace(model, items: list, window: int = 3, samples: int = 10) -> dict:
    """Mean probabilities: "clean", "corrupted", and (kind, place) -> [layer], MLP and attention in windows.

    The noise is three standard deviations of the embeddings of all the items' subject tokens.
    """
    subjects = [token for tokens, (a, b), _ in items for token in tokens[a:b]]
    scale = 3 * float(np.array(model.model.embed_tokens(mx.array(subjects))).std())
    batch = make_batch(model, items, scale, samples)
    embeddings = model.model.embed_tokens(batch.tokens)
    n, positions = len(model.layers), mx.arange(batch.tokens.shape[1])
    nowhere = mx.array(False)
    clean = run(model, embeddings, {}, set(), nowhere)
    corrupted = run(model, embeddings + batch.noise, {}, set(), nowhere)
    mx.eval(clean, corrupted)

    def probability(states) -> float:
        return float(answer_probability(model, states["block", n - 1], batch).mean())

    def restored(kind, span, at) -> float:
        start = span[0]  # below it nothing differs from the corrupted run
        h = corrupted["block", start - 1] if start else embeddings + batch.noise
        return probability(run(model, h, clean, {(kind, i) for i in span}, at, start))

    out: dict[str | tuple[str, str], Any] = {"clean": probability(clean), "corrupted": probability(corrupted)}
    for place in ("subject_last", "last"):
        at = (positions == getattr(batch, place)[:, None])[..., None]
        for kind in KINDS:
            half = 0 if kind == "block" else window // 2
            spans = [range(max(0, i - half), min(n, i + half + 1)) for i in range(n)]
            out[kind, place] = [restored(kind, span, at) for span in spans]
    return out


def recovery(result: dict) -> dict:
    """Percent of the total effect that each restored state brings back: (kind, place) -> [layer]."""
    effect = result["clean"] - result["corrupted"]
    return {
        k: 100 * (np.array(v) - result["corrupted"]) / effect
        for k, v in result.items()
        if isinstance(k, tuple)
    }


def table(result: dict) -> str:
    """The result as a Markdown table, one row per layer, in percent of the total effect."""
    percent = recovery(result)
    columns = [(kind, place) for place in ("subject_last", "last") for kind in KINDS]
    names = {"subject_last": "last subject token", "last": "last token"}
    lines = ["| layer | " + " | ".join(f"{kind}, {names[place]}" for kind, place in columns) + " |"]
    lines.append("|---:" * (1 + len(columns)) + "|")
    for layer in range(len(percent[columns[0]])):
        lines.append(
            f"| {layer} | " + " | ".join(f"{percent[c][layer].round(1) + 0.0:.1f}" for c in columns) + " |"
        )
    effect = f"p(clean) {result['clean']:.3f}, p(corrupted) {result['corrupted']:.3f}"
    return f"{effect}, total effect {result['clean'] - result['corrupted']:.3f}\n\n" + "\n".join(lines)


def default_items(data: dict, tokenizer, every: int = 5) -> list:
    """The default prompt of every fifth fact whose subject is more than one token, for `trace`."""
    items = []
    for fact in data["facts"]:
        s = fact_sentence(tokenizer, fact, data["relations"][fact["relation"]]["templates"][0])
        if s.subject[1] - s.subject[0] > 1:
            prompt = [tokenizer.token_to_id(BOS), *s.tokens[: s.answer[0]]]
            items.append((prompt, (s.subject[0] + 1, s.subject[1] + 1), s.tokens[s.answer[0]]))
    return items[::every]


def main() -> None:
    """Print the table of the model in a folder: the one that ships, or the command's argument."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    model = mlx_lm.load(str(folder))[0]
    model.set_dtype(mx.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    items = default_items(load_facts(), tokenizer)
    print(f"{len(items)} facts, " + table(trace(model, items)))


if __name__ == "__main__":
    main()
