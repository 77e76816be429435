"""What every experiment settles before it runs: the two runs, the cells, and what is measured on them.

    both = pair(model, clean, corrupted)                  # tokens, noise, which position answers to which
    laid = grid(model, both, "denoise", "mlp", ...)       # a cell for each component, layer, position, head
    asked = measured(model, both, "auto", None, None)     # answers and metrics, on the two plain runs

Every bad input raises here, before a sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import corruption, metrics, tokens
from .alignment import Alignment, check_align, infer_subject
from .alignment import align as align_prompts
from .corruption import GaussianNoise, Substitution
from .errors import AlignmentError, EffectError, InputError, PositionError, SubjectError, closest
from .resolver import ALIASES, COMPONENTS
from .results import Answer
from .runs import Cell, Patch, Run, capture

if TYPE_CHECKING:
    from .model import InterpretableModel

Prompt = str | Sequence[int] | Any
HEADED = ("head", "q", "k", "v", "pattern")
DIRECTIONS = ("denoise", "noise")


@dataclass(frozen=True)
class Pair:
    """The clean and the corrupted run of one experiment, and how their positions answer to each other."""

    clean_text: str
    corrupted_text: str
    clean: Run
    corrupted: Run
    alignment: Alignment
    subject: range | None
    corruption: str
    notes: tuple[str, ...] = ()

    @property
    def of_clean(self) -> dict[int, int]:
        """Clean position -> corrupted position, where they are paired."""
        return dict(self.alignment.pairs)


def pair(
    model: InterpretableModel,
    clean: Prompt,
    corrupted: Prompt | GaussianNoise | Substitution,
    subject: Any = None,
    align: str = "strict",
) -> Pair:
    """Tokenize both prompts, or draw the noise, and line them up; every bad input raises here."""
    check_align(align)
    if isinstance(corrupted, GaussianNoise):
        return _noised(model, clean, corrupted, subject)
    corrupted = corrupted.text if isinstance(corrupted, Substitution) else corrupted
    a, b = model.ids(clean), model.ids(corrupted)
    if a == b:
        raise EffectError(
            "the clean and the corrupted prompt are the same tokens, so there is nothing to recover"
        )
    inferred = infer_subject(a, b) or (None, None)
    ours = inferred[0] if subject is None else model.subject_range(clean, subject)
    theirs = inferred[1]
    if (
        subject is not None
        and isinstance(corrupted, str)
        and isinstance(subject, str)
        and subject in corrupted
    ):
        theirs = model.subject_range(corrupted, subject)
    alignment = align_prompts(a, b, model.to_str_tokens(a), model.to_str_tokens(b), align, ours, theirs)
    runs = Run(tuple(a)), Run(tuple(b))
    notes = tokens.repeated(model.tokenizer, clean, subject, a, ours) if ours else ""
    texts = _text(model, clean), _text(model, corrupted)
    return Pair(*texts, *runs, alignment, ours, "", (notes,) if notes else ())


def _noised(model: InterpretableModel, clean: Prompt, noise: GaussianNoise, subject: Any) -> Pair:
    told = [s for s in (noise.subject, subject) if s is not None]
    if not told:
        raise SubjectError("noise needs to know the subject: GaussianNoise(subject=...) or subject=...")
    ids = model.ids(clean)
    where, *others = [model.subject_range(clean, s) for s in told]
    if others and others[0] != where:
        raise SubjectError(
            f"the noise goes to {noise.subject!r}, but subject={subject!r} is another one: leave subject= out"
        )
    std, notes = None, []
    if noise.parsed_level.kind == "s":
        std = embedding_std(model)
        notes.append(f"noise scale from the whole embedding table: std {std:.4g}")
    if twice := tokens.repeated(model.tokenizer, clean, told[0], ids, where):
        notes.append(twice)
    run = noised_run(model, ids, where, noise, std)
    text = _text(model, clean)
    alignment = Alignment([(i, i) for i in range(len(ids))], where[0])
    what = f"{noise.parsed_level} on the subject's embeddings, {noise.samples} samples"
    return Pair(text, text, Run(tuple(ids)), run, alignment, where, what, tuple(notes))


def noised_run(
    model: InterpretableModel, ids: Sequence[int], where: range, noise: GaussianNoise, std: float | None
) -> Run:
    """The prompt with noise on the embeddings at `where`, one row per sample."""
    array = corruption.noise_array(noise, len(where), model.d_model, std)
    return Run(tuple(ids), array, tuple(where), noise.replace)


def embedding_std(model: InterpretableModel) -> float:
    """The standard deviation of the whole embedding table, dequantized; measured anew when its numbers changed."""
    module = model.resolver.get_embedding_layer()
    key = corruption.table_key(module)
    known = model.resolver.__dict__.setdefault("_table_std", {})
    if key not in known:
        known.clear()
        known[key] = corruption.table_std(module)
    return known[key]


def _text(model: InterpretableModel, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "".join(model.to_str_tokens(prompt))


# ---- what to patch


def components_of(component: str | Iterable[str]) -> list[str]:
    """The components by their own names; InputError for an unknown, repeated or missing one."""
    one = (
        isinstance(component, str) or not isinstance(component, Iterable) or not getattr(component, "ndim", 1)
    )
    given = [component] if one else list(component)
    names = [ALIASES.get(name, name) if isinstance(name, str) else name for name in given]
    for name, said in zip(names, given, strict=True):
        if not isinstance(name, str) or name not in COMPONENTS:
            raise InputError(
                f"unknown component {said!r}; {closest(str(said), [*COMPONENTS, *ALIASES])} "
                f"(all: {', '.join(COMPONENTS)})"
            )
    if not names or len(set(names)) < len(names):
        raise InputError(f"components {given!r}: name one, or several different ones")
    return names


def layers_of(model: InterpretableModel, layers: int | Iterable[int] | None) -> list[int]:
    """Layer indices, checked; all of them for None."""
    if layers is None:
        return list(range(model.n_layers))
    given = _listed(layers)
    for layer in given:
        if tokens.as_integer(layer) is None:
            raise InputError(f"layers are numbers, not {layer!r}")
        model.resolver.layer(tokens.as_integer(layer))
    found = [tokens.as_integer(layer) % model.n_layers for layer in given]
    if not found or len(set(found)) < len(found):
        raise InputError(f"layers={layers!r}: name at least one layer, and each once")
    return found


def _listed(numbers: Any) -> list:
    """One number or several, given in any way that holds them, as a list that is still to be checked."""
    numbers = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    one = isinstance(numbers, (*tokens.TEXTS, Mapping)) or not isinstance(numbers, Iterable)
    return [numbers] if one else list(numbers)


def positions_of(positions: Any, both: Pair, n_tokens: int) -> list[list[int]]:
    """The groups of clean positions that are patched together; one group per position for "each"."""
    paired = list(both.of_clean)
    if positions is None:
        return [paired]
    if isinstance(positions, str):
        if positions == "each":
            return [[p] for p in paired]
        if positions == "last":
            return [[n_tokens - 1]]
        if positions not in ("subject", "subject_last"):
            names = ["each", "subject", "subject_last", "last"]
            raise InputError(f"positions={positions!r} is unknown; {closest(positions, names)}")
        if both.subject is None:
            raise SubjectError(f"positions={positions!r} needs the subject: pass subject=...")
        wanted = list(both.subject) if positions == "subject" else [both.subject[-1]]
    else:
        wanted = tokens.positions_in(positions, n_tokens)
    missing = [p for p in wanted if p not in both.of_clean]
    if missing:
        raise PositionError(
            f"clean position {missing[0]} has no counterpart in the corrupted prompt; "
            f"the paired ones are {', '.join(map(str, paired))}"
        )
    return [wanted]


def window_of(layer: int, window: int, n_layers: int) -> range:
    """The layers patched together: `[l - w//2, l + ceil(w/2))`, cut at the edges (Meng et al. 2022, app. B)."""
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


def _heads_of(
    model: InterpretableModel, components: list[str], layers: list[int], heads: Any
) -> list[tuple[int, ...]] | None:
    headed = [c for c in components if c in HEADED]
    if not headed:
        if heads is not None:
            raise InputError(
                f"heads= goes with component={' or '.join(HEADED)}, not with {', '.join(components)}"
            )
        return None
    if len(headed) < len(components):
        raise InputError("components with heads and without cannot share a result: make two calls")
    counts = {model.resolver.head_count(c, layer) for c in components for layer in layers}
    if len(counts) > 1:
        raise InputError(
            f"these components and layers have different numbers of heads ({sorted(counts)}): ask apart"
        )
    n = counts.pop()
    if heads is None or (isinstance(heads, str) and heads == "each"):
        return [(h,) for h in range(n)]
    given = _listed(heads)
    for head in given:
        number = tokens.as_integer(head)
        if number is None or not -n <= number < n:
            raise PositionError(f"head {head!r} does not exist: this model has heads 0 to {n - 1}")
    found = tuple(tokens.as_integer(h) % n for h in given)
    if not found or len(set(found)) < len(found):
        raise InputError(f"heads={heads!r}: name at least one head, and each once")
    return [found]


@dataclass(frozen=True)
class Grid:
    """The cells of an experiment and their axes: component x layer x positions x heads."""

    cells: list[Cell]
    components: list[str]
    layers: list[int]
    positions: list[list[int]]
    heads: list[tuple[int, ...]] | None


def grid(
    model: InterpretableModel,
    both: Pair,
    direction: str,
    component: str | Iterable[str],
    layers: Any = None,
    positions: Any = None,
    heads: Any = None,
    window: int = 1,
) -> Grid:
    """Lay the cells out; everything that was asked for is checked here, before any pass."""
    components, layers = components_of(component), layers_of(model, layers)
    given, window = window, tokens.as_integer(window)
    if window is None or window < 1:
        raise InputError(f"window is a number of layers, 1 or more, not {given!r}")
    groups = positions_of(positions, both, len(both.clean.ids))
    if "pattern" in components and len(both.clean.ids) != len(both.corrupted.ids):
        raise AlignmentError(
            f"the prompts have {len(both.clean.ids)} and {len(both.corrupted.ids)} tokens: a pattern says how much "
            "each token looks at each, so it can only be patched between prompts of one length"
        )
    head_groups = _heads_of(model, components, layers, heads)
    cells = []
    for name in components:
        for layer in layers:
            sites = [model.resolver.site(name, i) for i in window_of(layer, window, model.n_layers)]
            for group in groups:
                at, source_at = tuple(both.of_clean[p] for p in group), tuple(group)
                if direction == "noise":
                    at, source_at = source_at, at
                for head in head_groups or [None]:
                    cells.append(Cell(tuple(Patch(site, at, source_at, head) for site in sites)))
    return Grid(cells, components, layers, groups, head_groups)


# ---- what to measure


@dataclass(frozen=True)
class Measured:
    """The metrics of an experiment, bound, and their values on the two plain runs."""

    metrics: list[metrics.Metric]
    target: Answer
    foil: Answer | None
    clean: dict[str, float]
    corrupted: dict[str, float]
    notes: tuple[str, ...] = ()

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Values `[metrics, rows]` of logits `[rows, V]`, or `[rows, T, V]` when a metric sees every position."""
        last = logits[:, -1] if logits.ndim == 3 else logits
        return np.stack([metric(logits if metric.every_position else last) for metric in self.metrics])


