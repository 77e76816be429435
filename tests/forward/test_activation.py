"""Edits of what is cut out of a live activation reach the site, or raise; what is computed is the user's own."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace import interventions as iv

IDS = [3, 17, 5, 90, 41, 8, 77]
MASK = [False] * 4 + [True] + [False] * 2


def assign(x, value):
    x[...] = value


def scaled(x, k=0.0):
    x *= k


def multiplied(x):
    x @= mx.zeros((64, 64))


# Each sets position 4 to zero.
REACH = {
    "a row": lambda x: x[0].__setitem__((4,), 0),
    "as nnsight users write": lambda x: x[0].__setitem__((slice(4, 5), slice(None)), 0),
    "after the position": lambda x: x[:, 4].__setitem__(0, 0),
    "a variable": lambda x: scaled(x[:, 4]),
    "a product": lambda x: multiplied(x[:, 4]),
    "three deep": lambda x: x[:, 4:5][:, 0][:, 0:64].__setitem__(..., 0),
    "index array": lambda x: assign(x[:, mx.array([4])], 0),
    "index list, twice the same": lambda x: assign(x[:, [4, 4]], 0),
    "boolean list": lambda x: x.__setitem__((slice(None), MASK), 0),
    "boolean list, cut": lambda x: scaled(x[:, MASK]),
    "mask of both axes": lambda x: scaled(x[np.array([MASK])]),
    "mask of both axes, mlx": lambda x: x.__setitem__(mx.array([MASK]), 0),
    "reshape": lambda x: x.reshape(7, 64).__setitem__(4, 0),
    "reshape, -1": lambda x: x.reshape(-1, 64)[4].__setitem__(..., 0),
    "flatten": lambda x: x.flatten(0, 1).__setitem__(4, 0),
    "squeeze": lambda x: x.squeeze().__setitem__(4, 0),
    "T": lambda x: x.T.__setitem__((slice(None), 4), 0),
    "mT": lambda x: x.mT.__setitem__((..., 4), 0),
    "transpose": lambda x: x.transpose(1, 0, 2).__setitem__(4, 0),
    "transpose, a list": lambda x: x.transpose([2, 1, 0]).__setitem__((slice(None), 4), 0),
    "swapaxes": lambda x: x.swapaxes(0, 1).__setitem__(4, 0),
    "moveaxis": lambda x: x.moveaxis(1, 0).__setitem__(4, 0),
    "moveaxis, to the end": lambda x: x.moveaxis(0, 2).__setitem__(4, 0),
    "split": lambda x: assign(x.split(7, axis=1)[4], 0),
    "split at": lambda x: assign(x.split([4, 5], axis=1)[1], 0),
    "iterated": lambda x: [row.__setitem__(4, 0) for row in x],
    "unpacked": lambda x: [scaled(row) for i, row in enumerate(next(iter(x))) if i == 4],
    "ellipsis": lambda x: x.__setitem__((..., 4, slice(None)), 0),
}  # fmt: skip


@pytest.mark.parametrize("edit", REACH)
def test_what_is_cut_out_writes_through(llama, edit):
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    with llama.trace(IDS) as trace:
        REACH[edit](llama.layers[1].mlp.output)
    assert mx.array_equal(trace.activations["layers.1.mlp"], expected.activations["layers.1.mlp"])
    assert mx.array_equal(trace.output, expected.output)

    def declared(x):
        REACH[edit](x)
        return x

    with llama.trace(IDS, interventions={"layers.1.mlp": declared}, cache=False) as trace:
        pass
    assert mx.array_equal(trace.output, expected.output)


def iadd_strings(x):
    x += np.array(["a"])


def matmul_narrow(x):
    x @= mx.zeros((64, 3))


def shifted(x):
    x <<= 1


def stale(x):
    part = x[:, 4]
    x[:, 4] = 5.0
    part[...] = 0


def dropped(x):
    x.at[:, 4].set(0)


def copied(x):
    x.copy()[:, 4] = 0


def converted(x):
    x.astype(mx.float16)[:, 4] = 0


def dropped_product(x):
    x[0].at[4].multiply(0)


RAISE = {
    "at, thrown away": (dropped, errors.EditError, "thrown away"),
    "at of a view": (dropped_product, errors.EditError, "thrown away"),
    "a copy that nothing holds": (copied, errors.EditError, "nothing holds"),
    "another dtype": (converted, errors.EditError, "nothing holds"),
    "edited since": (stale, errors.EditError, "Take the part again"),
    "text index": (lambda x: x[:, np.array(["a"])], errors.PositionError, "cannot be indexed"),
    "text list": (lambda x: x[:, ["a"]], errors.PositionError, "cannot be indexed"),
    "ragged list": (lambda x: x[[[1], [2, 3]]], errors.PositionError, "cannot be indexed"),
    "boolean": (lambda x: x.__setitem__((0, np.True_), 0), errors.PositionError, "cannot be indexed"),
    "short boolean list": (lambda x: x.__setitem__((0, [True, False]), 0), errors.PositionError, r"\(7,\)"),
    "no position": (lambda x: x.__setitem__((0, []), 0), errors.PositionError, "selects nothing"),
    "text values": (lambda x: assign(x, np.array(["a"])), errors.EditError, "not numbers"),
    "text added": (iadd_strings, errors.EditError, "not numbers"),
    "narrower product": (matmul_narrow, errors.EditError, r"\(1, 7, 3\)"),
    "bits of floats": (shifted, errors.EditError, "in place"),
    "past the end of a view": (lambda x: x[0].__setitem__(7, 0), errors.PositionError, "0 to 6"),
    "a shape, in a view": (lambda x: x[0].__setitem__(2, mx.zeros(63)), errors.EditError, r"\(63,\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAISE)
def test_what_cannot_take_effect_raises(llama, case):
    act, error, text = RAISE[case]
    with pytest.raises(error, match=text), llama.trace(IDS):
        act(llama.layers[1].mlp.output)
    with pytest.raises(error, match=text), llama.trace(IDS, interventions={"layers.1.mlp": act}):
        pass


VIEWS = {
    "row": lambda x: x[:, 4],
    "deep": lambda x: x[0][2:5][1],
    "reshape": lambda x: x.reshape(7, 64),
    "T": lambda x: x.T,
    "iterated": lambda x: next(iter(x)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_a_site_that_has_gone_by_names_both_sites(llama, view):
    text = r"(?s)layers\.0\.mlp.*has gone by.*layers\.2"
    for edit in (lambda y: assign(y, 0), scaled):
        with pytest.raises(errors.OrderError, match=text), llama.trace(IDS):
            part = VIEWS[view](llama.layers[0].mlp.output)
            llama.layers[2].output  # noqa: B018
            edit(part)
        with pytest.raises(errors.OrderError, match="has gone by"), llama.trace(IDS):
            llama.layers[2].output  # noqa: B018
            edit(VIEWS[view](llama.layers[0].mlp.output))
    with llama.trace(IDS) as trace:
        part = VIEWS[view](llama.layers[0].mlp.output).save()
    before = np.array(trace.activations["layers.0.mlp"])
    part[...] = 7.0  # the user's own by now
    assert np.array_equal(np.array(trace.activations["layers.0.mlp"]), before)
    assert part._view.parent is None  # and does not keep the rest of the activation


def test_a_part_shows_the_values_of_when_it_was_taken(llama):
    with llama.trace(IDS) as trace:
        x = llama.layers[1].mlp.output
        one, two = x[:, 1], x[:, 2]
        x[:, 1], x[:, 2] = two, one
        once = np.array(one)
    with llama.trace(IDS) as plain:
        pass
    right, found = plain.activations["layers.1.mlp"], trace.activations["layers.1.mlp"]
    assert mx.array_equal(found[:, 1], right[:, 2]) and mx.array_equal(found[:, 2], right[:, 1])
    assert np.array_equal(once, np.array(right[:, 1]))


def test_parts_that_do_not_meet_are_edited_side_by_side(llama):
    with llama.trace(IDS) as trace:
        x = llama.layers[1].mlp.output
        rows = [x[:, i] for i in range(7)]
        for i, row in enumerate(rows):
            row[...] = float(i)
        x[:, 6] = 9.0
        rows[0] += 1.0
    assert np.array(trace.activations["layers.1.mlp"])[0, :, 0].tolist() == [1, 1, 2, 3, 4, 5, 9]


def test_an_index_is_read_when_it_is_given(llama):
    with llama.trace(IDS) as trace:
        where = np.array([1])
        part = llama.layers[1].mlp.output[:, where]
        where[0] = 3
        part[...] = 0
    norms = np.abs(np.array(trace.activations["layers.1.mlp"])[0]).max(-1)
    assert [i for i, x in enumerate(norms) if x == 0] == [1]


def own(x):
    y = x * 2
    y[:, 1] = 0
    z = mx.array(x)
    z[:, 1] = 0
    c = x.copy()
    c[:, 1] = 0
    d = x.astype(mx.float16)
    d[:, 1] = 0
    e = x.at[:, 1].add(1.0)
    e[:, 2] = 0
    mx.softmax(x.at[:, 1].multiply(0))
    return x[:, 1].sum() + x.mean() + sum(row.sum() for row in x)


def test_what_is_computed_is_free(llama):
    with llama.trace(IDS) as plain:
        pass
    with llama.trace(IDS) as trace:
        own(llama.layers[1].mlp.output)
        llama.layers[2].output  # noqa: B018
        own(llama.layers[1].mlp.output)
    assert mx.array_equal(trace.output, plain.output)
    with llama.trace(IDS) as trace:
        y = llama.layers[1].mlp.output.copy()
        y[:, 4] = 0
        llama.layers[1].mlp.output = y
    assert mx.abs(trace.activations["layers.1.mlp"][:, 4]).max() == 0


def test_gradients_reach_an_edit_of_a_part(llama):
    def loss(delta):
        with llama.trace(IDS, cache=False) as trace:
            row = llama.layers[1].resid_mid.output[0][3]
            row += delta
        return trace.output[0, -1, 5]

    slope = mx.grad(loss)(mx.zeros(64))
    step = mx.zeros(64)
    step[10] = 1e-2
    measured = (loss(step) - loss(-step)) / 2e-2
    assert abs(slope[10].item() - measured.item()) < 2e-3


def test_saved_arrays_show_later_edits_of_their_site_and_copies_do_not(llama):
    with llama.trace(IDS) as trace:
        live = llama.layers[1].mlp.output.save()
        before = llama.layers[1].mlp.output.copy()
        llama.layers[1].mlp.output[:, 2] = 7.0
        after = llama.layers[2].input.save()
    assert live[0, 2, 0].item() == 7.0 and before[0, 2, 0].item() != 7.0
    assert mx.array_equal(live, trace.activations["layers.1.mlp"])
    live[:, 0] = 1.0  # the user's own now
    assert trace.activations["layers.1.mlp"][0, 0, 0].item() != 1.0
    assert after.shape == live.shape


def test_at_gives_a_changed_copy(llama):
    with llama.trace(IDS) as trace:
        x = llama.layers[1].mlp.output
        y = x.at[0, 4, :].set(mx.zeros(64))
        assert mx.array_equal(x.at[:, 0].add(1.0)[:, 0], x[:, 0] + 1.0)
        llama.layers[1].mlp.output = y
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    assert mx.array_equal(trace.output, expected.output)
