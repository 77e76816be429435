"""The laws of noise, causal traces, effects, refusals, and of a small model whose make is known."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..engine.corruption import GaussianNoise
from ..errors import MlxtraceError
from . import by_hand, patching_laws
from .by_hand import Noise, Write
from .model_under_test import LENGTH, Found, NotHere, Trial
from .patching_laws import METRICS, NOISE_SEED, SAMPLES, SUBJECT, Bench, _few, _here, _window, metric_values
from .registry import LAWS, law


def table_std(t: Trial) -> float:
    """The unbiased standard deviation of what the embedding module gives for all tokens, in float64."""
    module, count, total, squares = t.hand.modules[t.hand.embed], 0, 0.0, 0.0
    for begin in range(0, t.model.vocab_size, 4096):
        ids = mx.arange(begin, min(begin + 4096, t.model.vocab_size))
        rows = np.array(module(ids).astype(mx.float32), dtype=np.float64)
        count, total, squares = count + rows.size, total + rows.sum(), squares + (rows**2).sum()
    return float(np.sqrt((squares - total**2 / count) / (count - 1)))


def drawn(
    t: Trial, level: str | float, std: float, samples: int = SAMPLES, seed: int = NOISE_SEED
) -> np.ndarray:
    """The noise on the subject's tokens, as the authors' code draws it: `[samples, tokens, width]`."""
    random, shape = np.random.RandomState(seed), (samples, len(SUBJECT), t.model.d_model)
    if isinstance(level, str) and level[0] == "u":
        return random.uniform(-1, 1, shape) * float(level[1:])
    return random.randn(*shape) * (float(level[1:]) * std if isinstance(level, str) else level)


def _noises(values: np.ndarray, replace: bool = False) -> list[Noise]:
    return [Noise(list(SUBJECT), sample, replace) for sample in values]


@law("noise on embeddings, by hand: level, seed, samples, replacing", "GaussianNoise as a corruption")
def noise_by_hand(t: Trial) -> Found:
    """Relative, absolute and uniform noise, added and put in place, patched in both directions."""
    layer, std, errors = _few(t)[-2], table_std(t), []
    component = _here(t, ["resid_post", "mlp", "attn"], [layer])[0]
    for level, replace, direction, positions in (
        ("s3", False, "denoise", "each"),
        ("s1.5", True, "noise", [SUBJECT[-1], LENGTH - 1]),
        (2 * std, False, "noise", [SUBJECT[-1], LENGTH - 1]),
        (f"u{4 * std!r}", False, "denoise", [SUBJECT[-1], LENGTH - 1]),
    ):
        b = Bench(t, [component], [layer], t.ids, _noises(drawn(t, level, std), replace))
        noise = GaussianNoise(SUBJECT, level, SAMPLES, NOISE_SEED, replace)
        result = b.asked(component, corrupted=noise, layers=layer, positions=positions, direction=direction)
        groups = [[p] for p in range(LENGTH)] if positions == "each" else [positions]
        rows = [b.values(b.patched(direction, component, [layer], at, at), METRICS) for at in groups]
        errors.append(b.against(result, np.array(rows).T, METRICS))
    return Found(max(errors), t.limit)


# ---- causal traces


@law("causal traces, by hand", "causal_trace: states, windows of MLPs and attention, severed traces")
def traces(t: Trial) -> Found:
    """Restored states and windows at a few layers and positions; the low and high score."""
    std, errors = table_std(t), []
    rows = [SUBJECT[-1], LENGTH - 1]
    kinds = _here(t, ["resid_post", "mlp", "attn"], t.everywhere)
    b = Bench(t, kinds, None, t.ids, _noises(drawn(t, "s3", std)))
    for kind in kinds:
        width = 1 if kind == "resid_post" else 3
        asked = dict(kind=None if kind == "resid_post" else kind, window=3, target=b.top)
        found = _traced(t, rows, **asked)
        layers = sorted({0, *_few(t)})

        def cell(layer: int, position: int, kind: str = kind, width: int = width) -> np.ndarray:
            around = _window(layer, width, t.model.n_layers)
            return b.patched("denoise", kind, around, [position], [position])

        errors.append(_off(t, b, found, b.corrupted_logits, layers, rows, cell))
    return Found(max(errors), t.limit)


@law("severed causal traces, by hand", 'causal_trace(severed="mlp")')
def severed(t: Trial) -> Found:
    """A state restored while an MLP's or mixer's outputs at its token are held at another draw's values, or its own."""
    held = _here(t, ["mlp", "attn"], t.everywhere)[0]
    _here(t, ["resid_post"], t.everywhere)
    std, errors = table_std(t), []
    both = drawn(t, "s3", std, 2 * SAMPLES)
    first, layers = _noises(both[:SAMPLES]), _few(t, 2)
    rows = [SUBJECT[-1], LENGTH - 1]  # at the last token the last layer's part counts, too
    for how, second in (("next", _noises(both[SAMPLES:])), ("same", first)):
        b = Bench(t, ["resid_post", held], None, t.ids, first)
        found = _traced(t, rows, severed=held, severed_noise=how, target=b.top)

        def cell(layer: int, position: int, b: Bench = b, second: Sequence[Noise] = second) -> np.ndarray:
            found = []
            for kept, noise in zip(b.of_corrupted, second, strict=True):
                at = [position]
                writes = [Write(held, i, at, kept[held, i], at) for i in t.everywhere]
                writes.append(Write("resid_post", layer, at, b.of_clean["resid_post", layer], at))
                found.append(b.hand.run(t.ids, writes, noise)[0][-1])
            return np.stack(found)

        errors.append(_off(t, b, found, b.corrupted_logits, layers, rows, cell))
    return Found(max(errors), t.limit)


