"""Adapters as `mlx_lm.lora` writes them: a folder with a config and the tensors, drawn at random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

LORA = {"rank": 2, "scale": 8.0, "dropout": 0.0}
LEAVES = (".lora_a", ".lora_b", ".m")


def save_adapters(folder: Path, net: nn.Module, kind: str = "lora", size: float = 0.2, **config: Any) -> Path:
    """Adapters of a model (which becomes the adapted one), in a folder that `mlx_lm.load` reads.

    kind: lora, dora, or full: the numbers of the last layer. config: what adapter_config.json says besides.
    """
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": dict(LORA), **config}
    if kind != "full":
        linear_to_lora_layers(net, config["num_layers"], config["lora_parameters"], kind == "dora")
    last = f".{len(net.layers) - 1}."
    named = [
        (n, x)
        for n, x in tree_flatten(net.parameters())
        if (last in n if kind == "full" else n.endswith(LEAVES))
    ]
    tensors = {}
    for i, (name, x) in enumerate(named):
        if x.dtype == mx.uint32:  # packed: it is not trained
            continue
        noise = size * mx.random.normal(x.shape, key=mx.random.key(i)).astype(x.dtype)
        tensors[name] = noise if ".lora_" in name else x + 0.3 * noise * mx.abs(x)
    net.load_weights(list(tensors.items()), strict=False)
    mx.eval(net.parameters())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    return folder
