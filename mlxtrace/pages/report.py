"""One self-contained page that answers a question like a short paper: what was asked, found, and is to be objected.

mlxtrace.report([maps, heads], "eiffel.html")
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import writable, write_atomic
from .document import document, ready
from .methods import kind_of
from .reproduction import About

MOST_BYTES = 6_000_000  # above which a page is said to be large


def report(
    result: Any,
    path: str | os.PathLike,
    title: str | None = None,
    question: str | None = None,
    *,
    about: About | None = None,
) -> Path:
    """Write results as one HTML page for someone who has not seen the experiment: prompts, figures, words, caveats.

    The page needs no network and no other file. It has what the results hold and nothing is run: the prompts token by
    token, whether the corruption is any good, an interactive figure for each result (and component) with the sentence,
    formula and paper that say what it shows, the strongest numbers, what a reviewer would object, and the lines that
    make it again. Two results of both directions stand side by side. `python -m mlxtrace.patch ... --report out.html`
    runs what such a page wants.

    Args:
        result: what any experiment returns, or a list of such results, loaded ones too.
        path: where the page goes, .html; its folder exists.
        title: its heading; default: the question.
        question: the question that it answers; default: made from the model, the prompt and the answer.
        about: what else is known, as the command knows it: the command line, the weights, the likeliest tokens.

    Returns:
        The path; with a warning when the page has more than 6 MB.

    Raises:
        InputError: before anything is made: for what is no result, an empty list, a title that is no text, or a path
            that cannot be written or does not end in .html.
        UnsupportedError: without plotly.

    Example:
        >>> import tempfile, mlxtrace
        >>> from mlxtrace import InterpretableModel
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = InterpretableModel("demo").activation_patching(*prompts, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = mlxtrace.report(result, f"{folder}/eiffel.html")
        ...     page.name, "Where does demo look up" in page.read_text()
        ('eiffel.html', True)
    """
    path = check_page(path)
    results = _results(result)
    for name, value in (("title", title), ("question", question)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise InputError(f"{name}= is a text, not {value!r}")
    if about is not None and not isinstance(about, About):
        raise InputError(
            f"about= is what the command knows of a run, a pages.About, not {type(about).__name__}"
        )
    page = document(results, title, question, about or About()).encode()
    if len(page) > MOST_BYTES:
        warnings.warn(
            f"the page has {len(page) / 1e6:.1f} MB: give it fewer results to make it smaller", stacklevel=2
        )
    return write_atomic(path, page)


def check_page(path: str | os.PathLike) -> Path:
    """The path, once it is known that a page can be written there; see `report`.

    Args:
        path: where it is to go.

    Returns:
        The path, `~` resolved.

    Raises:
        InputError: when nothing can be written there, or it does not end in .html.
        UnsupportedError: without plotly, which draws the figures.
    """
    path = writable(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"a report is a page, not {path.suffix or 'a file without suffix'}: name it {path.stem or 'report'}.html"
        )
    ready()
    return path


def _results(given: Any) -> list[Any]:
    """The results, one or several; InputError for anything else."""
    several = isinstance(given, list | tuple)
    results: Sequence[Any] = given if several else [given]
    if not results:
        raise InputError("report takes a result or a list of results, and the list is empty")
    for i, one in enumerate(results):
        if kind_of(one) is None:
            which = f"number {i + 1} of the list" if several else "it"
            raise InputError(
                f"report takes what an experiment returns, or a list of that; {which} is {type(one).__name__} "
                f"{repr(one)[:60]}"
            )
    return list(results)
