"""The laws of engines: one that errs, one that is refused without a known reason, and a model that looks ahead."""

from __future__ import annotations

import models
import pytest
from faulty_models import Model, SeeingLaterPositions, failing, rows_of

from mlxtrace import InterpretableModel, check
from mlxtrace.anatomy.architecture_exceptions import EXCEPTIONS, Exceptional
from mlxtrace.laws import engine_laws, stream_laws, tracing_laws
from mlxtrace.laws.model_under_test import ModelUnderTest
from mlxtrace.laws.registry import MODEL_LAWS

FAST = [engine_laws.fanout, engine_laws.flat, engine_laws.prefix]


@pytest.fixture
def probe():
    """The class that tries the engines on a model."""
    return type(ModelUnderTest(InterpretableModel(models.make("llama"))).sweep.probe)


def test_a_layer_that_sees_later_positions():
    rows = rows_of(SeeingLaterPositions, MODEL_LAWS)
    assert failing(rows) == {engine_laws.causal.name}
    assert rows[engine_laws.before.name].status == "n/a"


def test_an_engine_that_errs_is_caught(monkeypatch):
    """The engine is right in its own probe and wrong elsewhere: the base rows agree, the patched ones do not."""
    from mlxtrace.engine import batch

    model = InterpretableModel(Model())
    check.run(model, MODEL_LAWS)  # the probes are remembered as they are
    honest = batch.Batch.run

    def dishonest(self):
        logits = honest(self)
        logits[self.base.rows :] *= 1.01
        return logits

    monkeypatch.setattr(batch.Batch, "run", dishonest)
    failed = failing({row.law: row for row in check.run(model, MODEL_LAWS)})
    assert {engine_laws.fanout.name, engine_laws.flat.name, engine_laws.split.name} <= failed
    assert not {tracing_laws.itself.name, stream_laws.stream.name} & failed


@pytest.mark.parametrize("engine", ["fanout", "flat", "prefix"])
def test_an_engine_that_the_probe_refuses_is_a_failure(monkeypatch, engine, probe):
    """Without a known reason: that the caches are others, say, is one, and that the engine errs is none."""

    def wrong(self, *names):
        return "it errs" if (names or ("prefix",))[0] == engine else ""

    monkeypatch.setattr(probe, "wrong" if engine != "prefix" else "prefix_wrong", wrong)
    rows = check.run(models.make("llama"), FAST)
    refused = {"fanout": 0, "flat": 1, "prefix": 2}[engine]
    assert rows[refused].status == "fail" and "the probe refused it: it errs" in rows[refused].note


def test_a_known_exception_is_no_failure(monkeypatch, probe):
    monkeypatch.setattr(probe, "wrong", lambda self, name: "it errs")
    monkeypatch.setitem(EXCEPTIONS, "llama", Exceptional(engines={"fanout": "a reason"}))
    (row,) = check.run(models.make("llama"), [engine_laws.fanout])
    assert row.status == "n/a" and row.note == "not used on this architecture: a reason"


def test_a_causal_model_that_the_probe_takes_for_another_is_a_failure(monkeypatch):
    tested = ModelUnderTest(InterpretableModel(models.make("llama")))
    monkeypatch.setattr(tested.sweep.probe, "causal", False)
    with pytest.raises(engine_laws.Refused, match="which it is not"):
        engine_laws.prefix(tested)


def test_a_cell_before_the_difference_that_recovers_something():
    tested = ModelUnderTest(InterpretableModel(Model()))
    assert engine_laws.before(tested).error <= tested.limit
    name = next(name for name in tested.sweep.cells if name[0] == "before")
    tested.sweep.loop[name] *= 1.01
    assert engine_laws.before(tested).error > 1e-3
    rows, _ = tested.sweep.fast
    rows[list(tested.sweep.cells).index(name)] *= 1.0001
    assert engine_laws.before(tested).note == "by the engine"
