"""How a page can be made again: the command or the lines of Python, and the versions of all that counted.

lines = python_lines(results);  versions()
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ..metrics import METRICS
from ..version import VERSION
from .elements import Html, el, joined
from .methods import kind_of


@dataclass(frozen=True)
class About:
    """What is known of how a page was made beside its results.

    command: what was typed. weights: of the model, in words: "float32, 12 layers". tops: the likeliest tokens of the
    clean and of the corrupted run, with their probabilities. missing: what could not be run, and why. material: rows of
    a table of the prompts, where the results do not know them.
    """

    command: str = ""
    weights: str = ""
    tops: Sequence[Sequence[tuple[str, float]]] = ()
    missing: Sequence[str] = ()
    material: Sequence[Mapping[str, str]] = ()


LIBRARIES = ("mlx", "mlx-lm", "numpy", "plotly")
MOST_PAIRS = 200
AS_TEXT = (
    "Prompts stand here as text: where they were given as a chat's messages or as token ids, give those."
)
PATCHED = ("maps", "layers", "heads", "neurons", "attribution")


def versions() -> dict[str, str]:
    """The versions of the package, of the libraries that numbers depend on, and of Python.

    Returns:
        `{name: version}`.

    Example:
        >>> from mlxtrace.pages.reproduction import versions
        >>> list(versions())[:3]
        ['mlxtrace', 'mlx', 'mlx-lm']
    """
    found = {"mlxtrace": VERSION}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        **found,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def reproduction(results: Sequence[Any], about: About) -> Html:
    """How to make the page again, as a section of it.

    Args:
        results: what it is of.
        about: what else is known.

    Returns:
        HTML.
    """
    parts = []
    if about.command:
        parts += [el("p", "This page was made by the command"), el("pre", about.command)]
    lines = "\n".join(python_lines(results))
    parts += [el("p", "Its numbers in Python:" if about.command else "In Python:"), el("pre", lines)]
    parts.append(el("p", AS_TEXT, class_="small"))
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    weights = (
        f"; weights: {about.weights}" if about.weights else "; the weights' precision is not kept in results"
    )
    parts.append(
        el(
            "p",
            f"Written with {known}{weights if about.weights or not about.command else ''}.",
            class_="small",
        )
    )
    return joined(parts)


def python_lines(results: Sequence[Any]) -> list[str]:
    """Lines of Python that run some results again, as far as these know how they were made.

    Args:
        results: what experiments returned.

    Returns:
        Lines; those that cannot be written out are comments.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.pages.reproduction import python_lines
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = InterpretableModel("demo").activation_patching(*prompts, progress=False)
        >>> print(python_lines([result])[2])
        model = InterpretableModel('demo')
    """
    lines = ["import mlxtrace", "from mlxtrace import InterpretableModel"]
    loaded, names, pairs = "", [], []
    for i, result in enumerate(results):
        model = getattr(result, "model", "")
        if model and model != loaded:
            lines, loaded = [*lines, f"model = InterpretableModel({model!r})"], model
        name = "result" if len(results) == 1 else f"result_{i + 1}"
        singles = getattr(result, "singles", [])
        given = _pairs(singles)
        if given and given != pairs:
            lines, pairs = [*lines, *given], given
        lines.append(
            f"{name} = {call}" if (call := _call(result, bool(given))) else f"# {name}: {_unknown(result)}"
        )
        names.append(name)
    what = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    return [*lines, f'mlxtrace.report({what}, "report.html")']


def _unknown(result: Any) -> str:
    if (getattr(result, "settings", None) or {}).get("corruption"):
        return f"a {type(result).__name__} of noise, which it keeps in words: {result.settings['corruption']}"
    return f"a {type(result).__name__}, which does not keep all of its arguments"


def _pairs(singles: Sequence[Any]) -> list[str]:
    """The pairs of a set of patching results, as they can be typed."""
    if not singles or kind_of(singles[0]) not in PATCHED or len(singles) > MOST_PAIRS:
        return []
    body = []
    for single in singles:
        given = [repr(single.clean_text), repr(single.corrupted_text), *_answers(single)]
        body.append(f"    Pair({', '.join(given)}),")
    return ["from mlxtrace.prompts import Pair", "pairs = [", *body, "]"]


def _call(result: Any, named_pairs: bool) -> str:
    kind = kind_of(result)
    if kind in PATCHED:
        return _patching(result, named_pairs)
    return _trace(result) if kind == "traces" else ""


def _patching(result: Any, named_pairs: bool) -> str:
    settings = result.settings
    given = settings.get("positions")
    words = {
        "component": result.components if len(result.components) > 1 else result.components[0],
        "positions": None if "spans" in settings else given,
        "heads": None if "head" not in result.dims else "each",
        "window": result.window if result.window > 1 else None,
        "metric": result.metrics if len(result.metrics) > 1 else result.metrics[0],
        "direction": result.direction if result.direction != "denoise" else None,
        "within": settings.get("within"),
        "method": settings.get("approximate"),
        "align": "ends" if len(result.tokens) != len(result.corrupted_tokens) else None,
    }
    if settings.get("neurons") or "neuron" in result.dims or settings.get("source_model"):
        return ""
    if not set(result.metrics) <= set(METRICS):  # a function of the user's
        return ""
    many = bool(getattr(result, "ids", ()))
    if (many and not named_pairs) or settings.get("corruption"):  # noise is kept in words only
        return ""
    prompts = ["pairs"] if many else [repr(result.clean_text), repr(result.corrupted_text), *_answers(result)]
    name = "attribution_patching" if settings.get("approximate") else "activation_patching"
    said = [*_spans(settings), *(f"{key}={value!r}" for key, value in words.items() if value is not None)]
    return f"model.{name}({', '.join([*prompts, *said, f'layers={_layers(result)}'])})"


def _spans(settings: Mapping[str, Any]) -> list[str]:
    """The spans of a result as an argument."""
    known = settings.get("spans")
    return [f"positions=mlxtrace.spans({known['width']}, refine={known['refine']})"] if known else []


def _answers(result: Any) -> list[str]:
    """The answers as arguments: their texts, or the tokens of what is no one text."""
    found = []
    for name in ("target", "foil"):
        answer = getattr(result, name)
        if answer is not None and answer.others:
            found.append(f"answers={[list(tokens) for tokens in answer.all]}")
        elif answer is not None:
            found.append(f"{name}={answer.text!r}")
    return found


def _layers(result: Any) -> str:
    layers = result.coords["layer"]
    whole = layers == list(range(layers[0], layers[-1] + 1))
    return f"range({layers[0]}, {layers[-1] + 1})" if whole else str(layers)


def _trace(result: Any) -> str:
    settings = result.settings
    subject = [result.subject_range.start, result.subject_range.stop]
    words = {
        "kind": result.kind,
        "window": result.window if result.kind else None,
        "samples": settings.get("samples"),
        "within": getattr(result, "within", None),
        "noise": settings.get("noise"),
        "seed": settings.get("seed"),
        "target": result.answer.text,
        "severed": result.severed,
        "positions": result.positions,
    }
    if "spans" in settings or result.positions == list(range(len(result.tokens))):
        words["positions"] = None
    said = [*_spans(settings), *(f"{key}={value!r}" for key, value in words.items() if value is not None)]
    return f"model.causal_trace({result.prompt!r}, range({subject[0]}, {subject[1]}), {', '.join(said)})"