def _traced(t: Trial, positions: Sequence[int], **options: Any) -> Any:
    options = {
        "samples": SAMPLES,
        "seed": NOISE_SEED,
        "positions": list(positions),
        "progress": False,
        **options,
    }
    return t.model.causal_trace(list(t.ids), SUBJECT, **options)


def _off(t: Trial, b: Bench, found: Any, low: np.ndarray, layers, rows, cell: Callable) -> float:
    """The largest error of a trace's probabilities, as the relative error of logits that would make it."""
    right = {(i, layer): _prob(b, cell(layer, p)) for i, p in enumerate(rows) for layer in layers}
    low, high = float(_prob(b, low).mean()), float(_prob(b, b.clean_logits[None])[0])
    errors = [abs(found.low_score - low), abs(found.high_score - high)]
    errors += [np.abs(found.raw[where] - p).max() for where, p in right.items()]
    errors += [np.abs(found.scores[where] - found.indirect_effect[where] - low) for where in right]
    return float(max(errors)) / _prob_scale(b, max(high, low, *(p.max() for p in right.values())))


def _prob(b: Bench, logits: np.ndarray) -> np.ndarray:
    """The probability of the clean run's own answer, which is large enough to be compared."""
    return metric_values("prob", logits, b.clean_logits, b.top, b.foil)


def _prob_scale(b: Bench, largest: float) -> float:
    """What a probability moves when logits move by their largest: twice itself times that."""
    return 2 * float(largest) * max(b.scale, 1.0)


# ---- effects


@law("causal effects and noising windows, by hand", "causal_effects, noising_window")
def effects(t: Trial) -> Found:
    """Direct and indirect effects of windows of two layers; noise in all layers but a window."""
    layers = _few(t)
    component = _here(t, ["resid_post", "mlp", "attn"], t.everywhere)[0]
    b, errors = Bench(t, [component]), []
    options = {"target": b.target, "foil": b.foil, "window": 2, "layers": layers, "progress": False}
    for metric in ("logit", "prob_diff"):
        found = t.model.causal_effects(b.corrupted, b.clean, component, metric=metric, **options)
        source, base = (float(b.value(x, metric).mean()) for x in (b.clean_logits[None], b.corrupted_logits))
        off, every = [abs(found.source_value - source), abs(found.base_value - base)], list(range(LENGTH))
        for i, layer in enumerate(layers):
            around = _window(layer, 2, t.model.n_layers)
            there, back = (
                float(b.value(b.patched(way, component, around, every, every), metric).mean())
                for way in ("denoise", "noise")
            )
            off += [abs(found.direct[i] - there), abs(found.indirect[i] - (source - back))]
        size = b.scale if metric == "logit" else _prob_scale(b, max(abs(source), abs(base)))
        errors.append(max(off) / size)
    return Found(max(*errors, _noised_windows(t, b, component)), t.limit)


