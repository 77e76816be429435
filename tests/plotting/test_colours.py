"""Colours: what means opposite things, or stands side by side, is told apart without red and green as well."""

import itertools

import matplotlib.style
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mlxtrace.plotting import colours
from mlxtrace.plotting.heatmaps import Scale

# G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", IEEE TVCG 15(6), 2009, table 1 at severity 1.0; they work on linear RGB.
MACHADO = {
    "none": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}  # fmt: skip
TO_XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]
WHITE = (0.95047, 1.0, 1.08883)  # D65
SIZES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
LEAST = np.array([2.3, 5, *[12.0] * 9])  # 2.3 is a just noticeable difference (Mahy et al. 1994)
SCALES = [(family, flip) for family in colours.PALETTES for flip in (False, True)]


def lab(rgb, vision="none"):
    """CIELAB of sRGB colours `[..., 3]` as someone sees them."""
    rgb = np.asarray(rgb, float)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(MACHADO[vision]), 0, 1) @ np.transpose(TO_XYZ) / WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def apart(one, other, vision):
    return np.linalg.norm(lab(one, vision) - lab(other, vision), axis=-1)


def nearest(names, vision):
    """The least distance between any two of some colours."""
    return min(float(apart(to_rgb(a), to_rgb(b), vision)) for a, b in itertools.combinations(names, 2))


def drawn(family, values, flip=False):
    """The colours of a map whose scale goes from -1 to 1."""
    return Scale(-1.0, 1.0, 0.0, flip).colours(family)((np.asarray(values) + 1) / 2)


def opposite_signs(family, flip, vision):
    return apart(drawn(family, SIZES, flip), drawn(family, -SIZES, flip), vision)


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("family,flip", SCALES)
def test_an_effect_is_told_from_its_opposite_at_every_size(family, flip, vision):
    assert (opposite_signs(family, flip, vision) >= LEAST).all()


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("family", colours.PALETTES)
def test_a_twentieth_of_the_scale_is_told_from_nothing(family, vision):
    white = drawn(family, [0.0])
    assert lab(white)[0, 0] > 98  # nothing is white
    assert (apart(drawn(family, [0.05, -0.05]), white, vision) > 2.3).all()
    assert (apart(drawn(family, [0.1, -0.1]), white, vision) > 5).all()


def test_the_pink_that_looks_like_green_is_seen_to_fail(monkeypatch):
    monkeypatch.setitem(colours.PALETTES, "mlp", ("Greens", "RdPu"))
    found = opposite_signs("mlp", False, "deuteranopia")
    assert (found < LEAST)[1:3].all() and (opposite_signs("mlp", False, "none") >= LEAST).all()


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("sign", [1, -1])
def test_families_side_by_side_are_told_apart(sign, vision):
    for one, other in itertools.combinations(colours.PALETTES, 2):
        found = apart(drawn(one, sign * SIZES), drawn(other, sign * SIZES), vision)
        assert (found[2:] >= 4).all() and (found[5:-2] >= 8).all(), (one, other, found)


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("family,flip", SCALES)
def test_the_larger_the_darker_and_nothing_is_white(family, flip, vision):
    parts = np.linspace(0, 1, 101)
    for sign in (1, -1):
        light = lab(colours.shades(family, sign * parts, flip), vision)[:, 0]
        assert (np.diff(light) < 0).all() and light[0] > 99.9 and light[-1] < 40


LEGENDS = {
    "kinds of token": colours.ROLES,
    "results": colours.SERIES,
    "difference": (colours.MORE, colours.LESS),
    "help": (colours.HELPS, colours.HURTS),
    "nodes": tuple(dict.fromkeys(colours.NODES.values())),
    "screen": (colours.VERIFIED, colours.AUDIT, colours.THRESHOLD),
}


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_the_colours_of_a_legend_are_told_apart(style, vision):
    with matplotlib.style.context(style):
        for what, names in LEGENDS.items():
            shown = names if what == "nodes" else [colours.seen(name) for name in names]
            assert nearest(shown, vision) > 15, what
        bars = [colours.seen(colours.palette(up)(0.7)) for up, _ in colours.PALETTES.values()]
        assert nearest(bars, vision) > 15
        for n in (2, 3, 4, 5, 6):
            assert nearest([colours.seen(c) for c in colours.series(n)], vision) > 10, n


def test_lines_are_seen_on_a_dark_ground_and_stay_as_they_are_on_a_light_one():
    assert colours.seen("#3b1f77") == "#3b1f77" and colours.ink() == "#000000"
    with matplotlib.style.context("dark_background"):
        assert colours.ink() == "#ffffff" and colours.ink(0) == "#000000"
        for name in (*colours.ROLES, *colours.SERIES, colours.HELPS, colours.THRESHOLD):
            assert lab(to_rgb(colours.seen(name)))[0] > 36
        assert matplotlib.colors.to_hex(colours.seen("#f2b701")) == "#f2b701"


def test_tables_and_pages_have_the_same_colours():
    assert [colours.tint(family) for family in ("resid", "mlp", "attn")] == [
        "105,80,163", "34,138,68", "202,24,29",
    ]  # fmt: skip
    for family in colours.PALETTES:
        below, above = colours.tint(family, below=True), colours.tint(family)
        rgb = [np.array(text.split(","), float) / 255 for text in (below, above)]
        for part in (0.1, 0.2, 0.5, 0.75):  # opacity over white
            one, other = (1 - part + part * c for c in rgb)
            assert apart(one, other, "deuteranopia") > 4
