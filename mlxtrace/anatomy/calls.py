"""The module calls of one pass, as the probe, a trace and a sweep all see them.

    class Doubled(Calls):
        def wants(self, port):
            return port == ("model.layers.3", "output", 0)

        def passes(self, port, x):
            return 2 * x

    with Doubled(slots).tapping({"model.layers.3": layer}):
        net(tokens)

A port is (module path, side, visit): the side is "input" or "output" of the module's call, or "q", "k", "v",
"pattern" of the attention call that it makes; the visit says which of its calls in the pass, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import attention, taps
from .attention import Attending, hook_of
from .taps import Block, Handler, Refuse, Taps, arrays_of, first_array, put_argument, put_first

Port = tuple[str, str, int]
Slot = int | str  # the position or the keyword of an argument


class Calls:
    """What is done at the calls of a model's modules in one pass. Subclasses say what, by overriding.

    Args:
        slots: by module path, which argument of its call is the hidden state; without an entry, the first array.

    Attributes:
        taps: the block that interceptions of attention calls end with, when they are not left in order.
    """

    taps: Taps | None = None

    def __init__(self, slots: Mapping[str, Slot]):
        self.slots = slots
        self.visits: dict[str, int] = {}  # by module path: how often it has been called

    def tapping(
        self,
        modules: Mapping[str, nn.Module],
        within: Block | None = None,
        refuse: Refuse | None = None,
    ) -> Taps:
        """The taps that route the calls of these modules, by path, through `call`; see `Taps`."""
        self.visits.clear()
        return Taps(((module, self.handler(path)) for path, module in modules.items()), within, refuse)

    def handler(self, path: str) -> Handler:
        """The handler for the taps of one module."""
        visits, call = self.visits, self.call

        def handle(forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
            visit = visits.get(path, 0)
            visits[path] = visit + 1
            return call(path, visit, forward, args, kwargs)

        return handle

    def call(self, path: str, visit: int, forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """Make one call, and let what goes in and what comes out pass. The model's own input is ids, and no port."""
        port = path, "input", visit
        if path and self.wants(port):
            key, x = argument(args, kwargs, self.slots.get(path))
            if key is not None and x is not None:
                y = self.passes(port, x)
                if y is not x:
                    args, kwargs = put_argument(args, kwargs, key, y)
        if self.attends(path, visit):
            with self._intercepted(path, visit):
                out = forward(*args, **kwargs)
        else:
            out = forward(*args, **kwargs)
        port = path, "output", visit
        x = first_array(out) if self.wants(port) else None
        if x is None:
            return out
        y = self.passes(port, x)
        return out if y is x else put_first(out, y)

    def _intercepted(self, path: str, visit: int) -> Attending:
        """The attention call that a call makes, for as long as it runs."""
        fire, wants = self.passes, self.wants
        hook = hook_of(lambda name, x: fire((path, name, visit), x), lambda name: wants((path, name, visit)))
        return Attending(hook, self.taps)

    # ---- what subclasses override

    def wants(self, port: Port) -> bool:
        """Whether the array at a port is to pass through `passes`; asked when the pass is there."""
        return False

    def passes(self, port: Port, x: mx.array) -> mx.array:
        """The array that goes on from a port."""
        return x

    def attends(self, path: str, visit: int) -> bool:
        """Whether the attention call made inside a call may be wanted; asked before the call."""
        return False


def tidy() -> None:
    """Put back what blocks that do not run any more have left behind; may be repeated, at any time."""
    taps.tidy()
    attention.tidy()


def argument(args: tuple, kwargs: dict, slot: Slot | None) -> tuple[Slot | None, mx.array | None]:
    """The argument that a module's input means, after where it stands: the one in the slot, else the first array."""
    if slot is None:
        if args and isinstance(args[0], mx.array):
            return 0, args[0]
        return next(arrays_of(args, kwargs), (None, None))
    x = (args[slot] if slot < len(args) else None) if isinstance(slot, int) else kwargs.get(slot)
    return (slot, x) if isinstance(x, mx.array) else (None, None)
