"""A user's own function as a metric: what is refused when it is bound, and what is taken."""

import numpy as np
import pytest
from test_metric_table import CLEAN, RUN, bind

from mlxtrace.custom_metric import check_rows, checked, name_of
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
