"""The cells of an experiment: which components, layers, positions and heads are patched together.

grid = make_grid(model, pair, "mlp", positions="each")
cells = grid.cells(pair.roles("denoise"))    # a cell for each component, layer, group of positions, group of heads
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..anatomy.components import ALIASES, HEADED, KINDS, canonical, window_by_component, window_of
from ..arguments import AS_SPANS, indices_in, positions_in, whole_number
from ..engine.runs import Cell, Patch, Site
from ..errors import AlignmentError, InputError, PositionError, SiteError, SubjectError, closest
from .pairs import AlignedPair, Roles, regions_of
from .protocol import Prompt, TracedModel

WITHIN = ("mean", "last", "together")  # how the tokens of a region are patched


def components_of(component: str | Iterable[str]) -> list[str]:
    """The components by their own names; InputError for an unknown, repeated or missing one."""
    several = isinstance(component, Iterable) and getattr(component, "ndim", 1)
    given: list[Any] = list(component) if several and not isinstance(component, str) else [component]
    try:
        names = [canonical(name) for name in given]
    except SiteError as error:
        raise InputError(str(error)) from None
    if not names or len(set(names)) < len(names):
        raise InputError(f"components {given!r}: name one, or several different ones")
    return names


def kind_of(name: str, kind: Any) -> str | None:
    """What a causal trace restores or severs: "mlp", "attn", or None; InputError for anything else."""
    found = ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if found is not None and (not isinstance(found, str) or found not in KINDS):
        raise InputError(f"{name}={kind!r} is unknown; {closest(str(kind), ['mlp', 'attn'])}, or None")
    return found


def layers_of(model: TracedModel, layers: int | Iterable[int] | None) -> list[int]:
    """Layer indices, checked; all of them for None."""
    return list(range(model.n_layers)) if layers is None else indices_in("layer", layers, model.n_layers)


def positions_of(
    positions: Any, prompt: Prompt, regions: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """Positions of a prompt: "each" for all of them, a region by name (subject, subject_last, last), or numbers.

    regions: further ones by name, which come first.
    """
    if not isinstance(positions, str):
        return positions_in(positions, len(prompt))
    if positions == "each":
        return list(prompt.positions)
    known = {**prompt.regions, **(regions or {})}
    if positions in known:
        return list(known[positions])
    if positions in ("subject", "subject_last"):
        raise SubjectError(f"positions={positions!r} needs the subject: pass subject=...")
    names = ["each", *dict.fromkeys(("subject", "subject_last", *known))]
    hint = AS_SPANS if positions.startswith("span") else closest(positions, names)
    raise InputError(f"positions={positions!r} is unknown; {hint}")


@dataclass(frozen=True)
class Places:
    """The positions of a pair that are patched: groups, each patched together, and what a result says of them.

    axis: "position" or "region", with a label for each; None when there is one group. averaged: for each label the
    groups whose values are averaged. within: how the tokens of a region are patched.
    """

    groups: list[list[int]]
    axis: str | None = None
    labels: list[Any] = field(default_factory=lambda: [None])
    averaged: list[list[int]] = field(default_factory=lambda: [[0]])
    within: str = ""
    notes: tuple[str, ...] = ()

    def averages(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The values of groups along an axis as those of labels."""
        if all(groups == [i] for i, groups in enumerate(self.averaged)):
            return values
        parts = [values.take(groups, axis).mean(axis, keepdims=True) for groups in self.averaged]
        return np.concatenate(parts, axis)


