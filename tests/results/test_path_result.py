"""The map of paths: its numbers, labels, tables, words and files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlxtrace.errors import EffectError, InputError, LoadError
from mlxtrace.results.path_result import PathResult
from mlxtrace.results.saved import Answer

RAW = np.array([[0.1, 0.4, 0.3], [0.1, 0.1, -0.5]])


def made(**changes):
    fields = {
        "raw": RAW,
        "reached": np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]),
        "senders": ["embed", "a1.h2"],
        "receivers": ["m0", "a7.h3.k", "logits"],
        "metrics": ["prob"],
        "clean_values": {"prob": 0.9},
        "corrupted_values": {"prob": 0.1},
        "direction": "denoise",
        "target": Answer(3, " Paris", 0.9, 0.1),
        "foil": Answer(4, " Rome", 0.05, 0.8),
        "tokens": ["The", " Eiffel", " Tower"],
        "corrupted_tokens": ["The", " Colo", "sseum"],
        "subject_range": range(1, 3),
        "clean_text": "The Eiffel Tower",
        "corrupted_text": "The Colosseum",
        "model": "tiny",
        **changes,
    }
    return PathResult(**fields)


def at_positions(**changes):
    raw = np.stack([RAW, RAW + 0.1], axis=-1)
    return made(raw=raw, positions=[0, 2], **changes)


def test_effects_are_set_against_the_base_run_and_recoveries_against_both():
    found = made()
    np.testing.assert_allclose(found.effect, RAW - 0.1)
    np.testing.assert_allclose(found.recovery, 100 * (RAW - 0.1) / 0.8)
    noised = made(direction="noise")
    np.testing.assert_allclose(noised.effect, RAW - 0.9)
    np.testing.assert_allclose(noised.recovery, found.recovery)
    assert found.dims == ("sender", "receiver") and found.coords["sender"] == ["embed", "a1.h2"]
    assert (found.clean, found.corrupted) == (0.9, 0.1) and found.edge.sum() == 5
    assert found.of("a1.h2", "logits") == pytest.approx(-0.6)


def test_a_metric_of_its_own_gap_each():
    raw = np.stack([RAW, 10 * RAW])
    found = made(raw=raw, metrics=["prob", "logit"], clean_values={"prob": 0.9, "logit": 9.0},
                 corrupted_values={"prob": 0.1, "logit": 1.0})  # fmt: skip
    assert found.dims == ("metric", "sender", "receiver") and found.clean == {"prob": 0.9, "logit": 9.0}
    np.testing.assert_allclose(found.recovery[1], found.recovery[0])
    np.testing.assert_allclose(found.of("embed", "m0"), [0, 0], atol=1e-12)
    assert found.to_rows()[1]["logit_effect"] == pytest.approx(3)


def test_rows_are_edges_and_the_strongest_come_first():
    rows = made().to_rows()
    assert len(rows) == 5 and {"sender": "a1.h2", "receiver": "m0"}.items() - rows[3].items()
    assert list(rows[0]) == ["sender", "receiver", "prob", "effect", "recovery"]
    top = made().top(2)
    assert [(row["sender"], row["receiver"]) for row in top] == [("a1.h2", "logits"), ("embed", "a7.h3.k")]
    assert at_positions().top(1)[0] == {"sender": "a1.h2", "receiver": "logits", "position": 0, "token": "The",
                                        "prob": -0.5, "effect": -0.6, "recovery": pytest.approx(-75)}  # fmt: skip
    regions = made(raw=np.stack([RAW] * 2, axis=-1), regions=["S", "END"])
    assert regions.to_rows()[1]["region"] == "END" and regions.dims[-1] == "region"
    with pytest.raises(InputError, match="k"):
        made().top(-1)


def test_a_gap_that_means_nothing():
    with pytest.raises(EffectError):
        made(clean_values={"prob": 0.1}).recovery  # noqa: B018
    part = made(clean_values={"prob": 0.1}, part_of_set=True)
    assert np.isnan(part.recovery).all() and part.to_rows()[0]["recovery"] is None and repr(part)


@pytest.mark.parametrize("make", [made, at_positions])
def test_files(make, tmp_path):
    found = make(settings={"positions": None}, notes=["look"])
    again = PathResult.load(found.save(tmp_path / "paths"))
    np.testing.assert_array_equal(again.raw, found.raw)
    assert again.to_rows() == found.to_rows() and repr(again) == repr(found)
    assert again.target == found.target and again.subject_range == range(1, 3)
    told = json.loads(found.to_json(tmp_path / "paths.json").read_text())
    assert told["senders"] == ["embed", "a1.h2"] and len(told["rows"]) == len(found.to_rows())
    assert found.to_csv(tmp_path / "paths.csv").read_text().startswith("sender,receiver,")


@pytest.mark.parametrize(
    "changes", [{"senders": ["embed"]}, {"raw": RAW * np.nan}, {"positions": [0], "regions": ["a"]}]
)
def test_damaged_files(changes, tmp_path):
    with pytest.raises(LoadError):
        PathResult.load(made(**changes).save(tmp_path / "paths"))


def test_names_that_are_not_in_the_map():
    with pytest.raises(InputError, match="'m9' is not in this map"):
        made().of("m9", "logits")


def test_drawn():
    figure = made().plot()
    assert figure.axes[0].get_ylabel() == "sender"
