"""The figure of a screen: a point for each cell that was run, where its numbers are."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlxtrace import errors
from mlxtrace.plotting.screen_figure import screen_figure


class Found:
    metric, verify, threshold, sentence, audit = "logit_diff", 3, 0.5, "What was done, for $5.", None

    def __init__(self, effects=(2.0, -1.0, 0.5, 0.01, 0.0)):
        self.effects = np.array(effects)
        self.estimates = 0.5 * self.effects


def test_points_and_threshold():
    figure = screen_figure(Found())
    (ax,) = figure.axes
    audit, verified = (c.get_offsets().data.tolist() for c in ax.collections)
    assert verified == [[1.0, 2.0], [-0.5, -1.0], [0.25, 0.5]] and audit == [[0.005, 0.01], [0.0, 0.0]]
    assert sorted(line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2) == [-0.5, 0.5]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "verified (3)" in texts and "audit, at random of the rest (2)" in texts
    assert "guess" in ax.get_xlabel() and "exact" in ax.get_ylabel()
    ticks = ax.get_xticks()
    assert 0 in ticks and np.allclose(ticks, -ticks[::-1]) and len(ticks) >= 3


@pytest.mark.parametrize("effects", [(), (0.0, 0.0, 0.0), (1e-12,) * 4, (1e6, 1e-6, 3.0, 2.0)])
def test_odd_numbers_are_drawn(effects, tmp_path):
    found = Found(effects)
    found.verify, found.threshold = min(3, len(effects)), float(min(np.abs(effects), default=0.0))
    path = tmp_path / "screen.png"
    assert isinstance(screen_figure(found, path), Figure) and path.stat().st_size > 5000


def test_a_path_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(errors.InputError):
        screen_figure(Found(), tmp_path / "screen.txt")
