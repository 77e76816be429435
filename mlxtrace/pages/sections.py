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
from .elements import Html, el, joined, prose
from .findings import PATCHED, found, label
from .methods import METHODS, kind_of
from .number_tables import folded, table
from .pair_table import pair_list
from .panels import Panel, panels_of
from .receipts import receipt
from .reproduction import About, reproduction
from .weaknesses import weaknesses

MOST_NAMED, MOST_ROWS = 40, 200  # facts
MOST_SAID = 8  # findings of the summary
MOST_ASKED = 6  # pairs of prompts of which each has its own receipt
WIDEST = 70  # characters of a prompt in the question
SMALL = ("maps", "traces", "heads", "attribution")  # kinds whose figures stand two in a row
WAYS = (
    "The strongest sites, in percent of the gap between the two runs: what comes back when they are restored (do they "
    "suffice?), what is left when they are corrupted (are they needed?)."
)
METHOD = (
    "A clean run gives the answer; a corrupted run, in which a few tokens are others or are noised, is meant to "
    "lose it. Then single activations of one run are copied into the other, one place at a time, and the answer "
    "is measured again: places that bring it back, or break it, are where the model holds or uses what the answer "
    "needs."
)


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
        ("prompts", "The prompts", _prompts(questions, results, about)),
        ("corruption", "Is the corruption any good?", _corruption(questions, about)),
        *_of_kinds(panels),
        ("caveats", "What to object", _caveats(objections, results, about)),
        ("again", "To make it again", reproduction(results, about)),
    ]
    sections = [section for section in sections if section[2]]
    body = [
        el("h1", prose(title or asks)),
        el("p", asks, class_="lede") if title else "",
        _lede(questions, about),
        _summary(results, questions, objections),
        _contents(sections),
        el(
            "noscript",
            el("p", "The figures are drawn by JavaScript, which is off; their numbers stand in the tables."),
        ),
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


def _lede(questions: Sequence[Asked], about: About) -> Html:
    """The model and the material, and what is done with them, for someone who has not seen the method."""
    models = list(dict.fromkeys(asked.model for asked in questions if asked.model))
    weights = f" ({about.weights})" if about.weights else ""
    asked = questions[0]
    n = len(asked.pairs)
    of = f"{n} {'pairs of prompts' if asked.clean else 'facts'}" if n > 1 else "one pair of prompts"
    of = "one prompt, with and without noise on its subject" if asked.noise and n < 2 else of
    of = f"{len(questions)} questions" if len(questions) > 1 else of
    lines = [el("p", f"Model: {' and '.join(models)}{weights}. Material: {of}.", class_="lede")]
    if any(gap for asked in questions for gap in asked.gaps):
        lines.append(el("p", METHOD))
    return joined(lines)


def _summary(results: Sequence[Any], questions: Sequence[Asked], objections: Sequence[str]) -> Html:
    """What was found, in sentences; maps of layer outputs say nothing that others do not say better."""
    items = [el("li", prose(line)) for line in sentences(questions[0])[:1]]
    told = [one for one in results if not _only_stream(one)] or list(results)
    kinds = list(METHODS)
    for one in sorted(told, key=lambda one: kinds.index(kind_of(one) or "")):
        kind = kind_of(one) or ""
        if said := found(one, kind):
            said = said.removeprefix("Restores most: ").removeprefix("Breaks most: ")
            items.append(el("li", el("b", f"{label(one, kind)}: "), prose(f"{said[:1].upper()}{said[1:]}")))
    if any(kind_of(one) in PATCHED for one in told):
        items.insert(1, el("li", WAYS))
    items = list(dict.fromkeys(items))[:MOST_SAID]
    if objections:
        link = el("a", "what to object", href="#caveats")
        items.append(
            el("li", el("b", "Before you quote this: "), prose(f"{objections[0]} More under "), link, ".")
        )
    return el("div", el("h2", "In short"), el("ul", *items), class_="summary") if items else Html("")


def _only_stream(result: Any) -> bool:
    components = getattr(result, "components", ())
    return bool(components) and all(name.startswith("resid") for name in components)


def _contents(sections: Sequence[tuple[str, str, Html]]) -> Html:
    links = [el("li", el("a", heading, href=f"#{name}")) for name, heading, _ in sections]
    return el("nav", el("ul", *links), aria_label="contents")


def _prompts(questions: Sequence[Asked], results: Sequence[Any], about: About) -> Html:
    parts = []
    if about.material:
        cut = f", the first {MOST_ROWS}" if len(about.material) > MOST_ROWS else ""
        rows = table(
            about.material[:MOST_ROWS], "What each prompt is about, and the answer that it is known by."
        )
        return joined([*parts, folded(f"{len(about.material)} facts{cut}", rows)])
    for asked in questions[:MOST_ASKED]:
        own = [one for one in results if asked_of(one).key == asked.key]
        singles = next((one.singles for one in own if hasattr(one, "singles")), [])
        parts.append(pair_list(singles) if len(singles) > 1 else _one_prompt(asked))
    if len(questions) > MOST_ASKED:
        parts.append(el("p", f"{len(questions) - MOST_ASKED} further prompts are not shown."))
    return joined(parts)


def _one_prompt(asked: Asked) -> Html:
    if asked.tokens and "…" not in asked.tokens:
        return receipt(asked.tokens, asked.corrupted_tokens, asked.subject, asked.noise)
    if not asked.clean:
        names = ", ".join(asked.pairs[:MOST_NAMED])
        more = f" and {len(asked.pairs) - MOST_NAMED} more" if len(asked.pairs) > MOST_NAMED else ""
        said = f"{len(asked.pairs)} facts, by their ids: {names}{more}." if asked.pairs else ""
        return el("p", said) if said else Html("")
    rows = [("Clean prompt", asked.clean), ("Corrupted prompt", asked.corrupted or asked.noise)]
    return joined(joined([el("h3", name), el("pre", text, class_="text")]) for name, text in rows if text)


def _corruption(questions: Sequence[Asked], about: About) -> Html:
    parts = []
    for asked in questions[:MOST_ASKED]:
        several = len(questions) > 1
        parts += [el("h3", prose(question_of(asked)))] if several else []
        parts.append(both_runs(asked, () if several else about.tops))
    return joined(parts)


def _of_kinds(panels: Sequence[Panel]) -> Iterator[tuple[str, str, Html]]:
    """A section for each kind of panel, in the order of `METHODS`: what it shows, then its figures."""
    for kind, method in METHODS.items():
        mine = [panel for panel in panels if panel.kind == kind]
        if mine:
            source = el("p", "Source: ", method.source, ".", class_="source")
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
    if panels[0].kind in SMALL and all(len(row) == 1 for row in rows):
        ordered = [row[0] for row in rows]
        return [ordered[i : i + 2] for i in range(0, len(ordered), 2)]
    return rows


def _row(panels: Sequence[Panel]) -> Html:
    shown = [
        el(
            "article",
            el("h3", panel.title),
            el("p", prose(found(panel.result, panel.kind))),
            panel.figure or el("div"),  # four rows each, so that figures beside each other are on one line
            panel.numbers or el("div"),
        )
        for panel in panels
    ]
    return el("div", *shown, class_="side two" if len(shown) == 2 or panels[0].kind in SMALL else "side")


def _caveats(objections: Sequence[str], results: Sequence[Any], about: About) -> Html:
    notes = dict.fromkeys(str(note) for one in results for note in getattr(one, "notes", ()))
    parts = []
    if objections:
        parts.append(
            el("div", el("ul", *(el("li", prose(line)) for line in objections)), class_="summary caveats")
        )
    for heading, lines in (("Notes of the runs", notes), ("What could not be run", about.missing)):
        if lines:
            parts += [el("h3", heading), el("ul", *(el("li", line) for line in lines))]
    return joined(parts)
