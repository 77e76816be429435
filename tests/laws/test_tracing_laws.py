"""The laws of tracing, on models that break them and on traces that show something else than what passes through."""

from __future__ import annotations

import pytest
from faulty_models import Drifting, Model, MutatingBeside, failing, misreporting, rows_of, seen

from mlxtrace import InterpretableModel, check
from mlxtrace import interventions as iv
from mlxtrace.laws import tracing_laws
from mlxtrace.laws.registry import MODEL_LAWS


def test_an_answer_that_changes_from_call_to_call():
    rows = rows_of(Drifting, MODEL_LAWS)
    assert tracing_laws.repeats.name in failing(rows)
    assert "any number" in check.verdict(list(rows.values()))


def test_a_layer_that_writes_into_what_its_caller_still_uses():
    rows = rows_of(MutatingBeside, MODEL_LAWS, beside=True)
    assert tracing_laws.itself.name in failing(rows)
    assert "layers.1.resid_pre" in rows[tracing_laws.itself.name].note


def test_a_trace_that_leaves_its_mark(monkeypatch):
    model = misreporting(Model(), lambda name, arguments, options: (arguments, options))
    tested = tracing_laws.ModelUnderTest(model)
    plain = tested.plain

    def marking(ids):
        logits = plain(ids)
        tested.net.layers[0].__class__ = type("Marked", (type(tested.net.layers[0]),), {})
        return logits

    monkeypatch.setattr(tested, "plain", marking)
    assert tracing_laws.untouched(tested).note == "modules kept their traced class"


def test_a_cache_that_shows_another_prompt():
    def other_prompt(name, arguments, options):
        if name == "run_with_cache":
            arguments = ([*arguments[0][:-1], 1], *arguments[1:])
        return arguments, options

    assert not seen(tracing_laws.activations, Model())
    assert seen(tracing_laws.activations, misreporting(Model(), other_prompt))


@pytest.mark.parametrize("fault", ["edits", "bodies"])
def test_an_edit_that_is_not_the_edit(monkeypatch, fault):
    if fault == "edits":
        scale = iv.scale
        monkeypatch.setattr(iv, "scale", lambda k: scale(k * 1.01))
        model = Model()
    else:

        def other_prompt(name, arguments, options):
            if name == "trace" and not options.get("interventions"):
                arguments = ([*arguments[0][:-1], 1],)
            return arguments, options

        model = misreporting(Model(), other_prompt)
    assert seen(tracing_laws.edits, model)


class OwnArrays(dict):
    """A cache that hands out its own arrays, so that it is changed by what its reader writes into them."""

    def __init__(self, cache):
        self.cache = cache

    def __missing__(self, name):
        self[name] = self.cache[name]
        return self[name]


class Sharing(InterpretableModel):
    """A model whose caches hand out their own arrays."""

    def run_with_cache(self, *arguments, **options):
        logits, cache = InterpretableModel.run_with_cache(self, *arguments, **options)
        return logits, OwnArrays(cache)


def test_what_is_kept_is_overwritten():
    assert not seen(tracing_laws.kept, Model())
    assert seen(tracing_laws.kept, Sharing(Model()))
