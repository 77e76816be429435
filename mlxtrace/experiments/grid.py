"""The cells of an experiment: which components, layers, positions and heads are patched together.

laid = grid(model, both, "denoise", "mlp", ...)       # a cell for each component, layer, position, head
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..anatomy.components import HEADED, canonical
from ..arguments import as_integer, indices_in, positions_in
from ..engine.runs import Cell, Patch
from ..errors import AlignmentError, InputError, PositionError, SiteError, SubjectError, closest
from .pairs import Pair
from .protocol import TracedModel


def components_of(component: str | Iterable[str]) -> list[str]:
    """The components by their own names; InputError for an unknown, repeated or missing one."""
    one = (
        isinstance(component, str) or not isinstance(component, Iterable) or not getattr(component, "ndim", 1)
    )
    given = [component] if one else list(component)
    try:
        names = [canonical(name) for name in given]
    except SiteError as error:
        raise InputError(str(error)) from None
    if not names or len(set(names)) < len(names):
        raise InputError(f"components {given!r}: name one, or several different ones")
    return names


def layers_of(model: TracedModel, layers: int | Iterable[int] | None) -> list[int]:
    """Layer indices, checked; all of them for None."""
    return list(range(model.n_layers)) if layers is None else indices_in("layer", layers, model.n_layers)


def positions_of(positions: Any, both: Pair, n_tokens: int) -> list[list[int]]:
    """The groups of clean positions that are patched together; one group per position for "each"."""
    paired = list(both.of_clean)
    if positions is None:
        return [paired]
    if isinstance(positions, str):
        if positions == "each":
            return [[p] for p in paired]
        if positions == "last":
            return [[n_tokens - 1]]
        if positions not in ("subject", "subject_last"):
            names = ["each", "subject", "subject_last", "last"]
            raise InputError(f"positions={positions!r} is unknown; {closest(positions, names)}")
        if both.subject is None:
            raise SubjectError(f"positions={positions!r} needs the subject: pass subject=...")
        wanted = list(both.subject) if positions == "subject" else [both.subject[-1]]
    else:
        wanted = positions_in(positions, n_tokens)
    missing = [p for p in wanted if p not in both.of_clean]
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
            f"these components and layers have different numbers of heads ({sorted(counts)}): ask apart"
        )
    n = counts.pop()
    if heads is None or (isinstance(heads, str) and heads == "each"):
        return [(h,) for h in range(n)]
    return [tuple(indices_in("head", heads, n))]


@dataclass(frozen=True)
class Grid:
    """The cells of an experiment and their axes: component x layer x positions x heads."""

    cells: list[Cell]
    components: list[str]
    layers: list[int]
    positions: list[list[int]]
    heads: list[tuple[int, ...]] | None


def grid(
    model: TracedModel,
    both: Pair,
    direction: str,
    component: str | Iterable[str],
    layers: Any = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
) -> Grid:
    """Lay the cells out; everything that was asked for is checked here, before any pass."""
    components, layers = components_of(component), layers_of(model, layers)
    given, window = window, as_integer(window)
    if window is None or window < 1:
        raise InputError(f"window is a number of layers, 1 or more, not {given!r}")
    groups = positions_of(positions, both, len(both.clean.ids))
    if "pattern" in components and len(both.clean.ids) != len(both.corrupted.ids):
        raise AlignmentError(
            f"the prompts have {len(both.clean.ids)} and {len(both.corrupted.ids)} tokens: a pattern says how much "
            "each token looks at each, so it can only be patched between prompts of one length"
        )
    head_groups = _heads_of(model, components, layers, heads)
    cells = []
    for name in components:
        for layer in layers:
            sites = [model.resolver.site(name, i) for i in window_of(layer, window, model.n_layers)]
            for group in groups:
                at, source_at = tuple(both.of_clean[p] for p in group), tuple(group)
                if direction == "noise":
                    at, source_at = source_at, at
                for head in head_groups or [None]:
                    cells.append(Cell(tuple(Patch(site, at, source_at, head) for site in sites)))
    return Grid(cells, components, layers, groups, head_groups)