def places_of(positions: Any, pair: AlignedPair, within: Any = None) -> Places:
    """Where a pair is patched, as positions= says: None for the whole sequence together, "each", "regions", or some.

    within: of a region, "mean" (each of its tokens by itself, averaged), "last", or "together".
    """
    words = isinstance(positions, str)
    by_region = words and positions == "regions"
    if within is not None and (not by_region or not isinstance(within, str) or within not in WITHIN):
        raise InputError(
            f'within={within!r} goes with positions="regions", and is "mean" (each token by itself, averaged), '
            '"last" or "together"'
        )
    paired = list(pair.of_clean)
    if positions is None:
        return Places([paired])
    if words and positions == "each":
        return Places([[p] for p in paired], "position", paired, [[i] for i in range(len(paired))])
    if by_region:
        return _by_region(pair, within or "mean")
    wanted = positions_of(positions, pair.clean_prompt, _regions(pair))
    missing = [p for p in wanted if p not in pair.of_clean]
    if missing:
        raise PositionError(
            f"clean position {missing[0]} has no counterpart in the corrupted prompt; "
            f"the paired ones are {', '.join(map(str, paired))}"
        )
    return Places([wanted])


def _regions(pair: AlignedPair) -> Mapping[str, Sequence[int]]:
    """The regions of a pair by name: its own, a chat's turns, or the roles of its tokens; none without a subject."""
    if pair.regions or pair.subject is None:
        return pair.regions
    return regions_of(pair.clean_prompt, {})


def _by_region(pair: AlignedPair, within: str) -> Places:
    """A label for each region that has a position in both prompts."""
    regions = _regions(pair) or regions_of(pair.clean_prompt, {})  # which says what is missing
    groups: list[list[int]] = []
    labels, averaged, lost = [], [], []
    for name, positions in regions.items():
        found = [p for p in positions if p in pair.of_clean]
        lost += [p for p in positions if p not in pair.of_clean]
        if not found:
            continue
        wanted = {"mean": [[p] for p in found], "last": [[found[-1]]], "together": [found]}[within]
        groups += [group for group in wanted if group not in groups]
        labels.append(name)
        averaged.append([groups.index(group) for group in wanted])
    if not labels:
        raise AlignmentError("no region of the clean prompt has a counterpart in the corrupted one")
    notes = (f"{len(set(lost))} tokens of its regions have no counterpart, and are left out",) if lost else ()
    return Places(groups, "region", labels, averaged, within, notes)


def windows_of(model: TracedModel, components: list[str], window: Any) -> dict[str, int]:
    """The number of layers patched together, by component; InputError for what is no number, "auto" or names."""
    found = window_by_component(window, components, model.n_layers)
    return {name: whole_number("window", one) for name, one in found.items()}


def _heads_of(
    model: TracedModel, components: list[str], layers: list[int], heads: Any
) -> list[tuple[int, ...]] | None:
    headed = [c for c in components if c in HEADED]
    if not headed:
        if heads is not None:
            raise InputError(
                f"heads= goes with component={' or '.join(HEADED)}, not with {', '.join(components)}"
            )
        return None
    if len(headed) < len(components):
        raise InputError("components with heads and without cannot share a result: make two calls")
    counts = {model.resolver.head_count(c, layer) for c in components for layer in layers}
    if len(counts) > 1:
        raise InputError(
            f"these components and layers have different numbers of heads ({sorted(counts)}): make a call for each"
        )
    n = counts.pop()
    if heads is None or (isinstance(heads, str) and heads == "each"):
        return [(h,) for h in range(n)]
    return [tuple(indices_in("head", heads, n))]


def _neurons_of(
    model: TracedModel, components: list[str], layers: list[int], neurons: Any, window: int
) -> list[tuple[int, ...]] | None:
    if neurons is None:
        return None
    if components != ["neuron"]:
        raise InputError(f"neurons= goes with component='neuron' by itself, not with {', '.join(components)}")
    if window > 1:
        raise InputError(
            f"neurons= with window={window}: a neuron has nothing in common with that of the same number in the next "
            "layer; leave window out"
        )
    counts = {layer: model.resolver.neuron_count(layer) for layer in layers}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{n} at layer {layer}" for layer, n in counts.items())
        raise InputError(f"these layers have different numbers of neurons ({said}): make a call for each")
    n = counts[layers[0]]
    if isinstance(neurons, str) and neurons == "each":
        return [(j,) for j in range(n)]
    return [tuple(indices_in("neuron", neurons, n))]


