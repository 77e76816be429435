from __future__ import annotations

import numpy as np
import pytest
from edges_made_up import made_up

from mlxtrace.errors import InputError, LoadError
from mlxtrace.results.circuit_result import Circuit


class Added:
    """Runs a made-up model: each kept edge adds its score to the corrupted run's -1."""

    def __init__(self, scores):
        self.scores, self.seen = scores, []

    def __call__(self, kept, pairs):
        self.seen.append(len(kept))
        clean = self.scores.sum() - 1
        return -1 + (kept * self.scores).sum((1, 2))[:, None], np.array([clean]), np.array([-1.0]), ["0"]


@pytest.fixture
def edges():
    made = made_up()
    made.per_pair[:] = np.abs(made.per_pair)
    made.__post_init__()
    made._runs = Added(made.scores)
    return made


def test_faithfulness_and_what_is_made_of_it(edges):
    circuit = edges.circuit(20, prune=False)
    share = np.sort(edges.scores[edges.upstream])[::-1][:20].sum() / edges.scores.sum()
    assert circuit.faithfulness() == pytest.approx(share)
    assert circuit.complement.faithfulness() == pytest.approx(1 - share)
    rows = circuit.minimality()
    assert rows[0]["drop"] == pytest.approx(edges.scores.max() / edges.scores.sum()) and len(rows) == 20
    assert [row["drop"] for row in rows] == sorted((row["drop"] for row in rows), reverse=True)
    complete = circuit.completeness(draws=3)
    gap = [m - c for m, c in zip(complete.model, complete.circuit, strict=True)]
    np.testing.assert_allclose(gap, 1 - share)  # what the circuit lacks, whatever is dropped
    assert complete.gap == pytest.approx(1 - share)
    assert circuit.random(4).shape == (4,) and (circuit.random(4) < share).all()


def test_everything_of_one_kind_is_one_call(edges):
    circuit = edges.circuit(10, prune=False)
    circuit.minimality()
    circuit.curve(random=2, sizes=(0.1, 0.5, 1))
    assert edges._runs.seen == [11, 9]


def test_loaded_circuits_say_how_to_run_them(edges, tmp_path):
    circuit = edges.circuit(10)
    again = Circuit.load(circuit.save(tmp_path / "c"))
    assert again.edges == circuit.edges and repr(again) == repr(circuit)
    for call in (again.faithfulness, again.minimality, again.curve, again.random, again.completeness):
        with pytest.raises(InputError, match=r"model\.circuit"):
            call()
    with pytest.raises(LoadError, match="Edges"):
        Circuit.load(edges.save(tmp_path / "e"))


def test_it_prints_and_draws(edges, tmp_path):
    circuit = edges.circuit(10, by="greedy")
    assert f"{circuit.n} of {circuit.upstream.sum()} edges" in repr(circuit) and "greedy" in repr(circuit)
    assert circuit.to_dot().startswith("digraph") and "embed" in circuit.to_dot()
    circuit.plot(tmp_path / "c.dot")
    assert (tmp_path / "c.dot").read_text() == circuit.to_dot()
    circuit.plot(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    circuit.to_csv(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().startswith("sender,receiver,score")
