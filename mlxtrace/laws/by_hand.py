"""A model run by hand, to hold experiments against: plain module calls and NumPy, nothing of the engine.

    by_hand = ModelByHand(net, places, embed)
    logits, kept = by_hand.run(ids, keep=[("mlp", 3)])
    logits, _ = by_hand.run(other, writes=[Write("mlp", 3, (4,), kept["mlp", 3], (4,))])

One row a pass, one pass a cell.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .module_calls import (
    argument,
    first_argument,
    first_array,
    run,
    watched,
    whole_call,
    with_argument,
    with_first_array,
)
from .pass_by_hand import Name, Noise, Pass, Place, Write


class ModelByHand:
    """Runs of one row.

    places: where each (component, layer) is, as the arguments of a `Place`. embed: the path of the embedding module.
    with_cache: whether a pass of this model is right with a cache only.
    """

    def __init__(self, net: nn.Module, places: dict[Name, tuple], embed: str, with_cache: bool = False):
        self.net, self.embed, self.with_cache = net, embed, with_cache
        self.places = {name: Place(*where) for name, where in places.items()}
        self.modules: dict[str, nn.Module] = dict(net.named_modules())

    def run(
        self,
        ids: Sequence[int],
        writes: Sequence[Write] = (),
        noise: Noise | None = None,
        keep: Sequence[Name] = (),
    ) -> tuple[np.ndarray, dict[Name, np.ndarray]]:
        """Logits `[T, V]` in float64, and the arrays that were asked for as float32, as they are after the writes."""
        one = Pass(self.places, self.embed, len(ids), writes, noise, keep)
        with watched(self.watch(one.paths), one.call, one.attend):
            logits = self.logits(ids)
        missing = [name for name in keep if name not in one.kept]
        if missing or one.written != len(writes):
            raise RuntimeError(f"by hand: not reached {missing}, {one.written} of {len(writes)} written")
        return logits, one.kept

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits `[T, V]` in float64 of a plain call."""
        logits = run(self.net, mx.array([list(ids)]), self.with_cache)
        return np.array(logits.astype(mx.float32), dtype=np.float64)[0]

    def called(self, path: str, x: mx.array) -> mx.array:
        """What a module gives by itself."""
        return whole_call(self.modules[path])(x)

    def order_of_calls(self, modules: Iterable[Any], ids: Sequence[int]) -> list[nn.Module]:
        """The modules in the order in which a pass calls them; none where they are never called."""
        known = {str(i): m for i, m in enumerate(x for x in modules if isinstance(x, nn.Module))}
        called: list[nn.Module] = []

        def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
            called.append(known[path])
            return forward(*args, **kwargs)

        with watched(known, call):
            self.logits(ids)
        return called

    def projects_attention(self, layer: int, ids: Sequence[int]) -> bool:
        """Whether a layer's output projection is given what its attention call returned, and nothing else."""
        mixer, projection = self.places["pattern", layer], self.places["head", layer]
        visits: Counter[str] = Counter()
        inside: list[bool] = []  # the mixer, for each of the calls that have begun and not ended
        returned: list[mx.array] = []
        given: list[mx.array] = []

        def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
            visit = visits[path]
            visits[path] += 1
            if (path, visit) == (projection.path, projection.visit):
                given.append(mx.array(first_array(args)))
            inside.append((path, visit) == (mixer.path, mixer.visit) or any(inside))
            out = forward(*args, **kwargs)
            inside.pop()
            return out

        def attend(plain: Callable, *args: Any, **options: Any) -> mx.array:
            out = plain(*args, **options)
            if any(inside):
                returned.append(mx.array(out))
            return out

        with watched(self.watch({mixer.path, projection.path}), call, attend):
            self.logits(ids)
        if len(returned) != 1 or len(given) != 1 or returned[0].ndim != 4:
            return False
        joined = returned[0].swapaxes(1, 2).reshape(*given[0].shape[:2], -1)
        return joined.shape == given[0].shape and bool(mx.array_equal(joined, given[0]).item())

    def mixes(self, place: Place, ids: Sequence[int]) -> bool | None:
        """Whether a module's output at the last token depends on the token before it, or it makes an attention call.

        None where it cannot be called a second time.
        """
        depends: list[bool] = []
        inside: list[bool] = []
        attended: list[bool] = []
        visits: Counter[str] = Counter()

        def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
            visit = visits[path]
            visits[path] += 1
            if visit != place.visit:
                return forward(*args, **kwargs)
            key = first_argument(args, kwargs)
            x = argument(args, kwargs, key)
            if x.ndim != 3 or x.shape[1] != len(ids):
                return forward(*args, **kwargs)
            bumped = mx.concatenate([x[:, :-2], 0.5 - 1.5 * x[:, -2:-1], x[:, -1:]], axis=1)
            changed, named = with_argument(args, kwargs, key, bumped)
            other = mx.array(first_array(forward(*changed, **named)))
            inside.append(True)
            out = forward(*args, **kwargs)
            inside.clear()
            depends.append(not bool(mx.array_equal(first_array(out)[:, -1], other[:, -1]).item()))
            return out

        def attend(plain: Callable, *args: Any, **options: Any) -> mx.array:
            attended.extend(inside)
            return plain(*args, **options)

        try:
            with watched(self.watch({place.path}), call, attend):
                self.logits(ids)
        except Exception:  # state that a second call disturbs may raise anything
            return None
        return depends[0] or bool(attended) if depends else None

    @contextlib.contextmanager
    def overwriting(self) -> Iterator[None]:
        """Layers that, once they are done, write zeros into what they and their mixers and MLPs were given or gave."""
        layers = {place.path for (c, _), place in self.places.items() if c == "resid_post"}
        parts = {place.path for (c, _), place in self.places.items() if c in ("attn", "mlp")} - layers
        given: list[mx.array] = []

        def hidden(x: Any) -> bool:
            return isinstance(x, mx.array) and x.ndim >= 3 and mx.issubdtype(x.dtype, mx.floating)

        def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
            out = forward(*args, **kwargs)
            if path in parts:
                given.append(first_array(out))
                return out
            out = with_first_array(out, mx.array(first_array(out)))
            width = first_array(out).shape[-1]
            own = [x for x in (*args, *kwargs.values()) if hidden(x) and x.shape[-1] == width]
            for x in [*given, *own]:
                x *= 0
            given.clear()
            return out

        with watched(self.watch(layers | parts), call):
            yield

    def watch(self, paths: Iterable[str]) -> dict[str, nn.Module]:
        """Modules by their paths, as `watched` takes them."""
        return {path: self.modules[path] for path in paths}