def _noised_windows(t: Trial, b: Bench, component: str) -> float:
    n, centres = t.model.n_layers, _few(t, 2)
    if any(b.of_clean[component, i].ndim != 3 for i in t.everywhere):
        return 0.0
    found = t.model.noising_window(
        b.clean,
        window=3,
        level=0.05,
        samples=SAMPLES,
        seed=NOISE_SEED,
        component=component,
        layers=centres,
        target=b.top,
    )
    shape = b.of_clean[component, 0].shape[1:]
    noise = (0.05 * np.random.RandomState(NOISE_SEED).randn(SAMPLES, n, *shape)).astype(np.float32)
    errors = []
    for c, centre in enumerate(centres):
        for s in range(SAMPLES):
            logits = _noised_pass(t, b, component, noise[s], lambda i, centre=centre: abs(i - centre) <= 1)
            errors.append(abs(found.raw[c, s] - float(_prob(b, logits))))
    none = [float(_prob(b, _noised_pass(t, b, component, x, lambda i: False))) for x in noise]
    high = float(_prob(b, b.clean_logits))
    errors += [abs(found.noised - np.mean(none)), abs(found.clean - high)]
    return max(errors) / _prob_scale(b, max(high, *none, found.raw.max()))


def _noised_pass(
    t: Trial, b: Bench, component: str, noise: np.ndarray, restored: Callable[[int], bool]
) -> np.ndarray:
    """Last-position logits with every layer's component noised, or restored to the clean run's, in one pass."""
    names = {(place.path, place.visit): i for (c, i), place in t.hand.places.items() if c == component}
    visits: dict[str, int] = {}

    def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
        visit = visits[path] = visits.get(path, -1) + 1
        out = forward(*args, **kwargs)
        if (layer := names.get((path, visit))) is None:
            return out
        x = by_hand._first(out)
        now = np.array(x.astype(mx.float32))
        now = b.of_clean[component, layer] if restored(layer) else now + noise[layer]
        return by_hand._with_first(out, mx.array(now).astype(x.dtype))

    with by_hand.watched(t.hand.watch(dict.fromkeys(path for path, _ in names)), call):
        logits = by_hand.run(t.net, mx.array([b.clean]), t.hand.cached)
        return np.array(logits.astype(mx.float32), dtype=np.float64)[0, -1]


# ---- refusals


@law("what cannot mean anything is refused", "that a number is of what was asked for")
def refusals(t: Trial) -> Found:
    """Bad input raises, and so does a sweep in which the model does not run as it was planned. Counts what does not."""
    model, ids, other, n = t.model, list(t.ids), list(t.other), t.model.n_layers
    patch = functools.partial(model.activation_patching, ids, other, progress=False)
    component = _here(t, ["mlp", "attn", "resid_post"], [0])[0]
    one = functools.partial(patch, component, layers=[0])
    calls: dict[str, Callable] = {
        "an unknown component": lambda: patch("mpl"),
        "a layer past the end": lambda: patch(component, layers=[n]),
        "a position past the end": lambda: one(positions=[LENGTH]),
        "a window of 0": lambda: one(window=0),
        "an unknown metric": lambda: one(metric="probs"),
        "an unknown direction": lambda: one(direction="clean"),
        "equal prompts": lambda: model.activation_patching(ids, ids, component, progress=False),
        "prompts of two lengths": lambda: model.activation_patching(
            ids, [*other, 1], component, progress=False
        ),
        "a metric that is NaN": lambda: one(metric=lambda x: x[:, 0] * np.nan),
        "a metric that nothing moves": lambda: one(metric=lambda x: np.ones(len(x))),
        "a token past the vocabulary": lambda: one(target=model.vocab_size),
        "an unknown site": lambda: model.run_with_cache(ids, ["layers.0.mpl"]),
        "an edit of another shape": lambda: _edited(t, component, lambda x: x[:, :-1]),
        "an edit that returns nothing": lambda: _edited(t, component, lambda x: None),
        "a component that the pass never reaches": lambda: _unreached(t, component),
    }
    let = [name for name, call in calls.items() if not _raises(call)]
    if not _base_rows_are_watched(t, component):
        let.append("a batch whose base rows are not the plain run's")
    return Found(float(len(let)), 0.0, "let through: " + ", ".join(let) if let else f"{len(calls) + 1} tried")


