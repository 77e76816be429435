"""The laws of lenses and patchscopes: the last layer's lens is the model, and a map is a loop of writes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .law import DoesNotApply, Measurement, largest, law
from .model_under_test import LENGTH, ModelUnderTest, UnsupportedError
from .pass_by_hand import Write

EVERY = tuple(range(LENGTH))
STREAM, PARTS = ("resid_pre", "resid_mid", "resid_post"), ("attn", "mlp")
PLACES = ((3, LENGTH - 1), (LENGTH - 1, 4), (2, 2))  # positions that are read and written
LEAST = 1e-280  # a probability below this is 0
ANSWER, TOKENS = 2, 2  # tokens of an answer, and of what is generated


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """By the formula, over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _error(found: Any, right: Any, logits: np.ndarray, tokens: int = 1) -> float:
    """How far logits must be off, relative to their largest, for log-probabilities to be off by as much.

    Of answers of several tokens, so far in each.
    """
    if np.shape(found) != np.shape(right):
        return float("inf")
    logs = [np.log(np.maximum(x, LEAST)) for x in (found, right)]
    return float(np.abs(logs[0] - logs[1]).max()) / (2 * tokens * max(largest(logits), 1.0))


def _has(tested: ModelUnderTest, component: str) -> list[int]:
    """The layers of those tried that have a component of the stream's shape."""
    layers = [i for i in tested.layers if (component, i) in tested.by_hand.places]
    shown = tested.base.activations
    shape = (1, LENGTH, tested.model.d_model)
    names = {i: f"layers.{i}.{component}" for i in layers}
    whole = [
        i for i in layers if not tested.resolver.table[names[i]].modules
    ]  # by hand one module is one place
    return [i for i in whole if tuple(shown[names[i]].shape) == shape]


# ---- the logit lens


@law("a logit lens is norm and head of the stream, and of the last layer the model", "logit_lens")
def lenses(tested: ModelUnderTest) -> Measurement:
    """All probabilities of the last layer's lens, and each layer's stream written by hand over the last layer's."""
    last, vocab = tested.model.n_layers - 1, tested.model.vocab_size
    try:
        own = tested.model.logit_lens(list(tested.ids), layers=last, k=vocab)
    except UnsupportedError as error:
        raise DoesNotApply(str(error).split(": ", 1)[-1]) from error
    plain, _ = tested.by_hand.run(tested.ids)
    every = np.full((LENGTH, vocab), np.nan)
    np.put_along_axis(every, own.ids[0], own.probabilities[0], axis=-1)
    errors = [_error(every, _probabilities(plain), plain)]
    errors.append(float("inf") if (np.diff(own.probabilities) > 0).any() else 0.0)  # the likeliest come first
    for component in STREAM + PARTS:
        layers = _has(tested, component)
        if layers:
            errors.append(_lens_error(tested, component, layers, last))
    return Measurement(float(np.max(errors)), tested.limit)


def _lens_error(tested: ModelUnderTest, component: str, layers: list[int], last: int) -> float:
    """Of the answer's probabilities, its ranks, and those of the likeliest token, at some positions in disorder."""
    at, target = [7, 2, LENGTH - 1], tested.ids[0]
    lens = tested.model.logit_lens(
        list(tested.ids), target=target, layers=layers, positions=at, component=component, k=1
    )
    _, kept = tested.by_hand.run(tested.ids, keep=[(component, i) for i in layers])
    errors = []
    for row, layer in enumerate(layers):
        write = Write("resid_post", last, EVERY, kept[component, layer], EVERY)
        logits = tested.by_hand.run(tested.ids, [write])[0][at]
        right = _probabilities(logits)
        errors.append(_error(lens.prob[row], right[:, target], logits))
        errors.append(_error(lens.probabilities[row, :, 0], right.max(-1), logits))
        chosen = np.take_along_axis(right, lens.ids[row], axis=-1)[:, 0]
        errors.append(_error(chosen, right.max(-1), logits))
        errors.append(_rank_error(lens.rank[row], logits, [target] * len(at), tested.limit))
    return float(np.max(errors))


def _rank_error(rank: np.ndarray, logits: np.ndarray, targets: Sequence[int], limit: float) -> float:
    """0 where as many tokens are likelier, give or take those that rounding may turn over; else infinite.

    rank: of a target in each row of the logits; or one number, the largest of these.
    """
    above = logits - np.take_along_axis(logits, np.array(targets)[:, None], axis=-1)
    blur = 2 * limit * largest(logits)
    fewest, most = (above > blur).sum(-1), (above > -blur).sum(-1) - 1  # less the token itself
    if not np.ndim(rank):
        fewest, most = fewest.max(), most.max()
    return 0.0 if ((rank >= fewest) & (rank <= most)).all() else float("inf")


