"""Which rows of a long map are shown: what is cut is white or weaker, and is said with its range."""

import numpy as np
import pytest

from mlxtrace.errors import InputError
from mlxtrace.plotting.rows import MOST, matter


def whole(found, n):
    """Every row is shown or in a cut, once and in order."""
    rows = list(found.shown)
    for cut in reversed(found.cuts):
        rows[cut.at : cut.at] = range(cut.first, cut.last + 1)
    assert rows == list(range(n))
    assert all(cut.rows == cut.last - cut.first + 1 for cut in found.cuts)


@pytest.mark.parametrize("n", [1, 2, MOST])
def test_a_short_map_is_shown_whole(n):
    found = matter(np.zeros((n, 3)))
    assert found == (list(range(n)), [], [], list(range(n)))


def test_of_a_long_one_the_rows_that_matter_are_shown_and_the_rest_is_said():
    values = np.zeros((500, 12))
    values[412:415, 3], values[430] = 40, -0.25
    found = matter(values, keep=[400, 499])
    assert found.shown == [400, *range(412, 415), 499]
    assert [cut.words for cut in found.cuts] == [
        "rows 0-399 are 0",
        "rows 401-411 are 0",
        "rows 415-498 are between -0.25 and 0",
    ]
    assert found.said == ["; ".join(cut.words for cut in found.cuts)]
    whole(found, 500)


def test_many_cuts_are_said_together():
    values = np.full((400, 2), 1.0)
    values[::50] = 100
    found = matter(values)
    assert found.shown == list(range(0, 400, 50))
    assert found.said == ["392 of 400 rows are not shown; they are 1"]
    whole(found, 400)


def test_when_too_many_matter_the_strongest_stay():
    values = np.arange(1.0, 501)[:, None]
    found = matter(values, keep=[0])
    assert found.shown == [0, *range(441, 500)] and len(found.shown) == MOST
    assert found.said == ["rows 1-440 are between 2 and 441"]
    long_subject = matter(values, keep=range(100, 300))
    assert {100, 299, 499} <= set(long_subject.shown) and len(long_subject.shown) <= MOST


def test_short_gaps_are_no_cuts_unless_there_is_no_room():
    values = np.zeros((100, 1))
    values[[10, 13, 20]] = 1
    assert matter(values).shown == [10, 11, 12, 13, 20]
    assert matter(values, most=4).shown == [10, 13, 20]
    values = np.zeros((200, 1))
    values[::2] = 1
    assert len(matter(values).shown) <= MOST


def test_white_is_what_means_nothing_happened():
    values = np.full((100, 2), 100.0)
    values[50] = 20
    found = matter(values, white=100.0)
    assert found.shown == [50] and found.said == ["rows 0-49 are 100; rows 51-99 are 100"]
    assert matter(values, white=100.0, low=-3000, high=100).shown == [99]  # never none
    assert matter(np.full((100, 2), -1e-12), low=-1, high=1).said == ["rows 0-98 are 0"]


def test_what_has_no_value_is_said():
    values = np.full((100, 3), np.nan)
    values[7, 0] = 5
    found = matter(values)
    assert found.shown == [7] and found.said == [
        "rows 0-6 are without a value; rows 8-99 are without a value"
    ]


def test_rows_may_be_asked_for():
    values = np.arange(100.0)[:, None]
    assert matter(values, "all").shown == list(range(100))
    assert (
        matter(values, range(95, 100)).shown == matter(values, slice(-5, None)).shown == list(range(95, 100))
    )
    assert matter(values, [3, -1]).shown == matter(values, np.array([99, 3, 3])).shown == [3, 99]
    assert matter(values, 4).shown == [4]
    found = matter(values, [1, 98])
    assert found.said == ["row 0 is 0; rows 2-97 are between 2 and 97; row 99 is 99"]
    whole(found, 100)


def test_rows_are_called_by_their_labels():
    values = np.zeros((3, 2))
    found = matter(values, [30, -1], labels=[10, 30, 50])
    assert found.shown == [1, 2] and found.labels == [30, 50] and found.said == ["row 10 is 0"]
    assert matter(np.eye(3), slice(20, 40), labels=[10, 30, 50]).shown == [1]
    with pytest.raises(InputError, match=r"no row 11; the map has \[10, 30, 50\]"):
        matter(values, [11], labels=[10, 30, 50])


@pytest.mark.parametrize(
    "rows,says",
    [
        ("some", '"auto", "all"'),
        ([100], "no row 100; the map has 0-99"),
        ([-101], "no row -101"),
        ([1.5], "1.5 is no position"),
        ([True, False], "True is no position.*mask"),
        (np.ones(100, bool), "is no position"),
        (["The"], "'The' is no position"),
        (None, "None is no position"),
        ([], "none of the map's: 0-99"),
        (range(0), "none of the map's"),
        (slice(200, 300), "none of the map's"),
        (slice("a", None), "whole numbers"),
    ],
)
def test_other_rows_are_refused(rows, says):
    with pytest.raises(InputError, match=says):
        matter(np.zeros((100, 2)), rows)


def test_spans_of_a_map():
    """Rows of spans are cut as others are, and are found by the positions in them."""
    labels = ["0-31", "32-63", *range(32, 64), "64-95", "96-99"]
    values = np.zeros((len(labels), 2))
    values[labels.index("32-63")] = values[labels.index(40)] = 1
    found = matter(values, most=8, labels=labels)
    assert found.labels == ["32-63", 40] and found.said == [
        "rows 0-31 are 0; rows 32-39 are 0; rows 41-99 are 0"
    ]
    assert matter(values, [41, 70, -1], labels=labels).labels == [41, "64-95", "96-99"]
    assert matter(values, slice(40, 42), labels=labels).labels == [40, 41]
    with pytest.raises(InputError, match="there is no row 100"):
        matter(values, [100], labels=labels)
