"""The quick run: `python -m mlxtrace.patch` patches, traces, or runs a file of facts, from a terminal.

    python -m mlxtrace.patch                                               the bundled model and fact
    python -m mlxtrace.patch --model M --clean "..." --corrupted "..."     activation patching
    python -m mlxtrace.patch --model M --prompt "..." --subject "..."      a causal trace, with noise
    python -m mlxtrace.patch --facts FILE --out DIR                        many facts: resumes, averages

Exit status: 0 done, 2 bad input, 130 interrupted, 1 anything else; each with one clear line on standard error.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import options, terminal
from .errors import MlxtraceError
from .experiments import pairs
from .model import InterpretableModel
from .plotting.labels import quoted
from .prompts.running import run_facts
from .results.patching_result import PatchingResult
from .terminal import Output

CLEAN = "The Eiffel Tower is located in the city of"
CORRUPTED = "The Colosseum is located in the city of"
FACT_OPTIONS = ("noise", "samples", "seed", "window", "limit", "engine", "max_memory")
TELLING = 15  # percent of effect from which a site is worth a sentence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. Nothing that a user can do wrong raises."""
    argv = sys.argv[1:] if argv is None else list(argv)
    output = Output()
    try:
        terminal.importing_is_over()
        status = _run(argv, output)
    except SystemExit as end:  # of --help
        raise SystemExit(terminal.closing(output, int(end.code or 0))) from None
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            traceback.print_exc()
        status = _failed(error)  # one line, and no notes beside it
    return terminal.closing(output, status)


def _run(argv: list[str], say: Output) -> int:
    with warnings.catch_warnings(record=True) as caught:
        args = options.read(argv)
        run = {"patch": patch, "trace": trace, "facts": facts}[args.experiment]
        told = run(InterpretableModel(args.model, dtype=args.dtype), args, say)
    for line in _worth_saying(caught, told):
        terminal.complain(f"note: {line}")
    return 0


# ---- the experiments


