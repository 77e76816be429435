"""Pairs as the entries of files: which fields there are, what other libraries call them, and what may stand in them.

pairs = parse([{"clean": "...", "corrupted": "...", "target": " Paris"}], "a.json")
entries = [entry(pair) for pair in pairs]     # as JSON holds them
rows = [row(pair) for pair in pairs]          # as CSV and parquet do: a column for each kind of value
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import InputError, closest
from ..text.pair import Pair
from .pair_fields import ALIASES, CHATS, CHECKS, FIELD, NUMBERS, REGION, region, seen

COLUMNS = ("id", "clean", "clean_ids", "clean_chat", "corrupted", "corrupted_ids", "corrupted_chat", "target",
           "target_id", "target_ids", "answers", "foil", "foil_id", "foil_ids", "subject", "subject_positions",
           "regions")  # fmt: skip
SHOWN = 20  # malformed entries that an error names
Entry = dict[str, Any]


# ---- reading


def parse(entries: Any, source: str, fields: Mapping[str, str | None] | None = None) -> list[Pair]:
    """The pairs of entries; one InputError that names every malformed one.

    source: what the entries are of, for errors. fields: what a field of theirs is called here; None leaves it out.
    """
    if not isinstance(entries, list):
        raise InputError(f"{source}: a list of pairs was expected, not {type(entries).__name__}")
    if not entries:
        raise InputError(f"{source}: there are no pairs")
    renames, width = _checked(fields), max(4, len(str(len(entries))))
    pairs, wrong, unknown = [], [], Counter()
    for index, given in enumerate(entries):
        found, problems = _read(given, renames, unknown)
        name = f"entry {index}" + (f" (id {found['id']!r})" if found.get("id") else "")
        wrong += [f"{name}: {'; '.join(problems)}"] if problems else []
        found["id"] = found.get("id") or f"{index:0{width}}"
        pairs.append(Pair(**found))
    wrong = wrong[:SHOWN] + ([f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])
    wrong += _repeated([pair.id for pair in pairs]) + _strangers(unknown)
    if wrong:
        raise InputError("\n  ".join([f"{source}, malformed:", *wrong]))
    return pairs


def _checked(fields: Any) -> dict[str, str | None]:
    if fields is None:
        return {}
    good = isinstance(fields, Mapping) and all(isinstance(name, str) for name in fields)
    if not good or not all(
        new is None or (isinstance(new, str) and _is_known(new)) for new in fields.values()
    ):
        raise InputError(
            f"fields={fields!r}: say what each of the file's names is called here, such as "
            f'{{"question": "clean", "case": None}}; the names are {", ".join(ALIASES)}'
        )
    return dict(fields)


def _is_known(name: str) -> bool:
    return name in FIELD or (name.startswith(REGION) and len(name) > len(REGION))


def _read(given: Any, renames: dict[str, str | None], unknown: Counter) -> tuple[Entry, list[str]]:
    """What an entry says by field, and what is wrong with it; fields that nobody knows are counted."""
    if not isinstance(given, Mapping):
        return {"clean": ""}, [f"is {type(given).__name__} {seen(given)}, not an object with fields"]
    called = {name: renames.get(name, name) for name, value in given.items() if value is not None}
    unknown.update(name for name, known in called.items() if known is not None and not _is_known(known))
    found: Entry = {}
    problems, regions, names = [], {}, {}
    for name, known in called.items():
        if known is None or not _is_known(known):
            continue
        field = "regions" if known.startswith(REGION) else FIELD[known]
        try:
            value = _value(field, known, given[name])
        except InputError as error:
            problems.append(f"field {name!r} {error}")
            continue
        finally:
            names.setdefault("target" if field == "answers" else field, []).append(name)
        if field == "answers" and not isinstance(value, tuple):
            field = "target"  # one answer alone
        if field == "regions":
            problems += [f"region {n!r} is named twice" for n in value if n in regions]
            regions.update(value)
        found[field] = regions if field == "regions" else value
    return {"clean": "", **found}, problems + _odd(names, set(called.values()))


def _value(field: str, known: str, given: Any) -> Any:
    """What a field's value means; InputError when it cannot stand there."""
    if known.startswith(REGION):
        return {known[len(REGION) :]: region(_loosely(given))}
    return CHECKS[field](_typed(known, given))


