"""Spans: every number is that of a patch that lists of positions make as well; what a long map takes is said before."""

from __future__ import annotations

import warnings

import models
import numpy as np
import pytest

from mlxtrace import (
    CausalTrace,
    GaussianNoise,
    InterpretableModel,
    PatchingResult,
    compiled,
    errors,
    interactive,
    patch,
    plotting,
    prompts,
    report,
    spans,
)
from mlxtrace.arguments import ends_of
from mlxtrace.experiments import long_prompts
from mlxtrace.experiments.long_prompts import Rows, choose
from mlxtrace.experiments.sweeps import Outcome
from mlxtrace.pages.reproduction import python_lines

IDS = [(7 * i + 3) % 150 for i in range(21)]
OTHER = [*IDS[:5], 11, *IDS[6:9], 140, *IDS[10:]]
TEXT = "A tower is a thing to see. The Eiffel Tower is in the city of"


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.fixture(scope="module")
def found(demo):
    """A map of spans of the demo, of a prompt with a text before what differs."""
    texts = [
        f"A tower is a thing to see. The {name} is in the city of" for name in ("Eiffel Tower", "Colosseum")
    ]
    return demo.activation_patching(
        *texts, component=["resid_post", "mlp"], positions=spans(4), progress=False
    )


def positions(label):
    first, last = ends_of(label)
    return list(range(first, last + 1))


def words(text):
    return " ".join(text.replace("<br>", " ").split())


def agrees(model, result, *given, **options):
    """Every row is what the same positions give by themselves, or all tokens at once."""
    each = model.activation_patching(*given, positions="each", progress=False, **options)
    axis = result.dims.index("position")
    for i, label in enumerate(result.coords["position"]):
        if isinstance(label, int):
            other = each.raw.take(each.coords["position"].index(label), axis)
        else:
            other = model.activation_patching(
                *given, positions=positions(label), progress=False, **options
            ).raw
        np.testing.assert_allclose(result.raw.take(i, axis), other, atol=5e-5, rtol=0)  # logits in float32


@pytest.mark.parametrize(
    "options",
    [
        {"component": ["mlp", "resid_pre"], "window": {"mlp": 2}, "metric": ["logit_diff", "kl"]},
        {"component": "head", "direction": "noise", "metric": "logit_diff"},
        {"component": "pattern", "metric": "logprob"},
        {"component": "k", "heads": [1], "metric": "l2", "engine": "flat"},
        {"component": "neuron", "neurons": [2, 5], "metric": "logit"},
    ],
    ids=lambda options: str(options["component"]),
)
def test_every_row_is_a_patch_of_its_own(llama, options):
    result = llama.activation_patching(IDS, OTHER, positions=spans(6), progress=False, **options)
    labels = result.coords["position"]
    assert {"0-4", "5-10", "11-16", "17-20"} <= set(labels) and len(labels) > 4
    assert all(p in labels for label in result.settings["spans"]["refined"] for p in positions(label))
    agrees(llama, result, IDS, OTHER, **options)


def test_refining_all_has_every_token(llama):
    result = llama.activation_patching(
        IDS, OTHER, "resid_post", positions=spans(4, 1e-6), metric="l2", progress=False
    )
    each = llama.activation_patching(IDS, OTHER, "resid_post", positions="each", metric="l2", progress=False)
    for p in range(5, 21):
        np.testing.assert_allclose(result.sel(position=p), each.sel(position=p), atol=1e-6)
    whole = llama.activation_patching(
        IDS, OTHER, "resid_post", positions=spans(4, None), metric="l2", progress=False
    )
    assert whole.coords["position"] == ["0-4", "5-8", "9-12", "13-16", "17-20"]
    assert "refine=None" in whole.notes[0] and whole.plan.cells == 15


def test_of_noise_and_of_answers_of_several_tokens(demo):
    noise = GaussianNoise("Eiffel Tower", samples=2)
    for options in ({}, {"target": " Paris is", "metric": "logprob"}):
        given = TEXT, noise
        result = demo.activation_patching(
            *given, component="attn", positions=spans(5), progress=False, **options
        )
        assert result.settings["spans"]["refined"]
        agrees(demo, result, *given, component="attn", **options)


