"""What a model answers to every experiment, and a program that asks a sharded model on one of several ranks.

    mlx.launch -n 2 --backend ring -- sharded_models.py FOLDER llama,qwen3     # writes FOLDER/llama.0.npz and so on
    mlx.launch -n 2 --backend ring -- sharded_models.py FOLDER pipeline:qwen2    # each rank has whole layers
    mlx.launch -n 2 --backend ring -- sharded_models.py FOLDER llama "patched: map" told    # what begins so, only

`answers(model, [])` gives the same of a model that is whole.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlxtrace  # isort: skip  # before mlx, for its BLAS
import mlx.core as mx
import mlx.nn as nn
import models
import more_models
import numpy as np

from mlxtrace import InterpretableModel, loading
from mlxtrace import interventions as iv
from mlxtrace.laws import attention_laws, patching_laws, source_model_laws, stream_laws, tracing_laws

CLEAN, CORRUPTED = [3, 17, 45, 9, 88, 21, 60], [3, 17, 46, 9, 80, 21, 60]
HOW: dict[str, Any] = {"metric": "logit_diff", "target": 5, "foil": 8, "progress": False}
COMPONENTS = ["resid_pre", "attn", "resid_mid", "mlp", "head", "q", "k", "v", "pattern", "neuron", "router"]


def make(name: str, quantize: int | None = None) -> Any:
    """A tiny model with four query heads and four key-value heads; `name` may end in "-4bit" or "-bf16".

    "pipeline:NAME" has four layers.
    """
    way, _, name = name.rpartition(":")
    name, _, kind = name.partition("-")
    own = models if name in models.CONFIGS else more_models
    settings = own.config(name)
    inner: dict[str, Any] = settings.get("text_config", settings)
    if "num_key_value_heads" in inner:
        inner["num_key_value_heads"] = 4
    if way:
        inner["num_hidden_layers"] = 4
    if name == "qwen3_moe":
        inner["mlp_only_layers"] = [0]
    if kind == "4bit":
        inner |= {"intermediate_size": 256, "hidden_size": 128, "head_dim": 32}
    net = more_models.build(name, settings)
    if kind == "4bit":
        nn.quantize(net, group_size=32, bits=4, class_predicate=models._divisible)
    if kind == "bf16":
        net.set_dtype(mx.bfloat16)
    return net


# Answers of single modules by their own path; some a sharded model refuses.
MODULES = ("edited: model.", "traced: site model.")

OWN = (
    ".q_proj",
    ".o_proj",
    ".q_norm",
    ".up_proj",
    ".down_proj",
    ".switch_mlp",
    ".shared_experts",
    ".experts",
)
Ask = Callable[[str, Callable[[], Any]], None]


class Answers:
    """What a model answers, by name, and the seconds that it took; a refusal is the name of its error and its words.

    wanted: the beginnings of the names that are asked; none: all.
    """

    def __init__(self, wanted: list[str]):
        self.found: dict[str, np.ndarray] = {}
        self.seconds: dict[str, float] = {}
        self._wanted = tuple(wanted) or ("",)

    def ask(self, name: str, work: Callable[[], Any]) -> None:
        if not name.startswith(self._wanted):
            return
        began = time.perf_counter()
        try:
            got = work()
        except mlxtrace.errors.MlxtraceError as error:
            got = f"{type(error).__name__}: {error}"
        for key, x in got.items() if isinstance(got, dict) else [("", got)]:
            self.found[f"{name}{key}"] = to_numpy(x)
        self.seconds[name] = time.perf_counter() - began


# ---- what is asked, by name


def traced(model: InterpretableModel, ask: Ask) -> None:
    def trace() -> dict[str, Any]:
        with model.trace(CLEAN) as trace:
            seen = model.layers[0].head.output
            if os.environ.get("MLX_RANK") == "0":
                float(seen.sum())  # what one rank alone looks at, as `print` does, is there on all of them
            head = model.layers[1].head.output
            head[:, :, 2] = 3 * head[:, :, 2]
            kept = model.layers[2].attn.output.save()
        if os.environ.get("MLX_RANK") == "0" and "layers.1.pattern" in model.resolver.table:
            float(trace.activations["layers.1.pattern"].sum())
        found = {name: trace.activations[name] for name in model.resolver.sites()}
        seen = {path: x for path, x in trace.activations.items() if path.startswith("model.layers.1.")}
        sites = {f"site {name}": x for name, x in {**found, **seen}.items()}
        return {"logits": trace.output, "kept": kept, **sites}

    ask("traced: ", trace)


def edited(model: InterpretableModel, ask: Ask) -> None:
    """Logits under an edit of each kind, at sites and at modules by their own path."""
    sites = [f"layers.1.{part}" for part in COMPONENTS if f"layers.1.{part}" in model.resolver.table]
    paths = [
        f"{path}.{side}"
        for path in model.resolver.modules
        if path.startswith("model.layers.1.") and path.endswith(OWN)
        for side in ("input", "output")
    ]

    def edit(name: str) -> Any:
        with model.trace(CLEAN, interventions={name: scaled}, cache=False) as trace:
            pass
        return trace.output

    for name in [*sites, *paths]:
        ask(f"edited: {name}", partial(edit, name))


def scaled(x: mx.array) -> mx.array:
    """Each entry times another number."""
    return x * (1 + 0.1 * mx.cos(mx.arange(x.size).reshape(x.shape)).astype(x.dtype))


def patched(model: InterpretableModel, ask: Ask) -> None:
    for component in COMPONENTS:
        layers = [n for n in range(3) if f"layers.{n}.{component}" in model.resolver.table]
        if not layers:
            continue
        more = {"heads": "each"} if component in ("head", "q", "k", "v", "pattern") else {}
        some = layers[::2] if component in ("pattern", "q", "k", "v") else layers
        where: dict[str, Any] = {"positions": "each", "layers": some, **more, **HOW}
        patching = partial(model.activation_patching, CLEAN, CORRUPTED, component, **where)
        ask(f"patched: map {component}", lambda patching=patching: patching().raw)
    one: dict[str, Any] = {"layers": 1, "positions": "last", "engine": "loop", **HOW}
    ask("patched: loop", lambda: model.activation_patching(CLEAN, CORRUPTED, "head", **one).raw)
    noise: dict[str, Any] = {"noise": 0.5, "window": 2, "progress": False}
    for kind in (None, "mlp", "attn"):
        how = {"samples": 3, "kind": kind, **noise}
        ask(f"patched: trace {kind}", lambda how=how: model.causal_trace(CLEAN, [2, 3], **how).scores)
    until: dict[str, Any] = {"samples": "until", "kind": "mlp", **noise}
    ask("patched: trace until", lambda: model.causal_trace(CLEAN, [2, 3], **until).scores)

    def effects() -> dict[str, Any]:
        found = model.causal_effects(CLEAN, CORRUPTED, "mlp", metric="logit", target=5, progress=False)
        return {"direct": found.direct, "indirect": found.indirect}

    ask("patched: effects ", effects)


def estimated(model: InterpretableModel, ask: Ask) -> None:
    asked = {"atp": ("resid_pre", "mlp", "head", "v", "pattern", "neuron"), "atp*": ("q", "k")}
    for method, components in asked.items():
        for component in components:
            if f"layers.1.{component}" not in model.resolver.table:
                continue
            how: dict[str, Any] = {"positions": "each", "method": method, **HOW}
            estimate = partial(model.attribution_patching, CLEAN, CORRUPTED, component, **how)
            ask(f"estimated: {method} {component}", lambda estimate=estimate: estimate().raw)
    if "layers.1.neuron" in model.resolver.table:
        how = {"verify": 10, "audit": 10, **HOW}
        ask("estimated: screen", lambda: model.screen(CLEAN, CORRUPTED, "neuron", **how).effects)


def of_edges(model: InterpretableModel, ask: Ask) -> None:
    for method in ("exact", "eap", "eap-ig"):
        edges = partial(model.edges, CLEAN, CORRUPTED, method=method, **HOW)
        ask(f"of edges: {method}", lambda edges=edges: edges().scores)
    receivers = ["q", "k", "v", "mlp", "logits"]
    paths: dict[str, Any] = {"senders": ["heads", "mlps"], "receivers": receivers, **HOW}
    ask("of edges: paths", lambda: model.path_patching(CLEAN, CORRUPTED, **paths).raw)


def told(model: InterpretableModel, ask: Ask) -> None:
    def text() -> Any:
        found = model.generate(CLEAN, 5, interventions={"layers.1.head": iv.scale(1.5)})
        return np.array(getattr(found, "tokens", found))

    ask("told: text", text)
    ask("told: lens", lambda: model.logit_lens(CLEAN, layers=[0, 1, 2]).prob)
    asked = (CLEAN, "layers.1.attn", 2, CORRUPTED, "layers.0.attn", 3)
    ask("told: patchscope", lambda: model.patchscope(*asked, max_tokens=3).probabilities)
    of = ([CLEAN], [CORRUPTED], "layers.1.head")
    ask("told: direction", lambda: model.direction(*of, positions="last").vector)
    ask("told: heads", lambda: np.array([model.n_heads or 0, model.n_kv_heads or 0, model.d_model]))


def of_laws(model: InterpretableModel, ask: Ask) -> None:
    """Those that look at the model's modules by hand."""

    def row(law: Any) -> str:
        [found] = mlxtrace.check.run(model, [law])
        return f"{found.status} {found.note if found.status == 'fail' else ''}"

    for law in (
        *(attention_laws.projected, stream_laws.names, tracing_laws.kept, tracing_laws.edits),
        *(patching_laws.single_heads, patching_laws.denoise, source_model_laws.between),
    ):
        ask(f"laws: {law.name}", partial(row, law))


