"""Whether a model's gradients are right: its backward pass against finite differences of its own forward pass.

A gradient can be missing without a word: a step that is not differentiable (a routing, a rounding, an array that goes
by a side door) has gradient zero, and a kernel may have none at all. So every component is pushed along random
directions at all layers at once, forwards and backwards, in rows of one plain pass on a short prompt; what the
measure does must be what the gradient says.

The steps are shares of the arrays' own size, and the best of them counts: small ones lose digits, large ones are no
longer straight. In float32 the two agree to TOLERANCE[float32]; at half precision, logits carry two or three digits
and a step has to be large, so that only a gradient that is zero, turned or missing in part is told from a right one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.resolver import rows_back, rows_first
from . import calibration
from .gradient_pass import Hooks, Pass, Site, UnsupportedError, Way, slice_to_last

DIRECTIONS = 6  # random ones for each component
STEPS = {mx.float32: (1e-2, 1e-3, 3e-4), mx.float16: (0.03, 0.01, 0.1), mx.bfloat16: (0.03, 0.01, 0.1)}
# How far they may be apart, by the size of both over the directions. A gradient that is zero is off by 1, a turned one
# by 2, one of which half is missing by .7.
TOLERANCE = {mx.float32: 0.03, mx.float16: 0.35, mx.bfloat16: 0.6}
WAYS = (Way(), Way(training=True), Way(cpu=True))  # in this order


def checked_way(resolver: Any) -> Way:
    """How this model's passes are differentiated; UnsupportedError when there is no way, or no right one."""
    way, reason = _found(resolver)
    if way is None:
        raise UnsupportedError(
            f"the gradients of this model are not to be trusted, or there are none: {reason}; activation_patching "
            "needs none"
        )
    return way


def wrong_components(resolver: Any, way: Way) -> dict[str, str]:
    """By component whose gradient is not what the forward pass does, the reason."""
    return Check(resolver).wrong(way)


@calibration.per_model
def _found(resolver: Any) -> tuple[Way | None, str]:
    """The first way in which this model has gradients that are right, and its logits; or why there is none.

    One component that is wrong refuses all: what loses its gradient lies on the way of others, which may agree with
    finite differences by chance (a step function is flat between its steps).
    """
    check, reasons = Check(resolver), []
    ways = WAYS if mx.default_device() != mx.Device(mx.cpu) else WAYS[:-1]
    for way in ways:
        try:
            check.sum_over_ranks(way)
            wrong = check.wrong(way)
            off = check.moved(way)
        except Exception as error:  # a kernel without a gradient may fail in any way
            reasons.append(f"{type(error).__name__}: {str(error)[:160]}")
            continue
        if not wrong and not off:
            return way, ""
        reasons += [f"pushed at {name}, {said}" for name, said in wrong.items()]
        reasons += [f"its logits move by {off} where mixers are in training mode"] if off else []
    return None, reasons[0]


