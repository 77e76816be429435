"""How much work the passes of a sweep are, and how long that takes on this machine.

What is counted is what takes time: passes, the tokens of their rows and the pairs of tokens that attention looks at,
the tokens that linear maps are worked out for (those of the base run are not), and logits. What one of each takes is
measured once per model on a few quick passes, and is of about the right size: a busy machine is slower.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from . import calibration
from .calibration import LONG, Hooks, ModuleResolver, Site, per_model, short_ids, to_numpy
from .plan import COMPONENTS, Part, PlannedCell, Request

# What is timed: a prompt of one of these lengths (for prompts up to the first, for all others, and, where mixers do not
# make mlx's attention call, for those that are nearer to the third), and the short one in so many rows, where the model
# is narrow; else in a third of them.
TIMED_ON, MOST_ROWS, NARROW = (LONG - 1, 192, 768), 27, 512
LONG_ROWS = 4  # of longer prompts, where what a row takes is not all that a longer prompt takes
# Wide batches leave the processor's caches: norms, sums and copies take so much longer than in what is timed.
WIDE = 1.15


class Work(NamedTuple):
    """What passes do, counted; or the seconds that one of each takes.

    tokens: of all rows, through all layers (through half of them is half a token). pairs: of a token and one that it
    may see. reads, acts: tokens that go through a layer's linear maps before the mixing, and through what follows it
    (see `Batch`: those that are the base run's do not). logits: rows of them, and what is measured of each.
    """

    passes: float = 0.0
    tokens: float = 0.0
    pairs: float = 0.0
    reads: float = 0.0
    acts: float = 0.0
    logits: float = 0.0


# ---- what one of each takes


def speed(resolver: ModuleResolver, length: int) -> Work:
    """Seconds that one of each takes, in passes over prompts of about this length."""
    if not calibration.attends_itself(resolver):
        return _speed(resolver, TIMED_ON[length > TIMED_ON[0]])
    timed = TIMED_ON[(length > TIMED_ON[2] // 2) + (length > TIMED_ON[0])]
    each, n = Work(*_speed(resolver, timed)), len(short_ids(resolver))
    return each._replace(passes=each.passes + max(length - n, 0) * _long_passes(resolver, timed)[2])


@per_model
def _speed(resolver: ModuleResolver, length: int) -> Work:
    """From a few quick passes of two lengths: what differs between two, over how often they do it."""
    n, rows, _, (one, wide, reading, whole) = _short_passes(resolver)
    short_token = max(wide[0] - one[0], 0.0) / (n * (rows - 1))  # a token, and the n that it sees
    m, longer, _ = _long_passes(resolver, length)
    pair = max(longer - (m - n) * short_token, 0.0) / max(m * calibration.seen(resolver, 0, m) - m * n, 1)
    token, logits = max(short_token - n * pair, 0.0), max(wide[1] - one[1], 0.0) / (rows - 1)
    once = max(one[0] - n * (token + n * pair), 0.0) + max(one[1] - logits, 0.0)
    reads, acts = (max(b[0] - a[0], 0.0) / (n * rows) for a, b in ((wide, reading), (reading, whole)))
    return Work(once, WIDE * token, pair, reads, acts, logits)


@per_model
def _long_passes(resolver: ModuleResolver, length: int) -> tuple[int, float, float]:
    """The tokens of a longer prompt; seconds that a row of it takes more than one of the short prompt; and seconds for
    each more of its tokens, however many rows there are: mixers that are recurrent take one token after the other."""
    n, rows, skipped, (one, wide, *_) = _short_passes(resolver)
    m = min(length, resolver.structure.max_length or length)
    ids = np.resize(short_ids(resolver), m).tolist()
    long, _ = _took(resolver, ids, 1, skipped)
    if not calibration.attends_itself(resolver):
        return m, long - one[0], 0.0
    together, _ = _took(resolver, ids, LONG_ROWS, skipped)
    of_row = (together - long) / (LONG_ROWS - 1) - (wide[0] - one[0]) / (rows - 1)
    return m, of_row, max(long - one[0] - of_row, 0.0) / max(m - n, 1)


@per_model
def _short_passes(resolver: ModuleResolver) -> tuple[int, int, set, list[tuple[float, float]]]:
    """Tokens, rows, what is skipped, and what passes took: of one row, of all, with reads, and with acts as well."""
    ids, layers = list(short_ids(resolver)), resolver.structure.layers
    rows = MOST_ROWS // (1 if resolver.structure.d_model < NARROW else 3)  # a small pass is lost in noise
    acts, every = {(path, layer.visit) for layer in layers for path in layer.acts}, _by_token(resolver)
    passes = (1, every), (rows, every), (rows, acts), (rows, set())
    return len(ids), rows, every, [_took(resolver, ids, *each) for each in passes]


def _took(
    resolver: ModuleResolver, ids: list[int], rows: int, skipped: set[tuple[str, int]]
) -> tuple[float, float]:
    """Seconds of a plain pass up to the final norm, and of the rest; some modules are run on one token only."""
    found, marks = [], []
    for _ in range(2):  # a first pass is slower, and so is one beside which the machine is busy
        hooks, began = Hooks(resolver), time.perf_counter()
        hooks.forwards.update(dict.fromkeys(skipped, _on_one_token))
        logits = calibration.in_two(hooks, mx.array([ids] * rows), lambda: marks.append(time.perf_counter()))
        np.exp(to_numpy(logits).astype(np.float64)).sum(axis=-1)  # as a metric does
        found.append((marks[0] - began, time.perf_counter() - marks[0]))
        marks.clear()
    return min(body for body, _ in found), min(rest for _, rest in found)


def _by_token(resolver: ModuleResolver) -> set[tuple[str, int]]:
    """The modules, each with its visit, that go token by token."""
    return {(path, x.visit) for x in resolver.structure.layers for path in (*x.acts, *x.reads)}


def _on_one_token(forward: Callable[..., mx.array], x: mx.array, *rest: Any, **named: Any) -> mx.array:
    """A module's call on the first token alone; all others get what it gets."""
    out = forward(x.reshape(-1, x.shape[-1])[None, :1], *rest, **named)[0]
    return mx.take(out, mx.zeros(x.size // x.shape[-1], mx.int32), axis=0).reshape(*x.shape[:-1], -1)


# ---- what attention takes


@per_model
def _attention(resolver: ModuleResolver, length: int, way: int) -> tuple[float, ...]:
    from .attention_times import attention_times  # short prompts that are not looked into need no such thing

    hooks = Hooks(resolver)
    hooks.forwards.update(dict.fromkeys(_by_token(resolver), _on_one_token))
    return tuple(attention_times(hooks, np.resize(short_ids(resolver), length).tolist(), way).tolist())


def attention(resolver: ModuleResolver, length: int, way: int = 0) -> np.ndarray:
    """Seconds that attention takes for a pair of tokens, by layer, when it is called so; see `attention_times`."""
    return np.array(_attention(resolver, length, way))


def _farther(resolver: ModuleResolver, length: int) -> np.ndarray:
    """By layer, how much longer a pair takes than one of the prompt that was timed, which stands for all long ones."""
    m = min(TIMED_ON[1], resolver.structure.max_length or TIMED_ON[1])
    if length <= m or calibration.seen(resolver, 0, length) == length:  # not in parts, or not all attend
        return np.ones(resolver.n_layers)
    timed = attention(resolver, m).mean()
    return attention(resolver, length) / timed if timed else np.ones(resolver.n_layers)


def _inside(request: Request, sites: Iterable[Site], rows: np.ndarray | int) -> float:
    """Seconds of attention where some sites of it are looked at, in a pass of so many rows by layer."""
    total, rows = 0.0, np.ones(request.resolver.n_layers) * rows
    for layer, way in ways_of(sites).items():
        total += float(
            rows[layer] * request.length**2 * attention(request.resolver, request.length, way)[layer]
        )
    return total


def ways_of(sites: Iterable[Site]) -> dict[int, int]:
    """By layer whose attention is looked into, the way that it is called; see `attention_times`."""
    found: dict[int, int] = {}
    for site in sites:
        if site.side not in ("input", "output") and site.layer is not None:
            way = 2 if site.side == "pattern" else 1
            found[site.layer] = max(way, found.get(site.layer, way))
    return found


# ---- how many there are


def seconds(request: Request, parts: Sequence[Part]) -> float:
    """What the passes of some parts take, and the plain runs before them, as quick passes were timed."""
    each = speed(request.resolver, request.length)
    total = np.sum([work for part in parts for work in _works(request, part)], axis=0)
    if not parts[0].together:
        total += _plain(request, request.base.rows)
    return float(total @ each) + sum(map(functools.partial(_looking, request), parts))


def _works(request: Request, part: Part) -> list[Work]:
    """The work of a part: its source runs, and each of its passes; but for attention that is looked into."""
    rows = sum(_sources(request, part))
    return [_plain(request, rows), *(work_of(request, group, part.prefix) for group in part.groups)]


def _sources(request: Request, part: Part) -> tuple[int, int]:
    """The rows of a part's source run, and of its fixed run."""
    rows = request.source.rows + (request.base.rows if part.together else 0)
    return rows, request.fixed.rows if part.reads[True] else 0


def _looking(request: Request, part: Part) -> float:
    """Seconds of attention where a part's runs and passes look into it."""
    total = 0.0
    for fixed, rows in enumerate(_sources(request, part)):
        total += _inside(request, [found.site for found in part.reads[bool(fixed)].values()], rows)
    for group in part.groups:
        total += _inside(request, _patched(group), _rows(request, group))
    return total


def _patched(group: Sequence[PlannedCell]) -> set[Site]:
    return {patch.site for cell in group for patch in cell.patches}


def _rows(request: Request, group: Sequence[PlannedCell]) -> np.ndarray:
    """By layer, the rows of a pass."""
    n, loop = request.resolver.n_layers, request.engine.name == "loop"
    if loop:
        return np.full(n, request.block)
    born = np.bincount([max(cell.birth, 0) for cell in group], minlength=n + 1)[:n]
    return request.base_rows(group) + request.block * np.cumsum(born)


def _plain(request: Request, rows: int, read: int | None = None) -> Work:
    tokens, resolver = rows * request.length, request.resolver
    pairs = tokens * calibration.seen(resolver, 0, request.length) * _farther(resolver, request.length).mean()
    return Work(1, tokens, pairs, tokens, tokens, rows * (request.read if read is None else read))


def work_of(request: Request, group: Sequence[PlannedCell], prefix: bool) -> Work:
    """The work of one pass over some cells: what `Batch` runs of it, layer by layer."""
    length, block, info = request.length, request.block, request.resolver.structure
    if request.engine.name == "loop":
        return _plain(request, block, length)
    n, base, start = len(info.layers), request.base_rows(group), request.start_of(group, prefix)
    ran, rows = length - start, _rows(request, group)
    reads, acts, pairs = (
        rows * ran,
        rows * ran,
        rows * ran * calibration.seen(request.resolver, start, length),
    )
    if request.engine.name == "fanout" and request.engine.causal:
        before, after = _differing(request, group)
        reads, acts = base * ran + block * before, base * ran + block * after
        if info.norm is not None and not request.every_position:
            acts[-1] = min(acts[-1], rows[-1] * request.read)
        if request.merged(start):
            pairs = acts * start + rows * ran * calibration.seen(request.resolver, 0, ran)
        inside = {site.path for site in _patched(group)}
        for i, layer in enumerate(info.layers):  # a module that is patched inside is run whole
            if any(path.startswith(f"{act}.") for act in layer.acts for path in inside):
                acts[i] = rows[i] * ran
    pairs = pairs * _farther(request.resolver, length)
    pairs[list(ways_of(_patched(group)))] = 0  # see `_looking`
    tokens, pairs, reads, acts = (np.sum(count) / n for count in (rows * ran, pairs, reads, acts))
    return Work(1, tokens, pairs, reads, acts, request.rows(group) * request.read)


def _differing(request: Request, group: Sequence[PlannedCell]) -> tuple[np.ndarray, np.ndarray]:
    """By layer, the tokens of all cells that can differ from the base run, before the layer mixes and after."""
    n = request.resolver.n_layers
    own, mixed, later = np.zeros(
        (3, n + 2)
    )  # patched positions: read, written after mixing; and all later ones
    for cell in group:
        patch = min(cell.patches, key=lambda p: n if p.site.layer is None else p.site.layer)
        if patch.site.layer is None or patch.site.component is None:
            continue
        stage, layer = COMPONENTS[patch.site.component].stage, patch.site.layer
        mixed[layer] += len(patch.at) * (stage == "mixer")
        layer += stage != "input"
        own[layer] += len(patch.at)
        later[layer] += request.length - cell.start
    after = np.cumsum(later)
    before = own + after - later
    return before[:n], (after + mixed)[:n]
