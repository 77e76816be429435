"""The laws that every number of this package rests on, each measured on one model.

    @law("name", "what not to trust where it fails")
    def measure(t: Trial) -> Found: ...        # or raise NotHere(why the law does not apply)

A law is an identity that must hold for any model, so that a model whose right answers nobody knows can still be
checked: an untouched trace changes no bit, the whole stream of another run gives that run's logits, all engines
give the same numbers. Errors are relative to the largest value of the right side.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from .. import loading
from ..anatomy.architecture_exceptions import exceptional
from ..anatomy.attention import INTERNALS, attending, pattern, plain_attention, weighted
from ..anatomy.components import COMPONENTS
from ..anatomy.recording import forward
from ..engine import calibration, choice
from ..engine.corruption import GaussianNoise
from ..engine.runs import Run, capture
from ..engine.sweep import Sweep
from ..errors import InputError
from ..experiments import pairs
from ..forward.trace import Trace
from . import whole_mlp
from .model_under_test import DIFFERENT, Found, NotHere, Trial, off, relative


@dataclass(frozen=True)
class Law:
    """A law's name, what cannot be trusted where it fails, and how it is measured."""

    name: str
    distrust: str
    measure: Callable[[Trial], Found]


LAWS: list[Law] = []


def law(name: str, distrust: str) -> Callable:
    """Enter a function into LAWS."""

    def enter(measure: Callable[[Trial], Found]) -> Callable[[Trial], Found]:
        LAWS.append(Law(name, distrust, measure))
        return measure

    return enter


def _named(sites: Iterable[str], most: int = 3) -> str:
    sites = list(sites)
    return ", ".join(sites[:most]) + (f" and {len(sites) - most} more" if len(sites) > most else "")


# ---- tracing


@law("two plain runs agree to the bit", "any number: this model's own answer changes from run to run")
def repeats(t: Trial) -> Found:
    """The model is a function of its tokens."""
    return Found(off(t.plain(t.ids), t.plain(t.ids)), 0.0)


@law("an untouched trace changes no bit and leaves no mark", "any number: watching this model changes it")
def untouched(t: Trial) -> Found:
    """Logits with every module tapped are the plain ones, and afterwards all is as before."""
    classes = [type(m) for m in t.net.modules()]
    expected = t.plain(t.ids)
    error = max(off(t.base.output, expected), off(t.plain(t.ids), expected))
    if classes != [type(m) for m in t.net.modules()]:
        return Found(float("inf"), 0.0, "modules kept their traced class")
    return Found(error, 0.0)


@law("a site replaced by itself changes nothing", "edits and patches at the sites named above")
def itself(t: Trial) -> Found:
    """All components of a few layers in one pass, in which every site must still be reached by what it was; where
    that fails, one at a time to name them.
    """
    wanted = {f"layers.{layer}.{c}" for layer in t.layers for c in COMPONENTS}
    names = [name for name in t.resolver.table if name in wanted or "." not in name]
    kept, arrived = {name: t.base.activations[name] for name in names}, {}

    def replaced(x: mx.array, name: str) -> mx.array:
        arrived[name] = off(x, kept[name])
        return kept[name]

    fns = {name: functools.partial(replaced, name=name) for name in names}
    with Trace(t.resolver, mx.array([t.ids]), None, fns, cache=False):
        pass
    if not any(arrived.values()):
        return Found(0.0, 0.0, f"{len(names)} sites")
    errors = {name: off(t.traced({name: kept[name]}).output, t.base.output) for name in names}
    guilty = [name for name, error in errors.items() if error]
    if guilty and all(name.rsplit(".", 1)[-1] in INTERNALS for name in guilty):
        return Found(
            max(arrived.values()), t.limit, f"to rounding at {_named(guilty)}: laid out anew in memory"
        )
    note = f"not so at {_named(guilty)}" if guilty else "not so when all are replaced together"
    return Found(max(arrived.values()), 0.0, note)


