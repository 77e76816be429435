"""What the folder of a run comes to, whatever was run into it."""

from __future__ import annotations

import os
from typing import Any

from .folder_averages import FactFolder, average_facts
from .pair_results import Folder, PairFolder


def averages(folder: str | os.PathLike) -> Any:
    """What a run into a folder came to: of its files, whatever there is by now.

    Args:
        folder: what `run`, or `facts.run`, was given as `out`.

    Returns:
        What that run returned.

    Raises:
        LoadError: when it is not a folder of a run, or its settings are damaged.
        InputError: when no pair of it has a result, or results were made with other settings.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> pair = prompts.Pair("The Louvre is in the city of", subject="Louvre")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     one = prompts.run(model, [pair], "causal_trace", out, samples=1, progress=False)
        ...     again = prompts.averages(out)
        >>> again.ids == one.ids
        True
    """
    if FactFolder.items in Folder.there(folder).begun()["settings"]:
        return average_facts(FactFolder.there(folder))
    return PairFolder.there(folder).together()
