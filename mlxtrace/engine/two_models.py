"""A source run in another model of the same shape: its sites, and whether they hold what this model's do."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError, MlxtraceError
from .calibration import ModuleResolver, Site, capture, norm_input, rows_of


def site_in(resolver: ModuleResolver, site: Site) -> Site:
    """The site of another model that a site stands for: the same component of the same layer."""
    return norm_input(resolver) if site.component is None else resolver.site(site.component, site.layer)


def check_shapes(model: ModuleResolver, other: ModuleResolver, sites: Iterable[Site]) -> str:
    """InputError unless the sites hold arrays of one shape in both models, on a short prompt; how they are rounded.

    What comes back is '' where both compute in one dtype.
    """
    here = list(dict.fromkeys(sites))
    try:
        there = [site_in(other, site) for site in here]
    except MlxtraceError as error:
        raise InputError(f"source_model: {error}") from error
    _, own = capture(model, rows_of(model, 1), here)
    _, given = capture(other, rows_of(model, 1), there)
    for name in own:
        if own[name].shape != given[name].shape:
            raise InputError(
                f"source_model is no model of the same shape: of {own[name].shape[1]} tokens {name} is "
                f"{list(given[name].shape)} there and {list(own[name].shape)} here"
            )
    kinds = {(str(given[name].dtype), str(own[name].dtype)) for name in own}
    rounded = sorted({b.removeprefix("mlx.core.") for a, b in kinds if a != b and b != "mlx.core.float32"})
    return f"the source model's activations are rounded to {' and '.join(rounded)}" if rounded else ""
