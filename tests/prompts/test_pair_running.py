"""Runs over pairs: files, numbers, what is refused before anything is written, kills, resumption, two ranks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pair_runs import MISSING, OTHER, PAIRS, QUICK, model, names, of, out, same, times, whole  # noqa: F401

import mlxtrace
from mlxtrace import GaussianNoise, facts, prompts
from mlxtrace.errors import EffectError, EngineError, InputError, LoadError, MlxtraceError
from mlxtrace.prompts import pair_calls, pair_running
from mlxtrace.prompts.pair_lists import digest_of, named
from mlxtrace.prompts.pair_results import PairFolder
from mlxtrace.results.average_trace import AverageTrace
from mlxtrace.results.patching_set import PatchingSet

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": [0, 5]}, r"layers is \[0, 6\] there and \[0, 5\] here"),
        ({"component": "mlp"}, "component is 'resid_post' there and 'mlp' here"),
        ({"positions": "subject"}, "positions"),
        ({"direction": "noise"}, "direction"),
        ({"metric": "logit"}, "metric is 'prob' there"),
        ({"pairs": PAIRS[:5]}, "the pairs differ"),
        ({"pairs": [*PAIRS[:5], replace(PAIRS[5], target=" Paris")]}, "the pairs differ"),
        ({"pairs": [*PAIRS, of("Louvre")]}, "the pairs differ"),
    ],
)
def test_settings_are_not_mixed(model, whole, changes, says):
    before = times(whole)
    given = {"pairs": PAIRS, **QUICK, **changes}
    with pytest.raises(InputError, match=says):
        prompts.run(model, out=whole, **given)
    assert before == times(whole)


def test_first_tokens_and_whole_answers_are_not_mixed(model, tmp_path, monkeypatch):
    """A folder of before answers of several tokens were scored whole has their first tokens' scores."""
    one, several = replace(of("Colosseum"), target=" Rome"), replace(of("Eiffel Tower"), foil=" New York")
    with monkeypatch.context() as older:
        older.setattr(pair_running, "any_of_several", lambda *given: False)
        prompts.run(model, [one, replace(several, foil=None)], out=tmp_path / "one", **QUICK)
    told = {**begun(tmp_path / "one"), "pairs": digest_of(named([one, several]))}
    PairFolder(tmp_path / "two", told).begin()
    prompts.run(model, [one, replace(several, foil=None)], out=tmp_path / "one", **QUICK)  # goes on as ever
    with pytest.raises(
        InputError, match="is the first token of each answer alone there and all of each answer here"
    ):
        prompts.run(model, [one, several], out=tmp_path / "two", **QUICK)


def begun(folder):
    return json.loads((folder / "settings.json").read_text())["settings"]


def test_models_experiments_and_facts_are_not_mixed(model, whole, tmp_path, llama_folder):
    other = mlxtrace.InterpretableModel(llama_folder)
    with pytest.raises(InputError, match="the model's weights differ"):
        prompts.run(other, PAIRS, out=whole, **{**QUICK, "layers": [0, 6]})
    with pytest.raises(InputError, match="experiment is 'activation_patching' there and 'causal_trace' here"):
        prompts.run(model, PAIRS, "causal_trace", whole, progress=False)
    known, quick = facts.load()[:1], {"samples": 1, "kinds": (None,), "progress": False}
    average = facts.run(model, known, tmp_path / "facts", **quick)
    with pytest.raises(InputError, match="no folder of results of pairs"):
        prompts.run(model, PAIRS, out=tmp_path / "facts", **QUICK)
    with pytest.raises(InputError, match="no folder of traces of facts"):
        facts.run(model, known, whole, **quick)
    again = prompts.averages(tmp_path / "facts")
    np.testing.assert_array_equal(again.indirect_effect, average.indirect_effect)