# ---- patchscopes


@law(
    "a patchscope map is a loop of writes, and a token put back changes nothing",
    "patchscope, patchscope_map",
)
def scopes(tested: ModelUnderTest) -> Measurement:
    """Another prompt's token, from each layer into each, by hand; answers of one token and of several."""
    errors = []
    for component in STREAM + PARTS:
        layers = _has(tested, component)
        for n, (read, written) in enumerate(PLACES if component == "resid_post" else PLACES[:1]):
            if n or component != "resid_post":
                layers = sorted({*layers[:1], *layers[-1:]})
            if layers:
                answer = list(tested.ids[: ANSWER if n else 1])
                errors.append(_map_error(tested, component, layers, read, written, answer))
    if not errors:
        raise DoesNotApply("no component is as wide as one residual stream")
    errors += [*(_generated(tested, *place) for place in PLACES[:2]), _put_back(tested)]
    return Measurement(float(np.max(errors)), tested.limit)


def _map_error(
    tested: ModelUnderTest, component: str, layers: list[int], read: int, written: int, answer: Sequence[int]
) -> float:
    """Of a map's probabilities, ranks and likeliest tokens, and of the patchscope of its two outermost layers."""
    given, aim, n = list(tested.other), list(tested.ids), len(answer)
    options: Any = {"target": list(answer), "layers": layers, "target_layers": layers, "progress": False}
    result = tested.model.patchscope_map(given, read, aim, written, component, **options)
    _, kept = tested.by_hand.run(given, keep=[(component, i) for i in layers])
    base, off = tested.by_hand.run([*aim, *answer[:-1]])[0][-n:], []
    for (i, j), prob in np.ndenumerate(result.prob):
        write = Write(component, layers[i], (written,), kept[component, layers[j]], (read,))
        logits = tested.by_hand.run([*aim, *answer[:-1]], [write])[0][-n:]
        off.append(_error(prob, _whole(logits, answer), logits, n))
        top = _probabilities(logits[0])
        off.append(
            _error(
                np.array([result.probabilities[i, j], top[result.ids[i, j]]]), np.full(2, top.max()), logits
            )
        )
        off.append(_rank_error(result.rank[i, j], logits, answer, tested.limit))
    off.append(_error(result.base_said_prob, _probabilities(base[0]).max(), base))
    off.append(_error(result.base_prob, _whole(base, answer), base, n))
    names = f"layers.{layers[-1]}.{component}", f"layers.{layers[0]}.{component}"
    one = tested.model.patchscope(
        given, names[0], read, aim, names[1], written, max_tokens=0, target=list(answer)
    )
    off.append(_error(one.prob, result.prob[0, -1], base, n))
    return float(np.max([*off, _error(one.base_prob, result.base_prob, base, n)]))


def _whole(logits: np.ndarray, answer: Sequence[int]) -> float:
    """A whole answer's probability, of logits `[tokens of the answer, V]`."""
    return float(np.prod(_probabilities(logits)[range(len(answer)), list(answer)]))


def _generated(tested: ModelUnderTest, read: int, written: int) -> float:
    """Of what is generated, token by token: how much less likely each is than the likeliest of a whole pass by hand."""
    layers, given, ids = _has(tested, "resid_post"), list(tested.other), list(tested.ids)
    if not layers:
        return 0.0
    layer, off = layers[len(layers) // 2], []
    try:
        scope = tested.model.patchscope(given, layer, read, ids, None, written, max_tokens=TOKENS)
    except UnsupportedError:
        return 0.0
    _, kept = tested.by_hand.run(given, keep=[("resid_post", layer)])
    write = Write("resid_post", layer, (written,), kept["resid_post", layer], (read,))
    for token in scope.generated:
        logits = tested.by_hand.run(ids, [write])[0][-1]
        right = _probabilities(logits)
        off.append(_error(right[token], right.max(), logits))
        ids.append(token)
    return float(np.max(off, initial=0.0 if off else np.inf))


def _put_back(tested: ModelUnderTest) -> float:
    """A token put back where it was taken from: 0 when no probability changes by a bit."""
    layer, ids = tested.layers[len(tested.layers) // 2], list(tested.ids)
    names = [c for c in STREAM + PARTS if layer in _has(tested, c)]
    errors = [0.0]
    for name in names[:2]:
        same = tested.model.patchscope(ids, f"layers.{layer}.{name}", 4, ids, max_tokens=0, target_position=4)
        errors.append(0.0 if same.top == same.base_top and same.prob == same.base_prob else float("inf"))
    return max(errors)
