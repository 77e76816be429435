"""What every figure shares: files by suffix, paths that are refused, texts that nothing can break."""

import inspect
import os
import pickle

import matplotlib
import matplotlib.pyplot as plt
import pytest
from drawn_figures import labels, maps, panels
from matplotlib.figure import Figure
from test_patching_result import layers

from mlxtrace import plotting
from mlxtrace.errors import InputError
from mlxtrace.plotting import glyphs, kit, recoveries


@pytest.mark.parametrize("missing", [False, True])
def test_any_token_can_be_drawn(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "lacks", lambda c, _: missing and c in "東京")  # whatever fonts are installed
    odd = ["$x$", " 東京\n", "\x00\t", "x" * 50]
    result = maps(tokens=odd, corrupted_tokens=odd, clean_text="costs $5 or $6", subject_range=None)
    fig = result.plot(tmp_path / "odd.svg")
    names = labels(panels(fig)[0].yaxis)
    assert (
        names[0] == r"\$x\$"
        and names[1] == ("·U+6771 U+4EAC↵" if missing else "·東京↵")
        and names[2] == r"\x00⇥"
        and len(names[3]) == 18
    )
    assert (tmp_path / "odd.svg").stat().st_size > 1000
    assert ("no installed font" in fig.get_supxlabel()) == missing


@pytest.mark.parametrize("suffix,magic", [(".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")])
def test_files_by_suffix(suffix, magic, tmp_path):
    path = tmp_path / f"figure{suffix}"
    assert isinstance(layers().plot(path), Figure)
    assert path.read_bytes().startswith(magic) and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name,says", [("a.jpg", r"\.png, \.pdf, \.svg"), ("a", "without suffix"), ("no/a.png", "folder")]
)
def test_paths_are_refused_before_anything_is_drawn(name, says, tmp_path, monkeypatch):
    monkeypatch.setattr(recoveries, "_bars", lambda *_: pytest.fail("was drawn"))
    with pytest.raises(InputError, match=says):
        layers().plot(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_figures_are_unknown_to_pyplot_and_settings_stay(tmp_path):
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    maps().plot(tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == figures


def test_only_what_users_call_is_listed():
    assert dir(plotting) == sorted(plotting.__all__) and all(
        hasattr(plotting, name) for name in plotting.__all__
    )
    assert not any(inspect.ismodule(getattr(plotting, name)) for name in dir(plotting))


def test_captions_and_titles_stay_on_the_figure_whatever_they_say():
    fig = Figure(figsize=(4, 2))
    inches = kit.headline(fig, "one\ntwo", ['clean: a\nb → " x" 0.98', "word " * 400])
    lines = fig.get_supxlabel().replace("\u00a0", " ").split("\n")
    assert fig.get_suptitle() == "one\ntwo" and lines[0] == 'clean: a\\nb → " x" 0.98'
    assert len(lines) == 4 and " … " in fig.get_supxlabel() and 0.7 < inches < 1.3


def test_figures_can_be_kept():
    fig = pickle.loads(pickle.dumps(maps().plot()))
    assert labels(panels(fig)[0].yaxis)[0] == "The"
