"""Paths in words: the title, both runs, and the strongest edges for a terminal or a notebook."""

from __future__ import annotations

from typing import Any

from .printing import document, listed, over, page, probability, quoted, top_rows

__all__ = ["SHOWN", "as_html", "runs", "text", "title", "top_rows"]
SHOWN = 10  # of the strongest paths, those that are printed


def title(result: Any) -> str:
    """What was patched, in words: "Restoring paths: 13 senders to logits over 64 pairs (whole sequence)"."""
    verb = "Corrupting" if result.direction == "noise" else "Restoring"
    ends = [_counted(result.senders, "sender"), _counted(result.receivers, "receiver")]
    return f"{verb} paths: {ends[0]} to {ends[1]}{over(result.ids)} ({_where(result)})"


def _where(result: Any) -> str:
    asked = result.settings.get("positions")
    if result.regions is not None:
        return "each region"
    if result.positions is not None:
        return "each token"
    return "whole sequence" if asked is None else f"positions {asked}"


def runs(result: Any) -> list[tuple[str, str]]:
    """The two runs in words: what they were given, and what they answer."""
    corrupted = result.settings.get("corruption", result.corrupted_text)
    texts = (("clean", result.clean_text), ("corrupted", corrupted))
    return [(run, _said(given, [result.target, result.foil], f"{run}_prob")) for run, given in texts]


def text(result: Any) -> str:
    """For a terminal: both runs, the metrics' ends, and the strongest edges."""
    lines = [f"{run + ':':<10} {said}" for run, said in runs(result)]
    for metric in result.metrics:
        ends = f"clean {result.clean_values[metric]:z.4g}, corrupted {result.corrupted_values[metric]:z.4g}"
        lines.append(f"{metric + ':':<10} {ends}")
    effect = "mean of patched - base, ± its 95 % interval over the pairs" if result.ids else "patched - base"
    edges = f"{int(result.edge.sum())} edges of {result.edge.size} pairs"
    lines.append(f"{edges}; effect: {effect}; in percent the recovery")
    body = [
        f"strongest of {result.metrics[0]}:",
        *(f"  {_row(result.key, row)}" for row in result.top(SHOWN)),
    ]
    return page(title(result), lines, result.notes, body)


def _row(key: str, row: dict[str, Any]) -> str:
    percent, half = row[key.replace("effect", "recovery")], row.get(f"{key}_interval")
    interval = "" if half is None else f" ± {half:<z8.2g}"
    shown = "" if percent is None else f"{percent:z8.1f} %"
    return f"{row[key]:+z10.4g}{interval} {shown}  {row['sender']} -> {row['receiver']}{_place(row)}"


def _place(row: dict[str, Any]) -> str:
    if "token" in row:
        return f" at {quoted(row['token'])}"
    found = row.get("position", row.get("region"))
    return "" if found is None else f" at {found}"


def as_html(result: Any) -> str:
    """For a notebook: both runs, notes, and a table of the strongest edges."""
    rows = []
    for row in result.top(2 * SHOWN):
        percent = row[result.key.replace("effect", "recovery")]
        found = {"sender": row["sender"], "receiver": row["receiver"], "place": _place(row)[4:]}
        rows.append({**found, "effect": row[result.key], "recovery, %": percent})
    if not any(row["place"] for row in rows):
        rows = [{name: x for name, x in row.items() if name != "place"} for row in rows]
    lines = [f"{run}: {said}" for run, said in runs(result)]
    places = len(result.positions or result.regions or [None])
    return document(title(result), lines, result.notes, [listed(rows, places * int(result.edge.sum()))])


def _counted(names: list[str], what: str) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} {what}s"


def _said(given: str, answers: list[Any], which: str) -> str:
    known = sorted((a for a in answers if a is not None), key=lambda a: -getattr(a, which))
    shown = ", ".join(f"{quoted(a.text)} {probability(getattr(a, which))}" for a in known)
    return f"{given} → {shown}" if shown else given
