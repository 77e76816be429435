"""The laws that numbers rest on, measured on any model: `python -m mlxtrace.check [MODEL] [--dtype float32]`.

    for row in check.run(model):       # Row(law, status, error, tolerance, note)
        print(row.law, row.status)

Run it first on a new model. A row for each law (`laws/registry.py` lists them) says pass, fail, n/a with the reason, or
that the model's own logits move more than any tolerance allows; the last line says what was found and on what. Exit
status: 0 every law that applies holds, 1 one does not, 2 there is no such model.
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

from . import launched, terminal
from .errors import MlxtraceError
from .laws.law import DoesNotApply, Law, TooNoisy
from .laws.model_under_test import LENGTH, ModelUnderTest
from .laws.registry import LAWS
from .model import InterpretableModel
from .option_spelling import as_typed
from .option_values import SHARD, ranks
from .storage import check_format, writable, write_atomic
from .terminal import Output
from .version import VERSION

WIDTH = 110
NOISY = "floor above the cap"


@dataclass(frozen=True)
class Row:
    """One law on one model.

    Attributes:
        law: its name.
        status: "pass", "fail", "n/a", or NOISY: the model's own logits move more than any tolerance allows, so that
            nothing can be said.
        error: the largest that was measured, relative to the largest value of what is compared, or a count where the
            law counts; None for "n/a" and NOISY.
        tolerance: the largest error that is allowed; None for "n/a" and NOISY.
        note: what is worth saying: where the error is, or why the law does not apply.
        distrust: what a failure puts in doubt; '' where there is none.

    Example:
        >>> from mlxtrace import check
        >>> row = check.Row("two plain runs agree to the bit", "pass", 0.0, 0.0)
        >>> print(check.table([row]))
        law                                        error    allowed
        two plain runs agree to the bit  pass          0          0
    """

    law: str
    status: str
    error: float | None
    tolerance: float | None
    note: str = ""
    distrust: str = ""


def run(model: InterpretableModel | Any, laws: Sequence[Law] | None = None) -> list[Row]:
    """Measure the laws on a model; a law that raises has failed.

    Args:
        model: an `InterpretableModel`, or a loaded mlx module.
        laws: those to be measured (`mlxtrace.laws.registry.LAWS` has them by name); default: all.

    Returns:
        A `Row` for each law, in the order given.

    Raises:
        LoadError: when a module is given that cannot be run.

    Example:
        >>> from mlxtrace import InterpretableModel, check
        >>> from mlxtrace.laws.registry import LAWS
        >>> [row] = check.run(InterpretableModel("demo"), LAWS[:1])
        >>> row.law, row.status, row.error
        ('two plain runs agree to the bit', 'pass', 0.0)
    """
    if not isinstance(model, InterpretableModel):
        model = InterpretableModel(model)
    tested = ModelUnderTest(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_row(one, tested) for one in (LAWS if laws is None else laws)]


def _row(one: Law, tested: ModelUnderTest) -> Row:
    try:
        found = one.measure(tested)
    except DoesNotApply as reason:
        return Row(one.name, "n/a", None, None, str(reason))
    except TooNoisy as reason:
        return Row(one.name, NOISY, None, None, str(reason), one.distrust)
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Row(one.name, "fail", float("inf"), None, why, one.distrust)
    if found.error <= found.tolerance:
        return Row(one.name, "pass", found.error, found.tolerance, found.note)
    note = found.note
    if (
        found.tolerance and found.tolerance != tested.tolerance.cap
    ):  # a tolerance that was measured says from what
        note = "; ".join(
            x for x in (note, f"{tested.tolerance.describe()}, and ten times that is allowed") if x
        )
    return Row(one.name, "fail", found.error, found.tolerance, note, one.distrust)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, notes under their laws.

    Args:
        rows: as `run` gives them.

    Returns:
        A line for each law: name, status, error, allowed error; errors in two digits.

    Example:
        >>> from mlxtrace import check
        >>> rows = [check.Row("a law", "n/a", None, None, "there are no heads")]
        >>> print(check.table(rows))
        law             error    allowed
        a law  n/a
            there are no heads
    """
    width = max(len(row.law) for row in rows)
    wide = max(len(row.status) for row in rows)
    lines = [f"{'law':<{width}}  {'':<{wide}}  {'error':>9}  {'allowed':>9}"]
    for row in rows:
        error, allowed = (_number(x) for x in (row.error, row.tolerance))
        lines.append(f"{row.law:<{width}}  {row.status:<{wide}}  {error:>9}  {allowed:>9}".rstrip())
        lines += textwrap.wrap(row.note, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.2g}"


