"""What `python -m mlxtrace.patch` understands: its options and their values (`option_rules.py`: which go together).

    args = read(["--clean", "...", "--corrupted", "...", "--layers", "0-3,8"])
    args.experiment      # "patch", "trace", "pairs", "facts", "attribution", "screen" or "edges"
    args.layers          # [0, 1, 2, 3, 8]
    args.files           # {"json": Path(...)}: places that can be written

Everything that can be refused without a model is refused here, as an InputError of one line.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from . import option_rules, option_values, prompts
from .engine.choice import ENGINES
from .engine.corruption import UNTIL, GaussianNoise
from .errors import InputError
from .loading import DTYPES
from .option_rules import KINDS, TASKS, experiment_of
from .pages.report import check_page
from .plotting import check_path
from .prompts import fact_files
from .prompts.chat_files import read_chats
from .storage import writable, writable_folder
from .version import VERSION

Group: TypeAlias = argparse._ArgumentGroup
FIGURE = "mlxtrace-patch.png"
AUTO = "auto"


class _Parser(argparse.ArgumentParser):
    """argparse, except that what it refuses is an InputError: one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the options)")


def read(argv: Sequence[str]) -> argparse.Namespace:
    """The options, checked against each other; `experiment`, `bare`, `files`, `known` (facts, pairs) and `typed` (argv)
    are added."""
    args = parser().parse_args(argv)
    if args.chat is not None:
        _settle_chat(args)
    args.experiment = experiment_of(args)
    args.bare = args.experiment == "patch" and args.clean is None
    args.files = _files(args)
    args.report = None if args.report is None else check_page(args.report)
    args.command = f"python -m mlxtrace.patch {shlex.join(argv)}".rstrip()
    if args.out is not None:
        writable_folder(args.out)
    if args.experiment == "facts":
        args.known = fact_files.load(args.facts)
    if args.pairs is not None:
        args.known = _pairs_of(args.pairs)
    if args.corrupted == AUTO and args.subject is None:
        args.subject = _known_subject(args.clean)
    args.leads, args.auto, args.gaussian, args.typed = True, args.corrupted == AUTO, noise(args), list(argv)
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
    made.add_argument("-V", "--version", action="version", version=f"mlxtrace {VERSION}")
    made.add_argument("--model", default="demo", help="demo (it is bundled), a folder, or a hub name")
    made.add_argument("--dtype", choices=DTYPES, help="cast the weights to it; dequantizes")
    made.add_argument("--adapter-path", metavar="DIR", help="adapters that mlx_lm.lora wrote, put onto it")
    shard = {"nargs": "?", "const": True, "type": option_values.ranks, "metavar": "N"}
    made.add_argument("--shard", **shard, help=option_values.SHARD)
    _add_patching(made.add_argument_group("activation patching"))
    _add_rankings(made.add_argument_group("rankings: of a pair, or of --pairs"))
    _add_tracing(made.add_argument_group("causal tracing"))
    _add_shared(made.add_argument_group("patching and tracing"))
    _add_many(made.add_argument_group("many pairs, many facts"))
    _add_output(made.add_argument_group("output"))
    return made


def _add_patching(group: Group) -> None:
    chat = (
        "messages as JSON in the place of --clean and --corrupted, or of --prompt; two files, or one of both"
    )
    group.add_argument("--chat", nargs="+", metavar="FILE", help=chat)
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


def _add_rankings(group: Group) -> None:
    """Options without a value of their own have a default one; see `const`."""
    group.add_argument(
        "--screen", nargs="?", const=["neuron"], type=option_values.components,
        help="rank single cells by gradients, run the best exactly, audit the rest (neuron)",
    )  # fmt: skip
    group.add_argument("--verify", type=option_values.count, help="cells that are run exactly (200)")
    group.add_argument("--audit", type=option_values.count, help="cells drawn at random from the rest (300)")
    group.add_argument("--until", choices=("stable",), help="verify more until the ten strongest stay")
    group.add_argument(
        "--edges", nargs="?", const="exact", choices=("exact", "eap", "eap-ig"),
        help="score every edge; eap and eap-ig by gradients (exact)",
    )  # fmt: skip
    group.add_argument(
        "--circuit", type=option_values.count, metavar="N", help="of the N best edges; --plot also as .dot"
    )
    group.add_argument(
        "--attribution", nargs="?", const="atp", choices=("atp", "atp*", "ig"),
        help="estimate what --component would do by gradients (atp)",
    )  # fmt: skip


