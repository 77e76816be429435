"""Errors and notes in the spelling of the command line: every argument that they may name, and no prompt of a user."""

from __future__ import annotations

import pytest
from command_runs import CLEAN, demo, empty_folder, loaded, run, trained  # noqa: F401

from mlxtrace import check, options, patch
from mlxtrace.option_spelling import OPTIONS, as_typed
from mlxtrace.version import VERSION


def test_every_option_that_is_named_is_there():
    known = {name for action in options.parser()._actions for name in action.option_strings}
    assert {*OPTIONS.values(), "--edges", "--attribution"} <= known


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ('Use align="ends", which patches 4', "Use --align ends, which patches 4"),
        ("positions='last' needs it: pass subject=...", "--positions last needs it: pass --subject ..."),
        ("pass a target= and a foil=, or metric='kl'", "pass a --target and a --foil, or --metric kl"),
        ("layers=[1, 1]: name each once", "--layers 1,1: name each once"),
        ("window=10 and max_memory=5: max_memory is small", "--window 10 and --max-memory 5: --max-memory is small"),
        ("heads= goes with component=head or q", "--heads goes with --component head or q"),
        ('target=" New York" starts', '--target " New York" starts'),
        ("use method='atp', or method=\"exact\"", "use --attribution atp, or --edges exact"),
        ("GaussianNoise(subject=...) or subject=...", "--subject"),
        ("prompts.Pair(answers=...) and x.align=1 stay, and window==2", None),
        ("the token 'target=1' stays", None),
    ],
)  # fmt: skip
def test_arguments_become_options(python, typed):
    assert as_typed(python) == (python if typed is None else typed)


def test_what_was_typed_stays():
    code = 'run(x, subject="a") and metric=kl'
    said = f"no subject in {code}: pass subject=..."
    assert as_typed(said, ["--clean", code]) == f"no subject in {code}: pass --subject ..."


@trained
def test_errors_and_notes_of_the_command_are_spelled_for_it(loaded, capsys):  # noqa: F811
    prompt = ["--clean", "x = f(metric=1) The Eiffel Tower is in", "--corrupted"]
    _, err = run(capsys, *prompt, "Rome is in", status=2)
    assert "--align ends" in err and "align=" not in err
    _, err = run(
        capsys, "--clean", CLEAN, "--corrupted", CLEAN.replace("Tower", "Gate"), "--positions", "IO", status=2
    )
    assert "=" not in err
    trace = [
        "--prompt",
        CLEAN,
        "--subject",
        "Eiffel Tower",
        "--kind",
        "mlp",
        "--samples",
        "1",
        "--positions",
        "last",
    ]
    out, _ = run(capsys, *trace, "--window", "11", "--json", "t.json")
    assert "as --facts does" in out and "=[...]" not in out and "a window of 11 spans most" in out
    out, _ = run(capsys, *trace)
    assert "restoring 3 layers' MLP outputs" in out and "spans" not in out
    stream = ["--component", "resid_post", "--window", "3", "--quiet", "--layers", "2"]
    out, err = run(
        capsys, "--clean", CLEAN, "--corrupted", CLEAN.replace("Eiffel Tower", "Statue of Liberty"), *stream
    )
    assert "as --window 1 has it" in out and not err


@pytest.mark.parametrize("main", [patch.main, check.main])
@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version(main, flag, capsys):
    with pytest.raises(SystemExit) as end:
        main([flag])
    assert end.value.code == 0 and capsys.readouterr() == (f"mlxtrace {VERSION}\n", "")


def test_spans_are_spelt_as_options():
    assert as_typed("use positions=spans(32), or positions=spans(8, refine=None)") == (
        "use --positions spans:32, or --positions spans:8:none"
    )
