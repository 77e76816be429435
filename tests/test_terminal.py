"""What a terminal gets, and what happens when it, or its reader, has gone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import warnings

import pytest

from mlxtrace import terminal
from mlxtrace.terminal import Output, closing, printable


def test_what_a_terminal_would_obey_is_shown_instead():
    assert printable("Paris\x1b[2J") == "Paris\\x1b[2J"
    assert printable("a\tb\nc é 東 🗼") == "a\tb\nc é 東 🗼"
    for character in "\x00\x07\x08\r\x7f\x9b\u200e\u2028\u202e\u2066\ud800":
        code = ord(character)
        assert printable(character) == (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
    assert printable(12) == "12"


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError


def test_output_prints_in_what_the_stream_can_encode(monkeypatch):
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say = Output("mlxtrace.patch")
    say("layer → Paris")
    assert closing(say, 0) == 0
    assert data.getvalue() == b"layer ? Paris\n" and stream.errors == "strict"


def test_a_reader_that_has_gone_is_not_told_and_others_are(monkeypatch, capsys):
    for error, lines in ((BrokenPipeError(), 0), (OSError(28, "No space left on device"), 1)):
        monkeypatch.setattr(Broken, "write", lambda self, text, error=error: (_ for _ in ()).throw(error))
        monkeypatch.setattr(sys, "stdout", Broken())
        say = Output("mlxtrace.check")
        say("one")
        say("two")  # nothing more is tried
        assert closing(say, 0) == 1 and closing(say, 2) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2 * lines
        assert all(
            line.startswith("mlxtrace.check: standard output cannot be written: No space") for line in said
        )


def test_without_streams_nothing_is_printed_and_nothing_raises(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say = Output("mlxtrace.patch")
    say("text")
    say.complain("text")
    assert closing(say, 0) == 0


@pytest.mark.parametrize("closed", [(1,), (0, 2), (0, 1, 2)])
def test_files_are_not_opened_under_the_numbers_of_closed_streams(closed, tmp_path):
    closing_lines = "".join(f"os.close({n});" for n in closed)
    code = (
        f"import os, terminal; {closing_lines} terminal.reserve_descriptors(); "
        f"file = open({str(tmp_path / 'x')!r}, 'w'); os._exit(0 if file.fileno() > 2 else 1)"
    )
    env = {**os.environ, "PYTHONPATH": os.path.dirname(terminal.__file__)}  # the file alone: a quick start
    assert subprocess.run([sys.executable, "-c", code], check=False, env=env).returncode == 0


def test_interrupts_are_caught_for_commands_only(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        monkeypatch.setattr(sys, "argv", ["-m"])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pytest"])
        terminal.catch_interrupts_while_importing()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.setattr(sys, "orig_argv", ["python", "-mmlxtrace.check"])
        terminal.catch_interrupts_while_importing()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        terminal.importing_is_over()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup: it stays ignored
        terminal.catch_interrupts_while_importing()
        terminal.importing_is_over()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_importing_ends_with_a_line(tmp_path):
    code = (
        "import os, signal, sys; sys.argv = ['-m']; sys.orig_argv = ['python', '-m', 'mlxtrace.patch'];"
        "from mlxtrace import terminal; os.kill(os.getpid(), signal.SIGINT); print('not reached')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    assert run.returncode == terminal.INTERRUPTED and not run.stdout
    assert run.stderr.splitlines()[-1].endswith(": interrupted")


def test_some_warnings_are_said_as_they_come():
    said = []
    with terminal.noted(FutureWarning, said.append) as kept:
        warnings.warn("later", UserWarning, stacklevel=1)
        warnings.warn("now", FutureWarning, stacklevel=1)
        assert said == ["now"]
    assert [str(w.message) for w in kept] == ["later"]
