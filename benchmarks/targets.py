"""The targets that the project set itself, and what a run of the benchmarks found."""

from __future__ import annotations

from .timing import Row

# target, at least, section, case, component, contender: its seconds over fanout's
RATIOS = (
    ("GPT-2 small, 12 tokens, over the loop", 14, "gpt2", "12 tokens", "resid_post", "mlxtrace loop"),
    ("GPT-2 small, 24 tokens, over the loop", 12, "gpt2", "24 tokens", "resid_post", "mlxtrace loop"),
    ("256 shared tokens, over the loop", 25, "gpt2", "256 shared + 16 tokens", "resid_post", "mlxtrace loop"),
    ("GPT-2 small, 12 tokens, over nnsight", 10, "gpt2", "12 tokens", "resid_post", "nnsight"),
    ("GPT-2 small, 12 tokens, over TransformerLens", 25, "gpt2", "12 tokens", "resid_pre", "TransformerLens"),
    ("ten noise samples, over ROME's way", 6, "gpt2", "12 tokens, 10 noise samples", "resid_post", "ROME"),
    ("demo, 12 tokens, over nnsight", 6, "demo", "12 tokens", "resid_post", "nnsight"),
)
DEMO_SECONDS, MEMORY, TRACING = 0.1, 1.1, 1.1


def reached(rows: list[Row], beside: dict) -> list[dict]:
    """Each target with what was found, and whether that meets it; None where it was not measured."""
    out = []
    for name, least, section, case, component, contender in RATIOS:
        row = _find(rows, section, case, component, contender)
        found = None if row is None else row.ratio
        out.append({"target": name, "at_least": least, "found": found, "met": found and found >= least})
    row = _find(rows, "demo", "12 tokens", "resid_post", "mlxtrace fanout")
    out.append(_at_most("demo, a full map, seconds", DEMO_SECONDS, None if row is None else row.seconds))
    if beside:
        worst = max(m["peak"] / m["max_memory"] for m in beside["memory"])
        out.append(_at_most("peak memory over max_memory", MEMORY, worst))
        over = beside["tracing"]["traced"] / beside["tracing"]["bare"]
        out.append(_at_most("a trace without edits over a bare pass", TRACING, over))
    return out


def _find(rows: list[Row], section: str, case: str, component: str, contender: str) -> Row | None:
    key = (section, case, component, 1)
    found = [r for r in rows if (r.section, r.case, r.component, r.window) == key]
    return next((r for r in found if r.contender.startswith(contender)), None)


def _at_most(name: str, most: float, found: float | None) -> dict:
    return {"target": name, "at_most": most, "found": found, "met": found and found <= most}
