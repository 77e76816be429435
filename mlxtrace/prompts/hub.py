"""Files of hub data sets, in the local cache: the one that is named, or the only one of the right kind.

only_file("owner/name", (".jsonl", ".json"))       # one file
shards("owner/name:train", (".csv", ".parquet"))   # a table's files; the hub's own conversion where there is none
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import huggingface_hub as hub

from ..errors import LoadError

CONVERTED = "refs/convert/parquet"  # the branch that the hub keeps its conversions in
SHARD = re.compile(r"(?:-\d+-of-\d+|/\d{4,})\.parquet$")  # train-00000-of-00002.parquet, train/0000.parquet
ABOUT = ("dataset_infos.json", "dataset_info.json")  # about a data set, not of it


def only_file(name: str, suffixes: Sequence[str]) -> Path:
    """The JSON file of a data set `owner/name`, or the one named, `owner/name:file`.

    LoadError when the hub does not give it, when there is none, or several.
    """
    repository, _, file = name.partition(":")
    with _refusals(name):
        return _get(repository, file or _only(repository, _listed(repository), suffixes))


def shards(name: str, suffixes: Sequence[str]) -> list[Path]:
    """The files of a data set's only table, or of the one named, which is a file, or several parts of one.

    Looks among the data set's own files, and where none fits in the hub's conversion to parquet. LoadError when the
    hub does not give them, when there is none, or several to choose from.
    """
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    repository, _, wanted = name.partition(":")
    with _refusals(name):
        if wanted.lower().endswith(tuple(suffixes)):
            with suppress(EntryNotFoundError):  # of the conversion, perhaps
                return [_get(repository, wanted)]
        own = _tables(_listed(repository), suffixes)
        if _chosen(own, wanted):
            return [_get(repository, file) for file in _one(repository, own, wanted)]
        converted: dict[str, list[str]] = {}
        with suppress(RevisionNotFoundError):
            converted = _tables(_listed(repository, revision=CONVERTED), suffixes)
        if not own and not converted:
            kinds = ", ".join(suffixes)
            raise LoadError(f"the data set {repository} has no file of pairs ({kinds}), and no conversion")
        files = _one(repository, converted if _chosen(converted, wanted) else own | converted, wanted)
        return [_get(repository, file, revision=CONVERTED) for file in files]


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    try:
        yield
    except LoadError:
        raise
    except Exception as error:  # whatever the network and the hub may raise
        why = " ".join(str(error).split())[:200]
        raise LoadError(
            f"cannot load the data set {name!r}: no such file here, and the hub does not give it "
            f"({type(error).__name__}: {why})"
        ) from error


def _listed(repository: str, **where: Any) -> list[str]:
    return hub.HfApi().list_repo_files(repository, repo_type="dataset", **where)


def _get(repository: str, file: str, **where: Any) -> Path:
    return Path(hub.hf_hub_download(repository, file, repo_type="dataset", **where))


def _only(repository: str, listed: list[str], suffixes: Sequence[str]) -> str:
    found = [f for suffix in suffixes for f in listed if f.lower().endswith(suffix)]
    if not found:
        raise LoadError(f"the data set {repository} has no JSON or JSONL file: download and convert it")
    if len(found) > 1:
        several = ", ".join(found[:6])
        raise LoadError(
            f"the data set {repository} has several files: name one, {repository}:{found[0]} ({several})"
        )
    return found[0]


def _tables(listed: list[str], suffixes: Sequence[str]) -> dict[str, list[str]]:
    """The files of each table by its name: the parts of one that is cut in several stand together, in order."""
    tables: dict[str, list[str]] = {}
    for file in sorted(listed):
        if file.lower().endswith(tuple(suffixes)) and file.rpartition("/")[2] not in ABOUT:
            tables.setdefault(SHARD.sub("", file), []).append(file)
    return tables


def _chosen(tables: dict[str, list[str]], wanted: str) -> dict[str, list[str]]:
    """The tables that are meant: all of them for "", that file or table, those in that folder or that end so."""
    if not wanted:
        return tables
    if any(wanted in files for files in tables.values()):
        return {wanted: [wanted]}
    found = [t for t in tables if t == wanted]
    found = found or [t for t in tables if t.endswith(f"/{wanted}") or t.startswith(f"{wanted}/")]
    return {table: tables[table] for table in found}


def _one(repository: str, tables: dict[str, list[str]], wanted: str) -> list[str]:
    """The files of the one table that is meant; LoadError when none is, or several are."""
    found = _chosen(tables, wanted)
    if not found:
        raise LoadError(f"the data set {repository} has no {wanted!r}; it has {', '.join(list(tables)[:6])}")
    if len(found) > 1:
        names = list(found)
        raise LoadError(
            f"the data set {repository} has several files: name one, {repository}:{names[0]} ({', '.join(names[:6])})"
        )
    return next(iter(found.values()))
