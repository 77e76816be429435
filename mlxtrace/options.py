"""What `python -m mlxtrace.patch` understands: its options, their values, and which of them go together.

    args = read(["--clean", "...", "--corrupted", "...", "--layers", "0-3,8"])
    args.experiment      # "patch", "trace", "pairs" or "facts"
    args.layers          # [0, 1, 2, 3, 8]
    args.files           # {"json": Path(...)}: places that can be written

Everything that can be refused without a model is refused here, as an InputError of one line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from . import option_values, prompts
from .engine.choice import ENGINES
from .engine.corruption import GaussianNoise
from .errors import InputError
from .loading import DTYPES
from .plotting import check_path
from .prompts import fact_files
from .storage import writable, writable_folder

Group: TypeAlias = argparse._ArgumentGroup
FIGURE = "mlxtrace-patch.png"
AUTO = "auto"
KINDS = {"block": None, "mlp": "mlp", "attn": "attn"}

# Which options an experiment knows, beside those that always mean something.
ALWAYS = {"model", "dtype", "quiet", "debug", "plan", "seed"}
FILES = {"json", "csv", "plot"}
GOES_WITH = {
    "patch": {
        *("clean", "corrupted", "noise", "samples", "subject", "component", "layers", "positions", "heads"),
        *("window", "metric", "target", "foil", "direction", "align", "within", "engine", "max_memory"),
        *FILES,
    },
    "trace": {
        *("prompt", "subject", "noise", "samples", "kind", "window", "target", "positions", "engine"),
        *("max_memory", "compare_bits"),
        *FILES,
    },
    "pairs": {
        *("pairs", "limit", "out", "noise", "samples", "component", "layers", "positions", "within", "heads"),
        *("window", "metric", "direction", "engine", "max_memory"),
        *FILES,
    },
    "facts": {"facts", "out", "limit", "noise", "samples", "kind", "window", "engine", "max_memory"},
}
# what each is asked for by
NAMES = {"patch": "--clean", "trace": "--prompt", "pairs": "--pairs", "facts": "--facts"}
TASKS = ("facts", "gender", "greater_than", "induction", "ioi")  # sets that are made for the model


class _Parser(argparse.ArgumentParser):
    """argparse, except that what it refuses is an InputError: one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the options)")


def read(argv: Sequence[str]) -> argparse.Namespace:
    """The options, checked against each other; `experiment`, `bare`, `files` and `known` (facts, pairs) are added."""
    args = parser().parse_args(argv)
    args.experiment = _experiment(args)
    args.bare = args.experiment == "patch" and args.clean is None
    args.files = _files(args)
    if args.out is not None:
        writable_folder(args.out)
    if args.experiment == "facts":
        args.known = fact_files.load(args.facts)
    if args.experiment == "pairs":  # a task set is made once its model is there
        args.known = None if args.pairs in TASKS else prompts.load(args.pairs)
    if args.corrupted == AUTO and args.subject is None:
        args.subject = _known_subject(str(args.clean))
    noise(args)
    return args


def parser() -> argparse.ArgumentParser:
    """All options, in groups."""
    made = _Parser(
        prog="python -m mlxtrace.patch",
        usage="python -m mlxtrace.patch [options]",
        description="Which layers carry an answer? Without arguments: the bundled model and a fact it knows.",
        epilog="Lists are comma-separated, or the option is given again. Defaults are in parentheses.",
        allow_abbrev=False,
    )
    made.add_argument("--model", default="demo", help="demo (it is bundled), a folder, or a hub name")
    made.add_argument("--dtype", choices=DTYPES, help="cast the weights to it; dequantizes")
    _add_patching(made.add_argument_group("activation patching"))
    _add_tracing(made.add_argument_group("causal tracing"))
    _add_shared(made.add_argument_group("patching and tracing"))
    _add_many(made.add_argument_group("many pairs, many facts"))
    _add_output(made.add_argument_group("output"))
    return made


