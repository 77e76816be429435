"""The exceptions: what has to be known of an architecture by name, because watching one pass does not show it.

Everything else about a model is found by watching it run. An exception is an entry here with its reason, a line in
`tests/anatomy/test_architecture_exceptions.py` that fails without it, and one in docs/SUPPORT.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlx.nn as nn


@dataclass(frozen=True)
class Exceptional:
    """What is different in one architecture: each difference is the reason for it, '' or missing where there is none.

    Attributes:
        needs_cache: why a pass is right with a cache only.
        engines: by engine ("fanout", "flat", "prefix"), why it cannot run this architecture; where an engine is
            refused on any other architecture, its law fails.
    """

    needs_cache: str = ""
    engines: Mapping[str, str] = field(default_factory=dict)


EXCEPTIONS: dict[str, Exceptional] = {
    "gemma3n": Exceptional(
        needs_cache="its later layers take the keys and values of earlier ones from the cache"
    ),
    "iquestloopcoder": Exceptional(
        engines={"fanout": "layers are never called, so no row can be born at one"},
    ),
    "afm7": Exceptional(
        engines={"prefix": "its later layers read the keys and values out of the last cache itself"},
    ),
}


def unwrapped_name(net: nn.Module) -> str:
    """The architecture's name: the Python module that defines the model's class."""
    return type(net).__module__.rsplit(".", 1)[-1]


def exceptional(net: nn.Module) -> Exceptional:
    """What is different in this model's architecture; nothing for most."""
    return EXCEPTIONS.get(unwrapped_name(net), Exceptional())
