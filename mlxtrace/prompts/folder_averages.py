"""The averages of a folder of traces: read from its files, and written beside them as numbers, a table and figures."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, LoadError
from ..storage import write_atomic
from .averages import AverageTrace, CausalTrace, average_traces
from .run_folder import Folder, fact_and_kind, is_complete

Traces = dict[str, dict[str | None, CausalTrace]]  # by fact and kind


def average_folder(folder: Folder, kinds: list[str | None], ids: list[str] | None = None) -> AverageTrace:
    """The averages over the facts, of these ids or all, that have a trace of every kind; InputError for none."""
    begun = folder.begun()
    traced, skipped = _all(folder, begun["hash"]) if ids is None else _some(folder, kinds, ids)
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


def _some(folder: Folder, kinds: list[str | None], ids: list[str]) -> tuple[Traces, list[dict[str, Any]]]:
    """The traces of some facts, and those of them that were skipped."""
    traced: Traces = {}
    skipped = []
    for id in ids:
        record = folder.skipped(id)
        if record is not None:
            skipped.append(record)
            continue
        found = {kind: folder.trace(id, kind) for kind in kinds}
        traced[id] = {kind: trace for kind, trace in found.items() if trace is not None}
    return traced, skipped


def _all(folder: Folder, made_with: str) -> tuple[Traces, list[dict[str, Any]]]:
    """Every fact's traces by kind, and the facts that were skipped, from what the files themselves say."""
    traced: Traces = {}
    for path in sorted(folder.traces.glob("*.npz")):
        try:
            found = CausalTrace.load(path)
        except LoadError:
            continue
        id, kind = fact_and_kind(found)
        if not isinstance(id, str) or not is_complete(found):
            continue
        if found.settings.get("hash") != made_with:
            raise InputError(f"{path} was made with other settings: remove it")
        if kind in traced.setdefault(id, {}):
            raise InputError(
                f"{path} is a second trace of the fact {id!r}: a copy under another's name; remove it"
            )
        traced[id][kind] = found
    records = [folder.skipped_in(path, made_with) for path in sorted(folder.traces.glob("*.skipped.json"))]
    skipped = {record["id"]: record for record in records if record is not None}
    return {id: found for id, found in traced.items() if id not in skipped}, list(skipped.values())


def publish(folder: Folder, average: AverageTrace) -> None:
    """Write the averages into their folder, as numbers, as a table, and as figures."""
    average.save(folder.own(folder.path / "average.npz"))
    average.to_csv(folder.own(folder.path / "average.csv"))
    text = f"{average}\n".encode("utf-8", "backslashreplace")
    write_atomic(folder.own(folder.path / "average.txt"), text)
    average.plot(folder.own(folder.path / "average.png"))
    average.plot_lines(folder.own(folder.path / "average_lines.png"))