def _fed(t: Trial) -> tuple[list[int], Trace]:
    """A pass in which each layer gets the input that it has in the other run."""
    layers = t.has("resid_pre", "resid_post", layers=t.everywhere)
    edits = {f"layers.{i}.resid_pre": t.source.activations[f"layers.{i}.resid_pre"] for i in layers}
    return layers, t.traced(edits, [f"layers.{i}.resid_post" for i in layers])


@law("a layer's output follows from its input", "resid_pre, resid_mid, resid_post: layers hear more")
def follows(t: Trial) -> Found:
    """Given the other run's inputs, every layer gives the other run's output."""
    layers, fed = _fed(t)
    names = [f"layers.{i}.resid_post" for i in layers]
    errors = [off(fed.activations[name], t.source.activations[name]) for name in names]
    if max(errors) > t.limit and t.beside:
        raise NotHere(f"{t.beside}, so one layer's input is not all that it hears")
    worst = f"worst: layer {layers[int(np.argmax(errors))]}" if max(errors) > t.limit else ""
    return Found(max(errors), t.limit, worst)


@law("a layer reads its input", "layers named above and below them: what comes before cannot matter")
def reads(t: Trial) -> Found:
    """Where the inputs of the two runs differ, so do the outputs. The error counts layers."""
    layers, fed = _fed(t)
    base, source = t.base.activations, t.source.activations
    deaf = [
        i
        for i in layers
        if off(source[f"layers.{i}.resid_pre"], base[f"layers.{i}.resid_pre"])
        and not off(fed.activations[f"layers.{i}.resid_post"], base[f"layers.{i}.resid_post"])
    ]
    if not off(source[f"layers.{layers[0]}.resid_pre"], base[f"layers.{layers[0]}.resid_pre"]):
        return Found(float("inf"), 0.0, "different tokens are alike at the first layer")
    return Found(float(len(deaf)), 0.0, "ignored by layer " + _named(map(str, deaf)) if deaf else "")


@law("what a component writes is read", "the components named above: nothing in their layer reads them")
def written(t: Trial) -> Found:
    """With a layer's input held, another run's component changes the layer's output. The error counts sites."""
    layers = t.has("resid_pre", "resid_post", layers=t.everywhere)
    base, source = t.base.activations, t.source.activations
    held = {f"layers.{i}.resid_pre": base[f"layers.{i}.resid_pre"] for i in layers}
    posts = [f"layers.{i}.resid_post" for i in layers]
    unread, tried = [], 0
    for component in list(COMPONENTS)[1:-1]:
        names = [f"layers.{i}.{component}" for i in layers if f"layers.{i}.{component}" in t.resolver.table]
        names = [name for name in names if off(source[name], base[name])]
        if names:
            got = t.traced({**held, **{name: source[name] for name in names}}, posts).activations
            after = {name: name.rsplit(".", 1)[0] + ".resid_post" for name in names}
            unread += [name for name in names if not off(got[after[name]], base[after[name]])]
            tried += len(names)
    return Found(float(len(unread)), 0.0, "unread: " + _named(unread) if unread else f"{tried} sites")


@law(
    "the whole stream of another run gives its logits",
    "resid_pre, resid_mid, resid_post as a run's whole state",
)
def stream(t: Trial) -> Found:
    """The stream at all positions, before, in the middle of and after a few layers."""
    names = [
        name
        for layer in t.has("resid_pre")
        for c in ("resid_pre", "resid_mid", "resid_post")
        if (name := f"layers.{layer}.{c}") in t.resolver.table
    ]
    errors = [off(t.traced({n: t.source.activations[n]}).output, t.source.output) for n in names]
    if max(errors) > t.limit and t.beside:
        raise NotHere(f"{t.beside}, so the stream is not the whole state")
    worst = f"worst: {names[int(np.argmax(errors))]}" if max(errors) > t.limit else ""
    return Found(max(errors), t.limit, worst)


