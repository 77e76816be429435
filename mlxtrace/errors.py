"""The exceptions: each says what was seen and how to mend it, and derives from the built-in that fits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .terminal import printable


class MlxtraceError(Exception):
    """Base of every error that mlxtrace raises on purpose."""

    def __str__(self) -> str:  # KeyError would print the repr, quotes and escapes included
        return printable(self.args[0]) if self.args else ""


class LoadError(MlxtraceError, ValueError):
    """The model or its tokenizer cannot be loaded or is not a language model of mlx-lm."""


class InputError(MlxtraceError, ValueError):
    """An argument has a value that cannot mean anything here."""


class TokenError(InputError):
    """A text has no tokenizer, no tokens, or not the single token that is needed."""


class SubjectError(InputError):
    """The subject does not occur in the prompt."""


class AlignmentError(InputError):
    """Clean and corrupted prompts do not line up token by token."""


class EffectError(InputError):
    """Corruption hardly moves the metric, so that a recovery would mean nothing."""


class PositionError(MlxtraceError, IndexError):
    """A token position, layer or head lies outside the prompt or the model."""


class SiteError(MlxtraceError, KeyError):
    """A name matches no site, or several."""


class SiteAttributeError(SiteError, AttributeError):
    """A module has no such part (asked for as an attribute)."""


class UnsupportedError(MlxtraceError, TypeError):
    """The architecture has no such site, or cannot offer what was asked for."""


class EditError(MlxtraceError, ValueError):
    """An edit has the wrong shape or type."""


class LengthsError(MlxtraceError, TypeError, AttributeError):
    """Of prompts of several lengths something was asked that only one array has."""


class OrderError(MlxtraceError, RuntimeError):
    """A site was asked for after the forward pass went by, or never came."""


class LongRunWarning(UserWarning):
    """What is about to run takes long, and there is something else to run instead; said before it begins."""


class EngineError(MlxtraceError, RuntimeError):
    """A sweep did not do what its plan says, or its base rows differ from the plain run."""


def memory_limit(allowed: int) -> str:
    """What allowed so many bytes, for the beginning of an error message: `max_memory`, or what there is.

    Args:
        allowed: bytes; with the words of its `limit` where nobody named them.

    Returns:
        A phrase without an end.

    Example:
        >>> from mlxtrace.errors import memory_limit
        >>> memory_limit(1000)
        'max_memory is 1000 bytes'
    """
    return getattr(allowed, "limit", f"max_memory is {allowed} bytes")


def closest(name: str, names: Iterable[str], n: int = 4) -> str:
    """One phrase with the names closest to `name`, for the end of an error message."""
    name, names = str(name), list(dict.fromkeys(names))
    found = difflib.get_close_matches(name, names, n=n, cutoff=0.4)
    if not found:
        tail = name.rsplit(".", 1)[-1]
        found = [x for x in names if x.rsplit(".", 1)[-1] == tail][:n] or names[:n]
    return "closest: " + ", ".join(found) if found else "there is none"
