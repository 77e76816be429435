"""Attention is timed as sweeps call it: by layer and way, with the model's own masks, and nothing else is run whole."""

import types

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine import attention_times, calibration, work

WINDOW, LENGTH = 8, 400


def every_way(resolver, length):
    return np.stack([work.attention(resolver, length, way) for way in range(3)], axis=1)


@pytest.fixture
def timed(monkeypatch):
    """A clock that counts scores: every call takes as long as it has pairs of query and seen key, times its way."""
    clock, calls = [0.0], []
    monkeypatch.setattr(attention_times, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))

    def way(name, factor):
        def call(q, k, v, **options):
            mask = options.get("mask")
            pairs = q.shape[2] * k.shape[2]
            if name == "parts":  # of a window, what is in it
                pairs = mask.sum().item() if isinstance(mask, mx.array) else q.shape[2] * (q.shape[2] + 1) / 2
            calls.append((name, q.shape[2], k.shape[2]))
            clock[0] += factor * pairs * q.shape[0]
            return mx.zeros((*q.shape[:-1], v.shape[-1]))

        return call

    monkeypatch.setattr(attention_times, "attend", way("parts", 1.0))
    monkeypatch.setattr(attention_times, "plain_attention", way("whole", 3.0))
    monkeypatch.setattr(attention_times, "hook_of", lambda fire, wants: way("patterns", 7.0))
    return calls


def test_windows_and_ways_are_told_apart(timed, monkeypatch):
    monkeypatch.setattr(calibration, "on_processor", lambda: True)
    resolver = InterpretableModel(make("gemma3_text", max_position_embeddings=1000)).resolver
    each = every_way(resolver, LENGTH)
    assert each.shape == (resolver.n_layers, 3)
    np.testing.assert_allclose(each[:, 1:], [[3.0, 7.0]] * resolver.n_layers)
    pairs = LENGTH * calibration.seen(resolver, 0, LENGTH)
    whole, window = LENGTH * (LENGTH + 1) / 2, WINDOW * LENGTH - WINDOW * (WINDOW - 1) / 2
    np.testing.assert_allclose(each[:, 0] * pairs, [window, whole] * 2)
    done = len(timed)
    assert every_way(resolver, LENGTH).any() and len(timed) == done  # measured once for each length
    assert done == 2 * 3 * 3  # two kinds of layers, three ways, three times


def test_of_long_rows_some_queries_are_timed(timed, monkeypatch):
    monkeypatch.setattr(attention_times, "MOST_SCORES", 4 * 50 * LENGTH)
    resolver = InterpretableModel(make("gemma3_text", max_position_embeddings=1000)).resolver
    each = every_way(resolver, LENGTH)
    assert {call for call in timed if call[0] != "parts"} == {
        ("whole", 50, LENGTH),
        ("patterns", 50, LENGTH),
    }
    assert {call[1] for call in timed if call[0] == "parts"} == {LENGTH}
    np.testing.assert_allclose(each[:, 1:], [[3.0, 7.0]] * resolver.n_layers)


@pytest.mark.parametrize("length", [8, 40, LENGTH])
def test_short_rows_are_timed_together(timed, length):
    """The time is a row's, however many are timed."""
    resolver = InterpretableModel(make("gemma3_text", max_position_embeddings=1000)).resolver
    np.testing.assert_allclose(every_way(resolver, length)[:, 1:], [[3.0, 7.0]] * resolver.n_layers)


def test_a_mixer_that_does_not_attend_takes_nothing(timed):
    resolver = InterpretableModel(make("jamba")).resolver
    each = every_way(resolver, 30)
    attends = [layer.attention is not None and bool(layer.attention) for layer in resolver.structure.layers]
    assert [bool(row.any()) for row in each] == attends and any(attends) and not all(attends)
