"""The averages of a folder of traces, read from its files."""

from __future__ import annotations

from ..errors import InputError
from .averages import AverageTrace, average_traces
from .fact_folder import FactFolder


def average_facts(folder: FactFolder) -> AverageTrace:
    """The averages of a folder in the kinds that it has traces of."""
    kinds = [kind for kind, name in folder.parts.items() if any(folder.files.glob(f"*.{name}.npz"))]
    return average_folder(folder, kinds)


def average_folder(folder: FactFolder, kinds: list[str | None], ids: list[str] | None = None) -> AverageTrace:
    """The averages over the facts, of these ids or all, that have a trace of every kind; InputError for none."""
    begun = folder.begun()
    traced, skipped = folder.everything() if ids is None else folder.some(ids, list(kinds))
    whole = {
        id: [of_kind[kind] for kind in kinds] for id, of_kind in traced.items() if set(kinds) <= set(of_kind)
    }
    if not whole:
        first = f", such as {skipped[0]['prompt']!r}: {skipped[0]['why']}" if skipped else ""
        n = len({*traced, *(record["id"] for record in skipped)})
        raise InputError(f"{folder.path}: the model gets none of {n} facts right{first}")
    return average_traces(
        list(whole.values()),
        list(whole),
        skipped=skipped,
        folder=str(folder.path),
        settings={**begun["settings"], "hash": begun["hash"]},
    )
