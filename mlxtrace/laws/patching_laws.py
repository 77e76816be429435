"""The laws of activation patching: what it returns, against one plain pass a cell with the patch written out.

Each law asks for an experiment as a user does, through the model's own methods, and does the same with `by_hand`.
Nothing of the engine is used on that side, so that an experiment which patches another layer, head, position or run
than it says cannot agree with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..anatomy.components import HEADED
from .law import DoesNotApply, Measurement, law
from .model_under_test import DIFFERENT, LENGTH, SUBJECT, ModelUnderTest
from .pair_by_hand import PairByHand, window_of

SOME = [3, 6, LENGTH - 1]  # positions at which single heads and neurons are patched
MOST_NEURONS = 512  # of a layer whose neurons are patched one by one: a row for each


def _each_position(tested: ModelUnderTest, direction: str) -> Measurement:
    """Maps at a middle layer and, of fewer components, at the last one, where most positions cannot matter."""
    middle, last = tested.layers[len(tested.layers) // 2], tested.model.n_layers - 1
    main = ("resid_pre", "attn", "mlp", "resid_post") if direction == "denoise" else ("mlp", "resid_post")
    of_middle = tested.components_in_all(main, [middle])
    of_last = tested.components_in_all(("mlp", "resid_post", "attn"), [last])[:1]
    errors = [_map(tested, direction, middle, of_middle), _map(tested, direction, last, of_last)]
    return Measurement(max(*errors, _several_positions(tested, direction, middle)), tested.limit)


def _map(tested: ModelUnderTest, direction: str, layer: int, components: list[str]) -> float:
    """One layer at every position, by hand and as asked for; infinite where the labels are wrong."""
    pair = PairByHand(tested, components, [layer])
    result = pair.experiment(components, layers=layer, positions="each", direction=direction)
    if result.coords["position"] != list(range(LENGTH)) or result.coords["layer"] != [layer]:
        return float("inf")

    def values(component: str, position: int) -> np.ndarray:
        return pair.values(pair.patched(direction, component, [layer], [position], [position]))

    every = [[values(component, position) for position in range(LENGTH)] for component in components]
    return pair.error_of(result, np.moveaxis(np.array(every), -1, 1))


def _several_positions(tested: ModelUnderTest, direction: str, layer: int) -> float:
    """All components at several positions together, and the ways to name positions."""
    whole = [c for c in tested.components if c not in HEADED]
    components = tested.components_in_all(whole, [layer])
    pair = PairByHand(tested, components, [layer])

    def values(component: str, at: list[int]) -> np.ndarray:
        return pair.values(pair.patched(direction, component, [layer], at, at))

    result = pair.experiment(components, layers=[layer], positions=[3, 6], direction=direction)
    errors = [pair.error_of(result, np.array([values(c, [3, 6]) for c in components]))]
    places = {
        "subject": list(SUBJECT),
        "subject_last": [SUBJECT[-1]],
        "last": [LENGTH - 1],
        None: [*range(LENGTH)],
    }
    for positions, at in places.items():
        result = pair.experiment(components[0], layers=layer, positions=positions, direction=direction)
        errors.append(pair.error_of(result, values(components[0], at)))
    return max(errors)


@law("clean activations patched into the corrupted run, by hand", 'activation_patching, direction="denoise"')
def denoise(tested: ModelUnderTest) -> Measurement:
    """A layer x position map of the main components; all components at two positions; each way to name positions."""
    return _each_position(tested, "denoise")


@law("corrupted activations patched into the clean run, by hand", 'activation_patching, direction="noise"')
def noising(tested: ModelUnderTest) -> Measurement:
    """The same the other way round."""
    return _each_position(tested, "noise")


@law("windows of layers, by hand", "window=, and causal traces of MLPs and attention")
def windows(tested: ModelUnderTest) -> Measurement:
    """Windows of 2, 3 and 4 layers at the ends and in the middle, in both directions."""
    n, errors = tested.model.n_layers, []
    if n < 2:
        raise DoesNotApply("this model has one layer")
    layers = sorted({0, 1, n // 2, n - 1})
    component = tested.components_in_all(["mlp", "attn", "resid_post"], tested.all_layers)[0]
    pair = PairByHand(tested, [component])
    for width, direction in ((2, "denoise"), (3, "noise"), (4, "denoise")):
        result = pair.experiment(component, layers=layers, positions=[3], window=width, direction=direction)
        patched = [pair.patched(direction, component, window_of(i, width, n), [3], [3]) for i in layers]
        errors.append(pair.error_of(result, np.array([pair.values(x) for x in patched]).T))
    return Measurement(max(errors), tested.limit)


@law(
    "heads, queries, keys, values and patterns one at a time, by hand",
    "head, q, k, v, pattern and single neurons in sweeps",
)
def single_heads(tested: ModelUnderTest) -> Measurement:
    """Each head of a layer of each kind, two heads together, in both directions; patterns by query position.

    Of the neurons of those layers three, out of a sweep over each, and two together.
    """
    errors: list[float] = []
    for layer in sorted(tested.middles):
        if ("neuron", layer) in tested.by_hand.places:
            errors.append(_neurons_of(tested, layer))
        for component in HEADED:
            if (component, layer) in tested.by_hand.places:
                errors += _heads_of(tested, component, layer)
    if not errors:
        tested.layers_with("head")
    return Measurement(max(errors), tested.limit)


def _heads_of(tested: ModelUnderTest, component: str, layer: int) -> list[float]:
    pair = PairByHand(tested, [component], [layer])
    n = pair.clean_activations[component, layer].shape[1 if component == "pattern" else 2]

    def values(direction: str, heads: tuple[int, ...]) -> np.ndarray:
        return pair.values(pair.patched(direction, component, [layer], SOME, SOME, heads))

    direction = "noise" if component in ("q", "v") else "denoise"
    each = pair.experiment(component, layers=layer, positions=SOME, direction=direction)
    two = (0, n - 1) if n > 1 else (0,)
    together = pair.experiment(component, layers=layer, positions=SOME, heads=list(two))
    return [
        pair.error_of(each, np.array([values(direction, (head,)) for head in range(n)]).T),
        pair.error_of(together, values("denoise", two)),
    ]


def _neurons_of(tested: ModelUnderTest, layer: int) -> float:
    pair = PairByHand(tested, ["neuron"], [layer])
    n = pair.clean_activations["neuron", layer].shape[2]

    def values(neurons: tuple[int, ...]) -> np.ndarray:
        return pair.values(pair.patched("denoise", "neuron", [layer], SOME, SOME, neurons))

    def result(neurons: str | list[int]) -> Any:
        return pair.experiment("neuron", layers=layer, positions=SOME, neurons=neurons)

    two = [0, n - 1]
    error = pair.error_of(result(two), values(tuple(two)))
    if n > MOST_NEURONS:
        return error
    each = result("each")
    if each.coords["neuron"] != list(range(n)):
        return float("inf")
    off = [np.abs(each.raw[:, 0, j] - values((j,))).max() for j in (0, n // 2, n - 1)]
    return max(error, float(max(off)) / pair.scale)


@law("prompts of different lengths are paired by hand", 'align="ends"')
def ends(tested: ModelUnderTest) -> Measurement:
    """One token more in the corrupted prompt: the common tail counted from the right, and the subjects' last tokens."""
    layer = tested.layers[len(tested.layers) // 2]
    component = tested.components_in_all(["resid_post", "mlp", "attn"], [layer])[0]
    last = DIFFERENT[-1]
    taken = (tested.ids[last], tested.other[last])
    extra = next(x for x in range(1, tested.model.vocab_size) if x not in taken)
    longer = [*tested.other[: last + 1], extra, *tested.ids[last + 1 :]]
    pair, errors = PairByHand(tested, [component], [layer], corrupted=longer), []
    positions = {p: p + 1 for p in range(last, LENGTH)}  # of the clean prompt, and of the corrupted one
    for direction in ("denoise", "noise"):
        result = pair.experiment(component, layers=layer, positions="each", align="ends", direction=direction)
        if result.coords["position"] != list(positions):
            return Measurement(float("inf"), tested.limit, f"paired positions {result.coords['position']}")
        values = []
        for clean, corrupted in positions.items():
            at, source_at = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
            values.append(pair.values(pair.patched(direction, component, [layer], [at], [source_at])))
        errors.append(pair.error_of(result, np.array(values).T))
    return Measurement(max(errors), tested.limit)
