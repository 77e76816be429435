"""HTML that cannot be broken out of: whatever is not `Html` already is text, and every character of it is shown.

el("p", "tokens such as ", el("code", "</script>"))      # <p>tokens such as <code>&lt;/script&gt;</code></p>
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

from ..terminal import printable

VOID = {"meta", "br", "img"}
QUOTATION = re.compile(r"&quot;(?:(?!&quot;).){1,20}?&quot;")


class Html(str):
    """A piece of HTML, which is put into others as it is."""


def text(value: Any) -> Html:
    """A value as HTML: what is a piece of it already stays, all else is escaped.

    Args:
        value: anything; None is nothing. Control characters, and those that turn the direction of text, are written
            out, as in a terminal.

    Returns:
        The HTML.

    Example:
        >>> from mlxtrace.pages.elements import Html, text
        >>> text("<b>"), text(Html("<b>"))
        ('&lt;b&gt;', '<b>')
    """
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape(printable(value)))


def prose(sentence: str) -> Html:
    """A sentence whose short quotations, and whose numbers with their percent, are not broken at the end of a line.

    Args:
        sentence: plain text.

    Returns:
        The HTML.

    Example:
        >>> from mlxtrace.pages.elements import prose
        >>> prose('The answer is " <b>".')
        'The answer is <span class="whole">&quot; &lt;b&gt;&quot;</span>.'
    """
    kept = QUOTATION.sub(lambda found: f'<span class="whole">{found[0]}</span>', text(sentence))
    return Html(kept.replace(" %", "\N{NO-BREAK SPACE}%"))


def joined(parts: Iterable[Any]) -> Html:
    """Several pieces, one after the other."""
    return Html("".join(text(part) for part in parts))


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element with its children and attributes.

    Args:
        tag: its name.
        children: texts, which are escaped, and pieces of HTML.
        attributes: `class_="x"` is `class="x"`, and `aria_label` `aria-label`; True is an attribute without a
            value, and None or False none.

    Returns:
        The HTML.

    Example:
        >>> from mlxtrace.pages.elements import el
        >>> el("p", "a < b", class_="note", title='"')
        '<p class="note" title="&quot;">a &lt; b</p>'
    """
    given = [(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items()]
    named = "".join(_attribute(name, value) for name, value in given if value not in (None, False))
    return Html(f"<{tag}{named}>" if tag in VOID else f"<{tag}{named}>{joined(children)}</{tag}>")


def _attribute(name: str, value: Any) -> str:
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
