"""The values of the command's options, read from text: lists of names and numbers, sizes, answers.

    numbers("0-3,8,-1")      # [0, 1, 2, 3, 8, -1]
    memory("2GB")            # 2000000000

Each raises `argparse.ArgumentTypeError` for a text that it cannot read, so that the error names the option.
"""

from __future__ import annotations

import argparse
import re

from . import metrics
from .arguments import Spans, spans, whole_number
from .errors import InputError, closest
from .experiments.grid import components_of

POSITIONS = ("all", "each", "regions", "subject", "subject_last", "last", "system", "template", "user[0]")
SPANS = "give a width, spans:32, and perhaps from which share of the largest effect on spans are refined, spans:32:0.1"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
MOST = 10**6  # no model has more layers, heads or positions; a range up to more would fill the memory


def entries(text: str) -> list[str]:
    """The words of a comma-separated list."""
    found = [word.strip() for word in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty entry")
    return found


def components(text: str) -> list[str]:
    """Components by any of their names."""
    found = entries(text)
    try:
        components_of(found)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return found


def metric_names(text: str) -> list[str]:
    """Metrics by their names, or auto."""
    known, found = ["auto", *metrics.METRICS], entries(text)
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no metric {name!r}; {closest(name, known)}")
    return found


def numbers(text: str) -> list[int]:
    """`"0-3,8,-1"` -> `[0, 1, 2, 3, 8, -1]`."""
    found: list[int] = []
    for part in entries(text):
        match = re.fullmatch(r"(-?\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last <= MOST:
            raise argparse.ArgumentTypeError(f"{text!r}: give numbers and ranges such as 0-3,8")
        found += range(first, last + 1)
    return found


def positions(text: str) -> str | list[int] | Spans:
    """The name of some positions, such as a chat's turn, or their numbers, or spans."""
    if text.startswith("span"):
        return _spans(text)
    if re.fullmatch(r"[A-Za-z_]+\[\d+\]", text):
        return text
    if re.search(r"\d", text):
        return numbers(text)
    if text not in POSITIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; {closest(text, POSITIONS)}; or numbers")
    return text


def _spans(text: str) -> Spans:
    """`"spans:32"`, `"spans:32:0.1"`, `"spans:32:none"`."""
    match = re.fullmatch(r"spans:(\d+)(?::(\d*\.?\d+|none))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: {SPANS}")
    try:
        if match[2] is None:
            return spans(int(match[1]))
        return spans(int(match[1]), None if match[2] == "none" else float(match[2]))
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def heads(text: str) -> str | list[int]:
    """ "each", or the numbers of heads."""
    return text if text == "each" else numbers(text)


def count(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        return whole_number("it", int(text) if re.fullmatch(r"\d+", text) else text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


SHARD = (
    "the model over all processes that mlx.launch has started, or over so many of them for each copy; pipeline: each "
    "has whole layers"
)


def ranks(text: str) -> int | str:
    """How many processes hold a copy of the model; "pipeline": all hold one, each its own layers."""
    if text == "pipeline":
        return text
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of ranks, nor pipeline; without one, all hold one copy"
        )
    return int(text)


def samples(text: str) -> int | str:
    """A whole number of 1 or more, "until", or "until:5", which says within how many points."""
    if not text.startswith("until"):
        return count(text)
    if not re.fullmatch(r"until(:\d+(\.\d+)?)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a whole number, until, or until:5 for within 5 points"
        )
    return text


def window(text: str) -> int | str:
    """A number of layers, or "auto"."""
    return text if text == "auto" else count(text)


def memory(text: str) -> int:
    """`"2GB"` -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in UNITS or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: give a size such as 2GB, 500MB, or a number of bytes")
    return int(float(match[1]) * UNITS[match[2].upper()])


def answer(text: str) -> str | int | list[int]:
    """The text of an answer, the token id in `id:1234`, or those in `id:12,34`."""
    if not re.fullmatch(r"id:\d+(,\d+)*", text):
        return text
    tokens = [int(number) for number in text[3:].split(",")]
    return tokens[0] if len(tokens) == 1 else tokens


def answers(text: str) -> list[str | int | list[int]]:
    """Acceptable answers with a bar between them, `" Paris| paris"`, each as `answer` takes it."""
    found = text.split("|")
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty answer")
    return [answer(one) for one in found]
