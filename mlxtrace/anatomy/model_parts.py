"""The modules of a model by path, and by what the probe pass found them to be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
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
    gradient_sums: tuple = ()  # sites whose gradients are summed over the ranks of a sharded model (`gradient_sums`)
    group: Any  # of the processes over which the model is sharded (`mx.distributed.Group`); None: it is whole
    sliced: bool  # whether each of them has a share of every layer

    def __init__(self, net: nn.Module):
        self.net = net
        self.group, staged = _group(net)  # which may give the model modules of its own
        self.sliced = self.group is not None and not staged
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

    def differs(self, path: str, side: str) -> bool:
        """Whether a rank has a part of what passes at a side of a call, and what makes it whole is not known."""
        from .sharing import share_of

        share = None if self.group is None else share_of(self.paths[path])
        return share is not None and share.differs(side)

    def summing(self, site: Any) -> Callable[[mx.array], mx.array]:
        """What makes the gradient of a zero that is added at a site whole: the same array.

        Inside of a module that sums gradients over ranks where it is entered, each rank has a part of them.
        """
        if self.group is not None:
            from .sharing import summing

            return summing(self.paths, self.group, site)
        return lambda x: x

    def meet(self, doing: str) -> None:
        """Go on once all ranks of a sharded model are about to do the same; OrderError where they are not."""
        if self.group is not None:
            from .sharing import meet

            meet(self.group, doing)

    def check_alike(self, name: str, x: mx.array) -> None:
        """OrderError where an edit has made another array on another rank of a sharded model."""
        if self.group is not None:
            from .sharing import check_alike

            check_alike(self.group, name, x)

    def refuse_part(self, site: Any) -> Any:
        """The site; UnsupportedError where a rank has a part of its array, and it is not known what makes it whole."""
        if self.differs(site.path, site.side):
            raise UnsupportedError(
                f"{site.name} is another array on each of the {self.group.size()} processes that this model is sharded "
                f"over, and its layout is not known, so that it cannot be made whole: `model.resolver.sites()` lists "
                "what can be, or load the model unsharded"
            )
        return site

    # ---- heads

    def n_heads(self, layer: int, kv: bool = False) -> int | None:
        """Query heads (or key-value heads) of a layer's mixer; value heads where attention is linear."""
        self.layer(layer)
        return self._heads[kv][layer]

    def attention_heads(self, kv: bool = False) -> int | None:
        """Heads of the model's attention: of the first mixer that has queries, else of the first that has heads."""
        args = getattr(self.net, "args", None)
        if self.sliced:  # a mixer says how many heads of it are this rank's
            found = [*(layer.attention_heads[kv] for layer in self.structure.layers), *self._heads[kv]]
            return next((n for n in found if n), None) or head_counts.said_heads(args, kv)
        return head_counts.model_heads(self._mixers, args, kv)

    @functools.cached_property
    def _mixers(self) -> list[nn.Module]:
        return head_counts.mixer_modules(self.structure, self.paths)

    @functools.cached_property
    def _heads(self) -> tuple[list[int | None], list[int | None]]:
        """By layer: of queries, and of keys and values."""
        args = getattr(self.net, "args", None)
        ranks = self.group.size() if self.sliced else 1
        query, key_value = (
            [
                head_counts.layer_heads(layer, self._mixers, self.paths, args, kv, ranks)
                for layer in self.structure.layers
            ]
            for kv in (False, True)
        )
        return query, key_value


def _group(net: nn.Module) -> tuple[Any, bool]:
    """The group over which a model is sharded, its modules marked (see `shards`), and whether each rank holds whole
    layers (see `stages`); None for a whole model.
    """
    held = [vars(module) for module in net.modules()]
    if any(names.get("pipeline_size", 1) > 1 for names in held):
        raise LoadError(
            "the layers of this model are spread over several processes, and each has its own only, so that no process "
            'sees all of them: load it by its name with InterpretableModel(name, shard="pipeline"), or share out each '
            "layer (tensor parallel) with shard=True or net.shard(group)"
        )
    if "_mlxtrace_staged" in vars(net):
        from .stages import joined

        group, works = joined(net)
        if works:
            return group, True
        raise LoadError(
            f"{type(net).__name__} cannot be run as a pipeline of {group.size()} processes: its layers read more of "
            "each other than what they hand on, such as another layer's cache (or its logits are no numbers); run it "
            "with shard=True, or without shard"
        )
    if not any("group" in names or "sharding_group" in names for names in held):
        return None, False
    from .sharing import GROUP, shared_out

    found = shared_out(net)
    if found is not None:
        setattr(net, GROUP, found)
    return found, False


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
