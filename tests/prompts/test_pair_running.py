"""Runs over pairs: files, numbers, what is resumed, and averages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pair_runs import MISSING, OTHER, PAIRS, QUICK, model, names, of, out, same, times, whole  # noqa: F401

import mlxtrace
from mlxtrace import GaussianNoise, prompts
from mlxtrace.errors import EffectError, EngineError, InputError, LoadError
from mlxtrace.prompts import pair_calls, pair_running
from mlxtrace.results.average_trace import AverageTrace
from mlxtrace.results.patching_set import PatchingSet

pytestmark = pytest.mark.usefixtures("undrawn")  # but what fixtures of a module make is drawn

IDS = ["0000", "0001", "0002", "0004", "0005"]


def test_a_run_leaves_a_file_for_each_pair(model, whole):
    assert names(whole) == sorted([f"{id}.npz" for id in IDS] + [f"{MISSING}.skipped.json"])
    tails = (".npz", ".csv", ".txt", ".png")
    assert {path.name for path in whole.iterdir()} == {
        "pairs",
        "settings.json",
        *(f"average{t}" for t in tails),
    }
    average = PatchingSet.load(whole / "average.npz")
    assert average.ids == IDS and (whole / "average.txt").read_text() == f"{average}\n"
    assert [note for note in average.notes if "1 of 6 pairs left out: 0003 (" in note and "nowhere" in note]
    single = mlxtrace.PatchingResult.load(whole / "pairs" / "0001.npz")
    told = single.settings
    assert told["pair"]["subject"] == "Colosseum" and told["experiment"] == "activation_patching"
    assert told["layers"] == [0, 6] and told["metric"] == "prob" and told["direction"] == "denoise"
    assert {"mlxtrace", "mlx", "mlx-lm", "numpy", "python"} <= set(told["versions"])
    assert told["hash"] == json.loads((whole / "settings.json").read_text())["hash"]


def test_its_numbers_are_those_of_single_calls_and_of_one_list(model, whole):
    average = PatchingSet.load(whole / "average.npz")
    good = [pair for pair in PAIRS if pair.subject != "nowhere"]
    joint = model.activation_patching(good, **QUICK)
    np.testing.assert_allclose(average.per_pair, joint.per_pair, atol=1e-5)
    np.testing.assert_allclose(average.recovery, joint.recovery, atol=1e-3)
    np.testing.assert_allclose(average.interval, joint.interval, atol=1e-3)
    for pair, values in zip(good, average.per_pair, strict=True):
        alone = model.activation_patching(pair, **QUICK)
        np.testing.assert_allclose(values, alone.raw, atol=1e-5)


def test_a_finished_run_is_not_run_again(model, whole, monkeypatch):
    monkeypatch.setitem(
        pair_calls.CALLS, "activation_patching", lambda *_: pytest.fail("this was done before")
    )
    before = times(whole)
    again = prompts.run(model, PAIRS, out=whole, **{**QUICK, "engine": "flat", "max_memory": 10**9})
    np.testing.assert_array_equal(again.per_pair, PatchingSet.load(whole / "average.npz").per_pair)
    assert before == times(whole)


def test_damaged_missing_and_foreign_files_are_made_again(model, whole, out):
    files = out / "pairs"
    cut, gone, another, joint = (files / f"{id}.npz" for id in ("0000", "0001", "0002", "0004"))
    cut.write_bytes(cut.read_bytes()[:900])
    gone.unlink()
    shutil.copy(files / "0005.npz", another)  # of another pair
    prompts.run(model, PAIRS[4:5], out=out.parent / "one", **QUICK)
    shutil.copy(out.parent / "one" / "average.npz", joint)  # a set of one
    (files / f"{MISSING}.skipped.json").write_text('{"id": "0003", "prompt": "", "why": "no"}')
    kept = times(out)["0005.npz"]
    prompts.run(model, PAIRS, out=out, **QUICK)
    same(out, whole)
    assert times(out)["0005.npz"] == kept
    shutil.copy(out.parent / "one" / "pairs" / "0000.npz", files / "0000.npz")  # of other settings
    with pytest.raises(InputError, match="made with other settings"):
        prompts.run(model, PAIRS, out=out, **QUICK)
    with pytest.raises(InputError, match="made with other settings"):
        prompts.averages(out)


def test_a_pair_that_was_skipped_is_not_averaged(model, out):
    """Whatever result lies beside the record."""
    shutil.copy(out / "pairs" / "0003.skipped.json", out / "record")
    (out / "pairs" / "0003.skipped.json").unlink()
    readable = [replace(pair, subject=None) if pair.subject == "nowhere" else pair for pair in PAIRS]
    other = out.parent / "readable"
    prompts.run(model, readable, out=other, **QUICK)
    result = mlxtrace.PatchingResult.load(other / "pairs" / "0003.npz")
    result.settings |= {"hash": json.loads((out / "settings.json").read_text())["hash"]}
    result.save(out / "pairs" / "0003.npz")
    assert MISSING in prompts.averages(out).ids
    shutil.copy(out / "record", out / "pairs" / "0003.skipped.json")
    assert prompts.averages(out).ids == IDS == prompts.run(model, PAIRS, out=out, **QUICK).ids


def test_links_out_of_the_folder_are_not_written_through(model, whole, out, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("average.csv", "pairs/0001.npz"):
        (out / name).unlink()
        (out / name).symlink_to(victim)
    prompts.run(model, PAIRS, out=out, **QUICK)
    assert victim.read_text() == "precious" and not (out / "pairs" / "0001.npz").is_symlink()
    shutil.rmtree(out / "pairs")
    (tmp_path / "elsewhere").mkdir()
    (out / "pairs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of the folder"):
        prompts.run(model, PAIRS, out=out, **QUICK)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_lost_settings_are_written_again(model, whole, out):
    (out / "settings.json").write_text("{")
    with pytest.raises(LoadError, match="not a folder of results"):
        prompts.averages(out)
    with pytest.raises(InputError, match="results of other settings, such as 0000"):
        prompts.run(model, PAIRS, out=out, **{**QUICK, "window": 2})
    prompts.run(model, PAIRS, out=out, **QUICK)
    same(out, whole)


def test_what_is_missing_is_made_again_beside_the_same_pairs(model, out, monkeypatch):
    """So that rows round as they did: the numbers of a pair do not depend on where a run was stopped."""
    call, asked = pair_calls.CALLS["activation_patching"], []

    def recorded(model, pairs, options):
        asked.append([pair.id for pair in pairs])
        return call(model, pairs, options)

    monkeypatch.setitem(pair_calls.CALLS, "activation_patching", recorded)
    alike = [replace(PAIRS[0], target=target) for target in (" Paris", " Rome", " New", " London")]
    prompts.run(model, alike, out=out.parent / "alike", **QUICK)
    before = times(out.parent / "alike")
    (out.parent / "alike" / "pairs" / "0002.npz").unlink()
    prompts.run(model, alike, out=out.parent / "alike", **QUICK)
    assert asked == [["0000", "0001", "0002", "0003"]] * 2
    changed = {name for name, when in times(out.parent / "alike").items() if before[name] != when}
    assert changed == {"0002.npz"}


def test_limits_may_grow(model, whole, tmp_path):
    first = prompts.run(model, PAIRS, out=tmp_path / "out", limit=2, **QUICK)
    assert first.ids == ["0000", "0001"]
    before = times(tmp_path / "out")
    assert prompts.averages(tmp_path / "out").ids == first.ids
    assert "4 of 6 pairs have no result yet" in str(prompts.averages(tmp_path / "out"))
    rest = prompts.run(model, PAIRS, out=tmp_path / "out", limit=10, **QUICK)
    assert rest.ids == IDS and before.items() <= times(tmp_path / "out").items()
    np.testing.assert_allclose(rest.per_pair, PatchingSet.load(whole / "average.npz").per_pair, atol=1e-5)


def test_what_is_wrong_with_the_run_and_not_with_a_pair_stops_it(model, whole, out, monkeypatch):
    """It is not written down as a reason to leave pairs out, whatever was done before."""
    (out / "pairs" / "0001.npz").unlink()
    (out / "pairs" / "0003.skipped.json").unlink()
    for option in ({"engine": "steam"}, {"max_memory": 10}):
        with pytest.raises(InputError, match=next(iter(option)).partition("_")[2] or "engine"):
            prompts.run(model, PAIRS, out=out, **QUICK, **option)

    def broken(model, pairs, options):
        raise EngineError("2 cells of the sweep have no value")

    monkeypatch.setitem(pair_calls.CALLS, "activation_patching", broken)
    with pytest.raises(EngineError, match=r"pair 0000: 2 cells"):
        prompts.run(model, PAIRS, out=out, **QUICK)
    assert "0003.skipped.json" not in names(out)
    monkeypatch.undo()
    prompts.run(model, PAIRS, out=out, **QUICK)
    same(out, whole)


def test_one_pair_prompts_with_noise_and_awkward_ids(model, tmp_path):
    alone = prompts.run(model, PAIRS[0], out=tmp_path / "one", **QUICK)
    assert alone.ids == ["0000"] and np.isnan(alone.interval).all()
    ids = ["a/b", "..", "A", "a", "", "x" * 300, "\ud800", "é"]
    few = [replace(PAIRS[0], id=id) for id in ids]
    done = prompts.run(model, few, out=tmp_path / "ids", **{**QUICK, "layers": 0})
    assert done.ids == [*ids[:4], "0004", *ids[5:]] and len(names(tmp_path / "ids")) == len(ids)
    assert prompts.averages(tmp_path / "ids").ids == done.ids
    assert [note for note in done.notes if "7 of 8 pairs are copies" in note]
    noise = GaussianNoise(subject=range(1, 3), samples=2)
    noised = prompts.run(
        model, ["The Louvre is in", PAIRS[0].clean], out=tmp_path / "noise", corrupted=noise, component="mlp",
        progress=False,
    )  # fmt: skip
    one = model.activation_patching("The Louvre is in", noise, component="mlp", progress=False)
    np.testing.assert_allclose(noised.singles[0].raw, one.raw, atol=1e-5)


def test_each_position_of_prompts_of_one_length(model, tmp_path):
    """Pairs that do not line up are left out, whatever their lengths."""
    pairs = [
        replace(PAIRS[0], corrupted=PAIRS[0].clean.replace("city", place)) for place in ("country", "land")
    ]
    assert len({len(model.prompt(text)) for pair in pairs for text in (pair.clean, pair.corrupted)}) == 1
    options = {**QUICK, "align": "strict", "positions": "each"}
    result = prompts.run(model, [*pairs, PAIRS[4]], out=tmp_path / "out", **options)
    assert result.dims == ("layer", "position") and result.ids == ["0000", "0001"]
    assert [note for note in result.notes if "1 of 3 pairs left out: 0002 (" in note]


def test_a_gap_that_is_small_in_one_pair_counts_and_is_named(model, tmp_path):
    """Neither a batch nor a pair is refused where the whole set has a gap."""
    paris = model.answer_token(" Paris")

    def says_paris(logits):
        return (logits.argmax(-1) == paris).astype(float)

    hello = [prompts.Pair(f"Hello {word}", f"Goodbye {word}") for word in ("you", "him")]
    options = {**QUICK, "layers": 0, "metric": says_paris}
    result = prompts.run(model, [*hello, PAIRS[0], PAIRS[2]], out=tmp_path / "out", **options)
    assert result.ids == ["0000", "0001", "0002", "0003"] and result.small_gaps == ["0000", "0001"]
    with pytest.raises(EffectError, match="over the 2 pairs"):
        prompts.run(model, hello, out=tmp_path / "nothing", **options)


def by_code(tmp_path, body):
    """A metric as another process would define it."""
    source = tmp_path / "metric.py"
    source.write_text(f"def metric(logits):\n    return {body}\n")
    space = {}
    exec(compile(source.read_text(), str(source), "exec"), space)
    return space["metric"]


def test_functions_are_known_by_their_code(model, tmp_path):
    few, options = PAIRS[:2], {**QUICK, "layers": 0}
    for body in ("logits[:, 5]", "logits[:, 5]"):
        prompts.run(model, few, out=tmp_path / "out", metric=by_code(tmp_path, body), **options)
    with pytest.raises(InputError, match="metric is 'metric "):
        prompts.run(model, few, out=tmp_path / "out", metric=by_code(tmp_path, "logits[:, 6]"), **options)


def test_traces_are_averaged_by_role(model, tmp_path):
    pairs = [replace(pair, corrupted=None) for pair in PAIRS[:4]]
    options = {"samples": 2, "progress": False}
    average = prompts.run(model, pairs, "causal_trace", tmp_path / "out", **options)
    assert isinstance(average, AverageTrace) and average.ids == ["0000", "0001", "0002"]
    assert [record["id"] for record in average.skipped] == [MISSING] and "0003" in repr(average)
    assert (tmp_path / "out" / "average_lines.png").exists()
    subjects = [pair.subject for pair in pairs]
    alone = model.causal_trace(pairs[1].clean, "Colosseum", subjects=subjects, **options)
    kept = mlxtrace.CausalTrace.load(tmp_path / "out" / "pairs" / "0001.npz")
    np.testing.assert_allclose(kept.raw, alone.raw, atol=1e-6)
    assert kept.notes == alone.notes and kept.settings["noise"] == "s3"
    with pytest.raises(InputError, match="roles of all tokens"):
        prompts.run(model, pairs, "causal_trace", tmp_path / "other", positions="last", **options)


def test_effects_and_noising_windows(model, tmp_path):
    pairs, layers = PAIRS[:4], {"layers": [0, 6]}
    options = {**layers, "component": "mlp", "metric": "logit_diff", "align": "ends", "positions": "regions"}
    effects = prompts.run(model, pairs, "causal_effects", tmp_path / "effects", progress=False, **options)
    good = [*pairs[:3]]
    joint = model.causal_effects(good, progress=False, **options)
    assert type(effects) is type(joint) and effects.ids == ["0000", "0001", "0002"]
    for name in ("direct", "indirect", "direct_interval"):
        np.testing.assert_allclose(getattr(effects, name), getattr(joint, name), atol=1e-4)
    windows = prompts.run(model, pairs, "noising_window", tmp_path / "windows", progress=False, **layers)
    alone = [model.noising_window(pair.clean, **layers) for pair in good]
    assert type(windows).__name__ == "NoisingWindowSet" and [n for n in windows.notes if "0003 (" in n]
    np.testing.assert_allclose(windows.scores, np.mean([one.scores for one in alone], 0), atol=1e-6)
    for done, folder in ((effects, tmp_path / "effects"), (windows, tmp_path / "windows")):
        again = prompts.averages(folder)
        assert again.ids == done.ids and type(again).load(folder / "average.npz").ids == done.ids
        single = type(done.singles[0]).load(folder / "pairs" / "0001.npz")
        assert single.settings["pair"]["subject"] == "Colosseum" and single.settings["weights"]
        for name, array in done._arrays().items():
            np.testing.assert_array_equal(again._arrays()[name], array)


def test_pairs_by_name(model, tmp_path):
    prompts.save(PAIRS[:2], tmp_path / "pairs.jsonl")
    options = {**QUICK, "layers": 0}
    done = prompts.run(model, str(tmp_path / "pairs.jsonl"), out=tmp_path / "out", **options)
    again = prompts.run(model, prompts.load(tmp_path / "pairs.jsonl"), out=tmp_path / "out", **options)
    assert done.ids == again.ids and len(done.ids) == 2


def test_one_bar_counts_what_is_done(model, whole, out, capfd):
    (out / "pairs" / "0001.npz").unlink()
    prompts.run(model, PAIRS, out=out, **{**QUICK, "progress": True})
    lines = capfd.readouterr().err.replace("\r", "\n").split("\n")
    shown = [line for line in lines if "pair" in line]
    assert shown and not [line for line in lines if line.strip() and "pair" not in line]
    assert "5/6" in shown[0] and "6/6" in shown[-1]


def test_every_rank_returns_the_averages_and_the_first_writes_them(model, whole, out, monkeypatch):
    second = pair_running.Ranks()
    second.rank, second.size, second.total = 1, 2, lambda n: n
    monkeypatch.setattr(pair_running, "Ranks", lambda *_: second)
    for path in out.glob("average.*"):
        path.unlink()
    before = times(out)
    assert prompts.run(model, PAIRS, out=out, **QUICK).ids == IDS
    assert not list(out.glob("average.*")) and before == times(out)
