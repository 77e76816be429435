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

from .errors import MlxtraceError
from .laws import LAWS, Law
from .model import InterpretableModel
from .storage import writable, write_atomic
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
    made = argparse.ArgumentParser(prog="python -m mlxtrace.check", description=__doc__.split("\n\n")[0])
    made.add_argument(
        "model", nargs="?", default="demo", metavar="MODEL", help='"demo", a folder, a hub name'
    )
    made.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="cast, and dequantize")
    made.add_argument("--json", metavar="FILE", help="write the rows there as well")
    args = made.parse_args(argv)
    try:
        path = None if args.json is None else writable(args.json)
        with warnings.catch_warnings(record=True) as notes:  # said after the result; bad input is one line
            model = InterpretableModel(args.model, dtype=args.dtype)
        print(f"{model!r}, errors relative to the largest value\n")
        rows = run(model)
        if path is not None:
            write_atomic(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=1).encode())
    except (MlxtraceError, KeyboardInterrupt) as error:
        print(f"mlxtrace: {error if isinstance(error, MlxtraceError) else 'interrupted'}", file=sys.stderr)
        return 2 if isinstance(error, MlxtraceError) else 130
    print(table(rows))
    print("\n" + textwrap.fill(verdict(rows), WIDTH))
    for note in notes:
        if issubclass(note.category, UserWarning):
            print(f"mlxtrace: note: {note.message}", file=sys.stderr)
    return int(any(row.status == "fail" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
