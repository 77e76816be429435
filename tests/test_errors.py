"""The exceptions: one base, the built-in that fits, and messages that a terminal can print."""

from __future__ import annotations

import inspect
import pickle

import pytest

from mlxtrace import errors
from mlxtrace.errors import MlxtraceError, closest

BUILT_IN = {
    "LoadError": ValueError,
    "InputError": ValueError,
    "TokenError": ValueError,
    "SubjectError": ValueError,
    "AlignmentError": ValueError,
    "EffectError": ValueError,
    "PositionError": IndexError,
    "SiteError": KeyError,
    "SiteAttributeError": AttributeError,
    "UnsupportedError": TypeError,
    "EditError": ValueError,
    "LengthsError": TypeError,
    "OrderError": RuntimeError,
    "EngineError": RuntimeError,
}
OURS = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, MlxtraceError) and cls is not MlxtraceError
}


@pytest.mark.parametrize("name", OURS)
def test_an_error_is_the_built_in_that_fits(name):
    assert issubclass(OURS[name], BUILT_IN[name])


@pytest.mark.parametrize("name", OURS)
def test_an_error_prints_its_sentence_and_survives_a_process(name):
    error = OURS[name]("layer 3: 'x'\nis not there")
    assert str(error) == "layer 3: 'x'\nis not there"  # KeyError alone would print the repr
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is OURS[name] and str(again) == str(error)


def test_an_error_cannot_write_to_the_terminal_what_it_was_given():
    assert str(errors.InputError("a prompt \x1b[2J of \u202e")) == "a prompt \\x1b[2J of \\u202e"
    assert str(errors.InputError()) == ""


def test_the_closest_names_come_first():
    names = ["attn", "mlp", "resid_mid", "resid_post", "resid_pre"]
    assert closest("resid_pots", names).startswith("closest: resid_post")
    assert closest("model.h.3.mlpp", ["model.layers.3.mlp", "model.norm"]).startswith(
        "closest: model.layers.3.mlp"
    )
    assert closest("zzz", names, n=2) == "closest: attn, mlp"  # nothing is like it: the first ones
    assert closest("x.mlp", ["a.b.c.d.e.f.mlp", "norm"]) == "closest: a.b.c.d.e.f.mlp"  # the same last part
    assert closest("a", []) == "there is none"
    assert closest(3, ["3"]) == "closest: 3"
