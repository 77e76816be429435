"""Noising-based tracing: the outputs of all layers are noised but those of a window, which stay clean.

result = noising_window(model, "The Eiffel Tower is located in the city of", window=3, level=0.1)
result.scores            # [centres]: probability of the answer with the window around each layer restored
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import mlx.core as mx
import numpy as np

from ..arguments import whole_number
from ..engine import calibration, memory
from ..errors import InputError, SiteError, memory_limit
from ..results.noising_window_set import NoisingWindow, NoisingWindowSet
from . import caveats
from .followed_answers import Followed, OneAnswer, Run
from .grid import components_of, layers_of
from .pair_sets import each, read_prompts
from .protocol import Prompt, PromptLike, TracedModel

CHUNK_ROWS = 64  # rows of one pass, where memory allows


def noising_window(
    model: TracedModel,
    prompt: PromptLike | Sequence[Any],
    *,
    window: int = 3,
    level: float = 0.1,
    samples: int = 1,
    seed: int = 0,
    component: str = "resid_post",
    layers: int | Iterable[int] | None = None,
    target: Any = None,
    max_memory: int | None = None,
    answers: Any = None,
) -> NoisingWindow:
    """Add noise to the outputs of all layers but those of a window, which are restored to clean, for each centre.

    Layers `l` with `|l - centre| <= window // 2` are restored at all positions; the others get
    `level * standard normal noise`, drawn with `RandomState(seed)` as `[samples, layers, T, width]`, the same for
    every centre. A restored layer output undoes all noise below it, so for layer outputs only the noise above the
    window is seen.

    Args:
        model: what is traced; not given where this is called as its method.
        prompt: text, ids, an array, a chat's messages or a `Prompt`; a list of them, or of `prompts.Pair`s (their clean
            prompts), is a set.
        window: the layers that are restored: the centre and `window // 2` on either side.
        level: the noise's standard deviation, in the units of the component.
        samples: draws of the noise.
        seed: of NumPy's `RandomState`, below 2**32.
        component: resid_post, mlp or attn.
        layers: the centres; None for all.
        target: the answer, as text, token id or ids; default: the clean run's top token. One of several tokens is run
            behind the prompt, where nothing is noised, and its probability is the product of theirs.
        max_memory: bytes beside the weights that noise and passes may take; None: a quarter of what this process can
            still have.
        answers: in the target's place several that are right, whose probabilities are added; of a set also a list each.

    Returns:
        A `NoisingWindow`: `.scores` `[centres]`, probabilities of the answer. Of a set a `NoisingWindowSet`, with
        intervals and the numbers of every prompt.

    Raises:
        InputError: a level, count, seed or component that means nothing, or a memory in which not one row fits.
        SiteError: the component is not `[rows, tokens, width]`.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> result = model.noising_window("The Eiffel Tower is in the city of", window=1, level=1.0)
        >>> bool(abs(result.scores[-1] - result.clean) < 1e-3)  # nothing is noised above the last layer
        True
    """
    window, samples = whole_number("window", window), whole_number("samples", samples)
    seed = whole_number("seed", seed, 0)
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 <= level < math.inf:
        raise InputError(f"level is a standard deviation of 0 or more, not {level!r}")
    if seed >= 2**32:
        raise InputError(f"seed is a whole number below 2**32, not {seed!r}")
    (component,) = components_of([component])
    centres = layers_of(model, layers)
    for layer in range(model.n_layers):
        model.resolver.site(component, layer)
    made = read_prompts(model, prompt, target, answers)
    noise = Noise(component, window, samples, float(level), seed)

    followed = each(made.ids, made.alone, lambda i: Followed(model, made.pairs[i], made.targets[i]))

    def rows(i: int) -> int:
        length = len(made.pairs[i].clean.ids) + followed[i].job(Run(()), Run(()), []).read - 1
        return _rows_of_a_pass(model, component, length, samples, max_memory)

    chunks = each(made.ids, made.alone, rows)  # what does not fit is refused before anything is run
    results = each(
        made.ids,
        made.alone,
        lambda i: _noised(model, made.pairs[i].clean_prompt, followed[i], centres, noise, chunks[i]),
    )
    return results[0] if made.alone else NoisingWindowSet(results, made.ids, made.notes)


@dataclass(frozen=True)
class Noise:
    """What is noised and how; see `noising_window`."""

    component: str
    window: int
    samples: int
    level: float
    seed: int


def _noised(
    model: TracedModel, read: Prompt, followed: Followed, centres: list[int], how: Noise, chunk: int
) -> NoisingWindow:
    """One prompt's scores. chunk: rows of a pass."""
    n = model.n_layers
    sites = [model.resolver.site(how.component, layer).name for layer in range(n)]
    logits, cache = model.run_with_cache(read, sites)
    clean = [_plain(cache[name], name) for name in sites]
    noise = how.level * np.random.RandomState(how.seed).randn(how.samples, n, *clean[0].shape[1:])
    restored = np.abs(np.arange(n) - np.array(centres)[:, None]) <= how.window // 2
    restored = np.concatenate([restored, np.zeros((1, n), dtype=bool)])  # the last: no window at all
    own = _last(logits) if followed.asked is None else followed.logits(Run(read.ids))
    measured = followed.measured(own)
    values = _noised_values(
        model, read.ids, dict(zip(sites, clean, strict=True)), noise, restored, (followed, measured), chunk
    )
    high, low = followed.value(measured, own), float(values[-1].mean())
    return NoisingWindow(
        raw=values[:-1],
        layers=centres,
        clean=high,
        noised=low,
        answer=measured.answer(high, low),
        component=how.component,
        window=how.window,
        level=how.level,
        seed=how.seed,
        prompt=read.text,
        model=model.name,
        notes=[
            *measured.notes,
            *caveats.cautions(model.resolver, [(how.component, i) for i in range(n)]),
            *caveats.of_restored(how.component, how.window),
        ],
    )


