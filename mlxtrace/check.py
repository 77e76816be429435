"""The laws that numbers rest on, measured on any model: `python -m mlxtrace.check [MODEL] [--dtype float32]`.

    for row in check.run(model):       # Row(law, status, error, tolerance, note)
        print(row.law, row.status)

Run it first on a new model. A row for each law of `laws` says pass, fail, or n/a with the reason, and the last
line what can be trusted. Exit status: 0 every law holds, 1 one fails, 2 there is no such model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import terminal
from .errors import MlxtraceError
from .laws import LAWS, Law
from .model import InterpretableModel
from .storage import writable, write_atomic
from .terminal import Output
from .trial import NotHere, Trial

WIDTH = 110


@dataclass(frozen=True)
class Row:
    """One law on one model.

    status: "pass", "fail" or "n/a". error: the largest that was measured, relative to the largest value of what is
    compared (or a count, where the law counts); None for "n/a". distrust: what a failure puts in doubt.
    """

    law: str
    status: str
    error: float | None
    tolerance: float | None
    note: str = ""
    distrust: str = ""


def run(model: InterpretableModel | Any) -> list[Row]:
    """Measure every law on a model (or on a loaded mlx module); a law that raises has failed."""
    if not isinstance(model, InterpretableModel):
        model = InterpretableModel(model)
    trial = Trial(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_row(one, trial) for one in LAWS]


def _row(one: Law, trial: Trial) -> Row:
    try:
        found = one.measure(trial)
    except NotHere as reason:
        return Row(one.name, "n/a", None, None, str(reason))
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Row(one.name, "fail", float("inf"), None, why, one.distrust)
    holds = found.error <= found.tolerance
    return Row(
        one.name,
        "pass" if holds else "fail",
        found.error,
        found.tolerance,
        found.note,
        "" if holds else one.distrust,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text, notes under their laws."""
    width = max(len(row.law) for row in rows)
    lines = [f"{'law':<{width}}  {'':<4}  {'error':>9}  {'allowed':>9}"]
    for row in rows:
        error, allowed = (_number(x) for x in (row.error, row.tolerance))
        lines.append(f"{row.law:<{width}}  {row.status:<4}  {error:>9}  {allowed:>9}".rstrip())
        lines += textwrap.wrap(row.note, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.2g}"


def verdict(rows: Sequence[Row]) -> str:
    """What can be trusted, in words."""
    failed = [row for row in rows if row.status == "fail"]
    absent = sum(row.status == "n/a" for row in rows)
    do = "does" if absent == 1 else "do"
    apart = f" ({absent} {do} not apply to it, for the reasons above)" if absent else ""
    if not failed:
        return (
            f"Every law holds on this model{apart}: "
            "numbers from traces, patches and all engines that it takes can be trusted."
        )
    doubts = "; ".join(dict.fromkeys(row.distrust for row in failed))
    return f"{len(failed)} of {len(rows)} laws fail on this model{apart}. Do not trust {doubts}."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    output = Output()
    try:
        terminal.importing_is_over()
        status = _command(argv, output)
    except SystemExit as end:  # of --help, and of options that do not exist
        raise SystemExit(terminal.closing(output, int(end.code or 0), unwritten=2)) from None
    except (MlxtraceError, KeyboardInterrupt) as error:
        known = isinstance(error, MlxtraceError)
        terminal.complain(str(error) if known else "interrupted")
        status = 2 if known else terminal.INTERRUPTED
    return terminal.closing(output, status, unwritten=2)


def _command(argv: Sequence[str] | None, say: Output) -> int:
    made = argparse.ArgumentParser(prog="python -m mlxtrace.check", description=__doc__.split("\n\n")[0])
    made.add_argument(
        "model", nargs="?", default="demo", metavar="MODEL", help='"demo", a folder, a hub name'
    )
    made.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="cast, and dequantize")
    made.add_argument("--json", metavar="FILE", help="write the rows there as well")
    args = made.parse_args(argv)
    path = None if args.json is None else writable(args.json)
    model = InterpretableModel(args.model, dtype=args.dtype)
    say(f"{model!r}, errors relative to the largest value\n")
    rows = run(model)
    if path is not None:
        write_atomic(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=1).encode())
    say(table(rows))
    say("\n" + textwrap.fill(verdict(rows), WIDTH))
    return int(any(row.status == "fail" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
