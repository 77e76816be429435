"""Sets of pairs by name: the bundled tasks, files and hub data sets.

pairs = load("ioi", model=model)               # made for the model's tokenizer
pairs = load("pairs.csv"); load("owner/name")  # JSON, JSONL, CSV or parquet
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..arguments import whole_number
from ..errors import InputError
from .pair_entries import Pair, parse
from .pair_formats import SUFFIXES, read_entries
from .pair_reading import check_read
from .pair_sources import found
from .tasks import TASKS


def load(
    path_or_name: str | os.PathLike,
    model: Any = None,
    n: int | None = None,
    seed: int = 0,
    fields: Mapping[str, str | None] | None = None,
) -> list[Pair]:
    """The pairs of a bundled task, of a file, or of a hub data set.

    A file is a JSON list of entries (or an object with `pairs`), JSONL, CSV or parquet. An entry has `clean` and
    perhaps `corrupted`, `target` (or `answers`, a list of acceptable ones), `foil`, `subject`, `id`, and `regions` (an
    object; JSON text in a column; or a column `region.NAME` for each). Other libraries' names are known:
    `clean_prompt`, `prompt`, `clean_prefix`; `corrupted_prompt`, `corrupt`, `counterfactual`, `patch_prefix`; `answer`,
    `clean_answer`, `correct_idx`; `wrong_answer`, `patch_answer`, `incorrect_idx`, and more
    (`prompts.pair_fields.ALIASES`). A text is taken as it stands, a number is a token id, a list of messages a chat; in
    a table ids and chats have columns of their own, `clean_ids`, `target_id`, `clean_chat`.

    Args:
        path_or_name: A task ("facts", "ioi", "greater_than", "gender", "induction"); a file; or a hub data set,
            `owner/name`, or `owner/name:file` when it has several. Where it has no such file, the hub's conversion.
        model: An `InterpretableModel`: tasks are made for it, and what comes from a file is read with it.
        n: How many pairs: 64 of a task, all of a file.
        seed: Which pairs of a task.
        fields: What the file's names are called here, `{"question": "clean", "case": None}`; None leaves one out.

    Returns:
        The pairs, each with an id of its own: that of the file, or its number.

    Raises:
        LoadError: There is no such file, task or data set, or it cannot be read.
        InputError: Entries are malformed, all of which are named; or there are fewer than `n`.

    Example:
        >>> from mlxtrace import InterpretableModel, prompts
        >>> model = InterpretableModel("demo")
        >>> pairs = prompts.load("facts", model=model, n=8)
        >>> len(pairs), pairs[0].subject in pairs[0].clean
        (8, True)
    """
    if isinstance(path_or_name, str) and path_or_name in TASKS:
        if fields is not None:
            raise InputError(f"fields= renames the columns of a file; {path_or_name!r} is a task")
        return TASKS[path_or_name](model, 64 if n is None else n, seed)
    n = None if n is None else whole_number("n", n)
    if seed != 0:
        raise InputError(f"seed={seed!r} draws the pairs of a task; those of a file are taken in its order")
    paths, source = found(path_or_name, SUFFIXES, TASKS)
    pairs = parse([item for path in paths for item in read_entries(path)], source, fields)
    if n is not None and n > len(pairs):
        raise InputError(f"{source} has {len(pairs)} pairs, not {n}")
    if model is not None:
        check_read(model, pairs[:n], source)
    return pairs[:n]
