"""What the laws are measured on: two short prompts, and the runs of one model on them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import mlx.core as mx
import mlx.nn as nn

from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.recording import forward
from ..errors import UnsupportedError
from ..forward.trace import Trace
from .by_hand import ModelByHand
from .law import DoesNotApply
from .protocol import ModelWithExperiments
from .rounding import Tolerance
from .sweep_under_test import SweepUnderTest

LENGTH = 10
DIFFERENT = (2, 3)  # the positions at which the two prompts differ
SUBJECT = range(DIFFERENT[0], DIFFERENT[-1] + 1)


class ModelUnderTest:
    """Two short prompts that differ in two tokens, and the runs of a model on them that the laws share."""

    def __init__(self, model: ModelWithExperiments):
        self.model, self.resolver, self.net = model, model.resolver, model.net
        vocab, n = model.vocab_size, model.n_layers
        ids = [(3 + 7 * i) % vocab for i in range(LENGTH)]
        self.ids = tuple(ids)
        self.other = tuple((t + vocab // 2) % vocab if i in DIFFERENT else t for i, t in enumerate(ids))
        self.all_layers = range(n)
        sites = [s for s in self.resolver.table.values() if s.layer is not None]
        self.components = list(dict.fromkeys(str(s.component) for s in sites))
        kinds: dict[tuple[str, ...], list[int]] = {}  # layers by what they have
        for i in self.all_layers:
            has = tuple(c for c in self.components if self.site_exists(c, i))
            kinds.setdefault(has, []).append(i)
        self.middles = {layers[len(layers) // 2] for layers in kinds.values()}
        self.layers = sorted({0, n - 1} | self.middles)
        self.tolerance = Tolerance(self.resolver)
        self.sweep = SweepUnderTest(
            self.resolver, (self.ids, self.other), DIFFERENT[0], self.layers, self.middles
        )

    @property
    def limit(self) -> float:
        """What a law allows, relative to the largest value; TooNoisy when nothing can be said on this model."""
        return self.tolerance.limit

    # ---- which layers have what

    def site_exists(self, component: str, layer: int) -> bool:
        """Whether a layer has a component that can be read and written."""
        return f"layers.{layer}.{component}" in self.resolver.table

    def layers_with(self, *components: str, layers: Iterable[int] | None = None) -> list[int]:
        """The layers that have all of the components; DoesNotApply with the resolver's reason if none has."""
        chosen = self.layers if layers is None else layers
        found = [layer for layer in chosen if all(self.site_exists(c, layer) for c in components)]
        if not found:
            self._explain(components)
        return found

    def _explain(self, components: tuple[str, ...]) -> None:
        for component in components:
            try:
                self.resolver.site(component, self.layers[0])
            except UnsupportedError as error:
                raise DoesNotApply(str(error).split(": ", 1)[-1]) from error
        raise DoesNotApply(f"no layer has {' and '.join(components)}")

    def components_in_all(self, components: Sequence[str], layers: Iterable[int]) -> list[str]:
        """The components that every one of the layers has; DoesNotApply if none."""
        layers = list(layers)
        found = [c for c in components if all((c, i) in self.by_hand.places for i in layers)]
        if not found:
            self.layers_with(*components[:1], layers=layers)
            raise DoesNotApply(f"no component of {', '.join(components)} is in every layer")
        return found

    def first_middle_last(self) -> list[int]:
        """The first layer, a middle one and the last."""
        return sorted({0, *self.middle_last()})

    def middle_last(self) -> list[int]:
        """A middle layer and the last."""
        n = self.model.n_layers
        return sorted({n // 2, n - 1})

    # ---- runs

    def plain(self, ids: Iterable[int], net: nn.Module | None = None) -> mx.array:
        """Logits `[1, T, V]` of the model by itself, or of another module in its place."""
        logits = forward(self.net if net is None else net, mx.array([list(ids)]))
        mx.eval(logits)
        return logits

    def traced(self, edits: dict[str, mx.array] | None = None, sites: list[str] | None = None) -> Trace:
        """A trace of `ids` with whole sites replaced."""
        fns = {name: lambda _, value=value: value for name, value in (edits or {}).items()}
        with self.trace(self.ids, fns, cache=False, sites=sites) as trace:
            pass
        return trace

    def trace(
        self, ids: Sequence[int], fns: dict | None = None, cache: bool = True, sites: list[str] | None = None
    ) -> Trace:
        """A trace that is not begun, with edits and sites by name."""
        return Trace(self.resolver, mx.array([list(ids)]), None, fns, cache=cache, sites=sites)

    def _recorded(self, ids: tuple[int, ...]) -> Trace:
        with self.trace(ids) as trace:
            pass
        return trace

    @functools.cached_property
    def base(self) -> Trace:
        """The trace of `ids`, with all activations."""
        return self._recorded(self.ids)

    @functools.cached_property
    def source(self) -> Trace:
        """The trace of `other`, with all activations."""
        return self._recorded(self.other)

    # ---- by hand

    @functools.cached_property
    def by_hand(self) -> ModelByHand:
        """The model to be run by hand; of the resolver only the positions of modules are taken."""
        places = {
            (site.component, site.layer): (site.path, site.visit, site.slot, site.heads, site.side)
            for site in self.resolver.table.values()
            if site.layer is not None and site.component is not None
        }
        with_cache = bool(exceptional(self.net).needs_cache)
        return ModelByHand(self.net, places, self.resolver.structure.embed, with_cache)

    @functools.cached_property
    def attention_projected_as_is(self) -> set[int]:
        """The layers whose output projection is given, number by number, what their attention call returned."""
        places = self.by_hand.places.keys()
        layers = [i for i in self.all_layers if {("pattern", i), ("head", i)} <= places]
        return {i for i in layers if self.by_hand.projects_attention(i, self.ids)}