ASKED: dict[str, Callable[[InterpretableModel, Ask], None]] = {
    "traced": traced,
    "edited": edited,
    "patched": patched,
    "estimated": estimated,
    "of edges": of_edges,
    "told": told,
    "laws": of_laws,
}


def answers(model: InterpretableModel, wanted: list[str]) -> Answers:
    """What a model answers to everything whose name begins as wanted; none: to all."""
    found = Answers(wanted)
    for ask in ASKED.values():
        ask(model, found.ask)
    return found


def to_numpy(x: Any) -> np.ndarray:
    return np.array(x.astype(mx.float32)) if isinstance(x, mx.array) else np.array(x)


def main() -> None:
    folder, names, *wanted = sys.argv[1:]
    group = mx.distributed.init(strict=True, backend="ring")
    for name in names.split(","):
        began = time.perf_counter()
        net = make(name)
        if name.startswith("pipeline:"):
            loading._dealt_out(net, group, name)
        else:
            net.shard(group)
        found = answers(InterpretableModel(net), wanted)
        np.savez(Path(folder, f"{name}.{group.rank()}.npz"), **found.found)
        if group.rank() == 0:
            print(name, round(time.perf_counter() - began, 1), "s:", end=" ")
            slowest = sorted(found.seconds.items(), key=lambda item: -item[1])
            print(", ".join(f"{what} {took:.1f}" for what, took in slowest[:12]), flush=True)


if __name__ == "__main__":
    main()
