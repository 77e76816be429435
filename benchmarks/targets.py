"""The targets that the project set itself, and what a run of the benchmarks found."""

from __future__ import annotations

from .timing import Row

# target, at least, section, case, component, contender: its seconds over fanout's
RATIOS = (
    ("12 tokens, over `loop`", 14, "gpt2", "12 tokens", "resid_post", "mlxtrace loop"),
    ("24 tokens, over `loop`", 12, "gpt2", "24 tokens", "resid_post", "mlxtrace loop"),
    (
        "256 shared + 16 tokens, over `loop`",
        25,
        "gpt2",
        "256 shared + 16 tokens",
        "resid_post",
        "mlxtrace loop",
    ),
    ("12 tokens, over nnsight's loop", 10, "gpt2", "12 tokens", "resid_post", "nnsight"),
    ("12 tokens, over TransformerLens", 25, "gpt2", "12 tokens", "resid_pre", "TransformerLens"),
    (
        "ten noise samples, over the ROME authors' way",
        6,
        "gpt2",
        "12 tokens, 10 noise samples",
        "resid_post",
        "ROME",
    ),
    (
        "demo, 12 tokens, over nnsight on a model of its shape",
        6,
        "demo",
        "12 tokens",
        "resid_post",
        "nnsight",
    ),
)
DEMO_SECONDS, MEMORY, TRACING = 0.1, 1.1, 1.1


def reached(rows: list[Row], beside: dict) -> list[dict]:
    """Each target with what was found, and whether that meets it; None where it was not measured.

    found: with all threads against the contender with as many as it is fastest with. by_threads: with as many each.
    """
    out = []
    for name, least, section, case, component, contender in RATIOS:
        ours = _seconds(rows, section, case, component, "mlxtrace fanout")
        theirs = _seconds(rows, section, case, component, contender)
        found = min(theirs.values()) / ours[max(ours)] if ours and theirs else None
        same = {n: theirs[n] / ours[n] for n in sorted(theirs, reverse=True) if n in ours}
        out.append({"target": name, "at_least": least, "found": found, "met": found and found >= least})
        out[-1]["by_threads"] = same
    ours = _seconds(rows, "demo", "12 tokens", "resid_post", "mlxtrace fanout")
    out.append(_at_most("demo, a full map once warm, s", DEMO_SECONDS, ours[max(ours)] if ours else None))
    if beside:
        worst = max(m["peak"] / m["max_memory"] for m in beside["memory"])
        out.append(_at_most("peak memory over `max_memory`", MEMORY, worst))
        over = beside["tracing"]["traced"] / beside["tracing"]["bare"]
        out.append(_at_most("a trace without edits over a bare pass", TRACING, over))
    return out


def _seconds(rows: list[Row], section: str, case: str, component: str, contender: str) -> dict[int, float]:
    """By number of threads, what a contender took for a map."""
    key = (section, case, component, 1)
    found = [r for r in rows if (r.section, r.case, r.component, r.window) == key]
    return {r.threads: r.seconds for r in found if r.contender.startswith(contender)}


def _at_most(name: str, most: float, found: float | None) -> dict:
    return {"target": name, "at_most": most, "found": found, "met": found and found <= most}
