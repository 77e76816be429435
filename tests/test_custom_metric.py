"""A user's own function as a metric: what is refused when it is bound, and what is taken."""

import mlx.core as mx
import numpy as np
import pytest
from test_metric_table import CLEAN, RUN, bind

from mlxtrace.custom_metric import check_gradient, check_rows, checked, in_both, name_of
from mlxtrace.errors import InputError


def test_a_function_gets_rows_and_cannot_spoil_the_caller_s_logits():
    logits = np.stack([RUN, CLEAN])

    def spread(x):
        assert x.shape[1:] == (5,) and x.dtype == np.float64
        x -= x.mean(-1, keepdims=True)
        return x.max(-1)

    metric = bind(spread)
    kept = logits.copy()
    assert metric.name == "spread"
    np.testing.assert_allclose(metric(logits), logits.max(-1) - logits.mean(-1))
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.parametrize(
    "function,says",
    [
        (lambda x: x, r"returned shape \[2, 5\].*one number per row"),
        (lambda x: x.sum(), r"returned shape \[\]"),
        (lambda row: row[3] - row[1], "IndexError"),  # written for a single row
        (lambda x: None, "nan|returned shape"),
        (lambda x: ["a", "b"], "no numbers"),
        (lambda x: np.full(len(x), np.nan), "finite"),
    ],
)
def test_a_function_that_is_wrong_is_refused_when_bound(function, says):
    with pytest.raises(InputError, match=says):
        bind(function)


def test_what_it_raises_is_told_with_its_name_and_kept():
    def broken(logits):
        raise ZeroDivisionError("by nothing")

    with pytest.raises(InputError, match=r"metric broken failed on logits \[2, 5\].*by nothing") as caught:
        checked(broken)(np.stack([RUN, CLEAN]))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_names():
    assert name_of("kl") == "kl" and name_of(np.ptp) == "ptp" and name_of(lambda x: x) == "function"

    class Score:
        def __call__(self, logits):
            return logits[:, 0]

    assert name_of(Score()) == "Score"


def test_rows_that_know_of_each_other_are_refused_whatever_their_order():
    for function in (lambda x: x[:, 0] - x[0, 0], lambda x: x[:, 0] - x[-1, 0], lambda x: x[:, 0] / len(x)):
        with pytest.raises(InputError, match="row alone"):
            check_rows("mine", function, CLEAN)
    check_rows("mine", lambda x: x.max(-1), CLEAN)


def test_a_metric_that_changes_from_call_to_call_is_refused():
    calls = []

    def counting(logits):
        calls.append(None)
        return np.full(len(logits), float(len(calls)))

    with pytest.raises(InputError, match="the same on every call"):
        check_rows("mine", counting, CLEAN)


# ---- functions that are differentiated


def test_a_function_of_mlx_is_given_numpys_logits_as_mlx_has_them():
    def spread(x):
        return mx.logsumexp(x, axis=-1)

    both = in_both(spread)
    assert both.__name__ == "spread" and both.gradient is spread
    assert np.allclose(np.array(both(np.zeros((2, 4)))), np.log(4))
    assert in_both(lambda x: x[:, 0]).__name__ == "function"


def test_a_function_that_serves_both_keeps_numpys_precision():
    assert in_both(lambda x: x[:, 0])(np.full((2, 3), 1 + 1e-12)).dtype == np.float64


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: np.exp(np.array(x))[:, 0], "write it with mlx.core"),
        (lambda x: x[:, 0].tolist(), "write it with mlx.core"),
        (lambda x: (x[:, 0] > 0).astype(mx.float32), "gradient of zero"),
        (lambda x: mx.stop_gradient(x)[:, 0], "gradient of zero"),
    ],
)
def test_what_has_no_gradient_is_refused(function, said):
    with pytest.raises(InputError, match=said):
        check_gradient("f", function, np.random.RandomState(0).randn(2, 5))


def test_what_has_one_passes():
    check_gradient("f", lambda x: x[:, 0] - x.max(-1), np.random.RandomState(0).randn(2, 5))
