"""A command that `mlx.launch` has started on several ranks, which hold its model together (`--shard`).

    mlx.launch -n 2 --backend ring python -m mlxtrace.patch --shard --model M --clean "..." --corrupted "..."

Every rank computes; the first prints, and writes files. What is wrong on one ends all: in one line, with one status.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from .prompts.ranks import LAUNCHED, Ranks, errors, links
from .terminal import Output


def output(command: str, argv: Sequence[str]) -> Output:
    """What a command prints to: of several ranks with `--shard` that of the first.

    Args:
        command: its name, such as "mlxtrace.patch".
        argv: its arguments.

    Returns:
        An `Output`.

    Example:
        >>> from mlxtrace import launched
        >>> launched.output("mlxtrace.patch", ["--shard"]).first
        True
    """
    ranks = [os.environ[name] for name in LAUNCHED if name in os.environ]
    asked = any(word.partition("=")[0] == "--shard" for word in argv)
    return OutputOfRanks(command, int(ranks[0] or 0)) if asked and ranks else Output(command)


class OutputOfRanks(Output):
    """Standard output of a command on several ranks. rank: this one.

    Example:
        >>> from mlxtrace.launched import OutputOfRanks
        >>> say = OutputOfRanks("mlxtrace.patch", 1)
        >>> say("nobody reads it")
        >>> say.first, say.close()
        (False, None)
    """

    def __init__(self, command: str, rank: int):
        super().__init__(command)
        self.rank, self.first, self._links = rank, rank == 0, None
        self._streams = sys.stdout, sys.stderr
        if not self.first:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the command ends

    def join(self) -> None:
        """Wait for the other ranks, and end with them from now on."""
        self._links = links.join()

    def meet(self) -> None:
        """Go on once every rank is here: what was computed before is then of ranks that are all alive."""
        if self._links is not None:
            self._links.total(1)

    def failed(self, text: str, status: int) -> int:
        """Say on the first rank what went wrong, on whichever it did; the exit status."""
        if self._links is None and not self.first:  # the first may be about to say the same, and to end all
            time.sleep(links.GRACE)
            sys.stderr = self._streams[1]
            self.complain(f"rank {self.rank}: {text}")
            return status
        if status == 1:  # a sum that fails because a rank has died: which is said first, and ends this one
            time.sleep(0.5)
        if self.first:
            self.complain(text)
        return status if self._links is None else self._links.fail(text, status)

    def close(self) -> OSError | ValueError | None:
        """As of any output; what was silent prints again."""
        error = super().close()
        if not self.first:
            sys.stdout.close()
            sys.stdout, sys.stderr = self._streams
        return error


def check_copies(model: Any, shard: int | str | None, out: Any) -> None:
    """InputError where ranks hold several copies of a model, and there is nothing that these could share.

    Args:
        model: this rank's.
        shard: how many ranks hold a copy: what `--shard` says.
        out: the folder that results of many prompts go into; None where there is none.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.launched import check_copies
        >>> check_copies(InterpretableModel("demo"), 1, None)
    """
    if not isinstance(shard, int) or shard is True or out is not None:
        return
    copies = Ranks(sharded=model.resolver.group).size
    if copies > 1:
        raise errors.InputError(
            f"--shard {shard} makes {copies} copies of the model, which share only what goes into a folder: "
            "use --facts or --pairs with --out, or --shard for one copy over all ranks"
        )
