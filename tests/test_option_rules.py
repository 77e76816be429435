"""Which options go together: what does not is one line and status 2, before a model is loaded."""

from __future__ import annotations

import pytest
from command_runs import CLEAN, CORRUPTED, NOISE, PAIR, empty_folder, ids, loaded, refused, run  # noqa: F401

from mlxtrace import option_rules, options

# (what is wrong, the arguments, words of the line)
BEFORE_LOADING = [
    ("an unknown option", ["--frobnicate"], "--frobnicate"),
    ("a stray word", ["mlp"], "mlp"),
    ("an option without value", ["--clean"], "--clean"),
    ("an abbreviated option", ["--compo", "mlp"], "--compo"),
    ("no corrupted prompt", ["--clean", CLEAN], "--corrupted"),
    ("no clean prompt", ["--corrupted", CORRUPTED], "--clean"),
    ("two corruptions", [*PAIR, "--noise", "s3", "--subject", "Eiffel Tower"], "two ways"),
    ("noise on nothing", ["--noise", "s3"], "--prompt"),
    ("noise without a subject", ["--clean", CLEAN, "--noise", "s3"], "--subject"),
    ("a trace without a subject", ["--prompt", CLEAN], "--subject"),
    ("a kind without a prompt", ["--kind", "mlp", "--subject", "Eiffel Tower"], "--prompt"),
    ("a kind of patching", [*PAIR, "--kind", "mlp"], "--clean"),
    ("a component of a trace", ["--prompt", CLEAN, "--subject", "x", "--component", "mlp"], "--component"),
    ("a clean prompt beside a prompt", ["--prompt", CLEAN, "--subject", "x", "--clean", "y"], "--clean"),
    ("a window of layer outputs", ["--prompt", CLEAN, "--subject", "x", "--window", "3"], "--kind"),
    ("a folder without facts", ["--out", "here"], "--facts"),
    ("facts without a folder", ["--facts", "known.json"], "--out"),
    ("facts with a prompt", ["--facts", "f.json", "--out", "o", "--clean", CLEAN], "--clean"),
    ("a limit of nothing", ["--limit", "3"], "--limit needs --pairs or --facts"),
    ("a limit of a pair", [*PAIR, "--limit", "3"], "--limit needs --pairs or --facts"),
    ("a limit of 0", ["--pairs", "ioi", "--limit", "0"], "--limit"),
    ("pairs and facts", ["--pairs", "ioi", "--facts", "demo", "--out", "o"], "--facts does not go with --pairs"),
    ("pairs and a pair", ["--pairs", "ioi", *PAIR], "--clean does not go with --pairs"),
    ("pairs and a prompt", ["--pairs", "ioi", "--prompt", CLEAN], "--prompt does not go with --pairs"),
    ("a subject of pairs", ["--pairs", "ioi", "--subject", "x"], "--subject does not go with --pairs"),
    ("an answer of pairs", ["--pairs", "ioi", "--target", " x"], "--target does not go with --pairs"),
    ("a target and answers", [*PAIR, "--target", " x", "--answers", " y| z"], "--target and --answers both say"),
    ("an empty answer of several", [*PAIR, "--answers", " y|"], "--answers"),
    ("answers of pairs", ["--pairs", "ioi", "--answers", " x| y"], "--answers does not go with --pairs"),
    ("the first token of no fact", [*PAIR, "--first-token"], "--first-token does not go with --clean"),
    ("a kind of pairs", ["--pairs", "ioi", "--kind", "mlp"], "--kind does not go with --pairs"),
    ("bits of pairs", ["--pairs", "ioi", "--compare-bits", "4"], "--compare-bits does not go with --pairs"),
    ("an alignment of pairs", ["--pairs", "ioi", "--align", "ends"], "--align does not go with --pairs"),
    ("samples of pairs without noise", ["--pairs", "ioi", "--samples", "3"], "--noise"),
    ("a file of pairs that is not there", ["--pairs", "absent.json"], "absent.json"),
    ("pairs of nothing", ["--pairs", ""], "greater_than"),
    ("a task that is unknown", ["--pairs", "ioii"], "ioii"),
    ("a folder that is a file", ["--pairs", "ioi", "--out", __file__], "test_option_rules.py"),
    ("a way within no region", [*PAIR, "--within", "last"], "--positions regions"),
    ("regions of a trace", ["--prompt", CLEAN, "--subject", "x", "--positions", "regions"], "regions"),
    ("nothing to corrupt by itself", ["--corrupted", "auto"], "--clean"),
    ("no known subject", ["--clean", "Tokyoites like", "--corrupted", "auto"], "has no subject"),
    ("the end of a word", ["--clean", "NeoTokyo is in", "--corrupted", "auto"], "has no subject"),
    ("two known subjects", ["--clean", "The Eiffel Tower and the Colosseum are", "--corrupted", "auto"], "are several"),
    ("a file of facts that is not there", ["--facts", "absent.json", "--out", "out"], "absent.json"),
    ("samples of nothing", [*PAIR, "--samples", "3"], "--noise"),
    ("an unknown component", [*PAIR, "--component", "mpl"], "mlp"),
    ("an empty component", [*PAIR, "--component", "mlp,"], "empty"),
    ("a component twice", [*PAIR, "--component", "attn,self_attn"], "different"),
    ("an unknown metric", [*PAIR, "--metric", "logitdiff"], "logit_diff"),
    ("an unknown position", [*PAIR, "--positions", "subjct"], "subject"),
    ("positions that are no numbers", [*PAIR, "--positions", "1;2"], "1;2"),
    ("layers that are no numbers", [*PAIR, "--layers", "first"], "first"),
    ("a range backwards", [*PAIR, "--layers", "5-2"], "5-2"),
    ("heads that are no numbers", [*PAIR, "--component", "head", "--heads", "all"], "all"),
    ("a window of 0", [*PAIR, "--window", "0"], "--window"),
    ("half a window", [*PAIR, "--window", "1.5"], "--window"),
    ("negative samples", [*NOISE, "--samples", "-3"], "--samples"),
    ("a negative seed", [*NOISE, "--seed", "-1"], "seed"),
    ("a seed in words", [*NOISE, "--seed", "one"], "--seed"),
    ("an unknown noise level", [*NOISE[:-1], "strong"], "strong"),
    ("a negative noise level", [*NOISE[:-2], "--noise=-3"], "-3"),
    ("an empty subject", [*NOISE[:2], "--subject", " ", "--noise", "s3"], "subject"),
    ("an unknown direction", [*PAIR, "--direction", "up"], "denoise"),
    ("an unknown alignment", [*PAIR, "--align", "middle"], "ends"),
    ("an unknown engine", [*PAIR, "--engine", "fast"], "fanout"),
    ("an unknown kind", ["--prompt", CLEAN, "--subject", "x", "--kind", "head"], "attn"),
    ("an unknown dtype", [*PAIR, "--dtype", "int8"], "float32"),
    ("memory without a unit", [*PAIR, "--max-memory", "2 hundred"], "2GB"),
    ("no memory", [*PAIR, "--max-memory", "0"], "2GB"),
    ("a figure of an unknown type", [*PAIR, "--plot", "map.gif"], ".png"),
    ("a figure without a type", [*PAIR, "--plot", "map"], ".png"),
    ("a figure in no folder", [*PAIR, "--plot", "nowhere/map.png"], "nowhere"),
    ("a table in no folder", [*PAIR, "--csv", "nowhere/a.csv"], "nowhere"),
    ("a folder as a file", [*PAIR, "--json", "."], "folder"),
    ("JSON by another name", [*PAIR, "--json", "a.txt"], ".json"),
    ("a file of a plan", [*PAIR, "--plan", "--csv", "a.csv"], "--plan"),
    ("a circuit of nothing", ["--circuit", "5"], "--circuit needs --edges as well"),
    ("a circuit of a pair", [*PAIR, "--circuit", "5"], "--circuit needs --edges as well"),
    ("a circuit of pairs", ["--pairs", "ioi", "--circuit", "5"], "--circuit needs --edges as well"),
    ("verified cells by themselves", ["--verify", "5"], "--verify needs --screen as well"),
    ("a circuit of no edges", ["--edges", "--circuit", "0"], "--circuit"),
    ("a circuit of half an edge", ["--edges", "--circuit", "1.5"], "--circuit"),
    ("edges by magic", ["--edges", "magic"], "eap-ig"),
    ("an estimate by magic", ["--attribution", "magic"], "atp*"),
    ("a screen of nothing known", ["--screen", "neutron"], "neuron"),
    ("verified cells of edges", ["--edges", "--verify", "5"], "does not go with --edges: use it with --screen"),
    ("audited cells of a pair", [*PAIR, "--audit", "5"], "--audit needs --screen as well"),
    ("a screen until dawn", ["--screen", "--until", "dawn"], "stable"),
    ("none verified", ["--screen", "--verify", "0"], "--verify"),
    ("two rankings", ["--screen", "--edges"], "--edges and --screen are two experiments"),
    ("a component of a screen", ["--screen", "neuron", "--component", "mlp"], "--component does not go with --screen"),
    ("a component of edges", ["--edges", "--component", "mlp"], "--component does not go with --edges"),
    ("layers of edges", ["--edges", "--layers", "1"], "--layers does not go with --edges"),
    ("a window of a screen", ["--screen", "--window", "3"], "--window does not go with --screen"),
    ("an engine of estimates", ["--attribution", "--engine", "loop"], "--engine does not go with --attribution"),
    ("a ranking into a folder", ["--screen", "--pairs", "ioi", "--out", "o"], "--out does not go with --screen"),
    ("a ranking of facts", ["--edges", "--facts", "demo"], "--facts does not go with --edges"),
    ("a ranking of a trace", ["--edges", "--prompt", CLEAN], "--prompt does not go with --edges"),
    ("a prompt beside pairs", ["--edges", "--pairs", "ioi", *PAIR], "--clean does not go with --pairs"),
    ("answers beside pairs", ["--screen", "--pairs", "ioi", "--target", "x"], "--target does not go with --pairs"),
    ("a ranking of half a pair", ["--screen", "--clean", CLEAN], "--corrupted"),
    ("a limit of a ranked pair", ["--screen", *PAIR, "--limit", "2"], "--limit needs --pairs"),
    ("a planned ranking", ["--screen", "--plan"], "--plan does not go with --screen"),
    ("planned edges", ["--edges", *PAIR, "--plan"], "--plan does not go with --edges"),
    ("a seed of edges", ["--edges", *PAIR, "--seed", "3"], "--seed does not go with --edges"),
    ("a seed of a file of pairs", ["--attribution", "--pairs", "x.json", "--seed", "3"], "--seed does not go"),
    ("edges at each position", ["--edges", "--positions", "each"], "--positions each does not go with --edges"),
    ("two metrics of a screen", ["--screen", "--metric", "kl,prob"], "by one metric"),
    ("two metrics of edges", ["--edges", "--metric", "kl", "--metric", "prob"], "by one metric"),
    ("samples of a ranked pair", ["--screen", *PAIR, "--samples", "3"], "--noise"),
    ("a way within no ranked region", ["--screen", "--within", "last"], "--positions regions"),
    ("a text that draws the edges", ["--edges", "--plot", "c.dot"], ".dot"),
    ("a text that draws a screen", ["--screen", "--plot", "s.dot"], ".dot"),
    ("a circuit in another format", ["--edges", "--circuit", "5", "--plot", "c.txt"], ".txt"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "argv", "words"), BEFORE_LOADING, ids=ids(BEFORE_LOADING))
