"""A model run by hand, to hold experiments against: plain module calls and NumPy, nothing of the engine.

    hand = Hand(net, places)
    logits, kept = hand.run(ids, keep=[("mlp", 3)])
    logits, _ = hand.run(other, writes=[Write("mlp", 3, (4,), kept["mlp", 3], (4,))])

One row a pass, one pass a cell. Of the package only the positions of modules are used (`Place`: a path, a visit, an
argument); what an input, a head, a query or a pattern is, how it is replaced and how noise is added is written out
here a second time. Modules are watched by a subclass of their own class, attention by standing in for mlx's call.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

INPUTS = ("resid_pre", "head", "neuron")
INSIDE = ("q", "k", "v", "pattern")
Name = tuple[str, int]  # component, layer


@dataclass(frozen=True)
class Place:
    """Where a component is: a module's path, which call of it, which argument (None: the first), how many heads."""

    path: str
    visit: int = 0
    slot: int | str | None = None
    heads: int = 0


@dataclass(frozen=True)
class Write:
    """At `positions` of a layer's component (and there at `heads`, if any) another run's values at `source_at`."""

    component: str
    layer: int
    positions: Sequence[int]
    values: np.ndarray
    source_at: Sequence[int]
    heads: Sequence[int] | None = None


@dataclass(frozen=True)
class Noise:
    """What is added to (or put in place of) the embeddings at some positions: values `[positions, width]`."""

    positions: Sequence[int]
    values: np.ndarray
    replace: bool = False


class Hand:
    """Runs of one row. places: where each (component, layer) is; embed: the path of the embedding module.

    cached: the model is right with a cache only.
    """

    def __init__(self, net: nn.Module, places: dict[Name, Place], embed: str, cached: bool = False):
        self.net, self.places, self.embed, self.cached = net, places, embed, cached
        self.modules = dict(net.named_modules())

    def run(
        self,
        ids: Sequence[int],
        writes: Sequence[Write] = (),
        noise: Noise | None = None,
        keep: Sequence[Name] = (),
    ) -> tuple[np.ndarray, dict[Name, np.ndarray]]:
        """Logits `[T, V]` in float64, and the arrays that were asked for as float32, as they are after the writes."""
        one = _Pass(self, len(ids), writes, noise, keep)
        with watched(one.modules(), one.call, one.attend):
            logits = np.array(
                run(self.net, mx.array([list(ids)]), self.cached).astype(mx.float32), dtype=np.float64
            )[0]
        missing = [name for name in keep if name not in one.kept]
        if missing or one.written != len(writes):
            raise RuntimeError(f"by hand: not reached {missing}, {one.written} of {len(writes)} written")
        return logits, one.kept

    def projects_attention(self, layer: int, ids: Sequence[int]) -> bool:
        """Whether a layer's output projection is given what its attention call returned, and nothing else."""
        here, projection = self.places["pattern", layer], self.places["head", layer]
        visits, inside, returned, given = Counter(), [], [], []

        def call(path: str, forward: Any, args: tuple, kwargs: dict) -> Any:
            visit = visits[path]
            visits[path] += 1
            if (path, visit) == (projection.path, projection.visit):
                given.append(mx.array(_first(args)))
            inside.append((path, visit) == (here.path, here.visit) or any(inside))
            out = forward(*args, **kwargs)
            inside.pop()
            return out

        def attend(plain: Any, *args: Any, **options: Any) -> mx.array:
            out = plain(*args, **options)
            if any(inside):
                returned.append(mx.array(out))
            return out

        paths = dict.fromkeys([here.path, projection.path])
        with watched(self.watch(paths), call, attend):
            mx.eval(run(self.net, mx.array([list(ids)]), self.cached))
        if len(returned) != 1 or len(given) != 1 or returned[0].ndim != 4:
            return False
        joined = returned[0].swapaxes(1, 2).reshape(*given[0].shape[:2], -1)
        return joined.shape == given[0].shape and bool(mx.array_equal(joined, given[0]).item())

    def mixes(self, place: Place, ids: Sequence[int]) -> bool | None:
        """Whether a module's last output hears the token before it, or it makes an attention call.

        None where it cannot be called a second time.
        """
        heard: list[bool] = []
        inside, attended = [], []
        visits = Counter()

        def call(path: str, forward: Any, args: tuple, kwargs: dict) -> Any:
            visit = visits[path]
            visits[path] += 1
            if visit != place.visit:
                return forward(*args, **kwargs)
            key = next(k for k, x in [*enumerate(args), *kwargs.items()] if isinstance(x, mx.array))
            x = args[key] if isinstance(key, int) else kwargs[key]
            if x.ndim != 3 or x.shape[1] != len(ids):
                return forward(*args, **kwargs)
            bumped = mx.concatenate([x[:, :-2], 0.5 - 1.5 * x[:, -2:-1], x[:, -1:]], axis=1)
            changed, named = _with(args, kwargs, key, bumped)
            other = mx.array(_first(forward(*changed, **named)))
            inside.append(True)
            out = forward(*args, **kwargs)
            inside.clear()
            heard.append(not bool(mx.array_equal(_first(out)[:, -1], other[:, -1]).item()))
            return out

        def attend(plain: Any, *args: Any, **options: Any) -> mx.array:
            attended.extend(inside)
            return plain(*args, **options)

        try:
            with watched(self.watch([place.path]), call, attend):
                mx.eval(run(self.net, mx.array([list(ids)]), self.cached))
        except Exception:  # state that a second call disturbs may raise anything
            return None
        return heard[0] or bool(attended) if heard else None

    @contextlib.contextmanager
    def overwriting(self) -> Iterator[None]:
        """Layers that, once they are done, write zeros into what they and their mixers and MLPs were given or gave."""
        layers = {place.path for (c, _), place in self.places.items() if c == "resid_post"}
        parts = {place.path for (c, _), place in self.places.items() if c in ("attn", "mlp")} - layers
        given: list[mx.array] = []

        def hidden(x: Any) -> bool:
            return isinstance(x, mx.array) and x.ndim >= 3 and mx.issubdtype(x.dtype, mx.floating)

        def call(path: str, forward: Any, args: tuple, kwargs: dict) -> Any:
            out = forward(*args, **kwargs)
            if path in parts:
                given.append(_first(out))
                return out
            out = _with_first(out, mx.array(_first(out)))
            own = [x for x in (*args, *kwargs.values()) if hidden(x) and x.shape[-1] == _first(out).shape[-1]]
            for x in [*given, *own]:
                x *= 0
            given.clear()
            return out

        with watched(self.watch(layers | parts), call):
            yield

    def watch(self, paths: Any) -> tuple[dict[int, str], list[nn.Module]]:
        """Modules by their paths, as `watched` takes them."""
        return {id(self.modules[path]): path for path in paths}, [self.modules[path] for path in paths]


