"""What `--report` runs beside what was asked, so that its page answers the question: maps, heads, the other direction.

    further = further_runs(model, args, given, corrupted, settings)
    planned(further, plan)                       # the plans of all, as text
    write(further, model, args, print, [result]) # runs them, and writes the page

The arguments are the parsed options of the command, which are checked already.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from .engine.runs import capture
from .errors import UnsupportedError
from .metrics import softmax
from .pages.report import About, report

MAPPED = ["resid_post", "mlp", "attn"]
KINDS = {None: "layer outputs", "mlp": "MLP outputs", "attn": "attention outputs"}
WAYS = {"denoise": "restoring", "noise": "corrupting"}
TOPS = 5  # likeliest tokens of either run


@dataclass(frozen=True)
class Further:
    """One more experiment. run: takes `plan_only`, and returns its result or its plan."""

    words: str
    run: Callable[..., Any]


def further_runs(
    model: Any, args: argparse.Namespace, given: Any, corrupted: Any, settings: Mapping[str, Any]
) -> list[Further]:
    """What the page of an experiment wants beside it; nothing without `--report`.

    Args:
        model: an `InterpretableModel`.
        args: the options, as `options.read` gives them.
        given: the pair, the pairs, or of a causal trace the prompt.
        corrupted: the noise in the place of corrupted prompts, or None.
        settings: what the experiment was run with.

    Returns:
        Maps of layer outputs, MLPs and attention by token (of a set by region), and heads, in both directions; of a
        causal trace the other kinds, and what the same noise does in the other direction. Not what was asked itself.

    Example:
        >>> from mlxtrace import InterpretableModel, options, prompts, report_runs
        >>> args = options.read(["--report", "x.html"])
        >>> pair = prompts.Pair("The Louvre is in", "The Colosseum is in")
        >>> settings = {"component": ["mlp"], "window": 1, "metric": ["prob"], "direction": "denoise"}
        >>> found = report_runs.further_runs(InterpretableModel("demo"), args, pair, None, settings)
        >>> print(*[one.words for one in found], sep="\\n")
        map of resid_post, mlp, attn, restoring
        heads, restoring
        map of resid_post, mlp, attn, corrupting
        heads, corrupting
    """
    if args.report is None or args.experiment == "facts" or args.compare_bits is not None:
        return []
    if args.experiment != "trace":
        return list(_maps_and_heads(model, args, given, corrupted, settings, ("denoise", "noise")))
    traces = [
        Further(
            f"causal trace of {KINDS[kind]}",
            _called(model.causal_trace, given, args.subject, **{**settings, "kind": kind}),
        )
        for kind in KINDS
        if kind != settings["kind"]
    ]
    kept = {name: settings[name] for name in ("target", "answers", "window", *RUNNING) if name in settings}
    patching = {**kept, "metric": ["prob"], "component": [], "direction": "denoise"}
    noised = list(_maps_and_heads(model, args, given, args.gaussian, patching, ("denoise", "noise")))
    return [*traces, *(one for one in noised if not one.words.startswith("map") or "corrupting" in one.words)]


RUNNING = ("engine", "max_memory", "progress")


def _maps_and_heads(
    model: Any,
    args: argparse.Namespace,
    given: Any,
    corrupted: Any,
    settings: Mapping[str, Any],
    directions: Sequence[str],
) -> Iterator[Further]:
    """The maps and heads of either direction, the asked one first; without what was asked."""
    asked, each = settings["direction"], "each" if args.pairs is None else "regions"
    each = (
        args.positions if hasattr(args.positions, "refine") else each
    )  # spans, which take as few cells there
    for direction in sorted(directions, key=lambda one: one != asked):
        same = direction == asked
        for components, window in _windows(settings["window"]):
            if same and settings.get("positions") == each and settings["window"] == window:
                components = [name for name in components if name not in settings["component"]]
            if components:
                more = {"component": components, "window": window, "positions": each, "heads": None}
                yield _patching(
                    f"map of {', '.join(components)}", model, given, corrupted, settings, direction, more
                )
        heads = settings["component"] == ["head"] and settings.get("positions") is None
        if model.n_heads is not None and not (same and heads and settings["window"] == 1):
            more = {"component": ["head"], "window": 1, "positions": None, "heads": None}
            yield _patching("heads", model, given, corrupted, settings, direction, more)


def _windows(window: int) -> list[tuple[list[str], int]]:
    """Components with their windows: of the stream single states, as a window of it is the state of its last layer."""
    return [(MAPPED, 1)] if window == 1 else [(MAPPED[:1], 1), (MAPPED[1:], window)]


def _patching(
    words: str,
    model: Any,
    given: Any,
    corrupted: Any,
    settings: Mapping[str, Any],
    direction: str,
    more: dict,
) -> Further:
    metric = settings["metric"][:1]
    whole = {**settings, **more, "metric": metric, "direction": direction}
    if whole["positions"] != "regions":
        whole.pop("within", None)
    return Further(
        f"{words}, {WAYS[direction]}", _called(model.activation_patching, given, corrupted, **whole)
    )


def _called(experiment: Callable[..., Any], *given: Any, **settings: Any) -> Callable[..., Any]:
    return lambda **more: experiment(*given, **settings, **more)


# ---- before and after


def planned(further: Sequence[Further], plan: Any) -> str:
    """The plan of what was asked, and those of what the page wants besides.

    Args:
        further: as `further_runs` gives it.
        plan: of what was asked.

    Returns:
        Text.
    """
    parts = [str(plan)]
    for one in further:
        try:
            said = str(one.run(plan_only=True))
        except UnsupportedError as error:
            said = f"cannot be run: {error}"
        parts.append(f"for the report, {one.words}\n{said}")
    return "\n\n".join(parts)


def write(
    further: Sequence[Further],
    model: Any,
    args: argparse.Namespace,
    say: Callable[[str], None],
    results: Sequence[Any],
    given: Any = None,
) -> None:
    """Run what the page wants, and write it; nothing without `--report`.

    Args:
        further: as `further_runs` gives it.
        model: the model that all is run on.
        args: the options.
        say: where it is said what is run, and where the page is; not with `--quiet`.
        results: what was asked.
        given: the pair, where it is one.
    """
    if args.report is None:
        return
    if further and not args.quiet:
        say(f"for the report: {'; '.join(one.words for one in further)}")
    found, missing = list(results), []
    for one in further:
        try:
            found.append(one.run())
        except UnsupportedError as error:
            missing.append(f"{one.words}: {error}")
    tops = (
        [_tops(model, run) for run in (given.clean, given.corrupted)] if hasattr(given, "alignment") else []
    )
    about = About(args.command, weights_of(model), tops, missing, _facts(args, results))
    if not args.leads:
        return
    page = report(found, args.report, about=about)
    if not args.quiet:
        say(f"report: {page.absolute()}")


def _facts(args: argparse.Namespace, results: Sequence[Any]) -> list[dict[str, str]]:
    """The facts that an average is over, which itself knows their ids only."""
    if args.experiment != "facts":
        return []
    kept = set(results[0].ids)
    return [
        {"id": fact.id, "prompt": fact.prompt, "subject": fact.subject, "answer": fact.attribute}
        for fact in args.known
        if fact.id in kept
    ]


def _tops(model: Any, run: Any) -> list[tuple[str, float]]:
    """The likeliest next tokens of a run, of a noised one by their mean probability over the samples."""
    probabilities = softmax(capture(model.resolver, (run,), [])[0]).mean(0)
    best = np.argsort(-probabilities, kind="stable")[:TOPS]
    return [(model.token_to_str(int(i)), float(probabilities[i])) for i in best]


def weights_of(model: Any) -> str:
    """A model's precision and size in words.

    Args:
        model: an `InterpretableModel`.

    Returns:
        Such as "float32, 12 layers, width 128".

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.report_runs import weights_of
        >>> weights_of(InterpretableModel("demo"))
        'float32, 12 layers of width 128, 8 heads'
    """
    arrays: dict[str, Any] = dict(tree_flatten(model.net.parameters()))
    dtypes = {str(x.dtype).removeprefix("mlx.core.") for x in arrays.values()}
    floats = sorted(name for name in dtypes if "float" in name)
    bits = sorted({module.bits for _, module in model.net.named_modules() if hasattr(module, "bits")})
    quantized = f"quantized to {' and '.join(map(str, bits))} bits, " if model.is_quantized else ""
    heads = f", {model.n_heads} heads" if model.n_heads else ""
    return f"{quantized}{' and '.join(floats)}, {model.n_layers} layers of width {model.d_model}{heads}"