def patch(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """Activation patching of what was asked for; without prompts, the tour of the bundled fact.

    Like the other experiments it writes the files that were asked for before it prints, and returns the notes that
    it printed.
    """
    clean = CLEAN if args.clean is None else args.clean
    corrupted = CORRUPTED if args.corrupted is None else args.corrupted
    if args.noise is not None:
        corrupted = options.noise(args)
    asked = {
        "component": args.component or ["mlp", "attn"],
        "layers": args.layers,
        "positions": None if args.positions == "all" else args.positions,
        "heads": args.heads,
        # so sure an answer would jump between 0 and 100 % of its probability, layer by layer
        "window": args.window or (3 if args.bare else 1),
        "metric": args.metric or (["logit_diff"] if args.bare else ["auto"]),
        "target": args.target,
        "foil": args.foil,
        "subject": args.subject,
        "direction": args.direction or "denoise",
        "align": args.align or "strict",
        "engine": args.engine or "auto",
        "max_memory": args.max_memory,
        "progress": False if args.quiet else None,
    }
    if args.plan:
        return _show_plan(say, model, model.activation_patching(clean, corrupted, **asked, plan_only=True))
    if not args.quiet:
        both = pairs.pair(model, clean, corrupted, args.subject, asked["align"])
        _receipt(model, clean, both.subject, say)
    result = drawn = model.activation_patching(clean, corrupted, **asked)
    if args.bare and args.positions is None and args.heads is None and "head" not in asked["component"]:
        asked |= {"component": ["resid_post", *result.components], "positions": "each"}
        asked["component"] = list(dict.fromkeys(asked["component"]))
        drawn = model.activation_patching(clean, corrupted, **asked)
    written = _write(result, drawn, args, say)
    if not args.quiet:
        say("\n" + textwrap.fill(strongest(drawn), 100))
    if written and not args.quiet:
        say(written)
    if args.bare and not args.quiet:
        _farewell(args, asked, say)
    return result.notes


def trace(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """The causal trace of one prompt, as in Meng et al. 2022."""
    noise = options.noise(args)
    asked = {
        "kind": options.KINDS[args.kind or "block"],
        "window": args.window or 10,
        "samples": noise.samples,
        "noise": noise.level,
        "seed": noise.seed,
        "target": args.target,
        "positions": "each" if args.positions in (None, "all") else args.positions,
        "engine": args.engine or "auto",
        "max_memory": args.max_memory,
        "progress": False if args.quiet else None,
    }
    if args.plan:
        return _show_plan(say, model, model.causal_trace(args.prompt, args.subject, **asked, plan_only=True))
    if not args.quiet:
        _receipt(model, args.prompt, args.subject, say)
    if args.compare_bits:
        result = model.compare_bits(args.prompt, args.subject, args.compare_bits, **asked)
    else:
        result = model.causal_trace(args.prompt, args.subject, **asked)
    written = _write(result, result, args, say)
    if written and not args.quiet:
        say(written)
    return result.notes


def facts(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """Causal traces of a file of facts, into a folder; what is there already is not run again."""
    kinds = tuple(options.KINDS.values()) if args.kind is None else (options.KINDS[args.kind],)
    if args.plan:
        chosen = len(args.known[: args.limit])
        return _show_plan(say, model, f"{chosen} facts, {len(kinds)} traces of each, into {args.out}")
    asked = {name: getattr(args, name) for name in FACT_OPTIONS}
    asked = {name: value for name, value in asked.items() if value is not None}
    average = run_facts(
        model, args.known, args.out, kinds=kinds, progress=False if args.quiet else None, **asked
    )
    say(average)
    if not args.quiet:
        say(f"traces, tables and figures: {Path(args.out).resolve()}")
    return ()


# ---- what is told


def _show_plan(say: Output, model: InterpretableModel, plan: Any) -> Sequence[str]:
    say(f"{model!r}\n{plan}\nnothing was run")
    return ()


def _receipt(model: InterpretableModel, prompt: str, subject: Any, say: Output) -> None:
    say(f"{model!r}\n\n{model.receipt(prompt, subject)}\n")


def strongest(result: PatchingResult) -> str:
    """One sentence: for each component the site that matters most, and the next one elsewhere."""
    key = f"{result.metrics[0]}_recovery"
    sign = -1 if result.direction == "noise" else 1
    inner = [c for c in result.components if not c.startswith("resid")]  # the stream holds all there is
    parts = []
    for component in inner or result.components:
        rows = [row for row in result.to_rows() if row["component"] == component]
        rows = [row for row in rows if sign * (row[key] - result.no_effect) >= TELLING]
        rows.sort(key=lambda row: -sign * row[key])
        chosen = rows[:1] + [row for row in rows if _elsewhere(row, rows[0], result.window)][:1]
        sites = " and ".join(f"{_place(row, result)} ({row[key]:.0f} %)" for row in chosen)
        parts.append(f"{component} {sites or f'nowhere (each below {TELLING} %)'}")
    return f"{'Breaks' if sign < 0 else 'Restores'} most: {'; '.join(parts)}."


def _elsewhere(row: dict, first: dict, window: int) -> bool:
    if "position" in row:
        return row["position"] != first["position"]
    return abs(row["layer"] - first["layer"]) > window or row.get("head") != first.get("head")


def _place(row: dict, result: PatchingResult) -> str:
    layer = f"layer {row['layer']}" if result.window == 1 else f"layers around {row['layer']}"
    where = layer + (f" head {row['head']}" if "head" in row else "")
    if "position" not in row:
        return where
    subject, position = result.subject_range or range(0), row["position"]
    which = "last token" if position == len(result.tokens) - 1 else f"token {position}"
    if position in subject:
        which = "last subject token" if position == subject[-1] else "subject token"
    return f"{where} at the {which} {quoted(row['token'])}"


def _write(result: Any, drawn: Any, args: argparse.Namespace, say: Output) -> str:
    """Write the files that were asked for, then print the result, also when one cannot be written; names each."""
    lines = []
    try:
        for name, path in args.files.items():
            drawn.plot(path) if name == "plot" else getattr(result, f"to_{name}")(path)
            lines.append(f"{'figure' if name == 'plot' else name}: {path.absolute()}")
    finally:
        say(result)
    return "\n".join(lines)


def _farewell(args: argparse.Namespace, asked: dict, say: Output) -> None:
    if args.model == "demo":
        say("The demo's circuit was planted by its training, so that there is a truth to find.")
    own = "" if args.model == "demo" else f" --model {args.model}"
    say(
        f"The same table: python -m mlxtrace.patch{own} --clean {quoted(CLEAN)} --corrupted {quoted(CORRUPTED)} "
        f"--metric {','.join(asked['metric'])} --window {asked['window']}\nand the map: add --positions each"
    )


def _failed(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        terminal.complain("interrupted")
        return terminal.INTERRUPTED
    if isinstance(error, MlxtraceError):
        terminal.complain(str(error))
        return 2
    terminal.complain(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)")
    return 1


def _worth_saying(caught: list[warnings.WarningMessage], told: Sequence[str]) -> list[str]:
    """The warnings that concern a user and that no result has printed as its note."""
    lines = [str(w.message) for w in caught if issubclass(w.category, (UserWarning, RuntimeWarning))]
    return [line for line in dict.fromkeys(lines) if line not in told]


if __name__ == "__main__":
    sys.exit(main())
