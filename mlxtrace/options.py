"""What `python -m mlxtrace.patch` understands: its options, their values, and which of them go together.

    args = read(["--clean", "...", "--corrupted", "...", "--layers", "0-3,8"])
    args.experiment      # "patch", "trace" or "facts"
    args.layers          # [0, 1, 2, 3, 8]
    args.files           # {"json": Path(...)}: places that can be written

Everything that can be refused without a model is refused here, as an InputError of one line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import metrics, plotting
from .engine import choice
from .engine.corruption import GaussianNoise
from .errors import InputError, MlxtraceError, closest
from .experiments import grid, pairs
from .loading import DTYPES
from .prompts import fact_files
from .storage import writable, writable_folder

FIGURE = "mlxtrace-patch.png"
KINDS = {"block": None, "mlp": "mlp", "attn": "attn"}
POSITIONS = ("all", "each", "subject", "subject_last", "last")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

# Which options an experiment knows, beside those that always mean something.
ALWAYS = {"model", "dtype", "quiet", "debug", "plan", "seed"}
FILES = {"json", "csv", "plot"}
GOES_WITH = {
    "patch": {
        *("clean", "corrupted", "noise", "samples", "subject", "component", "layers", "positions", "heads"),
        *("window", "metric", "target", "foil", "direction", "align", "engine", "max_memory"),
        *FILES,
    },
    "trace": {
        *("prompt", "subject", "noise", "samples", "kind", "window", "target", "positions", "engine"),
        *("max_memory", "compare_bits"),
        *FILES,
    },
    "facts": {"facts", "out", "limit", "noise", "samples", "kind", "window", "engine", "max_memory"},
}
NAMES = {"patch": "--clean", "trace": "--prompt", "facts": "--facts"}  # what each is asked for by


class _Parser(argparse.ArgumentParser):
    """argparse, except that what it refuses is an InputError: one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the options)")


def read(argv: Sequence[str]) -> argparse.Namespace:
    """The options, checked against each other; `experiment`, `bare`, `files` and `known` (facts) are added."""
    args = parser().parse_args(argv)
    args.experiment = _experiment(args)
    args.bare = args.experiment == "patch" and args.clean is None
    args.files = _files(args)
    if args.experiment == "facts":
        writable_folder(args.out)
        args.known = fact_files.load(args.facts)
    noise(args)
    return args


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="python -m mlxtrace.patch",
        usage="python -m mlxtrace.patch [options]",
        description="Which layers carry an answer? Without arguments: the bundled model and a fact it knows.",
        epilog="Lists are comma-separated, or the option is given again. Defaults are in parentheses.",
        allow_abbrev=False,
    )
    made.add_argument("--model", default="demo", help="demo (it is bundled), a folder, or a hub name")
    made.add_argument("--dtype", choices=DTYPES, help="cast the weights to it; dequantizes")

    group = made.add_argument_group("activation patching")
    group.add_argument("--clean", help="the prompt whose answer we want back")
    group.add_argument("--corrupted", help="the prompt in which it is broken (or give --noise)")
    group.add_argument("--component", action="extend", type=components, help="mlp, attn, ... (mlp,attn)")
    group.add_argument("--layers", type=numbers, help="such as 0-3,8 (all)")
    group.add_argument("--heads", type=heads, help="with --component head: each, or numbers (each)")
    group.add_argument("--metric", action="extend", type=metric_names, help="prob, logit_diff, ... (auto)")
    group.add_argument("--foil", type=answer, help="the answer to compare with, for logit_diff")
    group.add_argument("--direction", choices=pairs.DIRECTIONS, help="(denoise)")
    group.add_argument("--align", choices=("strict", "ends"), help="for prompts of unlike length (strict)")

    group = made.add_argument_group("causal tracing")
    group.add_argument("--prompt", help="trace it as Meng et al. 2022 do; with --subject")
    group.add_argument(
        "--noise", help="on the subject: s3 (3 x std of the embeddings), 0.1, u3; also with --clean"
    )
    group.add_argument("--samples", type=count, help="draws of the noise (10)")
    group.add_argument("--seed", type=int, help="of the noise (1); nothing else is random")
    group.add_argument("--kind", choices=KINDS, help="what is restored (block)")

    group.add_argument(
        "--compare-bits",
        type=int,
        choices=(2, 3, 4, 5, 6, 8),
        help="the same trace on a copy in so many bits",
    )

    group = made.add_argument_group("patching and tracing")
    group.add_argument("--subject", help="as it stands in the prompt")
    group.add_argument("--target", type=answer, help='the answer: " Paris", or id:1234 (the clean top token)')
    group.add_argument("--window", type=count, help="layers patched together (1; in a trace 10)")
    group.add_argument("--positions", type=positions, help=f"{', '.join(POSITIONS)}, or numbers (all; each)")
    group.add_argument("--engine", choices=choice.ENGINES, help="how the cells are run (auto)")
    group.add_argument("--max-memory", type=memory, help="beside the weights, such as 2GB")

    group = made.add_argument_group("many facts")
    group.add_argument("--facts", metavar="FILE", help="a file of facts, or demo; with --out")
    group.add_argument("--out", metavar="DIR", help="where traces and averages go; a second run resumes")

    group.add_argument("--limit", type=count, help="so many facts only")

    group = made.add_argument_group("output")
    group.add_argument("--plan", action="store_true", help="print what would run, and run nothing")
    group.add_argument("--json", metavar="FILE")
    group.add_argument("--csv", metavar="FILE")
    group.add_argument("--plot", metavar="FILE", help=f".png, .pdf or .svg ({FIGURE} without arguments)")
    group.add_argument("--quiet", action="store_true", help="print the table, and nothing else")
    group.add_argument("--debug", action="store_true", help="show where an error came from")
    return made


