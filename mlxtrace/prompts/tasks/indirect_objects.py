"""Indirect object identification: "When Mary and John went to the store, John gave a drink to" -> " Mary"."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ...text.pair import Pair
from .drawing import Drawing, differences, found, place

# Wang et al. 2022, appendix E: "BABA"; with the first [B] and the first [A] exchanged they are "ABBA"
TEMPLATES = (
    "Then, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] had a lot of fun at the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] were working at the [PLACE]. [B] decided to give a [OBJECT] to [A]",
    "Then, [B] and [A] were thinking about going to the [PLACE]. [B] wanted to give a [OBJECT] to [A]",
    "Then, [B] and [A] had a long argument, and afterwards [B] said to [A]",
    "After [B] and [A] went to the [PLACE], [B] gave a [OBJECT] to [A]",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give it to [A]",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give the [OBJECT] to [A]",
    "While [B] and [A] were working at the [PLACE], [B] gave a [OBJECT] to [A]",
    "While [B] and [A] were commuting to the [PLACE], [B] gave a [OBJECT] to [A]",
    "After the lunch, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Afterwards, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] had a long argument. Afterwards [B] said to [A]",
    "The [PLACE] [B] and [A] went to had a [OBJECT]. [B] gave it to [A]",
    "Friends [B] and [A] found a [OBJECT] at the [PLACE]. [B] gave it to [A]",
)
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")
OBJECTS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")
_NAMES = """
    Michael Christopher Jessica Matthew Ashley Jennifer Joshua Amanda Daniel David James Robert John Joseph Andrew
    Ryan Brandon Jason Justin Sarah William Jonathan Stephanie Brian Nicole Nicholas Anthony Heather Eric Elizabeth
    Adam Megan Melissa Kevin Steven Thomas Timothy Christina Kyle Rachel Laura Lauren Amber Brittany Danielle Richard
    Kimberly Jeffrey Amy Crystal Michelle Tiffany Jeremy Benjamin Mark Emily Aaron Charles Rebecca Jacob Stephen
    Patrick Sean Erin Jamie Kelly Samantha Nathan Sara Dustin Paul Angela Tyler Scott Katherine Andrea Gregory Erica
    Mary Travis Lisa Kenneth Bryan Lindsey Kristen Jose Alexander Jesse Katie Lindsay Shannon Vanessa Courtney
    Christine Alicia Cody Allison Bradley Samuel
"""
NAMES = tuple(_NAMES.split())
FEWEST = 5  # names of a pair: the indirect object, the subject, and three others


def ioi(model: Any = None, n: int = 64, seed: int = 0, names: Sequence[str] = NAMES) -> list[Pair]:
    """Indirect object identification (Wang et al. 2022, arXiv:2211.00593): the name of who is given something.

    Published for GPT-2 small: 26 heads in seven classes. Duplicate token heads (0.1, 3.0, 0.10) and induction heads
    (5.5, 6.9, 5.8, 5.9, which need previous token heads, 2.2 and 4.11) tell S2 that S was there before; S-inhibition
    heads (7.3, 7.9, 8.6, 8.10) carry that from S2 to END; name mover heads (9.9, 10.0, 9.6) copy IO from there,
    negative name movers (10.7, 11.10) write against it, and backup name movers take over when name movers are gone.

    The 15 templates, the places, objects and names are the paper's, half of the pairs BABA and half ABBA. The corrupted
    prompt is its ABC distribution: the same template with three other names in the place of S1, IO and S2. Answers:
    the indirect object against the subject. Regions: IO, S1, S1+1 (the token after S1), S2, END.

    Args:
        model: An `InterpretableModel`: names are one token each for its tokenizer. None: as for GPT-2.
        n: How many pairs.
        seed: Which ones.
        names: What the people may be called.

    Returns:
        n different pairs, of several lengths.

    Raises:
        InputError: Fewer than five names are one token each, or no n pairs can be made of them.

    Example:
        >>> from mlxtrace import prompts
        >>> pair = prompts.load("ioi", n=1)[0]
        >>> (pair.regions["IO"], pair.target) == (pair.target.strip(), f" {pair.regions['IO']}")
        True
    """
    drawing = Drawing("ioi", model, n, seed)
    if isinstance(names, str) or not all(isinstance(name, str) and name.isalpha() for name in names):
        raise drawing.refusal(f"names are a list of words, not {names!r}")
    usable = drawing.one_token(list(dict.fromkeys(names)), "and")
    cure = "give others, prompts.ioi(model, names=[...])"
    if len(usable) < FEWEST:
        raise drawing.refusal(
            f"{len(usable)} of {len(names)} names are one token for this tokenizer ({', '.join(usable)}), but a pair "
            f"needs {FEWEST}: {cure}"
        )
    return drawing.collect(_drawn(drawing, usable), cure)


def abba(template: str) -> str:
    """The template with its first two names exchanged."""
    return template.replace("[B]", "[A]", 1).replace("and [A]", "and [B]", 1)


def _drawn(drawing: Drawing, names: list[str]) -> Iterator[Pair | str]:
    rng = drawing.rng
    for i in range(20 * drawing.n + 200):
        template = TEMPLATES[rng.randint(len(TEMPLATES))]
        io, s, *others = [names[k] for k in rng.permutation(len(names))[:FEWEST]]
        nouns = {"PLACE": PLACES[rng.randint(len(PLACES))], "OBJECT": OBJECTS[rng.randint(len(OBJECTS))]}
        three = (s, io, s) if i % 2 == 0 else (io, s, s)
        template = template if i % 2 == 0 else abba(template)
        clean, at = _fill(template, three, nouns)
        corrupted, _ = _fill(template, others, nouns)
        s1, first = at[three.index(s)], at[three.index(io)]
        after = re.compile(r"\w+").search(clean, s1 + len(s))
        assert after is not None  # a template goes on behind its names
        regions: dict[str, Any] = {
            "IO": place(clean, io, first),
            "S1": place(clean, s, s1),
            "S1+1": place(clean, after[0], after.start()),
            "S2": place(clean, s, at[2]),
            "END": -1,
        }
        pair = Pair(clean, corrupted, target=f" {io}", foil=f" {s}", regions=regions)
        yield pair if drawing.model is None else _checked(drawing, pair)


def _fill(template: str, names: Sequence[str], nouns: dict[str, str]) -> tuple[str, list[int]]:
    """The sentence without its last name, and the characters at which the three others start."""
    text, starts = "", []
    for part in re.split(r"(\[[A-Z]+\])", template.removesuffix(" [A]")):
        if part in ("[A]", "[B]"):
            starts.append(len(text))
            part = names[len(starts) - 1]
        text += nouns.get(part.strip("[]"), part) if part.startswith("[") else part
    return text, starts


def _checked(drawing: Drawing, pair: Pair) -> Pair | str:
    """The pair, once its tokens are what the template says, with S1+1 as one token; else why not."""
    clean, corrupted = drawing.read(pair.clean), drawing.read(pair.corrupted)
    at = {name: found(clean, pair.regions[name]) for name in ("IO", "S1", "S2")}
    slots = sorted(position for positions in at.values() for position in positions)
    answers = [drawing.behind(pair.clean, answer) for answer in (pair.target, pair.foil)]
    if differences(clean, corrupted) != slots or [len(tokens or []) for tokens in answers] != [1, 1]:
        return "have a name that is several tokens in its sentence"
    after = at["S1"].stop
    if found(clean, pair.regions["S1+1"]) == range(after, after + 1):
        return pair
    return dataclasses.replace(
        pair, regions={**pair.regions, "S1+1": after}
    )  # of a word of several tokens its first
