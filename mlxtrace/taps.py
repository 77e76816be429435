"""Read and write what goes into and comes out of modules while a forward pass runs.

`nn.Module.__call__` is looked up on the type, so each tapped module gets, for as long as a run lasts, a
subclass of its own class whose `__call__` asks a context variable for the active run:

    with tapping([(module, handler), ...]):     # handler(forward, args, kwargs) -> output
        model(tokens)

- a module without a handler in the active run is called as if nothing were there;
- nested runs do not see each other, because the active run is context-local;
- on leaving, by whatever road, every module has its own class again.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Handler = Callable[[Callable[..., Any], tuple, dict], Any]

_active: ContextVar[dict[int, Handler] | None] = ContextVar("mlxtrace_active_taps", default=None)
_lock = threading.RLock()  # re-entrant: a collected trace may take its taps out while others go in
_holders: dict[int, set[int]] = {}  # id(module) -> the runs that hold its traced class


@functools.cache
def _traced_class(cls: type) -> type:
    def __call__(self, *args, **kwargs):
        handlers = _active.get()
        handler = handlers.get(id(self)) if handlers else None
        if handler is None:
            return cls.__call__(self, *args, **kwargs)
        return handler(functools.partial(cls.__call__, self), args, kwargs)

    names = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**names, "_mlxtrace_original": cls})


class Taps:
    """Routes the calls of the given modules through their handlers while its block runs.

    Args:
        handlers: pairs of a module and `handler(forward, args, kwargs) -> output`, where
            `forward(*args, **kwargs)` is the module's own call. One handler per module.
    """

    def __init__(self, handlers: Iterable[tuple[nn.Module, Handler]]):
        handlers = list(handlers)
        self._modules = [module for module, _ in handlers]
        self._handlers = {id(module): handler for module, handler in handlers}
        self._token: Token | None = None

    def __enter__(self) -> Taps:
        try:
            self._install()
        except BaseException:  # Ctrl-C half way
            self.remove()
            raise
        self._token = _active.set(self._handlers)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            _active.reset(self._token)
            self.remove()
        except KeyboardInterrupt:
            self.remove()
            raise

    def _install(self) -> None:
        with _lock:
            for module in self._modules:
                _holders.setdefault(id(module), set()).add(id(self))
                if not hasattr(type(module), "_mlxtrace_original"):
                    module.__class__ = _traced_class(type(module))

    def remove(self) -> None:
        """Give every module that no other run holds its own class again; may be repeated."""
        with _lock:
            for module in self._modules:
                holders = _holders.get(id(module))
                if holders is None:
                    continue
                holders.discard(id(self))
                if not holders:
                    module.__class__ = getattr(type(module), "_mlxtrace_original", type(module))
                    _holders.pop(id(module), None)


def tapping(handlers: Iterable[tuple[nn.Module, Handler]]) -> Taps:
    """`with tapping([(module, handler), ...]):` routes the modules' calls through their handlers."""
    return Taps(handlers)


@contextlib.contextmanager
def untapped() -> Iterator[None]:
    """Run a user's function inside a pass without its own calls of the model being tapped."""
    token = _active.set(None)
    try:
        yield
    finally:
        _active.reset(token)


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
