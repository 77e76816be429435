"""Long texts are cut in the middle, and two prompts around where they differ."""

import pytest

from mlxtrace.plotting.elided import elided, elided_pair, model_name, width

LONG = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 20
REST = "is a place that many people like to visit in summer. " * 10 + "It stands in the city of"


def test_what_fits_is_as_it_is():
    assert elided("short", 5) == "short" and elided_pair("a", "b", 1) == ("a", "b")


@pytest.mark.parametrize("most", [20, 60, 200])
@pytest.mark.parametrize("text", [LONG, "x" * 500, "東京" * 300, "a " * 400])
def test_the_beginning_and_the_end_stay_and_nothing_is_too_wide(text, most):
    cut = elided(text, most)
    start, end = cut.split(" … ")
    assert text.startswith(start) and text.rstrip().endswith(end.rstrip()) and start and end
    assert width(cut) <= most and width(cut) > most - 30


@pytest.mark.parametrize("most", [60, 100, 160])
def test_what_differs_is_kept_with_both_ends(most):
    one, two = (f"{LONG}The {name} {REST}" for name in ("Eiffel Tower", "Egyptian Museum"))
    for cut, name in zip(elided_pair(one, two, most), ("Eiffel Tower", "Egyptian Museum"), strict=True):
        assert f"The [{name}] is" in cut and cut.startswith("It was") and cut.endswith("city of")
        assert width(cut) <= most


def test_words_are_whole_where_a_script_has_spaces():
    one, two = elided_pair(f"{LONG} Paris {LONG}", f"{LONG} Parma {LONG}", 80)
    assert "[Paris]" in one and "[Parma]" in two
    one, two = elided_pair("東京" * 90 + "猫" + "大阪" * 90, "東京" * 90 + "犬" + "大阪" * 90, 60)
    assert "[猫]" in one and "[犬]" in two and width(one) <= 60


def test_texts_that_are_alike_or_end_early():
    assert elided_pair(LONG, LONG, 80) == (elided(LONG, 80),) * 2
    one, two = elided_pair(LONG + "sat", LONG, 80)
    assert one.endswith("[sat]") and two == elided(LONG, 80)
    assert all(width(x) <= 60 for x in elided_pair("x" * 300, "x" * 150 + "y" * 200, 60))


@pytest.mark.parametrize(
    "path,name",
    [
        ("demo", "demo"),
        ("mlx-community/gpt2", "mlx-community/gpt2"),
        ("/home/ann/models/gpt2-4bit/", "gpt2-4bit"),
        ("~/gpt2", "gpt2"),
        ("./gpt2", "gpt2"),
        ("C:\\models\\gpt2", "gpt2"),
        ("a/b/c", "c"),
    ],
)
def test_models_are_names(path, name):
    assert model_name(path) == name


def test_a_folder_is_no_repository(tmp_path, monkeypatch):
    (tmp_path / "runs" / "best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert model_name("runs/best") == "best"