# ---- values


def entries(text: str) -> list[str]:
    found = [word.strip() for word in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty entry")
    return found


def components(text: str) -> list[str]:
    found = entries(text)
    return _said(lambda: grid.components_of(found)) and found


def metric_names(text: str) -> list[str]:
    known = ["auto", *metrics.METRICS]
    for name in (found := entries(text)):
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no metric {name!r}; {closest(name, known)}")
    return found


def numbers(text: str) -> list[int]:
    """`"0-3,8,-1"` -> `[0, 1, 2, 3, 8, -1]`."""
    found: list[int] = []
    for part in entries(text):
        match = re.fullmatch(r"(-?\d+)(?:-(\d+))?", part)
        last = int(match[2] or match[1]) if match else -1
        if not match or last < int(match[1]) or last > 10**6:
            raise argparse.ArgumentTypeError(f"{text!r}: give numbers and ranges such as 0-3,8")
        found += range(int(match[1]), last + 1)
    return found


def positions(text: str) -> str | list[int]:
    if re.search(r"\d", text):
        return numbers(text)
    if text not in POSITIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; {closest(text, POSITIONS)}; or numbers")
    return text


def heads(text: str) -> str | list[int]:
    return text if text == "each" else numbers(text)


def count(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def memory(text: str) -> int:
    """`"2GB"` -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in UNITS or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: give a size such as 2GB, 500MB, or a number of bytes")
    return int(float(match[1]) * UNITS[match[2].upper()])


def answer(text: str) -> str | int:
    """The text of an answer, or the token id in `id:1234`."""
    return int(text[3:]) if re.fullmatch(r"id:\d+", text) else text


def noise(args: argparse.Namespace) -> GaussianNoise:
    """The noise that the options describe; InputError for a level, a seed or a subject without meaning."""
    level = "s3" if args.noise is None else args.noise
    seed = 1 if args.seed is None else args.seed
    return GaussianNoise(args.subject, level, args.samples or 10, seed)


def _said(check: Any) -> Any:
    """The check's value; its MlxtraceError as argparse wants it, so that the option is named."""
    try:
        return check()
    except MlxtraceError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# ---- what goes together


def _experiment(args: argparse.Namespace) -> str:
    given = {name for name, value in vars(args).items() if value not in (None, False)} - ALWAYS
    what = (
        "facts"
        if {"facts", "out", "limit"} & given
        else "trace"
        if {"prompt", "kind", "compare_bits"} & given
        else "patch"
    )
    for stray in sorted(given - GOES_WITH[what]):
        homes = " or ".join(NAMES[x] for x, options in GOES_WITH.items() if stray in options)
        raise InputError(f"{_option(stray)} does not go with {NAMES[what]}: it belongs to {homes}")
    if {"corrupted", "noise"} <= given:
        raise InputError("--corrupted and --noise are two ways to corrupt a prompt: give one of them")
    needs = {"facts": {"facts", "out"}, "trace": {"prompt", "subject"}, "patch": set()}[what]
    if what == "patch" and {"noise", "samples"} & given:
        needs = {"clean", "noise", "subject"}
        if "clean" not in given:
            raise InputError("noise needs a prompt: --prompt (a causal trace) or --clean, and its --subject")
    elif what == "patch" and {"clean", "corrupted"} & given:
        needs = {"clean", "corrupted"}
    for name in sorted(needs - given):
        other = " and ".join(map(_option, sorted(needs & given or given)))
        also = " (or --noise)" if name == "corrupted" else ""
        raise InputError(f"{other} needs {_option(name)}{also} as well")
    if what == "trace" and args.window is not None and KINDS[args.kind or "block"] is None:
        raise InputError("--window goes with --kind mlp or attn: layer outputs are restored one at a time")
    if "compare_bits" in given and {"json", "csv"} & given:
        raise InputError(
            "--compare-bits prints and draws two traces side by side: leave out --json and --csv"
        )
    if args.plan and FILES & given:
        raise InputError("--plan runs nothing, so there is nothing to write: leave out --json, --csv, --plot")
    return what


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
        found["plot"] = plotting.check_path(figure)
    return found
