"""The sites that matter most in a result, in one sentence."""

from __future__ import annotations

from ..plotting.labels import ends_of, quoted, window_of
from .patching_result import PatchingResult

TELLING = 15  # percent of effect from which a site is worth a sentence


def strongest(result: PatchingResult) -> str:
    """One sentence: for each component the site that matters most, and the next one elsewhere.

    Of a set, sites whose interval covers no effect are left out.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.results.strongest import strongest
        >>> model = InterpretableModel("demo")
        >>> clean, corrupted = "The Eiffel Tower is in the city of", "The Louvre Museum is in the city of"
        >>> result = model.activation_patching(clean, corrupted, foil=" Rome", metric="logit", progress=False)
        >>> strongest(result).startswith("Restores most: mlp layer")
        True
    """
    key = f"{result.metrics[0]}_recovery"
    sign = -1 if result.direction == "noise" else 1
    inner = [c for c in result.components if not c.startswith("resid")]  # the stream holds all there is
    parts, every = [], result.to_rows()
    for component in inner or result.components:
        rows = [row for row in every if row["component"] == component]
        rows = [
            row for row in rows if row[key] is not None and _half(row, key) < abs(row[key] - result.no_effect)
        ]
        rows = [row for row in rows if sign * (row[key] - result.no_effect) >= TELLING]
        rows.sort(key=lambda row: -sign * row[key])
        chosen = (
            rows[:1] + [row for row in rows if _elsewhere(row, rows[0], window_of(result, component))][:1]
        )
        sites = " and ".join(f"{_place(row, result)} ({_percent(row, key)} %)" for row in chosen)
        parts.append(f"{component} {sites or f'nowhere (each below {TELLING} %)'}")
    return f"{'Breaks' if sign < 0 else 'Restores'} most: {'; '.join(parts)}."


def _half(row: dict, key: str) -> float:
    """The half-width of a recovery's interval; 0 where it has none."""
    high = row.get("high", row.get(key.replace("_recovery", "_high")))
    return 0.0 if high is None else high - row[key]


def _percent(row: dict, key: str) -> str:
    """A recovery, of a set with the half-width of its interval."""
    half = f" ± {_half(row, key):z.0f}" if "n" in row and _half(row, key) else ""
    return f"{row[key]:z.0f}{half}"


def _elsewhere(row: dict, first: dict, window: int) -> bool:
    if "position" in row:
        (begins, ends), (others_begin, others_end) = ends_of(row["position"]), ends_of(first["position"])
        return ends < others_begin or others_end < begins  # a token of a span is no other place
    if "region" in row:
        return row["region"] != first["region"]
    others = any(row.get(unit) != first.get(unit) for unit in ("head", "neuron"))
    return others or abs(row["layer"] - first["layer"]) > window


def _place(row: dict, result: PatchingResult) -> str:
    alone = window_of(result, row["component"]) == 1
    layer = f"layer {row['layer']}" if alone else f"layers around {row['layer']}"
    where = layer + "".join(f" {unit} {row[unit]}" for unit in ("head", "neuron") if unit in row)
    if "region" in row:
        return f"{where} at {quoted(row['region'])}"
    if "position" not in row:
        return where
    subject, position = result.subject_range or range(0), row["position"]
    if isinstance(position, str):
        return f"{where} at tokens {position} together"
    which = "last token" if position == len(result.tokens) - 1 else f"token {position}"
    if position in subject:
        which = "last subject token" if position == subject[-1] else "subject token"
    return f"{where} at the {which} {quoted(row['token'])}"
