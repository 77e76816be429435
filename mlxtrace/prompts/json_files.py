"""What a JSON or JSONL file says: one value, or a list of the values of its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import LoadError
from ..storage import read_text


def read_json(path: Path) -> Any:
    """What the file says: JSON, or a list of the JSON values of its lines; LoadError when it is neither."""
    text = read_text(path)
    try:
        return json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        return _lines(path, text, error)


def _lines(path: Path, text: str, error: Exception) -> list[Any]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028, which JSON may hold
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as wrong:
            if path.suffix.lower() == ".jsonl" or found:
                raise LoadError(
                    f"{path}, line {number} is not JSON: {getattr(wrong, 'msg', wrong)}"
                ) from wrong
            raise LoadError(f"{path} is not JSON: {error}") from wrong
    return found