@dataclass(frozen=True)
class Grid:
    """The axes of an experiment: component x layer x group of positions x group of heads or neurons.

    places: positions of the clean prompt. heads: None where components have none. windows: layers patched together, by
    component. sites: those of the window around each layer, by component and layer. neurons: None for all together.
    """

    components: list[str]
    layers: list[int]
    places: Places
    heads: list[tuple[int, ...]] | None
    windows: dict[str, int]
    sites: dict[tuple[str, int], list[Site]]
    neurons: list[tuple[int, ...]] | None = None

    @property
    def units(self) -> list[tuple[int, ...] | None]:
        """The groups of heads or of neurons; None where a site is patched whole."""
        return [*(self.heads or self.neurons or [None])]

    @property
    def named_units(self) -> dict[str, list[tuple[int, ...]]]:
        """The groups by what they are of, "head" or "neuron"; none where a site is patched whole."""
        found = {"head": self.heads, "neuron": self.neurons}
        return {name: groups for name, groups in found.items() if groups}

    def cells(self, roles: Roles) -> list[Cell]:
        """A cell for each entry of the grid, in the order of its axes."""
        places = [
            (tuple(roles.at[p] for p in group), tuple(roles.source_at[p] for p in group))
            for group in self.places.groups
        ]
        entries = itertools.product(self.components, self.layers, places, self.units)
        return [
            Cell(tuple(Patch(site, at, source_at, units) for site in self.sites[component, layer]))
            for component, layer, (at, source_at), units in entries
        ]


def make_grid(
    model: TracedModel,
    pair: AlignedPair,
    component: str | Iterable[str],
    layers: Any = None,
    positions: Any = None,
    heads: Any = None,
    window: Any = 1,
    within: Any = None,
    neurons: Any = None,
) -> Grid:
    """Everything that was asked for, checked before any pass."""
    return on_pair(grid_of(model, component, layers, heads, window, neurons), pair, positions, within)


def grid_of(
    model: TracedModel,
    component: str | Iterable[str],
    layers: Any = None,
    heads: Any = None,
    window: Any = 1,
    neurons: Any = None,
) -> Grid:
    """What is the same for every pair: the grid without positions."""
    components, centres = components_of(component), layers_of(model, layers)
    windows = windows_of(model, components, window)
    head_groups = _heads_of(model, components, centres, heads)
    neuron_groups = _neurons_of(model, components, centres, neurons, max(windows.values()))
    sites = {
        (name, layer): [model.resolver.site(name, i) for i in window_of(layer, windows[name], model.n_layers)]
        for name, layer in itertools.product(components, centres)
    }
    return Grid(components, centres, Places([]), head_groups, windows, sites, neuron_groups)


def on_pair(grid: Grid, pair: AlignedPair, positions: Any = None, within: Any = None) -> Grid:
    """The grid with the positions of a pair."""
    places = places_of(positions, pair, within)
    n_clean, n_corrupted = len(pair.clean.ids), len(pair.corrupted.ids)
    if "pattern" in grid.components and n_clean != n_corrupted:
        raise AlignmentError(
            f"the prompts have {n_clean} and {n_corrupted} tokens: a pattern says how much each token looks at "
            "each, so it can only be patched between prompts of one length"
        )
    return replace(grid, places=places)


def settings_of(pair: AlignedPair, grid: Grid, coords: dict[str, Any], positions: Any) -> dict[str, Any]:
    """What a result says of how it was made, for titles."""
    together = grid.neurons and "neuron" not in coords
    return {"positions": positions} | {
        **({"within": grid.places.within} if grid.places.within else {}),
        **({"windows": dict(grid.windows)} if len(set(grid.windows.values())) > 1 else {}),
        **({"neurons": list(grid.neurons[0])} if grid.neurons and together else {}),
        **({"corruption": pair.corruption} if pair.corruption else {}),
        **({} if (noise := pair.corrupted.noise) is None else {"samples": len(noise)}),
    }
