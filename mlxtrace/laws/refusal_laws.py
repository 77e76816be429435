"""The law of refusals: bad input raises, and so does a sweep in which the model does not run as it was planned."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import MlxtraceError
from .law import Measurement, law
from .model_under_test import LENGTH, ModelUnderTest
from .module_calls import first_array, watched, with_first_array
from .pair_by_hand import PairByHand


@law("what cannot mean anything is refused", "that a number is of what was asked for")
def refusals(tested: ModelUnderTest) -> Measurement:
    """Bad input, bad edits, and models that run otherwise than planned. Counts what does not raise."""
    component = tested.components_in_all(["mlp", "attn", "resid_post"], [0])[0]
    calls = {**_bad_input(tested, component), **_bad_edits(tested, component)}
    accepted = [name for name, call in calls.items() if not _raises(call)]
    if not _base_rows_are_watched(tested, component):
        accepted.append("a batch whose base rows are not the plain run's")
    note = "let through: " + ", ".join(accepted) if accepted else f"{len(calls) + 1} tried"
    return Measurement(float(len(accepted)), 0.0, note)


def _bad_input(tested: ModelUnderTest, component: str) -> dict[str, Callable[[], Any]]:
    ids, other = list(tested.ids), list(tested.other)
    experiment = functools.partial(tested.model.activation_patching, progress=False)
    patch = functools.partial(experiment, ids, other)
    one = functools.partial(patch, component, layers=[0])
    return {
        "an unknown component": lambda: patch("mpl"),
        "a layer past the end": lambda: patch(component, layers=[tested.model.n_layers]),
        "a position past the end": lambda: one(positions=[LENGTH]),
        "a window of 0": lambda: one(window=0),
        "an unknown metric": lambda: one(metric="probs"),
        "an unknown direction": lambda: one(direction="clean"),
        "equal prompts": lambda: experiment(ids, ids, component),
        "prompts of two lengths": lambda: experiment(ids, [*other, 1], component),
        "a metric that is NaN": lambda: one(metric=lambda x: x[:, 0] * np.nan),
        "a metric that nothing moves": lambda: one(metric=lambda x: np.ones(len(x))),
        "a token past the vocabulary": lambda: one(target=tested.model.vocab_size),
    }


def _bad_edits(tested: ModelUnderTest, component: str) -> dict[str, Callable[[], Any]]:
    ids = list(tested.ids)

    def edited(edit: Callable) -> None:
        with tested.model.trace(ids, interventions={f"layers.0.{component}": edit}):
            pass

    return {
        "an unknown site": lambda: tested.model.run_with_cache(ids, ["layers.0.mpl"]),
        "an edit of another shape": lambda: edited(lambda x: x[:, :-1]),
        "an edit that returns nothing": lambda: edited(lambda x: None),
        "a component that the pass never reaches": lambda: _sweep_a_call_that_is_never_made(
            tested, component
        ),
    }


def _raises(call: Callable[[], Any]) -> bool:
    try:
        call()
    except MlxtraceError:
        return True
    return False


def _sweep_a_call_that_is_never_made(tested: ModelUnderTest, component: str) -> None:
    cell = tested.sweep.cells[component, 0]
    patch = replace(cell.patches[0], site=replace(cell.patches[0].site, visit=9))
    tested.sweep.run([replace(cell, patches=(patch,))], tested.sweep.engine("flat"))


def _base_rows_are_watched(tested: ModelUnderTest, component: str) -> bool:
    """Whether a sweep raises when the model gives other logits as soon as there are more than two rows."""
    if tested.sweep.chosen.name == "loop":
        return True
    pair = PairByHand(tested, [component], [0])
    sweep = functools.partial(pair.experiment, component, layers=[0], positions="each")
    sweep()  # what is measured once per model is measured with the model as it is
    factor = 1 + 20 * tested.limit

    def call(path: str, forward: Callable, args: tuple, kwargs: dict) -> Any:
        out = forward(*args, **kwargs)
        x = first_array(out)
        return out if x.shape[0] <= 2 else with_first_array(out, x * factor)

    with watched(tested.by_hand.watch([""]), call):
        return _raises(sweep)