def _rows_of_a_pass(
    model: TracedModel, component: str, length: int, samples: int, max_memory: int | None
) -> int:
    """How many rows a pass takes within the memory that is allowed, beside the noise and the clean run."""
    allowed, n = memory.allowed_bytes(max_memory, model.resolver.group), model.n_layers
    site = model.resolver.site(component, 0)
    clean = n * calibration.site_bytes(model.resolver, site, length, length)
    whole = clean + 8 * samples * n * length * model.d_model  # the noise, in float64

    def need(rows: int) -> int:
        noised = 4 * rows * n * length * model.d_model  # a pass's share of it, in float32
        return (
            whole + noised + calibration.pass_bytes(model.resolver, rows, length, length, [site], read=length)
        )

    if need(1) > allowed:
        raise InputError(
            f"{memory_limit(allowed)}, but a single row needs about {need(1)}: allow at least that, use a "
            "shorter prompt or fewer samples"
        )
    return max(rows for rows in range(1, CHUNK_ROWS + 1) if need(rows) <= allowed)


def _plain(x: mx.array, name: str) -> mx.array:
    if x.ndim != 3:
        raise SiteError(
            f"{name} is shaped {list(x.shape)}, not [rows, tokens, width]: it cannot be noised this way"
        )
    return x


def _last(logits: mx.array, read: int = 1) -> np.ndarray:
    wanted = logits[:, -1] if read == 1 else logits[:, -read:]
    return np.array(wanted.astype(mx.float32))


def _noised_values(
    model: TracedModel,
    ids: Sequence[int],
    clean: dict[str, mx.array],
    noise: np.ndarray,
    restored: np.ndarray,
    asked: tuple[Followed, OneAnswer],
    chunk: int,
) -> np.ndarray:
    """`[windows, samples]`: every window and sample is a row, and a pass takes `chunk` rows."""
    samples, (followed, measured) = len(noise), asked
    rows = [(w, s) for w in range(len(restored)) for s in range(samples)]
    job = followed.job(Run(tuple(ids)), Run(tuple(ids)), [])
    found: list[np.ndarray] = []
    for start in range(0, len(rows), chunk):
        windows, drawn = map(np.array, zip(*rows[start : start + chunk], strict=True))
        edits = {
            name: _edit(x, noise[drawn, i], restored[windows, i]) for i, (name, x) in enumerate(clean.items())
        }
        logits = []
        for run in job.runs(job.base):
            tokens = run.tokens(windows)
            with model.trace(tokens, interventions=edits, cache=False) as trace:
                pass
            logits.append(_last(trace.output, job.read))
        found.append(followed.rows(measured, logits)[0])
    return np.concatenate(found).reshape(len(restored), samples)


def _edit(clean: mx.array, noise: np.ndarray, restored: np.ndarray) -> Callable[[mx.array], mx.array]:
    """Noise on the prompt's positions, or the clean run's values there; what is behind the prompt is left alone."""
    added, kept, n = mx.array(noise.astype(np.float32)), mx.array(restored)[:, None, None], clean.shape[1]

    def edit(x: mx.array) -> mx.array:
        prompt = x[:, :n]
        changed = mx.where(kept, clean, (prompt.astype(mx.float32) + added).astype(x.dtype))
        return changed if x.shape[1] == n else mx.concatenate([changed, x[:, n:]], axis=1)

    return edit
