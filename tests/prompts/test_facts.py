"""Facts: what can be loaded, runs that are killed and resumed, two ranks, and averages against a loop by hand."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlxtrace.facts import Fact

import mlxtrace
from mlxtrace import facts
from mlxtrace.errors import InputError, LoadError
from mlxtrace.experiments.causal_trace import CausalTrace
from mlxtrace.experiments.compare_bits import compare, compare_bits
from mlxtrace.prompts import averages, running
from mlxtrace.prompts import known as knowing
from mlxtrace.prompts.averages import average_traces, roles_of
from mlxtrace.prompts.fact_files import DEMO, parse
from mlxtrace.results.average_trace import ROLES, AverageTrace

ROOT = Path(__file__).parents[2]
SUBJECTS = [
    "Eiffel Tower",
    "Louvre Museum",
    "Colosseum",
    "Statue of Liberty",
    "Paris",
    "Rio",
    "Albert Einstein",
]
PROMPTS = ["The {} is located in the city of", "The {} is in", "Hello {}", "The theory of the {} is known"]
QUICK = {"samples": 2, "window": 2, "progress": False}


@pytest.fixture(scope="module")
def model(llama_folder):
    return mlxtrace.InterpretableModel(llama_folder)


@pytest.fixture(scope="module")
def known(model):
    """Facts that a model of random weights gets right, because they were read off it; the third one is wrong."""
    found = []
    for subject in SUBJECTS:
        for prompt in (p.format(subject) for p in PROMPTS):
            logits, _ = model.run_with_cache(prompt, [])
            attribute = model.token_to_str(int(np.array(logits[0, -1]).argmax())).strip()
            if len(attribute) > 1 and attribute.isascii():
                found.append({"subject": subject, "prompt": prompt, "attribute": attribute})
    assert len(found) >= 6
    found = found[:6]
    found[2] = {**found[2], "attribute": "Berlin"}
    return parse(found, "the test's facts")


# ---- loading


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


ENTRY = {"subject": "Rome", "prompt": "Rome is in", "attribute": "Italy"}


def test_the_bundled_facts():
    found = facts.load()
    assert found == facts.load("demo") and len(found) > 20
    assert len({f.id for f in found}) == len(found)
    assert all(f.subject in f.prompt and "{}" not in f.prompt for f in found)
    first = found[0]
    told = json.loads(DEMO.read_text())
    assert first.prompt == told["relations"][first.relation]["templates"][0].format(first.subject)


def test_known_1000():
    path = ROOT.parent / "shared" / "data" / "known_1000.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    found = facts.load(path)
    assert len(found) == 1209
    assert found[0] == Fact(
        "Vinson Massif", "Vinson Massif is located in the continent of", "Antarctica", "P30", "0"
    )


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY,
        {"subject": "Rome", "template": "{} is in", "object": "Italy"},
        {"subject": "Rome", "prompt": "{} is in", "target_true": " Italy"},
        {"requested_rewrite": {"subject": "Rome", "prompt": "{} is in", "target_true": {"str": "Italy"}}},
    ],
)
def test_forms_of_an_entry(tmp_path, entry):
    expected = [("Rome", "Rome is in", "Italy")]
    for name, text in (("a.json", [entry]), ("a.jsonl", json.dumps(entry) + "\n\n"), ("one.json", entry)):
        found = facts.load(write(tmp_path / name, text))
        assert [(f.subject, f.prompt, f.attribute) for f in found] == expected


def test_lines_and_ids(tmp_path):
    lines = "\n".join(json.dumps({**ENTRY, "known_id": i}) for i in (7, 9))
    assert [f.id for f in facts.load(write(tmp_path / "a.jsonl", lines))] == ["7", "9"]
    assert [f.id for f in facts.load(write(tmp_path / "b.json", [ENTRY, ENTRY]))] == ["0000", "0001"]
    with pytest.raises(InputError, match="two entries have the id '7'"):
        facts.load(write(tmp_path / "c.json", [{**ENTRY, "id": 7}, {**ENTRY, "id": "7"}]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no facts"),
        ("[]", "no facts"),
        ('"facts"', "a list of facts was expected, not str"),
        ([ENTRY, {"prompt": "a", "attribute": "b"}], "entry 1: field 'subject' is missing"),
        ([{**ENTRY, "subject": 5}], "entry 0: field 'subject' is 5"),
        ([{**ENTRY, "attribute": " "}], "entry 0: field 'attribute' is ' '"),
        ([{"subject": "a", "prompt": "a b"}], "'attribute' or 'object'"),
        ([{"subject": "a", "object": "b"}], "entry 0: field 'prompt' or 'template' is missing"),
        ([{"subject": "a", "object": "b", "template": "c"}], "has no {}"),
        ([{**ENTRY, "subject": "Paris"}], "entry 0: field 'prompt'.*does not contain the subject 'Paris'"),
        ([ENTRY, 3], "entry 1: is int, not an object with fields"),
        ([3] * 9, "entry 2.*and 6 more"),
        (
            {"relations": {"r": {}}, "facts": [{"subject": "a", "object": "b", "relation": "r"}]},
            "no list of templates",
        ),
        ({"relations": {}, "facts": []}, "no facts"),
    ],
    ids=str,
)
def test_malformed_files_name_entry_and_field(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        facts.load(write(tmp_path / "facts.json", text))


def test_a_broken_line_is_named(tmp_path):
    with pytest.raises(LoadError, match="line 2 is not JSON"):
        facts.load(write(tmp_path / "facts.jsonl", json.dumps(ENTRY) + "\n{oops\n"))
    with pytest.raises(LoadError, match=r"facts.json is not JSON: Expecting property name"):
        facts.load(write(tmp_path / "facts.json", "{"))


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    for name in ("nothing.json", "./nothing", "a/b/c", "word"):
        with pytest.raises(LoadError, match="there is no file"):
            facts.load(name)
    with pytest.raises(LoadError, match="is a folder"):
        facts.load(tmp_path)
    import huggingface_hub as hub

    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(hub.HfApi, "list_repo_files", offline)
    monkeypatch.setattr(hub, "hf_hub_download", offline)
    for name in ("someone/facts", "someone/facts:a.json"):
        with pytest.raises(LoadError, match=r"the hub does not give it .ConnectionError: no network"):
            facts.load(name)


def test_a_hub_data_set(tmp_path, monkeypatch):
    import huggingface_hub as hub

    listed = ["README.md", "data/facts.jsonl"]
    asked = []
    monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda self, name, repo_type: listed)
    path = write(tmp_path / "facts.jsonl", json.dumps(ENTRY))
    monkeypatch.setattr(hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(path))
    assert facts.load("someone/facts")[0].attribute == "Italy"
    assert asked == [(("someone/facts", "data/facts.jsonl"), {"repo_type": "dataset"})]
    listed.append("more.json")
    with pytest.raises(LoadError, match=r"several files: name one, someone/facts:data/facts.jsonl"):
        facts.load("someone/facts")
    assert facts.load("someone/facts:more.json")[0].subject == "Rome"
    listed[:] = ["data.parquet"]
    with pytest.raises(LoadError, match="no JSON"):
        facts.load("someone/facts")


# ---- running


def files(folder):
    return sorted(p.name for p in Path(folder, "traces").iterdir())


@pytest.fixture(scope="module")
def whole(model, known, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return facts.run(model, known, out=out, **QUICK)


def test_a_run_leaves_a_file_for_each_fact_and_kind(model, known, whole):
    ids = ["0000", "0001", "0003", "0004", "0005"]
    expected = [f"{i}.{kind}.npz" for i in ids for kind in ("attn", "mlp", "state")] + ["0002.skipped.json"]
    assert files(whole.folder) == sorted(expected) and whole.ids == ids
    assert [s["id"] for s in whole.skipped] == ["0002"] and 'not "Berlin"' in whole.skipped[0]["why"]
    out = Path(whole.folder)
    assert all((out / f"average{tail}").is_file() for tail in (".npz", ".txt", ".csv", ".png", "_lines.png"))
    assert (out / "average.txt").read_text() == f"{whole}\n"


def test_a_trace_of_a_run_is_causal_trace_with_the_data_sets_noise(model, known, whole):
    fact = known[1]
    subjects = [f.subject for f in known]
    for kind, name in ((None, "state"), ("mlp", "mlp")):
        there = CausalTrace.load(Path(whole.folder, "traces", f"0001.{name}.npz"))
        here = model.causal_trace(
            fact.prompt, fact.subject, kind=kind, window=2, samples=2, subjects=subjects, progress=False
        )
        np.testing.assert_allclose(there.raw, here.raw, atol=1e-6)
        assert there.noise_level == pytest.approx(here.noise_level) and there.notes == here.notes
    told = there.settings
    assert told["fact"]["subject"] == fact.subject and told["seed"] == 1 and told["hash"]
    assert {"mlxtrace", "mlx", "mlx-lm", "numpy", "python"} <= set(told["versions"])
    assert there.ids == model.encode(fact.prompt) and there.model == model.name


def test_averages_by_hand(known, whole):
    """Means and intervals from the files alone, a loop for every role."""
    traces = {
        kind: [CausalTrace.load(Path(whole.folder, "traces", f"{i}.{name}.npz")) for i in whole.ids]
        for kind, name in ((None, "state"), ("mlp", "mlp"), ("attn", "attn"))
    }
    for k, kind in enumerate(whole.kinds):
        pools = {role: [] for role in range(6)}
        for trace in traces[kind]:
            effect, subject, n = trace.scores - trace.low_score, trace.subject_range, len(trace.tokens)
            for p in range(n):
                if p == subject[0]:
                    pools[0].append(effect[p])
                if subject[0] < p < subject[-1]:
                    pools[1].append(effect[p])
                if p == subject[-1]:
                    pools[2].append(effect[p])
                if p == subject[-1] + 1:
                    pools[3].append(effect[p])
                if subject[-1] + 1 < p < n - 1:
                    pools[4].append(effect[p])
                if p == n - 1:
                    pools[5].append(effect[p])
        for role, rows in pools.items():
            assert whole.counts[role] == len(rows)
            if rows:
                np.testing.assert_allclose(whole.indirect_effect[k, role], np.mean(rows, 0), atol=1e-12)
        for role in (0, 2, 5):  # one token in every fact: the plain standard error
            rows = np.array(pools[role])
            expected = 1.96 * rows.std(0, ddof=1) / math.sqrt(len(rows))
            np.testing.assert_allclose(whole.interval[k, role], expected, atol=1e-12)
    totals = np.array([t.high_score - t.low_score for t in traces[None]])
    assert whole.total_effect == pytest.approx(totals.mean())
    assert whole.total_interval == pytest.approx(1.96 * totals.std(ddof=1) / math.sqrt(len(totals)))


def test_intervals_count_facts_not_tokens():
    """Copies of a token within its fact make the interval no narrower."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(8, 3))
    single = averages.interval_of(one, np.ones(8))
    copied = averages.interval_of(5 * one, np.full(8, 5))
    np.testing.assert_allclose(single, copied)
    assert np.isnan(averages.interval_of(one[:0], np.ones(0))).all()
    mean, half = averages.interval_of(one[:1], np.ones(1))
    np.testing.assert_array_equal(mean, one[0])
    assert np.isnan(half).all()


