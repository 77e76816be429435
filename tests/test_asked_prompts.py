"""The prompts that the command's options name: pairs of files and tasks, folders of them, a subject that is found."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import chat_tokenizers
import pytest
import word_tokenizer
from command_runs import CLEAN, CORRUPTED, demo, empty_folder, loaded, refused, run, trained  # noqa: F401

from mlxtrace import GaussianNoise, InterpretableModel, patch, prompts
from mlxtrace.prompts import Pair

pytestmark = trained

# ---- many pairs

PAIRS = [
    {"clean": CLEAN, "corrupted": CORRUPTED, "subject": "Eiffel Tower", "id": "eiffel"},
    {
        "clean": "The Colosseum is located in",
        "corrupted": "The Louvre Museum is located in",
        "id": "colosseum",
    },
    {"clean": "The Eiffel Tower is in", "corrupted": "The Louvre Museum is in", "id": "same answer"},
    {"clean": "The Eiffel Tower is in", "corrupted": "Rio is in the country of", "id": "other length"},
]


@pytest.fixture
def file_of_pairs(tmp_path):
    Path("pairs.json").write_text(json.dumps(PAIRS))
    return "pairs.json"


def test_pairs_of_a_file_are_patched_and_what_was_dropped_is_said(loaded, capsys, file_of_pairs):
    files = ["--json", "r.json", "--csv", "r.csv", "--plot", "r.png"]
    out, err = run(capsys, "--pairs", file_of_pairs, "--positions", "regions", "--component", "mlp", *files)
    assert "2 of 4 pairs of pairs.json are suitable; dropped: " in out and not err
    assert "over 2 pairs" in out and "last subject token" in out and "±" in out
    assert 'Restores most: mlp layer 0 at "last subject token"' in " ".join(out.split())
    assert all(str(Path(name).resolve()) in out for name in ("r.json", "r.csv", "r.png"))
    kept = [Pair(**pair) for pair in PAIRS[:2]]
    direct = demo().activation_patching(kept, component="mlp", positions="regions")
    assert json.loads(Path("r.json").read_text())["rows"] == direct.to_rows()
    assert "2 of 4 pairs" in Path("r.json").read_text()  # the file says it, too


def test_quiet_pairs_print_their_table_with_what_was_dropped(loaded, capsys, file_of_pairs):
    out, err = run(capsys, "--pairs", file_of_pairs, "--quiet", "--layers", "0-2")
    assert out.startswith("Restoring the MLP output and attention output") and not err
    assert "dropped" in out and "InterpretableModel" not in out


def test_a_limit_of_pairs(loaded, capsys, file_of_pairs):
    out, _ = run(capsys, "--pairs", file_of_pairs, "--limit", "1", "--plan")
    assert "1 of 1 pairs of pairs.json" in out and "dropped" not in out and "nothing was run" in out
    out, _ = run(capsys, "--pairs", "facts", "--limit", "3", "--layers", "0", "--json", "r.json")
    found = json.loads(Path("r.json").read_text())
    assert "3 of 3 pairs of facts" in out and "over 3 pairs" in out and found["rows"][0]["n"] == 3


def test_what_a_task_is_made_with(loaded, capsys, monkeypatch):
    asked = []

    def made(name, model, n, seed=0):
        asked.append((name, n, seed))
        return [Pair(**pair) for pair in PAIRS[:2]]

    monkeypatch.setattr(prompts, "load", made)
    for more in ([], ["--limit", "70"], ["--seed", "3"]):
        run(capsys, "--pairs", "ioi", "--plan", *more)
    assert asked == [("ioi", 64, 0), ("ioi", 70, 0), ("ioi", 64, 3)]


def test_pairs_with_noise_instead_of_their_corrupted_prompts(loaded, capsys, file_of_pairs):
    asked = ["--pairs", file_of_pairs, "--limit", "1", "--noise", "s3", "--samples", "2", "--layers", "0-1"]
    run(capsys, *asked, "--json", "a.json")
    run(capsys, *asked, "--json", "b.json", "--seed", "5")
    a, b = (json.loads(Path(f"{x}.json").read_text())["rows"] for x in "ab")
    assert a != b and a[0]["n"] == 1
    noise, both = GaussianNoise("Eiffel Tower", samples=2), ["mlp", "attn"]
    assert a == demo().activation_patching([CLEAN], noise, component=both, layers=[0, 1]).to_rows()


def test_within_a_region(loaded, capsys, file_of_pairs):
    asked = [
        "--pairs",
        file_of_pairs,
        "--positions",
        "regions",
        "--component",
        "mlp",
        "--layers",
        "0",
        "--quiet",
    ]
    for name in ("mean", "last", "together"):
        run(capsys, *asked, "--within", name, "--csv", f"{name}.csv")
    run(capsys, *asked, "--csv", "plain.csv")
    found = [Path(f"{name}.csv").read_bytes() for name in ("plain", "mean", "last", "together")]
    assert found[0] == found[1] and len(set(found)) == 3


def test_a_folder_of_pairs_goes_further_when_the_limit_does(loaded, capsys, file_of_pairs):
    asked = ["--pairs", file_of_pairs, "--out", "done", "--component", "mlp", "--layers", "0", "--quiet"]
    out, _ = run(capsys, *asked, "--limit", "1")
    assert "1 of 1 pairs" in out and [path.stem for path in Path("done/pairs").iterdir()] == ["eiffel"]
    out, _ = run(capsys, *asked)
    assert "2 of 4 pairs" in out and len([*Path("done/pairs").iterdir()]) == 2


def test_pairs_into_a_folder_are_resumed(loaded, capsys, file_of_pairs, monkeypatch):
    asked = ["--pairs", file_of_pairs, "--out", "done", "--component", "mlp", "--layers", "0-3"]
    out, _ = run(capsys, *asked)
    assert str(Path("done").resolve()) in out
    plain, _ = run(capsys, *asked[:2], *asked[4:])
    assert (
        out[out.index("recovery of") : out.index("a file for each")].strip()
        == plain[plain.index("recovery of") :].strip()
    )
    from mlxtrace.engine import sweep

    monkeypatch.setattr(sweep.Sweep, "run", lambda *a, **k: pytest.fail("a pair was patched again"))
    again, _ = run(capsys, *asked)
    assert again == out
    _, err = run(capsys, *asked[:-1], "0-4", status=2)
    assert err.count("\n") == 1


def test_pairs_of_which_none_is_suitable(loaded, capsys):
    Path("wrong.json").write_text(json.dumps(PAIRS[2:]))
    err = refused_beside(capsys, ["--pairs", "wrong.json"])
    assert "nothing can be patched: 0 of 2 pairs" in err and "dropped" in err


def refused_beside(capsys, argv):
    before = {*Path.cwd().iterdir()}
    _, err = run(capsys, *argv, status=2)
    assert err.count("\n") == 1 and {*Path.cwd().iterdir()} == before
    return err


def test_a_malformed_file_of_pairs_is_refused_before_the_model_is_loaded(loaded, capsys):
    Path("bad.json").write_text(json.dumps([{"clean": "a", "corupted": "b"}]))
    _, err = run(capsys, "--pairs", "bad.json", status=2)
    assert "corupted" in err and not loaded


# ---- a corrupted prompt that is found


@pytest.mark.parametrize("subject", [["--subject", "Eiffel Tower"], []], ids=["named", "found"])
def test_another_subject_is_found_and_named(loaded, capsys, subject):
    asked = ["--clean", CLEAN, "--corrupted", "auto", *subject]
    out, _ = run(capsys, *asked, "--json", "r.json", "--quiet")
    other = demo().substitutes(CLEAN, "Eiffel Tower")[0]
    assert f"corrupted: '{other}' in the place of 'Eiffel Tower'" in out
    assert json.loads(Path("r.json").read_text())["corrupted_text"] == CLEAN.replace("Eiffel Tower", other)


def test_the_longest_subject_that_is_known_counts_unless_one_is_named(loaded, capsys):
    out, _ = run(capsys, "--clean", "The Tokyo Tower is in", "--corrupted", "auto", "--plan")
    assert "in the place of 'Tokyo Tower'" in out
    two = "The Colosseum and the Eiffel Tower are in"
    out, _ = run(
        capsys, "--clean", two, "--corrupted", "auto", "--subject", "Colosseum", "--plan", "--metric", "kl"
    )
    assert "in the place of 'Colosseum'" in out


def test_a_subject_that_nothing_fits_in_the_place_of(loaded, capsys, monkeypatch):
    monkeypatch.setattr(InterpretableModel, "substitutes", lambda *a, **k: [])
    err = refused(capsys, ["--clean", CLEAN, "--corrupted", "auto"])
    assert "no subject that is known fits in the place of 'Eiffel Tower'" in err


# ---- chats

ASKED = [{"role": "user", "content": "In which city is the Colosseum?"}]
OTHER = [{"role": "user", "content": "In which city is the Louvre?"}]
PAIR_OF_CHATS = {"clean": ASKED, "corrupted": OTHER, "target": "Rome", "foil": "Paris"}


@pytest.fixture
def chats(monkeypatch):
    """Files of chats, and a model whose tokenizer has a template."""
    model = chat_tokenizers.model_of("wrapped chatml")
    monkeypatch.setattr(patch, "InterpretableModel", lambda name, **_: model)
    for name, value in {"a": ASKED, "b": {"messages": OTHER}, "pair": PAIR_OF_CHATS, "text": "text"}.items():
        Path(f"{name}.json").write_text(json.dumps(value))
    return model


def rows_of(capsys, *argv):
    out, _ = run(capsys, *argv, "--json", "r.json")
    return out, json.loads(Path("r.json").read_text())["rows"]


def test_two_chats_are_patched(chats, capsys):
    options = ["--metric", "l2", "--component", "mlp"]
    out, rows = rows_of(capsys, "--chat", "a.json", "b.json", *options, "--positions", "regions")
    at = chats.prompt(ASKED).regions["user[0]"]
    assert f"tokens; user[0] {at[0]} to {at[-1]}; * marks the subject" in out and "template" in out
    settings = {"metric": ["l2"], "component": ["mlp"], "progress": False}
    assert rows == chats.activation_patching(ASKED, OTHER, positions="regions", **settings).to_rows()
    _, rows = rows_of(capsys, "--chat", "a.json", "b.json", *options, "--positions", "user[0]")
    assert rows == chats.activation_patching(ASKED, OTHER, positions="user[0]", **settings).to_rows()
    out, _ = run(capsys, "--chat", "pair.json", "--metric", "logit_diff", "--plan")
    assert "nothing was run" in out
    _, rows = rows_of(capsys, "--chat", "pair.json", "--metric", "logit_diff", "--component", "mlp")
    asked = Pair(ASKED, OTHER, "Rome", "Paris")
    assert rows == chats.activation_patching(asked, **{**settings, "metric": ["logit_diff"]}).to_rows()


def test_one_chat_is_traced_or_noised(chats, capsys):
    trace = ["--chat", "a.json", "--subject", "Colosseum", "--samples", "2"]
    for noise in ("s3", "0.5"):
        _, rows = rows_of(capsys, *trace, *([] if noise == "s3" else ["--noise", noise]))
        made = chats.causal_trace(
            ASKED, "Colosseum", samples=2, progress=False, noise=noise if noise == "s3" else 0.5
        )
        assert rows == made.to_rows()
    out, rows = rows_of(capsys, *trace, "--noise", "0.5", "--component", "mlp", "--metric", "l2")
    noised = chats.activation_patching(
        ASKED, GaussianNoise("Colosseum", 0.5, samples=2), component=["mlp"], metric=["l2"], progress=False
    )
    assert rows == noised.to_rows() and "user[0] *" in out


def test_another_subject_for_a_chat(chats, capsys, monkeypatch):
    monkeypatch.setattr(type(chats), "substitutes", lambda model, chat, subject: ["Louvre"])
    out, rows = rows_of(
        capsys, "--chat", "a.json", "--corrupted", "auto", "--subject", "Colosseum", "--metric", "l2"
    )
    assert "corrupted: 'Louvre' in the place of 'Colosseum'" in out
    options = {"component": ["mlp", "attn"], "metric": ["l2"], "progress": False}
    assert rows == chats.activation_patching(ASKED, OTHER, **options).to_rows()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--chat", "a.json"],
            "names one chat: give the corrupted one as a second file, or --subject for a causal",
        ),
        (["--chat", "none.json"], "none.json"),
        (["--chat", "text.json"], 'a chat is a list of {"role": "user", "content": "..."}'),
        (["--chat", "a.json", "b.json", "--clean", "x"], "--chat and --clean are two ways to name a prompt"),
        (["--chat", "a.json", "--pairs", "ioi"], "--chat and --pairs are two ways"),
        (["--chat", "a.json", "--corrupted", "x"], "give the corrupted chat as the second file"),
        (["--chat", "pair.json", "--target", "x"], "--target is given, and --chat says what it is too"),
        (
            ["--chat", "pair.json", "--corrupted", "auto"],
            "--corrupted is given, and --chat says what it is too",
        ),
        (["--chat", "pair.json", "--noise", "s3", "--subject", "Colosseum"], "two ways to corrupt a prompt"),
        (["--chat", "pair.json", "--kind", "mlp"], "--kind traces one chat, and --corrupted patches two"),
        (
            ["--chat", "a.json", "--layers", "1", "--kind", "mlp"],
            "--kind traces one chat, and --layers patches",
        ),
        (
            ["--chat", "pair.json", "--positions", "user[2]"],
            "--positions user[2] is unknown; closest: user[0]",
        ),
        (["--chat", "pair.json", "--positions", "user"], "'user' is unknown; closest: user[0]"),
        (["--chat", "a.json", "--subject", "Louvre"], "'Louvre' does not occur in the messages"),
        (["--chat"], "--chat"),
    ],
)
def test_chats_that_are_refused(chats, capsys, argv, said):
    _, err = run(capsys, *argv, status=2)
    assert said in " ".join(err.split()) and "Traceback" not in err


def test_the_demo_has_no_template(loaded, capsys):
    Path("a.json").write_text(json.dumps(ASKED))
    _, err = run(capsys, "--chat", "a.json", "--subject", "Colosseum", status=2)
    assert "this tokenizer has no chat template" in err


WORDS = ["The", "Eiffel", "Tower", "Colosseum", "is", "located", "in", "the", "city", "of", "Paris", "Rome"]


@pytest.mark.parametrize(
    ("words", "style", "aligned"),
    [(WORDS, "bytes", True), (WORDS, "metaspace", True), ([], "bytes", False), (WORDS[:-3], "bytes", True)],
)
def test_the_bundled_prompts_run_with_any_tokenizer(monkeypatch, capsys, words, style, aligned):
    """Where it reads them as unlike many tokens, another subject is taken, or what they share is patched."""
    model = word_tokenizer.model_of(words, style)
    monkeypatch.setattr(patch, "InterpretableModel", lambda *_, **__: model)
    out, err = run(capsys, "--model", "m", "--json", "bare.json")
    assert "reads the two bundled prompts as unlike many tokens" in out and not err
    assert ("--align ends" in out) == aligned and ("in the place of 'Eiffel Tower'" in out) != aligned
    line = next(line for line in out.splitlines() if line.startswith("The same table: "))
    run(capsys, *shlex.split(line.split("mlxtrace.patch", 1)[1]), "--json", "again.json")
    bare, again = (json.loads(Path(name).read_text())["rows"] for name in ("bare.json", "again.json"))
    assert bare == again
    if aligned:
        _, err = run(capsys, "--clean", CLEAN, "--corrupted", CORRUPTED, status=2)
        assert "--align ends" in err and "as --corrupted auto does" in err and "align=" not in err


def test_an_alignment_that_is_asked_for_is_kept(monkeypatch, capsys):
    model = word_tokenizer.model_of([])
    monkeypatch.setattr(patch, "InterpretableModel", lambda *_, **__: model)
    out, _ = run(capsys, "--model", "m", "--align", "ends", "--plan")
    assert "unlike" not in out and "nothing was run" in out
    run(capsys, "--model", "m", "--align", "strict", "--plan", status=2)
