"""What a terminal gets: no escape codes out of data, texts as wide as they look, and no traceback when it goes away.

printable("Paris\\x1b[2J")       # 'Paris\\\\x1b[2J': a prompt cannot clear the screen
cut("巴黎是首都", 7)               # '巴黎是…': as wide as it looks
say = Output("mlxtrace.patch")   # a command's standard output
say(result)                      # never raises: what cannot be written does not stop what comes after
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

INTERRUPTED = 130  # exit status
# Control characters but tab and newline, those that turn the direction of text, and halves of a character.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: Any) -> str:
    """The text with everything that a terminal would obey, and what cannot be encoded, as `\\x1b` and the like."""
    return _UNSAFE.sub(_escaped, str(text))


def _escaped(found: re.Match) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def width(text: str) -> int:
    """The columns that a text takes in a terminal: two for a wide character, none for one that stands on another."""
    return sum(_wide(c) for c in text)


def _wide(c: str) -> int:
    return 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1


def cut(text: str, most: int) -> str:
    """The text, or as much of its beginning as fits, with `…`."""
    if width(text) <= most:
        return text
    kept, left = "", most - 1
    for c in text:
        left -= _wide(c)
        if left < 0:
            break
        kept += c
    return kept + "…"


def padded(text: str, columns: int) -> str:
    """The text with spaces behind it."""
    return text + " " * (columns - width(text))


def elided(text: str, most: int) -> str:
    """The text, or as much of its beginning and its end as fits, with what is left out counted between them."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half].rstrip()} … ({len(text) - 2 * half:,} characters) … {text[-half:].lstrip()}"


class Output:
    """Standard output for a command: prints what it can, in replacement characters if need be, and never raises.

    command: its name, such as "mlxtrace.patch", which every line on standard error starts with. first: this process is
    the one that prints and writes files, of several that run the command together.
    """

    first = True

    def __init__(self, command: str) -> None:
        self.command = command
        self.error: OSError | ValueError | None = None
        self._errors = getattr(sys.stdout, "errors", None)
        self._handle_errors("replace")  # an arrow in ASCII becomes `?`

    def __call__(self, text: Any = "") -> None:
        if sys.stdout is not None and self.error is None:
            self._try(lambda: print(printable(text)))

    def complain(self, text: str) -> None:
        """Say what went wrong on standard error, if there is one."""
        if sys.stderr is not None:
            try:
                print(f"{self.command}: {printable(text)}", file=sys.stderr, flush=True)
            except (OSError, ValueError):
                _silence(sys.stderr)

    def join(self) -> None:
        """Wait for the other processes of the command; there are none."""

    def meet(self) -> None:
        """Go on once they all are here."""

    def failed(self, text: str, status: int) -> int:
        """Say what went wrong; the exit status."""
        self.complain(text)
        return status

    def close(self) -> OSError | ValueError | None:
        """Write what is still to be written; the error if anything could not be."""
        if sys.stdout is not None and self.error is None:
            self._try(sys.stdout.flush)
        if self.error is None:
            self._handle_errors(self._errors)
        return self.error

    def _handle_errors(self, how: str | None) -> None:
        reconfigure = getattr(sys.stdout, "reconfigure", None)  # which a notebook's has not
        if reconfigure is not None:
            reconfigure(errors=how)

    def _try(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:
            self.error = error
            _silence(sys.stdout)


def closing(output: Output, status: int, unwritten: int = 1) -> int:
    """The exit status once everything is printed; `unwritten`: the one when it cannot be, and nothing else failed."""
    error = output.close()
    if error is None:
        return status
    if not isinstance(error, BrokenPipeError):  # else its reader, such as `head`, has gone
        output.complain(f"standard output cannot be written: {getattr(error, 'strerror', None) or error}")
    return status or unwritten


def _silence(stream: Any) -> None:
    """Point the stream to nowhere, so that Python does not fail on what is left in it when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        return


@contextlib.contextmanager
def noted(now: type[Warning], say: Callable[[str], Any]) -> Iterator[list[warnings.WarningMessage]]:
    """The warnings of what runs inside, to be printed at its end; those of one kind are said as they come."""
    with warnings.catch_warnings():
        kept: list[warnings.WarningMessage] = []

        def show(message: Any, category: type[Warning], *where: Any) -> None:
            if issubclass(category, now):
                say(str(message))
            else:
                kept.append(warnings.WarningMessage(message, category, *where))

        warnings.showwarning = show
        yield kept


def reserve_descriptors() -> None:
    """Take the numbers of closed standard streams, so that no file that is opened later is printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


# ---- interrupts


def catch_interrupts_while_importing() -> None:
    """End quietly on Ctrl-C until a command of the package runs, and not where the package is only imported."""
    if sys.argv[:1] == ["-m"] and _command():
        reserve_descriptors()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as by nohup
            signal.signal(signal.SIGINT, _end)


def _command() -> str:
    """The command of the package that this process was started as; "" for another program."""
    found = [re.fullmatch(r"(?:-m)?(mlxtrace\.(?:patch|check))", word) for word in sys.orig_argv[1:]]
    return next((match[1] for match in found if match), "")


def _end(*_: Any) -> NoReturn:
    try:
        os.write(2, f"{_command()}: interrupted\n".encode())  # print may be what was interrupted
    finally:
        os._exit(INTERRUPTED)


def importing_is_over() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