def test_roles():
    assert roles_of(range(1, 5), 9) == [[1], [2, 3], [4], [5], [6, 7], [8]]
    assert roles_of(range(1, 2), 3) == [[1], [], [1], [2], [], [2]]
    assert roles_of(range(1, 3), 3) == [[1], [], [2], [], [], [2]]


def test_average_prints_saves_and_loads(whole, tmp_path):
    loaded = AverageTrace.load(whole.save(tmp_path / "average"))
    np.testing.assert_array_equal(loaded.interval, whole.interval)
    assert repr(loaded) == repr(whole) and loaded.kinds == [None, "mlp", "attn"]
    assert loaded.peak("mlp")[0] in ROLES
    assert "1.96 standard errors" in repr(whole) and "skipped" in repr(whole)
    rows = whole.to_rows()
    assert len(rows) == 3 * sum(c > 0 for c in whole.counts) * whole.indirect_effect.shape[2]
    again = facts.averages(whole.folder)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    with pytest.raises(InputError, match="was not traced"):
        average_traces([[CausalTrace.load(Path(whole.folder, "traces", "0001.mlp.npz"))]], ["x"]).of("attn")
    figure = whole.plot()
    scales = {tuple(ax.collections[0].get_clim()) for ax in figure.axes if ax.get_title()}
    assert len(scales) == 1  # one scale for the three kinds


