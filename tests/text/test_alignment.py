"""Two prompts side by side: pairs, differences, and the error that shows both."""

import pytest

from mlxtrace.errors import AlignmentError, InputError
from mlxtrace.text import alignment as al


def strs(ids):
    return [f" w{i}" for i in ids]


def align(a, b, *rest, **options):
    return al.align(a, b, strs(a), strs(b), *rest, **options)


@pytest.mark.parametrize("mode", ["strict", "ends"])
def test_equal_lengths_align_one_by_one(mode):
    found = align([0, 1, 2, 9], [0, 5, 6, 9], mode)
    assert found.pairs == [(0, 0), (1, 1), (2, 2), (3, 3)] and found.first_difference == 1
    assert align([1, 2], [1, 2], mode).first_difference == 2


def test_other_lengths_are_shown_side_by_side():
    with pytest.raises(AlignmentError) as error:
        align([0, 1, 2, 7, 8], [0, 5, 7, 8])
    lines = str(error.value).splitlines()
    assert "5 tokens" in lines[0] and "4" in lines[0]
    assert [line.split() for line in lines[2:-1]] == [
        ["0", "'", "w0'", "0", "'", "w0'"],
        ["1", "'", "w1'", "|", "1", "'", "w5'"],
        ["2", "'", "w2'", "|"],
        ["3", "'", "w7'", "2", "'", "w7'"],
        ["4", "'", "w8'", "3", "'", "w8'"],
    ]
    columns = {line.index("w7'", 12) for line in lines if line.count("w7") == 2}
    assert columns == {line.index("w0'", 12) for line in lines if line.count("w0") == 2}
    assert 'align="ends"' in lines[-1] and "5 tokens long" in lines[-1]


def test_long_prompts_are_shortened_in_the_error():
    with pytest.raises(AlignmentError) as error:
        align([*range(100), 500, *range(200, 300)], [*range(100), *range(200, 300)])
    assert str(error.value).count("...") == 2 and len(str(error.value).splitlines()) < 40
    assert "w500" in str(error.value)


def test_ends_pairs_the_tail_and_the_subjects_last_tokens():
    clean, corrupted = [0, 1, 2, 3, 7, 8], [0, 5, 7, 8]
    assert align(clean, corrupted, "ends").pairs == [(4, 2), (5, 3)]
    found = align(clean, corrupted, "ends", range(1, 4), range(1, 2))
    assert found.pairs == [(3, 1), (4, 2), (5, 3)]
    assert found.first_difference == 0  # equal ids, but in other contexts: no pair is a null cell
    # a subject that ends in the tail is there already
    assert align([0, 1, 2, 7], [0, 2, 7], "ends", range(1, 3), range(1, 2)).pairs == [
        (2, 1),
        (3, 2),
    ]
    # the longest tail, even where it overlaps the common head
    assert align([0, 1, 1, 7], [0, 1, 7], "ends").pairs == [(2, 1), (3, 2)]


def test_nothing_in_common():
    with pytest.raises(AlignmentError, match="no common tail"):
        align([0, 1, 2], [0, 3], "ends")
    with pytest.raises(
        AlignmentError, match="no common tail"
    ):  # both subjects' last tokens alone are no tail
        align([0, 1, 2], [0, 3], "ends", range(1, 3), range(1, 2))
    with pytest.raises(InputError, match="strict"):
        align([0], [0], "left")


@pytest.mark.parametrize(
    ("a", "b", "affixes", "subjects"),
    [
        ([0, 1, 2, 9], [0, 5, 9], (1, 1), (range(1, 3), range(1, 2))),
        ([0, 1], [0, 1], (2, 0), None),
        ([0, 1, 1, 9], [0, 1, 9], (2, 1), None),
        ([1, 2], [3, 4], (0, 0), (range(0, 2), range(0, 2))),
    ],
)
def test_where_two_prompts_differ(a, b, affixes, subjects):
    assert al.common_affixes(a, b) == affixes
    assert al.infer_subject(a, b) == subjects


def test_prompts_that_differ_throughout_are_shortened_in_the_error():
    with pytest.raises(AlignmentError) as error:
        align([*range(3), *range(1000, 5000), 9], [*range(3), *range(6000, 9000), 9])
    said = str(error.value)
    assert "... 3958 lines that differ ..." in said and len(said.splitlines()) < 60 and "w9'" in said
