"""Directions: what separates two lists of prompts at a site, as a vector that can be added there.

    direction = model.direction(polite, rude, "layers.10")
    model.generate(prompt, interventions={"layers.10": iv.add_vector(4 * direction)})

The difference of the means of two classes' activations (Marks and Tegmark 2023, arXiv:2310.06824), added while text is
written: Turner et al. 2023 (arXiv:2308.10248) with one prompt in each list, Rimsky et al. 2023 (arXiv:2312.06681) with
many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.runs import Keep, Run, Site, capture_sites, to_numpy
from ..results.direction import Direction, plain
from .direction_lists import (
    EffectError,
    InputError,
    Placed,
    Prompt,
    SiteError,
    TracedModel,
    UnsupportedError,
    closest,
    indices_in,
    read_lists,
)
from .separation import held_out

METHODS = ("mean_difference",)
LEAST = 1e-6  # of the activations' own length: a direction that is no longer is rounding in any precision
DOUBTFUL = 0.02  # and one that is no longer than this may be, in half precision
Measured = tuple[tuple[int, ...], tuple[int, ...]]  # a prompt's ids, and its positions


def direction(
    model: TracedModel,
    positive: Sequence[Any],
    negative: Sequence[Any],
    site: str,
    method: str = "mean_difference",
    positions: Any = "last",
    heads: Any = None,
) -> Direction:
    """What the activations of some prompts have and those of others have not, as a vector: a difference of means.

    Args:
        positive: a list of prompts (text, token ids, chats, `Prompt`s), of any lengths and number.
        negative: another one. They need not be as many.
        site: where, by any name that `trace(interventions=...)` takes: "layers.10", "layers.10.mlp", "layers.3.head".
        method: "mean_difference".
        positions: in each prompt: "last", "subject", "subject_last" (of `model.prompt(text, subject=...)`), another
            region of the prompt's by name, an int or a list; None: all tokens but special ones. What several have is
            averaged first, so that each prompt counts once.
        heads: for a site that is split by head, those that the direction is of; None: all.

    Returns:
        A `Direction`: `.vector`, `.norm`, `.separation` (of prompts that were held out), `.site`; `4 * direction` and
        `-direction` are taken where arrays are.

    Raises:
        InputError: a list is empty or no list, a prompt is in both, or the method is unknown.
        EffectError: the activations do not differ, or are not finite.
        SiteError, UnsupportedError: there is no such site, or it has no vector for each token.
        TokenError, SubjectError, PositionError: a prompt is none, or lacks what `positions` names.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> paris = [f"The {x} is in the city of" for x in ("Eiffel Tower", "Louvre Museum", "Pantheon")]
        >>> rome = [f"The {x} is in the city of" for x in ("Colosseum", "Trevi Fountain", "Spanish Steps")]
        >>> direction = model.direction(paris, rome, "layers.8")
        >>> direction.site, direction.shape, direction.separation
        ('layers.8.resid_post', (128,), 1.0)
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown; {closest(str(method), METHODS)}")
    lists = read_lists(model, {"positive": positive, "negative": negative}, positions)
    where = _site(model, site)  # after the model has been looked at anew, as reading prompts does
    chosen = _heads(model, where, heads)
    rows: dict[Measured, np.ndarray] = {}
    for name, prompts in lists.items():
        for i, (prompt, at) in enumerate(prompts):
            if (prompt.ids, at) not in rows:
                rows[prompt.ids, at] = _activation(model, where, prompt, at, f"prompt {i} of {name}")
    if chosen is not None:
        for row in rows.values():
            row[[h for h in range(len(row)) if h not in chosen]] = 0
    return _made(model, where, lists, rows, method, positions, chosen)


def _made(
    model: TracedModel,
    site: Site,
    lists: dict[str, list[Placed]],
    rows: dict[Measured, np.ndarray],
    method: str,
    positions: Any,
    heads: list[int] | None,
) -> Direction:
    """The direction of what was measured, float64 throughout."""
    keys = {name: [(prompt.ids, at) for prompt, at in prompts] for name, prompts in lists.items()}
    ends = {name: np.stack([rows[key] for key in of]) for name, of in keys.items()}
    flat = {name: x.reshape(len(x), -1) for name, x in ends.items()}
    difference = ends["positive"].mean(0) - ends["negative"].mean(0)
    norm = float(np.linalg.norm(difference))
    typical = float(np.linalg.norm(np.concatenate([*flat.values()]), axis=1).mean())
    if norm <= LEAST * typical:
        raise EffectError(
            f"the activations of both lists are the same on average at {site.name}, positions {positions!r} (their "
            f"difference is {norm:.2g}, they are {typical:.2g}): the prompts do not differ yet there, or only behind it"
        )
    notes = [_DOUBT] if norm <= DOUBTFUL * typical else []
    once = {name: np.stack([rows[key].ravel() for key in dict.fromkeys(of)]) for name, of in keys.items()}
    along = {name: x @ (difference.ravel() / norm) for name, x in flat.items()}
    return Direction(
        values=difference,
        positive_along=along["positive"],
        negative_along=along["negative"],
        site=site.name,
        model=model.name,
        positive=[prompt.text for prompt, _ in lists["positive"]],
        negative=[prompt.text for prompt, _ in lists["negative"]],
        positions=list(positions) if isinstance(positions, range | tuple) else plain(positions),
        typical=typical,
        separation=held_out(once["positive"], once["negative"]),
        method=method,
        heads=heads,
        notes=notes,
    )


_DOUBT = (
    "it is less than 2 % of the activations' own length: in half precision that may be rounding (dtype='float32' would "
    "tell), and adding it as it is will do little"
)


def _site(model: TracedModel, name: str) -> Site:
    """The site; refused where tokens have no vector of their own."""
    site = model.resolver.resolve(name)
    if site.side == "pattern":
        raise UnsupportedError(
            f"{site.name} says how much each token looks at each, which has as many numbers as the prompt has tokens: "
            "there is no direction in it. Take q, k, v or head"
        )
    if site.component is None and "@" not in str(name) and model.resolver.visits(site) > 1:
        raise SiteError(f"{name!r} is called several times in one pass: write {name}@0, {name}@1, ...")
    return site


def _heads(model: TracedModel, site: Site, heads: Any) -> list[int] | None:
    if heads is None:
        return None
    if site.component not in ("head", "q", "k", "v") or site.layer is None:
        raise InputError(
            f"heads= goes with a site that is split by head (head, q, k, v), not with {site.name}"
        )
    return sorted(indices_in("head", heads, model.resolver.head_count(site.component, site.layer)))


def _activation(model: TracedModel, site: Site, prompt: Prompt, at: tuple[int, ...], what: str) -> np.ndarray:
    """float64 `[D]`, or `[heads, D]`: the mean over some positions of a site's array, in a pass of the prompt alone."""
    kept = capture_sites(model.resolver, Run(prompt.ids), [site], {site.name: Keep(positions=at)})[site.name]
    if kept.ndim < 3 or kept.shape[:2] != (1, len(at)):
        raise UnsupportedError(
            f"{site.name} is {list(kept.shape)}, not a vector for each token [1, T, ...]: take another site"
        )
    values = to_numpy(kept)[0].astype(np.float64)
    if not np.isfinite(values).all():
        raise EffectError(
            f"{what}: its activation at {site.name} is NaN or infinite in {kept.dtype}: load the model with "
            "dtype='float32', or look at an earlier layer"
        )
    return values.mean(0)
