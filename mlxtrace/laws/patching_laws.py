"""The laws of the experiments: what `activation_patching`, `causal_trace` and the rest return, against loops by hand.

Each of these laws asks for an experiment as a user does, through the model's own methods, and does the same with
`byhand`: one plain pass a cell, the patch written out, metrics in NumPy. Nothing of the engine is used on that side,
so that an experiment which patches another layer, head, position or run than it says cannot agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..anatomy.components import COMPONENTS, HEADED
from ..metric_table import METRICS as EVERY_METRIC
from . import by_hand
from .by_hand import Noise, Write
from .model_under_test import DIFFERENT, LENGTH, Found, NotHere, Trial
from .registry import law

NOISE_SEED, SAMPLES = 7, 2
SUBJECT = range(DIFFERENT[0], DIFFERENT[-1] + 1)
Cell = Callable[[int, Any, Any], Sequence[Write]]  # layer, positions, heads -> what is written


def metric_values(name: str, x: np.ndarray, clean: np.ndarray, target: int, foil: int) -> np.ndarray:
    """The metrics' formulas a second time: logits `[.., V]` -> values, by name."""
    top = x.max(-1, keepdims=True)
    log_p = x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))
    if name == "kl":
        p = np.exp(clean - clean.max()) / np.exp(clean - clean.max()).sum()
        return (p[p > 0] * (np.log(p[p > 0]) - log_p[..., p > 0])).sum(-1)
    formulas = {
        "prob": lambda: np.exp(log_p[..., target]),
        "logprob": lambda: log_p[..., target],
        "logit": lambda: x[..., target],
        "logit_diff": lambda: x[..., target] - x[..., foil],
        "prob_diff": lambda: np.exp(log_p[..., target]) - np.exp(log_p[..., foil]),
        "rank": lambda: (x > x[..., target, None]).sum(-1).astype(float),
        "l2": lambda: np.sqrt(((x - clean) ** 2).sum(-1)),
        "cosine": lambda: (x * clean).sum(-1) / np.sqrt((x**2).sum(-1) * (clean**2).sum()),
    }
    if name not in formulas:
        raise NotImplementedError(f"metric {name} has no second formula: write it into laws.metric_values")
    return formulas[name]()