NOTHING_WRITTEN = [
    ({"pairs": []}, "no pairs"),
    ({"pairs": "oio"}, "oio"),
    ({"pairs": 3}, "as prompts.load gives it"),
    ({"pairs": [{"clean": "x"}]}, "not a Pair"),
    ({"pairs": [replace(PAIRS[0], id="a"), replace(PAIRS[1], id="a")]}, "two pairs have the id 'a'"),
    ({"pairs": [PAIRS[0], replace(PAIRS[1], id="0000")]}, "two pairs have the id '0000'"),
    ({"pairs": [PAIRS[0], replace(PAIRS[1], id=3)]}, "an id is a text"),
    ({"pairs": [prompts.Pair("The Louvre is in")]}, "1 of 1 pairs have no corrupted prompt, such as 0000"),
    ({"pairs": [PAIRS[3]]}, "none of the pairs can be used, such as 0000: "),
    ({"experiment": "activation_patchin"}, "closest: activation_patching"),
    ({"experiment": "compare_bits"}, "unknown"),
    ({"out": None}, "name the folder"),
    ({"limit": 0}, "limit"),
    ({"componnt": "mlp"}, "has no option 'componnt'; closest: component"),
    ({"target": " Paris"}, "each pair has its own target"),
    ({"clean_text": "x"}, "each pair has its own clean_text"),
    ({"plot": True}, "average.png"),
    ({"plan_only": True}, "plan"),
    ({"component": "mpl"}, "mpl"),
    ({"component": "head", "heads": 99}, "head 99"),
    ({"layers": 99}, "layer 99 does not exist"),
    ({"metric": "probability"}, "probability"),
    ({"metric": []}, "no metric"),
    ({"direction": "up"}, "direction"),
    ({"align": "both"}, "align"),
    ({"window": 0}, "window"),
    ({"engine": "steam"}, "engine"),
    ({"max_memory": 10}, "memory"),
    ({"positions": 99}, "99"),
    ({"positions": "each"}, 'positions="each" needs pairs of one length, but these have'),
    ({"positions": "nowhere"}, "nowhere"),
    ({"corrupted": OTHER}, "has a corrupted prompt of its own"),
    ({"experiment": "causal_trace", "corrupted": GaussianNoise()}, "draws its own noise"),
]


@pytest.mark.parametrize(("changes", "says"), NOTHING_WRITTEN, ids=lambda x: x if isinstance(x, str) else "")
def test_what_means_nothing_is_refused_before_anything_is_written(model, tmp_path, changes, says):
    options = {} if "experiment" in changes else QUICK
    uncorrupted = [replace(pair, corrupted=None) for pair in PAIRS]
    pairs = uncorrupted if "corrupted" in changes and "experiment" in changes else PAIRS
    given = {"pairs": pairs, "out": tmp_path / "out", **options, **changes}
    with pytest.raises(MlxtraceError, match=says):
        prompts.run(model, **given)
    assert not list(tmp_path.iterdir())


def test_places_that_are_no_folder(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "", "a\0b"):
        with pytest.raises(InputError):
            prompts.run(model, PAIRS, out=place, **QUICK)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InputError, match="InterpretableModel"):
        prompts.run("demo", PAIRS, out=tmp_path / "out")
    with pytest.raises(LoadError):
        prompts.averages(tmp_path / "nothing")


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
    second = SimpleNamespace(rank=1, size=2, total=lambda n: n, wait=lambda: None)
    monkeypatch.setattr(pair_running, "Ranks", lambda group: second)
    for path in out.glob("average.*"):
        path.unlink()
    before = times(out)
    assert prompts.run(model, PAIRS, out=out, **QUICK).ids == IDS
    assert not list(out.glob("average.*")) and before == times(out)


# ---- killed

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
from mlxtrace import InterpretableModel, prompts
from mlxtrace.prompts import pair_running

out, write, victim = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rank, real, replace = os.environ.get("MLX_RANK", "0"), os.fsync, os.replace
pair_running.MOST = 2

def fsync(file):
    global write
    write -= 1
    if write == 0 and rank == victim:
        os.ftruncate(file, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)

def told(part, path):
    print("rank", rank, "wrote", os.path.basename(path), flush=True)
    replace(part, path)

os.fsync, os.replace = fsync, told
pairs = [prompts.Pair(**fields) for fields in {pairs!r}]
prompts.run(InterpretableModel("demo"), pairs, out=out, **{options!r})
print("rank", rank, "done", flush=True)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    fields = [{name: getattr(pair, name) for name in ("clean", "corrupted", "subject")} for pair in PAIRS]
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT.format(root=str(ROOT), pairs=fields, options=QUICK))
    return path