def _add_tracing(group: Group) -> None:
    group.add_argument("--prompt", help="trace it as Meng et al. 2022 do; with --subject")
    group.add_argument(
        "--noise", help="on the subject: s3 (3 x std of the embeddings), 0.1, u3; also with --clean"
    )
    group.add_argument(
        "--samples",
        type=option_values.samples,
        help="of the noise, or until, until:5: as many as it takes (10)",
    )
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
    answer = 'the answer, all of it: " New York", or id:1234, id:12,34 (the clean top token)'
    group.add_argument("--target", type=option_values.answer, help=answer)
    several = 'any of these instead, " Paris| paris": their probabilities are added'
    group.add_argument("--answers", action="extend", type=option_values.answers, help=several)
    together = (
        "layers patched together, or auto: of mlp and attn the published 10 of 48, here as many by depth, such as 3 of "
        "12 (1; auto in traces and without prompts)"
    )
    group.add_argument("--window", type=option_values.window, help=together)
    names = ", ".join(option_values.POSITIONS)
    group.add_argument(
        "--positions", type=option_values.positions, help=f"{names}, spans:32, or numbers (all; each)"
    )
    within = "of a region: each token by itself, averaged; its last; all at once (mean)"
    group.add_argument("--within", choices=("mean", "last", "together"), help=within)
    group.add_argument("--engine", choices=ENGINES, help="how the cells are run (auto)")
    group.add_argument("--max-memory", type=option_values.memory, help="beside the weights, such as 2GB")


def _add_many(group: Group) -> None:
    group.add_argument("--pairs", metavar="FILE", help=f"patch each: a file of pairs, or {', '.join(TASKS)}")
    group.add_argument("--facts", metavar="FILE", help="trace each: a file of facts, or demo; with --out")
    first = "a fact is known, and traced, by the first token of its attribute"
    group.add_argument("--first-token", action="store_true", help=first)
    group.add_argument("--out", metavar="DIR", help="a file for each goes there; a second run resumes")
    group.add_argument("--limit", type=option_values.count, help="so many only (of a task set 64)")


def _add_output(group: Group) -> None:
    group.add_argument("--plan", action="store_true", help="print what would run, and run nothing")
    group.add_argument("--json", metavar="FILE")
    group.add_argument("--csv", metavar="FILE")
    group.add_argument("--plot", metavar="FILE", help=f".png, .pdf or .svg ({FIGURE} without arguments)")
    page = "a page for one question, .html; also runs maps by token, heads, and the other direction for it"
    group.add_argument("--report", metavar="FILE", help=page)
    group.add_argument("--quiet", action="store_true", help="print the table, and nothing else")
    group.add_argument("--debug", action="store_true", help="show where an error came from")


def noise(args: argparse.Namespace) -> GaussianNoise:
    """The noise that the options describe; InputError for a level, a seed or a subject without meaning."""
    level = "s3" if args.noise is None else args.noise
    seed = 1 if args.seed is None else args.seed
    samples, _, within = str(args.samples or 10).partition(":")
    if samples != UNTIL:
        return GaussianNoise(args.subject, level, int(samples), seed)
    return GaussianNoise(args.subject, level, samples, seed, within=float(within) if within else None)


def sampling(noise: GaussianNoise) -> dict[str, Any]:
    """The arguments of a causal trace that say how noise is drawn."""
    found = {"samples": noise.samples, "noise": noise.level, "seed": noise.seed}
    return found if noise.within is None else {**found, "within": noise.within}


# ---- prompts and places


def _settle_chat(args: argparse.Namespace) -> None:
    """What `--chat` names stands in the place of `--prompt` for a causal trace, else of `--clean` and `--corrupted`."""
    for name in ("clean", "prompt", "pairs", "facts"):
        if getattr(args, name) is not None:
            raise InputError(f"--chat and --{name} are two ways to name a prompt: give one of them")
    if args.corrupted not in (None, AUTO):
        raise InputError(
            "--corrupted is a text beside --chat: give the corrupted chat as the second file of --chat"
        )
    found = read_chats(args.chat)
    for name in ("corrupted", "target", "foil", "subject"):
        value = getattr(found, name)
        if value is not None and getattr(args, name) is not None:
            raise InputError(f"--{name} is given, and --chat says what it is too: give one of them")
        setattr(args, name, getattr(args, name) if value is None else value)
    given = {name for name, value in vars(args).items() if value not in (None, False)}
    patched, traced = given & option_rules.OF_PATCHING, given & {"kind", "compare_bits"}
    if patched and traced:
        raise InputError(
            f"{option_rules.option(min(traced))} traces one chat, and {option_rules.option(min(patched))} patches two, "
            "or one with noise: give one of them"
        )
    if not patched:
        if args.subject is None:
            raise InputError(
                "--chat names one chat: give the corrupted one as a second file, or --subject for a causal trace"
            )
        args.prompt = found.clean
    else:
        args.clean = found.clean


def _pairs_of(name: str) -> list[prompts.Pair] | None:
    """The pairs of a file; None of a task, whose set is made once its model is there."""
    if not name.strip():
        raise InputError(f"--pairs is empty: give a file, or one of {', '.join(TASKS)}")
    return None if name in TASKS else prompts.load(name)


def _known_subject(clean: Any) -> str:
    """The one subject of the bundled facts that a text or chat has; InputError when there is none, or several."""
    text = clean if isinstance(clean, str) else "\n".join(str(one.get("content")) for one in clean)
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
        text = args.circuit is not None and Path(figure).suffix.lower() in (".dot", ".gv")
        found["plot"] = writable(figure) if text else check_path(figure)
    return found
