"""What titles, axes, tables and notes call things: components, runs, positions, answers, probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..anatomy.components import COMPONENTS
from ..arguments import ends_of, text_at
from ..terminal import padded, printable, width
from .certainty import uncertain
from .elided import elided, elided_pair, model_name
from .protocols import Panel, Patched

__all__ = [
    "NATURAL",
    "OF_A_DIFFERENCE",
    "OF_A_MEAN",
    "OF_A_RATIO",
    "PLACES",
    "WITHIN",
    "Panel",
    "Patched",
    "describe",
    "elided",
    "elided_pair",
    "ends_of",
    "joint",
    "layer_label",
    "model_name",
    "one_or_another",
    "over",
    "place_of",
    "position_label",
    "probability",
    "quoted",
    "run_lines",
    "short",
    "text_at",
    "text_bar",
    "text_map",
    "uncertain",
    "window_of",
    "words_of",
]
LEAST = 60  # characters that are left to a prompt
OR = '" or "'  # between the texts of several answers
OF_A_RATIO = "95 %: 1.96 standard errors of a ratio of means (Cochran 1977, section 2.11)"
OF_A_MEAN = "95 %: 1.96 s / sqrt(n) over the pairs"
OF_A_DIFFERENCE = "95 %: 1.96 standard errors of a difference of ratios of means, paired and linearised"
NATURAL = (  # where `direct` and `indirect` are met: the literature's effects of these names are others
    "natural indirect effect (Pearl 2001; Vig et al. 2020): direct - base run; natural direct effect: source run - "
    "indirect - base run"
)
WITHIN = {  # how a region's tokens are patched
    "mean": "each region, mean over its tokens",
    "last": "each region's last token",
    "together": "each region, its tokens together",
}
JOINT = (
    "rows of several tokens are patched together: their joint effect, not the sum of theirs; of spans without rows for "
    "their tokens no single token was patched"
)
PLACES = {"subject": "subject tokens", "subject_last": "last subject token", "last": "last token"}


def words_of(component: str) -> str:
    """What titles call a component: "MLP output"."""
    return COMPONENTS[component].words


def describe(result: Patched) -> str:
    """What was patched, in words: "Restoring the MLP output over 64 pairs (last token, 3 layers at a time)"."""
    verb = "Corrupting" if result.direction == "noise" else "Restoring"
    words = [words_of(c) for c in result.components]
    what = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    where = _where(result)
    if "neuron" in result.dims:  # thousands: maps and bars cannot show each
        what, where = f"{what} one by one", f"{where}; the strongest of {len(result.coords['neuron'])} shown"
    elif result.settings.get("neurons"):
        what += f" {short(result.settings['neurons'])}"
    window = _windows(result)
    other = result.settings.get("source_model")
    what += f" with that of {model_name(other)}" if other else ""
    said = f"{verb} the {what}{over(result.ids)} ({where}{window})"
    method = result.settings.get("approximate")
    return f"Approximate ({method}): {said[0].lower()}{said[1:]}" if method else said


def window_of(result: Patched, component: str) -> int:
    """How many layers of a component were patched together."""
    return result.settings.get("windows", {}).get(component, result.window)


def layer_label(result: Patched, component: str) -> str:
    """What an axis of layers is called: "layer", or "centre of 3 layers"; "single layer" beside windows of others."""
    n = window_of(result, component)
    alone = "single layer" if result.settings.get("windows") else "layer"
    return alone if n == 1 else f"centre of {n} layers"


def _windows(result: Patched) -> str:
    """The layers patched together, in words, behind where they were patched: ", 3 layers at a time"."""
    by_size: dict[int, list[str]] = {}
    for component in result.components:
        by_size.setdefault(window_of(result, component), []).append(component)
    if len(by_size) < 2:
        return f", {result.window} layers at a time" if result.window > 1 else ""
    told = [f"of {' and '.join(names)} {n} layers at a time" for n, names in by_size.items() if n > 1]
    return f"; {', '.join(told)}"


def over(ids: Sequence[str]) -> str:
    """How many pairs a result is of: " over 64 pairs"; nothing for the result of one pair by itself."""
    return f" over {len(ids)} pair{'s' if len(ids) > 1 else ''}" if ids else ""


def _where(result: Patched) -> str:
    positions = result.settings.get("positions")
    if "region" in result.dims:
        return WITHIN.get(result.settings.get("within", ""), "each region")
    if spans := result.settings.get("spans"):
        refined = "" if spans["refine"] is None else ", and single tokens where they matter"
        return f"spans of {spans['width']} tokens{refined}"
    if "position" in result.dims or (isinstance(positions, str) and positions == "each"):
        return "each token"
    return place_of(positions)


def joint(positions: Iterable[int | str]) -> list[str]:
    """What a figure says below a map by position that has rows of several tokens."""
    return [JOINT] if any(isinstance(label, str) for label in positions) else []


def place_of(positions: Any) -> str:
    """The positions that were patched together, as they were given, in words."""
    if positions is None:
        return "whole sequence"
    if isinstance(positions, str):
        return PLACES.get(positions, positions)
    return f"position {short(np.ravel(positions).tolist())}"


def run_lines(result: Patched, most: int | None = None) -> list[tuple[str, str]]:
    """The two runs in words: ("clean", 'The Eiffel Tower is in → " Paris" 0.98'), then ("corrupted", ...).

    most: characters of a line; longer prompts are cut around where they differ. None: they are whole.
    """
    answers = {run: _answers(result, run) for run in ("clean", "corrupted")}
    texts = dict(
        zip(answers, map(one_line, _prompts(result, most, max(map(len, answers.values())))), strict=True)
    )
    return [
        (run, _by(result, run) + (f"{text} → {answers[run]}" if answers[run] else text))
        for run, text in texts.items()
    ]


def _prompts(result: Patched, most: int | None, taken: int) -> tuple[str, str]:
    """Both prompts, in the characters that the answers leave; the corrupted one is its noise where it is the same."""
    clean, corrupted = result.clean_text, result.corrupted_text
    left = None if most is None else max(most - taken - len("corrupted:  → "), LEAST)
    if corrupted == clean:
        return clean if left is None else elided(clean, left), result.settings.get("corruption", corrupted)
    return (clean, corrupted) if left is None else elided_pair(clean, corrupted, left)


def _answers(result: Patched, run: str) -> str:
    answers = [a for a in (result.target, result.foil) if a is not None]
    if len(answers) == 2 and answers[0].tokens == answers[1].tokens:
        answers = answers[:1]
    answers.sort(key=lambda a: -getattr(a, f"{run}_prob"))
    return ", ".join(f"{quoted(a.text)} {probability(getattr(a, f'{run}_prob'))}" for a in answers)


def one_line(text: str) -> str:
    """A prompt's text with its line breaks, of which chats have many, written out."""
    return text.replace("\n", "\\n")