class Bench:
    """Two runs of a model by hand, clean and corrupted, and what experiments on them must give.

    clean, corrupted: ids; a corrupted run may have noise, one array `[positions, width]` a sample.
    """

    def __init__(
        self,
        t: Trial,
        components: Iterable[str],
        layers: Iterable[int] | None = None,
        corrupted: Sequence[int] | None = None,
        noises: Sequence[Noise] | None = None,
    ):
        self.t, self.hand, self.clean = t, t.hand, list(t.ids)
        self.corrupted = list(t.other if corrupted is None else corrupted)
        self.noises = list(noises or [None])
        layers = t.everywhere if layers is None else layers
        names = [(c, i) for c in components for i in layers if (c, i) in self.hand.places]
        logits, self.of_clean = self.hand.run(self.clean, keep=names)
        self.clean_logits = logits[-1]
        runs = [self.hand.run(self.corrupted, noise=noise, keep=names) for noise in self.noises]
        self.corrupted_logits = np.stack([x[-1] for x, _ in runs])
        self.of_corrupted = [kept for _, kept in runs]
        apart = np.where(np.isfinite(self.clean_logits), self.clean_logits - self.corrupted_logits.mean(0), 0)
        self.target, self.foil = int(apart.argmax()), int(apart.argmin())
        if min(abs(apart[self.target]), abs(apart[self.foil])) < HEARD:
            raise NotHere("the last token hears next to nothing of the tokens that were changed")
        self.top = int(self.clean_logits.argmax())
        self.scale = float(np.abs(self.clean_logits).max(where=np.isfinite(self.clean_logits), initial=1e-12))

    def patched(self, direction: str, component: str, layers: Iterable[int], at, source_at, heads=None):
        """Last-position logits `[samples, V]` with a component of some layers patched, by hand."""
        layers = list(layers)
        if direction == "denoise":
            writes = [Write(component, i, at, self.of_clean[component, i], source_at, heads) for i in layers]
            return np.stack([self.hand.run(self.corrupted, writes, noise)[0][-1] for noise in self.noises])
        rows = []
        for kept in self.of_corrupted:
            writes = [Write(component, i, at, kept[component, i], source_at, heads) for i in layers]
            rows.append(self.hand.run(self.clean, writes)[0][-1])
        return np.stack(rows)

    def values(self, logits: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
        """Means over the samples `[metrics]`."""
        return np.array([self.value(logits, name).mean() for name in metrics])

    def value(self, logits: np.ndarray, name: str) -> np.ndarray:
        """A metric of every sample."""
        return metric_values(name, logits, self.clean_logits, self.target, self.foil)

    def against(self, result: Any, values: np.ndarray, metrics: Sequence[str]) -> float:
        """The largest error of a result's numbers, relative to the largest logit. values: `[components, metrics, ...]`.

        Its values, those of the two plain runs, and the recoveries, by the formula of the README.
        """
        if values.size != result.raw.size:
            return float("inf")
        raw, errors = values.reshape(result.raw.shape), []
        axis = result.dims.index("metric") if "metric" in result.dims else None
        for i, name in enumerate(metrics):
            take = (lambda x: x) if axis is None else (lambda x, i=i: np.take(x, i, axis))
            clean = float(self.value(self.clean_logits[None], name).mean())
            corrupted = float(self.value(self.corrupted_logits, name).mean())
            told = [x[name] if isinstance(x, dict) else x for x in (result.clean, result.corrupted)]
            errors += [abs(told[0] - clean), abs(told[1] - corrupted)]
            errors.append(np.abs(take(result.raw) - take(raw)).max())
            right = (take(raw) - corrupted) / (clean - corrupted)
            errors.append(np.abs(take(result.recovery) / 100 - right).max() * abs(clean - corrupted))
        return float(np.max(errors)) / self.scale

    def asked(self, component: Any, **options: Any) -> Any:
        """The experiment as a user asks for it."""
        corrupted = options.pop("corrupted", self.corrupted)
        options = {"metric": list(METRICS), "target": self.target, "foil": self.foil, **options}
        return self.t.model.activation_patching(self.clean, corrupted, component, progress=False, **options)


METRICS = ("logit", "logit_diff")
HEARD = 2e-3  # a gap between the runs' logits of which recoveries are not refused


def _here(t: Trial, components: Sequence[str], layers: Iterable[int]) -> list[str]:
    """The components that every one of the layers has; NotHere if none."""
    found = [c for c in components if all((c, i) in t.hand.places for i in layers)]
    if not found:
        t.has(*components[:1], layers=layers)
        raise NotHere(f"no component of {', '.join(components)} is in every layer")
    return found


def _few(t: Trial, most: int = 3) -> list[int]:
    """The first layer, a middle one and the last."""
    n = t.model.n_layers
    return sorted({0, n // 2, n - 1} if most > 2 else {n // 2, n - 1})


def _window(layer: int, width: int, n: int) -> list[int]:
    """`width` layers centred at one, the extra one of an even number before it; cut at the ends."""
    first = layer - width // 2
    return [i for i in range(first, first + width) if 0 <= i < n]


# ---- the model, and what is read and edited in it


@law("logits do not depend on the rows beside them", "any number of a batch: this model's rows are not apart")
def rows_apart(t: Trial) -> Found:
    """How far logits move with the batch's shape and order: the worst row's to the cap, the median's to rounding."""
    floor = t.floor
    if floor.typical > t.least:
        return Found(floor.typical, t.least, f"not rounding: half of all rows move; {t.said_floor}")
    return Found(floor.most, t.cap)


@law("layers run in order, mixers move what tokens know, and MLPs are others", "component and layer names")
def names(t: Trial) -> Found:
    """The layers as the model's own list has them; a mixer's last output hears an earlier input. Counts failures."""
    own = getattr(t.net, "layers", None) or []
    order = by_hand.order_of(t.net, own, t.ids, t.hand.cached)
    wrong = []
    if order:
        found = [t.hand.modules[info.path] for info in t.resolver.structure.layers]
        wrong += [f"layer {i}" for i, (a, b) in enumerate(zip(order, found, strict=False)) if a is not b]
        wrong += ["the number of layers"] if len(order) != len(found) else []
    tried = 0
    for layer in t.layers:
        mixer, mlp = (t.hand.places.get((c, layer)) for c in ("attn", "mlp"))
        if mixer is not None and mlp is not None and (mixer.path, mixer.visit) == (mlp.path, mlp.visit):
            wrong.append(f"attn and mlp of layer {layer} are one")
        if mixer is not None:
            mixes = t.hand.mixes(mixer, t.ids)
            tried += mixes is not None
            wrong += [f"attn of layer {layer}"] if mixes is False else []
    if not tried and not order:
        raise NotHere("neither the layers nor their mixers can be called by themselves")
    return Found(float(len(wrong)), 0.0, "not so: " + ", ".join(wrong[:4]) if wrong else "")


@law("activations are what passes through the modules", "what traces and caches show")
def activations(t: Trial) -> Found:
    """Every component of a few layers, by name, as a trace keeps it and as it is seen by hand."""
    layers = sorted({*t.layers, *_few(t)})
    names = [name for name in t.hand.places if name[1] in layers]
    logits, kept = t.hand.run(t.ids, keep=names)
    shown = t.model.run_with_cache(list(t.ids))[1]
    errors = {}
    for component, layer in names:
        a, b = np.array(_float(shown[f"layers.{layer}.{component}"])), kept[component, layer]
        scale = max(float(np.abs(b).max()), 1e-12)
        same = a.shape == b.shape
        errors[f"layers.{layer}.{component}"] = float(np.abs(a - b).max()) / scale if same else float("inf")
    errors["logits"] = float(np.nanmax(_apart(np.array(_float(t.base.output))[0], logits)) / _largest(logits))
    worst = max(errors, key=errors.get)
    return Found(
        errors[worst], t.limit, f"worst: {worst}" if errors[worst] > t.limit else f"{len(errors)} sites"
    )


def _float(x: Any) -> Any:
    import mlx.core as mx

    return x.astype(mx.float32)


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0, np.abs(a - b))


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max(where=np.isfinite(x), initial=1e-12))


@law(
    "what is kept is kept: later writes of the model do not reach it",
    "activations of models that write in place",
)
def kept(t: Trial) -> Found:
    """With layers that overwrite the arrays that they were given, the same activations and the same sweep."""
    plain, _ = t.hand.run(t.ids)
    components = [c for c in ("resid_pre", "attn", "mlp", "resid_post") if (c, t.layers[-1]) in t.hand.places]
    if not components or not all(("resid_pre", i) in t.hand.places for i in t.everywhere):
        raise NotHere("layers are never called, so none can write into what it was given")
    bench = Bench(t, components, [t.layers[-1]])
    ask = lambda: bench.asked(components, layers=t.layers[-1], positions=[3, LENGTH - 1])  # noqa: E731
    before, shown = ask(), t.base.activations
    with t.hand.overwriting():
        if _apart(t.hand.run(t.ids)[0], plain).max():
            raise NotHere("this model goes on reading what its layers were given")
        after, again = ask(), t.model.run_with_cache(list(t.ids))[1]
        errors = [0.0 if np.array_equal(before.raw, after.raw) else 1.0]
        sites = [n for n, site in t.resolver.table.items() if site.layer is not None]
        modules = [t.hand.places[c, t.layers[-1]].path for c in components if c in ("attn", "mlp")]
        for name in [*sites, *modules]:
            right = np.array(_float(shown[name]))
            for _ in range(2):  # the second time after the reader has written into what he got
                x = again[name]
                errors.append(float(np.abs(np.array(_float(x)) - right).max()))
                x *= 0
    return Found(max(errors), 0.0)


@law("an edit in a trace is the edit, by hand", "edits and interventions")
def edits(t: Trial) -> Found:
    """Rows assigned in a trace's body, and interventions by name."""
    from .. import interventions as iv

    layer = t.layers[len(t.layers) // 2]
    component = _here(t, ["mlp", "attn", "resid_post"], [layer])[0]
    plain, have = t.hand.run(t.ids, keep=[(component, layer)])
    value, name = t.source.activations[f"layers.{layer}.{component}"], f"layers.{layer}.{component}"
    if value.ndim != 3:
        raise NotHere(f"{component} is not shaped [rows, tokens, width] here")
    given, old = np.array(_float(value)), have[component, layer]

    def by_hand(new: np.ndarray) -> np.ndarray:
        every = tuple(range(LENGTH))
        return t.hand.run(t.ids, [Write(component, layer, every, new, every)])[0]

    def row(at: Sequence[int], new: np.ndarray) -> np.ndarray:
        out = old.copy()
        out[:, list(at)] = new
        return out

    def traced(edit: Any) -> np.ndarray:
        _, trace = None, t.model.trace(list(t.ids), interventions={name: edit})
        with trace:
            pass
        return np.array(_float(trace.output))[0]

    with t.model.trace(list(t.ids)) as trace:
        site = getattr(t.model.layers[layer], component)
        site.output[:, 4] = value[:, 6]
    pairs = [(np.array(_float(trace.output))[0], by_hand(row([4], given[:, 6:7])))]
    pairs += [
        (traced(iv.replace_at(value, [2, 5])), by_hand(row([2, 5], given[:, [2, 5]]))),
        (traced(iv.zero_out()), by_hand(0 * old)),
        (traced(iv.zero_at(-1)), by_hand(row([LENGTH - 1], 0.0))),
        (traced(iv.scale(2.0)), by_hand(2 * old)),
        (traced(iv.add_vector(value[0, 3], 4)), by_hand(row([4], old[:, 4:5] + given[0, 3]))),
    ]
    return Found(max(float(_apart(a, b).max()) for a, b in pairs) / _largest(plain), t.limit)


# ---- patching


def _each_position(t: Trial, direction: str) -> Found:
    """Maps at a middle layer and, of fewer components, at the last one, where most positions cannot matter."""
    middle, last = t.layers[len(t.layers) // 2], t.model.n_layers - 1
    main = ("resid_pre", "attn", "mlp", "resid_post") if direction == "denoise" else ("mlp", "resid_post")
    errors = [_map(t, direction, middle, _here(t, main, [middle]))]
    errors.append(_map(t, direction, last, _here(t, ("mlp", "resid_post", "attn"), [last])[:1]))
    return Found(max(*errors, _together(t, direction)), t.limit)


def _map(t: Trial, direction: str, layer: int, components: list[str]) -> float:
    """One layer at every position, by hand and as asked for; infinite where the labels are wrong."""
    b = Bench(t, components, [layer])
    result = b.asked(components, layers=layer, positions="each", direction=direction)
    if result.coords["position"] != list(range(LENGTH)) or result.coords["layer"] != [layer]:
        return float("inf")
    at = range(LENGTH)
    values = [[b.values(b.patched(direction, c, [layer], [p], [p]), METRICS) for p in at] for c in components]
    return b.against(result, np.moveaxis(np.array(values), -1, 1), METRICS)


def _together(t: Trial, direction: str) -> float:
    """All components at several positions together, and the ways to name positions."""
    middle = t.layers[len(t.layers) // 2]
    components = _here(t, [c for c in COMPONENTS if c not in HEADED], [middle])
    b, errors = Bench(t, components, [middle]), []
    result = b.asked(components, layers=[middle], positions=[3, 6], direction=direction)
    values = [b.values(b.patched(direction, c, [middle], [3, 6], [3, 6]), METRICS) for c in components]
    errors.append(b.against(result, np.array(values), METRICS))
    places = {
        "subject": list(SUBJECT),
        "subject_last": [SUBJECT[-1]],
        "last": [LENGTH - 1],
        None: [*range(LENGTH)],
    }
    for asked, at in places.items():
        result = b.asked(components[0], layers=middle, positions=asked, direction=direction)
        values = b.values(b.patched(direction, components[0], [middle], at, at), METRICS)
        errors.append(b.against(result, values, METRICS))
    return max(errors)


@law("clean activations patched into the corrupted run, by hand", 'activation_patching, direction="denoise"')
def denoise(t: Trial) -> Found:
    """A layer x position map of the main components; all components at two positions; each way to name positions."""
    return _each_position(t, "denoise")


@law("corrupted activations patched into the clean run, by hand", 'activation_patching, direction="noise"')
def noising(t: Trial) -> Found:
    """The same the other way round."""
    return _each_position(t, "noise")


@law("windows of layers, by hand", "window=, and causal traces of MLPs and attention")
def windows(t: Trial) -> Found:
    """Windows of 2, 3 and 4 layers at the ends and in the middle, in both directions."""
    n, errors = t.model.n_layers, []
    if n < 2:
        raise NotHere("this model has one layer")
    layers = sorted({0, 1, n // 2, n - 1})
    component = _here(t, ["mlp", "attn", "resid_post"], t.everywhere)[0]
    b = Bench(t, [component])
    for width, direction in ((2, "denoise"), (3, "noise"), (4, "denoise")):
        result = b.asked(component, layers=layers, positions=[3], window=width, direction=direction)
        values = [b.patched(direction, component, _window(i, width, n), [3], [3]) for i in layers]
        rows = np.array([b.values(x, METRICS) for x in values])
        errors.append(b.against(result, rows.T, METRICS))
    return Found(max(errors), t.limit)


@law("heads, queries, keys, values and patterns one at a time, by hand", "head, q, k, v, pattern in sweeps")
def headed(t: Trial) -> Found:
    """Each head of a layer of each kind, two heads together, in both directions; patterns by query position."""
    errors, some = [], ""
    for layer in sorted(t.middles):
        for component in HEADED:
            if (component, layer) not in t.hand.places:
                continue
            b = Bench(t, [component], [layer])
            axis = 1 if component == "pattern" else 2
            n = b.of_clean[component, layer].shape[axis]
            moved = _heads_by_hand(b, component, layer)
            direction = "noise" if component in ("q", "v") else "denoise"
            result = b.asked(component, layers=layer, positions=[3, 6, LENGTH - 1], direction=direction)
            values = np.array([b.values(moved(direction, (h,)), METRICS) for h in range(n)])
            errors.append(b.against(result, values.T, METRICS))
            pair = (0, n - 1) if n > 1 else (0,)
            result = b.asked(component, layers=layer, positions=[3, 6, LENGTH - 1], heads=list(pair))
            errors.append(b.against(result, b.values(moved("denoise", pair), METRICS), METRICS))
    if not errors:
        t.has("head")
    return Found(max(errors), t.limit, some)


def _heads_by_hand(b: Bench, component: str, layer: int) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    at = [3, 6, LENGTH - 1]
    return lambda direction, heads: b.patched(direction, component, [layer], at, at, heads)


@law("prompts of different lengths are paired by hand", 'align="ends"')
def ends(t: Trial) -> Found:
    """One token more in the corrupted prompt: the common tail counted from the right, and the subjects' last tokens."""
    layer = t.layers[len(t.layers) // 2]
    component = _here(t, ["resid_post", "mlp", "attn"], [layer])[0]
    vocab = t.model.vocab_size
    extra = next(x for x in range(1, vocab) if x not in (t.ids[SUBJECT[-1]], t.other[SUBJECT[-1]]))
    longer = [*t.other[: DIFFERENT[-1] + 1], extra, *t.ids[DIFFERENT[-1] + 1 :]]
    b, errors = Bench(t, [component], [layer], corrupted=longer), []
    pairs = [(SUBJECT[-1], SUBJECT[-1] + 1), *((p, p + 1) for p in range(DIFFERENT[-1] + 1, LENGTH))]
    for direction in ("denoise", "noise"):
        result = b.asked(component, layers=layer, positions="each", align="ends", direction=direction)
        if result.coords["position"] != [p for p, _ in pairs]:
            return Found(float("inf"), t.limit, f"paired positions {result.coords['position']}")
        values = []
        for ours, theirs in pairs:
            at, source_at = (theirs, ours) if direction == "denoise" else (ours, theirs)
            values.append(b.values(b.patched(direction, component, [layer], [at], [source_at]), METRICS))
        errors.append(b.against(result, np.array(values).T, METRICS))
    return Found(max(errors), t.limit)


@law(
    "every metric and its recovery, by hand",
    f"metrics: {', '.join(EVERY_METRIC)}",
)
def metrics(t: Trial) -> Found:
    """All metrics, and a function, of one sweep. Errors are held to what the logits' rounding makes of them."""
    layers = _few(t)
    component = _here(t, ["mlp", "attn", "resid_post"], layers)[0]
    b = Bench(t, [component], layers)
    names = tuple(EVERY_METRIC)
    rows = np.stack([b.patched("denoise", component, [i], [*SUBJECT, 6], [*SUBJECT, 6])[0] for i in layers])
    step = t.limit * b.scale  # what a logit may be off
    errors, told = [], b.asked(component, layers=layers, positions=[*SUBJECT, 6], metric=["logit", _mean])
    usable = [n for n in names if abs(_gap(b, n)) > _floor(n)]
    result = b.asked(component, layers=layers, positions=[*SUBJECT, 6], metric=usable)
    for i, name in enumerate(usable):
        raw = result.raw[i] if len(usable) > 1 else result.raw
        recovery = result.recovery[i] if len(usable) > 1 else result.recovery
        right = b.value(rows, name)
        if name == "rank":  # tokens that tie to rounding may stand on either side
            low, high = _ranks(rows, b.target, step)
            errors.append(t.limit * float(np.maximum(low - raw, raw - high).max() > 0) * 10)
        else:
            errors.append(float(np.abs(raw - right).max()) / (_slope(name, b, rows) * b.scale))
        clean, corrupted = (
            float(b.value(x, name).mean()) for x in (b.clean_logits[None], b.corrupted_logits)
        )
        again = 100 * (raw - corrupted) / (clean - corrupted)
        told_there = [x[name] if isinstance(x, dict) else x for x in (result.clean, result.corrupted)]
        plain = max(abs(told_there[0] - clean), abs(told_there[1] - corrupted))
        errors.append(plain / (max(_slope(name, b, rows), 1e-9) * b.scale) if name != "rank" else 0.0)
        allowed = 400 * step * _slope(name, b, rows) / abs(clean - corrupted) + 1e-6
        errors.append(t.limit * float(np.abs(again - recovery).max()) / allowed if name != "rank" else 0.0)
    own = told.raw[-1].ravel() - np.where(np.isfinite(rows), rows, 0).mean(-1).ravel()
    errors.append(float(np.abs(own).max()) / b.scale)
    skipped = [n for n in names if n not in usable]
    return Found(max(errors), t.limit, f"not {', '.join(skipped)}: moved too little" if skipped else "")


def _mean(logits: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(logits), logits, 0).mean(-1)


_mean.__name__ = "mean_logit"


def _gap(b: Bench, name: str) -> float:
    return float(b.value(b.clean_logits[None], name).mean() - b.value(b.corrupted_logits, name).mean())


def _floor(name: str) -> float:
    """A gap with which a recovery is not refused, ten times over."""
    return {"prob": 1e-6, "kl": 1e-5, "rank": 0.6, "l2": 5e-2, "cosine": 1e-6, "prob_diff": 1e-3}.get(
        name, 1e-2
    )


def _slope(name: str, b: Bench, rows: np.ndarray) -> float:
    """How much a metric may move when every logit moves by 1."""
    finite = np.isfinite(b.clean_logits).sum()
    return {
        "prob": 1.0,
        "logprob": 2.0,
        "logit": 1.0,
        "logit_diff": 2.0,
        "prob_diff": 2.0,
        "kl": 4.0,
        "l2": 2 * math.sqrt(finite),
        "cosine": 4
        * math.sqrt(finite)
        / float(np.sqrt((np.where(np.isfinite(rows), rows, 0) ** 2).sum(-1)).min()),
        "rank": 1.0,
    }[name]


def _ranks(rows: np.ndarray, target: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    own = rows[:, target, None]
    return (rows > own + 2 * step).sum(-1), (rows > own - 2 * step).sum(-1) - 1