def measured(
    model: InterpretableModel,
    both: Pair,
    metric: Any,
    target: Any,
    foil: Any,
    stacklevel: int = 3,
    logits: tuple[np.ndarray, np.ndarray] | None = None,
) -> Measured:
    """Settle answers and metrics, and refuse a gap that means nothing.

    logits: last-position logits `[rows, V]` of the clean and the corrupted run; run here when not given.
    """
    prompt = both.clean_text if model.tokenizer is not None else None
    ask = [None if x is None else model.answer_token(x, prompt) for x in (target, foil)]
    if logits is None:
        logits = tuple(capture(model.resolver, run, [])[0] for run in (both.clean, both.corrupted))
    whole, (clean, corrupted) = logits, (x[:, -1] if x.ndim == 3 else x for x in logits)
    clean_p, corrupted_p = metrics.softmax(clean[0]), metrics.softmax(corrupted).mean(0)
    answer = int(clean_p.argmax()) if ask[0] is None else ask[0]
    other = int(corrupted_p.argmax()) if ask[1] is None else ask[1]

    def as_answer(token: int) -> Answer:
        return Answer(token, model.token_to_str(token), float(clean_p[token]), float(corrupted_p[token]))

    notes: list[str] = []
    wanted = metric if isinstance(metric, (list, tuple)) else [metric]
    same = int(corrupted_p.argmax()) == answer and corrupted_p[answer] > 0.8 * clean_p[answer]
    if "auto" in [m for m in wanted if isinstance(m, str)]:
        wanted = [("kl" if same else "prob") if isinstance(m, str) and m == "auto" else m for m in wanted]
        if same:
            notes.append(_same_answer(as_answer(answer)))
            warnings.warn(notes[-1], stacklevel=stacklevel)
    distinct = other if other != answer or ask[1] is not None else None
    against = [m for m in wanted if isinstance(m, str) and m in metrics.NEED_FOIL]
    if distinct is None and against:
        raise InputError(
            f"{against[0]} sets two answers against each other, but both are {model.token_to_str(answer)!r}: "
            "pass foil= (or target=), or take metric='kl'"
        )
    bound = metrics.bind_all(
        wanted, target=answer, foil=distinct, clean_logits=clean[0], every_clean_logits=whole[0][0]
    )
    both_runs = [whole if m.every_position else (clean, corrupted) for m in bound]
    values = {
        m.name: (float(m(a)[0]), float(m(b).mean())) for m, (a, b) in zip(bound, both_runs, strict=True)
    }
    for name, (a, b) in values.items():
        metrics.recovery(b, a, b, name)
    return Measured(
        bound,
        as_answer(answer),
        None if distinct is None else as_answer(distinct),
        {name: a for name, (a, _) in values.items()},
        {name: b for name, (_, b) in values.items()},
        tuple(notes),
    )


def _same_answer(answer: Answer) -> str:
    return (
        f"the corrupted prompt has the same answer, {answer.text!r} (probability {answer.corrupted_prob:.3f} "
        f"against {answer.clean_prob:.3f} clean), so its probability cannot show a recovery: measuring kl, the "
        "distance to the clean distribution, instead. For a recovery of the answer, choose a corrupted prompt "
        "whose answer differs; pass metric= to silence this"
    )
