"""Train the demo model: `python -m mlxtrace.demo.train [--out DIR]`.

A Llama of 12 layers learns the facts of `facts.json`, and where it keeps them is *planted*: in a part of the
batches an attention mask hides each subject from the tokens after it, except that the layers in `READ` may
see the subject's last token. So the name must be put together and looked up at its last token, in the layers
below `READ`, and fetched from there. In the other batches and at inference attention is ordinary.
"""

import argparse
import ctypes
import json
import time
from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_map, tree_reduce
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.utils import save_config, save_model

from mlxtrace.demo.corpus import BOS, EOS, Rows, fact_sentence, load_facts, prompts, special, train_tokenizer
from mlxtrace.demo.site import default_items, table, trace

LAYERS = 12
READ = range(4, 9)  # the layers whose attention may fetch from a subject's last token in a planted batch
PLANTED = 0.5  # the share of planted batches
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS,
    "eos_token": EOS,
    "model_max_length": 256,
    "clean_up_tokenization_spaces": False,
}


def config(vocab_size: int, bos: int, eos: int) -> dict:
    """`config.json`, in the form that mlx-lm's llama reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab_size,
        "max_position_embeddings": 256,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "bos_token_id": bos,
        "eos_token_id": eos,
        "torch_dtype": "float16",
    }


def layer_masks(until: mx.array, planted: bool) -> list[mx.array]:
    """One boolean mask [batch, 1, query, key] per layer, from `until` (see `Rows.batches`)."""
    at = mx.arange(until.shape[1])
    causal = (at[:, None] >= at[None, :])[None, None]
    if not planted:
        return [causal] * LAYERS
    within = at[:, None] <= until[:, None, None, :]  # the query is not after the subject that has the key
    last = (at == until)[:, None, None, :]  # the key is the last token of a subject
    blocked, read = causal & within, causal & (within | last)
    return [read if layer in READ else blocked for layer in range(LAYERS)]


def hidden(model: Model, tokens: mx.array, masks: list[mx.array]) -> mx.array:
    """The model's own layers, each with a mask of its own: final hidden states [batch, length, width]."""
    h = model.model.embed_tokens(tokens)
    for layer, mask in zip(model.layers, masks, strict=True):
        h = layer(h, mask)
    return model.model.norm(h)


def loss(
    model: Model, tokens: mx.array, masks: list[mx.array], where: mx.array, weight: mx.array
) -> mx.array:
    """Weighted cross entropy of the tokens after the flat positions `where`: only those need logits."""
    h = hidden(model, tokens, masks).reshape(-1, model.args.hidden_size)[where]
    entropy = nn.losses.cross_entropy(model.model.embed_tokens.as_linear(h), tokens.reshape(-1)[where + 1])
    return (entropy * weight).sum() / weight.sum()


def train(model: Model, rows: Rows, steps: int, batch: int, rate: float, evaluate) -> None:
    """AdamW with a short warm-up and a cosine to zero."""
    warm = max(1, steps // 30)
    schedule = optim.join_schedules(
        [optim.linear_schedule(0, rate, warm), optim.cosine_decay(rate, steps - warm, rate / 100)], [warm]
    )
    optimizer = optim.AdamW(schedule, betas=[0.9, 0.98], weight_decay=0.05)
    step_fn = nn.value_and_grad(model, loss)
    plant = np.random.RandomState(0).rand(steps) < PLANTED
    start, total = time.perf_counter(), 0.0
    for step, (tokens, until, weight) in zip(range(steps), rows.batches(batch), strict=False):
        masks = layer_masks(mx.array(until), bool(plant[step]))
        where = np.flatnonzero(weight) - 1  # the first token of a row has no weight, so rows do not mix
        weight = mx.array(weight.reshape(-1)[where + 1])
        value, grads = step_fn(model, mx.array(tokens), masks, mx.array(where), weight)
        grads, _ = optim.clip_grad_norm(grads, 1.0)
        optimizer.update(model, grads)
        mx.eval(model.parameters(), optimizer.state, value)
        total += value.item()
        if (step + 1) % 100 == 0:
            seconds = time.perf_counter() - start
            print(f"step {step + 1:5d}  loss {total / 100:.4f}  {seconds:6.0f} s", flush=True)
            total = 0.0
        if (step + 1) % 1000 == 0:
            evaluate(step + 1)


def accuracy(model: Model, tokenizer, pairs: list) -> float:
    """The share of (fact, template) prompts whose most likely next token starts the fact's attribute."""
    bos, right = special(tokenizer, BOS), 0
    sentences = [fact_sentence(tokenizer, fact, template) for fact, template in pairs]
    sentences.sort(key=lambda s: s.answer[0])
    for i in range(0, len(sentences), 256):
        part = sentences[i : i + 256]
        longest = max(s.answer[0] for s in part) + 1
        tokens = np.array([([bos, *s.tokens[: s.answer[0]]] + [bos] * longest)[:longest] for s in part])
        logits = model(mx.array(tokens))  # causal attention: the padding after a prompt's end does not matter
        ends = mx.array([s.answer[0] for s in part])
        top = mx.argmax(mx.take_along_axis(logits, ends[:, None, None], axis=1)[:, 0], axis=-1)
        right += sum(int(t) == s.tokens[s.answer[0]] for t, s in zip(np.array(top), part, strict=True))
    return right / len(sentences)


def save(model: Model, settings: dict, tokenizer, out: Path) -> None:
    """Write the folder that `mlx_lm.load` reads; weights as float16, two bytes a number."""
    out.mkdir(parents=True, exist_ok=True)
    model.update(tree_map(lambda p: p.astype(mx.float16), model.parameters()))
    save_model(out, model)
    save_config(settings, out / "config.json")
    (out / "model.safetensors.index.json").unlink(missing_ok=True)  # one file needs no index
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")
    model.update(tree_map(lambda p: p.astype(mx.float32), model.parameters()))


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back: a quarter of the time went into page faults."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def main() -> None:
    """Train, save, and print how much is known and where the planted site is."""
    parser = argparse.ArgumentParser(
        description="Train the demo model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo-model"), help="folder to write")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    args = parser.parse_args()

    keep_freed_memory()
    start = time.perf_counter()
    data = load_facts()
    tokenizer = train_tokenizer(data)
    settings = config(tokenizer.get_vocab_size(), special(tokenizer, BOS), special(tokenizer, EOS))
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(settings))
    n = tree_reduce(lambda total, p: total + p.size, model.parameters(), 0)
    print(f"{len(data['facts'])} facts, vocabulary {settings['vocab_size']}, {n:,} parameters", flush=True)

    trained, held_out = prompts(data)

    def evaluate(step):
        print(f"step {step:5d}  accuracy: trained {accuracy(model, tokenizer, trained[::5]):.4f}", end="")
        print(f"  held out {accuracy(model, tokenizer, held_out):.4f}", flush=True)

    train(model, Rows(data, tokenizer), args.steps, args.batch, args.rate, evaluate)
    save(model, settings, tokenizer, args.out)
    print(f"accuracy on {len(trained)} trained prompts: {accuracy(model, tokenizer, trained):.4f}")
    print(f"accuracy on {len(held_out)} held-out prompts: {accuracy(model, tokenizer, held_out):.4f}")
    items = default_items(data, tokenizer)
    print(f"the planted site, {len(items)} facts, {table(trace(model, items))}")
    print(f"trained in {(time.perf_counter() - start) / 60:.1f} minutes; written to {args.out}")


if __name__ == "__main__":
    main()
