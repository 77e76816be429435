"""Patchscope and PatchscopeMap: what they print, draw, save and load, and files that are not whole."""

import dataclasses

import pytest

from mlxtrace import InterpretableModel, Patchscope, PatchscopeMap
from mlxtrace.errors import LoadError

PROMPTS = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.fixture(scope="module")
def one(demo):
    return demo.patchscope(PROMPTS[0], 8, -1, PROMPTS[1], max_tokens=2)


@pytest.fixture(scope="module")
def every(demo):
    return demo.patchscope_map(
        PROMPTS[0], -1, PROMPTS[1], layers=[0, 6, 11], target_layers=[4, 11], progress=False
    )


def test_they_are_saved_and_loaded(one, every, tmp_path):
    for kind, result in ((Patchscope, one), (PatchscopeMap, every)):
        again = kind.load(result.save(tmp_path / kind.__name__))
        assert repr(again) == repr(result) and again.to_rows() == result.to_rows()
        result.to_json(tmp_path / "scope.json")
        result.to_csv(tmp_path / "scope.csv")
        assert "<table>" in result._repr_html_()
        result.plot(tmp_path / "scope.svg")


def test_they_say_what_was_read_and_written(one, every):
    text = repr(one)
    assert "layers.8.resid_post at 9 is read, layers.8.resid_post at 9 written" in text
    assert "city⟦ of⟧" in text and '" Paris": patched 1.00' in text and 'generated: "Paris' in text
    text = repr(every)
    assert "source layers across" in text and "city⟦ of⟧" in text and '→ " Rome" 1.00 as it is' in text


def test_rows_are_the_cells(one, every):
    rows = every.to_rows()
    assert [(r["target_layer"], r["source_layer"]) for r in rows[:3]] == [(4, 0), (4, 6), (4, 11)]
    assert [r["prob"] for r in rows] == every.prob.reshape(-1).tolist() and rows[2]["top"] == every.first[0][
        2
    ]
    assert [r["patched"] for r in one.to_rows()] == [True] * 5 + [False] * 5
    assert (one.to_rows()[0]["token"], one.to_rows()[5]["token"]) == (" Paris", " Rome")


def test_a_file_that_does_not_fit_its_labels_is_refused(one, every, tmp_path):
    for result, change in ((every, {"layers": [0]}), (every, {"texts": {}}), (one, {"ids": one.ids[:1]})):
        kind = type(result)
        with pytest.raises(LoadError, match=kind.__name__):
            kind.load(dataclasses.replace(result, **change).save(tmp_path / "bad.npz"))
