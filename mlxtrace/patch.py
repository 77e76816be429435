"""The quick run: `python -m mlxtrace.patch` patches, traces, or runs a file of pairs or facts, from a terminal.

    python -m mlxtrace.patch                                               the bundled model and fact
    python -m mlxtrace.patch --model M --clean "..." --corrupted "..."     activation patching
    python -m mlxtrace.patch --model M --prompt "..." --subject "..."      a causal trace, with noise
    python -m mlxtrace.patch --model M --chat FILE [FILE]                  either, of a chat's messages
    python -m mlxtrace.patch --pairs FILE                                  activation patching of many pairs
    python -m mlxtrace.patch --facts FILE --out DIR                        many facts: resumes, averages
    python -m mlxtrace.patch --screen neuron                               single neurons: ranked, verified, audited
    python -m mlxtrace.patch --edges eap --circuit 50 --plot circuit.dot   edges, and the circuit of the best
    python -m mlxtrace.patch --report page.html                            any of these, as a page to read

Exit status: 0 done, 2 bad input, 130 interrupted, 1 anything else; each with one clear line on standard error.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import launched, options, prompts, rankings, report_runs, terminal
from .asked_prompts import pair_of, pairs_of
from .errors import LongRunWarning, MlxtraceError
from .model import InterpretableModel
from .option_spelling import as_typed
from .prompts.running import run_facts
from .results.strongest import strongest
from .terminal import Output

FACT_OPTIONS = ("window", "limit", "engine", "max_memory", "first_token")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; nothing that a user can do wrong raises.

    Args:
        argv: The arguments; default: those of the process.

    Returns:
        The exit status.

    Example:
        >>> from mlxtrace import patch
        >>> patch.main(["--clean", "Rome is in", "--corrupted", "Paris is in", "--plan", "--layers", "first"])
        2
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    output = launched.output("mlxtrace.patch", argv)
    try:
        terminal.importing_is_over()
        output.join()
        status = _run(argv, output)
    except SystemExit as end:  # of --help
        raise SystemExit(terminal.closing(output, int(end.code or 0))) from None
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            traceback.print_exc()
        status = _failed(error, argv, output)  # one line, and no notes beside it
    return terminal.closing(output, status)


def _run(argv: list[str], say: Output) -> int:
    with terminal.noted(LongRunWarning, lambda x: say.complain(f"note: {as_typed(x, argv)}")) as caught:
        args = options.read(argv)
        run = {"patch": patch, "trace": trace, "pairs": pairs, "facts": facts}.get(args.experiment, ranked)
        how = {"dtype": args.dtype, "adapter_path": args.adapter_path, "shard": args.shard}
        model = InterpretableModel(args.model, **how)
        launched.check_copies(model, args.shard, args.out)
        args.leads, args.files = say.first, args.files if say.first else {}
        printed = run(model, args, say)
    for line in _worth_saying(caught, argv, printed):
        say.complain(f"note: {line}")
    return 0


# ---- the experiments: each writes the files before it prints, and returns the notes that it printed


def patch(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """Activation patching of the prompts in the options; without prompts, the tour of the bundled fact."""
    both = pair_of(model, args, say)
    settings = {**_patching_settings(args), **_answers(args), "foil": args.foil}
    further = report_runs.further_runs(model, args, both, None, settings)
    if args.plan:
        return _show_plan(say, model, model.activation_patching(both, **settings, plan_only=True), further)
    if not args.quiet:
        _show_prompt(model, both.clean_prompt, say)
    result = mapped = model.activation_patching(both, **settings)
    if args.bare and args.positions is None and args.heads is None and "head" not in settings["component"]:
        components = list(dict.fromkeys(["resid_post", *result.components]))
        # single states of the stream, as published: a window of them is one state
        windows = result.settings.get("windows") or dict.fromkeys(result.components, result.window)
        each = {**settings, "component": components, "positions": "each", "window": windows}
        mapped = model.activation_patching(both, **each)
    written = _write(result, mapped, args, say)
    if not args.quiet:
        say("\n" + textwrap.fill(strongest(mapped), 100))
    if written and not args.quiet:
        say(written)
    if args.bare and not args.quiet:
        _farewell(args, both, {**settings, "window": result.window}, say)
    report_runs.write(further, model, args, say, [result], both)
    return result.notes


def _patching_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `activation_patching`, but for the prompts and their answers."""
    return {
        "component": args.component or ["mlp", "attn"],
        "layers": args.layers,
        "positions": None if args.positions == "all" else args.positions,
        "heads": args.heads,
        # so sure an answer would jump between 0 and 100 % of its probability, layer by layer
        "window": args.window or ("auto" if args.bare else 1),
        "metric": args.metric or (["logit_diff"] if args.bare else ["auto"]),
        "direction": args.direction or "denoise",
        **({} if args.within is None else {"within": args.within}),
        **_running_settings(args),
    }


