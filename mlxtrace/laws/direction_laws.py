"""The laws of directions: means of raw activations by hand, and what adding one does to a class of prompts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..interventions import add_vector
from .law import DoesNotApply, Measurement, as_numpy, law, relative_error
from .model_under_test import LENGTH, ModelUnderTest

COMPONENTS = ("resid_post", "attn", "mlp", "head")
SIZES = ((LENGTH, LENGTH - 3, LENGTH - 1), (LENGTH - 2, LENGTH))  # the prompts' lengths, by class


def _classes(tested: ModelUnderTest) -> list[list[list[int]]]:
    """Two lists of prompts of several lengths, each ending in another token."""
    vocab, made = tested.model.vocab_size, []
    for k, lengths in enumerate(SIZES):
        made.append(
            [[(3 + 5 * k + 11 * j + (7 + j) * i) % vocab for i in range(n)] for j, n in enumerate(lengths)]
        )
    return made


def _sites(tested: ModelUnderTest) -> list[tuple[str, int]]:
    """A component in each of the first, a middle and the last layer, as many of them as there are."""
    there = [c for c in COMPONENTS if any((c, i) in tested.by_hand.places for i in tested.all_layers)]
    layers = tested.first_middle_last()
    count = max(len(there), len(layers)) if there else 0
    wanted = [(there[i % len(there)], layers[i % len(layers)]) for i in range(count)]
    found = [name for name in wanted if name in tested.by_hand.places and _plain(tested, name)]
    if not found:
        raise DoesNotApply("no site with a vector for each token is in the layers that are looked at")
    found = [name for name in found if _differs(tested, name)]
    if not found:
        raise DoesNotApply("the activations of the layers that are looked at are the same for every prompt")
    return found


def _differs(tested: ModelUnderTest, name: tuple[str, int]) -> bool:
    """Whether a site's activations depend on the prompt at all; where they do not there is no direction."""
    one, other = (_raw(tested, name, of[0], [-1]) for of in _classes(tested))
    return relative_error(one, other) > tested.limit


def _plain(tested: ModelUnderTest, name: tuple[str, int]) -> bool:
    """Whether a site's array is `[1, T, ...]`, not several streams in one, and passes in one call by hand."""
    if tested.resolver.table[f"layers.{name[1]}.{name[0]}"].view == "sum":
        return False
    _, kept = tested.by_hand.run(tested.ids, keep=[name])
    return kept[name].shape[:2] == (1, LENGTH)


def _raw(tested: ModelUnderTest, name: tuple[str, int], ids: list[int], at: list[int]) -> np.ndarray:
    """float64: the mean over some positions of what passes at a site, split by head where it is."""
    _, kept = tested.by_hand.run(ids, keep=[name])
    return kept[name][0, at].astype(np.float64).mean(0)


@law("a direction is the difference of mean raw activations", "model.direction")
def by_hand(tested: ModelUnderTest) -> Measurement:
    """Lists of unequal number and length; the last token, and two tokens averaged; by plain passes and NumPy."""
    positive, negative = _classes(tested)
    errors = []
    for i, name in enumerate(_sites(tested)):
        positions: Any = "last" if i % 2 == 0 else [1, -2]
        at = [-1] if i % 2 == 0 else [1, -2]
        ends = [np.mean([_raw(tested, name, ids, at) for ids in of], axis=0) for of in (positive, negative)]
        found = tested.model.direction(positive, negative, f"layers.{name[1]}.{name[0]}", positions=positions)
        scale = max(float(np.abs(end).max()) for end in ends)
        vector = np.array(found.vector, dtype=np.float64)
        errors.append(float(np.abs(vector - (ends[0] - ends[1])).max()) / scale)
    return Measurement(max(errors), tested.limit)


@law("adding a direction moves one class's mean onto the other's", "iv.add_vector of a direction")
def moves(tested: ModelUnderTest) -> Measurement:
    """At the site, at the last token and nowhere else; -direction moves the other one back."""
    classes, errors = _classes(tested), []
    for name in _sites(tested):
        site = f"layers.{name[1]}.{name[0]}"
        found = tested.model.direction(*classes, site)
        for of, to, step in ((classes[1], classes[0], found), (classes[0], classes[1], -found)):
            moved = [_edited(tested, site, ids, add_vector(step, -1)) for ids in of]
            right = np.mean([_raw(tested, name, ids, [-1]) for ids in to], axis=0)
            errors.append(relative_error(np.mean([x[-1] for x in moved], axis=0), right))
            errors += [_others(tested, name, ids, x) for ids, x in zip(of, moved, strict=True)]
    return Measurement(max(errors), tested.limit)


def _edited(tested: ModelUnderTest, site: str, ids: list[int], edit: Any) -> np.ndarray:
    """float64 `[T, ...]`: the site as the pass goes on with it."""
    with tested.trace(ids, {site: edit}) as trace:
        pass
    return as_numpy(trace.activations[site])[0].astype(np.float64)


def _others(tested: ModelUnderTest, name: tuple[str, int], ids: list[int], moved: np.ndarray) -> float:
    """How far the tokens before the last one are from what they were."""
    at = list(range(len(ids) - 1))
    _, kept = tested.by_hand.run(ids, keep=[name])
    return relative_error(moved[at], kept[name][0, at])
