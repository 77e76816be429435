"""What the tests of figures share: results to draw, and what was drawn."""

import numpy as np
from test_patching_result import make

TOKENS = ["The", " Eiffel", " Tower", " in"]


def maps(components=1, **changes):
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (components, 3, 4))
    if components == 1:
        return make(raw[0], ("layer", "position"), **changes)
    return make(raw, ("component", "layer", "position"), **changes)


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(ax):
    mesh = ax.collections[0]
    return np.asarray(mesh.get_array())