def test_a_finished_run_is_not_run_again(model, known, whole, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("this was done before")

    monkeypatch.setattr(running, "causal_trace", never)
    monkeypatch.setattr(knowing, "capture", never)
    times = {p: p.stat().st_mtime_ns for p in Path(whole.folder, "traces").iterdir()}
    again = facts.run(model, known, out=whole.folder, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    assert times == {p: p.stat().st_mtime_ns for p in Path(whole.folder, "traces").iterdir()}


def test_damaged_and_missing_files_are_made_again(model, known, whole, tmp_path):
    out = shutil.copytree(whole.folder, tmp_path / "out")
    cut = out / "traces" / "0003.mlp.npz"
    cut.write_bytes(cut.read_bytes()[:1000])
    (out / "traces" / "0004.state.npz").unlink()
    again = facts.run(model, known, out=out, **QUICK)
    np.testing.assert_array_equal(again.indirect_effect, whole.indirect_effect)
    assert files(out) == files(whole.folder)


def test_limits_may_grow_and_kinds_be_added(model, known, whole, tmp_path):
    first = facts.run(model, known, out=tmp_path / "out", kinds=(None,), limit=2, **QUICK)
    assert first.ids == ["0000", "0001"] and first.kinds == [None]
    rest = facts.run(model, known, out=tmp_path / "out", **QUICK)
    np.testing.assert_array_equal(rest.indirect_effect, whole.indirect_effect)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"samples": 3}, "samples is 2 there and 3 here"),
        ({"seed": 2}, "seed"),
        ({"noise": 0.5}, "noise is 's3' there and '0.5' here"),
        ({"window": 5}, "window"),
        ({"replace": True}, "replace"),
    ],
)
def test_settings_are_not_mixed(model, known, whole, changes, says):
    with pytest.raises(InputError, match=says):
        facts.run(model, known, out=whole.folder, **{**QUICK, **changes})


