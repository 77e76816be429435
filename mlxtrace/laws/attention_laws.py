"""The laws of attention and of heads: patterns weigh values into heads, heads project to the mixer's output."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..anatomy.attention import attending, pattern, plain_attention, weighted
from .law import DoesNotApply, Measurement, law, relative_error
from .model_under_test import ModelUnderTest


class AttentionCall(NamedTuple):
    """One call of a plain pass: its weights, what it returned, that recomputed from the weights, if there are sinks."""

    pattern: mx.array
    output: mx.array
    recomputed: mx.array
    sinks: bool


def attention_calls(tested: ModelUnderTest) -> list[AttentionCall]:
    """The attention calls of a plain pass."""
    calls: list[AttentionCall] = []

    def hook(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        out = plain_attention(q, k, v, **options)
        weights = pattern(q, k, **options)
        sinks = options.get("sinks") is not None
        calls.append(AttentionCall(weights, out, weighted(weights, v), sinks))
        return out

    with attending(hook):
        tested.plain(tested.ids)
    return calls


@law("heads, concatenated and projected, are the mixer's output", "head")
def projected(tested: ModelUnderTest) -> Measurement:
    """The output projection by itself, on the heads of a trace."""
    errors, shown = [], tested.base.activations
    for layer in tested.layers_with("head"):
        heads = shown[f"layers.{layer}.head"]
        projection = tested.by_hand.places["head", layer].path
        out = tested.by_hand.called(projection, heads.reshape(*heads.shape[:2], -1))
        errors.append(relative_error(out, shown[f"layers.{layer}.attn"]))
    return Measurement(max(errors), tested.limit)


@law("pattern rows sum to 1, and weigh the values into the attention's output", "pattern")
def patterns(tested: ModelUnderTest) -> Measurement:
    """In every attention call of a pass; with sinks rows sum to 1 at most."""
    calls = attention_calls(tested)
    if not calls:
        raise DoesNotApply("this model makes no call of mlx's attention")
    errors: list[float] = []
    for call in calls:
        missing = np.array(1 - call.pattern.astype(mx.float32).sum(-1))
        wrong = np.maximum(-missing, 0) if call.sinks else np.abs(missing)
        errors += [float(wrong.max()), relative_error(call.recomputed, call.output)]
    sinks = any(call.sinks for call in calls)
    return Measurement(max(errors), tested.limit, "with sinks, so to less than 1" if sinks else "")


@law(
    "what one head attends to reaches that head alone",
    "single heads: they are not split as attention splits them",
)
def one_head_alone(tested: ModelUnderTest) -> Measurement:
    """One head of an attention call scaled, all layer inputs kept. The error counts the other heads that change."""
    mixing = [i for i in tested.all_layers if tested.resolver.layer(i).attention]
    layers = [i for i in mixing if tested.site_exists("head", i)]
    if not layers or len(attention_calls(tested)) != len(layers):
        tested.layers_with("head", "pattern")
        raise DoesNotApply("some layers' attention calls or heads are not to be seen")
    inputs = {
        f"layers.{i}.resid_pre": tested.base.activations[f"layers.{i}.resid_pre"]
        for i in tested.layers_with("resid_pre", layers=tested.all_layers)
    }

    def second_head_scaled(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        out = plain_attention(q, k, v, **options)
        if out.shape[1] == 1:
            return 2 * out
        return mx.concatenate([out[:, :1], 2 * out[:, 1:2] + 1, out[:, 2:]], axis=1)

    names = [f"layers.{i}.head" for i in layers]
    with attending(second_head_scaled):
        got = tested.traced(inputs, names).activations
    wrong = 0
    for name in names:
        moved = np.array(mx.abs(got[name] - tested.base.activations[name]).max(axis=(0, 1, 3)) > 0)
        expected = np.arange(moved.size) == min(1, moved.size - 1)
        wrong += int((moved != expected).sum())
    return Measurement(float(wrong), 0.0)


@law("pattern @ v are the heads", "pattern and head together")
def pattern_weighs_values(tested: ModelUnderTest) -> Measurement:
    """Where the attention's output is projected as it is."""
    shown, errors, others = tested.base.activations, [], 0
    for layer in tested.layers_with("pattern", "v", "head", layers=tested.all_layers):
        if layer not in tested.attention_projected_as_is:
            others += 1
            continue
        heads, v = shown[f"layers.{layer}.head"], shown[f"layers.{layer}.v"].swapaxes(1, 2)
        again = weighted(shown[f"layers.{layer}.pattern"], v).swapaxes(1, 2)
        errors.append(relative_error(again, heads))
    if not errors:
        raise DoesNotApply(
            "what is projected is not what attention returned (gated, normed or a latent value)"
        )
    some = f"at {len(errors)} of {len(errors) + others} layers" if others else ""
    return Measurement(max(errors), tested.limit, some)


@law("patching all heads is patching the mixer's output", "head")
def all_heads(tested: ModelUnderTest) -> Measurement:
    """Last-position logits, cell by cell."""
    tested.layers_with("head")
    loop = tested.sweep.loop
    layers = [layer for name, layer in loop if name == "all heads"]
    errors = [relative_error(loop["all heads", layer], loop["mixer", layer]) for layer in layers]
    return Measurement(max(errors), tested.limit)
