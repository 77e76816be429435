"""Interventions and sites that are named before a pass runs: found or refused before it, applied as it runs."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import mlx.core as mx

from ..anatomy.resolver import ModuleResolver, Site
from ..anatomy.taps import untapped
from ..errors import InputError, OrderError, SiteError
from ..interventions import Edit, refuse_uncalled
from ..values import checked, unbroken
from .activation import Activation, SiteState


def names_of(sites: Any) -> Iterable[str]:
    """Several names; InputError when they are none."""
    if not isinstance(sites, Iterable):
        raise InputError(f"sites is a list of names, not {sites!r}")
    return sites


def declared(resolver: ModuleResolver, interventions: Mapping[str, Edit]) -> list[tuple[str, Site, Edit]]:
    """The interventions with their sites found; InputError or SiteError before anything runs."""
    if not isinstance(interventions, Mapping):
        raise InputError(
            f"interventions are a mapping {{site: function}}, not {type(interventions).__name__}; several prompts are "
            "one list, model.trace([a, b])"
        )
    found = []
    for key, fn in interventions.items():
        site = resolver.resolve(key)
        key = key if isinstance(key, str) else site.name
        refuse_uncalled(fn)
        if not callable(fn):
            array = isinstance(fn, mx.array) or hasattr(fn, "__mlx_array__")
            hint = "; iv.add_vector(...) or iv.replace_with(...) makes one of it" if array else ""
            hint = "; iv.compose(f, g, ...) makes one of several" if isinstance(fn, list | tuple) else hint
            raise InputError(
                f"the intervention at {key!r} is {type(fn).__name__}, not a function array -> array{hint}"
            )
        if resolver.visits(site) > 1 and site.component is None and "@" not in key:
            raise SiteError(
                f"{key!r} is called {resolver.visits(site)} times in one pass: write {key}@0, {key}@1, ..."
            )
        _check_directions(resolver, key, site, fn)
        found.append((key, site, fn))
    return found


def _check_directions(resolver: ModuleResolver, key: str, site: Site, fn: Any) -> None:
    """InputError for an edit with a direction that was taken at another site."""
    for name in getattr(fn, "sites", ()):
        taken = resolver.resolve(name)
        if (taken.port, taken.view, taken.slot) != (site.port, site.view, site.slot):
            raise InputError(
                f"the intervention at {key!r} holds a direction that was taken at {name}, where other numbers mean "
                f"other things: edit {name!r}, or put direction.vector there to mean it"
            )


def check_reached(what: str, sites: Mapping[str, Site], order: Container) -> None:
    """OrderError when the pass, which is over, called a named site never; `order` holds the ports that it called."""
    for key, site in sites.items():
        if site.port not in order:
            raise OrderError(
                f"{what} {key!r} did not happen: the pass never called it. "
                "`model.resolver.sites()` lists what this model runs"
            )


def edit_at(key: str, site: Site, fn: Edit, base_of: Callable[[Site], mx.array | None]) -> Edit:
    """A declared intervention as an edit of the array at its port; `base_of` says what a site is added to."""

    def edit(x: mx.array) -> mx.array:
        base = base_of(site)
        before = site.get(x, base)
        state = SiteState(key)
        try:
            with untapped():
                after = fn(Activation.of(before, state))
        finally:
            state.close()
        return site.put(x, unbroken(before, checked(after, before, key), site.name), base)

    return edit