def test_models_and_facts_are_not_mixed(model, known, whole, llama_4bit_folder):
    with pytest.raises(InputError, match="the facts differ"):
        facts.run(model, known[:3], out=whole.folder, **QUICK)
    with pytest.raises(InputError, match="the model's weights differ"):
        facts.run(mlxtrace.InterpretableModel(llama_4bit_folder), known, out=whole.folder, **QUICK)


def test_bad_runs(model, known, tmp_path):
    with pytest.raises(InputError, match="no facts"):
        facts.run(model, [], out=tmp_path / "out")
    with pytest.raises(InputError, match="kinds"):
        facts.run(model, known, out=tmp_path / "out", kinds=("mpl",))
    with pytest.raises(InputError, match="limit"):
        facts.run(model, known, out=tmp_path / "out", limit=0)
    with pytest.raises(InputError, match="is a file"):
        facts.run(model, known, out=write(tmp_path / "file", "x"))
    with pytest.raises(InputError, match=r"the model gets none of 1 facts right.*the model says"):
        facts.run(model, [known[2].to_dict()], out=tmp_path / "wrong", **QUICK)
    with pytest.raises(LoadError, match="not a folder of traces"):
        facts.averages(tmp_path)


def test_odd_ids_have_files_of_their_own(model, known, tmp_path):
    entries = [{**known[0].to_dict(), "id": "a/b"}, {**known[1].to_dict(), "id": "a_b"}]
    done = facts.run(model, entries, out=tmp_path / "out", kinds=(None,), **QUICK)
    assert done.ids == ["a/b", "a_b"] and len(files(tmp_path / "out")) == 2


# ---- kills and ranks

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import mlxtrace
from mlxtrace import facts

write, real, rank = int(sys.argv[3]), os.fsync, os.environ.get("MLX_RANK", "0")

def fsync(file):
    global write
    write -= 1
    if write == 0 and rank == sys.argv[4]:
        os.ftruncate(file, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)

