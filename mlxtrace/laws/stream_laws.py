"""The laws of layers and of the residual stream: a layer follows from its input, a component is read, sums add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from ..anatomy.recording import Call, record
from .law import DoesNotApply, Measurement, as_numpy, law, listed, relative_error
from .model_under_test import ModelUnderTest
from .shared_state import state_beside_the_stream


def _beside(tested: ModelUnderTest) -> str:
    layers = {(info.path, info.visit) for info in tested.resolver.structure.layers}
    return state_beside_the_stream(tested.net, layers, tested.ids, tested.sweep.probe.axes)


def _inputs_of_the_other_run(tested: ModelUnderTest) -> tuple[list[int], Mapping[str, mx.array]]:
    """The layers, and their outputs in a pass in which each layer gets the input that it has in the other run."""
    layers = tested.layers_with("resid_pre", "resid_post", layers=tested.all_layers)
    names = [f"layers.{i}.resid_pre" for i in layers]
    edits = {name: tested.source.activations[name] for name in names}
    return layers, tested.traced(edits, [f"layers.{i}.resid_post" for i in layers]).activations


@law(
    "a layer's output follows from its input",
    "resid_pre, resid_mid, resid_post: layers depend on more than the stream",
)
def follows(tested: ModelUnderTest) -> Measurement:
    """Given the other run's inputs, every layer gives the other run's output."""
    layers, outputs = _inputs_of_the_other_run(tested)
    names = [f"layers.{i}.resid_post" for i in layers]
    errors = [relative_error(outputs[name], tested.source.activations[name]) for name in names]
    if max(errors) <= tested.limit:
        return Measurement(max(errors), tested.limit)
    if beside := _beside(tested):
        raise DoesNotApply(f"{beside}, so a layer's output depends on more than its input")
    return Measurement(max(errors), tested.limit, f"worst: layer {layers[int(np.argmax(errors))]}")


@law("a layer reads its input", "layers named above and below them: what comes before cannot matter")
def reads(tested: ModelUnderTest) -> Measurement:
    """Where the inputs of the two runs differ, so do the outputs. The error counts layers."""
    layers, outputs = _inputs_of_the_other_run(tested)
    base, source = tested.base.activations, tested.source.activations

    def differs(a: Mapping[str, mx.array], name: str) -> bool:
        return bool(relative_error(a[name], base[name]))

    given_others = [i for i in layers if differs(source, f"layers.{i}.resid_pre")]
    ignoring = [i for i in given_others if not differs(outputs, f"layers.{i}.resid_post")]
    if layers[0] not in given_others:
        return Measurement(float("inf"), 0.0, "different tokens are alike at the first layer")
    return Measurement(float(len(ignoring)), 0.0, "ignored by layer " + listed(ignoring) if ignoring else "")


@law("what a component writes is read", "the components named above: nothing in their layer reads them")
def written(tested: ModelUnderTest) -> Measurement:
    """With a layer's input kept, another run's component changes the layer's output. The error counts sites."""
    layers = tested.layers_with("resid_pre", "resid_post", layers=tested.all_layers)
    base, source = tested.base.activations, tested.source.activations
    inputs = {f"layers.{i}.resid_pre": base[f"layers.{i}.resid_pre"] for i in layers}
    posts = [f"layers.{i}.resid_post" for i in layers]
    unread: list[str] = []
    tried = 0
    for component in tested.components:
        if component in ("resid_pre", "resid_post"):
            continue
        names = [f"layers.{i}.{component}" for i in layers if tested.site_exists(component, i)]
        names = [name for name in names if relative_error(source[name], base[name])]
        if component in ("q", "k", "pattern"):
            names = [name for name in names if not _fetches_alike(base, source, name)]
        if names:
            got = tested.traced({**inputs, **{name: source[name] for name in names}}, posts).activations
            after = {name: name.rsplit(".", 1)[0] + ".resid_post" for name in names}
            unread += [name for name in names if not relative_error(got[after[name]], base[after[name]])]
            tried += len(names)
    return Measurement(float(len(unread)), 0.0, "unread: " + listed(unread) if unread else f"{tried} sites")