def test_refused_before_a_model_is_loaded(loaded, capsys, what, argv, words):
    err = refused(capsys, argv)
    assert words in err and err.count("\n") == 1 and not loaded


@pytest.mark.parametrize(
    ("argv", "experiment"),
    [
        (["--screen"], "screen"),
        (["--screen", "head", "--pairs", "ioi", "--seed", "3", "--until", "stable"], "screen"),
        (["--edges"], "edges"),
        (
            ["--edges", "eap-ig", "--circuit", "20", *PAIR, "--plot", "c.dot", "--positions", "subject"],
            "edges",
        ),
        (["--attribution", "atp*", *NOISE, "--seed", "3"], "attribution"),
        (["--attribution", "--pairs", "ioi", "--seed", "3", "--limit", "3"], "attribution"),
    ],
)
def test_what_ranks_a_pair_or_many(argv, experiment):
    args = options.read(argv)
    assert args.experiment == experiment and not args.bare
    assert (args.screen or ["neuron"]) in (["neuron"], ["head"]) and (args.edges or "exact") in (
        "exact",
        "eap-ig",
    )


def test_a_ranking_takes_no_option_that_none_knows():
    names = {action.dest for action in options.parser()._actions}
    assert set().union(*option_rules.RANKINGS.values()) <= names
    for name, known in option_rules.RANKINGS.items():
        assert name in known and option_rules.NAMES[name] == f"--{name}" and not known & option_rules.ALWAYS