def test_a_set_has_the_same_rows_for_all(demo):
    ids = [[first, *IDS[1:9]] for first in (IDS[0], 60)]
    given = list(zip(ids, [[*x[:6], 99, *x[7:]] for x in ids], strict=True))
    options = {"component": "mlp", "metric": "kl", "progress": False}
    made = demo.activation_patching(*map(list, zip(*given, strict=True)), positions=spans(2), **options)
    assert made.coords["position"][0] == "0-5" and made.ids == ["0", "1"]
    for single, pair in zip(made.singles, given, strict=True):
        alone = demo.activation_patching(*pair, positions="each", **options)
        at = [p for p in made.coords["position"] if isinstance(p, int)]
        rows = [made.coords["position"].index(p) for p in at]
        np.testing.assert_allclose(single.raw[:, rows], alone.raw[:, at], atol=5e-5)
        assert single.corrupted == pytest.approx(alone.corrupted, rel=1e-4)
    with pytest.raises(errors.InputError, match="one length"):
        demo.activation_patching(
            [ids[0], ids[0] + [4]], [ids[1], ids[1] + [4]], positions=spans(2), progress=False
        )


@pytest.mark.parametrize(
    "options", [{"severed": "attn", "samples": 1}, {"kind": "mlp", "window": 3}], ids=str
)
def test_a_trace(demo, options, tmp_path):
    given = {"samples": 2, "progress": False, **options}
    trace = demo.causal_trace(TEXT, "Eiffel Tower", positions=spans(4), **given)
    each = demo.causal_trace(TEXT, "Eiffel Tower", **given)
    assert trace.positions[0] == "0-11" and any(isinstance(p, int) for p in trace.positions)
    for i, p in enumerate(trace.positions):
        if isinstance(p, int):
            np.testing.assert_allclose(trace.raw[i], each.raw[p], atol=1e-5)  # logits round in 5e-6
    again = CausalTrace.load(trace.save(tmp_path / "trace.npz"))
    assert again.positions == trace.positions and repr(again) == repr(trace)
    assert {row["width"] for row in trace.to_rows()} >= {1, 4, 12}
    assert "together" in repr(trace) and "together" in trace._repr_html_()
    assert any(
        "joint effect" in text.get_text() for text in trace.plot().findobj(lambda x: hasattr(x, "get_text"))
    )
    assert "joint effect" in words(interactive.trace(trace).to_json())


@pytest.mark.parametrize("program", [compiled.lookup, compiled.induction])
def test_known_answers(program):
    """In a program that was written into weights every refined cell is what the map of each token says."""
    made = program()
    pair, model = made.pairs[0], InterpretableModel(made)
    options = {"component": ["resid_post", "mlp", "attn"], "metric": "logit_diff"}
    result = model.activation_patching(pair, positions=spans(3), progress=False, **options)
    assert result.settings["spans"]["refined"]
    agrees(model, result, pair, **options)


def outcome(values, base, source):
    return Outcome(np.array(values, float)[None, :, None], np.array([[base]]), np.array([[source]]), None)


def test_what_is_refined():
    groups = [[0, 1], [2, 3], [4, 5], [6]]
    rows = Rows(spans(2), groups, 0)
    values = [1.0, 0.3, -0.3, 0.9, 0.0, 0.02, 0.05, 0.06]  # by component, then span
    found = choose(rows, [outcome(values, 0.0, 1.0)], (2, 1, 4, 1))
    assert found.chosen == (
        0,
        1,
        2,
    )  # both signs; 0.02 of 0.06 by the second component; one token is as fine as it gets
    assert found.labels == ["0-1", 0, 1, "2-3", 2, 3, "4-5", 4, 5, 6]
    assert found.order == [0, 4, 5, 1, 6, 7, 2, 8, 9, 3]
    below = choose(rows, [outcome([1.0, 0.3, -0.2, 0, 0, 0, 0, 0], 0.0, 1.0)], (2, 1, 4, 1))
    assert below.chosen == (0, 1)
    nothing = choose(rows, [outcome([1e-5] * 8, 0.0, 1.0)], (2, 1, 4, 1))
    assert nothing.chosen == ()  # rounding is the largest of nothing
    heads = choose(rows, [outcome([0.5, 0.5, 0.7, 0.4, 0.5, 0.5, 0.5, 0.5], 0.5, 1.0)], (1, 1, 4, 2))
    assert heads.chosen == (1,)
    both = [outcome([1, 0.4, 0, 0], 0.0, 1.0), outcome([1, -0.4, 0, 0], 0.0, 1.0)]
    assert choose(rows, both, (1, 1, 4, 1)).chosen == (0, 1)  # pairs that go either way do not cancel


