"""The laws of causal traces, on a model that traces with another draw, window or severed component."""

from __future__ import annotations

import pytest
from faulty_models import Model, misreporting, seen

from mlxtrace.laws import causal_trace_laws


def with_options(**changed):
    def change(name, arguments, options):
        wanted = {k: v for k, v in changed.items() if k in options} if name == "causal_trace" else {}
        return arguments, {**options, **wanted}

    return change


@pytest.mark.parametrize(
    ("law", "changed"),
    [
        (causal_trace_laws.traces, {"seed": 8}),
        (causal_trace_laws.traces, {"window": 1}),
        (causal_trace_laws.traces, {"target": 5}),
        (causal_trace_laws.severed, {"severed_noise": "same"}),
        (causal_trace_laws.severed, {"severed_noise": "next"}),
        (causal_trace_laws.severed, {"severed": "attn"}),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_trace_that_does_something_else(law, changed):
    assert seen(law, misreporting(Model(), with_options(**changed)))


@pytest.mark.parametrize("law", [causal_trace_laws.traces, causal_trace_laws.severed])
def test_the_traces_of_a_sound_model(law):
    assert not seen(law, Model())
