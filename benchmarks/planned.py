"""Time and memory that were planned against what a sweep took, for prompts of 16 to 4,096 tokens.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.planned [demo gpt2 llama bf16 4bit moe] [--quick]
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.planned --sites gemma3_text gemma2 jamba mamba gpt_oss deepseek_v3

With --sites each component is patched, at 16, 250 and 1,000 tokens, also in the tests' tiny models of an architecture.

Processor time is compared with the plan, which was made from passes timed in processor time as well: other work on the
machine then matters little. Memory is the peak beside what was there before, and the growth
of the process's highest RSS (0 where an earlier sweep took more).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

from mlxtrace import GaussianNoise, InterpretableModel  # before mlx: it loads a fast BLAS

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
import numpy as np  # isort: skip

from mlxtrace.engine import attention_times, work  # isort: skip

from . import models

# One token differs at a share of the prompt's length: its length, the share, and what is asked for.
STREAM, EACH = {"component": "resid_post"}, {"component": "mlp", "positions": "each"}
SHORT = [
    (16, 0.3, {**STREAM, "positions": "each"}),
    (16, 0.3, {"component": "head"}),
    (64, 0.5, EACH),
]
LONG = [
    (256, 0.0, STREAM),
    (256, 0.9, EACH),
    (1000, 0.5, STREAM),
    (1000, 0.985, EACH),
]
MORE = [
    (64, 0.5, {"component": "k", "positions": "each", "layers": [3, 9]}),
    (200, 0.8, {"component": "pattern", "layers": [2, 6]}),
    (64, 0.5, {"component": "neuron"}),
    (64, 0.5, {"component": "mlp", "positions": "each", "window": 4}),
    (24, 0.3, {"component": "attn", "positions": "each", "samples": 10}),
    (4096, 0.0, {"component": "mlp", "layers": [0, 11]}),
    (4096, 0.998, {"component": "mlp", "positions": "each"}),
]
LLAMA = {
    "family": "llama",
    "layers": 8,
    "width": 256,
    "hidden": 704,
    "heads": 8,
    "kv_heads": 2,
    "vocab": 32000,
}


TINY = ("gemma3_text", "gemma2", "qwen3_moe", "jamba", "mamba", "gpt_oss", "deepseek_v3")
SITES = ("resid_pre", "attn", "mlp", "head", "q", "k", "v", "pattern", "neuron")


def tiny(name: str) -> InterpretableModel:
    """A tiny model of an architecture, as the tests make it."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    models, more = importlib.import_module("models"), importlib.import_module("more_models")
    return InterpretableModel((models if name in models.CONFIGS else more).make(name))


def made(name: str) -> InterpretableModel:
    """A model by its name here: the demo, or random weights of a shape."""
    if name in TINY:
        return tiny(name)
    if name == "demo":
        return InterpretableModel("demo")
    if name == "moe":
        sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "vocab_size": 4000}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
        module = importlib.import_module("mlx_lm.models.mixtral")
        net = module.Model(
            module.ModelArgs.from_dict({"model_type": "mixtral", "rms_norm_eps": 1e-5, **sizes})
        )
        mx.eval(net.parameters())
        return InterpretableModel(net)
    shape = models.Shape(name, **LLAMA, context=8192)
    if name == "gpt2":
        shape = dataclasses.replace(models.GPT2_SMALL, context=4096)
    net = models.mlx_model(shape, models.draw(shape))
    if name == "bf16":
        net.set_dtype(mx.bfloat16)
    if name == "4bit":
        nn.quantize(net, group_size=64, bits=4)
    return InterpretableModel(net)


def asked(
    model: InterpretableModel, name: str, quick: bool, sites: bool
) -> list[tuple[int, float, dict[str, Any]]]:
    """What is run on a model: on slow ones a few short sweeps; with `sites` each component, where layers have it."""
    if sites:
        table, found = list(model.resolver.table.values()), []
        for component in SITES:
            has = sorted({x.layer for x in table if x.component == component and x.layer is not None})
            few = {"neurons": range(16)} if component == "neuron" else {}
            own = {"component": component, "layers": has, "positions": None, **few}
            found += [(n, 0.5, own) for n in (16, 250, 1000) if has]
        return found
    if quick:
        return SHORT[:1]
    if name == "demo":
        return [*SHORT, *LONG, *MORE]
    if name == "gpt2":
        return [*SHORT[:2], (64, 0.5, STREAM), (256, 0.0, STREAM), (1000, 0.985, STREAM)]
    return [*SHORT[:2], LONG[0], *([LONG[2]] if name in ("llama", "moe") else [])]


def compared(
    model: InterpretableModel, length: int, share: float, options: dict[str, Any]
) -> dict[str, float]:
    """One sweep: what was planned, and what it took."""
    random = np.random.RandomState(length)
    clean = random.randint(5, min(2000, model.vocab_size - 1), length).tolist()
    at, options = int(share * length), {"metric": "kl", "progress": False, **options}
    corrupted: Any = [*clean[:at], clean[at] + 1, *clean[at + 1 :]]
    corrupted[-2] = clean[-2] + 1  # what is recurrent forgets an early token
    if samples := options.pop("samples", 0):
        corrupted = GaussianNoise(range(at, at + 2), level=0.5, samples=samples, seed=1)
    plan = model.activation_patching(clean, corrupted, **options, plan_only=True)
    gc.collect()
    mx.clear_cache()
    before, grown = mx.get_active_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mx.reset_peak_memory()
    began, on_the_clock = time.process_time(), time.perf_counter()
    model.activation_patching(clean, corrupted, **options)
    return {
        "planned": plan.seconds,
        "processor": time.process_time() - began,
        "wall": time.perf_counter() - on_the_clock,
        "bytes": plan.bytes,
        "peak": mx.get_peak_memory() - before,
        "rss": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown),
        "cells": plan.cells,
    }


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["demo", "gpt2", "llama", "bf16", "4bit", "moe"])
    parser.add_argument("--quick", action="store_true", help="one short sweep on each")
    parser.add_argument("--sites", action="store_true", help="every component on each")
    args = parser.parse_args()
    clock = types.SimpleNamespace(perf_counter=time.process_time)
    work.time = attention_times.time = clock  # passes are timed in processor time
    print(
        "model  tokens differ asked                          planned  processor  ratio   wall   plan MB  peak MB  RSS"
    )
    ratios = []
    for name in args.models:
        model = made(name)
        model.activation_patching(
            [5, 6, 7, 8], [5, 6, 9, 8], component="resid_post", positions="each", progress=False
        )
        for length, share, options in asked(model, name, args.quick, args.sites):
            found = compared(model, length, share, options)
            ratios.append(found["processor"] / found["planned"])
            what = ", ".join(
                f"{v}" if k in ("component", "positions") else f"{k} {v}" for k, v in options.items()
            )
            memory = " ".join(f"{found[kind] / 1e6:8.0f}" for kind in ("bytes", "peak", "rss"))
            print(
                f"{name:6} {length:6} {share:6.3f} {what:30} {found['planned']:7.2f} {found['processor']:10.2f} "
                f"{ratios[-1]:6.2f} {found['wall']:6.1f} {memory}",
                flush=True,
            )
    within = sum(0.5 <= ratio <= 2 for ratio in ratios)
    print(f"{within} of {len(ratios)} within a factor of 2, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    sys.exit(main())
