"""Where each component of the table is in a layer: one function per component, from what the probe found.

@finder("resid_post")
def resid_post(layer: Layer, place: Place) -> Site: ...        # or raise Missing(why)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .attention import INTERNALS
from .components import complete
from .layout import Layer
from .sites import Site


class Missing(Exception):
    """The layer has no such site, and why."""


@dataclass(frozen=True)
class Place:
    """What a finder looks for: a component of the layer with this index, whose mixer says it has `heads` heads."""

    component: str
    index: int
    heads: int | None = None

    def site(self, layer: Layer, path: str, **more: Any) -> Site:
        """The canonical site at a module of the layer."""
        name = f"layers.{self.index}.{self.component}"
        return Site(name, path, visit=layer.visit, layer=self.index, component=self.component, **more)


Finder = Callable[[Layer, Place], Site]
FINDERS: dict[str, Finder] = {}


def finder(component: str) -> Callable[[Finder], Finder]:
    """Enter a function into FINDERS."""

    def enter(find: Finder) -> Finder:
        FINDERS[component] = find
        return find

    return enter


def _single(layer: Layer, paths: tuple[str, ...], several: str = "this layer has several") -> str:
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise Missing(f"{several}; name one of {', '.join(paths)}")
    raise Missing("this layer has none" if layer.slot is not None else layer.no_mid)


@finder("resid_pre")
def resid_pre(layer: Layer, place: Place) -> Site:
    """The hidden state that the layer is given."""
    if layer.slot is None:
        raise Missing(layer.no_mid)
    return place.site(layer, layer.path, side="input", slot=layer.slot)


@finder("resid_post")
def resid_post(layer: Layer, place: Place) -> Site:
    """The layer's output."""
    if layer.slot is None:
        raise Missing(layer.no_mid)
    return place.site(layer, layer.path)


@finder("resid_mid")
def resid_mid(layer: Layer, place: Place) -> Site:
    """The input and what the mixer adds to it."""
    if layer.added is None:
        raise Missing(layer.no_mid)
    before = resid_pre(layer, Place("resid_pre", place.index))
    return place.site(layer, layer.added, view="middle", bases=(before,))


@finder("attn")
def attn(layer: Layer, place: Place) -> Site:
    """The output of the only mixer."""
    return place.site(layer, _single(layer, layer.mixers))


@finder("mlp")
def mlp(layer: Layer, place: Place) -> Site:
    """The output of the MLP, or the sum of all modules that it is made of."""
    if len(layer.mlps) < 2 or not layer.summed:
        return place.site(layer, _single(layer, layer.mlps, layer.no_mlp))
    *others, last = layer.summed
    bases = tuple(Site(path, path, visit=layer.visit) for path in others)
    return place.site(layer, last, view="sum" if bases else "whole", bases=bases, modules=layer.mlps)


@finder("head")
def head(layer: Layer, place: Place) -> Site:
    """The input of the mixer's output projection, split by head."""
    _single(layer, layer.mixers)
    if layer.out_proj is None:
        raise Missing("the mixer does not end in one output projection")
    if not place.heads:
        raise Missing("the mixer does not say how many heads it has")
    if layer.split == 0:
        raise Missing("what is projected mixes the heads, so that no slice of it is one head")
    if layer.split not in (None, place.heads):
        raise Missing(f"the mixer says that it has {place.heads} heads, but attends with {layer.split}")
    return place.site(layer, layer.out_proj, side="input", view="heads", heads=place.heads)


@finder("neuron")
def neuron(layer: Layer, place: Place) -> Site:
    """The input of the MLP's down projection."""
    _single(layer, layer.mlps)
    if layer.down_proj is None:
        raise Missing("the MLP does not end in one down projection (experts, perhaps)")
    return place.site(layer, layer.down_proj, side="input")


@finder("router")
def router(layer: Layer, place: Place) -> Site:
    """The output of the module that gives each expert its logit."""
    if layer.router is None:
        raise Missing(layer.no_router)
    if not layer.router_in_rows:
        return place.site(layer, layer.router)
    if layer.slot is None or layer.time_axis != 1:
        raise Missing(
            "its gate is given all tokens in one row, and nothing says how many there are to a prompt"
        )
    before = resid_pre(layer, Place("resid_pre", place.index))
    return place.site(layer, layer.router, view="rows", bases=(before,))


def _internal(layer: Layer, place: Place) -> Site:
    """An array of the attention call, under its own name."""
    if layer.attention is None:
        raise Missing(f"{layer.no_attention}, so there are no queries, keys, values or patterns to see")
    return place.site(layer, layer.attention, side=place.component)


for _name in INTERNALS:
    finder(_name)(_internal)
complete(FINDERS)