class Check:
    """The short prompt of a model, its components, and the random directions in which they are pushed."""

    def __init__(self, resolver: Any):
        self.resolver = resolver
        self.sites = [site for site in resolver.table.values() if site.layer is not None]
        self.components = list(dict.fromkeys(str(site.component) for site in self.sites))
        self.dtype = calibration.compute_dtype(resolver)
        vocab = resolver.structure.vocab_size
        random = np.random.RandomState(0)
        self.weights = mx.array((random.randn(vocab) / vocab**0.5).astype(np.float32))

    def measure(self, logits: mx.array) -> mx.array:
        """A random sum of the logits `[rows, V]`; a token that the model rules out has none."""
        return mx.where(mx.isinf(logits), 0, logits) @ self.weights

    def sum_over_ranks(self, way: Way) -> None:
        """Have gradients of a sharded model summed where each rank has a part of them."""
        if self.resolver.sliced:
            from .gradient_sums import sum_gradients

            sum_gradients(self.resolver, way, self.measure)

    def _pass(self, way: Way) -> Pass:
        return Pass(self.resolver, calibration.rows_of(self.resolver, 1), np.arange(1), self.sites, way)

    def moved(self, way: Way) -> str:
        """How far the logits of a way are from the plain ones, when it is more than rounding; '' when it is not."""
        logits = (np.array(self._pass(one).logits()) for one in (way, Way()))
        return "" if way == Way() else calibration.beyond_rounding(self.resolver, *logits)

    def gradients(self, way: Way) -> dict[str, mx.array]:
        one = self._pass(way)
        return one.gradients(self.measure, one.zeros()[0])[1]

    # ---- directions

    def directions(self, gradient: dict[str, mx.array], sizes: dict[str, float]) -> dict[str, mx.array]:
        """By site, random directions `[DIRECTIONS, T, ...]` as large as its array."""
        found = {}
        for i, site in enumerate(self.sites):
            shape = rows_first(self.resolver, site, gradient[site.name]).shape[1:]
            draw = mx.random.normal((DIRECTIONS, *shape), key=mx.random.key(i))
            found[site.name] = draw * sizes[site.name]
        return found

    def sizes(self) -> dict[str, float]:
        """The root mean square of each site's array."""
        hooks, kept = Hooks(self.resolver), {}

        def noting(name: str) -> Callable[[mx.array], None]:
            def note(x: mx.array) -> None:
                kept[name] = mx.sqrt(mx.square(x.astype(mx.float32)).mean())

            return note

        for site in self.sites:
            hooks.add_site(site, noting(site.name))
        self._run(hooks, 1)
        mx.eval(kept)
        return {name: float(x) for name, x in kept.items()}

    def _run(self, hooks: Hooks, rows: int) -> mx.array:
        slice_to_last(hooks)
        tokens = mx.array([calibration.short_ids(self.resolver)] * rows)
        with hooks.hooked():
            logits = calibration.forward(self.resolver.net, tokens)[..., -1, :]
            mx.eval(logits)
        return logits.astype(mx.float32)

    def pushed(self, directions: dict[str, mx.array], step: float) -> np.ndarray:
        """The central differences `[components, DIRECTIONS]`: each component pushed both ways at all layers."""
        n = len(self.components)
        hooks = Hooks(self.resolver)
        for site in self.sites:
            place = self.components.index(str(site.component))
            hooks.add_site(site, self._pushing(site, directions[site.name], place, n, step))
        logits = self._run(hooks, n * 2 * DIRECTIONS)
        values = np.array(self.measure(logits), dtype=np.float64).reshape(n, 2, DIRECTIONS)
        return (values[:, 0] - values[:, 1]) / (2 * step)

    def _pushing(
        self, site: Site, way: mx.array, place: int, n: int, step: float
    ) -> Callable[[mx.array], mx.array]:
        both = step * mx.concatenate([way, -way])
        before, after = 2 * DIRECTIONS * place, 2 * DIRECTIONS * (n - place - 1)
        whole = mx.pad(both, [(before, after), *((0, 0) for _ in both.shape[1:])])
        whole = rows_back(self.resolver, site, whole)
        return lambda x: x + whole.astype(x.dtype)

    # ---- both beside each other

    def wrong(self, way: Way) -> dict[str, str]:
        """By component whose gradient does not agree with finite differences, the reason."""
        gradient = self.gradients(way)
        directions = self.directions(gradient, self.sizes())
        said = np.zeros((len(self.components), DIRECTIONS))
        for site in self.sites:
            g = rows_first(self.resolver, site, gradient[site.name]).astype(mx.float32)
            along = (g * directions[site.name]).reshape(DIRECTIONS, -1).sum(-1)
            said[self.components.index(str(site.component))] += np.array(along, dtype=np.float64)
        left = dict.fromkeys(self.components, "")
        for step in STEPS.get(self.dtype, STEPS[mx.bfloat16]):
            seen = self.pushed(directions, step)
            off = np.linalg.norm(seen - said, axis=-1)
            size = np.maximum(np.linalg.norm(seen, axis=-1), np.linalg.norm(said, axis=-1))
            noise = calibration.rounding(self.resolver) / (10 * step)
            right = off <= TOLERANCE.get(self.dtype, TOLERANCE[mx.bfloat16]) * size + noise
            left = {
                name: f"finite differences of its forward pass give {seen[i, 0]:.3g} where the gradient says "
                f"{said[i, 0]:.3g}"
                for i, name in enumerate(self.components)
                if name in left and not right[i]
            }
            if not left:
                break
        return left
