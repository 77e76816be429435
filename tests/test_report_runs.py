"""`--report`: what is run for a page beside what was asked, what is said of it, and what is refused before any work."""

# ruff: noqa: F811

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_runs import CLEAN, CORRUPTED, NOISE, PAIR, demo, empty_folder, loaded, refused, run, trained  # noqa: F401

from mlxtrace import GaussianNoise, options, rankings, report_runs
from mlxtrace.engine.runs import capture
from mlxtrace.errors import UnsupportedError
from mlxtrace.experiments.pairs import pair
from mlxtrace.metrics import softmax

pytestmark = trained
FEW = ["--layers", "4-5", "--quiet"]


@pytest.fixture
def written(monkeypatch):
    """The results of the page that is written, which is not made."""
    found = SimpleNamespace(results=[], about=None)

    def report(results, path, *, about):
        found.results, found.about = results, about
        return path

    monkeypatch.setattr(report_runs, "report", report)
    return found


def told(results):
    """Of each result its class, components, window, axis and direction."""
    return [
        (*one.components, one.window, one.dims[-1], one.direction)
        if hasattr(one, "components")
        else type(one).__name__
        for one in results
    ]


def words(*argv, settings):
    given = options.read([*argv, "--report", "x.html"])
    return [one.words for one in report_runs.further_runs(demo(), given, None, None, settings)]


# ---- what is run


def test_of_a_pair_maps_and_heads_in_both_directions(loaded, capsys, written):
    run(
        capsys,
        *PAIR,
        *FEW,
        "--component",
        "mlp",
        "--metric",
        "logit_diff",
        "--window",
        "2",
        "--report",
        "x.html",
    )
    assert told(written.results) == [
        ("mlp", 2, "layer", "denoise"),
        ("resid_post", 1, "position", "denoise"),
        ("mlp", "attn", 2, "position", "denoise"),
        ("head", 1, "head", "denoise"),
        ("resid_post", 1, "position", "noise"),
        ("mlp", "attn", 2, "position", "noise"),
        ("head", 1, "head", "noise"),
    ]
    assert all(one.metrics == ["logit_diff"] and one.coords["layer"] == [4, 5] for one in written.results)
    direct = demo().activation_patching(
        CLEAN, CORRUPTED, "head", [4, 5], metric="logit_diff", direction="noise"
    )
    np.testing.assert_array_equal(written.results[-1].raw, direct.raw)
    assert written.about.command.startswith("python -m mlxtrace.patch --clean 'The Eiffel Tower is located")
    assert written.about.weights == "float32, 12 layers of width 128, 8 heads" and not written.about.missing


def test_what_was_asked_is_not_run_again(loaded, capsys, written):
    asked = ["--component", "mlp,resid_post", "--positions", "each", "--direction", "noise"]
    run(capsys, *PAIR, *FEW, *asked, "--report", "x.html")
    assert told(written.results) == [
        ("resid_post", "mlp", 1, "position", "noise"),
        ("attn", 1, "position", "noise"),
        ("head", 1, "head", "noise"),
        ("resid_post", "mlp", "attn", 1, "position", "denoise"),
        ("head", 1, "head", "denoise"),
    ] or told(written.results)[0][:2] == ("mlp", "resid_post")
    run(capsys, *PAIR, *FEW, "--component", "head", "--report", "x.html")
    assert [one[:1] for one in told(written.results)].count(("head",)) == 2


def test_of_a_trace_the_other_kinds_and_the_same_noise_the_other_way(loaded, capsys, written):
    asked = [
        "--prompt",
        CLEAN,
        "--subject",
        "Eiffel Tower",
        "--noise",
        "s3",
        "--samples",
        "2",
        "--kind",
        "mlp",
    ]
    run(capsys, *asked, "--window", "3", "--quiet", "--report", "x.html")
    traces = [one for one in written.results if type(one).__name__ == "CausalTrace"]
    assert [(one.kind, one.window) for one in traces] == [("mlp", 3), (None, 1), ("attn", 3)]
    rest = [one for one in written.results if one not in traces]
    assert told(rest) == [
        ("head", 1, "head", "denoise"),
        ("resid_post", 1, "position", "noise"),
        ("mlp", "attn", 3, "position", "noise"),
        ("head", 1, "head", "noise"),
    ]
    for one in rest:
        assert one.clean == pytest.approx(traces[0].high_score, abs=2e-6)
        assert one.corrupted == pytest.approx(traces[0].low_score, abs=2e-6)


def test_of_pairs_maps_by_region(loaded, capsys, written):
    run(capsys, "--pairs", "facts", "--limit", "4", *FEW, "--component", "mlp", "--report", "x.html")
    assert {one[-2] for one in told(written.results)} == {"layer", "region", "head"}
    assert all(len(one.ids) == len(written.results[0].ids) > 1 for one in written.results)


