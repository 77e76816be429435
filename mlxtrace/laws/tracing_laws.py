"""The laws of tracing: watching changes nothing, what is shown is what passes through, an edit is the edit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .. import interventions as iv
from .law import DoesNotApply, Measurement, as_numpy, differences, largest, law, listed, relative_error
from .model_under_test import LENGTH, ModelUnderTest
from .pair_by_hand import INSIDE, PairByHand, Write


@law("two plain runs agree to the bit", "any number: this model's own answer changes from run to run")
def repeats(tested: ModelUnderTest) -> Measurement:
    """The model is a function of its tokens."""
    return Measurement(relative_error(tested.plain(tested.ids), tested.plain(tested.ids)), 0.0)


@law("an untouched trace changes no bit and leaves no mark", "any number: watching this model changes it")
def untouched(tested: ModelUnderTest) -> Measurement:
    """Logits with every module tapped are the plain ones, and afterwards all is as before."""
    classes = [type(m) for m in tested.net.modules()]
    expected = tested.plain(tested.ids)
    error = max(relative_error(x, expected) for x in (tested.base.output, tested.plain(tested.ids)))
    if classes != [type(m) for m in tested.net.modules()]:
        return Measurement(float("inf"), 0.0, "modules kept their traced class")
    return Measurement(error, 0.0)


@law("a site replaced by itself changes nothing", "edits and patches at the sites named above")
def itself(tested: ModelUnderTest) -> Measurement:
    """All components of a few layers in one pass, in which every site must still be reached by what it was; where
    that fails, one at a time to name them.
    """
    sites, layers = tested.resolver.table.items(), {None, *tested.layers}
    names = [name for name, site in sites if site.layer in layers]
    kept = {name: tested.base.activations[name] for name in names}
    arrived: dict[str, float] = {}

    def replaced(x: mx.array, name: str) -> mx.array:
        arrived[name] = relative_error(x, kept[name])
        return kept[name]

    fns = {name: functools.partial(replaced, name=name) for name in names}
    with tested.trace(tested.ids, fns, cache=False):
        pass
    if not any(arrived.values()):
        return Measurement(0.0, 0.0, f"{len(names)} sites")
    errors = {
        name: relative_error(tested.traced({name: kept[name]}).output, tested.base.output) for name in names
    }
    changing = [name for name, error in errors.items() if error]
    largest_error = max(arrived.values())
    if changing and all(name.rsplit(".", 1)[-1] in INSIDE for name in changing):
        note = f"to rounding at {listed(changing)}: laid out anew in memory"
        return Measurement(largest_error, tested.limit, note)
    note = f"not so at {listed(changing)}" if changing else "not so when all are replaced together"
    return Measurement(largest_error, 0.0, note)


@law("activations are what passes through the modules", "what traces and caches show")
def activations(tested: ModelUnderTest) -> Measurement:
    """Every component of a few layers, by name, as a trace keeps it and as it is seen by hand."""
    layers = {*tested.layers, *tested.first_middle_last()}
    names = [name for name in tested.by_hand.places if name[1] in layers]
    logits, kept = tested.by_hand.run(tested.ids, keep=names)
    _, shown = tested.model.run_with_cache(list(tested.ids))
    sites = {f"layers.{layer}.{component}": kept[component, layer] for component, layer in names}
    errors = {name: relative_error(as_numpy(shown[name]), right) for name, right in sites.items()}
    errors["logits"] = relative_error(as_numpy(tested.base.output)[0], logits)
    worst = max(errors, key=lambda name: errors[name])
    note = f"worst: {worst}" if errors[worst] > tested.limit else f"{len(errors)} sites"
    return Measurement(errors[worst], tested.limit, note)


@law(
    "what is kept is kept: later writes of the model do not reach it",
    "activations of models that write in place",
)
def kept(tested: ModelUnderTest) -> Measurement:
    """With layers that overwrite the arrays that they were given, the same activations and the same sweep."""
    by_hand, last = tested.by_hand, tested.layers[-1]
    plain, _ = by_hand.run(tested.ids)
    components = [c for c in ("resid_pre", "attn", "mlp", "resid_post") if (c, last) in by_hand.places]
    if not components or not all(("resid_pre", i) in by_hand.places for i in tested.all_layers):
        raise DoesNotApply("layers are never called, so none can write into what it was given")
    pair = PairByHand(tested, components, [last])
    sweep = functools.partial(pair.experiment, components, layers=last, positions=[3, LENGTH - 1])
    before, shown = sweep(), tested.base.activations
    with by_hand.overwriting():
        if differences(by_hand.run(tested.ids)[0], plain).max():
            raise DoesNotApply("this model goes on reading what its layers were given")
        after, again = sweep(), tested.model.run_with_cache(list(tested.ids))[1]
        errors = [0.0 if np.array_equal(before.raw, after.raw) else 1.0]
        sites = [name for name, site in tested.resolver.table.items() if site.layer is not None]
        modules = [by_hand.places[c, last].path for c in components if c in ("attn", "mlp")]
        for name in [*sites, *modules]:
            right = as_numpy(shown[name])
            for _ in range(2):  # the second time after the reader has written into what he got
                x = again[name]
                errors.append(float(np.abs(as_numpy(x) - right).max()))
                x *= 0
    return Measurement(max(errors), 0.0)


@law("an edit in a trace is the edit, by hand", "edits and interventions")
def edits(tested: ModelUnderTest) -> Measurement:
    """Rows assigned in a trace's body, and interventions by name."""
    layer = tested.layers[len(tested.layers) // 2]
    component = tested.components_in_all(["mlp", "attn", "resid_post"], [layer])[0]
    name, every = f"layers.{layer}.{component}", tuple(range(LENGTH))
    plain, have = tested.by_hand.run(tested.ids, keep=[(component, layer)])
    value = tested.source.activations[name]
    if value.ndim != 3:
        raise DoesNotApply(f"{component} is not shaped [rows, tokens, width] here")
    given, old = as_numpy(value), have[component, layer]

    def by_hand(new: np.ndarray) -> np.ndarray:
        return tested.by_hand.run(tested.ids, [Write(component, layer, every, new, every)])[0]

    def rows(at: Sequence[int], new: np.ndarray | float) -> np.ndarray:
        out = old.copy()
        out[:, list(at)] = new
        return out

    with tested.model.trace(list(tested.ids)) as trace:
        site = getattr(tested.model.layers[layer], component)
        site.output[:, 4] = value[:, 6]
    pairs = [(as_numpy(trace.output)[0], by_hand(rows([4], given[:, 6:7])))]
    expected: list[tuple[Callable[[mx.array], mx.array], np.ndarray]] = [
        (iv.replace_at(value, [2, 5]), rows([2, 5], given[:, [2, 5]])),
        (iv.zero_out(), 0 * old),
        (iv.zero_at(-1), rows([LENGTH - 1], 0.0)),
        (iv.scale(2.0), 2 * old),
        (iv.add_vector(value[0, 3], 4), rows([4], old[:, 4:5] + given[0, 3])),
    ]
    pairs += [(_edited(tested, name, edit), by_hand(new)) for edit, new in expected]
    worst = max(float(differences(a, b).max()) for a, b in pairs)
    return Measurement(worst / largest(plain), tested.limit)


def _edited(tested: ModelUnderTest, name: str, edit: Any) -> np.ndarray:
    """Logits `[T, V]` of a trace with an intervention."""
    with tested.model.trace(list(tested.ids), interventions={name: edit}) as trace:
        pass
    return as_numpy(trace.output)[0]
