"""The command's options: what is read from them, which go together, and that the help names them all."""

import pytest

from mlxtrace import option_rules, options
from mlxtrace.errors import InputError
from mlxtrace.experiments.compare_bits import BITS
from mlxtrace.experiments.grid import WITHIN
from mlxtrace.experiments.pairs import DIRECTIONS
from mlxtrace.prompts.tasks import TASKS
from mlxtrace.text.alignment import check_align

PAIR = ["--clean", "a b", "--corrupted", "a c"]
TRACE = ["--prompt", "a b", "--subject", "a"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("argv", "experiment", "bare"),
    [
        ([], "patch", True),
        (["--quiet"], "patch", True),
        (PAIR, "patch", False),
        (TRACE, "trace", False),
        (["--facts", "demo", "--out", "traces"], "facts", False),
        (["--pairs", "ioi"], "pairs", False),
    ],
)
def test_the_options_say_which_experiment(argv, experiment, bare):
    args = options.read(argv)
    assert args.experiment == experiment and args.bare == bare


def test_lists_are_split_and_repeated_options_add_up():
    args = options.read([*PAIR, "--component", "mlp,attn", "--component", "resid_mid", "--layers", "0-2"])
    assert args.component == ["mlp", "attn", "resid_mid"] and args.layers == [0, 1, 2]


def test_answers_are_repeated_or_have_a_bar_between_them():
    args = options.read([*PAIR, "--answers", " Paris| paris", "--answers", "id:7"])
    assert args.answers == [" Paris", " paris", 7] and args.target is None
    assert options.read(["--facts", "demo", "--out", "o", "--first-token"]).first_token is True


def test_only_the_bare_run_draws_without_being_asked():
    assert options.read([]).files["plot"].name == options.FIGURE
    for argv in (["--quiet"], ["--plan"], PAIR, TRACE):
        assert options.read(argv).files == {}
    assert set(options.read([*PAIR, "--json", "a.json", "--csv", "a.csv"]).files) == {"json", "csv"}


def test_noise_is_what_the_options_describe():
    noise = options.noise(options.read([*TRACE, "--noise", "u2", "--samples", "4", "--seed", "9"]))
    assert (noise.subject, noise.level, noise.samples, noise.seed) == ("a", "u2", 4, 9)
    plain = options.noise(options.read(TRACE))
    assert (plain.level, plain.samples, plain.seed) == ("s3", 10, 1)


def test_every_option_goes_with_an_experiment_or_with_all():
    names = {action.dest for action in options.parser()._actions} - {"help", "version"}
    assert names == option_rules.ALWAYS.union(*option_rules.GOES_WITH.values())


def test_choices_are_those_of_the_experiments():
    choices = {action.dest: action.choices for action in options.parser()._actions if action.choices}
    assert tuple(choices["direction"]) == tuple(DIRECTIONS) and tuple(choices["compare_bits"]) == BITS
    assert set(option_rules.TASKS) == set(TASKS) and set(choices["within"]) == set(WITHIN)
    for mode in choices["align"]:
        check_align(mode)


@pytest.mark.parametrize("stray", sorted(option_rules.GOES_WITH["patch"] - option_rules.GOES_WITH["trace"]))
def test_options_of_another_experiment_are_refused(stray):
    value = {"align": "ends", "direction": "noise", "corrupted": "x"}.get(stray, "mlp")
    value = {
        "layers": "1",
        "heads": "1",
        "metric": "kl",
        "csv": "a.csv",
        "json": "a.json",
        "within": "last",
    }.get(stray, value)
    with pytest.raises(InputError, match=f"--{stray} does not go with --prompt: use it with --clean"):
        options.read([*TRACE, f"--{stray}", value])


def test_what_is_refused_is_one_line_without_a_traceback():
    with pytest.raises(InputError) as caught:
        options.parser().parse_args(["--frobnicate"])
    assert "\n" not in str(caught.value) and "--help" in str(caught.value)