def _add_patching(group: Group) -> None:
    group.add_argument("--clean", help="the prompt whose answer we want back")
    group.add_argument("--corrupted", help=f"the prompt in which it is broken; {AUTO}: another subject")
    group.add_argument(
        "--component", action="extend", type=option_values.components, help="mlp, attn, ... (mlp,attn)"
    )
    group.add_argument("--layers", type=option_values.numbers, help="such as 0-3,8 (all)")
    group.add_argument(
        "--heads", type=option_values.heads, help="with --component head: each, or numbers (each)"
    )
    group.add_argument(
        "--metric", action="extend", type=option_values.metric_names, help="prob, logit_diff, ... (auto)"
    )
    group.add_argument("--foil", type=option_values.answer, help="the answer to compare with, for logit_diff")
    group.add_argument("--direction", choices=("denoise", "noise"), help="(denoise)")
    group.add_argument("--align", choices=("strict", "ends"), help="for prompts of unlike length (strict)")


def _add_tracing(group: Group) -> None:
    group.add_argument("--prompt", help="trace it as Meng et al. 2022 do; with --subject")
    group.add_argument(
        "--noise", help="on the subject: s3 (3 x std of the embeddings), 0.1, u3; also with --clean"
    )
    group.add_argument("--samples", type=option_values.count, help="draws of the noise (10)")
    group.add_argument("--seed", type=int, help="of the noise (1), or of a set that is made (0)")
    group.add_argument("--kind", choices=KINDS, help="what is restored (block)")
    group.add_argument(
        "--compare-bits",
        type=int,
        choices=(2, 3, 4, 5, 6, 8),
        help="the same trace on a copy in so many bits",
    )


def _add_shared(group: Group) -> None:
    group.add_argument("--subject", help="as it stands in the prompt")
    answer = 'the answer: " Paris", or id:1234 (the clean top token)'
    group.add_argument("--target", type=option_values.answer, help=answer)
    group.add_argument(
        "--window", type=option_values.count, help="layers patched together (1; in a trace 10)"
    )
    names = ", ".join(option_values.POSITIONS)
    group.add_argument("--positions", type=option_values.positions, help=f"{names}, or numbers (all; each)")
    within = "of a region: each token by itself, averaged; its last; all at once (mean)"
    group.add_argument("--within", choices=("mean", "last", "together"), help=within)
    group.add_argument("--engine", choices=ENGINES, help="how the cells are run (auto)")
    group.add_argument("--max-memory", type=option_values.memory, help="beside the weights, such as 2GB")


def _add_many(group: Group) -> None:
    group.add_argument("--pairs", metavar="FILE", help=f"patch each: a file of pairs, or {', '.join(TASKS)}")
    group.add_argument("--facts", metavar="FILE", help="trace each: a file of facts, or demo; with --out")
    group.add_argument("--out", metavar="DIR", help="a file for each goes there; a second run resumes")
    group.add_argument("--limit", type=option_values.count, help="so many only (of a task set 64)")


def _add_output(group: Group) -> None:
    group.add_argument("--plan", action="store_true", help="print what would run, and run nothing")
    group.add_argument("--json", metavar="FILE")
    group.add_argument("--csv", metavar="FILE")
    group.add_argument("--plot", metavar="FILE", help=f".png, .pdf or .svg ({FIGURE} without arguments)")
    group.add_argument("--quiet", action="store_true", help="print the table, and nothing else")
    group.add_argument("--debug", action="store_true", help="show where an error came from")


def noise(args: argparse.Namespace) -> GaussianNoise:
    """The noise that the options describe; InputError for a level, a seed or a subject without meaning."""
    level = "s3" if args.noise is None else args.noise
    seed = 1 if args.seed is None else args.seed
    return GaussianNoise(args.subject, level, args.samples or 10, seed)


# ---- what goes together


