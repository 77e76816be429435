"""The cells of an experiment: which components, layers, positions and heads are patched together.

grid = make_grid(model, pair, "mlp", positions="each")
cells = grid.cells(pair.roles("denoise"))    # a cell for each component, layer, group of positions, group of heads
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..anatomy.components import ALIASES, HEADED, KINDS, canonical
from ..arguments import indices_in, positions_in, whole_number
from ..engine.runs import Cell, Patch, Site
from ..errors import AlignmentError, InputError, PositionError, SiteError, SubjectError, closest
from .pairs import AlignedPair, Roles
from .protocol import Prompt, TracedModel


def components_of(component: str | Iterable[str]) -> list[str]:
    """The components by their own names; InputError for an unknown, repeated or missing one."""
    one = (
        isinstance(component, str) or not isinstance(component, Iterable) or not getattr(component, "ndim", 1)
    )
    given: list[Any] = [component] if one else list(component)
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


def positions_of(positions: Any, prompt: Prompt) -> list[int]:
    """Positions of a prompt: "each" for all of them, a region by name (subject, subject_last, last), or numbers."""
    if not isinstance(positions, str):
        return positions_in(positions, len(prompt))
    if positions == "each":
        return list(prompt.positions)
    if positions in prompt.regions:
        return list(prompt.regions[positions])
    if positions in ("subject", "subject_last"):
        raise SubjectError(f"positions={positions!r} needs the subject: pass subject=...")
    names = ["each", *dict.fromkeys(("subject", "subject_last", *prompt.regions))]
    raise InputError(f"positions={positions!r} is unknown; {closest(positions, names)}")


def groups_of(positions: Any, pair: AlignedPair) -> list[list[int]]:
    """The clean positions that are patched together; one group per position for "each", all in one for None."""
    paired = list(pair.of_clean)
    if positions is None:
        return [paired]
    if isinstance(positions, str) and positions == "each":
        return [[p] for p in paired]
    wanted = positions_of(positions, pair.clean_prompt)
    missing = [p for p in wanted if p not in pair.of_clean]
    if missing:
        raise PositionError(
            f"clean position {missing[0]} has no counterpart in the corrupted prompt; "
            f"the paired ones are {', '.join(map(str, paired))}"
        )
    return [wanted]


def window_of(layer: int, window: int, n_layers: int) -> range:
    """The layers patched together: `[l - w//2, l + ceil(w/2))`, cut at the edges (Meng et al. 2022, app. B)."""
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


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


@dataclass(frozen=True)
class Grid:
    """The axes of an experiment: component x layer x group of positions x group of heads.

    positions: of the clean prompt. heads: None where components have none. window: layers patched together. sites:
    those of the window around each layer, by component and layer.
    """

    components: list[str]
    layers: list[int]
    positions: list[list[int]]
    heads: list[tuple[int, ...]] | None
    window: int
    sites: dict[tuple[str, int], list[Site]]

    def cells(self, roles: Roles) -> list[Cell]:
        """A cell for each entry of the grid, in the order of its axes."""
        places = [
            (tuple(roles.at[p] for p in group), tuple(roles.source_at[p] for p in group))
            for group in self.positions
        ]
        entries = itertools.product(self.components, self.layers, places, self.heads or [None])
        return [
            Cell(tuple(Patch(site, at, source_at, heads) for site in self.sites[component, layer]))
            for component, layer, (at, source_at), heads in entries
        ]


def make_grid(
    model: TracedModel,
    pair: AlignedPair,
    component: str | Iterable[str],
    layers: Any = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
) -> Grid:
    """Everything that was asked for, checked before any pass."""
    components, centres = components_of(component), layers_of(model, layers)
    window = whole_number("window", window)
    groups = groups_of(positions, pair)
    n_clean, n_corrupted = len(pair.clean.ids), len(pair.corrupted.ids)
    if "pattern" in components and n_clean != n_corrupted:
        raise AlignmentError(
            f"the prompts have {n_clean} and {n_corrupted} tokens: a pattern says how much each token looks at "
            "each, so it can only be patched between prompts of one length"
        )
    head_groups = _heads_of(model, components, centres, heads)
    sites = {
        (name, layer): [model.resolver.site(name, i) for i in window_of(layer, window, model.n_layers)]
        for name, layer in itertools.product(components, centres)
    }
    return Grid(components, centres, groups, head_groups, window, sites)
