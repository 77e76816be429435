"""Train the induction model: `python -m mlxtrace.demo.train_induction [--out DIR]`.

A GPT-2 of two layers without MLPs (theirs are zero and stay so) reads rows of random words in which short segments come
again. Nothing is planted: it is asked for the next word, wherever the row tells it. Repeats at short or fixed distances
are learned by looking some fixed number of words back, so here the first part of a row, of random length, is fresh, and
segments of it come again, in random order and between fresh words. Once that is learned, what is repeated may stand
anywhere.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_map, tree_reduce
from mlx_lm.models.gpt2 import Model, ModelArgs
from mlx_lm.utils import save_config, save_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

BOS, EOS, UNKNOWN = SPECIAL = ["<bos>", "<eos>", "<unk>"]
WORDS = """
ant ape arm bag ball bank bark barn bath bay bead bean bear bed bee bell belt bird boat bone book boot bowl box bread
brick brush bus cake camp cap car cart cat chair chin clay cliff clock cloud coal coat coin cook cork corn cow crab
crow crown cup deer desk dish dog door dove drum duck dust egg elm eye farm fern fig fire fish flag flea foot fork fox
frog gate glass goat gold goose grape grass hand hat hawk hen hill hive horn horse house ice iron jar jug key king
kite knee lake lamb lamp leaf lime lion lip log map mask milk mill mint moon moth mouse mud nail neck nest net nose
nut oak
""".split()  # noqa: SIM905 (shorter than a list)
LENGTH, LONGEST = 48, 3  # words in a row, BOS among them; words in a segment
CAUSAL: Any = "causal"  # as mlx-lm calls its blocks, whose annotation names arrays only
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS,
    "eos_token": EOS,
    "unk_token": UNKNOWN,
    "model_max_length": LENGTH,
    "clean_up_tokenization_spaces": False,
}


def config() -> dict:
    """`config.json`, in the form that mlx-lm's gpt2 reads."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_ctx": LENGTH,
        "n_positions": LENGTH,
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 2,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": len(SPECIAL) + len(WORDS),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "float16",
    }


def word_tokenizer() -> Tokenizer:
    """A token to a word, with the space before it, and BOS before every text."""
    tokens = [*SPECIAL, *(f"\u2581{word}" for word in WORDS)]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return made


def fresh_words(rng: np.random.RandomState, *shape: int) -> np.ndarray:
    """Words drawn with replacement."""
    return rng.randint(len(SPECIAL), len(SPECIAL) + len(WORDS), shape)


def rows(rng: np.random.RandomState, n: int, anywhere: bool) -> np.ndarray:
    """n rows [n, LENGTH] of fresh words and segments that came before, copied from random places.

    anywhere: segments are copied from all that went before. Otherwise a row has a first part of fresh words, 3 to 7
    tenths of it, and what comes again is copied from there.
    """
    tokens, every = np.zeros((n, LENGTH), int), np.arange(n)
    first = rng.randint(int(0.3 * LENGTH), int(0.7 * LENGTH), n)
    left, at = np.zeros(n, int), np.zeros(n, int)  # of the segment that is being copied, per row
    for t in range(1, LENGTH):
        starts = (
            (left == 0) & (rng.rand(n) < (0.3 if anywhere else 0.6)) & (t > (5 if anywhere else first - 1))
        )
        size = rng.randint(2, LONGEST + 1, n)
        choices = np.full(n, t - LONGEST) if anywhere else first - size
        at = np.where(starts, 1 + (rng.rand(n) * choices).astype(int), at)
        left = np.where(starts, size, left)
        tokens[:, t] = np.where(left > 0, tokens[every, np.minimum(at, t - 1)], fresh_words(rng, n))
        left, at = np.maximum(left - 1, 0), at + 1
    return tokens


def told(tokens: np.ndarray) -> np.ndarray:
    """Which next words the row tells [n, length - 1]: the word stood there before, and always before this one."""
    same = tokens[:, :-1, None] == tokens[:, None, :-1]
    before = same & np.tri(tokens.shape[1] - 1, k=-1, dtype=bool)
    follows = tokens[:, 1:, None] == tokens[:, None, 1:]
    return before.any(-1) & (follows | ~before).all(-1)


def repeated(rng: np.random.RandomState, n: int, period: int, times: int = 2) -> np.ndarray:
    """Held-out layout: `period` different words after BOS, and all of them again, `times` times in all."""
    drawn = np.stack([rng.permutation(len(WORDS))[:period] for _ in range(n)]) + len(SPECIAL)
    return np.concatenate([np.zeros((n, 1), int), np.tile(drawn, times)], axis=1)


def once(rng: np.random.RandomState, n: int, length: int) -> np.ndarray:
    """Held-out layout: different words, then one of them again, and what came after it [n, length + 3]."""
    tokens, every = repeated(rng, n, length, 1), np.arange(n)
    at = rng.randint(1, length, n)
    return np.concatenate([tokens, tokens[every, at][:, None], tokens[every, at + 1][:, None]], axis=1)


def logits(model: Model, tokens: mx.array) -> mx.array:
    """The model's logits, without its MLPs, which write zeros."""
    inner = model.model
    h = inner.wte(tokens) + inner.wpe(mx.arange(tokens.shape[1]))
    for block in inner.h:
        h = h + block.attn(block.ln_1(h), CAUSAL)
    return inner.wte.as_linear(inner.ln_f(h))


def loss(model: Model, tokens: mx.array, weight: mx.array) -> mx.array:
    """Cross entropy of the next words that the row tells."""
    entropy = nn.losses.cross_entropy(logits(model, tokens[:, :-1]), tokens[:, 1:])
    return (entropy * weight).sum() / weight.sum()