def _odd(names: dict[str, list[str]], called: set) -> list[str]:
    """What is wrong with an entry's fields together. names: those that say something, by what they say."""
    problems = [
        f"fields {' and '.join(map(repr, several))} both say what the {field} is"
        for field, several in names.items()
        if len(several) > 1 and field != "regions"
    ]
    if "clean" not in names:
        problems.append("field 'clean' is missing")
    if "correct_idx" in called and "foil" not in names:
        problems.append(
            "field 'correct_idx' without 'incorrect_idx' may be a token id, or a year: say which with "
            'fields={"correct_idx": "target_id"} or None'
        )
    return problems


def _typed(name: str, value: Any) -> Any:
    """The value of a field that holds JSON in a column of text, and one foil for a list of one."""
    if name in (*NUMBERS, *CHATS, "regions") and isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"is {seen(value)}, not JSON") from error
    if name in NUMBERS and not isinstance(value, int | list):
        raise InputError(f"is {seen(value)}, not numbers")
    if name in CHATS and not isinstance(value, list):
        raise InputError(f"is {seen(value)}, not messages")
    if name in ("answers", "wrong_answers") and isinstance(value, str):
        value = _listed(value)
    if name == "wrong_answers" and isinstance(value, list):
        if len(value) != 1:
            raise InputError(f"is {seen(value)}: a pair has one foil")
        return value[0]
    return value


def _listed(text: str) -> Any:
    """A list of answers where a column of text holds one as JSON, else the text as it stands."""
    try:
        read = json.loads(text) if text.startswith("[") else text
    except (ValueError, RecursionError):
        return text
    return read if isinstance(read, list) and read else text


def _loosely(value: Any) -> Any:
    """A cell of a region's column: positions or [text, k] if it reads as these, else a text as it stands."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
    return read if isinstance(read, int | list) and not isinstance(read, bool) else value


# ---- what is wrong with all of them together


def _repeated(ids: list[str]) -> list[str]:
    where: dict[str, list[int]] = {}
    for index, name in enumerate(ids):
        where.setdefault(name, []).append(index)
    twice = [(name, at) for name, at in where.items() if len(at) > 1]
    said = [
        f"entries {', '.join(map(str, at[:SHOWN]))} have the same id {name!r}" for name, at in twice[:SHOWN]
    ]
    return said + ([f"and {len(twice) - SHOWN} more ids that are not unique"] if len(twice) > SHOWN else [])


def _strangers(unknown: Counter) -> list[str]:
    """Fields that nobody reads: an error, for a misspelt one would be an experiment that did not happen."""
    said = [
        f"field {name!r} is not known ({n} {'entries' if n > 1 else 'entry'}); {closest(name, FIELD, 2)}"
        for name, n in list(unknown.items())[:SHOWN]
    ]
    if {"attribute", "requested_rewrite", "template", "facts"} & set(unknown):
        said.append("facts (a subject, a prompt, an attribute) are read by mlxtrace.facts.load")
    if any(";" in name or "\t" in name for name in unknown):
        said.append("the columns of a CSV file are separated by commas")
    first = next(iter(unknown), None)
    return [*said, f'rename it or leave it out with fields={{{first!r}: "clean"}} or None'] if said else []


# ---- writing


def entry(pair: Pair) -> Entry:
    """A pair as JSON holds it: what it has of the fields, positions and ids as lists; InputError for what none does."""
    found = {}
    for field in ALIASES:
        value = getattr(pair, field)
        if value is None or (field in ("regions", "id", "answers") and not value):
            continue
        try:
            found[field] = CHECKS[field](value)
            if field == "answers" and not isinstance(found[field], tuple):
                raise InputError("has a single entry: give it as the target")
        except InputError as error:
            raise InputError(f"{field} {error}") from error
    return found


def row(pair: Pair) -> Entry:
    """A pair as a row of columns, each with values of one kind: texts or ids, and regions as JSON."""
    found = {}
    for field, value in entry(pair).items():
        if field in ("regions", "answers"):
            found[field] = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, str):
            found[field] = value
        elif field == "subject":
            found["subject_positions"] = json.dumps(value)
        elif isinstance(value, list) and isinstance(value[0], dict):
            found[f"{field}_chat"] = json.dumps(value, ensure_ascii=False)
        else:
            found[f"{field}_id" if isinstance(value, int) else f"{field}_ids"] = value
    return found