def _answers(args: argparse.Namespace) -> dict[str, Any]:
    """The answer, or those that are acceptable."""
    return {"target": args.target} if args.answers is None else {"answers": args.answers}


def _running_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that say how an experiment is run."""
    return {
        "engine": args.engine or "auto",
        "max_memory": args.max_memory,
        "progress": False if args.quiet else None,
    }


def trace(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """The causal trace of one prompt, as in Meng et al. 2022."""
    settings = {
        "kind": options.KINDS[args.kind or "block"],
        "window": args.window or "auto",
        **options.sampling(args.gaussian),
        **_answers(args),
        "positions": "each" if args.positions in (None, "all") else args.positions,
        **_running_settings(args),
    }
    prompt = model.prompt(args.prompt, args.subject)
    further = report_runs.further_runs(model, args, prompt, None, settings)
    if args.plan:
        plan = model.causal_trace(prompt, args.subject, **settings, plan_only=True)
        return _show_plan(say, model, plan, further)
    if not args.quiet:
        _show_prompt(model, prompt, say)
    if args.compare_bits:
        result = model.compare_bits(prompt, args.subject, args.compare_bits, **settings)
    else:
        result = model.causal_trace(prompt, args.subject, **settings)
    written = _write(result, result, args, say)
    if written and not args.quiet:
        say(written)
    report_runs.write(further, model, args, say, [result])
    return result.notes


def pairs(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """Activation patching of many pairs, of a file or a task; without noise of those that the model can be asked."""
    chosen, limit, said = pairs_of(model, args)
    corrupted = None if args.noise is None else args.gaussian
    settings = _patching_settings(args)
    further = report_runs.further_runs(model, args, chosen[:limit], corrupted, settings)
    if args.plan:
        plan = model.activation_patching(chosen[:limit], corrupted, **settings, plan_only=True)
        return _show_plan(say, model, f"{said}\n{plan}", further)
    if not args.quiet:
        say(f"{model!r}\n")
    if args.out is None:
        result = model.activation_patching(chosen[:limit], corrupted, **settings)
    else:
        result = prompts.run(model, chosen, out=args.out, limit=limit, corrupted=corrupted, **settings)
    result.notes = [said, *result.notes]
    written = _write(result, result, args, say)
    if not args.quiet:
        say("\n" + textwrap.fill(strongest(result), 100))
    if written and not args.quiet:
        say(written)
    if args.out is not None and not args.quiet:
        say(f"a file for each pair, and their average: {Path(args.out).resolve()}")
    report_runs.write(further, model, args, say, [result])
    return result.notes


def ranked(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """What ranks the cells or edges of a pair or of many: `--attribution`, `--screen`, `--edges`."""
    many, notes = args.pairs is not None, []
    given: Any
    if many:
        chosen, limit, said = pairs_of(model, args)
        given, noise, notes = chosen[:limit], None if args.noise is None else args.gaussian, [said]
    else:
        given, noise = pair_of(model, args, say), None
    if not args.quiet:
        say(f"{model!r}\n") if many else _show_prompt(model, given.clean_prompt, say)
    found = rankings.run(model, given, noise, args)
    found.result.notes = [*notes, *found.result.notes]
    written = _write(found.result, found.result, args, say)
    for text in (found.said, "" if args.quiet else written):
        if text:
            say(text)
    settings = {**_patching_settings(args), "metric": [rankings.metric_of(args)]}
    settings |= {} if many else {**_answers(args), "foil": args.foil}
    further = report_runs.further_runs(model, args, given, noise, settings)
    report_runs.write(further, model, args, say, [found.result, *found.more], given)
    return found.result.notes


def facts(model: InterpretableModel, args: argparse.Namespace, say: Output) -> Sequence[str]:
    """Causal traces of a file of facts, into a folder; what is there already is not run again."""
    kinds = tuple(options.KINDS.values()) if args.kind is None else (options.KINDS[args.kind],)
    if args.plan:
        chosen = len(args.known[: args.limit])
        return _show_plan(say, model, f"{chosen} facts, {len(kinds)} traces of each, into {args.out}")
    given: dict[str, Any] = {name: getattr(args, name) for name in FACT_OPTIONS}
    given = {"window": "auto"} | {name: value for name, value in given.items() if value is not None}
    given |= options.sampling(args.gaussian)
    average = run_facts(
        model, args.known, args.out, kinds=kinds, progress=False if args.quiet else None, **given
    )
    say(average)
    if not args.quiet:
        say(f"traces, tables and figures: {Path(args.out).resolve()}")
    report_runs.write([], model, args, say, [average])
    return ()


# ---- what is printed and written


def _show_plan(say: Output, model: Any, plan: Any, further: Sequence[Any] = ()) -> Sequence[str]:
    say(f"{model!r}\n{report_runs.planned(further, plan)}\nnothing was run")
    return ()


def _show_prompt(model: InterpretableModel, prompt: Any, say: Output) -> None:
    say(f"{model!r}\n\n{prompt}\n")


def _write(result: Any, mapped: Any, args: argparse.Namespace, say: Output) -> str:
    """Write the files of the options, then print the result, also when one cannot be written; names each."""
    say.meet()
    lines, result.notes = [], [as_typed(note, args.typed) for note in result.notes]
    try:
        for name, path in args.files.items():
            if name == "plot":
                mapped.plot(path)
            else:
                getattr(result, f"to_{name}")(path)
            lines.append(f"{'figure' if name == 'plot' else name}: {path.absolute()}")
    finally:
        say(result)
    return "\n".join(lines)


def _farewell(args: argparse.Namespace, both: Any, settings: dict, say: Output) -> None:
    if args.model == "demo" and args.adapter_path is None:
        say("The demo's circuit was planted by its training, so that there is a truth to find.")
    own = ("" if args.model == "demo" else f" --model {args.model}") + (" --shard" if args.shard else "")
    own += " pipeline" if args.shard == "pipeline" else ""
    own += "" if args.adapter_path is None else f' --adapter-path "{args.adapter_path}"'
    own += f' --clean "{both.clean_text}" --corrupted "{both.corrupted_text}"'
    own += "" if len(both.clean.ids) == len(both.corrupted.ids) else " --align ends"
    say(
        f"The same table: python -m mlxtrace.patch{own} "
        f"--metric {','.join(settings['metric'])} --window {settings['window']}\nand the map: add --positions each"
    )


def _failed(error: BaseException, argv: list[str], say: Output) -> int:
    """Say in one line what went wrong; the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return say.failed("interrupted", terminal.INTERRUPTED)
    if isinstance(error, MlxtraceError):
        return say.failed(as_typed(str(error), argv), 2)
    return say.failed(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)", 1)


def _worth_saying(caught: Sequence[Any], argv: list[str], printed: Sequence[str]) -> list[str]:
    """The warnings that concern a user and that no result has printed as its note."""
    worth = [w.message for w in caught if issubclass(w.category, (UserWarning, RuntimeWarning))]
    lines = [as_typed(str(message), argv) for message in worth]
    return [line for line in dict.fromkeys(lines) if line not in printed]


if __name__ == "__main__":
    sys.exit(main())
