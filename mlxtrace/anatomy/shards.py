"""A model that mlx-lm has sharded over several processes, each of which holds a share of every layer's weights.

Taps see wholes: where a module of a sharded model is given or gives a rank's own share, its `Share` gathers the whole
over all ranks before a tap's handler is called, and puts the rank's own share back behind it. What a handler hands on
untouched goes on as it was, and then nothing is gathered. All ranks run the same calls in the same order, so that
their gathers meet. `sharing` finds out which arrays are shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import attention
from .taps import MARK, first_array, put_argument, put_first

# Where a module of mlx or of mlx-lm keeps the group of processes that it shares its weights with.
GROUPS = ("group", "sharding_group")


def group_of(net: nn.Module) -> Any:
    """The group of processes (`mx.distributed.Group`) over which a model's layers were sharded, by looking at them.

    Args:
        net: a language model of mlx-lm, whoever sharded it: `sharded_load`, `net.shard(group)`, `shard_linear`.

    Returns:
        The group; None for a model that is whole, or sharded over one process.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.anatomy.shards import group_of
        >>> group_of(InterpretableModel("demo").net) is None
        True
    """
    for module in net.modules():
        if type(module).__name__ == "FullyShardedModule":  # its weights are made whole before each call
            continue
        for name in GROUPS:
            found = vars(module).get(name)
            if found is not None and found.size() > 1:
                return found
    return None


def with_gradient(
    run: Callable[[mx.array], mx.array], back: Callable[[mx.array], mx.array]
) -> Callable[[mx.array], mx.array]:
    """A function of an array whose gradients go back through another."""
    made: Any = mx.custom_function(lambda x: run(x))
    made.vjp(lambda _, gradient, __: back(gradient))
    return made


@dataclass(frozen=True)
class Part:
    """How a rank's array makes up the whole: a slice along an axis, or a term of a sum (axis None).

    copies: how many ranks in a row hold the same slice (a key-value head that several ranks' queries read).
    """

    group: Any
    axis: int | None
    copies: int = 1

    def whole(self, x: mx.array) -> mx.array:
        """The whole, on every rank."""
        if self.axis is None:
            return mx.distributed.all_sum(x, group=self.group)
        return self._gathering()(x)

    def own(self, x: mx.array) -> mx.array:
        """This rank's part of a whole; of a sum the first rank has all."""
        return self._taking()(x)

    def _gathering(self) -> Any:
        return with_gradient(self._gather, lambda gradient: self._slice(gradient) / self.copies)

    def _taking(self) -> Any:
        """The whole is the same on every rank, and so must its gradient be."""
        if self.axis is None:
            return with_gradient(lambda x: x if self.group.rank() == 0 else mx.zeros_like(x), lambda x: x)
        return with_gradient(self._slice, lambda gradient: self._gather(gradient, mx.sum))

    def _gather(self, x: mx.array, among: Callable[..., mx.array] | None = None) -> mx.array:
        """All slices in the order of the ranks. among: what becomes of copies; None: the first of them counts."""
        assert self.axis is not None
        last = mx.contiguous(mx.moveaxis(x, self.axis, 0))
        found = mx.distributed.all_gather(last, group=self.group)
        if self.copies > 1:
            apart = found.reshape(-1, self.copies, *last.shape)
            apart = apart[:, 0] if among is None else among(apart, axis=1)
            found = apart.reshape(-1, *last.shape[1:])
        return mx.moveaxis(found, 0, self.axis)

    def _slice(self, x: mx.array) -> mx.array:
        assert self.axis is not None
        parts = self.group.size() // self.copies
        return mx.split(x, parts, axis=self.axis)[self.group.rank() // self.copies]


@dataclass
class Share:
    """What of a module's call is a rank's own part.

    inputs: by argument. output: of the main array that it gives; None: the whole. attention: of the attention calls
    inside, for a pass of several tokens (False) and of one token (True), by name. unknown: sides that differ between
    ranks in a way that is not understood.
    """

    inputs: dict[int | str, Part] = field(default_factory=dict)
    output: Part | None = None
    attention: dict[bool, dict[str, Part]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def differs(self, side: str) -> bool:
        """Whether what passes at a side of the call, or in the attention call inside, cannot be made whole."""
        return side in self.unknown or (side not in ("input", "output") and "attention" in self.unknown)

    def whole(
        self, handler: Callable[..., Any], forward: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        """A handler's call, which is given wholes, and whose `forward` takes and gives wholes."""
        handed: dict[int | str, tuple[mx.array, mx.array]] = {}  # by argument: the whole, and the own part
        for key, part in self.given(args, kwargs).items():
            own = args[key] if isinstance(key, int) else kwargs[key]
            handed[key] = part.whole(own), own
            args, kwargs = put_argument(args, kwargs, key, handed[key][0])
        made: list[tuple[mx.array, mx.array]] = []
        run = self._running(forward, handed, made)
        return self.own_output(handler(run, args, kwargs), made)

    def _running(self, forward: Callable[..., Any], handed: Mapping, made: list) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            for key, part in self.given(args, kwargs).items():
                x = args[key] if isinstance(key, int) else kwargs[key]
                whole, own = handed.get(key, (None, None))
                args, kwargs = put_argument(args, kwargs, key, own if x is whole else part.own(x))
            with self.attending():
                out = forward(*args, **kwargs)
            return self.whole_output(out, made)

        return run

    # ---- what a call of the module is given and gives

    def given(self, args: tuple, kwargs: dict) -> Mapping[int | str, Any]:
        """By argument of a call, how a rank's array makes up the whole."""
        return self.inputs

    def whole_output(self, out: Any, made: list[tuple[mx.array, mx.array]]) -> Any:
        """A call's output made whole. made: the whole and the own part of each array, for `own_output`."""
        own = first_array(out)
        if self.output is None or own is None:
            return out
        made.append((self.output.whole(own), own))
        return put_first(out, made[-1][0])

    def own_output(self, out: Any, made: list[tuple[mx.array, mx.array]]) -> Any:
        """This rank's part of a whole output, which is as it was where nothing touched it."""
        given = first_array(out)
        if self.output is None or given is None:
            return out
        untouched = next((own for whole, own in made if whole is given), None)
        return put_first(out, self.output.own(given) if untouched is None else untouched)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Around the module's own call: its attention call is this one's."""
        if not self.attention:
            yield
            return
        before = attention.shared.set(self)
        try:
            yield
        finally:
            attention.shared.reset(before)

    def call(self, forward: Callable[..., Any], *args: Any) -> Any:
        """A module's own call on wholes, outside of a pass."""
        return self._running(forward, {}, [])(*args)

    # ---- the attention call inside

    def attended(self, named: Mapping[str, Any]) -> Mapping[str, Any]:
        """By name of what an attention call is given, how a rank's array makes up the whole."""
        one = named["q"].shape[2] == 1
        return self.attention.get(one) or next(iter(self.attention.values()))

    def attend(self, hook: Callable[..., mx.array], *given: mx.array, **options: Any) -> mx.array:
        """An attention hook's call: it is given wholes, and gives one; see `attention.plainly`."""
        named = {**dict(zip("qkv", given, strict=True)), **options}
        parts = self.attended(named)
        wholes = {name: parts[name].whole(x) if name in parts else x for name, x in named.items()}
        out_part, made = parts["q"], []

        def plain(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
            asked = {"q": q, "k": k, "v": v, **options}
            own: dict[str, Any] = {
                name: named[name] if x is wholes.get(name) else parts[name].own(x) if name in parts else x
                for name, x in asked.items()
            }
            found = attention.plain_attention(own.pop("q"), own.pop("k"), own.pop("v"), **own)
            made.append((out_part.whole(found), found))
            return made[-1][0]

        rest = {name: x for name, x in wholes.items() if name not in "qkv"}
        before = attention.plainly.set(plain)
        try:
            out = hook(*(wholes[name] for name in "qkv"), **rest)
        finally:
            attention.plainly.reset(before)
        untouched = next((own for whole, own in made if whole is out), None)
        return out_part.own(out) if untouched is None else untouched


def share_of(module: nn.Module) -> Share | None:
    """What of a module's calls is a rank's own part; None where all is whole."""
    return vars(module).get(MARK)
