"""The modules of a model by path, and by what the probe pass found them to be."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import LoadError, PositionError, UnsupportedError
from . import head_counts
from .probe import Layer, Structure, module_paths, probe


class ModelParts:
    """A model's modules: all by path, and its layers, embedding, norm and mixers as one probe pass showed them.

    Args:
        net: a language model of mlx-lm, or any module that is called and built like one.

    Raises:
        LoadError: the model has no layers, or a pass of a few tokens fails.
    """

    structure: Structure  # what the probe found

    def __init__(self, net: nn.Module):
        self.net = net
        self.paths = module_paths(net)
        self._first_path: dict[int, str] = {}
        for path, module in self.paths.items():
            self._first_path.setdefault(id(module), path)
        self.structure = probe(net)
        self.measured: dict[
            Hashable, Any
        ] = {}  # what was measured of this model once, while its weights stay

    def get_layers(self) -> list[nn.Module]:
        """The layer modules, in the order in which they run."""
        return [self.paths[layer.path] for layer in self.structure.layers]

    def get_embedding_layer(self) -> nn.Module:
        """The module that embeds the tokens (possibly quantized)."""
        return self.paths[self.structure.embed]

    def get_final_norm(self) -> nn.Module:
        """The norm between the last layer and the head; UnsupportedError when there is no such module."""
        if self.structure.norm is None:
            raise UnsupportedError("no single module follows the last layer, so there is no final norm")
        return self.paths[self.structure.norm]

    @functools.cached_property
    def n_layers(self) -> int:
        return len(self.structure.layers)

    def layer(self, index: int) -> Layer:
        """What the probe found of one layer; PositionError when there is no such layer."""
        if not -self.n_layers <= index < self.n_layers:
            raise PositionError(
                f"layer {index} does not exist: this model has layers 0 to {self.n_layers - 1}"
            )
        return self.structure.layers[index]

    def first_path(self, path: str) -> str:
        """The one path under which a module is known when it can be reached by several."""
        return self._first_path[id(self.paths[path])]

    def path_of(self, module: nn.Module) -> str:
        """The dotted path of a module of this model."""
        return self._first_path[id(module)]

    # ---- what a pass needs, once per model

    @functools.cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Every module once, under its first path; the model itself is ''."""
        return {path: m for path, m in self.paths.items() if self._first_path[id(m)] == path}

    @functools.cached_property
    def slots(self) -> dict[str, int | str]:
        """Which argument of a layer's call is the hidden state, where that is known."""
        return {layer.path: layer.slot for layer in self.structure.layers if layer.slot is not None}

    @functools.cached_property
    def attends(self) -> frozenset[str]:
        """The modules that make a layer's attention call."""
        return frozenset(layer.attention for layer in self.structure.layers if layer.attention)

    # ---- heads

    def n_heads(self, layer: int, kv: bool = False) -> int | None:
        """Query heads (or key-value heads) of a layer's mixer; value heads where attention is linear."""
        self.layer(layer)
        return self._heads[kv][layer]

    def attention_heads(self, kv: bool = False) -> int | None:
        """Heads of the model's attention: of the first mixer that has queries, else of the first that has heads."""
        return head_counts.model_heads(self._mixers, getattr(self.net, "args", None), kv)

    @functools.cached_property
    def _mixers(self) -> list[nn.Module]:
        return head_counts.mixer_modules(self.structure, self.paths)

    @functools.cached_property
    def _heads(self) -> tuple[list[int | None], list[int | None]]:
        """By layer: of queries, and of keys and values."""
        args = getattr(self.net, "args", None)
        query, key_value = (
            [
                head_counts.layer_heads(layer, self._mixers, self.paths, args, kv)
                for layer in self.structure.layers
            ]
            for kv in (False, True)
        )
        return query, key_value


def inventory(net: nn.Module) -> tuple[list, list]:
    """The ids of a model's modules; and the ids, dtypes and shapes of its arrays, private ones left out.

    It is asked for with every prompt, so it is one walk: `named_modules` and `parameters` take ten times as long.
    LoadError for a dropout that acts.
    """
    modules, arrays = [], []
    left: list[tuple[str, Any]] = [("", net)]
    while left:
        name, x = left.pop()
        if isinstance(x, mx.array):
            if not name.startswith("_"):
                arrays.append((id(x), str(x.dtype), x.shape))
        elif isinstance(x, dict):  # a module is one
            if isinstance(x, nn.Module):
                _check_dropout(x)
                modules.append(id(x))
            left += x.items()
        elif isinstance(x, list):
            left += [(name, inner) for inner in x]
    return modules, arrays


def _check_dropout(module: nn.Module) -> None:
    """LoadError for a dropout that acts: in training mode every pass would be another one."""
    if isinstance(module, nn.Dropout | nn.Dropout2d | nn.Dropout3d) and module.training and module._p_1 < 1:
        raise LoadError(
            f"the model is in training mode, where its dropout ({1 - module._p_1:.2g}) makes every pass another one: "
            "call .eval() of the module first"
        )
