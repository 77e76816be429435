"""What the command runs to rank cells or edges, of a pair or of many: `--attribution`, `--screen`, `--edges`.

    found = run(model, pairs, None, args)
    found.result, found.said       # what is written and printed, and lines below it

The arguments are the parsed options of the command, which are checked already.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

DEMO_METRIC = "logit_diff"  # of the demo's own pair, whose answers are too sure for probabilities


@dataclass(frozen=True)
class Ranking:
    """The result that is printed, written and drawn, what is printed below it, and further results of a report."""

    result: Any
    said: str = ""
    more: tuple = ()


def run(model: Any, given: Any, corrupted: Any, args: argparse.Namespace) -> Ranking:
    """Rank the cells or edges of a pair, or of many.

    Args:
        model: an `InterpretableModel`.
        given: a pair, or a list of them, as `activation_patching` takes them.
        corrupted: the noise in the place of their corrupted prompts; None: these count.
        args: the options, as `options.read` gives them.

    Returns:
        A `Ranking`.

    Example:
        >>> from mlxtrace import InterpretableModel, options, prompts, rankings
        >>> args = options.read(["--screen", "head", "--verify", "2", "--audit", "2", "--layers", "5", "--quiet"])
        >>> pair = prompts.Pair("The Eiffel Tower is in", "The Colosseum is in")
        >>> found = rankings.run(InterpretableModel("demo"), pair, None, args)
        >>> len(found.result.verified)
        2
    """
    kind = {"attribution": _attributed, "screen": _screened, "edges": _scored}[args.experiment]
    return kind(model, given, corrupted, args)


def _attributed(model: Any, given: Any, corrupted: Any, args: argparse.Namespace) -> Ranking:
    settings = {
        "component": args.component or ["mlp", "attn"],
        "layers": args.layers,
        "heads": args.heads,
        "window": args.window or 1,
        "metric": args.metric or [_metric(args, "auto")],
        "positions": _positions(args, None),
        "method": args.attribution,
        **_within(args),
    }
    return Ranking(model.attribution_patching(given, corrupted, **settings, **_shared(args)))


def _screened(model: Any, given: Any, corrupted: Any, args: argparse.Namespace) -> Ranking:
    settings = {
        "component": args.screen,
        "verify": args.verify,
        "audit": args.audit,
        "until": args.until,
        "layers": args.layers,
        "heads": args.heads,
        "positions": _positions(args, "each"),
        "seed": args.seed,
        "engine": args.engine,
        **_within(args),
    }
    settings = {name: value for name, value in settings.items() if value is not None or name == "positions"}
    one = _one_metric(args, "auto")
    return Ranking(model.screen(given, corrupted, metric=one, **settings, **_shared(args)))


def _scored(model: Any, given: Any, corrupted: Any, args: argparse.Namespace) -> Ranking:
    settings = {"method": args.edges, "positions": _positions(args, None), **_shared(args)}
    scores = model.edges(given, corrupted, metric=_one_metric(args, DEMO_METRIC), **settings)
    if args.circuit is None:
        return Ranking(scores)
    circuit = scores.circuit(args.circuit)
    faithfulness, curve = circuit.faithfulness(), circuit.curve()
    return Ranking(circuit, f"\n{faithfulness}\n\n{curve}", (faithfulness, curve))


# ---- the options


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    """What every ranking takes."""
    return {
        **({"target": args.target} if args.answers is None else {"answers": args.answers}),
        "foil": args.foil,
        "direction": args.direction or "denoise",
        "max_memory": args.max_memory,
        "progress": False if args.quiet else None,
    }


def _within(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.within is None else {"within": args.within}


def _positions(args: argparse.Namespace, default: Any) -> Any:
    """`all` are all of them together."""
    return default if args.positions is None else None if args.positions == "all" else args.positions


def _metric(args: argparse.Namespace, default: str) -> str:
    return DEMO_METRIC if args.clean is None and args.pairs is None else default


def metric_of(args: argparse.Namespace) -> str:
    """The metric that a ranking is by: that of the options, else the one that it takes by itself."""
    return _one_metric(args, DEMO_METRIC if args.experiment == "edges" else "auto")


def _one_metric(args: argparse.Namespace, default: str) -> str:
    return args.metric[0] if args.metric else _metric(args, default)
