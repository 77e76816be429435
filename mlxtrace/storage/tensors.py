"""Arrays of MLX in a safetensors file, with a table of what they are and a checksum of both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import LoadError
from .atomic import writing
from .checksums import of_arrays
from .places import check_format, named, readable

OF_CACHES = " (np.savez(path, x=cache.numpy(name)) writes .npz)"


def save_tensors(path: str | os.PathLike, arrays: dict[str, mx.array], table: str) -> Path:
    """Write arrays and a text that describes them, whole or not at all; the path."""
    check_format(path, ".safetensors", cure=OF_CACHES)
    with writing(path) as file:
        mx.save_safetensors(file, arrays, {"mlxtrace": table, "checksum": of_arrays(arrays, table)})
    return named(path)


def load_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, mx.array], str]:
    """The arrays and the text that `save_tensors` wrote; LoadError when the file is missing, another one, or damaged.

    kind: what the file is to hold, for errors.
    """
    path = readable(path)
    try:
        loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
        arrays, metadata = loaded
        mx.eval(list(arrays.values()))
        table = metadata["mlxtrace"]
        kept = metadata.get("checksum")  # files of earlier versions have none
        whole = kept is None or kept == of_arrays(arrays, table)
    except Exception as error:  # whatever damage makes mlx raise
        why = "it has no table of sites" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise LoadError(f"{path} is not a {kind} saved by mlxtrace: {why}") from error
    if not whole:
        raise LoadError(f"{path} is damaged: what it holds does not have the checksum that was saved with it")
    return arrays, table
