"""Maps of any size: no label, title or caption lies on another or leaves the figure, which fits a page."""

import numpy as np
import pytest
from measured_figures import lens, measure, pattern, recoveries, scope, tokens

from mlxtrace import plotting
from mlxtrace.plotting import token_maps


def trace(n_tokens, n_layers, **look):
    random = np.random.default_rng(0)
    scores = random.uniform(0, 0.02, (n_tokens, n_layers))
    scores[-3:] = random.uniform(0, 0.8, scores[-3:].shape)
    kinds = {None: scores, "mlp": scores / 2, "attn": scores / 3}
    subject = range(n_tokens // 2, n_tokens // 2 + 2)
    names = dict(subject_range=subject, low=0.01, high=0.9, answer=" Paris", model="/home/ann/gpt2-xl")
    return plotting.rome_heatmap(kinds, tokens(n_tokens), **names, **look)


def heads_of(n_layers, heads, **look):
    return plotting.head_heatmap(
        np.random.default_rng(0).normal(size=(n_layers, heads)), title="Heads", **look
    )


DRAWN = {
    "map": lambda t, n, h: recoveries(t, n).plot(),
    "two components": lambda t, n, h: recoveries(t, n, components=2).plot(),
    "every row": lambda t, n, h: recoveries(t, n).plot(rows="all"),
    "noise": lambda t, n, h: recoveries(t, n, direction="noise", spread=-3).plot(),
    "heads": lambda t, n, h: recoveries(t, n, heads=h).plot(),
    "trace": lambda t, n, h: trace(t, n),
    "layers x heads": lambda t, n, h: heads_of(n, h),
    "pattern": lambda t, n, h: plotting.attention_pattern(
        pattern(min(h, 20), min(t, 500)), tokens(min(t, 500))
    ),
    "lens": lambda t, n, h: token_maps.lens(lens(n, t)),
    "patchscopes": lambda t, n, h: token_maps.scope(scope(n)),
}


@pytest.mark.parametrize("what", DRAWN)
@pytest.mark.parametrize("size", [(2, 2, 1), (100, 48, 20)])
def test_nothing_overlaps_or_leaves_the_figure(what, size):
    measure(DRAWN[what](*size))


@pytest.mark.heavy
@pytest.mark.parametrize("what", DRAWN)
@pytest.mark.parametrize(
    "size",
    [(12, 12, 8), (12, 80, 64), (60, 126, 8), (61, 24, 12), (100, 80, 64), (500, 80, 64), (2000, 126, 128)],
)
def test_nothing_overlaps_at_any_size(what, size):
    measure(DRAWN[what](*size))