def _fetches_alike(base: Mapping[str, mx.array], source: Mapping[str, mx.array], name: str) -> bool:
    """Whether the other run's pattern fetches what the own one does, so that it cannot matter who looks where."""
    layer = name.rsplit(".", 1)[0]
    if f"{layer}.v" not in base or f"{layer}.pattern" not in base:
        return False
    values, patterns = base[f"{layer}.v"].swapaxes(1, 2), [run[f"{layer}.pattern"] for run in (base, source)]
    values = mx.repeat(values, patterns[0].shape[1] // values.shape[1], axis=1)
    ours, theirs = (pattern @ values for pattern in patterns)
    return not relative_error(theirs, ours)


@law(
    "the whole stream of another run gives its logits",
    "resid_pre, resid_mid, resid_post as a run's whole state",
)
def stream(tested: ModelUnderTest) -> Measurement:
    """The stream at all positions, before, in the middle of and after a few layers."""
    names = []
    for layer in tested.layers_with("resid_pre"):
        places = [c for c in ("resid_pre", "resid_mid", "resid_post") if tested.site_exists(c, layer)]
        names += [f"layers.{layer}.{c}" for c in places]
    source = tested.source
    errors = [
        relative_error(tested.traced({name: source.activations[name]}).output, source.output)
        for name in names
    ]
    if max(errors) <= tested.limit:
        return Measurement(max(errors), tested.limit)
    if beside := _beside(tested):
        raise DoesNotApply(f"{beside}, so the stream is not the whole state")
    return Measurement(max(errors), tested.limit, f"worst: {names[int(np.argmax(errors))]}")


@law("resid_mid = resid_pre + attn, resid_post = resid_mid + mlp", "resid_mid, and sums over components")
def sums(tested: ModelUnderTest) -> Measurement:
    """Where a layer is plain; in post-norm layers what is added is the norm of each part."""
    layers, shown, errors = tested.layers_with("resid_mid"), tested.base.activations, []
    for layer in layers:
        info = tested.resolver.layer(layer)
        pre, mid, post = (shown[f"layers.{layer}.{c}"] for c in ("resid_pre", "resid_mid", "resid_post"))
        visits = ("", str(info.visit))
        inside = [k for k in shown if k.startswith(f"{info.path}.") and k.partition("@")[2] in visits]
        added = [shown[k] for k in inside if shown[k].shape == post.shape]
        added += [shown[f"layers.{layer}.mlp"]] if len(info.mlps) > 1 else []
        errors.append(relative_error(pre + _added(shown, info), mid))
        errors.append(min(relative_error(mid + x, post) for x in added))
    some = "" if len(layers) == len(tested.layers) else f"at layers {listed(layers)} of those tried"
    return Measurement(max(errors), tested.limit, some)


def _added(shown: Mapping[str, mx.array], info: Any) -> mx.array:
    return shown[f"{info.added}@{info.visit}" if info.visit else info.added]


@law("layers run in order, mixers move what tokens know, and MLPs are others", "component and layer names")
def names(tested: ModelUnderTest) -> Measurement:
    """The layers as the model's own list has them; a mixer moves between tokens. Counts failures."""
    order = tested.by_hand.order_of_calls(getattr(tested.net, "layers", None) or [], tested.ids)
    wrong: list[str] = []
    if order:
        found = [tested.by_hand.modules[info.path] for info in tested.resolver.structure.layers]
        wrong += [f"layer {i}" for i, (a, b) in enumerate(zip(order, found, strict=False)) if a is not b]
        wrong += ["the number of layers"] if len(order) != len(found) else []
    tried = 0
    for layer in tested.layers:
        mixer, mlp = (tested.by_hand.places.get((c, layer)) for c in ("attn", "mlp"))
        if mixer is None:
            continue
        if mlp is not None and (mixer.path, mixer.visit) == (mlp.path, mlp.visit):
            wrong.append(f"attn and mlp of layer {layer} are one")
        mixes = tested.by_hand.mixes(mixer, tested.ids)
        tried += mixes is not None
        wrong += [f"attn of layer {layer}"] if mixes is False else []
    if not tried and not order:
        raise DoesNotApply("neither the layers nor their mixers can be called by themselves")
    return Measurement(float(len(wrong)), 0.0, "not so: " + ", ".join(wrong[:4]) if wrong else "")


# ---- mixer and MLP are all that a layer adds


@law(
    "a layer adds what attn and mlp write, or it is said",
    "attn, mlp: they are parts of what they are called",
)
def accounted(tested: ModelUnderTest) -> Measurement:
    """Each layer's output as a scaled sum of its input and of what `attn` and `mlp` add, the scales fitted.

    What a part adds is its output, or what a module makes of it by itself (a norm, a gain). Where the sum is not the
    output, the resolver has to say so.
    """
    calls, errors, silent = record(tested.net, mx.array([tested.ids])), [], []
    for layer in tested.layers_with("resid_pre", "resid_post", layers=tested.all_layers):
        names = [f"layers.{layer}.{c}" for c in ("attn", "mlp") if tested.site_exists(c, layer)]
        if tested.resolver.remarks("attn", [layer]) or len(names) < _parts(tested, layer):
            continue  # said, or refused
        shown = tested.base.activations
        pre, post = (shown[f"layers.{layer}.{c}"] for c in ("resid_pre", "resid_post"))
        parts = [[shown[name], *_made_of(tested, calls, layer, shown[name])] for name in names]
        error = _unexplained(post, pre, parts)
        errors.append(error)
        silent += [layer] if error > tested.limit else []
    if not errors:
        raise DoesNotApply("the resolver says of every layer what attn and mlp are not")
    return Measurement(max(errors), tested.limit, f"more is added at layers {silent}" if silent else "")


def _parts(tested: ModelUnderTest, layer: int) -> int:
    info = tested.resolver.layer(layer)
    return bool(info.mixers) + bool(info.mlps)


def _made_of(tested: ModelUnderTest, calls: list[Call], layer: int, x: mx.array) -> list[mx.array]:
    """Outputs of the layer's modules that were given `x` and nothing else."""
    info, wanted = tested.resolver.layer(layer), as_numpy(x)
    made = []
    for call in calls:
        inputs = call.inputs()
        if call.path.startswith(f"{info.path}.") and call.visit == info.visit and len(inputs) == 1:
            given = as_numpy(inputs[0])
            if (
                given.shape == wanted.shape
                and relative_error(given, wanted) <= tested.limit
                and call.hidden() is not None
            ):
                made.append(call.hidden())
    return made


def _unexplained(post: mx.array, pre: mx.array, parts: list[list[mx.array]]) -> float:
    """The least error of a fit of `post` by `pre` and one candidate for each part."""
    choices = [[]]
    for candidates in parts:
        choices = [[*chosen, x] for chosen in choices for x in candidates if x.shape == post.shape]
    right, errors = as_numpy(post).astype(np.float64).reshape(-1), []
    for chosen in choices:
        columns = np.stack([as_numpy(x).astype(np.float64).reshape(-1) for x in (pre, *chosen)], axis=1)
        scales, *_ = np.linalg.lstsq(columns, right, rcond=None)
        errors.append(relative_error(columns @ scales, right))
    return min(errors, default=float("inf"))
