"""Path patching: what one component tells another, all else as it was.

An edge from a sender to a receiver is patched by letting the receiver, and nothing else, read the stream with what the
sender writes in the other run; what follows from it runs on as usual (Wang et al. 2022, section 3.1; Goldowsky-Dill et
al. 2023). The receiver's norm sees that stream, so that nothing is linearised.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arguments import true_or_false
from ..engine.path_sweep import (
    Graph,
    Receiver,
    Sender,
    choose,
    graph_of,
    reaches,
)
from ..engine.path_sweep import receivers as receivers_of
from ..engine.path_sweep import senders as senders_of
from ..errors import InputError
from ..notebook import show
from ..results.path_set import PathResult, PathSet
from .grid import Grid, Places
from .pair_sets import AlignedPair, Corrupted, OneOrMany, PairSet, grids_of, read_pairs
from .path_runs import ALL, PathCell, PathRuns, progress_bar
from .protocol import TracedModel
from .set_answers import SetAnswers, answers_of_set
from .whole_answers import Measured, asked_of_pairs, settle_whole, several

NORMED = (
    "a norm stands between this model's heads and the stream: a head's contribution is its part of what the norm "
    "gives, at each run's own scale"
)


def path_patching(
    model: TracedModel,
    clean_text: OneOrMany,
    corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    senders: Any = None,
    receivers: Any = None,
    positions: Any = None,
    metric: Any = "auto",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    within: str | None = None,
    together: str = "frozen",
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    answers: Any = None,
) -> PathResult:
    """Patch paths between components, each pair of a sender and a receiver by itself, and report what each changes.

    A sender writes to the residual stream, a receiver reads it. In a row of the base run the receiver reads the stream
    with the sender's contribution of the source run in place of its own; everything after the receiver runs on.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text, corrupted_text: as for `activation_patching`: a pair of prompts, noise, a `Pair`, or lists.
        senders: "embed", "a3.h5" or (3, 5) (head 5 of layer 3), "m3" (an MLP), "r4" or "layers.4.resid_pre" (all that
            was written before layer 4); groups: "head", "mlp", "a3" (each head of a layer); "a0.h1 + m2" for a sum; or
            a list of these. In a list a list is a chain, ["a0.h1", "a2.h3.k"]: what the output of head 3 of layer 2
            changes when its keys, and nothing else, read a0.h1. None: every one.
        receivers: "a7.h3.q", "a7.h3.k", "a7.h3.v" (keys and values by key-value head), "m7", "logits"; groups: "q",
            "k", "v", "mlp", "a7.q"; "a7.h3" is the queries, keys and values of a head together; or a list of these. In
            a list a list is one receiver, ["a7.h3.k", "a8.h1.k"]: several reads that are patched together. None: every
            read.
        positions: where the receiver reads the sender, which writes at the same place: None for the whole sequence
            together, "each", "regions", or some positions together, as for `activation_patching`. The earlier members
            of a chain read the whole sequence. The whole sequence has the tokens of an answer of several, which are run
            behind the prompt; positions that are named are the prompt's.
        metric, target, foil, subject, direction, align, within: as for `activation_patching`; metrics are of the last
            position.
        together: what a read sees of others that are patched with it: "frozen", nothing (each is given the direct path
            from the sender alone, as in Wang et al.); or "live", what they change of the stream before it.
        max_memory: bytes beside the weights (None: a quarter of what is free).
        plot: make the figure, as `result.figure`; a notebook shows it at once.
        progress: True or False for a progress bar; None: in a terminal or notebook.
        answers: in the target's place several that are right, as for `activation_patching`.

    Returns:
        A `PathResult`: `.effect` (patched - base), `.recovery` (percent) and `.raw`, `[sender, receiver]`, with an axis
        of positions or regions behind them and one of metrics before; `.edge` says where there is an edge at all. Of a
        set a `PathSet`, with `.interval` and `.per_pair` as well.

    Raises:
        InputError: unknown names, with the closest ones; a chain, or a single pair, that is no path.
        UnsupportedError: this model's stream is no sum of what its components write, or its reads cannot be told
            apart: identities over all of them are checked on every pair.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> clean, corrupted = "The Eiffel Tower is in the city of", "The Statue of Liberty is in the city of"
        >>> result = model.path_patching(clean, corrupted, senders=["embed", "m0"], receivers="mlp", progress=False)
        >>> result.raw.shape, float(result.effect[1, 0])  # m0 does not read what it writes itself
        ((2, 12), 0.0)
    """
    true_or_false("plot", plot, "to write a file, result.plot(path)")
    graph = graph_of(model.resolver)
    ends = senders_of(graph, senders), receivers_of(graph, receivers)
    _check_ends(graph, *ends)
    _check_together(together, ends[1])
    if any(getattr(m, "every_position", False) for m in several(metric)):
        raise InputError("paths are measured at the last position: give a metric of its logits")
    made = read_pairs(model, clean_text, corrupted_text, subject, target, foil, align, answers)
    grids = grids_of(model, made, Grid([], [], Places([]), None, {}, {}), positions, within)
    asked = _Asked(graph, *ends, [grid.places for grid in grids], positions, metric, direction, together)
    results, notes = _paths(model, made, asked, max_memory, progress)
    for note in results[0].notes if made.alone else ():
        if note not in (NORMED, ALL, *notes):
            warnings.warn(note, stacklevel=2)
    result = results[0] if made.alone else PathSet(results, made.ids, [*made.notes, *notes])
    if plot:
        result.figure = show(result.plot())
    return result


@dataclass(frozen=True)
class _Asked:
    """What is asked of every pair, and the positions of each."""

    graph: Graph
    senders: list[Sender]
    receivers: list[Receiver]
    places: list[Places]
    positions: Any
    metric: Any
    direction: str
    together: str


def _check_ends(graph: Graph, senders: list[Sender], receivers: list[Receiver]) -> None:
    """InputError when no receiver reads anything that a sender writes."""
    if any(reaches(graph, s.written, r.reads) for s, r in itertools.product(senders, receivers)):
        return
    one = len(senders) == len(receivers) == 1
    which = f"{receivers[0].name} does not read what {senders[0].name} writes"
    which = which if one else "none of the receivers reads what a sender writes"
    raise InputError(f"{which}: a receiver comes after its sender in the stream")


def _check_together(together: Any, receivers: list[Receiver]) -> None:
    """InputError for anything but frozen and live, and for frozen reads of which the logits leave nothing to see."""
    if together not in ("frozen", "live"):
        raise InputError(f'together={together!r} is unknown: it is "frozen" or "live"')
    for receiver in receivers:
        kinds = {read.kind for read in receiver.reads}
        if together == "frozen" and "logits" in kinds and len(receiver.reads) > 1:
            raise InputError(
                f"{receiver.name}: logits that are given the direct path alone show nothing of the other reads; use "
                'together="live"'
            )


def _paths(
    model: TracedModel, made: PairSet, asked: _Asked, max_memory: int | None, progress: bool | None
) -> tuple[list[PathResult], list[str]]:
    """The result of each pair, and notes on the set; of a pair alone what is no warning."""
    roles = [pair.roles(asked.direction) for pair in made.pairs]
    wholes = asked_of_pairs(model, made)
    answers = SetAnswers(made.targets, made.foils, asked.metric, [], wholes)
    if not made.alone:
        answers = answers_of_set(model, made, asked.metric, True, wholes)
    engine, results, remarks = choose(model.resolver), [], []
    ends = asked.senders, asked.receivers
    groups = [
        [tuple(role.at[p] for p in g) for g in place.groups]
        for role, place in zip(roles, asked.places, strict=True)
    ]
    runs_of = [1 if whole is None else len(whole.contexts) for whole in answers.asked]
    total = sum(n * len(some) for n, some in zip(runs_of, groups, strict=True))
    with progress_bar(total * len(ends[0]) * len(ends[1]), progress) as bar:
        for i, (pair, role) in enumerate(zip(made.pairs, roles, strict=True)):
            runs = PathRuns(model, asked.graph, role, answers.asked[i], engine, max_memory)
            logits = role.clean_first(*runs.logits())
            wanted = answers.metric, answers.targets[i], answers.foils[i]
            measured = settle_whole(model, pair, *wanted, logits, made.alone, answers.asked[i])
            places = [(*g, *runs.answer) for g in groups[i]] if asked.positions is None else groups[i]
            cells = [PathCell(*cell) for cell in itertools.product(*ends, places)]
            found = runs.run(cells, measured, bar, asked.together == "live")
            result = _labelled(model, pair, asked, asked.places[i], measured, found)
            remarks += measured.remarks
            notes = [NORMED] if runs.normed else []
            notes += [ALL] if runs.answer and asked.positions is None else []
            results.append(replace(result, notes=[*result.notes, *notes], part_of_set=not made.alone))
    return results, remarks if made.alone else answers.notes


def _labelled(
    model: TracedModel, pair: AlignedPair, asked: _Asked, places: Places, measured: Measured, found: Any
) -> PathResult:
    """The sweep's values with the names of both ends."""
    senders, receivers = asked.senders, asked.receivers
    names = [m.name for m in measured.metrics]
    shape = (len(names), len(senders), len(receivers), len(places.groups))
    raw = places.averages(found.values.mean(-1).reshape(shape), 3)
    raw = raw[..., 0] if places.axis is None else raw
    return PathResult(
        raw=raw[0] if len(names) == 1 else raw,
        reached=np.array(
            [[float(reaches(asked.graph, s.written, r.reads)) for r in receivers] for s in senders]
        ),
        senders=[sender.name for sender in senders],
        receivers=[receiver.name for receiver in receivers],
        metrics=names,
        clean_values=measured.clean,
        corrupted_values=measured.corrupted,
        direction=asked.direction,
        target=measured.target,
        foil=measured.foil,
        tokens=list(pair.clean_prompt.tokens),
        corrupted_tokens=list(pair.corrupted_prompt.tokens),
        subject_range=pair.subject,
        clean_text=pair.clean_text,
        corrupted_text=pair.corrupted_text,
        model=model.name,
        positions=places.labels if places.axis == "position" else None,
        regions=places.labels if places.axis == "region" else None,
        plan=found.plan,
        notes=[*pair.notes, *places.notes, *measured.notes, *measured.remarks],
        settings={
            "positions": list(asked.positions) if isinstance(asked.positions, range) else asked.positions,
            "together": asked.together,
            **({"within": places.within} if places.within else {}),
            **({"corruption": pair.corruption} if pair.corruption else {}),
        },
    )