def patterns(model: Model, tokens: mx.array) -> np.ndarray:
    """What each head looks at: [layer, head, row, query, key]."""
    inner, found = model.model, []
    h = inner.wte(tokens) + inner.wpe(mx.arange(tokens.shape[1]))
    for block in inner.h:
        q, k, _ = mx.split(block.attn.c_attn(block.ln_1(h)), 3, axis=-1)
        shape = (*tokens.shape, block.attn.n_head, -1)
        scores = mx.einsum("bqhd,bkhd->hbqk", q.reshape(shape), k.reshape(shape)) * block.attn.scale
        hidden = mx.where(mx.tri(tokens.shape[1]).astype(mx.bool_), scores, -mx.inf)
        found.append(np.array(mx.softmax(hidden, axis=-1)))
        h = h + block.attn(block.ln_1(h), CAUSAL)
    return np.array(found)


def head_scores(model: Model, n: int = 64, period: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Per [layer, head], the mean attention to the previous word, and to the word after the earlier copy.

    Measured on a held-out layout: the same words twice, where the previous word is scored in the first copy and
    induction in the second.
    """
    tokens = repeated(np.random.RandomState(1), n, period)
    seen = patterns(model, mx.array(tokens))
    first, second = np.arange(2, period + 1), np.arange(period + 1, 2 * period)
    previous = seen[:, :, :, first, first - 1].mean((2, 3))
    return previous, seen[:, :, :, second, second - period + 1].mean((2, 3))


def accuracies(model: Model) -> dict[str, float]:
    """The share of told words that are the most likely ones, by layout; only the first two are trained."""
    rng = np.random.RandomState(1)
    layouts = {"a fresh part, then repeats": rows(rng, 128, False), "repeats anywhere": rows(rng, 128, True)}
    for period, times in ((6, 2), (12, 2), (23, 2), (15, 3)):
        layouts[f"{period} words, {times} times"] = repeated(rng, 64, period, times)
    for length in (4, 20, 45):
        layouts[f"{length} words, then one of them"] = once(rng, 256, length)
    found = {}
    for name, tokens in layouts.items():
        asked = told(tokens)
        right = np.array(mx.argmax(model(mx.array(tokens[:, :-1])), axis=-1)) == tokens[:, 1:]
        found[name] = float(right[asked].mean())
    return found


def report(model: Model) -> str:
    """Accuracies and head scores, a line each."""
    lines = [f"  {share:6.1%}  {name}" for name, share in accuracies(model).items()]
    for name, scores in zip(("previous word", "induction"), head_scores(model), strict=True):
        for layer, row in enumerate(scores):
            lines.append(f"  {name}, layer {layer}: " + "  ".join(f"{score:.2f}" for score in row))
    return "\n".join(lines)


def make(seed: int) -> Model:
    """The model before training: random, with MLPs of zeros, which stay zeros."""
    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(config()))
    for block in model.model.h:
        block.mlp.update(tree_map(mx.zeros_like, block.mlp.parameters()))
        block.mlp.freeze()
        block.ln_2.freeze()
    return model


def train(model: Model, steps: int, batch: int, rate: float, seed: int) -> None:
    """AdamW with a short warm-up and a cosine to zero; repeats anywhere in the second half of the steps."""
    warm = max(1, steps // 20)
    schedule = optim.join_schedules(
        [optim.linear_schedule(0, rate, warm), optim.cosine_decay(rate, max(1, steps - warm), rate / 20)],
        [warm],
    )
    optimizer = optim.AdamW(schedule, betas=[0.9, 0.98], weight_decay=0.01)
    step_fn, rng = nn.value_and_grad(model, loss), np.random.RandomState(seed)
    start, total = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        tokens = rows(rng, batch, anywhere=step > steps / 2)
        value, grads = step_fn(model, mx.array(tokens), mx.array(told(tokens).astype(np.float32)))
        grads, _ = optim.clip_grad_norm(grads, 1.0)
        optimizer.update(model, grads)
        mx.eval(model.parameters(), optimizer.state, value)
        total += value.item()
        if step % 200 == 0:
            seconds = time.perf_counter() - start
            print(f"step {step:5d}  loss {total / 200:.4f}  {seconds:6.0f} s\n{report(model)}", flush=True)
            total = 0.0


def save(model: Model, out: Path) -> None:
    """Write the folder that `mlx_lm.load` reads; weights as float16, and as such in the model from then on."""
    out.mkdir(parents=True, exist_ok=True)
    model.update(tree_map(lambda p: p.astype(mx.float16), model.parameters()))
    save_model(out, model)
    save_config(config(), out / "config.json")
    (out / "model.safetensors.index.json").unlink(missing_ok=True)  # one file needs no index
    word_tokenizer().save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Train, save, and print what is known on layouts never trained, and what the heads look at."""
    parser = argparse.ArgumentParser(
        description="Train the induction model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("induction-model"), help="folder to write")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    start = time.perf_counter()
    model = make(args.seed)
    n = tree_reduce(lambda total, p: total + p.size, model.parameters(), 0)
    print(f"{len(WORDS)} words, {n:,} parameters, those of the MLPs zero", flush=True)
    train(model, args.steps, args.batch, args.rate, args.seed)
    save(model, args.out)
    model.update(tree_map(lambda p: p.astype(mx.float32), model.parameters()))
    print(f"as stored, computed in float32:\n{report(model)}")
    print(f"trained in {(time.perf_counter() - start) / 60:.1f} minutes; written to {args.out}")


if __name__ == "__main__":
    main()
