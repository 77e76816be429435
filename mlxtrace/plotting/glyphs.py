"""Characters that no installed font has, which are drawn as their codes, and texts that run from right to left."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import matplotlib as mpl
from matplotlib import font_manager, ft2font

FALLBACK_FONTS = (  # for tokens that the first font cannot draw, if installed
    "Hiragino Sans",
    "PingFang SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Apple Color Emoji",
    "Noto Emoji",
    "DejaVu Sans",  # which matplotlib brings along: marks such as · and →
)
WRITTEN_OUT = 3  # characters in a row that are each written as their codes
CODE = re.compile(r"U\+([0-9A-F]{4,6})")
MARK = "\u200e"  # what follows stands to the right
PIXELS = 64  # at which letters are measured
BOLD = 1.16  # how much wider bold letters are
GENERIC = ("sans-serif", "serif", "monospace", "cursive", "fantasy")
TURNS = hasattr(ft2font, "__libraqm_version__")  # matplotlib orders and joins letters itself


def families() -> list[str]:
    """The fonts that texts are drawn in: the user's, then those that are tried for what it lacks."""
    own = list(mpl.rcParams["font.family"])
    installed = _installed(len(font_manager.fontManager.ttflist))
    return [*own, *(name for name in FALLBACK_FONTS if name in installed and name not in own)]


@lru_cache(maxsize=4)
def _installed(fonts: int) -> frozenset[str]:
    """The names of the fonts, of which there are so many: more are there after one was added."""
    return frozenset(font.name for font in font_manager.fontManager.ttflist)


def files() -> tuple[str, ...]:
    """The files of the fonts that texts are drawn in."""
    style = cast(dict[str, Any], mpl.rcParams)
    generic = tuple(tuple(style[f"font.{name}"]) for name in GENERIC)
    found = (_file(name, generic, len(font_manager.fontManager.ttflist)) for name in families())
    return tuple(path for path in found if path is not None)


@lru_cache(maxsize=256)
def _file(name: str, generic: tuple, fonts: int) -> str | None:
    """The file of a font, if it is installed; a generic name stands for one of several."""
    wanted = font_manager.FontProperties(family=[name])
    try:
        return font_manager.findfont(wanted, fallback_to_default=name in GENERIC)
    except ValueError:
        return None


def drawable(text: str) -> str:
    """The text with what no font has as codes, `U+6771`; the first two of many in a row, and how many more."""
    if text.isascii():
        return text
    fonts = files()
    parts: list[str] = []
    run: list[str] = []
    for c in [*text, ""]:  # the last ends a run
        if run and c and _is_invisible(c):  # it joined what cannot be drawn
            continue
        if c not in ("", "\n") and lacks(c, fonts):
            run.append(f"U+{ord(c):04X}")
            continue
        parts += [_coded(run), c]
        run = []
    return "".join(parts)


def _coded(codes: list[str]) -> str:
    if len(codes) <= WRITTEN_OUT:
        return " ".join(codes)
    return f"{codes[0]} {codes[1]} …(+{len(codes) - 2})"


@lru_cache(maxsize=4096)
def lacks(c: str, fonts: tuple[str, ...]) -> bool:
    """Whether none of the fonts has the character."""
    return not any(font.get_char_index(ord(c)) for font in map(_font, fonts))


@lru_cache(maxsize=64)
def _font(path: str) -> ft2font.FT2Font:
    font = ft2font.FT2Font(path)
    font.set_size(PIXELS, 72)
    return font


def em(text: str, bold: bool = False) -> float:
    """How wide a text is drawn, in sizes of its letters."""
    fonts = files()
    return (BOLD if bold else 1.0) * max(
        (sum(_advance(c, fonts) for c in x) for x in text.split("\n")), default=0
    )


@lru_cache(maxsize=4096)
def _advance(c: str, fonts: tuple[str, ...]) -> float:
    font = next((font for font in map(_font, fonts) if font.get_char_index(ord(c))), None)
    if font is None:
        return 1.0
    return font.load_char(ord(c)).linearHoriAdvance / 65536 / PIXELS


def _is_invisible(c: str) -> bool:
    """Joiners and variants of emoji: nothing is lost without them."""
    return unicodedata.category(c) == "Cf" or "\ufe00" <= c <= "\ufe0f"


def notes(texts: Sequence[str]) -> list[str]:
    """What a figure with these texts has to say of its letters: codes instead of some, letters in the wrong order."""
    fonts, found = files(), []
    coded = {
        text
        for text in texts
        for code in CODE.findall(text)
        if int(code, 16) < 0x110000 and lacks(chr(int(code, 16)), fonts)
    }
    if coded:
        example = next(iter(sorted(CODE.search(text)[0] for text in coded)))  # type: ignore[index]
        n = f"{len(coded)} texts have" if len(coded) > 1 else "one text has"
        found.append(f"{n} characters that no installed font can draw: their codes stand there, as {example}")
    if not TURNS and any(map(runs_left, texts)):
        found.append("right-to-left text is drawn from left to right: matplotlib 3.11 or later turns it")
    return found


def runs_left(text: str) -> bool:
    """Whether any of it is written from right to left."""
    return not text.isascii() and any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def ordered(text: str) -> str:
    """A line whose parts stand from left to right also where some of its words run the other way.

    Without it, `clean → corrupted` of two Hebrew tokens is drawn with the corrupted one first, and the arrow as it was.
    """
    if not TURNS or not runs_left(text):
        return text
    text = text.replace(" → ", f"{MARK} → {MARK}")
    return MARK + re.sub(r'"(?=[\s,]|$)', f'"{MARK}', text)
