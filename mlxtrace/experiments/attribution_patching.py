"""Attribution patching: every patch of an experiment estimated at once, from gradients, to choose what to patch."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine.attribution import Attributing, Attribution
from ..errors import InputError
from ..notebook import show
from ..results.attribution_result import AttributionResult, AttributionSet
from .activation_patching import (
    AlignedPair,
    Corrupted,
    Measured,
    OneOrMany,
    Outcome,
    PairSet,
    Plan,
    SetAnswers,
    TracedModel,
    answers_of_set,
    asked_of_pairs,
    grids_of,
    labelled,
    notes_of,
    read_pairs,
    settle_whole,
    true_or_false,
)
from .attribution_metrics import check_method, checked_metric, slope_at
from .grid import HEADED, Grid, Roles, components_of, grid_of, windows_of
from .sweeps import progress_bar
from .whole_runs import WholeRuns, between, flat, values_of


def attribution_patching(
    model: TracedModel,
    clean_text: OneOrMany,
    corrupted_text: Corrupted | Sequence[Corrupted] | None = None,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int | str | dict[str, int] = 1,
    metric: Any = "auto",
    target: Any = None,
    foil: Any = None,
    subject: Any = None,
    direction: str = "denoise",
    align: str = "strict",
    within: str | None = None,
    max_memory: int | None = None,
    plot: bool = False,
    progress: bool | None = None,
    method: str = "atp",
    neurons: Any = None,
    answers: Any = None,
) -> AttributionResult:
    """Estimate what each patch of an `activation_patching` would do, all of them in two passes: approximate.

    The estimate of a patch is :math:`\\nabla \\cdot (source - base)`, the gradient of the metric in the base run
    for the patched array times what the patch changes there (Nanda 2023, "Attribution patching: activation patching at
    industrial scale"). It is right for small changes. Patches of a whole site are large ones: on small models the
    estimates correlate with what patches do by .64 to .97 in the median, and not at all for the worst prompts.

    Args:
        model: what is traced; not given where this is called as its method.
        clean_text, corrupted_text: as `activation_patching` takes them: one pair, or many.
        component: one, or a list of any of resid_pre, attn, resid_mid, mlp, resid_post, head, q, k, v, pattern, neuron,
            router; a list costs no more than one.
        layers, positions, window, target, foil, subject, direction, align, within: as for `activation_patching`. A
            window's estimate is the sum of its layers', and that of several positions the sum of theirs.
        heads: with head, q, k, v, pattern: "each" (the default) or the heads to patch together. In a list with
            components that have no heads: None, and the heads of each component are patched together.
        metric: as for `activation_patching`, but for rank, which has no gradient. A function gets MLX logits
            `[rows, V]` and returns `[rows]`. What compares with the clean run (kl, l2, cosine) is flat in it, and
            refused for direction="noise" unless method is "ig".
        max_memory: bytes beside the weights that the passes may take; None: a quarter of what is free.
        plot: make the figure, as `result.figure`; a notebook shows it at once.
        progress: True or False for a progress bar; None: in a terminal or notebook.
        method: "atp", as above. "atp*": queries and keys through the softmax that they would give, and the mean size of
            the estimates with one layer's contribution to the stream dropped from the gradient at a time, so that
            effects that cancel are seen; its sign is that of the estimate with none dropped (Kramar et al. 2024,
            arXiv:2403.00745, sections 3.1 and 3.2; a pass for each layer). "ig": the gradient is averaged over 5 points
            on the way from the base run's embeddings to the source run's (Hanna et al. 2024, arXiv:2403.17806): better
            for what is written to the stream, worse for heads; not with prob.
        neurons: with component="neuron": None for all of a layer's neurons together, "each", or the neurons to patch
            together.
        answers: in the target's place several that are right, as for `activation_patching`.

    Returns:
        An `AttributionResult`: `.scores` (the estimated change), `.raw` and `.recovery` as if patches were made;
        of a set an `AttributionSet`. Both say that they are approximate.

    Raises:
        UnsupportedError: the gradients of this model are not what its forward pass does, with the reason.
        MlxtraceError: for whatever `activation_patching` refuses, and metrics without a gradient.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> clean, corrupted = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> where = {"component": ["attn", "mlp", "neuron"], "metric": "logit_diff", "progress": False}
        >>> model.attribution_patching(clean, corrupted, method="atp*", **where).scores.shape
        (3, 12)
    """
    true_or_false("plot", plot, "to write a file, result.plot(path)")
    made = read_pairs(model, clean_text, corrupted_text, subject, target, foil, align, answers)
    where = component, layers, positions, heads, window, metric, direction, within
    found, notes = attributed(model, made, *where, method, max_memory, progress, neurons=neurons)
    for note in found[0].measured.notes if made.alone else ():
        warnings.warn(note, stacklevel=2)
    own = notes_of(model, found[0].grid.cells(found[0].roles), estimated=True)
    results = [one.result(model, direction, positions, made.alone, own, method) for one in found]
    result = results[0] if made.alone else AttributionSet(results, made.ids, [*made.notes, *notes])
    if plot:
        result.figure = show(result.plot())
    return result


@dataclass(frozen=True)
class Attributed:
    """One pair, what was asked of it, and the estimates: an `Attribution` for each metric."""

    pair: AlignedPair
    grid: Grid
    roles: Roles
    measured: Measured
    attributions: list[Attribution]
    base: np.ndarray  # the metrics of the base run, [metrics, rows]
    source: np.ndarray
    seconds: float
    contexts: int = 1  # answers that were run behind the prompts

    def values(self) -> np.ndarray:
        """The metrics as if each cell had been patched, `[metrics, cells, rows]`: the base run's, and the estimate."""
        changes = np.stack([self._changes(found) for found in self.attributions])
        return self.base[:, None, np.arange(changes.shape[-1]) % self.base.shape[-1]] + changes

    def _changes(self, found: Attribution) -> np.ndarray:
        """The estimates of every cell, `[cells, rows]`, in the order of `Grid.cells`."""
        grid, parts = self.grid, []
        for key in itertools.product(grid.components, grid.layers):
            places = [[self.roles.at[p] for p in group] for group in grid.places.groups]
            parts += [found.of_units(grid.sites[key], at, grid.units) for at in places]
        return np.concatenate(parts)

    def plan(self, cells: int, method: str) -> Plan:
        """What was run: both runs plainly, and the passes that were differentiated."""
        backward = sum(found.passes for found in self.attributions)
        return Plan(
            engine=f"gradients ({method})",
            cells=cells,
            null_cells=0,
            rows=self.contexts * ((backward + 1) * self.base.shape[-1] + self.source.shape[-1]),
            passes=1 + backward,
            bytes=max(found.bytes for found in self.attributions),
            seconds=self.seconds,
            elapsed=self.seconds,
        )

    def result(
        self, model: TracedModel, direction: str, positions: Any, alone: bool, notes: list[str], method: str
    ) -> Any:
        """The estimates as a result."""
        values = self.values()
        outcome = Outcome(values, self.base, self.source, self.plan(values.shape[1], method))
        given = self.pair, self.grid, self.measured, outcome, direction, positions, alone, notes
        return labelled(model, *given, AttributionResult, approximate=method)


def attributed(
    model: TracedModel,
    made: PairSet,
    component: str | Sequence[str] = "mlp",
    layers: int | Iterable[int] | None = None,
    positions: Any = None,
    heads: Any = None,
    window: int | str | dict[str, int] = 1,
    metric: Any = "auto",
    direction: str = "denoise",
    within: str | None = None,
    method: str = "atp",
    max_memory: int | None = None,
    progress: bool | None = None,
    recovered: bool = True,
    neurons: Any = None,
) -> tuple[list[Attributed], list[str]]:
    """The estimates of each pair of a set, and notes on it. recovered: EffectError when the metric hardly moves."""
    check_method(method)
    metric = checked_metric(metric, method, direction)
    grids = grids_of(
        model, made, _grid_of(model, component, layers, heads, window, neurons), positions, within
    )
    roles = [pair.roles(direction) for pair in made.pairs]
    wholes = asked_of_pairs(model, made)
    asked = SetAnswers(made.targets, made.foils, metric, [], wholes)
    if not made.alone:
        asked = answers_of_set(model, made, metric, recovered, wholes)
    found = []
    with progress_bar(len(made.pairs), progress) as bar:
        for pair, grid, role, *own in zip(
            made.pairs, grids, roles, asked.targets, asked.foils, asked.asked, strict=True
        ):
            names = "target", "foil", "asked"
            answers = {"metric": asked.metric, "alone": made.alone, **dict(zip(names, own, strict=True))}
            found.append(_attribute(model, pair, grid, role, method, max_memory, answers))
            bar.update(1)
    return found, asked.notes


def _grid_of(model: TracedModel, component: Any, layers: Any, heads: Any, window: Any, neurons: Any) -> Grid:
    """The grid of any components: beside components without heads, those with heads are patched whole."""
    names = components_of(component)
    headed = [name for name in names if name in HEADED]
    if not headed or len(headed) == len(names) or neurons is not None:
        return grid_of(model, component, layers, heads, window, neurons)
    if heads is not None:
        raise InputError(
            f"heads={heads!r} goes with components that have heads, and {', '.join(names)} are of both kinds: leave it "
            "out, so that all heads of a component are patched together, or make a call for those with heads"
        )
    windows = windows_of(model, names, window)
    parts = [grid_of(model, name, layers, None, windows[name]) for name in names]
    sites = {key: found for part in parts for key, found in part.sites.items()}
    return replace(parts[0], components=names, heads=None, windows=windows, sites=sites)


def _attribute(
    model: TracedModel,
    pair: AlignedPair,
    grid: Grid,
    roles: Roles,
    method: str,
    max_memory: int | None,
    answers: dict[str, Any],
) -> Attributed:
    """The estimates for one pair."""
    began = time.perf_counter()
    places = sorted({p for group in grid.places.groups for p in group})
    sites = list({site.name: site for some in grid.sites.values() for site in some}.values())
    where = [roles.at[p] for p in places], [roles.source_at[p] for p in places]
    runs = WholeRuns(roles, answers["asked"])
    both = Attributing(model.resolver, runs.base, runs.source, sites, *where, method, max_memory, runs.read)
    base, source = (runs.stacked(logits) for logits in both.begin())
    measured = settle_whole(model, pair, logits=roles.clean_first(base, source), **answers)
    there = flat(base) if method != "ig" else between(base, source)  # on the way
    found = [
        both.run(slope_at(measured, i, method, roles.direction, there)).folded(
            runs.contexts, roles.base.length
        )
        for i in range(len(measured.metrics))
    ]
    values = values_of(measured, base), values_of(measured, source)
    taken = time.perf_counter() - began
    return Attributed(pair, grid, roles, measured, found, *values, taken, runs.contexts)
