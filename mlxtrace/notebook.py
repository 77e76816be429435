"""What a notebook shows by itself: figures that were asked for with `plot=True`, and progress bars.

tqdm(total=12)               # a widget in a notebook, or text where it has no ipywidgets; a terminal's bar elsewhere
show(result.plot())          # puts the figure below the cell; the same figure, untouched, where no notebook runs
"""

from __future__ import annotations

import html
import sys
import warnings
from typing import Any, TypeVar

from tqdm.std import TqdmWarning
from tqdm.std import tqdm as text_bar

__all__ = ["Displayed", "in_notebook", "preformatted", "show", "tqdm"]
T = TypeVar("T")


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook: IPython in a terminal shows no pictures."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)  # imported already, where it runs
    return getattr(ask(), "kernel", None) is not None


def show(figure: T) -> T:
    """The figure, which a notebook shows at once; elsewhere it is only returned.

    Example:
        >>> from mlxtrace.notebook import show
        >>> show("a figure")
        'a figure'
    """
    display = getattr(sys.modules.get("IPython.display"), "display", None)
    if display is not None and in_notebook():
        display(figure)
    return figure


class _TextBar(text_bar):
    """A bar of characters below a notebook's cell: on standard output, as standard error is red there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["disable"] = bool(options.get("disable"))  # None hides bars where no terminal is
        super().__init__(*args, **{"file": sys.stdout, **options})


def _bar() -> Any:
    """tqdm's choice of a bar for where this runs, without its advice to install ipywidgets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    widgets = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    return _TextBar if in_notebook() and not widgets else tqdm


tqdm: Any = _bar()  # by where it is imported: a notebook is one from its start


def preformatted(text: str) -> str:
    """A print as HTML: its first line in bold, the rest as it stands, in the notebook's own colours."""
    title, _, rest = text.partition("\n")
    body = f'<pre style="line-height:1.2;white-space:pre-wrap">{html.escape(rest)}</pre>'
    return f"<b>{html.escape(title)}</b>{body if rest else ''}"


class Displayed:
    """Base of what a notebook shows as it prints, unless it has tables of its own."""

    def _repr_html_(self) -> str:
        return preformatted(str(self))
