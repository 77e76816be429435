"""Several prompts or one: what was given, read with one error that names all that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InputError, MlxtraceError

SHOWN = 3  # pairs that an error or a note names


def is_many(given: Any) -> bool:
    """Whether several prompts or pairs were given: a list of them, not a text, token ids, or a single pair."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes | range):
        if len(given) == 1 and isinstance(given[0], Sequence) and not isinstance(given[0], str):
            return False  # [[5, 6, 7]] is one prompt
        return not given or not all(_is_number(x) for x in given)
    return getattr(given, "ndim", 1) == 2 and given.shape[0] > 1


def _is_number(x: Any) -> bool:
    return isinstance(x, int) or getattr(x, "ndim", None) == 0


def each(ids: Sequence[str], alone: bool, read: Callable[[int], Any]) -> list[Any]:
    """`read(i)` for every pair; one error that names all for which it raises, as it is for a pair alone."""
    found, wrong = [], []
    for i in range(len(ids)):
        try:
            found.append(read(i))
        except MlxtraceError as error:
            if alone:
                raise
            wrong.append((ids[i], error))
    if not wrong:
        return found
    kinds = {type(error) for _, error in wrong}
    kind = kinds.pop() if len(kinds) == 1 else InputError
    said = "; ".join(f"pair {id}: {str(error).splitlines()[0]}" for id, error in wrong[:SHOWN])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    raise kind(
        f"{len(wrong)} of {len(ids)} pairs cannot be used: {said}{more}. Mend them or leave them out; "
        "prompts.suitable(model, pairs) says which can be used"
    )