os.fsync = fsync
model = mlxtrace.InterpretableModel(sys.argv[1])
facts.run(model, {facts}, out=sys.argv[2], samples=2, window=2, progress=False)
print("rank", rank, "done")
"""


def script(tmp_path, known):
    entries = [fact.to_dict() for fact in known]
    return write(tmp_path / "script.py", SCRIPT.format(root=str(ROOT), facts=repr(entries)))


def same_as(whole, out):
    assert [name for name in files(out) if not name.endswith(".part")] == files(whole.folder)
    for name in files(whole.folder):
        if name.endswith(".npz"):
            here, there = (CausalTrace.load(Path(f, "traces", name)) for f in (out, whole.folder))
            np.testing.assert_allclose(here.raw, there.raw, atol=1e-9)
            assert here.settings == there.settings


def test_killed_in_mid_write_and_resumed_is_as_uninterrupted(model, known, whole, llama_folder, tmp_path):
    made = script(tmp_path, known)
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, made, llama_folder, out, "6", "0"], capture_output=True, text=True
    )
    assert killed.returncode == -9, killed.stderr
    kept = [name for name in files(out) if not name.endswith(".part")]
    assert len(kept) == 4 and len(files(out)) == 5  # settings and four files were whole, the sixth was cut
    times = {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}
    facts.run(model, known, out=out, **QUICK)
    assert times == {
        name: Path(out, "traces", name).stat().st_mtime_ns for name in kept
    }  # nothing was redone
    same_as(whole, out)


@pytest.fixture
def launch(known, llama_folder, tmp_path):
    """Two ranks on this machine, rank 1 dying in its n-th write (0: never); what they told."""
    program = Path(sys.executable).parent / "mlx.launch"
    if not program.exists():
        pytest.skip("mlx.launch is not installed beside this Python")

    def run(out, writes):
        port = str(20000 + os.getpid() % 20000)
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
        given = [script(tmp_path, known), llama_folder, out, writes, "1"]
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # two ranks share this machine
        told = subprocess.run([*command, "--", *given], capture_output=True, text=True, timeout=300, env=env)
        return told.stdout + told.stderr

    return run


def finished(told, whole, out):
    assert "rank 0 done" in told and "rank 1 done" in told, told
    same_as(whole, out)
    both = AverageTrace.load(Path(out, "average.npz"))
    np.testing.assert_allclose(both.indirect_effect, whole.indirect_effect, atol=1e-9)


def test_two_ranks_do_what_one_does(whole, launch, tmp_path):
    finished(launch(tmp_path / "out", "0"), whole, tmp_path / "out")


@pytest.mark.heavy
def test_one_of_two_ranks_killed(whole, launch, tmp_path):
    out = tmp_path / "out"
    told = launch(out, "3")  # rank 1 dies in its third write
    assert "rank 0 done" not in told and "exited with code -9" in told, told
    kept = [name for name in files(out) if not name.endswith(".part")]
    times = {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}
    assert len([n for n in kept if n.startswith("0001")]) == 2 and not Path(out, "average.npz").exists()
    finished(launch(out, "0"), whole, out)
    assert times == {name: Path(out, "traces", name).stat().st_mtime_ns for name in kept}


# ---- full precision against quantized


def test_compare_bits(model, tmp_path):
    prompt, subject = "The Eiffel Tower is located in the city of", "Eiffel Tower"
    options = {"samples": 2, "progress": False}
    close = compare_bits(model, prompt, subject, bits=8, **options)
    far = model.compare_bits(prompt, subject, bits=2, **options)
    assert close.correlation > 0.999 > far.correlation and close.largest_difference < far.largest_difference
    assert close.first.answer.token == close.second.answer.token and not close.peak_moved
    assert close.first.noise_level == close.second.noise_level
    np.testing.assert_array_equal(close.difference, close.second.scores - close.first.scores)
    assert not model.is_quantized  # the model itself was left alone
    tied, scores = close.first, close.first.raw
    for gap, moved in ((1e-4, False), (0.5, True)):
        raws = [np.zeros_like(scores) + tied.low_score for _ in range(2)]
        for raw, cell in zip(raws, (0, 1), strict=True):
            raw[0, 0] = raw[0, 1] = tied.high_score - gap * tied.total_effect
            raw[0, cell] = tied.high_score
        pair = [replace(tied, raw=raw) for raw in raws]
        assert replace(close, first=pair[0], second=pair[1]).peak_moved == moved
    plain = model.causal_trace(prompt, subject, **options)
    np.testing.assert_array_equal(close.first.raw, plain.raw)
    close.plot(tmp_path / "both.png")
    assert "correlation" in repr(far) and "peak" in repr(far) and len(far.to_rows()) == far.first.scores.size


def test_comparing_a_model_with_itself_and_what_cannot_be_compared(model, llama_4bit_folder, gpt2_folder):
    same = compare(
        model, model, "The Eiffel Tower is in", "Eiffel Tower", samples=2, noise="u1", progress=False
    )
    assert same.largest_difference == 0 and same.correlation == pytest.approx(1) and not same.peak_moved
    quantized = mlxtrace.InterpretableModel(llama_4bit_folder)
    with pytest.raises(InputError, match="quantized already"):
        compare_bits(quantized, "The Eiffel Tower is in", "Eiffel Tower")
    with pytest.raises(InputError, match="cannot quantize"):
        compare_bits(model, "The Eiffel Tower is in", "Eiffel Tower", bits=11)
    for bad in (
        *({"bits": x} for x in (1, True, None, "4", 3.5)),
        *({"group_size": x} for x in (0, 3, 1.5, "64", 1024)),
        {"group_size": 128},  # which divides no width of this model: nothing would be quantized
    ):
        with pytest.raises(InputError, match=r"quantize|group_size"):
            compare_bits(model, "The Eiffel Tower is in", "Eiffel Tower", **bad)
    with pytest.raises(InputError, match="26 layers"):
        compare(model, mlxtrace.InterpretableModel(gpt2_folder), "The Eiffel Tower is in", "Eiffel Tower")
