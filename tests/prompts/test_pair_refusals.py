"""Runs over pairs that are refused: settings that do not mix, and what means nothing, before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pair_runs import MISSING, OTHER, PAIRS, QUICK, model, names, of, out, same, times, whole  # noqa: F401

import mlxtrace
from mlxtrace import GaussianNoise, facts, prompts
from mlxtrace.errors import InputError, LoadError, MlxtraceError
from mlxtrace.prompts import pair_running
from mlxtrace.prompts.pair_lists import digest_of, named
from mlxtrace.prompts.pair_results import PairFolder

pytestmark = pytest.mark.usefixtures("undrawn")  # but what fixtures of a module make is drawn


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": [0, 5]}, r"layers is \[0, 6\] there and \[0, 5\] here"),
        ({"component": "mlp"}, "component is 'resid_post' there and 'mlp' here"),
        ({"positions": "subject"}, "positions"),
        ({"direction": "noise"}, "direction"),
        ({"metric": "logit"}, "metric is 'prob' there"),
        ({"pairs": PAIRS[:5]}, "the pairs differ"),
        ({"pairs": [*PAIRS[:5], replace(PAIRS[5], target=" Paris")]}, "the pairs differ"),
        ({"pairs": [*PAIRS, of("Louvre")]}, "the pairs differ"),
    ],
)
def test_settings_are_not_mixed(model, whole, changes, says):
    before = times(whole)
    given = {"pairs": PAIRS, **QUICK, **changes}
    with pytest.raises(InputError, match=says):
        prompts.run(model, out=whole, **given)
    assert before == times(whole)


def test_first_tokens_and_whole_answers_are_not_mixed(model, tmp_path, monkeypatch):
    """A folder of before answers of several tokens were scored whole has their first tokens' scores."""
    one, several = replace(of("Colosseum"), target=" Rome"), replace(of("Eiffel Tower"), foil=" New York")
    with monkeypatch.context() as older:
        older.setattr(pair_running, "any_of_several", lambda *given: False)
        prompts.run(model, [one, replace(several, foil=None)], out=tmp_path / "one", **QUICK)
    told = {**begun(tmp_path / "one"), "pairs": digest_of(named([one, several]))}
    PairFolder(tmp_path / "two", told).begin()
    prompts.run(model, [one, replace(several, foil=None)], out=tmp_path / "one", **QUICK)  # goes on as ever
    with pytest.raises(
        InputError, match="is the first token of each answer alone there and all of each answer here"
    ):
        prompts.run(model, [one, several], out=tmp_path / "two", **QUICK)


def begun(folder):
    return json.loads((folder / "settings.json").read_text())["settings"]


def test_models_experiments_and_facts_are_not_mixed(model, whole, tmp_path, llama_folder):
    other = mlxtrace.InterpretableModel(llama_folder)
    with pytest.raises(InputError, match="the model's weights differ"):
        prompts.run(other, PAIRS, out=whole, **{**QUICK, "layers": [0, 6]})
    with pytest.raises(InputError, match="experiment is 'activation_patching' there and 'causal_trace' here"):
        prompts.run(model, PAIRS, "causal_trace", whole, progress=False)
    known, quick = facts.load()[:1], {"samples": 1, "kinds": (None,), "progress": False}
    average = facts.run(model, known, tmp_path / "facts", **quick)
    with pytest.raises(InputError, match="no folder of results of pairs"):
        prompts.run(model, PAIRS, out=tmp_path / "facts", **QUICK)
    with pytest.raises(InputError, match="no folder of traces of facts"):
        facts.run(model, known, whole, **quick)
    again = prompts.averages(tmp_path / "facts")
    np.testing.assert_array_equal(again.indirect_effect, average.indirect_effect)


NOTHING_WRITTEN = [
    ({"pairs": []}, "no pairs"),
    ({"pairs": "oio"}, "oio"),
    ({"pairs": 3}, "as prompts.load gives it"),
    ({"pairs": [{"clean": "x"}]}, "not a Pair"),
    ({"pairs": [replace(PAIRS[0], id="a"), replace(PAIRS[1], id="a")]}, "two pairs have the id 'a'"),
    ({"pairs": [PAIRS[0], replace(PAIRS[1], id="0000")]}, "two pairs have the id '0000'"),
    ({"pairs": [PAIRS[0], replace(PAIRS[1], id=3)]}, "an id is a text"),
    ({"pairs": [prompts.Pair("The Louvre is in")]}, "1 of 1 pairs have no corrupted prompt, such as 0000"),
    ({"pairs": [PAIRS[3]]}, "none of the pairs can be used, such as 0000: "),
    ({"experiment": "activation_patchin"}, "closest: activation_patching"),
    ({"experiment": "compare_bits"}, "unknown"),
    ({"out": None}, "name the folder"),
    ({"limit": 0}, "limit"),
    ({"componnt": "mlp"}, "has no option 'componnt'; closest: component"),
    ({"target": " Paris"}, "each pair has its own target"),
    ({"clean_text": "x"}, "each pair has its own clean_text"),
    ({"plot": True}, "average.png"),
    ({"plan_only": True}, "plan"),
    ({"component": "mpl"}, "mpl"),
    ({"component": "head", "heads": 99}, "head 99"),
    ({"layers": 99}, "layer 99 does not exist"),
    ({"metric": "probability"}, "probability"),
    ({"metric": []}, "no metric"),
    ({"direction": "up"}, "direction"),
    ({"align": "both"}, "align"),
    ({"window": 0}, "window"),
    ({"engine": "steam"}, "engine"),
    ({"max_memory": 10}, "memory"),
    ({"positions": 99}, "99"),
    ({"positions": "each"}, 'positions="each" needs pairs of one length, but these have'),
    ({"positions": "nowhere"}, "nowhere"),
    ({"corrupted": OTHER}, "has a corrupted prompt of its own"),
    ({"experiment": "causal_trace", "corrupted": GaussianNoise()}, "draws its own noise"),
]


@pytest.mark.parametrize(("changes", "says"), NOTHING_WRITTEN, ids=lambda x: x if isinstance(x, str) else "")
def test_what_means_nothing_is_refused_before_anything_is_written(model, tmp_path, changes, says):
    options = {} if "experiment" in changes else QUICK
    uncorrupted = [replace(pair, corrupted=None) for pair in PAIRS]
    pairs = uncorrupted if "corrupted" in changes and "experiment" in changes else PAIRS
    given = {"pairs": pairs, "out": tmp_path / "out", **options, **changes}
    with pytest.raises(MlxtraceError, match=says):
        prompts.run(model, **given)
    assert not list(tmp_path.iterdir())


def test_places_that_are_no_folder(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "", "a\0b"):
        with pytest.raises(InputError):
            prompts.run(model, PAIRS, out=place, **QUICK)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="InterpretableModel"):
        prompts.run("demo", PAIRS, out=tmp_path / "out")
    with pytest.raises(LoadError):
        prompts.averages(tmp_path / "nothing")
