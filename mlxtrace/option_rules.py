"""Which options of the command go together: the experiment that they ask for, or one line that says why there is none.

experiment_of(args)     # "patch", "trace", "pairs", "facts", "attribution", "screen" or "edges"

Options that would be of no effect beside the others are refused, never passed over.
"""

from __future__ import annotations

import argparse

from .errors import InputError

KINDS = {"block": None, "mlp": "mlp", "attn": "attn"}
TASKS = ("facts", "gender", "greater_than", "induction", "ioi")  # sets that are made for the model

# Which options an experiment knows, beside those that always mean something.
ALWAYS = {"model", "dtype", "adapter_path", "shard", "quiet", "debug", "plan", "report", "seed"}
ALWAYS |= {"chat"}  # which is prompts
FILES = {"json", "csv", "plot"}
GOES_WITH = {
    "patch": {
        *("clean", "corrupted", "noise", "samples", "subject", "component", "layers", "positions", "heads"),
        *(
            "window",
            "metric",
            "target",
            "answers",
            "foil",
            "direction",
            "align",
            "within",
            "engine",
            "max_memory",
        ),
        *FILES,
    },
    "trace": {
        *("prompt", "subject", "noise", "samples", "kind", "window", "target", "positions", "engine"),
        *("max_memory", "compare_bits", "answers"),
        *FILES,
    },
    "pairs": {
        *("pairs", "limit", "out", "noise", "samples", "component", "layers", "positions", "within", "heads"),
        *("window", "metric", "direction", "engine", "max_memory"),
        *FILES,
    },
    "facts": {
        "facts",
        "out",
        "limit",
        "noise",
        "samples",
        "kind",
        "window",
        "engine",
        "max_memory",
        "first_token",
    },
}
# What ranks cells or edges, of a pair or of many: of the options of patching these, and options of its own.
_PROMPTS = {
    "clean",
    "corrupted",
    "noise",
    "samples",
    "subject",
    "target",
    "answers",
    "foil",
    "align",
    "pairs",
    "limit",
}
_RANKED = {*_PROMPTS, "positions", "metric", "direction", "max_memory", *FILES}
RANKINGS = {
    "attribution": {*_RANKED, "attribution", "component", "layers", "heads", "window", "within"},
    "screen": {*_RANKED, "screen", "verify", "audit", "until", "layers", "heads", "within", "engine"},
    "edges": {*_RANKED, "edges", "circuit"},
}
GOES_WITH |= RANKINGS
OF_PATCHING = GOES_WITH["patch"].union(*RANKINGS.values()) - GOES_WITH["trace"]
# what each is asked for by
NAMES = {
    **{"patch": "--clean", "trace": "--prompt", "pairs": "--pairs", "facts": "--facts"},
    **{name: f"--{name}" for name in RANKINGS},
}
NOISED = "noise needs a prompt: --prompt (a causal trace) or --clean, and its --subject"


def experiment_of(args: argparse.Namespace) -> str:
    """Which experiment the options ask for; InputError when they do not go together or one is missing."""
    given = {name for name, value in vars(args).items() if value not in (None, False)}
    seeded, given = "seed" in given, given - ALWAYS
    experiment, prompts = _asked_for(given), "pairs" if "pairs" in given else "patch"
    for stray in sorted(given - GOES_WITH[experiment]):
        found = [name for name, options in GOES_WITH.items() if stray in options]
        homes = [NAMES[name] for name in found]
        if experiment in ("patch", "pairs") and RANKINGS.keys() >= set(found):
            raise InputError(f"{option(stray)} needs {' or '.join(homes)} as well")
        either = experiment in ("pairs", "facts") and option(stray) in homes
        cure = "give one of them" if either else f"use it with {' or '.join(homes)}"
        raise InputError(f"{option(stray)} does not go with {NAMES[experiment]}: {cure}")
    if experiment in RANKINGS:
        _check_ranking(args, experiment, given, seeded)
    if {"corrupted", "noise"} <= given:
        raise InputError("--corrupted and --noise are two ways to corrupt a prompt: give one of them")
    if {"target", "answers"} <= given:
        raise InputError("--target and --answers both say what the answer is: give one of them")
    needs = _needs(prompts if experiment in RANKINGS else experiment, given)
    for name in sorted(needs - given):
        other = " and ".join(map(option, sorted(needs & given or given)))
        also = " (or --noise)" if name == "corrupted" else ""
        raise InputError(f"{other} needs {option(name)}{also} as well")
    _check_values(args, experiment, given)
    return experiment


def option(name: str) -> str:
    """As it is typed."""
    return "--" + name.replace("_", "-")


def _asked_for(given: set[str]) -> str:
    rankings = sorted(RANKINGS.keys() & given)
    if len(rankings) > 1:
        raise InputError(f"{' and '.join(map(option, rankings))} are two experiments: give one of them")
    if rankings:
        return rankings[0]
    for experiment in ("pairs", "facts"):
        if experiment in given:
            return experiment
    if {"out", "limit"} & given:
        raise InputError(f"{option(min({'out', 'limit'} & given))} needs --pairs or --facts as well")
    return "trace" if {"prompt", "kind", "compare_bits"} & given else "patch"


def _needs(experiment: str, given: set[str]) -> set[str]:
    """The options that an experiment cannot do without, beside those that are given."""
    if experiment == "pairs":
        return {"noise"} if "samples" in given else set()
    if experiment != "patch":
        return {"facts": {"facts", "out"}, "trace": {"prompt", "subject"}}[experiment]
    if {"noise", "samples"} & given:
        if "clean" not in given:
            raise InputError(NOISED)
        return {"clean", "noise", "subject"}
    return {"clean", "corrupted"} if {"clean", "corrupted"} & given else set()


def _check_ranking(args: argparse.Namespace, experiment: str, given: set[str], seeded: bool) -> None:
    """InputError for options of one pair beside `--pairs`, and for those that a ranking has no use for."""
    own = GOES_WITH[experiment] & GOES_WITH["patch"] - GOES_WITH["pairs"]
    for stray in sorted(given & own) if "pairs" in given else ():
        raise InputError(f"{option(stray)} does not go with --pairs: use it with --clean")
    if "limit" in given and "pairs" not in given:
        raise InputError("--limit needs --pairs as well")
    if args.plan:
        raise InputError(
            f"--plan does not go with {NAMES[experiment]}: use it with --clean or --pairs alone, whose "
            "passes can be counted before any is run"
        )
    if seeded and experiment != "screen" and not ("noise" in given or args.pairs in TASKS):
        raise InputError(
            f"--seed does not go with {NAMES[experiment]}: nothing is drawn but noise, a set of --pairs, and the "
            "cells that --screen audits"
        )
    if experiment == "edges" and args.positions in ("each", "regions"):
        raise InputError(
            f"--positions {args.positions} does not go with --edges: an edge is one at all positions, or at "
            "those that are named"
        )
    if experiment != "attribution" and len(args.metric or ()) > 1:
        raise InputError(f"{NAMES[experiment]} ranks by one metric, and --metric names {len(args.metric)}")


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
