"""Results in words: for a terminal and for a notebook."""

from __future__ import annotations

import numpy as np
import pytest
from test_patching_result import CLEAN, CORRUPTED, full, layers, make

from mlxtrace.results import tables


def test_repr_shows_runs_answers_numbers_and_signed_bars():
    text = repr(layers())
    assert "Restoring the MLP output (whole sequence)" in text
    assert (
        'The Eiffel Tower in → " Paris" 0.90' in text
        and 'The Colosseum in → " Rome" 0.80, " Paris" 0.10' in text
    )
    bars = {int(line.split()[0]): line for line in text.splitlines() if line.strip()[:1].isdigit()}
    assert "50.0" in bars[1] and bars[3].count("█") > bars[1].count("█") > 0 == bars[0].count("█")
    assert "-10.0" in bars[2] and bars[2].index("▒") < bars[1].index("█")  # to the left of zero
    strongest = full().top(1)[0]
    assert f"layer {strongest['layer']}, head {strongest['head']}, position" in repr(full())
    noise = make([0.1] * 4, direction="noise", window=3, settings={"positions": "subject_last"})
    assert "Corrupting the MLP output (last subject token, 3 layers at a time)" in repr(noise)


def test_a_map_prints_its_tokens_with_the_subject_and_the_difference_marked():
    raw = np.full((3, 4), CORRUPTED)
    raw[1, 2] = CLEAN
    lines = repr(make(raw, ("layer", "position"))).splitlines()
    (row,) = [x for x in lines if " Tower → seum*" in x]
    assert row.endswith("·█·")
    assert not any("*" in x for x in lines if x.strip().startswith("3"))


def test_html_escapes_and_has_every_number():
    page = make(np.full((3, 4), 0.5), ("layer", "position"), tokens=["<b>", "&", "$", "\n"])._repr_html_()
    assert page.count(">50.0<") == 12 and "&lt;b&gt;" in page and "<b> *" not in page


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("Restoring the MLP output (last)", "Restoring the MLP output (last)", "Restoring the MLP output (last)"),
        (
            "Restoring the MLP output over 12 pairs (each token)",
            "Restoring the attention output over 12 pairs (each token)",
            "Restoring the MLP less attention output over 12 pairs (each token)",
        ),
        ("Restoring the MLP (last)", "Corrupting the MLP (last)", "Restoring less Corrupting the MLP (last)"),
        ("a b (last)", "a b (first)", "a b (last) less (first)"),
    ],
)  # fmt: skip
def test_a_difference_says_what_both_are_once(one, two, both):
    assert tables.less(one, two) == both


def test_of_several_maps_those_without_any_effect_are_a_line():
    raw = np.full((2, 3, 4), CORRUPTED)
    raw[1, 1, 2] = CLEAN
    lines = repr(make(raw, ("component", "layer", "position"))).splitlines()
    assert "  mlp: no cell reaches 5 % of effect" in lines and any(
        line.startswith("  attn: layers") for line in lines
    )
    assert sum("█" in line for line in lines) == 2  # the heading, and the one cell
    alone = make(np.full((3, 4), CORRUPTED), ("layer", "position"))
    assert "no cell reaches" not in repr(alone)  # a map by itself is shown


def test_bars_of_recoveries_share_a_scale_and_noise_is_a_loss():
    both = repr(make([[0.1, 0.5], [0.9, 0.1]], ("component", "layer")))
    assert "bars: 0.0 to 100.0, the same in every column" in both
    flat = repr(make([CORRUPTED, CORRUPTED + 1e-9]))
    assert "bars: 0.0 to 10.0" in flat and "█" not in flat
    noise = repr(make([0.1, 0.9], direction="noise"))
    assert "bars of the change from 100: -100.0 to 0.0, ▒ below 0" in noise and noise.count("▒") == 25
