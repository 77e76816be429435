"""Interactive figures as HTML: one file that needs nothing else, or fragments that share one copy of plotly.js.

write(figure, "x.html")          # one self-contained file: it opens without a network
script() + div(one) + div(two)   # what a page of several figures holds
"""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

from ..errors import InputError, UnsupportedError
from ..storage import writable, write_atomic

INSTALL = "interactive figures need plotly 6 or later: pip install plotly"
OLDEST = 6
BUTTONS = ["toImage", "zoom2d", "pan2d", "resetScale2d"]
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtons": [BUTTONS]}
# Nothing is fetched: what stands in the file is all there is.
INLINE = ("script-src 'unsafe-inline'", "style-src 'unsafe-inline'", "img-src data: blob:", "font-src data:")
POLICY = "; ".join(("default-src 'none'", *INLINE))


def plotly() -> Any:
    """plotly with the parts that figures need, imported when the first is made; UnsupportedError without it."""
    try:
        import plotly
        import plotly.graph_objects
        import plotly.io
        import plotly.offline
        import plotly.subplots
    except ImportError as error:
        raise UnsupportedError(INSTALL) from error
    if int(plotly.__version__.split(".")[0]) < OLDEST:
        raise UnsupportedError(f"{INSTALL} (there is {plotly.__version__})")
    return plotly


def checked(path: str | os.PathLike | None) -> Path | None:
    """The path of a page before its figure is made; None when it is only returned."""
    if path is None:
        return None
    path = writable(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"an interactive figure is written as .html, not as {path.suffix or 'a file without suffix'}: "
            "plot() writes pictures"
        )
    return path


def div(figure: Any) -> str:
    """A figure as a part of a page, without plotly.js.

    Args:
        figure: a plotly Figure, such as every function of `interactive` returns.

    Returns:
        HTML: an element of its own id, and the script that draws into it.

    Example:
        >>> from mlxtrace import interactive
        >>> part = interactive.div(interactive.attention([[1.0, 0.0], [0.5, 0.5]], ["a", "b"]))
        >>> part.strip()[:4], len(interactive.script()) > 1_000_000 > len(part)
        ('<div', True)
    """
    made = plotly().io.to_html(figure, config=CONFIG, include_plotlyjs=False, full_html=False)
    return str(made)


def script() -> str:
    """plotly.js itself, once for all figures of a page: a script element of about 5 MB.

    Example:
        >>> from mlxtrace import interactive
        >>> interactive.script()[:8]
        '<script>'
    """
    return f"<script>{plotly().offline.get_plotlyjs()}</script>"


def document(title: str, body: str, style: str = "") -> str:
    """A page that fetches nothing: `body` is HTML, `title` plain text."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{style}</style></head>",
            f"<body>{body}</body></html>",
            "",
        ]
    )


def write(figure: Any, path: str | os.PathLike) -> Path:
    """Write a figure to one self-contained HTML file, whole or not at all.

    Args:
        figure: a plotly Figure, such as `result.explore()` returns.
        path: where it goes, .html.

    Returns:
        The path.

    Raises:
        InputError: when nothing can be written there, or the suffix is another.
        UnsupportedError: without plotly.

    Example:
        >>> import tempfile
        >>> from mlxtrace import InterpretableModel, interactive
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> figure = model.activation_patching(*prompts, progress=False).explore()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     interactive.write(figure, f"{folder}/eiffel.html").name
        'eiffel.html'
    """
    where = checked(path)
    assert where is not None
    title = html.unescape(str((figure.layout.meta or {}).get("title", "mlxtrace")))
    body = f"{script()}\n{div(figure)}"
    return write_atomic(where, document(title, body, "body { background: white; margin: 8px }").encode())


def finished(figure: Any, path: Path | None) -> Any:
    """The figure, written if there is a path."""
    if path is not None:
        write(figure, path)
    return figure
