"""The benchmarks run from end to end on toy models, their parts count and agree; peers are not needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import cases, floor, models, screening, sets, tables, targets  # noqa: E402
from benchmarks.contenders import Ours, top_token  # noqa: E402
from benchmarks.timing import Row, compare  # noqa: E402
from mlxtrace import InterpretableModel  # noqa: E402


@pytest.mark.parametrize("shape", [models.GPT2_TOY, models.LLAMA_TOY], ids=lambda s: s.family)
def test_engines_agree_on_every_kind_of_case(shape):
    model = InterpretableModel(models.mlx_model(shape, models.draw(shape)))
    for case in (
        cases.different(shape, 6),
        cases.different(shape, 6, component="mlp", window=3),
        cases.realistic(shape, 8),
        cases.noised(shape, 6, samples=2),
        cases.preamble(shape, 6, 3),
    ):
        case = targeted(model, case)
        rows = compare("toy", case, [Ours(model, e) for e in ("fanout", "loop")], (1e9, 1e-6), 1, 6)
        assert [r.contender for r in rows] == ["mlxtrace fanout", "mlxtrace loop"]
        assert rows[0].ratio == 1 and all(r.off_prob < 2e-6 for r in rows)
        assert rows[1].timed == 6 and rows[0].timed == len(case.cells)


def targeted(model, case):
    return cases.replace(case, target=top_token(model, case))


def test_prompts_differ_where_they_say():
    shape = models.GPT2_TOY
    whole = cases.different(shape, 40)
    assert whole.clean[0] == whole.corrupted[0]
    assert all(a != b for a, b in zip(whole.clean[1:], whole.corrupted[1:], strict=True))
    subject = cases.realistic(shape, 40)
    differ = [i for i, (a, b) in enumerate(zip(subject.clean, subject.corrupted, strict=True)) if a != b]
    assert tuple(differ) == subject.subject == (10, 11, 12)
    assert cases.preamble(shape, 20, 4).first_difference == 20


def test_the_lower_bound_counts_what_a_cell_needs():
    shape = models.Shape("two layers", "gpt2", 2, 4, 16, 1, 1, 10)
    one = cases.Case("one", shape, (1, 2, 3), (1, 3, 4), first=2)  # position 2 of 3, layers 0 and 1
    head = 4 * 10
    layer = 2 * 16 + 2 * 16 + 2 * 64  # keys and values; queries and output; MLP
    plain = (3 * layer + 8 * (1 + 2 + 3)) + (3 * 32 + (layer - 32) + 8 * 3) + head
    born_at_1 = layer + 8 * 3 + head  # one layer, of the last position
    assert floor.needed(one).multiply_adds == born_at_1 + head + 2 * plain
    null = cases.Case("null", shape, (1, 2, 3), (1, 2, 4), first=0)
    assert floor.needed(null).multiply_adds == born_at_1 + head + 2 * plain


def test_the_textbook_runs_every_cell_whole():
    shape = models.Shape("two layers", "gpt2", 2, 4, 16, 1, 1, 10)
    one = cases.Case("one", shape, (1, 2, 3), (1, 3, 4), first=2)  # two cells, and the two plain runs
    layer = 3 * (4 * 16 + 2 * 64) + 2 * 4 * 3 * 3  # projections and MLP of three tokens; scores and sums
    assert floor.textbook(one) == floor.Need(4 * (2 * layer + 3 * 4 * 10), 4 * 2 * 3)
    assert floor.textbook(cases.replace(one, samples=5)) == floor.Need(16 * (2 * layer + 120), 16 * 6)


def measured(contender, threads, seconds, **named):
    whole = {
        "section": "gpt2",
        "case": "24 tokens",
        "component": "resid_post",
        "window": 1,
        "samples": 0,
    } | named
    times = {
        "seconds": seconds,
        "spread": (seconds, seconds),
        "ratio": 1.0,
        "off_prob": 0.0,
        "off_logit": 0.0,
    }
    return Row(
        **whole, layers=12, length=24, contender=contender, cells=288, timed=288, repeats=1, **times,
        floor=1.0, activation=2.0, textbook=(6.0, 12.0), threads=threads,
    )  # fmt: skip


def test_ours_with_all_threads_is_held_against_the_best_of_theirs():
    rows = [measured("mlxtrace fanout", 2, 2.5), measured("mlxtrace fanout", 1, 4.0)]
    rows += [measured("mlxtrace loop", 2, 40.0), measured("mlxtrace loop", 1, 36.0)]
    item = targets.reached(rows, {})[1]
    assert item["target"] == "24 tokens, over `loop`" and item["found"] == 36 / 2.5 and item["met"]
    assert item["by_threads"] == {2: 16.0, 1: 9.0}
    found = {
        "machine": {"threads": 2},
        "rows": [r.to_dict() for r in rows],
        "resources": {},
        "targets": [item],
    }
    said = tables.tables(json.loads(json.dumps(found)))
    assert "| 24 tokens, over `loop` | 12 | 14.4 | 16 | 9 | met |" in said
    assert "| 24 tokens, `resid_post` | 288 | 2.5 / 4 |  | 40 / 36 |  |  |" in said
    # over 1 + 2 and over 1 + 2 / 2; loop over ours, over arithmetic; 6 + 12 / 2 over it
    assert "| 24 tokens, `resid_post` | 1.00 + 2.00 | 0.833 | 1.25 | 14.4 | 18 | 6 |" in said


def test_a_target_that_was_not_measured_is_not_met():
    assert all(item["found"] is None and not item["met"] for item in targets.reached([], {}))


@pytest.mark.heavy
def test_the_script_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.sweep", "--quick", "--no-peers", "--repeats", "1"]
    run = subprocess.run(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert {r["section"] for r in found["rows"]} == {"gpt2", "demo", "layers", "positions", "samples"}
    assert all(np.isfinite(r["seconds"]) and r["floor"] > 0 for r in found["rows"])
    assert found["resources"]["memory"] and found["resources"]["tracing"]["bare"] > 0
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.heavy
def test_sets_are_compared_in_turn():
    row = sets.compare("demo", *sets.demo_pairs(3), "resid_post", repeats=1)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:2] == ["demo, `resid_post`", "3"] and float(cells[-1]) < 1e-4


def test_screens_are_compared_with_both_exact_sweeps():
    row = screening.compare(models.GPT2_TOY, cells=60, passes=5, repeats=1)
    assert (
        row["cells"] == 192 * (2 * 11 + 1) and row["off"] < 5e-4
    )  # of the last layer the last position alone
    assert row["sweep / screen"] > 0 and row["loop / screen"] > 0 and "gpt2-toy" in screening.table([row])


def test_edges_agree_with_two_traces_each(capsys):
    from benchmarks import edges

    shape = models.GPT2_TOY
    case = cases.different(shape, 6)
    bench = edges.Edges(
        InterpretableModel(models.mlx_model(shape, models.draw(shape))), case.clean, case.corrupted
    )
    edges.compare("toy", bench, 30, 4)  # raises where the two differ
    said = capsys.readouterr().out
    assert "172 edges" in said and "in CPU time" in said
    assert len(bench.sampled(30, 0)) < len(bench.sampled(0, 0)) == len(bench.places)


def test_whole_answers_and_text_agree_with_the_textbook():
    from benchmarks import answers

    rows = answers.rows_of(models.GPT2_TOY, tokens=4, sample=4, repeats=1)  # raises where they differ
    assert len(rows) == 2 and "36 cells" in rows[0] and "same tokens" in rows[1]
