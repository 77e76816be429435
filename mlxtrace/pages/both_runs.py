"""Is the corruption any good: the answers, the metric and the likeliest tokens in the clean and in the corrupted run.

both_runs(asked_of(result))
"""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import METRICS
from ..plotting.labels import probability, quoted
from .asked import Asked, Said
from .elements import Html, el, joined, prose
from .number_tables import number, table

Tops = Sequence[tuple[str, float]]


def both_runs(asked: Asked, tops: Sequence[Tops] = ()) -> Html:
    """What is known of the two runs, as sentences and tables.

    Args:
        asked: what the results are of.
        tops: of the clean and of the corrupted run the likeliest tokens with their probabilities, where they are known.

    Returns:
        HTML; "" where nothing is known.

    Example:
        >>> from mlxtrace.pages.asked import Asked, Gap
        >>> from mlxtrace.pages.both_runs import both_runs
        >>> "logit difference" in both_runs(Asked("demo", gaps=(Gap("logit_diff", 8.0, -9.0),)))
        True
    """
    parts = [el("p", prose(sentence)) for sentence in sentences(asked)]
    rows = _rows(asked)
    if rows:
        over = f", means over {len(asked.pairs)} pairs" if asked.pairs else ""
        parts.append(table(rows, f"The answers and the metric in the two runs{over}."))
    if len(tops) == 2:
        both = zip(*tops, strict=False)
        lines = [
            {
                "clean run": quoted(a),
                "p": p,
                "corrupted run": quoted(b),
                "p there": q,
            }
            for (a, p), (b, q) in both
        ]
        parts.append(table(lines, "The likeliest next tokens of either run."))
    return joined(parts)


def sentences(asked: Asked) -> list[str]:
    """What the corruption does to the answer, and the gap that counts as 100 %.

    Args:
        asked: what the results are of.

    Returns:
        Sentences; none where nothing is known.
    """
    found, mean = [], "on average " if asked.pairs else ""
    for said in asked.answers:
        if said.role == "answer" and said.clean is not None and said.corrupted is not None:
            found.append(
                f"In the clean run the probability of {_named(said)} is {mean}{probability(said.clean)}, in "
                f"the corrupted run {probability(said.corrupted)}. {_verdict(said.clean, said.corrupted)}"
            )
    for gap in asked.gaps[:1]:
        half = f" ± {number(gap.half)}" if gap.half == gap.half else ""
        found.append(
            f"What counts as 100 % is the gap of the {metric_words(gap.metric)} between the runs, "
            f"{mean}{number(gap.size)}{half}: {number(gap.clean)} clean, {number(gap.corrupted)} corrupted."
        )
    return found


def metric_words(name: str) -> str:
    """What sentences call a metric: "logit difference"; functions of users by their names."""
    return METRICS[name].words if name in METRICS else name


def _named(said: Said) -> str:
    return quoted(said.text) if said.text else "each pair's own answer"


def _verdict(clean: float, corrupted: float) -> str:
    drop = clean - corrupted
    if clean >= 0.5 and corrupted <= 0.1 * clean:
        return "The corruption loses the answer: there is a gap to explain."
    if drop < 0.2:
        return "The corruption hardly touches the answer: read the percentages below with care."
    return "The corruption loses a part of the answer."


def _rows(asked: Asked) -> list[dict]:
    words = {"answer": "p(answer)", "foil": "p(foil)"}
    rows = []
    for said in asked.answers:
        if said.clean is not None and said.corrupted is not None:
            ends = {
                "clean run": said.clean,
                "corrupted run": said.corrupted,
                "gap": said.clean - said.corrupted,
            }
            rows.append({"": f"{words[said.role]}: {said.words}", **ends})
    for gap in asked.gaps:
        ends = {"clean run": gap.clean, "corrupted run": gap.corrupted, "gap": gap.size}
        rows.append({"": f"metric: {metric_words(gap.metric)}", **ends})
    return rows
