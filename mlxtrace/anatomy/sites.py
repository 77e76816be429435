"""A site: one array of a forward pass, where it passes, and how it is looked at and put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Site:
    """One array of a forward pass: a side of one module call, and how to look at it.

    Attributes:
        name: canonical name, or the module path (with `.input` for an input).
        path: the module whose call carries the array; '' is the model itself.
        side: 'input' or 'output' of that call; or 'q', 'k', 'v', 'pattern' of the attention call inside it.
        slot: which argument, for an input (None: the first array).
        visit: which call of the module within one pass, from 0.
        view: 'whole'; 'heads' (last axis split by head); 'middle' (residual stream after the mixer); 'sum' (of
            the outputs of several modules that write together, at the last of them); 'rows' (the model lays all
            tokens of all prompts out in one row: shown as `[B, T, width]`).
        layer, component: for canonical sites.
        heads: number of heads of a 'heads' view.
        bases: for 'middle' the site that is added to, for 'sum' the other modules' outputs, for 'rows' one that has
            the shape `[B, T, ...]`.
        modules: for an MLP of several modules, the paths of all of them.
    """

    name: str
    path: str
    side: str = "output"
    slot: int | str | None = None
    visit: int = 0
    view: str = "whole"
    layer: int | None = None
    component: str | None = None
    heads: int = 0
    bases: tuple[Site, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def port(self) -> tuple[str, str, int]:
        """The event of a pass in which the array can be read and replaced."""
        return self.path, self.side, self.visit

    def is_meant_by(self, path: str) -> bool:
        """Whether a module of the site's own name stands for the site: it carries it, holds it or is a part of it."""
        return self.path == path or self.path.startswith(path + ".") or bool(self.modules)

    def base(self, passed: Callable[[Site], mx.array]) -> mx.array | None:
        """What the array at the port is seen with, from what passed at the `bases`; None where there are none."""
        parts = [passed(site) for site in self.bases]
        return sum(parts[1:], parts[0]) if parts else None

    def get(self, x: mx.array, base: mx.array | None = None) -> mx.array:
        """The site's array from what passes at its port."""
        if self.view == "heads":
            return x.reshape(*x.shape[:-1], self.heads, -1)
        if not self.bases:
            return x
        assert base is not None, "a site with bases is seen together with them"
        return x.reshape(*base.shape[:-1], -1) if self.view == "rows" else base + x

    def put(self, x: mx.array, value: mx.array, base: mx.array | None = None) -> mx.array:
        """What must pass at the port so that the site's array becomes `value`.

        For the middle of the stream the mixer's contribution takes up the difference, for a sum the last module's
        output. What was not changed goes on bit for bit, and zeros are zeros; other values to a rounding of
        `base + (value - base)`.
        """
        if self.view in ("heads", "rows"):
            return value.reshape(x.shape)
        if not self.bases:
            return value
        assert base is not None, "a site with bases is put back together with them"
        before = base + x
        return mx.where(value == before, x + (value - before), value - base)
