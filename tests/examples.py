"""Examples in pages: the code blocks that run, and what the page says that they print or raise.

    for example in examples(page):
        example.check(names, capsys)

A block of Python says what it prints in comments, `print(x)  # → this`, or in a block of text behind it. Where that
text starts with the name of an error, the block must raise that error, in these words.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
BARS = re.compile(r"[█▉▊▋▌▍▎▏░▒▓]+")
ELIDED = "..."
WRITE = "MLXTRACE_WRITE" in os.environ  # then the blocks of text are written anew from what is printed


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page that are in this language."""
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def promised(block: str) -> list[str]:
    """What a block says that it prints: `print(...)  # → this`."""
    return re.findall(r"# → (.+)$", block, re.M)


@dataclass
class Example:
    """A block of Python, and the text behind it that it prints or raises; None where there is none.

    span: of that text in the page.
    """

    page: Path
    code: str
    printed: str | None
    span: tuple[int, int]
    line: int

    def run(self, names: dict[str, Any], capsys: Any) -> str:
        """Run it, hold it to its comments, and give what it prints, or the error that it ends in."""
        wanted = self.printed is not None and re.match(r"\w+Error: ", self.printed)
        filename = f"{self.page.name}:{self.line}"
        tree = ast.parse(self.code, filename)
        ast.increment_lineno(tree, self.line)
        error = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                exec(compile(tree, str(self.page), "exec"), names)
            except Exception as seen:
                if not wanted:
                    raise
                error = f"{type(seen).__name__}: {seen}"
        said = capsys.readouterr().out
        lines = iter(line.strip() for line in said.splitlines())
        for line in promised(self.code):
            assert line in lines, f"{filename} says that {line!r} is printed (in this order) by\n{self.code}"
        assert not wanted or error, f"{filename} runs, but the page says that it raises\n{self.printed}"
        return error or said

    def check(self, names: dict[str, Any], capsys: Any) -> str:
        """As `run`, and hold what it prints to the text behind it."""
        said = self.run(names, capsys)
        if self.printed is not None and not WRITE:
            off = unlike(self.printed, said)
            assert not off, (
                f"{self.page.name}:{self.line}: {off}\n---- the page\n{self.printed}\n---- printed\n{said}"
            )
        return said


def examples(page: Path) -> list[Example]:
    """The blocks of Python of a page, with the text that follows them at once."""
    text, found = page.read_text(encoding="utf-8"), []
    last, end = "", 0
    for match in FENCE.finditer(text):
        kind, body, between = match[1], match[2], text[end : match.start()]
        if kind == "python":
            found.append(Example(page, body, None, (0, 0), text.count("\n", 0, match.start()) + 1))
        elif kind == "text" and last == "python" and not between.strip():
            found[-1].printed, found[-1].span = body, match.span(2)
        last, end = kind, match.end()
    return found


def unlike(page: str, said: str) -> str:
    """Where a page differs from what was printed; '' where it does not.

    A line of "..." stands for any lines, and "..." in a line for any text. Numbers may differ by one in the last digit
    that the page has, for they are rounded, and bars by what that moves; `s` for seconds may be anything.
    """
    lines = said.rstrip().splitlines()
    at, free = 0, False
    for line in page.rstrip().splitlines():
        if line.strip() == ELIDED:
            free = True
            continue
        places = range(at, len(lines)) if free else range(at, min(at + 1, len(lines)))
        found = next((i for i in places if _same(line, lines[i])), None)
        if found is None:
            return f"not printed, in this order: {line!r}"
        at, free = found + 1, False
    return "" if free or at == len(lines) else f"printed, and not on the page: {lines[at]!r}"


def _same(page: str, said: str) -> bool:
    page, said = (BARS.sub("", text).split() for text in (page, said))
    page, said = " ".join(page), " ".join(said)
    pattern, numbers, end = "", [], 0
    for number in NUMBER.finditer(page):
        pattern += re.escape(page[end : number.start()]) + f"({NUMBER.pattern})"
        numbers.append(number[0])
        end = number.end()
    pattern += re.escape(page[end:])
    match = re.fullmatch(pattern.replace(re.escape(ELIDED), ".*"), said)
    if match is None:
        return False
    return all(_near(wanted, found) for wanted, found in zip(numbers, match.groups(), strict=True))


def _near(wanted: str, found: str) -> bool:
    digits = len(wanted.partition(".")[2])
    return wanted == found or (digits > 0 and abs(float(wanted) - float(found)) < 1.5 * 10.0**-digits)


def rewrite(page: Path, printed: list[tuple[Example, str]]) -> None:
    """Put what was printed into the page, where it has a block of text for it without anything left out."""
    text = page.read_text(encoding="utf-8")
    for example, said in reversed(printed):
        if example.printed is not None and ELIDED not in example.printed:
            start, end = example.span
            body = "\n".join(line.rstrip() for line in said.rstrip().splitlines())
            text = f"{text[:start]}{body}\n{text[end:]}"
    page.write_text(text, encoding="utf-8")