def test_what_a_result_says(found, demo, tmp_path):
    assert found.dims == ("component", "layer", "position") and found.coords["position"][0] == "0-11"
    assert found.settings["spans"]["width"] == 4 and "spans of 4" in repr(found)
    assert (
        "not the sum" in found.notes[0]
        and found.notes[0] in repr(found)
        and "not the sum" in found._repr_html_()
    )
    rows = found.to_rows()
    assert [row["width"] for row in rows[:3]] == [12, 4, 1] and rows[1]["token"].count("…") == 1
    assert found.sel(component="mlp", position="12-15").shape == (12,)
    again = PatchingResult.load(found.save(tmp_path / "spans.npz"))
    assert again.coords == found.coords and repr(again) == repr(found)
    figure = found.plot(rows=[13, -1])
    said = " ".join(text.get_text() for text in figure.findobj(lambda x: hasattr(x, "get_text")))
    assert "joint effect" in " ".join(said.split()) and "12-15" not in said
    assert "joint effect" in words(interactive.recoveries(found).to_json())
    lines = python_lines([found])
    assert "positions=mlxtrace.spans(4, refine=0.25)" in lines[-2]
    assert report(found, tmp_path / "page.html").exists()


def test_what_two_results_share(found, demo):
    texts = found.clean_text, found.corrupted_text
    options = {"component": ["resid_post", "mlp"], "progress": False}
    each = demo.activation_patching(*texts, positions="each", **options)
    less = found - each
    assert set(less.coords["position"]) == {p for p in found.coords["position"] if isinstance(p, int)}
    assert np.abs(less.recovery).max() < 1e-4 and "left out" in less.notes[0]
    wide = demo.activation_patching(*texts, positions=spans(4, None), **options)
    assert (wide - found).coords["position"] == wide.coords["position"]
    assert "joint effect" in words(interactive.differences(wide - found).to_json())
    assert plotting.compare([found, wide, each], labels=["a", "b", "c"]).axes


def test_prompts_of_two_lengths(llama):
    """Spans are runs of positions that both prompts have; nothing before the difference is paired."""
    other = [*OTHER[:3], 9, *OTHER[3:5], 3, *IDS[6:]]
    options = {"component": "resid_pre", "metric": "kl", "align": "ends"}
    result = llama.activation_patching(IDS, other, positions=spans(6), progress=False, **options)
    first = ends_of(result.coords["position"][0])[0]
    assert first == 5 and ends_of(result.coords["position"][-1])[1] == 20
    agrees(llama, result, IDS, other, **options)


def test_spans_of_a_set_begin_where_any_pair_differs(llama):
    later = [*IDS[:8], 140, *IDS[9:]]
    for corrupted in ([later, OTHER], [OTHER, later]):
        result = llama.activation_patching(
            [IDS, IDS], corrupted, layers=[0], positions=spans(8, refine=None), progress=False
        )
        assert result.coords["position"] == ["0-4", "5-12", "13-20"]


def test_two_models_may_differ_anywhere(llama):
    other = InterpretableModel(models.make("llama", seed=1))
    options = {"component": "resid_pre", "metric": "kl", "source_model": other, "progress": False}
    result = llama.activation_patching(IDS, OTHER, positions=spans(8, None), **options)
    assert result.coords["position"] == ["0-7", "8-15", "16-20"]


def test_each_metric_refines():
    rows = Rows(spans(2), [[0, 1], [2, 3], [4, 5]], 0)
    values = np.array([[1.0, 0.1, 0.0], [0.0, 0.1, 4.0]])[:, :, None]
    made = Outcome(values, np.zeros((2, 1)), np.ones((2, 1)), None)
    assert choose(rows, [made], (1, 1, 3, 1)).chosen == (0, 2)


# ---- what is refused


@pytest.mark.parametrize("width", [0, 1, True, "32", 2.0, None, -3])
def test_widths_that_mean_nothing(width):
    with pytest.raises(errors.InputError, match="width of spans"):
        spans(width)


@pytest.mark.parametrize("share", [0, 25, True, "all", -0.1, float("nan")])
def test_shares_that_mean_nothing(share):
    with pytest.raises(errors.InputError, match="share of the largest effect"):
        spans(32, refine=share)