@law("resid_mid = resid_pre + attn, resid_post = resid_mid + mlp", "resid_mid, and sums over components")
def sums(t: Trial) -> Found:
    """Where a layer is plain; in post-norm layers what is added is the norm of each part."""
    layers, acts, errors = t.has("resid_mid"), t.base.activations, []
    for layer in layers:
        info = t.resolver.layer(layer)
        pre, mid, post = (acts[f"layers.{layer}.{c}"] for c in ("resid_pre", "resid_mid", "resid_post"))
        inside = [
            k for k in acts if k.startswith(f"{info.path}.") and k.partition("@")[2] in ("", str(info.visit))
        ]
        added = [acts[k] for k in inside if acts[k].shape == post.shape]
        added += [acts[f"layers.{layer}.mlp"]] if len(info.mlps) > 1 else []
        errors.append(off(pre + _added(acts, info), mid))
        errors.append(min(off(mid + x, post) for x in added))
    some = "" if len(layers) == len(t.layers) else f"at layers {_named(map(str, layers))} of those tried"
    return Found(max(errors), t.limit, some)


def _added(acts: Any, info: Any) -> mx.array:
    return acts[f"{info.added}@{info.visit}" if info.visit else info.added]


# ---- heads


@law("heads, concatenated and projected, are the mixer's output", "head")
def projected(t: Trial) -> Found:
    """The output projection by itself, on the heads of a trace."""
    errors, acts = [], t.base.activations
    for layer in t.has("head"):
        heads = acts[f"layers.{layer}.head"]
        out = t.resolver.paths[t.resolver.layer(layer).out_proj](heads.reshape(*heads.shape[:2], -1))
        errors.append(off(out, acts[f"layers.{layer}.attn"]))
    return Found(max(errors), t.limit)


