"""Maps of paths: what is shown of many, and what is said of the rest."""

import numpy as np
import pytest
from test_path_result import RAW, at_positions, made

from mlxtrace.errors import InputError
from mlxtrace.plotting.path_maps import path_map


def labels(figure, axis):
    return [text.get_text() for text in getattr(figure.axes[0], f"get_{axis}ticklabels")()]


def texts(figure):
    return figure.get_supxlabel()


def large(n=60, m=80):
    raw = np.full((n, m), 0.1)
    raw[3, 7], raw[50, 70], raw[20, 20] = 0.6, -0.4, 0.102
    names = {"senders": [f"a{i}.h0" for i in range(n)], "receivers": [f"a{i}.h0.q" for i in range(m)]}
    return made(raw=raw, reached=np.ones((n, m)), **names)


def test_a_small_map_is_shown_whole():
    figure = path_map(made())
    assert labels(figure, "y") == ["embed", "a1.h2"] and labels(figure, "x") == ["m0", "a7.h3.k", "logits"]
    values = figure.axes[0].collections[0].get_array()
    assert np.ma.getmaskarray(values).sum() == 1 and "grey: no edge" in texts(figure)
    assert figure.axes[0].get_xlabel() == "receiver" and "2 senders" in figure.get_suptitle()


def test_of_a_large_map_what_matters():
    figure = path_map(large())
    down, across = labels(figure, "y"), labels(figure, "x")
    assert {"a3.h0", "a50.h0"} <= set(down) and {"a7.h0.q", "a70.h0.q"} <= set(across)
    assert (
        len(down) <= 12 and len(across) <= 12 and down == sorted(down, key=lambda x: int(x[1:].split(".")[0]))
    )
    assert f"not shown: {60 - len(down)} senders" in texts(figure)
    many = np.random.default_rng(0).normal(size=(60, 80))
    wide = large()
    wide.raw = many
    assert len(labels(path_map(wide), "y")) == 40


def test_positions_are_across_and_paths_down():
    figure = path_map(at_positions())
    assert "embed → m0" in labels(figure, "y") and len(labels(figure, "y")) == 5
    assert labels(figure, "x") == ["The", "·Tower*"]
    cut = path_map(at_positions(), most=2)
    assert len(labels(cut, "y")) == 2 and "not shown: 3 paths, whose effects are at most" in texts(cut)
    regions = path_map(made(raw=np.stack([RAW] * 2, axis=-1), regions=["S", "END"]))
    assert labels(regions, "x") == ["S", "END"] and regions.axes[0].get_xlabel() == "region"


def test_the_first_metric_is_drawn():
    both = {"prob": 0.9, "logit": 9.0}, {"prob": 0.1, "logit": 1.0}
    found = made(
        raw=np.stack([RAW, 10 * RAW]),
        metrics=["prob", "logit"],
        clean_values=both[0],
        corrupted_values=both[1],
    )
    drawn = np.ma.filled(path_map(found).axes[0].collections[0].get_array(), 0).ravel()
    np.testing.assert_allclose(drawn, [0, 0.3, 0.2, 0, 0, -0.6], atol=1e-12)


def test_files(tmp_path):
    path_map(made(), tmp_path / "paths.png")
    assert (tmp_path / "paths.png").stat().st_size > 1000
    with pytest.raises(InputError):
        path_map(made(), tmp_path / "paths.doc")
