"""Arrays of several lengths: each index means what it means of each prompt, and what has no one meaning raises."""

from __future__ import annotations

import copy
import operator

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace.forward.editing import TEMPORARY
from mlxtrace.forward.groups import Group, Groups, held
from mlxtrace.forward.joint import Activation, SiteState

# prompts 0, 2 and 4 have 5 tokens, 1 and 3 have 7; two groups of other sizes, so that no value fits both by chance
PLACES = {5: (0, 2, 4), 7: (1, 3)}
WIDTH = 4


def numbers() -> list[np.ndarray]:
    """Each prompt's `[T, D]`, all numbers different."""
    lengths = [next(n for n, places in PLACES.items() if i in places) for i in range(5)]
    return [np.arange(n * WIDTH, dtype=np.float32).reshape(n, WIDTH) + 100 * i for i, n in enumerate(lengths)]


def made(open: bool = True) -> Groups:
    """The same as `Groups`: of a site where the pass waits, or of arrays of one's own."""
    each, groups = numbers(), []
    for n, places in PLACES.items():
        state = SiteState("mlp", open=open, free=not open)
        groups.append(Group(places, Activation.of(mx.array(np.stack([each[i] for i in places])), state), n))
    return Groups("mlp", groups)


def values(h: Groups) -> list[np.ndarray]:
    """What stands in the arrays of the groups now, by prompt."""
    found = {i: np.array(x)[row] for places, x, _ in h.groups for row, i in enumerate(places)}
    return [found[i] for i in range(len(h))]


def same(found, right) -> bool:
    return len(found) == len(right) and all(map(np.array_equal, found, right))


# An index of the prompts, and of what is behind it.
CHOSEN = [
    slice(None),
    slice(1, 4),
    slice(None, None, 2),
    slice(None, None, -1),
    [3, 0],
    [4, 2],
    [-1, 1],
    range(2),
]
CHOSEN += [np.array([0, 1]), mx.array([1, 4]), [True, True, False, False, True], slice(1, 2)]
BEHIND = [
    (),
    (-1,),
    (2,),
    (slice(None), 3),
    (slice(1, 4),),
    (slice(-2, None), slice(1, 3)),
    (Ellipsis,),
    (None, -1),
]
BEHIND += [(slice(1, None),), (..., 0)]


def prompts_of(chosen) -> list[int]:
    return list(np.arange(5)[np.array(chosen) if isinstance(chosen, mx.array | range) else chosen])


def expected(each, chosen, behind) -> list[np.ndarray]:
    return [each[i][behind] if behind else each[i] for i in prompts_of(chosen)]


@pytest.mark.parametrize("behind", BEHIND, ids=str)
@pytest.mark.parametrize("chosen", CHOSEN, ids=str)
@pytest.mark.parametrize("open", [True, False])
def test_an_index_means_the_same_of_each_prompt(open, chosen, behind):
    h, right = made(open), expected(numbers(), chosen, behind)
    found = h[(chosen, *behind)]
    assert same([np.array(x) for x in found], right)
    assert isinstance(found, mx.array) == (len({x.shape for x in right}) == 1)


@pytest.mark.parametrize("behind", BEHIND, ids=str)
@pytest.mark.parametrize("chosen", CHOSEN, ids=str)
@pytest.mark.parametrize("open", [True, False])
def test_what_is_written_there_is_written_to_each(open, chosen, behind):
    for kind in ("number", "one", "list", "rows", "in place", "view"):
        h, each = made(open), numbers()
        shapes = [x.shape for x in expected(each, chosen, behind)]
        index = (chosen, *behind)
        given: list = [7.5 + n for n in range(len(shapes))]
        if kind == "number":
            given, h[index] = [-1.0] * len(shapes), -1.0
        elif kind == "one":
            last = shapes[0][-1] if len({s[-1:] for s in shapes}) == 1 and shapes[0] else 1
            given = [np.arange(last)] * len(shapes)
            h[index] = np.arange(last, dtype=np.float32)
        elif kind == "list":
            given = [np.full(s, 7.5 + n) for n, s in enumerate(shapes)]
            h[index] = [mx.array(x) for x in given]
        elif kind == "rows":
            if len(given) == 1:
                continue
            h[index] = mx.array(given).reshape(-1, *[1] * len(shapes[0]))
        elif kind == "in place":
            given = [2 * x for x in expected(each, chosen, behind)]
            h[index] *= 2
        elif not open:
            continue
        else:
            given = [3 * x for x in expected(each, chosen, behind)]
            x = h[index]
            x *= 3
        for i, value in zip(prompts_of(chosen), given, strict=True):
            each[i][behind if behind else ...] = value
        assert same(values(h), each), kind


def test_one_prompt_is_its_own_array():
    h, each = made(), numbers()
    h[1][4] = 0.5
    h[-1, :, 3] = np.arange(5)
    h[mx.array(2), 1:3] *= 2.0
    h[np.int64(0)] += 1.0
    each[1][4], each[4][:, 3], each[0] = 0.5, np.arange(5), each[0] + 1
    each[2][1:3] *= 2
    assert same(values(h), each)
    assert same([np.array(x) for x in h], each) and [len(x) for x in h] == [5, 7, 5, 7, 5]


