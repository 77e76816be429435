"""What the results of the causal experiments share: they are dataclasses, and their fields are what is saved.

@dataclass(repr=False, eq=False)
class Trace(Record):
    raw: np.ndarray        # arrays are kept as arrays
    answer: Answer         # everything else goes into the file's header, as JSON
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..storage import plain
from .saved import Saved


@dataclass(repr=False, eq=False)
class Record(Saved):
    """Base of results that are dataclasses; what was read is checked against its own labels (`shapes`)."""

    ANSWERS: ClassVar[tuple[str, ...]] = ("answer", "base_answer", "source_answer")

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {k: v for k, v in self._fields().items() if isinstance(v, np.ndarray)}

    def _contents(self) -> dict[str, Any]:
        return plain({k: v for k, v in self._fields().items() if not isinstance(v, np.ndarray)})

    def _header(self) -> dict[str, Any]:
        return {"fields": self._contents()}

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        found = cls(**cls._restored(header["fields"]), **arrays)
        found.check()
        return found

    def check(self) -> None:
        """InputError when arrays that were read do not fit the labels that were read with them."""
        for name, shape in self.shapes().items():
            values = getattr(self, name)
            if values.shape != shape:
                raise InputError(f"by its labels {name} is {list(shape)}, but it holds {list(values.shape)}")
            if not np.isfinite(values[self.known(name)]).all():
                raise InputError(f"{name} has NaN or infinite values")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array, as the labels have it."""
        raise NotImplementedError

    def known(self, name: str) -> Any:
        """The index of what must have a value in an array."""
        return ...
