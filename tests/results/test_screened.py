"""What a screen returns: its threshold, its bound, what it held, and that it is saved whole."""

import numpy as np
import pytest

from mlxtrace import Screened, errors

OPTIONS = {
    "model": "tiny", "methods": {"neuron": "atp*"}, "metric": "logit_diff", "direction": "denoise", "positions": "each",
    "clean": 3.0, "corrupted": -1.0, "target": " Paris", "foil": " Rome",
    "clean_text": "A in", "corrupted_text": "B in",
    "asked": {"verify": 12, "audit": 8, "stable": False, "seed": 0}, "ended": "", "passes": 2, "seconds": 0.5,
}  # fmt: skip


def screened(effects, verify, live, ranks=None, ids=(), **changes):
    """Cells with these effects, the first `verify` of them verified."""
    per_pair = np.atleast_2d(np.array(effects, dtype=float))
    n = per_pair.shape[1]
    rows = [{"component": "neuron", "layer": 1, "neuron": i, "position": 2, "token": " x"} for i in range(n)]
    ranks = list(ranks or [*range(1, verify + 1), *range(verify + 5, n + 5)])
    return Screened(
        **{**OPTIONS, "cells": live + 5, "live": live, "verify": verify, "rows": rows, "ranks": ranks,
           "estimates": per_pair.mean(0) * 0.8, "per_pair": per_pair, "ids": list(ids), **changes}
    )  # fmt: skip


STRONG = [0.1 * (i + 1) * (-1) ** i for i in range(12)]  # strengths .1 to 1.2


def test_the_threshold_is_that_of_the_verified_cells_alone():
    found = screened([*STRONG, 5.0, 0.0, 0.0], 12, 500)
    assert found.threshold == pytest.approx(0.3)  # the tenth of twelve; the audit's 5.0 counts for nothing
    assert found.audit.drawn == 3 and found.audit.population == 488 and found.audit.above == 1
    assert [row["effect"] for row in found.top(2)] == [5.0, STRONG[-1]]
    assert [row["effect"] for row in found.verified[:2]] == STRONG[-1:-3:-1] and len(found.verified) == 12
    assert found.audit.rows[0]["part"] == "audit" and found.audit.rows[0]["effect"] == 5.0
    assert found.needed == found.top(1)[0]["rank"] == 17  # more than were verified: the audit found it
    assert "One of the 10 strongest the audit alone found: the ranking has it at 17." in found.sentence
    two = screened([*STRONG, 5.0, 4.0, 0.0], 12, 500)
    assert (
        "Of the 10 strongest the audit alone found 2: the ranking has the last of them at 18." in two.sentence
    )


def test_as_strong_as_the_threshold_is_not_above_it():
    found = screened([*STRONG, 0.3, -0.3, 0.2], 12, 500, ranks=[*range(1, 13), 20, 21, 22])
    assert found.audit.above == 0 and found.needed <= 12
    assert screened([*STRONG, -0.3001], 12, 500).audit.above == 1


def test_the_bound_counts_cells_that_were_not_verified():
    quiet = [*STRONG, *[0.0] * 60]
    found = screened(quiet, 12, 1012)
    assert 0.03 < found.missed_bound < 3 / 60 and found.missed_cells == round(found.missed_bound * 1000)
    louder = screened([*STRONG, 9.0, *[0.0] * 59], 12, 1012)
    assert louder.missed_cells > found.missed_cells
    assert (
        screened(quiet, 12, 72).missed_bound == 0 and "nothing is missed" in screened(quiet, 12, 72).sentence
    )
    every = screened(STRONG, 12, 12)
    assert every.missed_bound == 0 and every.audit.drawn == 0 and "nothing to audit" in every.sentence
    without = screened(STRONG, 12, 300)
    assert without.missed_bound == 1 and "no audit" in without.sentence and without.audit.correlation is None


def test_few_verified_cells_have_the_weakest_as_threshold():
    found = screened([3.0, -2.0, 0.1, 0.0, 0.0], 2, 40)
    assert found.threshold == 2 and "weakest verified cell (2)" in found.sentence
    none = screened(np.zeros((1, 0)), 0, 0)
    assert (
        none.threshold == 0 and none.top() == [] and none.needed == 0 and "no cell can differ" in repr(none)
    )


def test_effects_over_pairs_are_means_over_those_that_have_the_cell():
    found = screened([[1.0, np.nan, 0.5], [3.0, 4.0, 0.5]], 2, 9, ids=["a", "b"])
    assert found.effects.tolist() == [2.0, 4.0, 0.5] and [row["n"] for row in found.to_rows()] == [2, 1, 2]
    assert "over 2 pairs" in repr(found)


def test_it_is_saved_whole(tmp_path):
    found = screened([*STRONG, 0.2, 0.0], 12, 500, ended="seconds", notes=["a note"])
    again = Screened.load(found.save(tmp_path / "screen"))
    assert repr(again) == repr(found) and again.to_rows() == found.to_rows() and again.audit == found.audit
    assert again.missed_bound == found.missed_bound and again.methods == found.methods
    assert "a note" in repr(again) and "the budget (seconds) ended it" in repr(again)
    header = found.to_csv(tmp_path / "rows.csv").read_text().splitlines()[0]
    assert header == "component,layer,neuron,position,token,part,rank,estimate,effect,n"
    assert found.to_json(tmp_path / "rows.json").stat().st_size > 1000


@pytest.mark.parametrize("change", [{"estimates": np.zeros(3)}, {"per_pair": np.zeros((2, 14))}])
def test_a_file_that_does_not_fit_its_labels(tmp_path, change):
    found = screened([*STRONG, 0.2, 0.0], 12, 500)
    vars(found).update(change)
    with pytest.raises(errors.LoadError, match="by its labels"):
        Screened.load(found.save(tmp_path / "screen"))


@pytest.mark.parametrize("k", [-1, 1.5, "3", True, None])
def test_how_many_is_a_whole_number(k):
    with pytest.raises(errors.InputError, match="k is a whole number"):
        screened(STRONG, 12, 12).top(k)


def test_it_says_whose_estimates_there_are():
    alone = screened(STRONG, 10, 500, methods={"neuron": "atp"})
    assert "strongest:      effect      by atp   rank" in repr(alone)
    assert "estimates are gradients' guesses (atp), effects are exact\n" in repr(alone)
    two = repr(screened(STRONG, 10, 500, methods={"neuron": "atp + ig", "k": "atp*"}))
    assert "strongest:      effect by atp/atp*   rank" in two
    assert (
        "guesses (atp, atp*), effects are exact; a cell's rank is the better of those by atp and ig\n" in two
    )