def _experiment(args: argparse.Namespace) -> str:
    """Which experiment the options ask for; InputError when they do not go together or one is missing."""
    given = {name for name, value in vars(args).items() if value not in (None, False)} - ALWAYS
    experiment = _asked_for(given)
    for stray in sorted(given - GOES_WITH[experiment]):
        homes = [NAMES[name] for name, options in GOES_WITH.items() if stray in options]
        either = experiment in ("pairs", "facts") and _option(stray) in homes
        cure = "give one of them" if either else f"use it with {' or '.join(homes)}"
        raise InputError(f"{_option(stray)} does not go with {NAMES[experiment]}: {cure}")
    if {"corrupted", "noise"} <= given:
        raise InputError("--corrupted and --noise are two ways to corrupt a prompt: give one of them")
    needs = _needs(experiment, given)
    for name in sorted(needs - given):
        other = " and ".join(map(_option, sorted(needs & given or given)))
        also = " (or --noise)" if name == "corrupted" else ""
        raise InputError(f"{other} needs {_option(name)}{also} as well")
    _check_values(args, experiment, given)
    return experiment


def _asked_for(given: set[str]) -> str:
    for experiment in ("pairs", "facts"):
        if experiment in given:
            return experiment
    if {"out", "limit"} & given:
        raise InputError(f"{_option(min({'out', 'limit'} & given))} needs --pairs or --facts as well")
    return "trace" if {"prompt", "kind", "compare_bits"} & given else "patch"


def _needs(experiment: str, given: set[str]) -> set[str]:
    """The options that an experiment cannot do without, beside those that are given."""
    if experiment == "pairs":
        return {"noise"} if "samples" in given else set()
    if experiment != "patch":
        return {"facts": {"facts", "out"}, "trace": {"prompt", "subject"}}[experiment]
    if {"noise", "samples"} & given:
        if "clean" not in given:
            raise InputError("noise needs a prompt: --prompt (a causal trace) or --clean, and its --subject")
        return {"clean", "noise", "subject"}
    return {"clean", "corrupted"} if {"clean", "corrupted"} & given else set()


def _check_values(args: argparse.Namespace, experiment: str, given: set[str]) -> None:
    """InputError for options that would be of no effect beside the others."""
    if experiment == "trace" and args.window is not None and KINDS[args.kind or "block"] is None:
        raise InputError("--window goes with --kind mlp or attn: layer outputs are restored one at a time")
    if "compare_bits" in given and {"json", "csv"} & given:
        raise InputError(
            "--compare-bits prints and draws two traces side by side: leave out --json and --csv"
        )
    regions = args.positions == "regions"
    if regions and experiment == "trace":
        raise InputError("--positions regions goes with --pairs or --clean: a trace has a row for each token")
    if args.within is not None and not regions:
        raise InputError(
            "--within says how the tokens of a region are patched: give --positions regions as well"
        )
    if args.plan and FILES & given:
        raise InputError("--plan runs nothing, so there is nothing to write: leave out --json, --csv, --plot")


def _known_subject(text: str) -> str:
    """The one subject of the bundled facts that a text contains; InputError when there is none, or several."""
    known = {fact.subject for fact in fact_files.load()}
    found = {x for x in known if re.search(rf"(?<!\w){re.escape(x)}(?!\w)", text)}
    found = sorted(x for x in found if not any(x in longer for longer in found - {x}))
    if len(found) != 1:
        why = (
            f"{', '.join(map(repr, found))} are several"
            if found
            else f"{text!r} has no subject that is known"
        )
        raise InputError(f"--corrupted {AUTO} needs --subject: {why}")
    return found[0]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _files(args: argparse.Namespace) -> dict[str, Path]:
    """Where files go, once it is known that they can."""
    found: dict[str, Path] = {}
    for name in ("json", "csv"):
        path = getattr(args, name)
        if path is not None:
            found[name] = writable(path)
            if found[name].suffix.lower() != f".{name}":
                raise InputError(f"--{name} {path}: give a file that ends in .{name}")
    figure = args.plot or (FIGURE if args.bare and not (args.quiet or args.plan) else None)
    if figure is not None:
        found["plot"] = check_path(figure)
    return found
