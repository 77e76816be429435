"""A model whose layers are dealt out over several processes (a pipeline): each holds the weights of its own layers.

Every rank runs every layer. Where a layer is another rank's, its weights are blanks (`loading`), and what it computes
is replaced, where the layer hands it on, by what the owner computed: the sum over all ranks of the owner's array and
zeros, so that nothing is rounded. Inside of a layer arrays are the owner's in the same way where a tap's handler
looks at them. All ranks so build the same graph, and their sums meet; blanks are no numbers, so that one which
got past a sum would be seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from .shards import Share, attention, with_gradient
from .sharing import GROUP, MARK, find_vocab, forward, make_prompt_cache, probe_tokens, set_apart

STAGED = "_mlxtrace_staged"  # on a model: the group; on a layer: its owner (`loading`)
LENGTH = 11  # of the pass of several tokens that is tried first
_inside: ContextVar[bool] = ContextVar("mlxtrace_inside_a_stage", default=False)  # of a layer's own call


@dataclass(frozen=True)
class Held:
    """An array that one rank has computed, and of which the others have no more than the shape.

    Gradients of a whole are the same on all ranks, and the owner's is that of what it alone goes on with.
    """

    group: Any
    owner: int

    def whole(self, x: mx.array) -> mx.array:
        """The owner's, on every rank."""
        if not mx.issubdtype(x.dtype, mx.inexact):
            return self._of_owner(x)
        return with_gradient(self._of_owner, lambda gradient: gradient)(x)

    def own(self, x: mx.array) -> mx.array:
        """What a rank goes on with inside of a layer: the whole."""
        return with_gradient(mx.array, self._of_owner)(x) if mx.issubdtype(x.dtype, mx.inexact) else x

    def _of_owner(self, x: mx.array) -> mx.array:
        """All ranks build the same graph: what they evaluate first is the same then."""
        kind = mx.uint8 if x.dtype == mx.bool_ else x.dtype
        handed = mx.where(mx.array(self.group.rank() == self.owner), x.astype(kind), mx.array(0, kind))
        return mx.distributed.all_sum(handed, group=self.group).astype(x.dtype)


