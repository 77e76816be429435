"""Errors and notes as the command line spells them: they say what to write in Python, `align="ends"`.

    as_typed('patch what they share with align="ends"')     # 'patch what they share with --align ends'

What a user typed is left as it is: a prompt may well be Python.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# Arguments of Python that are options of their own name; some have another.
OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *(
            "adapter_path",
            "align",
            "answers",
            "component",
            "direction",
            "dtype",
            "engine",
            "first_token",
            "foil",
        ),
        *(
            "heads",
            "kind",
            "layers",
            "limit",
            "max_memory",
            "metric",
            "noise",
            "out",
            "positions",
            "samples",
            "seed",
            "shard",
        ),
        *("subject", "target", "until", "verify", "audit", "window", "within"),
    )
} | {"corrupted_text": "--corrupted", "clean_text": "--clean", "subjects": "--facts", "level": "--noise"}
METHODS = {"exact": "--edges", "eap": "--edges", "eap-ig": "--edges"}  # others are those of --attribution
WHOLE = {  # sentences that have no such options
    "GaussianNoise(subject=...) or subject=...": "--subject",
    "GaussianNoise(subject=...) is empty": "--subject is empty",
    "or noise, GaussianNoise(subject=...)": "or --noise s3 and its --subject",
    "; prompts.suitable(model, pairs) says which can be used": "",
    "subjects: subjects=[...]": "subjects, as --facts does",
    ": to mean another one give its positions, such as subject=range(4, 6)": "; --positions takes numbers",
    "give others: candidates=[...]": "give the corrupted prompt itself, with --corrupted",
    "model.screen(...)": "--screen",
    "positions=None, which": "--positions all, which",
    "positions=spans:": "--positions spans:",
    "or a token id": "or a token id such as id:1234",
    "or give a token id": "or give a token id such as id:1234",
}
VALUE = r"\"[^\"]*\"|'[^']*'|\[[^\]]*\]|\.\.\.|-?\d+(?:\.\d+)?|[A-Za-z]\w*|"
ARGUMENT = re.compile(rf"(?<![\w.'\"])(?<!\w\()({'|'.join([*OPTIONS, 'method'])})=(?!=)({VALUE})")


def as_typed(said: str, typed: Collection[str] = ()) -> str:
    """A sentence with the options of the command in the place of arguments of Python.

    Args:
        said: the sentence.
        typed: the words of the command line; where one that could be mistaken stands in the sentence, it stays.

    Returns:
        The sentence.

    Example:
        >>> from mlxtrace.option_spelling import as_typed
        >>> as_typed("pass target= and foil=, or use metric='kl'")
        'pass --target and --foil, or use --metric kl'
    """
    kept = sorted((word for word in typed if "=" in word), key=len, reverse=True)
    parts = re.split(f"({'|'.join(map(re.escape, kept))})", said) if kept else [said]
    return "".join(part if i % 2 else _spelled(part) for i, part in enumerate(parts))


SPANS = re.compile(r"\bspans\((\d+)(?:, refine=(\d*\.?\d+|None))?\)")


def _spelled(said: str) -> str:
    said = SPANS.sub(lambda found: ":".join(["spans", *filter(None, found.groups())]).lower(), said)
    for python, words in WHOLE.items():
        said = said.replace(python, words)
    said = re.sub(
        r"(a subject that makes the corrupted prompt \d+ tokens long)", r"\1, as --corrupted auto does", said
    )
    return re.sub(r"(?<![\w-])max_memory\b(?!=)", "--max-memory", ARGUMENT.sub(_option, said))


def _option(found: re.Match) -> str:
    name, value = found[1], found[2]
    plain = value.strip("\"'") if not value.startswith("[") else _listed(value)
    if name == "method":
        return f"{METHODS.get(plain, '--attribution')} {plain}"
    shown = f'"{plain}"' if " " in plain and not value.startswith("[") else plain
    return f"{OPTIONS[name]} {shown}".rstrip()


def _listed(value: str) -> str:
    """`"[0, 'a']"` -> `"0,a"`."""
    return ",".join(one.strip().strip("\"'") for one in value[1:-1].split(","))
