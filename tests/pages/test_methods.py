"""What each panel means: every class of results has its method, with formula and source."""

import pytest
from page_results import CLASSES, page_results
from test_patching_result import make
from test_patching_set import a_set

from mlxtrace import errors
from mlxtrace.pages.methods import KINDS, METHODS, kind_of


def test_every_kind_is_told():
    assert set(KINDS.values()) <= set(METHODS)
    for method in METHODS.values():
        assert all(method) and method.means.endswith(".") and len(method.means) > 60
        assert not method.source.endswith(".")


@pytest.mark.parametrize("name", CLASSES)
def test_page_results_has_a_kind(name):
    assert kind_of(page_results()[name]) in METHODS


def test_patching_is_told_by_its_axes():
    raw = [[0.2, 0.4], [0.1, 0.3]]
    assert kind_of(make([0.1, 0.2])) == "layers"
    assert kind_of(make(raw, ("layer", "position"))) == "maps"
    assert kind_of(make(raw, ("layer", "head"))) == "heads"
    assert kind_of(a_set(("layer", "region"))) == "maps"
    assert kind_of(page_results()["PathSet"]) == "paths"


@pytest.mark.parametrize("stray", [None, "x", 0.5, [1], errors, {"a": 1}, errors.InputError("x")])
def test_other_things_have_none(stray):
    assert kind_of(stray) is None
