"""The tables of RESULTS.md, from results.json: `python -m benchmarks.tables [results.json]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# contenders that have a column of their own, and what they are called there
COLUMNS = {"mlxtrace loop": "`loop`", "nnsight loop": "nnsight"}
OTHERS = {"TransformerLens": "TransformerLens", "ROME": "ROME's way"}


def tables(found: dict) -> str:
    """Targets, maps, and what arithmetic leaves, in Markdown; empty where nothing of it was run."""
    all_threads = found["machine"]["threads"]
    maps = _maps(found["rows"])
    parts = [
        against(found["targets"]),
        times(maps, all_threads),
        bounds(maps, all_threads),
        memory(found["resources"]),
    ]
    return "\n\n".join(part for part in parts if part)


def against(targets: list[dict]) -> str:
    """Fairest column first: all our threads against their best; then as many each."""
    if not targets:
        return ""
    counts = sorted({int(n) for item in targets for n in item.get("by_threads", {})}, reverse=True)
    rows = []
    for item in targets:
        found, same = item["found"], {int(n): x for n, x in item.get("by_threads", {}).items()}
        asked = item.get("at_least", item.get("at_most"))
        met = "not measured" if found is None else "met" if item["met"] else "**not met**"
        rows.append(
            [item["target"], f"{asked:g}", _number(found), *(_number(same.get(n)) for n in counts), met]
        )
    heads = [
        "target",
        "asked",
        "found: ours with all, theirs with their best",
        *(f"{n} each" for n in counts),
        "",
    ]
    return _table(heads, rows)


def times(maps: dict[tuple, list[dict]], all_threads: int) -> str:
    """Seconds of every contender, with all threads and with one."""
    rows = []
    for rows_of in maps.values():
        by = {
            name: _both(rows_of, name, all_threads) for name in ("mlxtrace fanout", "mlxtrace flat", *COLUMNS)
        }
        others = [f"{name} {_both(rows_of, key, all_threads)}" for key, name in OTHERS.items()]
        others = [text for text in others if text[-1].isdigit()]
        rows.append([_name(rows_of[0]), str(rows_of[0]["cells"]), *by.values(), "; ".join(others)])
    return _table(["map", "cells", "fanout", "flat", *COLUMNS.values(), "others"], rows) if rows else ""


def bounds(maps: dict[tuple, list[dict]], all_threads: int) -> str:
    """What the arithmetic takes: with activation functions in one thread as MLX runs them, and in all.

    The last columns: of the ratio over the loop what was found, what it were if the fan-out took its arithmetic alone,
    and what it were if both did.
    """
    rows = []
    for rows_of in maps.values():
        at = {(r["contender"], r["threads"]): r for r in rows_of}
        ours, loop = at.get(("mlxtrace fanout", all_threads)), _best(rows_of, "mlxtrace loop")
        if ours is None:
            continue
        matmuls, activation = ours["floor"], ours["activation"]
        least = matmuls + activation / all_threads
        over = [ours["seconds"] / (matmuls + activation), ours["seconds"] / least]
        textbook = ours["textbook"][0] + ours["textbook"][1] / all_threads
        ratios = [loop / ours["seconds"], loop / least] if loop else [None, None]
        numbers = [*over, *ratios, textbook / least]
        rows.append([_name(ours), f"{matmuls:.2f} + {activation:.2f}", *map(_number, numbers)])
    heads = ["map", "arithmetic, s", "fanout over it", "activations in all threads", "over `loop`"]
    return _table([*heads, "`loop` over arithmetic", "arithmetic over arithmetic"], rows) if rows else ""


def memory(resources: dict) -> str:
    """Peaks by bound, and what a trace costs."""
    if not resources:
        return ""
    rows = [
        [f"{m['max_memory'] / 1e6:.0f} MB", f"{m['peak'] / 1e6:.0f} MB", str(m["passes"])]
        for m in resources["memory"]
    ]
    of = resources["tracing"]
    said = f"A bare pass took {of['bare'] * 1e3:.0f} ms, a trace that keeps everything {of['traced'] / of['bare']:.2f} "
    said += f"times that and one that keeps nothing {of['uncached'] / of['bare']:.2f} times."
    return _table(["`max_memory`", "peak beside the weights", "passes"], rows) + "\n\n" + said


def _maps(rows: list[dict]) -> dict[tuple, list[dict]]:
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["section"] in ("gpt2", "demo"):
            found.setdefault((row["section"], row["case"], row["component"], row["window"]), []).append(row)
    return found


def _name(row: dict) -> str:
    start = "demo, " if row["section"] == "demo" else ""
    windows = f", windows of {row['window']}" if row["window"] > 1 else ""
    return f"{start}{row['case']}, `{row['component']}`{windows}"


def _both(rows: list[dict], contender: str, all_threads: int) -> str:
    """Seconds with all threads / with one; empty where it did not run."""
    found = {r["threads"]: r["seconds"] for r in rows if r["contender"].startswith(contender)}
    return " / ".join(f"{found[n]:.3g}" for n in dict.fromkeys((all_threads, 1)) if n in found)


def _best(rows: list[dict], contender: str) -> float | None:
    return min((r["seconds"] for r in rows if r["contender"].startswith(contender)), default=None)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3g}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results.json"
    print(tables(json.loads(path.read_text())))
