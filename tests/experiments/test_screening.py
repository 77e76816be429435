"""How far a screen goes: the cells that were asked for, until the strongest stay, or until a budget ends it."""

from types import SimpleNamespace

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.experiments.screening import Screening, Wanted

CLEAN = [3, 17, 5, 90, 41, 8, 77]
CORRUPTED = [3, 17, 66, 12, 41, 8, 77]
OPTIONS = {"metric": "logit", "target": 7, "progress": False}


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(models.make("llama", seed=2))


def test_the_verified_set_doubles_until_the_ten_strongest_stay(model):
    found = model.screen(CLEAN, CORRUPTED, verify=12, audit=5, until="stable", **OPTIONS)
    n = len(found.verified)
    assert n in (24, 48, 96, 192) and not found.ended and len(found.audit.rows) == 5
    half = model.screen(CLEAN, CORRUPTED, verify=n // 2, audit=0, **OPTIONS)
    key = ("layer", "position", "neuron")
    assert {tuple(r[k] for k in key) for r in half.top()} == {
        tuple(r[k] for k in key) for r in found.verified[:10]
    }
    if n > 24:
        less = model.screen(CLEAN, CORRUPTED, verify=n // 4, audit=0, **OPTIONS)
        assert {tuple(r[k] for k in key) for r in less.top()} != {
            tuple(r[k] for k in key) for r in half.top()
        }
    assert sorted(found.ranks[:n]) == list(range(1, n + 1)) and min(found.ranks[n:]) > n


def test_until_stable_ends_when_all_are_verified(model):
    found = model.screen(CLEAN, CORRUPTED, component="mlp", verify=5, until="stable", **OPTIONS)
    assert found.live - 5 <= len(found.verified) <= found.live and found.audit.drawn <= 5


class Steps(Screening):
    """A screen whose cells take no run: cell i does what `true[i]` says, and a pass holds four cells."""

    def __init__(self, true, wanted, began=0.0):
        model = SimpleNamespace(resolver=SimpleNamespace(group=None))
        super().__init__(model, None, [None], [], {}, None, wanted, began)
        self.true, self.order = np.array(true), np.arange(len(true))
        self.effects, self.ranked, self.steps = np.zeros((1, 0)), began, []

    def _run(self, chosen):
        self.steps.append(len(chosen))
        self.effects = np.concatenate([self.effects, self.true[None, chosen]], axis=1)
        self.ran += chosen
        self.passes += self._passes(chosen)

    def _passes(self, cells):
        return -(-len(cells) // 4)


def wanted(**changes):
    return Wanted(
        **{
            "verify": 40,
            "audit": 20,
            "stable": False,
            "seconds": np.inf,
            "passes": np.inf,
            "seed": 0,
            **changes,
        }
    )


def test_without_a_budget_all_is_one_sweep():
    steps = Steps(np.zeros(500), wanted())
    steps.verify()
    steps.draw()
    assert steps.steps == [60] and steps.verified == 40 and not steps.ended and len(set(steps.ran)) == 60


def test_stable_doubles_and_stops_one_doubling_after_the_last_change():
    true = np.zeros(2000)
    true[[100, *range(9)]], true[60] = 5.0, 1.0  # found by the first doubling and by the second
    steps = Steps(true, wanted(stable=True))
    steps.verify()
    assert steps.steps == [40, 40, 80, 160] and steps.verified == 320
    steps.draw()
    assert steps.steps[-1] == 20 and min(steps.ran[320:]) >= 320


def test_passes_are_never_more_than_allowed_and_some_are_kept_for_the_audit():
    for allowed in range(2, 30):
        steps = Steps(np.arange(500.0), wanted(passes=allowed))
        steps.verify()
        steps.draw()
        assert steps.passes <= allowed and steps.verified > 0, allowed
        enough = allowed >= 10 + 5 + 1  # a step ends in a part of a pass
        assert (steps.verified == 40 and len(steps.ran) == 60) >= enough
        assert bool(steps.ended) == (len(steps.ran) < 60)
        if steps.ended and allowed > 4:
            assert len(steps.ran) > steps.verified  # an audit, though a smaller one


def test_seconds_end_it_and_say_so():
    import time

    steps = Steps(np.arange(500.0), wanted(seconds=1e-9), began=time.perf_counter() - 1)
    steps.verify()
    steps.draw()
    assert (
        steps.steps[0] == 25 and steps.ended == "seconds"
    )  # what a cell takes is known after the first step
    steps = Steps(np.arange(500.0), wanted(seconds=1e9), began=time.perf_counter())
    steps.verify()
    steps.draw()
    assert steps.verified == 40 and len(steps.ran) == 60 and not steps.ended


def test_budgets_on_a_model(model):
    few = model.screen(CLEAN, CORRUPTED, verify=200, audit=50, seconds=1e-6, **OPTIONS)
    assert few.ended == "seconds" and len(few.verified) == 25 and "ended it: 25 verified of 200" in repr(few)
    passes = model.screen(CLEAN, CORRUPTED, verify=100, audit=50, passes=6, **OPTIONS)
    assert passes.passes <= 6
    with pytest.raises(errors.InputError, match="passes=1 allows no cell"):
        model.screen([CLEAN, CLEAN[1:]], [CORRUPTED, CORRUPTED[1:]], positions="last", passes=1, **OPTIONS)
