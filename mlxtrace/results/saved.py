"""What every result can do: be saved and loaded, and be written as JSON and as CSV.

@dataclass(repr=False, eq=False)
class Trace(Record):       # the results of the causal experiments are dataclasses: their fields are what is saved
    raw: np.ndarray        # arrays are kept as arrays
    answer: Answer         # everything else goes into the file's header, as JSON
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, LoadError, MlxtraceError, UnsupportedError
from ..notebook import Displayed
from ..storage import kind_of, load_arrays, plain, save_arrays, writable, write_csv, write_json
from .explored import Explored
from .labelled import Answer as Answer


class Saved(Explored, Displayed):
    """Base of results: a header of plain values, arrays of floating-point numbers, and rows for tables.

    A subclass says what these are (`_header`, `_arrays`, `to_rows`), and makes itself of a header and arrays that were
    read (`_made_of`).
    """

    RANGES: ClassVar[tuple[str, ...]] = ("subject_range",)  # the header's values that are ranges, or None
    ANSWERS: ClassVar[tuple[str, ...]] = ()  # and those that are answers

    def _header(self) -> dict[str, Any]:
        """Everything but the arrays, of what `plain` can make values for JSON."""
        raise NotImplementedError

    def _arrays(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    @classmethod
    def _made_of(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        """A result from what was read; whatever it raises means that the file is damaged."""
        raise NotImplementedError

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell, plain Python values."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike) -> Path:
        """Write everything to one file, whole or not at all.

        Args:
            path: where it goes; `.npz` is added to a path without a suffix.

        Returns:
            The path of the file.

        Raises:
            InputError: when nothing can be written there, or the path ends as another format does (`.json`).

        Example:
            >>> import tempfile
            >>> from mlxtrace import CausalTrace, InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> trace = model.causal_trace("The Eiffel Tower is in", "Eiffel Tower", samples=2, progress=False)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     again = CausalTrace.load(trace.save(f"{folder}/eiffel"))
            >>> bool((again.raw == trace.raw).all())
            True
        """
        return save_arrays(path, type(self).__name__, plain(self._header()), self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Any:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            The result, as it was, but for its plan, which is a dict. The class of the result of one pair reads that
            of a set of pairs as well.

        Raises:
            LoadError: when there is no file, or it holds something else or is damaged.

        Example:
            >>> import tempfile
            >>> from mlxtrace import InterpretableModel, PatchingResult
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> result = model.activation_patching(*prompts, progress=False)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     again = PatchingResult.load(result.save(f"{folder}/eiffel.npz"))
            >>> dict(again) == dict(result)
            True
        """
        found = {kind.__name__: kind for kind in _kinds(cls)}.get(kind_of(path), cls)
        if found is not cls:  # the result of a set, by the class of the result of one pair
            return found.load(path)
        header, arrays = load_arrays(path, cls.__name__)
        try:
            for name, x in arrays.items():
                if x.dtype.kind != "f":
                    raise InputError(f"{name} holds {x.dtype}, not floating-point numbers")
            return cls._made_of(header, arrays)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, MlxtraceError) as error:
            raise LoadError(f"{path} is not a complete {cls.__name__}: {error}") from error

    @classmethod
    def _restored(cls, header: dict[str, Any]) -> dict[str, Any]:
        """The header with its ranges and answers made again."""
        for name in cls.RANGES:
            if header.get(name) is not None:
                header[name] = range(*header[name])
        for name in cls.ANSWERS:
            if header.get(name) is not None:
                header[name] = Answer(**header[name])
        return header

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) with everything needed to read them, as JSON.

        Args:
            path: where the file goes; its folder exists.

        Returns:
            The path.

        Raises:
            InputError: when nothing can be written there.

        Example:
            >>> import json, tempfile
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "Paris is in the country of", "Rome is in the country of"
            >>> effects = model.causal_effects(*prompts, progress=False)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     found = json.loads(effects.to_json(f"{folder}/effects.json").read_text())
            >>> len(found["rows"]) == model.n_layers
            True
        """
        path = writable(path)
        return write_json(path, {**plain(self._contents()), "rows": self.to_rows()})

    def _contents(self) -> dict[str, Any]:
        """The header, as JSON files have it."""
        return self._header()

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the cells (`to_rows`) as CSV under a line of column names.

        Args:
            path: where the file goes; its folder exists.

        Returns:
            The path.

        Raises:
            InputError: when nothing can be written there.

        Example:
            >>> import tempfile
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> result = model.noising_window("The Eiffel Tower is in the city of")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     result.to_csv(f"{folder}/noising.csv").read_text().splitlines()[0]
            'component,layer,score'
        """
        path = writable(path)
        return write_csv(path, self.to_rows())


def _kinds(cls: type) -> list[type]:
    """The subclasses of a class, and theirs."""
    own = cls.__subclasses__()
    return [*own, *(kind for one in own for kind in _kinds(one))]


@dataclass(repr=False, eq=False)
class Record(Saved):
    """Base of results that are dataclasses; what was read is checked against its own labels (`shapes`)."""

    ANSWERS: ClassVar[tuple[str, ...]] = ("answer", "base_answer", "source_answer")

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {k: v for k, v in self._fields().items() if isinstance(v, np.ndarray)}

    def _contents(self) -> dict[str, Any]:
        return {k: v for k, v in self._fields().items() if not isinstance(v, np.ndarray)}

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

    def __sub__(self, other: Any) -> Any:
        """Records of an experiment are not subtracted as wholes: which of their numbers would be meant?"""
        arrays = ", ".join(f"a.{name} - b.{name}" for name in self._arrays())
        kinds = " and ".join(dict.fromkeys(f"{type(x).__name__}s" for x in (self, other)))
        pairs = (
            "; of sets of the same pairs, those of a.per_pair and b.per_pair"
            if hasattr(self, "per_pair")
            else ""
        )
        raise UnsupportedError(
            f"{kinds} are not subtracted as wholes: subtract their numbers, {arrays}{pairs}"
        )
