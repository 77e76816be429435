"""Causal traces to look around in: of one prompt, averaged over facts, and of two models side by side."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from ..anatomy.components import centre_of, short_words
from .toolbox import (
    Averaged,
    ComparedAverages,
    ComparedTraces,
    Hover,
    Map,
    Scale,
    Traced,
    capital,
    checked,
    facets,
    family,
    finished,
    joint,
    model_name,
    numbered,
    probability,
    prompts,
    quoted,
    rows_that_matter,
    short,
)


class Trace(Traced, Protocol):
    """A causal trace with what its caption says."""

    high_score: float
    window: int
    severed: str | None
    model: str


def trace(result: Trace, path: str | os.PathLike | None = None, *, rows: Any = "auto") -> Any:
    """A causal trace: tokens down, layers across, the colour is p(answer).

    Args:
        result: what `causal_trace` returns.
        path: an .html file to write as well.
        rows: tokens that are shown: "auto", those that matter where there are many; "all"; or a range of positions.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> trace = model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", samples=2, progress=False)
        >>> interactive.trace(trace).data[0].y[4]
        '4 ·Tower*'
    """
    path = checked(path)
    words, value = short_words(result.kind), f"p({short(result.answer.text)})"
    layers = centre_of(result.window, result.scores.shape[1], f"restored {words}")
    across = layers if result.kind else "single restored layer"
    scale = Scale(
        result.low_score, max(float(result.scores.max()), result.low_score + 1e-3), result.low_score
    )
    ends = f"clean {probability(result.high_score)}, corrupted {probability(result.low_score)}"
    within = getattr(result, "within", None)  # of cells that had as many samples as it took
    ends += f"; {getattr(result, 'drawn', '')}, ±{within:g} points" if within else ""
    maps, said = _cropped([_map(result, "")], result, scale, rows)
    cut = f", {short_words(result.severed)} severed" if result.severed else ""
    title = f"Impact of restoring {words} after corrupted input{cut}"
    said = [*joint(result.positions), *said]
    caption = [*prompts([("prompt", f"{result.prompt} → {quoted(result.answer.text)}")]), ends, *said]
    return finished(facets(maps, scale, Hover("token", "layer", value, ".4f"), title, caption, across), path)


def _map(result: Traced, title: str) -> Any:
    rows = numbered(result.tokens, result.positions, result.subject_range)
    columns = [str(layer) for layer in range(result.scores.shape[1])]
    return Map(result.scores, rows, columns, family(result.kind), short(model_name(title)))


def _cropped(maps: list[Any], result: Traced, scale: Any, rows: Any) -> tuple[list[Any], list[str]]:
    keep = {*(result.subject_range or ()), len(result.tokens) - 1}
    return rows_that_matter(maps, scale, rows, result.positions, keep)


def comparison(result: ComparedTraces, path: str | os.PathLike | None = None, *, rows: Any = "auto") -> Any:
    """The same trace on two models side by side, on one scale, and the second less the first.

    Args:
        result: what `compare_bits` returns.
        path: an .html file to write as well.
        rows: as `trace` takes them.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import Comparison, InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> options = {"positions": "subject_last", "samples": 1, "progress": False}
        >>> one, two = (model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", seed=s, **options) for s in (1, 2))
        >>> result = Comparison(one, two, ("seed 1", "seed 2"))
        >>> [note.text for note in interactive.comparison(result).layout.annotations]
        ['seed 1', 'seed 2', 'seed 2 - seed 1']
    """
    path = checked(path)
    both = (result.first, result.second)
    first, top = result.first, max(float(one.scores.max()) for one in both)
    scale = Scale(first.low_score, max(top, first.low_score + 1e-3), first.low_score)
    gap = result.second.scores - first.scores
    maps = [_map(one, model) for one, model in zip(both, result.names, strict=True)]
    maps.append(_gap(maps[0], gap, result.names, None))
    maps, said = _cropped(maps, first, scale, rows)
    value = f"p({short(first.answer.text)})"
    caption = [
        *prompts([("prompt", f"{first.prompt} → {quoted(first.answer.text)}")]),
        f"correlation {result.correlation:z.4f}, largest difference {result.largest_difference:z.4f}",
    ]
    title = f"Impact of restoring {short_words(first.kind)}"
    hover = Hover("token", "layer", value, ".4f", own="difference")
    return finished(facets(maps, scale, hover, title, [*caption, *said], "layer"), path)


def _gap(one: Any, values: np.ndarray, names: tuple[str, str], halves: np.ndarray | None) -> Any:
    """The map of a difference, on a scale of its own."""
    most = max(float(np.nanmax(np.abs(values))), 1e-6)
    title, scale = short(" - ".join(map(model_name, names[::-1])), 60), Scale(-most, most, 0.0)
    return Map(values, one.rows, one.columns, one.family, title, halves=halves, scale=scale)


def compared_averages(result: ComparedAverages, path: str | os.PathLike | None = None) -> Any:
    """Mean scores of the same traces on two models, and their paired difference with its interval.

    Args:
        result: what `compare_bits` returns for many prompts.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> from mlxtrace import Comparison, ComparisonSet, InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> options = {"positions": "subject_last", "samples": 1, "progress": False}
        >>> one, two = (model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", seed=s, **options) for s in (1, 2))
        >>> pairs = [Comparison(*both, ("one", "other")) for both in ((one, two), (two, one))]
        >>> interactive.compared_averages(ComparisonSet(pairs, ["a", "b"])).data[0].y
        ('last subject token',)
    """
    path = checked(path)
    columns, kind = [str(layer) for layer in range(result.first.shape[1])], family(result.kind)
    maps = [
        Map(x, list(result.roles), columns, kind, short(model_name(model)))
        for x, model in zip((result.first, result.second), result.names, strict=True)
    ]
    top = max(float(one.values.max()) for one in maps)
    maps.append(_gap(maps[0], result.difference, result.names, result.interval))
    caption = [
        f"correlation {result.correlation:z.4f}, mean over {result.n} prompts; "
        f"the peak moved in {len(result.moved)}"
    ]
    title = f"Impact of restoring {short_words(result.kind)}, {result.n} prompts"
    hover = Hover("tokens:", "layer", "mean p(answer)", ".4f", own="difference")
    scale = Scale(0.0, max(top, 1e-3), 0.0)
    return finished(facets(maps, scale, hover, title, caption, "layer"), path)


def averages(result: Averaged, path: str | os.PathLike | None = None) -> Any:
    """Average indirect effects over facts: a map for each kind, with intervals in the hover.

    Args:
        result: what `facts.run` or `facts.averages` returns.
        path: an .html file to write as well.

    Returns:
        A plotly Figure.

    Raises:
        InputError: for what the result does not have, or a path that cannot be written.
        UnsupportedError: without plotly.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, facts, interactive
        >>> model, some = InterpretableModel("demo"), facts.load()[:1]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     average = facts.run(model, some, out, kinds=(None,), samples=1, progress=False)
        >>> interactive.averages(average).layout.xaxis.title.text
        'single restored layer'
    """
    path = checked(path)
    there = [i for i in range(len(result.roles)) if result.counts[i]]
    rows = [result.roles[i] for i in there]
    maps = []
    for kind, effect, half in zip(result.kinds, result.indirect_effect, result.interval, strict=True):
        across = "single restored layer" if kind is None else f"centre of {result.window} restored layers"
        columns, words = [str(layer) for layer in range(effect.shape[1])], short_words(kind)
        maps.append(Map(effect[there], rows, columns, family(kind), capital(words), across, half[there]))
    values = np.concatenate([one.values.ravel() for one in maps])
    scale = Scale(min(values.min(), 0.0), max(values.max(), 1e-3), 0.0)
    ends = f"clean {result.high_score:z.3f}, corrupted {result.low_score:z.3f}"
    caption = [f"average total effect {result.total_effect:z.3f} ± {result.total_interval:z.3f}: {ends}"]
    title = f"Average indirect effect over {result.facts} facts"
    hover = Hover("tokens:", "layer", "average indirect effect", ".4f")
    return finished(facets(maps, scale, hover, title, caption), path)
