"""The registry: every law of every file is in it once, under a name of its own, and says what to distrust."""

from __future__ import annotations

import importlib
import pkgutil

from mlxtrace import laws
from mlxtrace.laws.law import Law
from mlxtrace.laws.registry import EXPERIMENT_LAWS, LAWS, MODEL_LAWS


def test_every_law_is_registered_once():
    modules = [
        importlib.import_module(f"{laws.__name__}.{m.name}") for m in pkgutil.iter_modules(laws.__path__)
    ]
    found = {id(x): x for module in modules for x in vars(module).values() if isinstance(x, Law)}
    assert [x.name for x in found.values() if x not in LAWS] == []
    assert len(LAWS) == len({law.name for law in LAWS}) == len(found) + 1  # and the small model's, made there
    assert [*MODEL_LAWS, *EXPERIMENT_LAWS] == LAWS[:-3]  # then the programs, and the small model


def test_every_law_says_what_to_distrust():
    for law in LAWS:
        assert law.distrust and not law.distrust.endswith("."), law
        assert law.measure.__module__.startswith("mlxtrace.laws."), law


def test_the_order_of_the_table():
    assert len(LAWS) == 59
    assert LAWS[0].name == "two plain runs agree to the bit"
    assert LAWS[22].name == "a layer adds what attn and mlp write, or it is said"
    assert LAWS[-1].name == "all of this on a small model of known make"