def test_lists_are_paired_with_the_prompts_as_numpy_does():
    h, each = made(), numbers()
    found = h[[3, 0, 4], [6, 1, -1]]
    assert same(np.array(found), [each[3][6], each[0][1], each[4][-1]])
    assert same(
        np.array(h[mx.arange(5), np.array([0, 6, 2, 3, 4]), 1:3]),
        [x[t, 1:3] for x, t in zip(each, [0, 6, 2, 3, 4], strict=True)],
    )
    found *= 2.0
    found[1] = 9.0
    h[[2, 1], [0, 5]] = mx.array([[1.0] * 4, [2.0] * 4])
    x = h[[0, 2], :, [1, 2]]  # one length: a single group
    x[0] = -1.0
    y = h[[0, 1], :, [3, 2]]  # by prompt, of several lengths
    y[1] *= 0.0
    each[3][6], each[0][1], each[4][-1], each[2][0], each[1][5] = 2 * each[3][6], 9, 2 * each[4][-1], 1, 2
    each[0][:, 1], each[1][:, 2] = -1, 0
    assert same(values(h), each) and isinstance(y, Groups) and [len(v) for v in y] == [5, 7]
    for wrong in (
        ([0, 1], [1, 2, 3]),
        ([0, 1], [True] * 5),
        ([0, 1], [[1, 2], [3, 4]]),
        (slice(None), [[1], [9]]),
    ):
        with pytest.raises(errors.PositionError):
            h[wrong]


def test_in_place_arithmetic_takes_one_value_for_all_or_one_for_each():
    h, each = made(), numbers()
    h *= 2.0
    h += np.arange(4.0)
    h -= mx.arange(5.0).reshape(5, 1, 1)
    h /= [1.0, 2.0, np.float32(4.0), mx.ones(4), mx.full((5, 4), 2.0)]
    h += mx.zeros((1, 1, 4))
    h += made()
    h[0] -= h[0]
    scale = [1, 2, 4, 1, 2]
    right = [((2 * x + np.arange(4) - i) / scale[i] + x) for i, x in enumerate(each)]
    right[0] *= 0
    assert all(np.allclose(a, b) for a, b in zip(values(h), right, strict=True))


WRONG_VALUES = [
    (slice(None), np.zeros((5, 4)), "does not fit"),  # as one group has it
    (slice(None), np.zeros((3, 1, 4)), "3 values for 5"),  # as many rows as one group has
    (slice(None), np.zeros((2, 7, 4)), "2 values for 5"),
    (slice(None), [1.0, 2.0], "2 values for 5"),
    (slice(None), [np.zeros((7, 4))] * 5, "does not fit"),
    (slice(None), np.zeros((1, 1, 1, 1, 3)), "does not fit"),
    (slice(None), np.zeros((1, 7, 4)), "does not fit"),
    ((slice(None), -1), np.zeros(5), "does not fit"),
    ((slice(None), -1), np.zeros((4, 4)), "4 values for 5"),
    ((slice(None), -1), np.zeros((5, 4, 4)), "does not fit"),
    ((slice(None), -1), None, "array or a number"),
    ((slice(None), -1), "x", "array or a number"),
    ((slice(None), -1), lambda x: x, "array or a number"),
    ((slice(None), -1), np.array(["x"]), "array or a number"),
    ((slice(None), -1), True, "real numbers"),
    ((slice(None), -1), mx.array([1j] * 4), "real numbers"),
    ((slice(None), -1), [1.0, 2.0, None, 4.0, 5.0], "array or a number"),
    (0, mx.zeros((7, 4)), "cannot put"),
]


@pytest.mark.parametrize(("index", "value", "said"), WRONG_VALUES, ids=lambda given: type(given).__name__)
def test_a_value_that_does_not_fit_all_changes_none(index, value, said):
    h = made()
    with pytest.raises(errors.EditError, match=said):
        h[index] = value
    assert same(values(h), numbers()) and not any(x.state.edited for _, x, _ in h.groups if index != 0)


OUTSIDE = [5, -6, [0, 5], (slice(None), 5), (0, 5), (slice(None), -6), ([0, 1], [5, 1]), (slice(None), 0, 4)]
OUTSIDE += [
    (0, 0, 0, 0),
    None,
    "a",
    1.0,
    True,
    slice(5, None),
    [],
    [False] * 5,
    [True] * 4,
    [[0], [1]],
    (..., ...),
]
OUTSIDE += [(slice(None), "a"), (slice(None), -1, None, 0, 0)]


@pytest.mark.parametrize("index", OUTSIDE, ids=str)
def test_an_index_outside_one_of_the_prompts_is_refused(index):
    h = made()
    with pytest.raises(errors.PositionError):
        h[index]
    with pytest.raises(errors.PositionError):
        h[index] = 0.0
    assert same(values(h), numbers())


