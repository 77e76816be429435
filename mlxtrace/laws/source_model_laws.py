"""The laws of patching between models: activations of another model of the same shape, against passes by hand.

The other model is the tested one with its vectors (norms, biases, scales) scaled: cheap to make, whatever its size,
and another one at every site.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..experiments.noise import GaussianNoise
from .law import Measurement, law
from .pair_by_hand import (
    METRICS,
    NOISE_SEED,
    SAMPLES,
    SUBJECT,
    DoesNotApply,
    ModelUnderTest,
    PairByHand,
    drawn_by_hand,
    window_of,
)

SCALED = 1.25  # what the other model's vectors are, of this one's
LEVEL = 0.1


def twin_of(net: nn.Module, factor: float = 1.0) -> nn.Module:
    """The model in modules of its own, on the same arrays, but for vectors that are scaled."""
    arrays = [x for module in net.modules() for x in module.values() if isinstance(x, mx.array)]
    groups = [
        x for module in net.modules() for x in vars(module).values() if hasattr(x, "rank")
    ]  # of processes
    twin = copy.deepcopy(net, {id(x): x for x in (*arrays, *groups)})
    if factor != 1.0:
        named: list[tuple[str, Any]] = tree_flatten(twin.parameters())  # pyright: ignore[reportAssignmentType]
        vectors = [(name, x * factor) for name, x in named if _is_vector(x)]
        if not vectors:
            raise DoesNotApply("this model has no vectors of weights by which another one could be made")
        twin.load_weights(vectors, strict=False)
    return twin


def _is_vector(x: mx.array) -> bool:
    return x.ndim == 1 and mx.issubdtype(x.dtype, mx.floating)


class _TwoModels:
    """The tested model, and another that makes the source run, by hand and as a user has it."""

    def __init__(self, tested: ModelUnderTest):
        self.tested = tested
        self.model = type(tested.model)(twin_of(tested.net, SCALED), tested.model.tokenizer)

    @functools.cached_property
    def by_hand(self) -> Any:
        return ModelUnderTest(self.model).by_hand

    def error(
        self,
        direction: str,
        component: str,
        layers: Sequence[int],
        at: Sequence[int],
        ids: Sequence[int],
        heads: Sequence[int] | None = None,
        window: int = 1,
        noises: Any = None,
        **options: Any,
    ) -> float:
        """One component patched between the models as a user asks for it, at positions together, against by hand."""
        tested, n = self.tested, self.tested.model.n_layers
        around = [window_of(layer, window, n) for layer in layers]
        names = sorted({i for some in around for i in some})
        runs = {"clean_by": self.by_hand} if direction == "denoise" else {"corrupted_by": self.by_hand}
        pair = PairByHand(tested, [component], names, corrupted=ids, noises=noises, **runs)
        settings = {"layers": list(layers), "positions": list(at), "window": window, **options}
        if heads is not None:
            settings["neurons" if component == "neuron" else "heads"] = list(heads)
        result = pair.experiment(component, direction=direction, source_model=self.model, **settings)
        found = [pair.values(pair.patched(direction, component, some, at, at, heads)) for some in around]
        return pair.error_of(result, np.array(found).T)


@law("activations of another model patched in, by hand", "source_model=")
def between(tested: ModelUnderTest) -> Measurement:
    """Both directions; the same prompt in both models and another one; windows, heads, neurons, and noise."""
    two, n = _TwoModels(tested), tested.model.n_layers
    every = list(range(len(tested.ids)))
    some = [3, 6, every[-1]]
    first = sorted({0, n // 2, n - 1})
    main = tested.components_in_all(["mlp", "attn", "resid_post"], first)[0]
    stream = tested.components_in_all(["resid_post", "resid_pre", "mlp"], first)[0]
    errors = [
        two.error("denoise", main, first, every, tested.ids),
        two.error("denoise", stream, first, [1], tested.ids),
        two.error("noise", main, first, some, tested.ids),
        two.error("noise", stream, first, [0, 1], tested.other),
        two.error("denoise", main, first, some, tested.other, window=min(3, n)),
    ]
    for component in ("head", "v", "neuron"):
        layers = [i for i in sorted(tested.middles) if (component, i) in tested.by_hand.places][:1]
        if layers:
            errors.append(two.error("denoise", component, layers, some, tested.ids, heads=[0]))
    noises = drawn_by_hand(tested, LEVEL)
    noise = GaussianNoise(SUBJECT, level=LEVEL, samples=SAMPLES, seed=NOISE_SEED)
    for direction in ("denoise", "noise"):
        options = {"noises": noises, "corrupted": noise}
        errors.append(two.error(direction, main, first[:1], some, tested.ids, **options))
    return Measurement(max(errors), tested.limit)


@law("a model as its own source changes nothing", "source_model=")
def itself(tested: ModelUnderTest) -> Measurement:
    """The module itself to the last bit; in modules of its own, on the same weights, to rounding."""
    layers = tested.first_middle_last()
    component = tested.components_in_all(["mlp", "attn", "resid_post"], layers)[0]
    pair = PairByHand(tested, [component], layers)
    twin = type(tested.model)(twin_of(tested.net), tested.model.tokenizer)
    for direction in ("denoise", "noise"):
        asked = {"layers": layers, "positions": "each", "direction": direction}
        alone = pair.experiment(component, **asked)
        same = pair.experiment(component, source_model=tested.model, **asked)
        if not np.array_equal(alone.raw, same.raw) or same.source_model is not None:
            return Measurement(float("inf"), tested.limit, f"{direction}: the module itself")
    again = pair.experiment(component, source_model=twin, **asked)
    off = [np.abs(again.raw - alone.raw).max()]
    off += [abs(again.clean[name] - alone.clean[name]) for name in METRICS]
    return Measurement(float(max(off)) / pair.scale, tested.limit)
