"""Passes at the same time: which cells go together, the same numbers, and BLAS has its threads back."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import GaussianNoise, InterpretableModel
from mlxtrace.engine import lanes
from mlxtrace.engine.batch import Batch
from mlxtrace.engine.plan import PlannedCell
from mlxtrace.errors import EngineError

CLEAN, CORRUPTED = (
    "The Eiffel Tower is located in the city of",
    "The Brandenburg Gate is located in the city of",
)


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.fixture
def three(monkeypatch):
    """As many as three lanes however little there is to do; what is cut is noted."""
    found, cut = [], lanes.cut

    def noted(cells, request):
        found.append(cut(cells, request))
        return found[-1]

    monkeypatch.setattr("mlxtrace.engine.sweep.cut", noted)
    monkeypatch.setattr(lanes, "threads", lambda resolver: 3)
    monkeypatch.setattr(lanes, "LEAST_TOKENS", 1)
    monkeypatch.setattr(lanes, "LEAST_WORK", 1)
    return found


def asked(length=9, layers=6, block=1, width=512):
    resolver = SimpleNamespace(n_layers=layers, structure=SimpleNamespace(d_model=width))
    return SimpleNamespace(resolver=resolver, length=length, block=block)


def cells_of(length=9, layers=6, prompt=0):
    return [
        PlannedCell(i, birth, start, (), prompt)
        for i, (birth, start) in enumerate(np.ndindex(layers, length))
    ]


def work_of(cells, length=9, layers=6):
    return sum((layers + 1 - cell.birth) * (length - cell.start) for cell in cells)


def test_lanes_hold_each_cell_once_in_order_of_birth_and_weigh_the_same(three):
    cells = cells_of()
    found = lanes.cut(cells, asked())
    assert sorted(cell.index for lane in found for cell in lane) == list(range(len(cells)))
    assert all([c.birth for c in lane] == sorted(c.birth for c in lane) for lane in found)
    work = [work_of(lane) for lane in found]
    assert len(found) == 3 and max(work) < 1.2 * min(work)
    firsts = [min(cell.start for cell in lane) for lane in found]
    assert firsts[0] == 0 and firsts[1] > 0 and firsts[2] > firsts[1]  # they start as late as they can


def test_prompts_are_kept_together(three):
    cells = [*cells_of(prompt=1), *cells_of(prompt=0), *cells_of(prompt=2)]
    assert [{cell.prompt for cell in lane} for lane in lanes.cut(cells, asked())] == [{0}, {1}, {2}]


def test_what_is_small_is_one_pass(monkeypatch):
    monkeypatch.setattr(lanes, "threads", lambda resolver: 4)
    cells = cells_of()
    tokens = work_of(cells) / 6
    assert lanes.LEAST_TOKENS <= tokens < 2 * lanes.LEAST_TOKENS
    assert len(lanes.cut(cells, asked(width=4096))) == 1  # a lane reads the weights
    assert len(lanes.cut(cells, asked(width=4096, block=2))) == 3
    assert len(lanes.cut(cells, asked(width=64, block=2))) == 1  # and its graph is built
    assert len(lanes.cut(cells, asked(length=lanes.LONG - 1, width=4096))) == 4
    assert len(lanes.cut(cells, asked(length=lanes.LONG, width=4096))) == 1
    monkeypatch.setattr(lanes, "threads", lambda resolver: 1)
    assert lanes.cut(cells, asked(width=4096, block=2)) == [cells]


@pytest.mark.parametrize(
    "options",
    [
        {"component": "resid_post", "positions": "each"},
        {"component": "mlp", "window": 3, "positions": "each"},
        {"component": "head"},
        {"component": "resid_pre", "positions": "each", "direction": "noise"},
    ],
    ids=lambda o: o["component"],
)
def test_the_numbers_are_the_same(demo, monkeypatch, three, options):
    options |= {"metric": ["logprob", "kl"], "align": "ends", "progress": False}
    found = demo.activation_patching(CLEAN, CORRUPTED, **options)
    assert max(map(len, three)) > 1
    monkeypatch.setattr(lanes, "threads", lambda resolver: 1)
    whole = demo.activation_patching(CLEAN, CORRUPTED, **options)
    assert {len(cut) for cut in three[len(three) // 2 :]} == {1}
    np.testing.assert_allclose(found.raw, whole.raw, rtol=1e-4, atol=2e-5)


def test_noise_and_sets_too(demo, monkeypatch, three):
    pairs = [CLEAN, "The Louvre Museum is located in the city of"], [CORRUPTED, CORRUPTED]

    def numbers():
        noise = GaussianNoise("Eiffel Tower", samples=3)
        one = demo.activation_patching(CLEAN, noise, metric="logprob", positions="each", progress=False)
        many = demo.activation_patching(
            *pairs, metric="logprob", positions="regions", align="ends", progress=False
        )
        return one.raw, many.raw

    found = numbers()
    assert max(map(len, three)) > 1
    monkeypatch.setattr(lanes, "threads", lambda resolver: 1)
    for a, b in zip(found, numbers(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.fixture
def blas(monkeypatch):
    """A BLAS of six threads that notes what it is told."""
    told = [6]
    monkeypatch.setattr(lanes, "_blas", lambda: (lambda: told[-1], told.append))
    return told


def test_blas_gets_its_threads_back(blas, three, demo, monkeypatch):
    demo.activation_patching(CLEAN, CORRUPTED, positions="each", align="ends", progress=False)
    assert blas == [6] + [1, 6] * len(three) and three
    monkeypatch.setattr(Batch, "begin", lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.activation_patching(CLEAN, CORRUPTED, positions="each", align="ends", progress=False)
    assert blas[-1] == 6


def test_a_second_sweep_waits_for_the_threads_of_blas(blas):
    def sweep():
        with lanes._one_thread_each():
            pass

    second = threading.Thread(target=sweep)
    with lanes._one_thread_each():
        second.start()
        second.join(0.02)
        waits = second.is_alive()
    second.join()
    assert waits and blas == [6, 1, 6, 1, 6]


def test_as_many_lanes_as_blas_has_threads_and_one_where_they_do_no_good(blas, monkeypatch):
    here = SimpleNamespace()
    assert lanes.threads(here) == (6 if mx.default_device() == mx.Device(mx.cpu) else 1)
    assert lanes.threads(SimpleNamespace(group=None)) == lanes.threads(here)
    assert lanes.threads(SimpleNamespace(group=object())) == 1  # processes that must meet
    monkeypatch.setattr(lanes.mx, "default_device", lambda: mx.Device(mx.gpu))
    assert lanes.threads(here) == 1
    monkeypatch.setattr(lanes.mx, "default_device", lambda: mx.Device(mx.cpu))
    monkeypatch.setattr(lanes, "_blas", lambda: (None, None))
    assert lanes.threads(here) == 1


def test_a_sweep_in_another_thread_has_streams_of_its_own(demo, three):
    found = []

    def sweep():
        result = demo.activation_patching(CLEAN, CORRUPTED, positions="each", align="ends", progress=False)
        found.append(result.raw)

    sweep()
    thread = threading.Thread(target=sweep)
    thread.start()
    thread.join()
    assert len(found) == 2 and max(map(len, three)) > 1
    np.testing.assert_array_equal(*found)


def test_the_base_rows_of_every_lane_are_checked(demo, three, monkeypatch):
    def last_is_off(batches):
        found = lanes.run_together(batches)
        found[-1][0] += 1
        return found

    monkeypatch.setattr("mlxtrace.engine.sweep.run_together", last_is_off)
    with pytest.raises(EngineError, match="base rows"):
        demo.activation_patching(CLEAN, CORRUPTED, positions="each", align="ends", progress=False)
    assert max(map(len, three)) > 1


def test_short_memory_computes_one_pass_at_a_time(demo, three):
    options = {"positions": "each", "align": "ends", "progress": False}
    plan = demo.activation_patching(CLEAN, CORRUPTED, **options).plan
    three.clear()
    demo.activation_patching(CLEAN, CORRUPTED, **options, max_memory=int(1.5 * plan.bytes))
    assert not three