@pytest.mark.parametrize(
    "index", [(slice(None), slice(0, 6)), [0, 0], slice(2, 9), (slice(None), slice(3, 3))], ids=str
)
def test_an_edit_that_would_do_less_is_refused(index):
    h = made()
    with pytest.raises(errors.PositionError):
        h[index] = 0.0
    assert same(values(h), numbers())


def test_a_read_slice_is_cut_off_as_everywhere():
    assert [len(x) for x in made()[:, :6]] == [5, 6, 5, 6, 5]


ONE_ARRAY = {
    "+": lambda h: h + 1,
    "radd": lambda h: 1 + h,
    "-": lambda h: -h,
    "@": lambda h: h @ mx.zeros((4, 4)),
    "@=": lambda h: operator.imatmul(h, mx.zeros((4, 4))),
    "//=": lambda h: operator.ifloordiv(h, 2),
    "==": lambda h: h == h,
    "<": lambda h: h < 0,
    "bool": bool,
    "float": float,
    "in": lambda h: 1.0 in h,
    "shape": lambda h: h.shape,
    "mean": lambda h: h.mean(),
    "reshape": lambda h: h.reshape(-1),
    "T": lambda h: h.T,
    "at": lambda h: h.at[0].add(1),
    "tolist": lambda h: h.tolist(),
    "numpy": np.array,
    "np.mean": np.mean,
    "np.add": lambda h: np.zeros(4) + h,
}


@pytest.mark.parametrize("use", ONE_ARRAY)
def test_what_needs_one_array_says_that_there_are_groups(use):
    with pytest.raises(errors.LengthsError, match=r"5 prompts in 2 groups by length.*h\[i\].*h\[:, -1\]"):
        ONE_ARRAY[use](made())


@pytest.mark.parametrize(
    "use",
    [mx.mean, mx.zeros_like, mx.array, lambda h: mx.zeros(4) + h, lambda h: mx.zeros(4) * h, lambda h: mx.add(h, 1),
     lambda h: mx.where(True, h, 0), lambda h: mx.zeros(4).__setitem__(0, h)],
)  # fmt: skip
def test_functions_of_mlx_say_what_to_give_them(use):
    """Their errors name the type that they were given, and so the name of the type says it."""
    with pytest.raises((TypeError, ValueError), match=r"several lengths: give one prompt's, h\[i\]"):
        use(made())


def test_an_unknown_attribute_is_missing_as_everywhere():
    h = made()
    assert not hasattr(h, "sahpe") and not hasattr(h, "shape") and not hasattr(h, "__mlx_array__")
    with pytest.raises(AttributeError, match="sahpe"):
        h.sahpe  # noqa: B018


def test_it_prints_what_it_is():
    assert str(made()).splitlines() == [
        "mlp: 5 prompts in 2 groups by length (nothing is padded)",
        "  prompts 0, 2, 4 of 5 tokens: [3, 5, 4]",
        "  prompts 1, 3 of 7 tokens: [2, 7, 4]",
        "[i] is one prompt's, [:, -1] the last token of each, .groups the arrays",
    ]
    h = made()
    assert (len(h), h.ndim, h.dtype, h.save() is h, h is not None) == (5, 3, mx.float32, True, True)


def test_a_copy_is_free_and_an_edit_of_one_that_nothing_holds_is_refused():
    h = made()
    before, also = h.copy(), [copy.copy(h), copy.deepcopy(h)]
    h *= 0.0
    assert same(values(before), numbers()) and all(same(values(x), numbers()) for x in also)
    before[:, -1] = 5.0
    assert not any(x.any() for x in values(h)) and before[3][-1].tolist() == [5.0] * 4
    if TEMPORARY > 0:
        with pytest.raises(errors.EditError, match="nothing holds"):
            h.copy()[:, -1] = 1.0


def test_a_part_that_was_taken_before_the_site_was_edited_there_is_refused():
    h = made()
    last, later = h[:, -1], h[:, 1:]
    first = last[0]
    h[0, 0] = 5.0  # elsewhere
    last += 0.0
    of_part = later[:, -1]
    h[1][-1] = 5.0
    for stale in (last, later, first, of_part, later[:, -1]):
        before, mine = values(h), [np.array(x) for x in stale]
        with pytest.raises(errors.EditError, match="Take the part again"):
            stale *= 2.0
        assert same(values(h), before)
        assert stale is later or same([np.array(x) for x in stale], mine)


def test_nothing_is_edited_once_one_of_the_passes_went_on():
    h = made()
    last = h[:, -1]
    h.groups[1].array.state.open, h.groups[1].array.state.gone_to = False, "norm"
    for edit in (
        lambda: h.__setitem__((slice(None), -1), 0.0),
        lambda: h.__imul__(2.0),
        lambda: last.__imul__(2.0),
    ):
        with pytest.raises(errors.OrderError, match="gone by"):
            edit()
    assert same(values(h), numbers())


def test_held_keeps_an_activation_and_frees_an_array():
    x = made().groups[0].array
    assert held(x, "x") is x
    y = held(mx.zeros((2, 2)), "x")
    y[0] = 1.0
    assert isinstance(y, Activation) and y.state.free
