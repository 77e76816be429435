"""Edits in place: every way to write one reaches the pass, and what could not take effect raises."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import errors
from mlxtrace import interventions as iv
from mlxtrace.anatomy.recording import forward
from mlxtrace.forward import editing
from mlxtrace.forward.activation import Activation
from mlxtrace.forward.editing import SiteState

IDS = [3, 17, 5, 90, 41, 8, 77]


@pytest.fixture(autouse=True)
def untouched(request):
    """After every test the model's classes and logits are bit for bit what they were."""
    model = request.getfixturevalue("llama")
    classes = [type(m) for m in model.net.modules()]
    before = logits(model)
    yield
    assert [type(m) for m in model.net.modules()] == classes
    assert mx.array_equal(logits(model), before)


def logits(model, ids=IDS):
    out = forward(model.net, mx.array([ids]))
    mx.eval(out)
    return out


EDITS = {
    "item": lambda x: x.__setitem__((slice(None), 4), 0.0),
    "negative": lambda x: x.__setitem__((0, -3), 0.0),
    "list": lambda x: x.__setitem__((slice(None), [4]), 0.0),
    "mx index": lambda x: x.__setitem__((slice(None), mx.array([4])), 0.0),
    "numpy index": lambda x: x.__setitem__((slice(None), np.array([4])), 0.0),
    "slice": lambda x: x.__setitem__((slice(None), slice(4, 5)), mx.zeros((1, 1, 64))),
    "mask": lambda x: x.__setitem__((Ellipsis,), mx.where((mx.arange(7) == 4)[:, None], 0.0, x)),
    "ellipsis": lambda x: x.__setitem__((Ellipsis, 4, slice(None)), 0.0),
    "imul": lambda x: x.__imul__((mx.arange(7) != 4).astype(mx.float32)[:, None]),
    "numpy": lambda x: x.__imul__((np.arange(7) != 4).astype(np.float64)[:, None]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_ways_to_edit(llama, edit):
    with llama.trace(IDS, interventions={"layers.1.mlp": iv.zero_at(4)}) as expected:
        pass
    with llama.trace(IDS) as trace:
        EDITS[edit](llama.layers[1].mlp.output)
    assert mx.array_equal(trace.output, expected.output)
    assert not mx.array_equal(trace.output, logits(llama))


def test_numpy_arrays_may_be_assigned(llama):
    with llama.trace(IDS) as trace:
        llama.layers[1].mlp.output = np.zeros((1, 7, 64))
    assert mx.abs(trace.activations["layers.1.mlp"]).max() == 0
    assert trace.output.dtype == mx.float32


BAD = {
    "shape": (lambda m: setattr(m.layers[1].mlp, "output", mx.zeros((1, 6, 64))), errors.EditError, "shape"),
    "float": (lambda m: setattr(m.layers[1].mlp, "output", 0.0), errors.EditError, r"output\[\.\.\.\]"),
    "none": (lambda m: setattr(m.layers[1].mlp, "output", None), errors.EditError, "NoneType"),
    "complex": (
        lambda m: setattr(m.layers[1].mlp, "output", mx.zeros((1, 7, 64), mx.complex64)),
        errors.EditError,
        "complex64",
    ),
    "past the end": (lambda m: m.layers[1].output.__setitem__((0, 7), 0.0), errors.PositionError, "0 to 6"),
    "far below": (lambda m: m.layers[1].output.__setitem__((0, -8), 0.0), errors.PositionError, "-8"),
    "slice past the end": (
        lambda m: m.layers[1].output.__setitem__((0, slice(5, 9)), 0.0), errors.PositionError, "5:9",
    ),
    "empty slice": (
        lambda m: m.layers[1].output.__setitem__((0, slice(5, 5)), 0.0), errors.PositionError, "selects nothing",
    ),
    "list past the end": (
        lambda m: m.layers[1].output.__setitem__((0, [1, 9]), 0.0), errors.PositionError, "9",
    ),
    "read past the end": (lambda m: m.layers[1].output[:, 7], errors.PositionError, "0 to 6"),
    "too many axes": (lambda m: m.layers[1].output[0, 0, 0, 0], errors.PositionError, "3 axes"),
    "wrong width": (
        lambda m: m.layers[1].output.__setitem__((0, 2), mx.zeros(63)), errors.EditError, r"\(63,\)",
    ),
    "in place": (lambda m: m.layers[1].output.__iadd__(mx.zeros((2, 7, 64))), errors.EditError, r"\(2, 7, 64\)"),
    "in place, numpy": (lambda m: m.layers[1].output.__iadd__(np.zeros(5)), errors.EditError, r"\(5,\)"),
    "layer": (lambda m: m.layers[3].output, errors.PositionError, "0 to 2"),
    "attribute": (lambda m: m.layers[1].mpl, errors.SiteError, "closest: mlp"),
    "tied": (lambda m: m.layers[1].mlp.lm_head, AttributeError, "lm_head"),
    "assignment": (lambda m: setattr(m.layers[1], "mlp", 3), errors.SiteError, "output"),
    "misspelt, of the model": (lambda m: setattr(m, "outputs", mx.zeros((1, 7, 64))), errors.SiteError, "model.output"),
    "without .output": (lambda m: setattr(m, "logits", mx.zeros((1, 7, 64))), errors.SiteError, "model.output"),
    "misspelt, of a site": (
        lambda m: setattr(m.layers[1].resid_mid, "outptu", 0), errors.SiteError, "assign to .output",
    ),
    "input of a site": (lambda m: m.layers[1].resid_mid.input, errors.SiteError, ".output only"),
    "the module": (lambda m: m.layers[1].mlp.__setitem__((0, 1), 0.0), errors.EditError, r"\.output\[\.\.\.\]"),
    "the layer": (lambda m: m.layers.__setitem__(1, 0.0), errors.EditError, ".output"),
    "layer by name": (lambda m: m.layers["1"].output, errors.InputError, "numbered"),
    "layer 1.0": (lambda m: m.layers[1.0].output, errors.InputError, "numbered"),
    "imaginary": (lambda m: m.layers[1].output.__setitem__((0, 1), 1j), errors.EditError, "complex"),
    "short mask": (
        lambda m: m.layers[1].output.__setitem__((0, mx.array([True] * 3)), 0.0), errors.PositionError, r"\(7,\)",
    ),
    "empty mask": (
        lambda m: m.layers[1].output.__setitem__((0, np.zeros(7, bool)), 0.0), errors.PositionError, "selects nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_edits(llama, case):
    act, error, text = BAD[case]
    with pytest.raises(error, match=text), llama.trace(IDS):
        act(llama)


@pytest.mark.parametrize("mask", [np.array, mx.array])
def test_positions_may_be_a_mask(llama, mask):
    with llama.trace(IDS) as trace:
        llama.layers[1].output[:, mask([True, False] * 3 + [False])] = 0.0
    norms = np.array(mx.abs(trace.activations["layers.1"]).max(-1))[0]
    assert [x == 0 for x in norms] == [True, False] * 3 + [False]


def test_edits_of_a_site_that_has_gone_by_name_both_sites(llama):
    with (
        pytest.raises(errors.OrderError, match=r"(?s)layers\.0\.mlp.*has gone by.*layers\.2"),
        llama.trace(IDS),
    ):
        early = llama.layers[0].mlp.output
        llama.layers[2].output  # noqa: B018
        early[:, 1] = 0.0
    with pytest.raises(errors.OrderError, match="gone by"), llama.trace(IDS):
        llama.layers[2].output  # noqa: B018
        llama.layers[0].mlp.output = mx.zeros((1, 7, 64))
    with llama.trace(IDS) as trace:
        late = llama.layers[2].output
        early = llama.layers[0].mlp.output.save()
        changed = early.copy()
        changed[:] = 0.0
    assert mx.array_equal(early, trace.activations["layers.0.mlp"])
    assert mx.array_equal(late, trace.activations["layers.2"])


# ---- without a model


@pytest.fixture
def live():
    """An array at a site where a pass would wait."""
    return Activation.of(mx.zeros((1, 4, 3)), SiteState("here"))


def test_an_edit_is_noted_and_goes_to_the_array(live):
    assert not live.state.edited
    live[0, 1] = 2.0
    live[:, 2][...] = 3.0
    assert live.state.edited and live.state.writes == 2
    assert live.tolist() == [[[0.0] * 3, [2.0] * 3, [3.0] * 3, [0.0] * 3]]


def test_an_array_whose_site_has_gone_by_is_closed_to_edits_and_then_free(live):
    part = live[:, 1]
    live.state.open, live.state.gone_to = False, "there"
    for x in (live, part):
        with pytest.raises(errors.OrderError, match="here has gone by: the pass is at there"):
            x[...] = 1.0
    live.state.close()
    part[...] = 1.0
    assert part.tolist() == [[1.0] * 3] and live.sum().item() == 0.0 and live.state.views == []


def test_a_part_is_stale_once_its_place_has_changed_and_only_then(live):
    first, second = live[:, 0], live[:, 1]
    live[:, 2] = 5.0
    first += 1.0  # another place was edited
    live[:, 1] = 5.0
    with pytest.raises(errors.EditError, match="Take the part again"):
        second += 1.0
    assert live[0, :, 0].tolist() == [1.0, 5.0, 5.0, 0.0]


def test_a_part_of_a_stale_part_is_stale(live):
    """Written to, it would put back all that the part showed, over what was edited since."""
    part = live[:, 1:]
    live[:, 2] = 5.0
    with pytest.raises(errors.EditError, match="Take the part again"):
        part[:, 0][...] = 1.0
    fresh = live[:, 1:]
    live[:, 0] = 2.0  # another place
    fresh[:, 0][...] = 1.0
    assert live[0, :, 0].tolist() == [2.0, 1.0, 5.0, 0.0]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_operators_in_place_are_those_of_numpy(name):
    x = np.array([[[1.0, 2.0, 5.0]]], np.float32)
    live = Activation.of(mx.array(x), SiteState("here"))
    after = getattr(live, f"__i{name}__")(2.0)
    assert after is live and live.state.edited
    assert np.allclose(np.array(live), getattr(x, f"__{name}__")(np.float32(2.0)))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.float32(2), mx.float32), (np.int64(2), mx.int64), (np.ones(2, np.float16), mx.float16)],
)
def test_numpys_values_are_taken_as_mlx_takes_them(value, dtype):
    assert editing.plain_value(value).dtype == dtype
    assert editing.plain_value(2.0) == 2.0


def test_a_temporary_and_a_variable_are_told_apart_or_neither_is_refused():
    found = editing._references("temporary"), editing._references("variable")
    assert (found[0] if found[0] < found[1] else -1) == editing.TEMPORARY
