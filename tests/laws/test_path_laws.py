"""The laws of paths, on a model whose path patching does something else than it says."""

from __future__ import annotations

import functools

import pytest
from faulty_models import seen
from models import make

from mlxtrace import InterpretableModel, check
from mlxtrace.laws import path_laws


class Lying(InterpretableModel):
    """Its path patching is asked for something else: `change(senders, receivers, options)` is what."""

    change = staticmethod(lambda senders, receivers, options: (senders, receivers, options))

    def path_patching(self, *prompts, senders, receivers, **options):
        senders, receivers, options = type(self).change(senders, receivers, dict(options))
        return InterpretableModel.path_patching(
            self, *prompts, senders=senders, receivers=receivers, **options
        )


@functools.cache
def fails_on_a_sound_model(law):
    return seen(law, InterpretableModel(make("llama")))


def direction(senders, receivers, options):
    return senders, receivers, {**options, "direction": "noise"}


def reversed_receivers(senders, receivers, options):
    return senders, receivers[::-1], options


def no_chain(senders, receivers, options):
    return [s[0] if isinstance(s, list) else s for s in senders], receivers, options


def another_position(senders, receivers, options):
    return senders, receivers, {**options, **({"positions": [7]} if "positions" in options else {})}


def frozen(senders, receivers, options):
    if "together" not in options:
        return senders, receivers, options
    return senders, [receivers[0][:-1]], {k: v for k, v in options.items() if k != "together"}


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (path_laws.steps, direction),
        (path_laws.steps, reversed_receivers),
        (path_laws.steps, no_chain),
        (path_laws.whole, another_position),
        (path_laws.everywhere, frozen),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_an_experiment_that_does_something_else(law, change):
    assert not fails_on_a_sound_model(law)
    assert seen(law, type("Lying", (Lying,), {"change": staticmethod(change)})(make("llama")))


@pytest.mark.parametrize("name", ["gemma3_text", "granite", "phi"])
def test_norms_behind_parts_factors_and_parallel_parts(name):
    rows = check.run(make(name), [path_laws.steps, path_laws.whole, path_laws.everywhere])
    assert [row.status for row in rows] == ["pass"] * 3


def test_a_model_without_paths_is_told_so():
    (row,) = check.run(make("nanbeige"), [path_laws.whole])
    assert row.status == "n/a" and "do not give the source run's logits" in row.note
