"""The sections of a page: in short, the prompts, the corruption, the panels, what to object, how to make it again.

made = sections_of(results, None, None, About())
made.title, made.body, made.figures
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..plotting.labels import quoted
from .asked import Asked, asked_of, questions_of
from .both_runs import both_runs, sentences
from .elements import Html, el, joined
from .findings import found
from .methods import METHODS, kind_of
from .panels import Panel, panels_of
from .receipts import receipt
from .reproduction import About, reproduction
from .weaknesses import weaknesses

MOST_SAID = 8  # findings of the summary
MOST_ASKED = 6  # pairs of prompts of which each has its own receipt
WIDEST = 70  # characters of a prompt in the question


@dataclass(frozen=True)
class Made:
    """A page's parts. figures: the HTML whose scripts are the page's own."""

    title: str
    body: Html
    figures: list[str]


def sections_of(results: Sequence[Any], title: str | None, question: str | None, about: About) -> Made:
    """All sections of a page.

    Args:
        results: what it is of.
        title, question: as `report` takes them.
        about: what else is known.

    Returns:
        A `Made`.
    """
    asked = [asked_of(one) for one in results]
    questions = questions_of(asked)
    panels = [panel for one in results for panel in panels_of(one, kind_of(one) or "")]
    asks = question or question_of(questions[0])
    objections = weaknesses(results, asked)
    sections = [
        ("prompts", "The prompts", _prompts(questions)),
        ("corruption", "Is the corruption any good?", _corruption(questions, about)),
        *_of_kinds(panels),
        ("caveats", "What to object", _caveats(objections, results, about)),
        ("again", "To make it again", reproduction(results, about)),
    ]
    sections = [section for section in sections if section[2]]
    body = [
        el("h1", title or asks),
        el("p", asks, class_="lede") if title else "",
        el("p", _lede(questions, about), class_="lede"),
        _summary(results, questions, objections),
        _contents(sections),
        *(el("section", el("h2", heading), content, id=name) for name, heading, content in sections),
        el("footer", "Made with mlxtrace; it fetches nothing: everything that it shows stands in this file."),
    ]
    return Made(title or asks, joined(body), [str(panel.figure) for panel in panels])


def question_of(asked: Asked) -> str:
    """The question that results answer, made from the model, the prompt and the answer.

    Args:
        asked: what they are of.

    Returns:
        A sentence.

    Example:
        >>> from mlxtrace.pages.asked import Asked, Said
        >>> from mlxtrace.pages.sections import question_of
        >>> question_of(Asked("demo", "The Louvre is in", answers=(Said("answer", " Paris", 0.9, 0.1),)))
        'Where does demo look up " Paris" after "The Louvre is in"?'
    """
    clean = asked.clean if len(asked.clean) <= WIDEST else f"…{asked.clean[-WIDEST:]}"
    texts = [said.text for said in asked.answers if said.role == "answer"]
    if len(asked.pairs) > 1:
        first = asked.clean.partition("the first: ")[2] or clean
        such = f" such as {quoted(first if len(first) <= WIDEST else f'…{first[-WIDEST:]}')}" if first else ""
        return f"Where does {asked.model} look up the answers to {len(asked.pairs)} prompts{such}?"
    if texts:
        return f"Where does {asked.model} look up {quoted(texts[0])} after {quoted(clean)}?"
    return f"What happens in {asked.model} after {quoted(clean)}?" if clean else f"Results of {asked.model}"


def _lede(questions: Sequence[Asked], about: About) -> str:
    models = list(dict.fromkeys(asked.model for asked in questions if asked.model))
    weights = f" ({about.weights})" if about.weights else ""
    n = max(len(asked.pairs) for asked in questions)
    of = (
        f"{n} pairs of prompts"
        if n > 1
        else "one pair of prompts"
        if len(questions) == 1
        else f"{len(questions)} questions"
    )
    return f"Model: {' and '.join(models)}{weights}. Activation patching and causal tracing of {of}."


def _summary(results: Sequence[Any], questions: Sequence[Asked], objections: Sequence[str]) -> Html:
    """What was found, in sentences; maps of layer outputs say nothing that others do not say better."""
    lines = sentences(questions[0])[:1]
    told = [one for one in results if not _only_stream(one)] or list(results)
    lines += [said for said in map(found, told) if said]
    lines = list(dict.fromkeys(lines))[:MOST_SAID]
    items = [el("li", line) for line in lines]
    if objections:
        link = el("a", "what to object", href="#caveats")
        items.append(el("li", f"Before you quote this: {objections[0]} Further: ", link, "."))
    return el("div", el("h2", "In short"), el("ul", *items), class_="summary") if items else Html("")


def _only_stream(result: Any) -> bool:
    components = getattr(result, "components", ())
    return bool(components) and all(name.startswith("resid") for name in components)


def _contents(sections: Sequence[tuple[str, str, Html]]) -> Html:
    links = [el("li", el("a", heading, href=f"#{name}")) for name, heading, _ in sections]
    return el("nav", el("ul", *links), aria_label="contents")


def _prompts(questions: Sequence[Asked]) -> Html:
    parts = []
    for asked in questions[:MOST_ASKED]:
        if len(asked.pairs) > 1:
            parts.append(
                el(
                    "p",
                    f"{len(asked.pairs)} pairs of prompts; clean: {asked.clean}. Corrupted: "
                    f"{asked.corrupted or asked.noise}.",
                )
            )
        if asked.tokens and "…" not in asked.tokens:
            parts.append(receipt(asked.tokens, asked.corrupted_tokens, asked.subject, asked.noise))
        elif asked.clean and len(asked.pairs) < 2:
            rows = [("Clean prompt", asked.clean), ("Corrupted prompt", asked.corrupted or asked.noise)]
            parts += [joined([el("h3", name), el("pre", text)]) for name, text in rows if text]
    if len(questions) > MOST_ASKED:
        parts.append(el("p", f"{len(questions) - MOST_ASKED} further prompts are not shown."))
    return joined(parts)


def _corruption(questions: Sequence[Asked], about: About) -> Html:
    tops = about.tops if len(questions) == 1 else ()
    return joined(both_runs(asked, tops) for asked in questions[:MOST_ASKED])


def _of_kinds(panels: Sequence[Panel]) -> Iterator[tuple[str, str, Html]]:
    """A section for each kind of panel, in the order of `METHODS`: what it shows, then its figures."""
    for kind, method in METHODS.items():
        mine = [panel for panel in panels if panel.kind == kind]
        if mine:
            source = el("p", "After ", method.source, ".", class_="source")
            formula = el("p", el("span", method.formula, class_="formula"))
            rows = [_row(row) for row in _beside(mine)]
            yield (
                kind,
                method.heading,
                joined([el("p", method.means, class_="method"), formula, source, *rows]),
            )


def _beside(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels in rows: the two directions of one experiment beside each other, restoring on the left."""
    keys = list(dict.fromkeys(panel.beside or id(panel) for panel in panels))
    ordered = sorted(panels, key=lambda panel: keys.index(panel.beside or id(panel)))
    rows: list[list[Panel]] = []
    for _, of_key in groupby(ordered, key=lambda panel: panel.beside or id(panel)):
        same = list(of_key)
        both = sorted(same, key=lambda panel: getattr(panel.result, "direction", "") == "noise")
        two = len(same) == 2 and len({panel.result.direction for panel in same}) == 2
        rows += [both] if two else [[panel] for panel in same]
    return rows


def _row(panels: Sequence[Panel]) -> Html:
    shown = [
        el(
            "article",
            el("h3", panel.title),
            el("p", found(panel.result, panel.kind)),
            panel.figure,
            panel.numbers,
        )
        for panel in panels
    ]
    return el("div", *shown, class_="side two" if len(shown) == 2 else "side")


def _caveats(objections: Sequence[str], results: Sequence[Any], about: About) -> Html:
    notes = dict.fromkeys(str(note) for one in results for note in getattr(one, "notes", ()))
    parts = []
    if objections:
        parts.append(el("div", el("ul", *(el("li", line) for line in objections)), class_="summary caveats"))
    for heading, lines in (("Notes of the runs", notes), ("What could not be run", about.missing)):
        if lines:
            parts += [el("h3", heading), el("ul", *(el("li", line) for line in lines))]
    return joined(parts)
