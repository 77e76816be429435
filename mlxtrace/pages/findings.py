"""What a result found, in a sentence or two: the strongest sites with their numbers.

found(result)      # 'Restores most: mlp layer 9 at the last subject token " Tower" (104 %); attn nowhere (...).'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..anatomy.components import COMPONENTS
from ..plotting.labels import probability, quoted
from ..results.strongest import strongest
from .methods import METHODS, kind_of

PATCHED = ("maps", "layers", "heads", "neurons", "attribution")


def found(result: Any, kind: str | None = None) -> str:
    """What a result found, in words.

    Args:
        result: what any experiment returns.
        kind: which of `METHODS` made it; default: by its class.

    Returns:
        A sentence or two; "" where there is nothing to say beside its figure.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.pages.findings import found
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> paths = InterpretableModel("demo").path_patching(*prompts, senders="mlp", progress=False)
        >>> found(paths).startswith("Strongest paths: ")
        True
    """
    kind = kind or kind_of(result) or ""
    say: Callable[[Any], str] = _patched if kind in PATCHED else WORDS.get(kind, _nothing)
    return say(result)


def label(result: Any, kind: str) -> str:
    """What a sentence of `found` is of, where it stands by itself: "Tokens and layers, corrupting".

    Args:
        result: what any experiment returns.
        kind: which of `METHODS` made it.

    Returns:
        A few words.
    """
    heading = METHODS[kind].heading.removeprefix("Where: ").removeprefix("Which ")
    heading = f"{heading[:1].upper()}{heading[1:]}"
    if kind not in PATCHED:
        return heading
    return f"{heading}, {'corrupting' if result.direction == 'noise' else 'restoring'}"


def _patched(result: Any) -> str:
    """The strongest sites, with the words of components in the place of their names."""
    said = strongest(result)
    for name in result.components:
        words = "" if name == "head" else COMPONENTS[name].words
        for start in ("most: ", "; "):
            said = said.replace(f"{start}{name} layer", f"{start}{words + ' of ' if words else ''}layer")
            said = said.replace(
                f"{start}{name} nowhere", f"{start}{words or 'no head'}{' nowhere' if words else ''}"
            )
    return said


def _nothing(_: Any) -> str:
    return ""


def _trace(result: Any) -> str:
    best = result.top(1)[0]
    inside = best["position"] in result.subject_range
    which = "subject token" if inside else "token"
    if isinstance(best["position"], str):
        which = f"tokens {best['position']} together,"
    elif best["position"] == len(result.tokens) - 1:
        which = "last token"
    elif inside and best["position"] == result.subject_range[-1]:
        which = "last subject token"
    around = "layer" if result.window == 1 else f"{result.window} layers around"
    return (
        f"Restoring the {_restored(result.kind)} of {around} {best['layer']} at the {which} "
        f"{quoted(best['token'])} brings the probability of {quoted(result.answer.text)} from "
        f"{probability(result.low_score)} back to {probability(best['score'])}; it is "
        f"{probability(result.high_score)} in the clean run."
    )


def _restored(kind: str | None) -> str:
    return {None: "layer output", "mlp": "MLP output", "attn": "attention output"}[kind]


def _averages(result: Any) -> str:
    parts = []
    for kind in result.kinds:
        role, layer = result.peak(kind)
        at = result.kinds.index(kind), result.roles.index(role), layer
        half = result.interval[at]
        around = "" if np.isnan(half) else f" ± {half:.2g}"
        value = f"{result.indirect_effect[at]:.2g}{around}"
        parts.append(f"{_restored(kind)}s at the {role}, layer {layer} ({value})")
    return f"Largest average indirect effects: {'; '.join(parts)}."


def _paths(result: Any) -> str:
    parts, key = [], result.key
    for row in result.top(3):
        half = row.get(f"{key}_interval")
        around = "" if half is None else f" ± {half:.2g}"
        parts.append(f"{row['sender']} → {row['receiver']} ({row[key]:+.3g}{around})")
    return f"Strongest paths: {', '.join(parts)}, effects on {result.metrics[0]}." if parts else ""


def _edges(result: Any) -> str:
    parts = [f"{row['sender']} → {row['receiver']} ({row['score']:+.3g})" for row in result.top(3)]
    guess = ", estimated by gradients" if result.approximate else ""
    return f"Strongest edges: {', '.join(parts)}, effects on {result.metric}{guess}." if parts else ""


def _circuit(result: Any) -> str:
    if hasattr(result, "upstream"):
        return f"The circuit has {result.n} of {int(result.upstream.sum())} edges ({result.share:.3g} %)."
    if hasattr(result, "cpr"):
        return f"Over circuits of all sizes: CPR {result.cpr:z.3f}, CMD {result.cmd:z.3f}."
    return f"{repr(result)[:1].upper()}{repr(result)[1:]}."


def _effects(result: Any) -> str:
    row = result.top(1)[0]
    where = f" at position {row['position']}" if "position" in row else ""
    where = f" at {quoted(row['region'])}" if "region" in row else where
    return (
        f"Strongest: {result.component} layer {row['layer']}{where}, direct {row['direct']:.3g}, indirect "
        f"{row['indirect']:.3g}."
    )


def _noising(result: Any) -> str:
    layer = result.layers[int(np.argmax(result.scores))]
    return (
        f"The answer survives best with the layers around {layer} left clean: "
        f"{probability(float(result.scores.max()))}, against {probability(result.noised)} with all noised and "
        f"{probability(result.clean)} in the clean run."
    )


def _screen(result: Any) -> str:
    return str(result.sentence)


def _comparison(result: Any) -> str:
    lines = repr(result).splitlines()
    told = [line.strip() for line in lines if "correlation" in line or "peak" in line[:12]]
    return f"{'; '.join(told).capitalize()}." if told else ""


def _lens(result: Any) -> str:
    last = [float(p) for p in result.prob[:, -1]]
    best = next((i for i, p in enumerate(last) if p >= 0.5), None)
    if best is None:
        return f"{quoted(result.answer)} is read with {probability(result.final)} at the end of the model."
    return (
        f"At the last position {quoted(result.answer)} is read with more than one half from layer "
        f"{result.layers[best]} on for the first time ({probability(last[best])}); at the end of the model it has "
        f"{probability(result.final)}."
    )


WORDS: dict[str, Callable[[Any], str]] = {
    "traces": _trace,
    "averages": _averages,
    "paths": _paths,
    "edges": _edges,
    "circuit": _circuit,
    "effects": _effects,
    "noising": _noising,
    "screen": _screen,
    "comparison": _comparison,
    "lens": _lens,
}
