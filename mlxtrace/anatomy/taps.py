"""Read and write what goes into and comes out of modules while a forward pass runs.

`nn.Module.__call__` is looked up on the type, so each tapped module gets, for as long as a run lasts, a
subclass of its own class whose `__call__` asks a context variable for the active run:

    with tapping([(module, handler), ...]):     # handler(forward, args, kwargs) -> output
        model(tokens)

- a module without a handler in the active run is called as if nothing were there;
- nested runs do not see each other, because the active run is context-local;
- on leaving, also by an exception, every module has its own class again;
- what an interrupt inside entering or leaving left behind calls no handler (its block does not run), and the next
  use of taps removes it: `tidy` gives every module that no running block needs its own class again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .block import Block, ContextBlock, OpenBlocks, leaving

Handler = Callable[[Callable[..., Any], tuple, dict], Any]
Refuse = Callable[[nn.Module, bool], None]
MARK = "_mlxtrace_share"  # on a module of a sharded model: which of what it is given and gives is a part (`shards`)

_open: OpenBlocks[Taps] = OpenBlocks("mlxtrace_taps")
_traced: dict[int, nn.Module] = {}  # the modules that may have a traced class now, by id


@functools.cache
def _traced_class(cls: type) -> type:
    def __call__(self, *args, **kwargs):
        taps = _open.here()
        if taps is None:
            refuse_run(self)
        handler = taps.handlers.get(id(self)) if taps is not None else None
        if handler is None:
            return cls.__call__(self, *args, **kwargs)
        forward, share = functools.partial(cls.__call__, self), vars(self).get(MARK)
        if share is not None:
            return share.whole(handler, forward, args, kwargs)
        return handler(forward, args, kwargs)

    names = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**names, "_mlxtrace_original": cls})


class Taps(ContextBlock):
    """Routes the calls of the given modules through their handlers while its block runs.

    Args:
        handlers: pairs of a module and `handler(forward, args, kwargs) -> output`, where
            `forward(*args, **kwargs)` is the module's own call. One handler per module.
        within: the block that these taps belong to, when `put_in` is used in place of `with`.
        refuse: `refuse(module, own)`, which may raise, for a module of these taps that is called where no run is
            active; own: in a pass that mlxtrace makes.
    """

    def __init__(
        self,
        handlers: Iterable[tuple[nn.Module, Handler]],
        within: Block | None = None,
        refuse: Refuse | None = None,
    ):
        super().__init__(within)
        handlers = list(handlers)
        self.modules = [module for module, _ in handlers]
        self.handlers = {id(module): handler for module, handler in handlers}
        self.refuse = refuse

    @property
    def running(self) -> bool:
        """Whether taps are in: within a block, for as long as that one runs, in whichever thread."""
        if self._within is None:
            return super().running
        return self.entered and not self.left and self._within_runs()

    def __enter__(self) -> Taps:
        self.put_in()
        _open.go_in(self)
        return self

    @leaving
    def __exit__(self, *error: object) -> None:
        self.abandon()

    def put_in(self) -> None:
        """Give the modules their traced classes; the handlers are called where `activate` says."""
        self.enter()
        if not self.modules:
            return
        with _open.lock:
            tidy()
            _open.add(self)
            for module in self.modules:
                _traced[id(module)] = module
                if not hasattr(type(module), "_mlxtrace_original"):
                    module.__class__ = _traced_class(type(module))

    def activate(self, context: Context) -> None:
        """Call the handlers in another context than this one."""
        context.run(_open.set_here, self)

    def abandon(self) -> None:
        """Take the taps out; may be repeated."""
        self.left = True
        _open.go_out(self)
        if self.modules:
            tidy()


def tidy() -> None:
    """Give every module that no running block needs its own class again; may be repeated, at any time."""
    with _open.lock:
        needed = {id(module) for taps in _open.running() for module in taps.modules}
        for key, module in list(_traced.items()):
            if key not in needed:
                module.__class__ = getattr(type(module), "_mlxtrace_original", type(module))
                del _traced[key]


def whole_call(module: nn.Module) -> Callable[..., Any]:
    """A module's call outside of a pass, on what is whole where a rank has a share of the module (see `shards`)."""
    share = vars(module).get(MARK)
    return module if share is None else functools.partial(share.call, module)


def refuse_run(module: nn.Module, own: bool = False) -> None:
    """Let open runs, whose taps do not reach a call that is made here, refuse it.

    own: the call begins a pass of mlxtrace's own, such as an experiment's.
    """
    if own and _open.here() is not None:
        return
    for ref in _open.everywhere:
        taps = ref()
        if taps is not None and taps.refuse is not None and taps.running:
            taps.refuse(module, own)


def tapping(handlers: Iterable[tuple[nn.Module, Handler]]) -> Taps:
    """`with tapping([(module, handler), ...]):` routes the modules' calls through their handlers."""
    return Taps(handlers)


def untapped() -> Taps:
    """Run a user's function inside a pass without its own calls of the model being tapped."""
    return Taps([])


def own_run() -> Taps | contextlib.nullcontext:
    """Around a run of the model that mlxtrace makes itself: in the active taps, or else in none."""
    return untapped() if _open.here() is None else contextlib.nullcontext()


def fresh(x: mx.array) -> mx.array:
    """A handle of its own on the same data: models rebind theirs in place (`h += x`)."""
    return mx.array(x)


def arrays_of(args: tuple, kwargs: dict) -> Iterator[tuple[int | str, mx.array]]:
    """The arrays among a call's arguments, each with its position or keyword."""
    for key, value in [*enumerate(args), *kwargs.items()]:
        if isinstance(value, mx.array):
            yield key, value


def put_argument(args: tuple, kwargs: dict, key: int | str, value: Any) -> tuple[tuple, dict]:
    """The same call with one argument replaced."""
    if isinstance(key, int):
        return (*args[:key], value, *args[key + 1 :]), kwargs
    return args, {**kwargs, key: value}


def first_array(output: Any) -> mx.array | None:
    """A call's main array: the output itself, or the first array of a tuple."""
    if isinstance(output, mx.array):
        return output
    if isinstance(output, (tuple, list)):
        return next((x for x in output if isinstance(x, mx.array)), None)
    return None


def put_first(output: Any, value: mx.array) -> Any:
    """The same output with its main array replaced."""
    if isinstance(output, mx.array):
        return value
    where = next(i for i, x in enumerate(output) if isinstance(x, mx.array))
    parts = [*output[:where], value, *output[where + 1 :]]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