class Stage(Share):
    """What of the calls of a layer, and of the modules in it, is one rank's: every array.

    A call from outside of a layer is given wholes, and gives wholes; inside all is the owner's.
    """

    def __init__(self, held: Held):
        super().__init__()
        self.held = held

    def __deepcopy__(self, _: dict) -> Stage:
        return self  # of a group of processes there is one

    def run(self, forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """The module's call, from wherever it is made."""
        if _inside.get():
            return forward(*args, **kwargs)
        own, named = _mapped(self.held.own, args), {k: _mapped(self.held.own, x) for k, x in kwargs.items()}
        with self.attending():
            out = forward(*own, **named)
        for x in (*args, *kwargs.values()):
            if isinstance(x, (dict, list)):  # layers leave there what later ones read
                _mapped(self.held.whole, x)
        return _mapped(self.held.whole, out)

    def whole(
        self, handler: Callable[..., Any], forward: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        """As of any part; of a layer, which takes and gives wholes, the handler's own call."""
        if not _inside.get():  # `forward` takes and gives wholes
            return handler(forward, args, kwargs)
        with _set(_inside, False):
            return super().whole(handler, forward, args, kwargs)

    def call(self, forward: Callable[..., Any], *args: Any) -> Any:
        """A module's own call, which is on wholes."""
        return forward(*args)

    def attend(self, hook: Callable[..., mx.array], *given: mx.array, **options: Any) -> mx.array:
        """As of any part, the hook's own calls of modules being from outside."""
        with _set(_inside, False):
            return super().attend(hook, *given, **options)

    # ---- what a call is given and gives

    def given(self, args: tuple, kwargs: dict) -> Mapping[int | str, Held]:
        """Every array."""
        named = [*enumerate(args), *kwargs.items()]
        return {key: self.held for key, x in named if isinstance(x, mx.array)}

    def whole_output(self, out: Any, made: list[tuple[mx.array, mx.array]]) -> Any:
        """Every array of a call's output made whole."""

        def whole(x: mx.array) -> mx.array:
            made.append((self.held.whole(x), x))
            return made[-1][0]

        return _mapped(whole, out)

    def own_output(self, out: Any, made: list[tuple[mx.array, mx.array]]) -> Any:
        """Every array of an output as the rank goes on with it."""

        def own(x: mx.array) -> mx.array:
            untouched = next((own for whole, own in made if whole is x), None)
            return self.held.own(x) if untouched is None else untouched

        return _mapped(own, out)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Around the module's own call: those inside are plain."""
        with _set(attention.shared, self), _set(_inside, True):
            yield

    def attended(self, named: Mapping[str, Any]) -> Mapping[str, Held]:
        """Every array."""
        return {name: self.held for name, x in named.items() if isinstance(x, mx.array)}


@contextmanager
def _set(variable: ContextVar, value: Any) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


def _mapped(change: Callable[[mx.array], mx.array], value: Any) -> Any:
    """The same value with its arrays changed, also those inside tuples; lists and dicts are changed in place."""
    if isinstance(value, mx.array):
        return change(value)
    if isinstance(value, tuple):
        parts = [_mapped(change, x) for x in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if type(value) in (dict, list):
        for key in value if isinstance(value, dict) else range(len(value)):
            value[key] = _mapped(change, value[key])
    return value


@functools.cache
def _class_of(cls: type) -> type:
    """A subclass whose calls go through the module's `Stage`."""

    def __call__(self, *args, **kwargs):
        return vars(self)[MARK].run(functools.partial(cls.__call__, self), args, kwargs)

    names = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**names, "_mlxtrace_stage": cls})


def joined(net: Any) -> tuple[Any, bool]:
    """Have the layers of a model that `loading` has dealt out give whole arrays on every rank.

    Returns:
        The group; and whether they do: not where something gets from one layer to another beside what the layers hand
        on. It is tried with two kinds of blanks, on which nothing may depend.
    """
    group = vars(net)[STAGED]
    set_apart(net)
    for layer in net.layers:
        stage = Stage(Held(group, vars(layer)[STAGED]))
        for module in layer.modules():
            setattr(module, MARK, stage)
            if not hasattr(type(module), "_mlxtrace_stage"):
                module.__class__ = _class_of(type(module))
    others = [layer for layer in net.layers if vars(layer)[STAGED] != group.rank()]
    mx.eval(
        net.parameters()
    )  # what one rank had still to read would put its sums in another order than the others'
    found = _tried(net)
    blanks = [layer.parameters() for layer in others]
    for layer in others:
        layer.update(tree_map(_other_blank, layer.parameters()))
        mx.eval(layer.parameters())
    again = _tried(net)
    for layer, blank in zip(others, blanks, strict=True):
        layer.update(blank)
    setattr(net, GROUP, group)
    leaks = mx.array([not mx.array_equal(found, again).item()]).astype(mx.int32)
    return group, not mx.distributed.all_sum(leaks, group=group).item()


def _tried(net: nn.Module) -> mx.array:
    """Logits of two short passes, computed."""
    cache = make_prompt_cache(net)
    tokens = [probe_tokens(find_vocab(net), length) for length in (LENGTH, 1)]
    found = mx.concatenate([forward(net, x, cache) for x in tokens], axis=1)
    mx.eval(found)
    return found


def _other_blank(x: mx.array) -> mx.array:
    """Other weights in the place of blanks, on which nothing may depend; one number, which takes no memory."""
    other = 0.1 if mx.issubdtype(x.dtype, mx.floating) else 120 if x.dtype == mx.uint8 else 0
    return mx.broadcast_to(mx.array(other, x.dtype), x.shape)
