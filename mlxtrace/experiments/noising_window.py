"""Noising-based tracing: every layer's output is noised but those of a window, which are restored to clean.

result = noising_window(model, "The Eiffel Tower is located in the city of", window=3, level=0.1)
result.scores            # [centres]: probability of the answer with the window around each layer restored
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import mlx.core as mx
import numpy as np

from .. import metrics, plotting
from ..anatomy.components import COMPONENTS
from ..arguments import whole_number
from ..errors import InputError, SiteError
from ..plotting.labels import probability, quoted, text_bar
from ..results.patching_result import Answer
from ..results.record import Record
from ..terminal import printable
from .grid import components_of, layers_of
from .protocol import TracedModel

CHUNK_ROWS = 64  # rows of one pass


@dataclass(repr=False, eq=False)
class NoisingWindow(Record):
    """Probability of the answer with all layers noised but a window: `raw [centres, samples]`, `scores [centres]`.

    clean: the probability in the plain run; noised: with every layer noised and none restored.
    """

    raw: np.ndarray
    layers: list[int]
    clean: float
    noised: float
    answer: Answer
    component: str
    window: int
    level: float
    seed: int
    prompt: str
    model: str

    @property
    def scores(self) -> np.ndarray:
        return self.raw.mean(-1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if not np.isfinite([self.clean, self.noised]).all():
            raise InputError("its values of the plain runs are not finite")
        return {"raw": (len(self.layers), self.raw.shape[-1])}

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per centre: component, layer, score."""
        return [
            {"component": self.component, "layer": layer, "score": float(score)}
            for layer, score in zip(self.layers, self.scores, strict=True)
        ]

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """A matplotlib Figure: a bar per window, lines at the clean and the fully noised run."""
        return plotting.noising(self, path)

    def __repr__(self) -> str:
        lines = [
            f"NoisingWindow: noise of {self.level:g} on every layer's {COMPONENTS[self.component].words} "
            f"but those within {self.window // 2} of the centre, restored to clean",
            f"  prompt: {self.prompt} → {quoted(self.answer.text)} {probability(self.clean)}; "
            f"all layers noised: {self.noised:.4f}",
            "  centre",
        ]
        top = max(self.clean, self.scores.max(), 1e-9)
        lines += [
            f"  {layer:>6}  {v:.4f} {text_bar(v, 0.0, top)}"
            for layer, v in zip(self.layers, self.scores, strict=True)
        ]
        return printable("\n".join(lines))


def noising_window(
    model: TracedModel,
    prompt: Any,
    *,
    window: int = 3,
    level: float = 0.1,
    samples: int = 1,
    seed: int = 0,
    component: str = "resid_post",
    layers: int | Iterable[int] | None = None,
    target: str | int | None = None,
) -> NoisingWindow:
    """Add noise to every layer's output but restore the clean one in a window of layers, for each centre.

    Layers `l` with `|l - centre| <= window // 2` are restored at all positions; the others get `level` x standard
    normal noise, drawn with `RandomState(seed)` as `[samples, layers, T, width]`, the same for every centre. A
    restored layer output undoes all noise below it, so for layer outputs only the noise above the window is seen.

    Args: component: resid_post, mlp or attn. layers: the centres (None: all). target: default the top token.
    """
    window, samples = whole_number("window", window), whole_number("samples", samples)
    seed = whole_number("seed", seed, 0)
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 <= level < math.inf:
        raise InputError(f"level is a standard deviation of 0 or more, not {level!r}")
    if seed >= 2**32:
        raise InputError(f"seed is a whole number below 2**32, not {seed!r}")
    (component,) = components_of([component])
    prompt = model.prompt(prompt)
    ids, centres, n = list(prompt.ids), layers_of(model, layers), model.n_layers
    sites = [model.resolver.site(component, layer).name for layer in range(n)]
    logits, cache = model.run_with_cache(ids, sites)
    clean = [_plain(cache[name], name) for name in sites]
    noise = level * np.random.RandomState(seed).randn(samples, n, *clean[0].shape[1:])
    restored = np.abs(np.arange(n) - np.array(centres)[:, None]) <= window // 2
    restored = np.concatenate([restored, np.zeros((1, n), dtype=bool)])  # the last: no window at all
    token = int(mx.argmax(logits[0, -1]).item()) if target is None else model.answer_token(target, prompt)
    measure = metrics.bind("prob", target=token, foil=None, clean_logits=_last(logits)[0])
    values = _noised_values(model, ids, sites, clean, noise, restored, measure)
    high, low = float(measure(_last(logits))[0]), float(values[-1].mean())
    return NoisingWindow(
        raw=values[:-1],
        layers=centres,
        clean=high,
        noised=low,
        answer=Answer(token, model.token_to_str(token), high, low),
        component=component,
        window=int(window),
        level=float(level),
        seed=int(seed),
        prompt=prompt.text,
        model=model.name,
    )


def _plain(x: mx.array, name: str) -> mx.array:
    if x.ndim != 3:
        raise SiteError(
            f"{name} is shaped {list(x.shape)}, not [rows, tokens, width]: it cannot be noised this way"
        )
    return x


def _last(logits: mx.array) -> np.ndarray:
    return np.array(logits[:, -1].astype(mx.float32))


def _noised_values(model, ids, sites, clean, noise, restored, measure) -> np.ndarray:
    """`[windows, samples]`: every window and sample is a row, and a pass takes many rows."""
    samples = len(noise)
    rows = [(w, s) for w in range(len(restored)) for s in range(samples)]
    found: list[np.ndarray] = []
    for start in range(0, len(rows), CHUNK_ROWS):
        windows, drawn = map(np.array, zip(*rows[start : start + CHUNK_ROWS], strict=True))
        edits = {name: _edit(clean[i], noise[drawn, i], restored[windows, i]) for i, name in enumerate(sites)}
        with model.trace(mx.array([ids] * len(windows)), interventions=edits, cache=False) as trace:
            pass
        found.append(measure(_last(trace.output)))
    return np.concatenate(found).reshape(len(restored), samples)


def _edit(clean: mx.array, noise: np.ndarray, restored: np.ndarray) -> Callable[[mx.array], mx.array]:
    noise, restored = mx.array(noise.astype(np.float32)), mx.array(restored)[:, None, None]
    return lambda x: mx.where(restored, clean, (x.astype(mx.float32) + noise).astype(x.dtype))