def test_rankings_stand_beside_the_maps(loaded, capsys, written, monkeypatch):
    ranking = rankings.Ranking(SimpleNamespace(notes=[]), "", ("faithfulness", "curve"))
    monkeypatch.setattr(rankings, "run", lambda *_: ranking)
    run(capsys, "--edges", "eap", "--circuit", "9", "--quiet", "--report", "x.html")
    assert written.results[:3] == [ranking.result, *ranking.more] and len(written.results) == 7
    assert all(one.metrics == ["logit_diff"] for one in written.results[3:])
    assert told(written.results[3:])[0] == ("resid_post", "mlp", "attn", 1, "position", "denoise")


def test_facts_and_comparisons_stand_alone():
    assert words("--facts", "demo", "--out", "x", settings={}) == []
    asked = ["--prompt", CLEAN, "--subject", "Eiffel Tower", "--compare-bits", "4"]
    assert words(*asked, settings={}) == []


def test_without_the_option_nothing_is_run(loaded, capsys, written):
    run(capsys, *PAIR, *FEW)
    assert not written.results


def test_what_a_model_does_not_have_is_said(written):
    def refuse(**_):
        raise UnsupportedError("there are no heads")

    further = [report_runs.Further("heads, restoring", refuse)]
    args = options.read(["--report", "x.html"])
    report_runs.write(further, demo(), args, lambda _: None, ["a result"])
    assert written.results == ["a result"]
    assert written.about.missing == ["heads, restoring: there are no heads"]
    assert "heads, restoring\ncannot be run: there are no heads" in report_runs.planned(further, "the plan")
    settings = {"component": ["mlp"], "window": 1, "metric": ["prob"], "direction": "denoise"}
    model = SimpleNamespace(n_heads=None, activation_patching=None)
    found = report_runs.further_runs(model, args, None, None, settings)
    assert not [one for one in found if "heads" in one.words]


def test_the_likeliest_tokens_are_those_of_both_runs(loaded, capsys, written):
    run(capsys, *PAIR, *FEW, "--report", "x.html")
    clean, corrupted = written.about.tops
    assert clean[0][0] == " Paris" and corrupted[0][0] == " Rome" and len(clean) == 5
    logits, _ = demo().run_with_cache(CLEAN, sites=[])
    assert clean[0][1] == pytest.approx(softmax(np.array(logits)[0, -1]).max(), abs=2e-6)
    run(capsys, *NOISE, "--samples", "3", *FEW, "--report", "x.html")
    noised = pair(demo(), CLEAN, GaussianNoise("Eiffel Tower", "s3", 3)).corrupted
    each = softmax(capture(demo().resolver, (noised,), [])[0])
    assert len(each) == 3 and written.about.tops[1][0][1] == pytest.approx(each.mean(0).max(), abs=1e-12)
    assert written.results[0].clean == pytest.approx(written.about.tops[0][0][1], abs=2e-6)


# ---- what is said


def test_the_plan_has_all_that_would_run(loaded, capsys):
    out, _ = run(capsys, *PAIR, "--plan", "--report", "x.html")
    plans = out.split("for the report, ")
    assert len(plans) == 5 and all("cells" in plan and "passes" in plan for plan in plans)
    assert "heads, corrupting" in out and not Path("x.html").exists()
    alone, _ = run(capsys, *PAIR, "--plan")
    assert plans[0].rstrip() == alone.replace("nothing was run", "").rstrip()


def test_it_is_said_what_is_run_and_where_the_page_is(loaded, capsys):
    out, _ = run(capsys, *PAIR, "--layers", "4-5", "--component", "mlp", "--report", "x.html")
    assert "for the report: map of resid_post, mlp, attn, restoring; heads, restoring; map of" in out
    assert f"report: {Path('x.html').resolve()}" in out
    text = Path("x.html").read_text("utf-8")
    assert "--clean &#x27;The Eiffel" in text and "likeliest next tokens" in text
    assert text.count('class="side two"') == 4


# ---- what is refused


@pytest.mark.parametrize("name", ["x.png", "x", "missing/x.html", ""])
def test_a_place_for_no_page_is_refused_before_the_model_is_loaded(loaded, capsys, name):
    err = refused(capsys, [*PAIR, "--report", name])
    assert not loaded and re.search(r"\.html|folder|named", err)


@pytest.mark.parametrize("model", ["gpt2", "mamba"])
def test_weights_in_words_of_other_models(model):
    import models

    from mlxtrace import InterpretableModel

    said = report_runs.weights_of(InterpretableModel(models.make(model)))
    assert re.match(r"float32, \d+ layers of width \d+", said) and ("heads" in said) == (model == "gpt2")


def test_the_pair_is_the_one_that_was_asked():
    both = pair(demo(), CLEAN, CORRUPTED)
    args = options.read(["--report", "x.html"])
    settings = {"component": ["mlp"], "window": 1, "metric": ["prob"], "direction": "denoise", "layers": [5]}
    first = report_runs.further_runs(demo(), args, both, None, settings)[0]
    assert first.run(plan_only=True).cells == 3 * len(both.clean_prompt)
