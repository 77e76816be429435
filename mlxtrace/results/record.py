"""What the results of the causal experiments share: files, tables, and maps drawn with characters.

@dataclass(repr=False, eq=False)
class Trace(Record):
    raw: np.ndarray        # arrays are kept as arrays
    answer: Answer         # everything else goes into the file's header, as JSON
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, LoadError, MlxtraceError
from ..storage import load_arrays, plain, save_arrays, write_csv, write_json
from .patching_result import Answer, real_arrays


class Record:
    """Base of results that are dataclasses: `save`, `load`, `to_json` and `to_csv` from their fields and `to_rows`."""

    RANGES: ClassVar[tuple[str, ...]] = ("subject_range",)
    ANSWERS: ClassVar[tuple[str, ...]] = ("answer", "base_answer", "source_answer")

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _header(self) -> dict[str, Any]:
        return plain({k: v for k, v in self._fields().items() if not isinstance(v, np.ndarray)})

    def save(self, path: str | os.PathLike) -> Path:
        """Write everything to one file (`.npz` if the path has no suffix), whole or not at all; its path."""
        arrays = {k: v for k, v in self._fields().items() if isinstance(v, np.ndarray)}
        return save_arrays(path, type(self).__name__, {"fields": self._header()}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Any:
        """Read what `save` wrote; a plan comes back as a dict. Raises LoadError for any other file."""
        header, arrays = load_arrays(path, cls.__name__)
        try:
            header = header["fields"]
            for name in cls.RANGES:
                if header.get(name) is not None:
                    header[name] = range(*header[name])
            for name in cls.ANSWERS:
                if header.get(name) is not None:
                    header[name] = Answer(**header[name])
            found = cls(**header, **real_arrays(arrays))
            found.check()
            return found
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, MlxtraceError) as error:
            raise LoadError(f"{path} is not a complete {cls.__name__}: {error}") from error

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

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) with everything needed to read them, as JSON."""
        return write_json(path, {**self._header(), "rows": self.to_rows()})

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) as CSV with a line of column names."""
        return write_csv(path, self.to_rows())


def text_map(names: list[str], values: np.ndarray, whole: float) -> list[str]:
    """A map `[rows, columns]` in characters: a shade for each fifth of `whole`, `-` where it is negative."""
    parts = values / whole if whole else np.zeros_like(values)
    steps = np.clip(np.ceil(5 * parts - 0.25), 0, 4).astype(int)
    width = max(map(len, names))
    lines = []
    for name, shades, row in zip(names, steps, parts, strict=True):
        cells = "".join("-" if v < -0.05 else "·░▒▓█"[s] for s, v in zip(shades, row, strict=True))
        lines.append(f"  {name:<{width}}  {cells}")
    return lines