def _by(result: Patched, run: str) -> str:
    """Which model made a run, where they are two: "run by demo + adapters: "."""
    other, source = (
        result.settings.get("source_model"),
        "corrupted" if result.direction == "noise" else "clean",
    )
    return f"run by {model_name(other if run == source else result.model)}: " if other else ""


def quoted(text: str) -> str:
    """The text in double quotes, safe to print; the texts of several answers have theirs."""
    several = text[:1] == text[-1:] == '"' and OR in text
    return printable(text if several else json.dumps(text, ensure_ascii=False))


def one_or_another(texts: Sequence[str]) -> str:
    """What several answers, each of which is right, are called: `" Paris" or " Rome"`."""
    return (
        texts[0] if len(texts) == 1 else " or ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    )


def probability(p: float) -> str:
    """A probability in two digits, or one where it is small."""
    return f"{p:.2f}" if p >= 0.01 else f"{p:.1g}"


def position_label(result: Patched, position: int | str, show: Callable[[str], str] = str) -> str:
    """A position's token; both tokens where they differ; `*` behind those of the subject. Of a span its two ends."""
    if isinstance(position, str):
        return text_at(position, lambda p: position_label(result, p, show))
    clean, label = result.tokens[position], show(result.tokens[position])
    same_length = len(result.tokens) == len(result.corrupted_tokens)
    if same_length and result.corrupted_tokens[position] != clean:
        label = f"{label} → {show(result.corrupted_tokens[position])}"
    return label + ("*" if result.subject_range and position in result.subject_range else "")


def text_bar(value: float, low: float, high: float, width: int = 24) -> str:
    """A signed bar of `width` cells from the zero of the scale `low` (<= 0) to `high` (>= 0)."""
    span = max(high - low, 1e-9)
    left = round(-low / span * width)
    n = round(min(abs(value), span) / span * width)
    return " " * (left - n) + "▒" * min(n, left) if value < 0 else " " * left + "█" * n


def text_map(
    names: list[str], values: np.ndarray, whole: float, uncertain: np.ndarray | None = None
) -> list[str]:
    """A map `[rows, columns]` in characters: a shade for each fifth of `whole`, `-` where it is negative.

    Where it is anything but about nothing and `uncertain` it is `?`, where there is no value a space.
    """
    parts = values / whole if whole else np.zeros_like(values)
    steps = np.clip(np.ceil(5 * np.nan_to_num(parts) - 0.25), 0, 4).astype(int)
    unsure = np.zeros(values.shape, bool) if uncertain is None else uncertain
    wide = max(map(width, names))
    lines = []
    for name, *row in zip(names, steps, parts, unsure, strict=True):
        cells = "".join(_shade(s, v, u) for s, v, u in zip(*row, strict=True))
        lines.append(f"  {padded(name, wide)}  {cells}")
    return lines


def _shade(step: int, part: float, uncertain: bool) -> str:
    if np.isnan(part):
        return " "
    shade = "-" if part < -0.05 else "·░▒▓█"[step]
    return "?" if uncertain and shade != "·" else shade


def short(labels: list) -> str:
    """Labels on one line: a run of numbers as "0-11", others one by one."""
    runs = len(labels) > 2 and labels == list(range(labels[0], labels[-1] + 1))
    return f"{labels[0]}-{labels[-1]}" if runs else ", ".join(map(str, labels))