def _raises(call: Callable) -> bool:
    try:
        call()
    except MlxtraceError:
        return True
    return False


def _edited(t: Trial, component: str, edit: Callable) -> None:
    with t.model.trace(list(t.ids), interventions={f"layers.0.{component}": edit}):
        pass


def _unreached(t: Trial, component: str) -> None:
    from dataclasses import replace

    from ..engine.runs import Cell, Patch, Run
    from ..engine.sweep import Engine, Sweep

    site = replace(t.resolver.table[f"layers.0.{component}"], visit=9)
    runs = Run(t.ids), Run(t.other)
    Sweep(t.resolver, *runs, [Cell((Patch(site, (3,), (3,)),))], Engine("flat")).run(lambda x: x.T, False)


def _base_rows_are_watched(t: Trial, component: str) -> bool:
    """Whether a sweep raises when the model gives other logits as soon as there are more than two rows."""
    from ..engine import choice

    if choice.choose(t.resolver).name == "loop":
        return True
    ask = functools.partial(Bench(t, [component], [0]).asked, component, layers=[0], positions="each")
    ask()  # what is measured once per model is measured with the model as it is
    factor = 1 + 20 * t.limit

    def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
        out = forward(*args, **kwargs)
        x = by_hand._first(out)
        return out if x.shape[0] <= 2 else by_hand._with_first(out, x * factor)

    with by_hand.watched(t.hand.watch([""]), call):
        return _raises(ask)


# ---- a model of known make


@functools.cache
def _twin_rows() -> tuple[tuple[str, str, float | None, str], ...]:
    """The experiments' laws on the small model: name, status, error, note. The same for every model, so run once."""
    from ..model import InterpretableModel

    trial = Trial(InterpretableModel(twin()))
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in LAWS:
            if one.measure.__module__ not in (__name__, patching_laws.__name__) or one.measure is known:
                continue
            try:
                found = one.measure(trial)
                rows.append((one.name, found.error <= found.tolerance, found.error, found.note))
            except Exception as error:
                rows.append((one.name, False, float("inf"), f"{type(error).__name__}: {error}"[:200]))
    return tuple(rows)


def twin() -> nn.Module:
    """A Llama of 5 layers, 4 heads and 2 key-value heads, in 4 bits, whose embedding is quantized too."""
    from mlx_lm.models import llama

    args = llama.ModelArgs(
        "llama",
        64,
        5,
        64,
        4,
        1e-5,
        96,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        max_position_embeddings=64,
    )
    net, random = llama.Model(args), np.random.RandomState(3)
    drawn = []
    for name, x in tree_flatten(net.parameters()):
        width = 1.0 if "embed" in name else 1.6 / x.shape[-1] ** 0.5
        new = random.randn(*x.shape) * width if x.ndim > 1 else 1 + 0.2 * random.randn(*x.shape)
        drawn.append((name, mx.array(new.astype(np.float32))))
    net.load_weights(drawn)
    nn.quantize(net, group_size=32, bits=4)
    mx.eval(net.parameters())
    return net


@law("all of this on a small model of known make", "this installation of the package")
def known(t: Trial) -> Found:
    """The laws of experiments on a model with grouped heads and 4-bit weights, so that each of them applies. Counts."""
    rows = _twin_rows()
    wrong = [
        f"{name} ({error:.2g}; {note})" if note else name for name, holds, error, note in rows if not holds
    ]
    if not rows:
        raise NotHere("there is no such model here")
    return Found(
        float(len(wrong)),
        0.0,
        "; ".join(wrong)[:600] if wrong else f"{len(rows)} laws, 4 bits, grouped heads",
    )
