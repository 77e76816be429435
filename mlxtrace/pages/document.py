"""The page as a document: its head, its sections in their order, and what keeps it from fetching anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from ..interactive.html import plotly, script
from .elements import Html, el
from .sections import sections_of
from .stylesheet import PRINTING, STYLE

SCRIPTS = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def document(results: Sequence[Any], title: str | None, question: str | None, about: Any) -> str:
    """The whole page as text.

    Args:
        results: what it is of.
        title, question: as `report` takes them.
        about: what else is known; see `About`.

    Returns:
        HTML.
    """
    made = sections_of(results, title, question, about)
    scripts = [script(), str(el("script", Html(PRINTING)))]
    trusted = "".join([*scripts, *made.figures])
    head = [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(trusted)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", made.title),
        el("style", Html(STYLE)),
        *map(Html, scripts),
    ]
    whole = el("html", el("head", *head), el("body", el("main", made.body)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def policy(trusted: str) -> str:
    """What the page may do: run the scripts in `trusted` and no other, and fetch nothing.

    Args:
        trusted: HTML whose scripts are the page's own.

    Returns:
        A Content-Security-Policy.

    Example:
        >>> from mlxtrace.pages.document import policy
        >>> policy("<script>1</script>").split("; ")[1]
        "script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    """
    found = dict.fromkeys(SCRIPTS.findall(trusted))
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def ready() -> None:
    """UnsupportedError where plotly, which draws the figures, is missing."""
    plotly()