def test_spans_that_cannot_be(llama, tmp_path):
    with pytest.raises(errors.InputError, match="the prompt has 21 tokens"):
        llama.activation_patching(IDS, OTHER, positions=spans(22))
    for typed in ("spans", "spans(32)", "spans:32"):
        with pytest.raises(errors.InputError, match=r"positions=spans\(32\), after"):
            llama.activation_patching(IDS, OTHER, positions=typed)
    for run in (llama.activation_patching, llama.causal_effects, llama.path_patching, llama.screen):
        with pytest.raises(errors.InputError, match="needs a width"):
            run(IDS, OTHER, positions=spans)
    for run in (llama.causal_effects, llama.attribution_patching, llama.screen, llama.path_patching):
        with pytest.raises(errors.InputError, match="activation_patching and causal_trace alone"):
            run(IDS, OTHER, positions=spans(4))
    with pytest.raises(errors.InputError, match="batches"):
        prompts.run(llama, [prompts.Pair(IDS, OTHER)], out=tmp_path / "out", positions=spans(4))
    with pytest.raises(errors.InputError, match="both models"):
        llama.compare_bits(IDS, [5], 8, positions=spans(4))


# ---- what a long map takes


@pytest.fixture
def long(monkeypatch):
    """As if any map of ten tokens took long."""
    monkeypatch.setattr(long_prompts, "LONG", 0.0)
    for name in ("experiments.long_prompts", "experiments.activation_patching"):
        monkeypatch.setattr(f"mlxtrace.{name}.MANY", 10)
    monkeypatch.setattr(long_prompts, "_announced", {})


def warned(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [w for w in caught if issubclass(w.category, errors.LongRunWarning)]


def test_a_long_map_is_announced_before_it_runs(llama, long, monkeypatch):
    def run(*_):
        raise RuntimeError("it runs")

    monkeypatch.setattr("mlxtrace.engine.sweep.Sweep.run", run)
    announced = pytest.warns(
        errors.LongRunWarning, match=r"21 positions are 63 cells in 1 passes: .*positions=spans.32"
    )
    with announced as caught, pytest.raises(RuntimeError, match="it runs"):
        llama.activation_patching(IDS, OTHER, positions="each", progress=False)
    assert caught[0].filename == __file__
    with pytest.warns(errors.LongRunWarning, match="21 positions are"):
        llama.activation_patching(IDS, OTHER, positions="each", plan_only=True)
    with pytest.warns(errors.LongRunWarning, match="matters$"):  # a trace cannot be screened
        llama.causal_trace(IDS, [5], plan_only=True)
    assert not warned(lambda: llama.activation_patching(IDS, OTHER, positions=spans(4), plan_only=True))
    assert not warned(lambda: llama.activation_patching(IDS, OTHER, plan_only=True))


def test_it_is_said_once_in_a_loop(llama, long):
    def loop():
        for component in ("mlp", "attn", "resid_post"):
            llama.activation_patching(IDS, OTHER, component, positions="each", plan_only=True)

    assert len(warned(loop)) == 1
    assert not warned(loop)
    other = warned(lambda: llama.activation_patching(IDS, OTHER, positions="each", plan_only=True))
    assert len(other) == 1


def test_the_plan_of_spans_says_what_refining_takes(llama):
    plan = llama.activation_patching(IDS, OTHER, positions=spans(4), plan_only=True)
    assert "5 spans alone: each that is refined takes up to 12 cells more" in str(plan)


# ---- the command

CLEAN, CORRUPTED = (f"A tower is a thing to see. The {name} is in" for name in ("Eiffel Tower", "Colosseum"))
GIVEN = ["--clean", CLEAN, "--corrupted", CORRUPTED, "--component", "mlp"]


def test_the_command_says_it_before_it_runs(long, monkeypatch, capsys):
    def run(*_):
        said.append(capsys.readouterr().err)
        raise RuntimeError("it runs")

    said = []
    monkeypatch.setattr("mlxtrace.engine.sweep.Sweep.run", run)
    assert patch.main([*GIVEN, "--positions", "each"]) == 1
    assert "--positions spans:32 patches" in said[0] and "--screen ranks" in said[0]


def test_the_command_takes_spans(capsys):
    assert patch.main([*GIVEN, "--positions", "spans:4", "--quiet"]) == 0
    assert "12-15" in capsys.readouterr().out
    assert patch.main([*GIVEN, "--positions", "spans:400", "--quiet"]) == 2
    assert "--positions spans:400: the prompt has" in capsys.readouterr().err
