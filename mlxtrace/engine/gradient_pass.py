"""One forward pass and its backward pass: a zero is added at each site, and the gradient is taken for the zeros.

A patch adds `source - base` to an array; the gradient for a zero that is added there says what a small patch does.
The forward pass stays the plain one bit for bit. A pattern's zero enters behind the attention call, as what it would
add to the heads' outputs (`zero @ v`), since a changed pattern replaces the call's own output.

With `checkpointed` each layer is run again in the backward pass, so that no more than one layer's arrays are held.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.distributed import sum_gradients
from mlx.utils import tree_map

from ..anatomy.attention import Attending, hook_of, weighted
from ..anatomy.calls import argument, first_array, put_first
from ..errors import UnsupportedError
from .runs import Hooks, Rows, Site, forward, last_logits, slice_to_last

__all__ = [
    "Attended",
    "Hooks",
    "Measure",
    "Pass",
    "Rows",
    "Site",
    "Way",
    "ZeroHooks",
    "replace",
    "slice_to_last",
]
Measure = Callable[[mx.array], mx.array]


@dataclass(frozen=True)
class Way:
    """How a model's passes are differentiated.

    training: mixers are in training mode, where they take a path that has a gradient. cpu: run on the CPU, for
    the same reason. checkpointed: each layer's arrays are computed again for the backward pass.
    """

    training: bool = False
    cpu: bool = False
    checkpointed: bool = False

    @contextlib.contextmanager
    def taken(self, resolver: Any) -> Iterator[None]:
        """Run passes this way in the block; afterwards modules and device are as they were."""
        mixers = {path for layer in resolver.structure.layers for path in layer.mixers}
        modules = [resolver.paths[path] for path in mixers] if self.training else []
        before, device = [module.training for module in modules], mx.default_device()
        try:
            for module in modules:
                module._set_training_mode(True)  # of the mixer alone: nothing in it may begin to drop out
            if self.cpu:
                mx.set_default_device(mx.Device(mx.cpu))
            yield
        finally:
            for module, mode in zip(modules, before, strict=True):
                module._set_training_mode(mode)
            if self.cpu:
                mx.set_default_device(device)


@dataclass
class Attended:
    """What one attention call of a pass was given besides queries, keys and values."""

    scale: float
    mask: Any = None
    sinks: mx.array | None = None


class ZeroHooks(Hooks):
    """Hooks that add an array at some sites, a zero unless it is differentiated.

    Attributes:
        added: by site name, what is added there; a zero unless it is differentiated.
        attended: by module path and visit, what the attention call was given.
    """

    def __init__(self, resolver: Any):
        super().__init__(resolver)
        self.added: dict[str, mx.array] = {}
        self.attended: dict[tuple[str, int], Attended] = {}
        self.sites: list[Site] = []

    def note_zero(self, site: Site) -> None:
        """Have a zero of the site's shape made when the pass is there, and leave the pass as it is."""

        def note(x: mx.array) -> None:
            self.added[site.name] = mx.zeros(x.shape, x.dtype)

        self.sites.append(site)
        self.add_site(site, note)

    def add_zero(self, site: Site) -> None:
        """Add the array of a site's name there.

        However an array is seen (by head, as a sum or as the middle of the stream), what is added to it is added to
        what passes at its port.
        """
        self.sites.append(site)
        whole = self.resolver.summing(site)
        self.add(site, lambda x: x + whole(self.added[site.name].reshape(x.shape)))

    def _intercepted(self, path: str, visit: int) -> Attending:
        def wants(name: str) -> bool:
            return name != "pattern" and self.wants((path, name, visit))

        seen = hook_of(lambda name, x: self.passes((path, name, visit), x), wants)
        port = path, "pattern", visit

        def hook(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
            given = {name: options.get(name) for name in ("scale", "mask", "sinks")}
            self.attended[path, visit] = Attended(**given)  # type: ignore[arg-type]
            out = seen(q, k, v, **options)
            if not self.wants(port):
                return out
            zero = self.passes(port, mx.zeros((*q.shape[:3], k.shape[2]), q.dtype))
            return out + weighted(zero, v).astype(out.dtype)

        return Attending(hook, self.taps)

    def drop_layer(self, index: int) -> None:
        """Let no gradient go through what a layer adds to the stream (GradDrop): only past it."""
        layer = self.resolver.layer(index)

        def run(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            x = argument(args, kwargs, layer.slot)[1]
            before = None if x is None else mx.array(x)
            out = call(*args, **kwargs)
            after = first_array(out)
            if before is None or after is None or before.shape != after.shape:
                raise UnsupportedError(
                    f"layer {index} does not hand on a stream that it adds to: use method='atp'"
                )
            return put_first(out, mx.stop_gradient(after) + (before - mx.stop_gradient(before)))

        self.forwards[layer.path, layer.visit] = run

    def checkpoint_layers(self) -> None:
        """Have every layer's arrays computed again where the backward pass needs them."""
        for index, layer in enumerate(self.resolver.structure.layers):
            inside = layer.path + "."
            names = [s.name for s in self.sites if s.layer == index and s.path.startswith(inside)]
            self.forwards[layer.path, layer.visit] = self._checkpointing(names)

    def _checkpointing(self, names: list[str]) -> Callable[..., Any]:
        """A layer's call as a function of the arrays that it is given and of its sites' zeros, and of nothing else."""

        def run(layer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            visits, given, returned = dict(self.visits), _floating((args, kwargs)), []

            def body(arrays: list[mx.array], zeros: list[mx.array]) -> list[mx.array]:
                self.visits.clear()
                self.visits.update(visits)  # it runs once more in the backward pass
                self.added.update(zip(names, zeros, strict=True))
                own_args, own_kwargs = _refilled((args, kwargs), arrays)
                returned[:] = [layer(*own_args, **own_kwargs)]
                return _floating(returned[0])

            outputs = mx.checkpoint(body)(given, [self.added[name] for name in names])
            return _refilled(returned[0], outputs)

        return run


def _is_floating(x: Any) -> bool:
    return isinstance(x, mx.array) and mx.issubdtype(x.dtype, mx.floating)


def _floating(tree: Any) -> list[mx.array]:
    """The floating arrays in a nest of tuples, lists and dicts, in order."""
    found: list[mx.array] = []

    def note(x: Any) -> Any:
        if _is_floating(x):
            found.append(x)
        return x

    tree_map(note, tree)
    return found


def _refilled(tree: Any, arrays: Sequence[mx.array]) -> Any:
    """The nest with other floating arrays, which have handles of their own: a layer may write to what it is given."""
    left = iter(arrays)
    return tree_map(lambda x: mx.array(next(left)) if _is_floating(x) else x, tree)


@dataclass
class Pass:
    """One pass that can be differentiated.

    Args:
        resolver: of the model.
        base: the runs whose rows it has. rows: which of them, by number.
        sites: where zeros are added.
        way: how.
        mixed: what the embeddings `[rows, T, D]` of some rows, by number, become, if something else.
        dropped: the layer whose contribution to the stream has no gradient.
        read: of how many of the last positions there are logits, `[rows, V]` of one, `[rows, read, V]` of more.
    """

    resolver: Any
    base: Rows
    rows: np.ndarray
    sites: Sequence[Site]
    way: Way = Way()
    mixed: Callable[[mx.array, np.ndarray], mx.array] | None = None
    dropped: int | None = None
    read: int = 1

    def _hooks(self) -> ZeroHooks:
        hooks, embed = ZeroHooks(self.resolver), self.resolver.site("embed")
        for site in self.resolver.gradient_sums:
            summed: Any = sum_gradients(self.resolver.group)
            hooks.add(site, summed)
        hooks.add(embed, lambda x: self.base.embedded(mx.array(x), self.rows))
        if self.mixed is not None:
            mixed = self.mixed
            hooks.add(embed, lambda x: mixed(x, self.rows))
        slice_to_last(hooks, self.read)
        return hooks

    def _logits(self) -> mx.array:
        logits = forward(self.resolver.net, self.base.tokens(self.rows))
        return last_logits(logits, self.read).astype(mx.float32)

    def logits(self) -> mx.array:
        """The logits that are read, float32, as this way of running gives them."""
        hooks = self._hooks()
        with self.way.taken(self.resolver), hooks.hooked():
            logits = self._logits()
            mx.eval(logits)
        return logits

    def zeros(self) -> tuple[dict[str, mx.array], dict[tuple[str, int], Attended]]:
        """A zero of each site's shape and dtype, and what the attention calls are given; nothing is computed."""
        hooks = self._hooks()
        for site in self.sites:
            hooks.note_zero(site)
        with self.way.taken(self.resolver), hooks.hooked():
            self._logits()
        return hooks.added, hooks.attended

    def gradients(self, measure: Measure, zeros: dict[str, mx.array]) -> tuple[mx.array, dict[str, mx.array]]:
        """The measured values `[rows]`, and by site name the gradient of their sum for what is added there."""
        hooks = self._hooks()
        for site in self.sites:
            hooks.add_zero(site)
        if self.way.checkpointed:
            hooks.checkpoint_layers()
        if self.dropped is not None:
            hooks.drop_layer(self.dropped)

        def total(added: dict[str, mx.array]) -> tuple[mx.array, mx.array]:
            hooks.visits.clear()
            hooks.added = dict(added)
            values = measure(self._logits())
            return values.astype(mx.float32).sum(), values

        with self.way.taken(self.resolver), hooks.hooked():
            (_, values), found = mx.value_and_grad(total)(zeros)
            mx.eval(values, found)
        return values, found