def verdict(rows: Sequence[Row]) -> str:
    """What was found, and on what: no more than was run.

    Args:
        rows: as `run` gives them.

    Returns:
        A few sentences: how many laws hold, or what is not to be trusted.

    Example:
        >>> from mlxtrace import check
        >>> row = check.Row("a law", "fail", 0.5, 0.0, "", "single heads")
        >>> check.verdict([row])
        '1 of 1 laws fail on this model. Do not trust single heads.'
    """
    failed = [row for row in rows if row.status == "fail"]
    noisy = [row for row in rows if row.status == NOISY]
    absent = sum(row.status == "n/a" for row in rows)
    do = "does" if absent == 1 else "do"
    but = f" ({absent} of {len(rows)} {do} not apply to it, for the reasons above)" if absent else ""
    run = f"Run were prompts of {LENGTH} and {LENGTH + 1} tokens, a few layers and positions, one dtype."
    if not failed and not noisy:
        passed = sum(row.status == "pass" for row in rows)
        return (
            f"{_laws(passed, 'holds', 'hold')} on this model{but}: what traces, patches, noise and the engines that "
            f"it takes return is what loops by hand give, to the errors above. {run} Longer prompts, other layers, "
            "and what the numbers mean were not tried."
        )
    parts = [f"{len(failed)} of {len(rows)} laws fail on this model{but}."] if failed else []
    if noisy:
        parts.append(
            f"Nothing can be said of {_laws(len(noisy), '', '').strip()}{'' if failed else but}, because this "
            "model's own logits move more than any tolerance allows."
        )
    doubts = "; ".join(dict.fromkeys(row.distrust for row in (*failed, *noisy)))
    return " ".join([*parts, f"Do not trust {doubts}."])


def _laws(n: int, one: str, several: str) -> str:
    return f"{n} law {one}" if n == 1 else f"{n} laws {several}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `python -m mlxtrace.check`.

    Args:
        argv: its arguments; default: those of the process.

    Returns:
        The exit status: 0 every law that applies holds, 1 one does not, 2 there is no such model, or it cannot be run.

    Raises:
        SystemExit: for `--help`, and for options that do not exist.

    Example:
        >>> from mlxtrace import check
        >>> check.main(["no-such-folder"])
        2
    """
    output = launched.output("mlxtrace.check", sys.argv[1:] if argv is None else argv)
    try:
        terminal.importing_is_over()
        output.join()
        status = _command(argv, output)
    except SystemExit as end:  # of --help, and of options that do not exist
        raise SystemExit(terminal.closing(output, int(end.code or 0), unwritten=2)) from None
    except (MlxtraceError, KeyboardInterrupt) as error:
        known = isinstance(error, MlxtraceError)
        text = as_typed(str(error), argv or sys.argv) if known else "interrupted"
        status = output.failed(text, 2 if known else terminal.INTERRUPTED)
    return terminal.closing(output, status, unwritten=2)


def _parser() -> argparse.ArgumentParser:
    description = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m mlxtrace.check", description=description)
    parser.add_argument("-V", "--version", action="version", version=f"mlxtrace {VERSION}")
    parser.add_argument(
        "model", nargs="?", default="demo", metavar="MODEL", help='"demo", a folder, a hub name'
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="cast, and dequantize")
    parser.add_argument("--adapter-path", metavar="DIR", help="adapters that mlx_lm.lora wrote, put onto it")
    parser.add_argument("--shard", nargs="?", const=True, type=ranks, metavar="N", help=SHARD)
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    return parser


def _command(argv: Sequence[str] | None, output: Output) -> int:
    args = _parser().parse_args(argv)
    path = None if args.json is None else writable(args.json)
    if path is not None:
        check_format(path, ".json", ".txt")
    with warnings.catch_warnings(record=True) as notes:  # said after the result; bad input is one line
        how = {"dtype": args.dtype, "adapter_path": args.adapter_path, "shard": args.shard}
        model = InterpretableModel(args.model, **how)
        launched.check_copies(model, args.shard, None)
    output(f"{model!r}, errors relative to the largest value\n")
    rows = run(model)
    output.meet()
    if path is not None and output.first:
        write_atomic(path, json.dumps([dataclasses.asdict(row) for row in rows], indent=1).encode())
    output(table(rows))
    output("\n" + textwrap.fill(verdict(rows), WIDTH))
    for note in notes:
        if issubclass(note.category, UserWarning):
            output.complain(f"note: {as_typed(str(note.message))}")
    return int(any(row.status in ("fail", NOISY) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
