"""IOI pairs against the templates of Wang et al. 2022 (appendix E), for several tokenizers."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair
from mlxtrace.prompts.tasks.indirect_objects import NAMES, TEMPLATES, abba
from mlxtrace.text.regions import regions_of

# as printed in the paper: [B] is the subject, [A] the indirect object
PUBLISHED = """
Then, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]
Then, [B] and [A] had a lot of fun at the [PLACE]. [B] gave a [OBJECT] to [A]
Then, [B] and [A] were working at the [PLACE]. [B] decided to give a [OBJECT] to [A]
Then, [B] and [A] were thinking about going to the [PLACE]. [B] wanted to give a [OBJECT] to [A]
Then, [B] and [A] had a long argument, and afterwards [B] said to [A]
After [B] and [A] went to the [PLACE], [B] gave a [OBJECT] to [A]
When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give it to [A]
When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give the [OBJECT] to [A]
While [B] and [A] were working at the [PLACE], [B] gave a [OBJECT] to [A]
While [B] and [A] were commuting to the [PLACE], [B] gave a [OBJECT] to [A]
After the lunch, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]
Afterwards, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]
Then, [B] and [A] had a long argument. Afterwards [B] said to [A]
The [PLACE] [B] and [A] went to had a [OBJECT]. [B] gave it to [A]
Friends [B] and [A] found a [OBJECT] at the [PLACE]. [B] gave it to [A]
""".strip().split("\n")
PLACES = "store|garden|restaurant|school|hospital|office|house|station"
OBJECTS = "ring|kiss|bone|basketball|computer|necklace|drink|snack"
EXAMPLES = {  # written out by hand, for John and Mary
    ("BABA", 0): "Then, John and Mary went to the store. John gave a ring to",
    ("ABBA", 6): "When Mary and John got a ring at the store, John decided to give it to",
    ("ABBA", 13): "The store Mary and John went to had a ring. John gave it to",
}


def pattern(template: str, kind: str) -> re.Pattern:
    """A published template as a pattern with groups B, A, and B2 for the second mention of the subject."""
    text = template.removesuffix(" [A]")
    if kind == "ABBA":
        text = text.replace("[B] and [A]", "[A] and [B]")
    text = re.escape(text).replace(r"\[PLACE\]", f"(?:{PLACES})")
    text = text.replace(r"\[OBJECT\]", f"(?P<O>{OBJECTS})", 1).replace(r"\[OBJECT\]", "(?P=O)")
    text = text.replace(r"\[A\]", r"(?P<A>\w+)").replace(r"\[B\]", r"(?P<B>\w+)", 1)
    return re.compile(text.replace(r"\[B\]", r"(?P<B2>\w+)"))


PATTERNS = {(kind, i): pattern(t, kind) for kind in ("BABA", "ABBA") for i, t in enumerate(PUBLISHED)}


def kind_of(pair: Pair) -> tuple[tuple[str, int], dict[str, str]]:
    """Which template a pair is of, by its text alone, and the names in it."""
    fits = {key: match for key, p in PATTERNS.items() if (match := p.fullmatch(pair.clean))}
    (key,) = [key for key, match in fits.items() if match["B"] == match["B2"]]
    return key, {name: fits[key][name] for name in ("A", "B")}


def check(pair: Pair) -> tuple[str, int]:
    key, names = kind_of(pair)
    assert (pair.target, pair.foil) == (f" {names['A']}", f" {names['B']}") and names["A"] != names["B"]
    other = PATTERNS[key].fullmatch(pair.corrupted)  # the same template, ABC: three other names
    assert other is not None
    three = {other["A"], other["B"], other["B2"]}
    assert len(three) == 3 and not three & {names["A"], names["B"]} and three <= set(NAMES)
    blank = re.compile(rf"\b({'|'.join(NAMES)})\b")
    assert blank.sub("_", pair.clean) == blank.sub("_", pair.corrupted)  # the same place and object
    return key


def test_the_published_templates_and_no_others():
    assert list(TEMPLATES) == PUBLISHED
    for template in PUBLISHED:
        assert abba(template) == template.replace("[B] and [A]", "[A] and [B]") != template
    for key, text in EXAMPLES.items():
        match = PATTERNS[key].fullmatch(text)
        assert match and (match["A"], match["B"], match["B2"]) == ("Mary", "John", "John")


def test_pairs_are_of_the_paper():
    pairs = prompts.load("ioi", n=400, seed=3)
    counts = Counter(check(pair) for pair in pairs)
    assert len(counts) == 30 and min(counts.values()) > 2
    kinds = Counter(kind for kind, _ in counts.elements())
    assert kinds["BABA"] == kinds["ABBA"] == 200
    assert len({pair.clean for pair in pairs}) == 400 and [p.id for p in pairs[:2]] == ["0000", "0001"]
    assert prompts.load("ioi", n=400, seed=3) == pairs != prompts.load("ioi", n=400, seed=4)
    assert prompts.load("ioi", n=10, seed=3) == pairs[:10]


@pytest.mark.parametrize("style", ["bytes", "metaspace"])
def test_names_are_one_token_and_regions_stand_where_they_should(style):
    known = ["Mary", "John", "Sara", "Sarah", "Eric", "Erica", "Brandon"]  # some within others
    model = model_of([*known, "and", "went", "store", "Then"], style)
    pairs = prompts.ioi(model, n=60, names=[*NAMES, "John"])
    for pair in pairs:
        _, names = kind_of(pair)
        check(pair)
        clean, corrupted = model.prompt(pair.clean), model.prompt(pair.corrupted)
        assert set(names.values()) <= set(known)
        regions = regions_of(clean, pair.regions)
        assert list(regions) == ["IO", "S1", "S1+1", "S2", "END"] and all(
            len(at) == 1 for at in regions.values()
        )
        words = {name: clean.tokens[at[0]] for name, at in regions.items()}
        assert (words["IO"], words["S1"], words["S2"]) == tuple(f" {names[x]}" for x in "ABB")
        s1, s2, end = (regions[x][0] for x in ("S1", "S2", "END"))
        assert regions["S1+1"] == (s1 + 1,) and s1 < s2 < end == len(clean) - 1
        assert [i for i, t in enumerate(clean.tokens) if t == f" {names['B']}"] == [s1, s2]
        assert isinstance(pair.regions["S1+1"], int) == (
            clean.tokens[s1 + 1] not in (" and", " went")
        )  # a text else
        changed = [i for i, (a, b) in enumerate(zip(clean.ids, corrupted.ids, strict=True)) if a != b]
        assert changed == sorted([regions["IO"][0], s1, s2])
        assert model.token_to_str(model.answer_token(pair.target, clean)) == f" {names['A']}"
        assert model.token_to_str(model.answer_token(pair.foil, corrupted)) == f" {names['B']}"
    assert len({len(model.prompt(pair.clean)) for pair in pairs}) > 5
    assert set(prompts.suitable(model, pairs).dropped) <= {
        "the clean run does not answer with the target", "the corrupted run does not lose the target",
    }  # fmt: skip


def test_the_bundled_model_has_enough_names():
    pairs = prompts.load("ioi", model=mlxtrace.InterpretableModel("demo"), n=16)
    assert len([check(pair) for pair in pairs]) == 16


def test_regions_without_a_model():
    for pair in prompts.load("ioi", n=100):
        _, names = kind_of(pair)
        found = {}
        for name, where in pair.regions.items():
            word, k = (
                (where, 1) if isinstance(where, str) else where if isinstance(where, list) else (None, 0)
            )
            if word is not None:
                found[name] = [m.span() for m in re.finditer(re.escape(word), pair.clean)][k - 1]
        one, two = (m.span() for m in re.finditer(rf"\b{names['B']}\b", pair.clean))
        (io,) = (m.span() for m in re.finditer(rf"\b{names['A']}\b", pair.clean))
        assert (found["IO"], found["S1"], found["S2"]) == (io, one, two) and pair.regions["END"] == -1
        assert found["S1+1"][0] == one[1] + 1  # the word after S1


def test_too_few_names_are_said():
    model = model_of(["Mary", "Mark", "Sara"])
    with pytest.raises(
        InputError, match=rf"3 of {len(NAMES)} names are one token .*Mark, Sara, Mary.*needs 5: give"
    ):
        prompts.load("ioi", model=model)
    names = ["Mary", "John", "Sara", "Ann"]
    with pytest.raises(InputError, match="4 of 4 names"):
        prompts.ioi(names=names)
    assert {*kind_of(prompts.ioi(n=1, names=[*names, "Joe"])[0])[1].values()} <= {*names, "Joe"}
    for wrong in ("Mary", [1, 2, 3, 4, 5], ["Mary Ann"] * 5):
        with pytest.raises(InputError, match="a list of words"):
            prompts.ioi(names=wrong)
