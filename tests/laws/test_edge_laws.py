"""The laws of edges and circuits, on models whose edges are of something else than they say."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from faulty_models import seen
from models import make

from mlxtrace import InterpretableModel, check
from mlxtrace.laws import edge_laws

SMALL = {"num_hidden_layers": 2}


class Lying(InterpretableModel):
    """`change(scores)` is done to what it returns."""

    change = staticmethod(lambda scores: None)

    def edges(self, *prompts, **options):
        found = InterpretableModel.edges(self, *prompts, **options)
        type(self).change(found)
        return found


@functools.cache
def fails_on_a_sound_model(law):
    return seen(law, InterpretableModel(make("llama", **SMALL)))


def turned(scores):
    scores.per_pair *= -1
    scores.__post_init__()


def another_sender(scores):
    scores.per_pair, run = np.roll(scores.per_pair, 1, axis=1), scores._runs
    scores.__post_init__()
    scores._runs = run


def other_edges_dropped(scores):
    run = scores._runs

    def reversed_heads(kept, pairs):
        order = [scores.receivers.index(name) for name in scores.receivers]
        a, b = (scores.receivers.index(f"a1.h{h}.q") for h in (0, 3))
        order[a], order[b] = b, a
        return run(kept[:, :, order], pairs)

    scores._runs = reversed_heads


def ends_swapped(scores):
    run = scores._runs

    def swapped(kept, pairs):
        values, clean, corrupted, ids = run(kept, pairs)
        return values, clean + 0.1, corrupted, ids

    scores._runs = swapped


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (edge_laws.slopes, turned),
        (edge_laws.slopes, another_sender),
        (edge_laws.circuits, another_sender),
        (edge_laws.circuits, other_edges_dropped),
        (edge_laws.circuits, ends_swapped),
    ],
    ids=lambda x: getattr(x, "__name__", getattr(x, "name", "")),
)
def test_edges_of_something_else(law, change):
    assert not fails_on_a_sound_model(law)
    assert seen(law, type("Lying", (Lying,), {"change": staticmethod(change)})(make("llama", **SMALL)))


def test_models_without_edges_are_told_so():
    for row in check.run(make("mamba"), [edge_laws.slopes, edge_laws.circuits]):
        assert row.status == "n/a" and row.note
