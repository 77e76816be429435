"""The laws of generating: without interventions it is mlx-lm's own; with them each token is that of a whole pass.

The right side of the second law is a loop without a cache: for each new token the whole sequence so far is run anew in
a trace whose interventions act on the positions of the prompt, of new tokens, or of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import mlx.core as mx
import numpy as np

from .. import interventions as iv
from ..anatomy.resolver import rows_back, rows_first
from ..errors import UnsupportedError
from .law import DoesNotApply, Measurement, as_numpy, law, listed, relative_error
from .model_under_test import LENGTH, ModelUnderTest
from .pass_by_hand import INSIDE

Edits = Mapping[str, Callable[[mx.array], mx.array]]
TOKENS, FACTOR = 3, 1.25
PARTS = {"all": (0, None), "prompt": (0, LENGTH), "new": (LENGTH, None)}  # the positions that are edited


@law(
    "text without interventions is mlx-lm's own, and an empty edit changes nothing",
    distrust="any text that is generated",
)
def as_mlx_lm(tested: ModelUnderTest) -> Measurement:
    """Tokens and log-probabilities to the bit; and, to rounding, those under edits that give back what they get."""
    tokens, rows = _by_mlx_lm(tested)
    ours = list(tested.model.generate(list(tested.ids), TOKENS, stream=True))
    if [r.token for r in ours] != tokens or not all(
        mx.array_equal(a.logprobs, b, equal_nan=True) for a, b in zip(ours, rows, strict=True)
    ):
        return Measurement(float("inf"), 0.0, "without interventions the tokens are others than mlx-lm's")
    expected, shapes = _log_probs(rows), []

    def same(x: mx.array) -> mx.array:
        shapes.append(rows_first(tested.resolver, site, x).shape[1])
        return x

    name = f"layers.{tested.layers[-1]}.resid_post"
    edits = {name: same} if name in tested.resolver.table else {"logits": same}
    site = tested.resolver.resolve(next(iter(edits)))
    try:
        _, found = _generated(tested, edits, "all")
    except UnsupportedError as error:
        return Measurement(0.0, tested.limit, f"interventions are refused: {error}")
    if shapes[: TOKENS + 1] != [LENGTH, *[1] * TOKENS]:
        return Measurement(float("inf"), 0.0, f"a function saw arrays of {shapes} tokens")
    return Measurement(relative_error(found, expected), tested.limit)


@law(
    "under interventions each new token is that of a whole pass", "text that is generated under interventions"
)
def anew(tested: ModelUnderTest) -> Measurement:
    """All components at once, in the passes of the prompt, of new tokens, and of both; and some positions."""
    tokens, rows = _by_mlx_lm(tested)
    error = relative_error(_log_probs(rows), _whole(tested, tokens, {}))
    if not error <= tested.limit:
        raise DoesNotApply(
            f"on this model the cache of mlx-lm gives other numbers than a whole pass, by {error:.2g}"
        )
    names, refused = _editable(tested)
    errors = {}
    for where, (start, stop) in PARTS.items():
        tokens, found = _generated(tested, dict.fromkeys(names, _scaled), where)
        edits = {name: _between(tested, name, start, stop) for name in names}
        errors[where] = relative_error(found, _whole(tested, tokens, edits))
    if stream := [name for name in names if name.endswith(".mlp")]:
        errors["some positions"] = _at_positions(tested, stream[0])
    worst = max(errors, key=lambda name: errors[name])
    notes = [f"worst: {worst}"] if errors[worst] > tested.limit else [f"{len(names)} sites"]
    notes += [f"refused: {listed(refused)}"] if refused else []
    return Measurement(errors[worst], tested.limit, "; ".join(notes))


def _by_mlx_lm(tested: ModelUnderTest) -> tuple[list[int], list[mx.array]]:
    """Tokens and log-probabilities as mlx-lm's own loop gives them."""
    from mlx_lm.generate import generate_step

    steps = list(generate_step(mx.array(tested.ids), tested.net, max_tokens=TOKENS))
    return [int(token) for token, _ in steps], [row for _, row in steps]


def _at_positions(tested: ModelUnderTest, name: str) -> float:
    """The error where a vector is added at some positions of the prompt and at one new token."""
    width = tested.resolver.structure.d_model
    direction = mx.array(np.random.RandomState(0).randn(width).astype(np.float32))

    def whole(x: mx.array) -> mx.array:
        return iv.add_vector(direction, [p for p in (1, LENGTH - 2, LENGTH) if p < x.shape[1]])(x)

    tokens, found = _generated(tested, {name: iv.add_vector(direction, [1, -2, LENGTH])}, "all")
    return relative_error(found, _whole(tested, tokens, {name: whole}))


def _editable(tested: ModelUnderTest) -> tuple[list[str], list[str]]:
    """A site of each component that can be edited while text is generated, and those that are refused.

    Only what is inside attention may be: its keys may be forgotten, or be others in a pass of one token.
    """
    names = {}
    for component in tested.components:
        layers = [layer for layer in tested.layers if tested.site_exists(component, layer)]
        layers = layers or tested.layers_with(component, layers=tested.all_layers)
        names[f"layers.{layers[-1]}.{component}"] = component
    inside = [name for name, component in names.items() if component in INSIDE]
    refused = []
    if not _takes(tested, inside):
        refused = [name for name in inside if not _takes(tested, [name])]
    return [name for name in names if name not in refused], refused


def _takes(tested: ModelUnderTest, names: list[str]) -> bool:
    """Whether these sites can be edited together, and not at the cost of an error."""
    try:
        _generated(tested, dict.fromkeys(names, _scaled), "all")
    except UnsupportedError:
        return False
    return True


def _scaled(x: mx.array) -> mx.array:
    return (x * FACTOR).astype(x.dtype)


def _between(
    tested: ModelUnderTest, name: str, start: int, stop: int | None
) -> Callable[[mx.array], mx.array]:
    """`_scaled`, at the positions from `start` to `stop` of whole passes."""
    site = tested.resolver.table[name]

    def edit(x: mx.array) -> mx.array:
        rows = mx.array(rows_first(tested.resolver, site, x))
        rows[:, start:stop] = _scaled(rows[:, start:stop])
        return rows_back(tested.resolver, site, rows)

    return edit


def _generated(tested: ModelUnderTest, edits: Edits, where: str) -> tuple[list[int], np.ndarray]:
    """Tokens, and the log-probabilities `[tokens, V]` that each was chosen from."""
    given = list(tested.ids)
    responses = list(tested.model.generate(given, TOKENS, interventions=edits, where=where, stream=True))
    return [r.token for r in responses], _log_probs(r.logprobs for r in responses)


def _whole(tested: ModelUnderTest, tokens: list[int], edits: Edits) -> np.ndarray:
    """The same log-probabilities, by a whole pass for each token."""
    rows = []
    for n in range(len(tokens)):
        with tested.trace([*tested.ids, *tokens[:n]], dict(edits), cache=False) as trace:
            pass
        rows.append(trace.output[0, -1])
    return _log_probs(rows)


def _log_probs(rows: Iterable[mx.array]) -> np.ndarray:
    """float64 `[tokens, V]`; MLX's own sums are float32."""
    x = np.stack([as_numpy(row) for row in rows]).astype(np.float64)
    most = x.max(-1, keepdims=True)
    return x - most - np.log(np.exp(x - most).sum(-1, keepdims=True))