def run(net: nn.Module, tokens: mx.array, cached: bool = False) -> mx.array:
    """Logits of a plain call of the model; cached: with a cache, where it is right with one only."""
    if cached:
        from mlx_lm.models.cache import make_prompt_cache

        out = net(tokens, cache=make_prompt_cache(net))
    else:
        out = net(tokens)
    out = getattr(out, "logits", out)
    return out[0] if isinstance(out, (tuple, list)) else out


class _Pass:
    """The handlers of one run."""

    def __init__(self, hand: Hand, length: int, writes, noise: Noise | None, keep: Sequence[Name]):
        self.hand, self.length, self.noise = hand, length, noise
        self.kept: dict[Name, np.ndarray] = {}
        self.written, self.visits, self.stack = 0, Counter(), []
        self.writes, self.keep = defaultdict(list), set(keep)
        for write in writes:
            self.writes[write.component, write.layer].append(write)
        names = dict.fromkeys([*self.writes, *keep])
        middles = [("resid_pre", layer) for component, layer in names if component == "resid_mid"]
        self.needed = set(middles)
        self.at: dict[tuple[str, int], list[Name]] = defaultdict(list)
        # the stream before its middle, and a mixer's output before the middle that it leads to
        for name in sorted(dict.fromkeys([*names, *middles]), key=lambda n: n[0] == "resid_mid"):
            place = hand.places[name]
            self.at[place.path, place.visit].append(name)

    def modules(self) -> tuple[dict[int, str], list[nn.Module]]:
        return self.hand.watch({path for path, _ in self.at} | ({self.hand.embed} if self.noise else set()))

    def call(self, path: str, forward: Any, args: tuple, kwargs: dict) -> Any:
        visit = self.visits[path]
        self.visits[path] += 1
        names = self.at.get((path, visit), [])
        for name in [n for n in names if n[0] in INPUTS]:
            key = self._argument(self.hand.places[name].slot, args, kwargs)
            x = self._seen(name, args[key] if isinstance(key, int) else kwargs[key])
            args, kwargs = _with(args, kwargs, key, x)
        self.stack.append([n for n in names if n[0] in INSIDE])
        try:
            out = forward(*args, **kwargs)
        finally:
            self.stack.pop()
        for name in [n for n in names if n[0] not in (*INPUTS, *INSIDE)]:
            out = _with_first(out, self._seen(name, _first(out)))
        if path == self.hand.embed and self.noise is not None and visit == 0:
            out = self._noised(out)
        return out

    def _argument(self, slot: int | str | None, args: tuple, kwargs: dict) -> int | str:
        if slot is not None:
            return slot
        return next(k for k, x in [*enumerate(args), *kwargs.items()] if isinstance(x, mx.array))

    def _noised(self, x: mx.array) -> mx.array:
        y = np.array(x.astype(mx.float32))
        at = list(self.noise.positions)
        added = self.noise.values.astype(np.float32)
        y[0, at] = added if self.noise.replace else y[0, at] + added
        return mx.array(y).astype(x.dtype)

    def _seen(self, name: Name, x: mx.array) -> mx.array:
        """Write into a component's array and keep it; what the model goes on with."""
        component, layer = name
        whole = np.array(x.astype(mx.float32))
        heads = self.hand.places[name].heads if component == "head" else 0
        view = whole.reshape(*whole.shape[:-1], heads, -1) if heads else whole
        if component == "router":
            view = whole.reshape(1, self.length, -1)  # some gates are given all tokens in one row
        if component == "resid_mid":
            view = self.kept["resid_pre", layer] + whole
        for write in self.writes.get(name, ()):
            view = self._written(view, write)
        if name in self.keep or name in self.needed:
            self.kept[name] = view.copy()
        if name not in self.writes:
            return x
        if component == "resid_mid":
            view = view - self.kept["resid_pre", layer]
        return mx.array(view.reshape(whole.shape)).astype(x.dtype)

    def _written(self, view: np.ndarray, write: Write) -> np.ndarray:
        self.written += 1
        view = view.copy()
        rows, source = _tokens_second(view), _tokens_second(write.values)  # views: what is written arrives
        for p, q in zip(write.positions, write.source_at, strict=True):
            if write.heads is None:
                rows[:, p] = source[:, q]
            else:
                for head in write.heads:
                    rows[:, p, head] = source[:, q, head]
        return view

    def attend(self, plain: Any, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        """Attention, whose queries, keys and values are shown as `[1, T, heads, width]`."""
        names = self.stack[-1] if self.stack else []
        if not names:
            return plain(q, k, v, **options)
        parts = {"q": q, "k": k, "v": v}
        for name in [n for n in names if n[0] != "pattern"]:
            parts[name[0]] = self._seen(name, parts[name[0]].swapaxes(1, 2)).swapaxes(1, 2)
        q, k, v = parts.values()
        out = plain(q, k, v, **options)
        for name in [n for n in names if n[0] == "pattern"]:
            weights = attention_weights(q, k, **options)
            rows = weights.swapaxes(1, 2)  # [1, T, heads, T]: a query's row is written whole
            for write in self.writes.get(name, ()):
                write = Write(**{**vars(write), "values": write.values.swapaxes(1, 2)})
                rows = self._written(rows, write)
            if name in self.keep:
                self.kept[name] = rows.swapaxes(1, 2).copy()
            if name in self.writes:
                groups = q.shape[1] // v.shape[1]
                values = np.repeat(np.array(v.astype(mx.float32), dtype=np.float64), groups, axis=1)
                again = np.einsum("bhqk,bhkd->bhqd", rows.swapaxes(1, 2), values)
                kept = np.array(out.astype(mx.float32))
                same = (rows.swapaxes(1, 2) == weights).all(-1, keepdims=True)
                out = mx.array(np.where(same, kept, again).astype(np.float32)).astype(out.dtype)
        return out


def attention_weights(q: mx.array, k: mx.array, scale: float, mask: Any = None, sinks: Any = None, **_: Any):
    """softmax(scale q k' + mask) in float64, `[1, heads, Tq, Tk]`; a sink takes its share of each row."""
    q, k = (np.array(x.astype(mx.float32), dtype=np.float64) for x in (q, k))
    group = q.shape[1] // k.shape[1]
    scores = np.stack([scale * q[:, h] @ k[:, h // group].swapaxes(1, 2) for h in range(q.shape[1])], axis=1)
    n, m = scores.shape[2:]
    if isinstance(mask, str):
        scores[..., np.triu(np.ones((n, m), dtype=bool), 1 + m - n)] = -np.inf
    elif mask is not None:
        given = np.array(mask if mask.dtype == mx.bool_ else mask.astype(mx.float32))
        scores = np.where(given, scores, -np.inf) if given.dtype == bool else scores + given
    top = scores.max(-1, keepdims=True)
    rest = 0.0
    if sinks is not None:
        sink = np.array(sinks.astype(mx.float32), dtype=np.float64).reshape(1, -1, 1, 1)
        top = np.maximum(top, sink)
        rest = np.exp(sink - top)
    weights = np.exp(scores - top)
    return weights / (weights.sum(-1, keepdims=True) + rest)


def order_of(
    net: nn.Module, layers: Sequence[nn.Module], ids: Sequence[int], cached: bool = False
) -> list[nn.Module]:
    """The layers of a model's own list in the order in which a pass calls them; none where they are never called."""
    layers = [m for m in layers if isinstance(m, nn.Module)]
    called: list[nn.Module] = []
    known = {str(i): m for i, m in enumerate(layers)}

    def call(path: str, forward: Any, args: tuple, kwargs: dict) -> Any:
        called.append(known[path])
        return forward(*args, **kwargs)

    with watched(({id(m): path for path, m in known.items()}, layers), call):
        mx.eval(run(net, mx.array([list(ids)]), cached))
    return called


# ---- watching modules


@contextlib.contextmanager
def watched(modules: tuple[dict[int, str], list[nn.Module]], call: Any, attend: Any = None) -> Iterator[None]:
    """Route the modules' calls through `call(path, forward, args, kwargs)`, attention through `attend(plain, ...)`."""
    paths, found = modules
    classes, plain = [type(m) for m in found], mx.fast.scaled_dot_product_attention

    def subclass(cls: type) -> type:
        def __call__(self, *args, **kwargs):
            return call(paths[id(self)], functools.partial(cls.__call__, self), args, kwargs)

        return type(cls.__name__, (cls,), {"__call__": __call__, "__module__": cls.__module__})

    try:
        for module, cls in zip(found, classes, strict=True):
            module.__class__ = subclass(cls)
        if attend is not None:
            mx.fast.scaled_dot_product_attention = functools.partial(attend, plain)
        yield
    finally:
        mx.fast.scaled_dot_product_attention = plain
        for module, cls in zip(found, classes, strict=True):
            module.__class__ = cls


def _with(args: tuple, kwargs: dict, key: int | str, x: mx.array) -> tuple[tuple, dict]:
    if isinstance(key, int):
        return tuple(x if i == key else a for i, a in enumerate(args)), kwargs
    return args, {**kwargs, key: x}


def _first(out: Any) -> mx.array:
    """The first array of what a module is given or returns."""
    return out if isinstance(out, mx.array) else next(x for x in out if isinstance(x, mx.array))


def _with_first(out: Any, x: mx.array) -> Any:
    if isinstance(out, mx.array):
        return x
    first = next(i for i, y in enumerate(out) if isinstance(y, mx.array))
    parts = [x if i == first else y for i, y in enumerate(out)]
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


def _tokens_second(x: np.ndarray) -> np.ndarray:
    """`[1, T, ...]` as it is; several streams, `[streams, 1, T, width]`, as `[streams, T, 1, width]`."""
    return np.moveaxis(x, 2, 1) if x.ndim == 4 and x.shape[1] == 1 else x
