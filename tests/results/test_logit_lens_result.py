"""LogitLens: what it prints, saves and loads, and files that are not whole."""

import dataclasses

import numpy as np
import pytest

from mlxtrace import InterpretableModel, LogitLens
from mlxtrace.errors import LoadError

PROMPT = "The Eiffel Tower is located in the city of"


@pytest.fixture(scope="module")
def lens():
    return InterpretableModel("demo").logit_lens(PROMPT, layers=[0, 6, 11], k=2)


def test_it_is_saved_and_loaded(lens, tmp_path):
    again = LogitLens.load(lens.save(tmp_path / "lens"))
    assert repr(again) == repr(lens) and again.to_rows() == lens.to_rows() and again.texts == lens.texts
    assert again.ids.dtype.kind == "i" and again.rank.dtype.kind == "i"
    lens.to_json(tmp_path / "lens.json")
    assert (
        lens.to_csv(tmp_path / "lens.csv")
        .read_text()
        .startswith("component,layer,position,token,prob,rank,top_1")
    )


def test_it_prints_its_numbers(lens):
    text = repr(lens)
    assert (
        '" Paris" 1.00' in text and f"{lens.prob[1, -1]:.4f}" in text and "the last 6 of 11 positions" in text
    )
    assert max(map(len, text.splitlines())) <= 110
    assert 'title="&quot;' in lens._repr_html_() and lens._repr_html_().count("<td") == 33


def test_rows_and_top_say_the_same(lens):
    row = next(r for r in lens.to_rows() if (r["layer"], r["position"]) == (6, 9))
    assert (row["top_1"], row["top_1_prob"]) == lens.top[1][9][0] and row["token"] == " city"
    assert lens.first[1][9] == row["top_1"] and row["rank"] == lens.rank[1, 9]


def test_a_file_that_does_not_fit_its_labels_is_refused(lens, tmp_path):
    broken = ({"layers": [0]}, {"texts": {}}, {"prob": lens.prob * np.nan}, {"rank": lens.rank[:1]})
    for change in broken:
        with pytest.raises(LoadError, match="LogitLens"):
            LogitLens.load(dataclasses.replace(lens, **change).save(tmp_path / "bad.npz"))
