"""The models that ship, loaded once in a process: what is measured of a model is measured once as well."""

from __future__ import annotations

import functools
from typing import Any

from mlxtrace import InterpretableModel

_once = functools.cache(InterpretableModel)


def load(name: Any, *given: Any, **options: Any) -> InterpretableModel:
    """As `InterpretableModel` loads it; one that ships, without options, is the same object each time."""
    if name in ("demo", "induction", "compiled") and not given and set(options.values()) <= {None}:
        return _once(name)
    return InterpretableModel(name, *given, **options)
