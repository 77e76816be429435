"""Numbers with labels: percent, selection, and what cannot be made."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from test_patching_result import CLEAN, CORRUPTED, full, layers, make

from mlxtrace.errors import EffectError, EngineError, InputError, SiteError


def test_recovery_per_metric_and_its_labels():
    result = full()
    assert result.recovery.shape == result.raw.shape
    np.testing.assert_allclose(result.recovery[:, 0], (result.raw[:, 0] - 0.1) / 0.8 * 100)
    np.testing.assert_allclose(result.recovery[:, 1], (4 - result.raw[:, 1]) / 4 * 100)
    assert result.clean == {"prob": CLEAN, "kl": 0.0} and layers().corrupted == CORRUPTED
    np.testing.assert_array_equal(
        result.sel(component="attn", metric="kl", layer=2), result.recovery[1, 1, 2]
    )


@pytest.mark.parametrize(
    "labels,says", [({"layer": 7}, "closest"), ({"token": 1}, "dims are"), ({"head": 5}, "head 5")]
)
def test_sel_refuses_what_is_not_there(labels, says):
    for k in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="k is a whole number"):
            full().top(k)
    with pytest.raises(SiteError, match=says):
        full().sel(**labels)


@pytest.mark.parametrize(
    "raw,dims,changes,error",
    [
        ([0.1, np.nan], ("layer",), {}, EngineError),
        ([0.1, 0.2], ("layer",), {"coords": {"layer": [0]}}, EngineError),
        ([[0.1, 0.2]], ("position", "layer"), {}, EngineError),
        ([[0.1], [0.2]], ("component", "layer"), {"components": ["mlp"]}, EngineError),
        ([0.1, 0.2], ("layer",), {"components": ["mlp", "attn"]}, EngineError),
        ([0.1, 0.2], ("layer",), {"clean": {"prob": CORRUPTED}}, EffectError),
    ],
)
def test_results_that_mean_nothing_cannot_be_made(raw, dims, changes, error):
    with pytest.raises(error):
        make(raw, dims, **changes)


@pytest.mark.parametrize(
    "label", [np.array([0, 1]), np.array([[0]]), mx.array([0, 1])], ids=["two", "nested", "mlx"]
)
def test_arrays_of_labels_are_refused_in_words(label):
    with pytest.raises(InputError, match=r"layer is given as one label, not as an array .*\.recovery"):
        layers().sel(layer=label)
    with pytest.raises(InputError, match="layer is given as one label"):
        layers()[label]
    assert layers().sel(layer=mx.array(1)) == layers()[np.int64(1)] == layers()[1]