@pytest.fixture
def in_twos(monkeypatch):
    monkeypatch.setattr(pair_running, "MOST", 2)


@pytest.fixture
def uninterrupted(model, in_twos, tmp_path):
    prompts.run(model, PAIRS, out=tmp_path / "uninterrupted", **QUICK)
    return tmp_path / "uninterrupted"


def test_killed_in_mid_write_and_resumed_is_as_uninterrupted(model, script, uninterrupted, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, script, out, "3", "0"], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr  # in mid write of the second result
    assert len(names(out)) == 1 and (out / "settings.json").exists()
    before = times(out)
    prompts.run(model, PAIRS, out=out, **QUICK)
    assert {name: times(out)[name] for name in names(out) if name in before} == {
        name: when for name, when in before.items() if not name.endswith(".part")
    }
    same(out, uninterrupted)
    assert not [path for path in out.rglob("*.part")]


@pytest.mark.heavy
def test_killed_in_writing_the_settings(model, script, uninterrupted, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, script, out, "1", "0"], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not names(out) and not (out / "settings.json").exists()
    prompts.run(model, PAIRS, out=out, **QUICK)
    same(out, uninterrupted)
    assert not [path for path in out.rglob("*.part")]


@pytest.mark.heavy
def test_killed_at_twenty_random_moments(model, script, uninterrupted, tmp_path):
    out, rng, took = tmp_path / "out", random.Random(0), 0.0
    start = time.monotonic()
    subprocess.run([sys.executable, script, tmp_path / "timed", "0", "0"], check=True, capture_output=True)
    took, kept = time.monotonic() - start, set()
    for trial in range(20):
        if trial % 5 == 0:
            shutil.rmtree(out, ignore_errors=True)
            kept = set()
        child = subprocess.Popen([sys.executable, script, out, "0", "0"], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3 * took, took))
        child.send_signal(signal.SIGKILL)
        child.wait()
        there = set(names(out)) if (out / "pairs").exists() else set()
        assert kept <= there, "a file was lost"
        kept = there
        if trial % 5 == 4:
            prompts.run(model, PAIRS, out=out, **QUICK)
            same(out, uninterrupted)


# ---- two ranks


@pytest.fixture
def launch(script):
    """Two ranks on this machine, rank 1 dying in its n-th write (0: never); what they told."""
    program = Path(sys.executable).parent / "mlx.launch"
    if not program.exists():
        pytest.skip("mlx.launch is not installed beside this Python")

    def run(out, writes):
        port = str(20000 + (os.getpid() + 7) % 20000)
        command = [
            program,
            "-n",
            "2",
            "--backend",
            "ring",
            "--starting-port",
            port,
            "--python",
            sys.executable,
        ]
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # two ranks share this machine
        given = [script, out, writes, "1"]
        told = subprocess.run([*command, "--", *given], capture_output=True, text=True, timeout=300, env=env)
        return told.stdout + told.stderr

    return run


def written(told):
    return sorted(line.split("wrote ")[1].strip() for line in told.splitlines() if " wrote " in line)


@pytest.mark.heavy
def test_two_ranks_write_each_file_once(launch, uninterrupted, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "0")
    assert "rank 0 done" in told and "rank 1 done" in told, told
    assert written(told) == sorted(
        [*names(out), *(f"average{tail}" for tail in (".csv", ".npz", ".png", ".txt"))]
    )
    assert "rank 0 wrote 0" in told and "rank 1 wrote 0" in told
    same(out, uninterrupted)


@pytest.mark.heavy
def test_one_of_two_ranks_killed(launch, uninterrupted, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "2")  # rank 1 dies in its second write
    assert "rank 0 done" not in told and not (out / "average.npz").exists(), told
    kept = {name: when for name, when in times(out).items() if not name.endswith(".part")}
    assert kept
    told = launch(out, "0")
    assert "rank 0 done" in told and "rank 1 done" in told, told
    assert not set(kept) & set(written(told)) and kept.items() <= times(out).items()
    same(out, uninterrupted)