def _attention_calls(t: Trial) -> list[tuple[mx.array, mx.array, bool]]:
    """Of each attention call of a plain pass: pattern, output, whether there are sinks; and the recomputed output."""
    calls = []

    def hook(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        out = plain_attention(q, k, v, **options)
        weights = pattern(q, k, **options)
        calls.append((weights, out, weighted(weights, v), options.get("sinks") is not None))
        return out

    with attending(hook):
        t.plain(t.ids)
    return calls


@law("pattern rows sum to 1, and weigh the values into the attention's output", "pattern")
def patterns(t: Trial) -> Found:
    """In every attention call of a pass; with sinks rows sum to 1 at most."""
    calls = _attention_calls(t)
    if not calls:
        raise NotHere("this model makes no call of mlx's attention")
    errors, sinks = [], any(call[-1] for call in calls)
    for weights, out, again, sink in calls:
        missing = 1 - weights.astype(mx.float32).sum(-1)
        wrong = mx.maximum(-missing, 0) if sink else mx.abs(missing)
        errors += [wrong.max().item(), off(again, out)]
    return Found(max(errors), t.limit, "with sinks, so to less than 1" if sinks else "")


@law(
    "what one head attends to reaches that head alone",
    "single heads: they are not split as attention splits them",
)
def apart(t: Trial) -> Found:
    """One head of an attention call scaled, all layer inputs held. The error counts the other heads that change."""
    calls = [
        i for i in t.everywhere if t.resolver.layer(i).attention and f"layers.{i}.head" in t.resolver.table
    ]
    if not calls or len(_attention_calls(t)) != len(calls):
        t.has("head", "pattern")
        raise NotHere("some layers' attention calls or heads are not to be seen")
    held = {
        f"layers.{i}.resid_pre": t.base.activations[f"layers.{i}.resid_pre"]
        for i in t.has("resid_pre", layers=t.everywhere)
    }

    def hook(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        out = plain_attention(q, k, v, **options)
        return (
            mx.concatenate([out[:, :1], 2 * out[:, 1:2] + 1, out[:, 2:]], axis=1)
            if out.shape[1] > 1
            else 2 * out
        )

    names = [f"layers.{i}.head" for i in calls]
    with attending(hook):
        got = t.traced(held, names).activations
    wrong = 0
    for name in names:
        moved = mx.abs(got[name] - t.base.activations[name]).max(axis=(0, 1, 3)) > 0
        expected = min(1, moved.size - 1)
        wrong += sum(bool(x) != (i == expected) for i, x in enumerate(moved.tolist()))
    return Found(float(wrong), 0.0)


@law("pattern @ v are the heads", "pattern and head together")
def weighed(t: Trial) -> Found:
    """Where the attention's output is projected as it is."""
    acts, errors, gaps = t.base.activations, [], []
    for layer in t.has("pattern", "v", "head", layers=t.everywhere):
        heads, v = acts[f"layers.{layer}.head"], acts[f"layers.{layer}.v"].swapaxes(1, 2)
        (errors if layer in t.projected_as_is else gaps).append(
            off(weighted(acts[f"layers.{layer}.pattern"], v).swapaxes(1, 2), heads)
        )
    if gaps and not errors:
        raise NotHere("what is projected is not what attention returned (gated, normed or a latent value)")
    return Found(
        max(errors), t.limit, f"at {len(errors)} of {len(errors) + len(gaps)} layers" if gaps else ""
    )


@law("patching all heads is patching the mixer's output", "head")
def all_heads(t: Trial) -> Found:
    """Last-position logits, by the textbook."""
    t.has("head")
    pairs = [(t.textbook[name, i], t.textbook["mixer", i]) for name, i in t.textbook if name == "all heads"]
    return Found(max(relative(a, b) for a, b in pairs), t.limit)


# ---- sweeps


@law("no position sees a later one", "that what is patched at a token leaves earlier tokens alone")
def causal(t: Trial) -> Found:
    """Changing tokens leaves the logits before them as they were."""
    a, b = t.base.output, t.source.output
    changed = t.plain((*t.ids[:-1], (t.ids[-1] + 1) % t.model.vocab_size))
    early = off(b[:, : DIFFERENT[0]], a[:, : DIFFERENT[0]])
    error = max(early, off(changed[:, :-1], a[:, :-1]))
    return Found(error, t.limit, "" if error <= t.limit else "sweeps share no prefix here")


@law("before the first difference nothing is recovered", "cells before the prompts differ")
def before(t: Trial) -> Found:
    """By the textbook to rounding, by the engine exactly."""
    names = [name for name in t.cells if name[0] == "before"]
    if not names:
        raise NotHere("this model has no site to patch")
    if not t.probe.causal:
        raise NotHere("this model is not causal")
    fast, plain = dict(zip(t.cells, t.fast[0], strict=True)), t.fast[1].base[:, 0]
    exact = max(relative(fast[name], plain) for name in names)
    loop = max(relative(t.textbook[name], plain) for name in names)
    if exact and choice.choose(t.resolver).name != "loop":
        return Found(exact, 0.0, "by the engine")
    return Found(loop, t.limit)


class Refused(Exception):
    """An engine is not used on a model although nothing known about the architecture speaks against it."""


def _engine(t: Trial, name: str) -> choice.Engine:
    """An engine that the probe takes; NotHere for a known exception, Refused for any other."""
    _refused(t, name, t.probe.wrong(name))
    return choice.Engine(name, False, t.probe.causal, t.probe.axes if name == "fanout" else {})


def _refused(t: Trial, name: str, reason: str) -> None:
    if not reason:
        return
    if known := exceptional(t.net).engines.get(name):
        raise NotHere(f"not used on this architecture: {known}")
    raise Refused(f"the probe refused it: {reason}")


@law("fan-out gives the textbook's numbers", 'engine="fanout" (ask for engine="loop")')
def fanout(t: Trial) -> Found:
    """Every cell a row, born at the layer where it first differs."""
    return t.against_the_textbook(t.swept(_engine(t, "fanout"))[0])


@law("flat batches give the textbook's numbers", 'engine="flat" (ask for engine="loop")')
def flat(t: Trial) -> Found:
    """Every cell a row from the tokens on."""
    return t.against_the_textbook(t.swept(_engine(t, "flat"))[0])


@law("sharing a prefix changes nothing", "sweeps whose prompts begin alike")
def prefix(t: Trial) -> Found:
    """The base run's keys and values stand for the positions before the first patch."""
    engine = _engine(t, "fanout")
    if not t.probe.causal and causal(t).error <= t.limit:
        raise Refused("the probe takes this model for one that sees later positions, which it is not")
    if reason := t.probe.has_no_prefix():
        raise NotHere(reason)
    _refused(t, "prefix", t.probe.prefix_wrong())
    return t.against_the_textbook(t.swept(replace(engine, prefix=True))[0])


@law("any split into passes gives the same numbers", "sweeps that do not fit the memory at once")
def split(t: Trial) -> Found:
    """With less memory than the sweep would like."""
    engine = choice.choose(t.resolver)
    if engine.name == "loop":
        raise NotHere("every cell has a pass of its own here")
    passes = t.fast[1].plan.passes
    for share in (0.4, 0.6, 0.8, 0.95):
        try:
            rows, outcome = t.swept(engine, share)
        except InputError:  # not even one cell fits
            continue
        if outcome.plan.passes > passes:
            found = t.against_the_textbook(rows)
            return replace(found, note=found.note or f"{passes} and {outcome.plan.passes} passes")
    raise NotHere("the sweep cannot be split further")


# ---- noise, quantization


@law("noise: one seed, one run; none of it, the plain run", "GaussianNoise and causal traces")
def noise(t: Trial) -> Found:
    """Noise on the embeddings of the tokens that differ, drawn twice, and drawn at level 0."""
    plain = capture(t.resolver, Run(t.ids), [])[0]
    first, second = (capture(t.resolver, _noised(t), [])[0] for _ in range(2))
    none = capture(t.resolver, _noised(t, 0.0), [])[0]
    if not relative(first, plain):
        if not off(t.source.output[:, -1], t.base.output[:, -1]):
            raise NotHere("the last token hears nothing of the tokens that were changed")
        return Found(float("inf"), 0.0, "noise on the embeddings does not reach the logits")
    if (first != second).any():
        return Found(relative(first, second), 0.0, "one seed, two results")
    return Found(relative(none, plain), t.limit)


def _noised(t: Trial, level: float | str = "s3") -> Run:
    how = GaussianNoise(range(DIFFERENT[0], DIFFERENT[-1] + 1), level, samples=2)
    return pairs.noised_run(t.model, t.ids, how.subject, how, pairs.embedding_std(t.model))


@law("noise samples are swept as the textbook does", "GaussianNoise and causal traces")
def noise_rows(t: Trial) -> Found:
    """Every sample is a row; a few cells by the engine and one at a time."""
    names = [name for name in t.cells if name[0] in ("resid_post", "mlp", "attn")][:4]
    if not names:
        raise NotHere("this model has no site to patch")

    def swept(engine: choice.Engine) -> np.ndarray:
        sweep = Sweep(t.resolver, _noised(t), Run(t.ids), [t.cells[name] for name in names], engine)
        return sweep.run(lambda logits: logits.T.astype(np.float64), progress=False).values

    return Found(
        relative(swept(choice.choose(t.resolver)), swept(choice.Engine("loop", causal=False))), t.limit
    )


@law("quantized weights act as their dequantized values", "this quantized model compared with a float one")
def quantized(t: Trial) -> Found:
    """The same weights dequantized, in the precision in which the model computes."""
    if not t.model.is_quantized:
        raise NotHere("the weights are not quantized")
    weights = sum(
        8 / m.bits * m.weight.nbytes for m in t.net.modules() if hasattr(m, "bits") and "scales" in m
    )
    if 4 * weights > calibration.default_memory():
        raise NotHere("a dequantized copy does not fit the memory")
    twin = loading.cast(copy.deepcopy(t.net), calibration.compute_dtype(t.resolver))
    return Found(off(forward(twin, mx.array([t.ids])), t.base.output), 2 * t.limit)  # both sides round


law(
    "a layer adds what attn and mlp write, or it is said", "attn, mlp: they are parts of what they are called"
)(whole_mlp.accounted)
