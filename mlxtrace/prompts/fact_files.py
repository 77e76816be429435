"""Facts in files: a subject, a prompt that contains it, and the attribute that should follow (ROME's form)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LoadError
from .hub import only_file
from .json_files import read_json

DEMO = Path(__file__).parents[1] / "demo" / "facts.json"
ATTRIBUTES = ("attribute", "object", "target_true")  # what data sets call it
IDS = ("id", "known_id", "case_id")
SUFFIXES = (".jsonl", ".json")
SHOWN = 3  # malformed entries that an error names


@dataclass(frozen=True)
class Fact:
    """One fact: the prompt contains the subject, and the attribute should follow it.

    Args:
        subject: what the fact is about, as it stands in the prompt.
        prompt: the text.
        attribute: what should follow.
        relation: the name of the relation, if the data set has one.
        id: a name, another for each fact.

    Example:
        >>> from mlxtrace import facts
        >>> fact = facts.Fact("Eiffel Tower", "The Eiffel Tower is in", "Paris", id="0")
        >>> fact.to_dict()["attribute"]
        'Paris'
    """

    subject: str
    prompt: str
    attribute: str
    relation: str | None = None
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields, by name."""
        return asdict(self)


def load(path_or_name: str | os.PathLike | None = None) -> list[Fact]:
    """The facts of a file, of a hub data set, or the bundled ones.

    A JSON file has a list of entries, or `{"relations": {name: {"templates": [...]}}, "facts": [...]}`; a JSONL file
    an entry per line. An entry has `subject`, `attribute` (or `object`, `target_true`), and `prompt` or `template`
    (with `{}` where the subject goes), or a `relation` whose first template is used.

    Args:
        path_or_name: a file; or a hub data set, `owner/name`, or `owner/name:file` when it has several JSON files;
            None or "demo" for the bundled facts.

    Returns:
        The facts, in the file's order.

    Raises:
        LoadError: when there is no such file or data set, or it is not JSON.
        InputError: for malformed entries, naming each and its field.

    Example:
        >>> from mlxtrace import facts
        >>> known = facts.load("demo")
        >>> known[0].subject in known[0].prompt
        True
    """
    if path_or_name is None or path_or_name == "demo":
        return parse(_read(DEMO), "the bundled facts")
    if not isinstance(path_or_name, str | os.PathLike):
        raise LoadError(f"facts come from a file or a data set, named by a text, not {path_or_name!r}")
    name = os.fspath(path_or_name)
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return parse(_read(path), str(path))
    if path.is_dir():
        raise LoadError(f"{path} is a folder: name a JSON or JSONL file of facts")
    is_file = path.suffix.lower() in SUFFIXES and ":" not in name
    if is_file or name.startswith((".", "/", "~")) or name.split(":")[0].count("/") != 1:
        raise LoadError(f"there is no file {name!r}; a hub data set has the form owner/name")
    return parse(_read(only_file(name, SUFFIXES)), f"the data set {name}")


# ---- reading


def _read(path: Path) -> Any:
    """What the file says, a single entry as a list of one; LoadError when it is no JSON."""
    whole = read_json(path)
    return [whole] if isinstance(whole, dict) and "facts" not in whole else whole


# ---- checking


def parse(data: Any, source: str) -> list[Fact]:
    """Facts from entries; one InputError for all malformed ones. source: what the entries are of, for errors."""
    relations: dict[str, Any] = {}
    if isinstance(data, dict):
        relations, data = data.get("relations") or {}, data.get("facts")
        if not isinstance(relations, dict):
            raise InputError(f"{source}: relations are an object, not {type(relations).__name__}")
    if not isinstance(data, list):
        raise InputError(f"{source}: a list of facts was expected, not {type(data).__name__}")
    if not data:
        raise InputError(f"{source}: there are no facts")
    width = max(4, len(str(len(data))))
    facts, wrong = [], []
    for index, entry in enumerate(data):
        try:
            facts.append(_fact(entry, relations, f"{index:0{width}}"))
        except InputError as error:
            wrong.append(f"entry {index}: {error}")
    if wrong:
        rest = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(f"{source}, malformed: {'; '.join(wrong[:SHOWN])}{rest}")
    once([fact.id for fact in facts], source)
    return facts


def _fact(entry: Any, relations: dict[str, Any], number: str) -> Fact:
    if not isinstance(entry, dict):
        raise InputError(f"is {type(entry).__name__}, not an object with fields")
    entry = {**entry, **_rewrite(entry)}
    subject = _text(entry, ("subject",)).strip()
    attribute = _text(entry, ATTRIBUTES).strip()
    relation = entry.get("relation", entry.get("relation_id"))
    prompt = _prompt(entry, relations, relation)
    if "{}" in prompt:
        prompt = prompt.replace("{}", subject, 1)
    if subject not in prompt:
        raise InputError(f"field 'prompt': {prompt!r} does not contain the subject {subject!r}")
    given = next((entry[name] for name in IDS if entry.get(name) is not None), number)
    return Fact(subject, prompt, attribute, None if relation is None else str(relation), str(given))


def _rewrite(entry: dict) -> dict[str, Any]:
    """CounterFact keeps its fields one level down, and its answer two."""
    inner = entry.get("requested_rewrite")
    if not isinstance(inner, dict):
        return {}
    answer = inner.get("target_true")
    return {**inner, "attribute": answer.get("str") if isinstance(answer, dict) else answer}


def _text(entry: dict, names: Sequence[str]) -> str:
    name = next((n for n in names if entry.get(n) is not None), None)
    if name is None:
        raise InputError(f"field {' or '.join(map(repr, names))} is missing")
    value = entry[name]
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"field {name!r} is {value!r}, not a text")
    return value


def _prompt(entry: dict, relations: dict[str, Any], relation: Any) -> str:
    if entry.get("prompt") is not None:
        return _text(entry, ("prompt",))
    if entry.get("template") is not None:
        template, field = _text(entry, ("template",)), "template"
    elif isinstance(relation, str) and relation in relations:
        templates = relations[relation].get("templates") if isinstance(relations[relation], dict) else None
        if not isinstance(templates, list) or not templates or not isinstance(templates[0], str):
            raise InputError(f"field 'relation': {relation!r} has no list of templates")
        template, field = templates[0], f"relations.{relation}.templates"
    else:
        raise InputError("field 'prompt' or 'template' is missing")
    if "{}" not in template:
        raise InputError(f"field {field!r}: {template!r} has no {{}} for the subject")
    return template


def once(ids: Iterable[str], source: str) -> None:
    """InputError when two facts have the same id, which names their files."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"{source}: two entries have the id {name!r}")
        seen.add(name)
