"""Gender: "The nurse said that" -> " she", and with "man" in the place of "nurse" -> " he"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...text.pair import Pair
from .drawing import Drawing, differences, found, place

# Vig et al. 2020, section 4 and their code
TEMPLATES = (
    "The {} said that", "The {} yelled that", "The {} whispered that", "The {} wanted that", "The {} desired that",
    "The {} wished that", "The {} ate because", "The {} ran because", "The {} drove because", "The {} slept because",
    "The {} cried because", "The {} laughed because", "The {} went home because", "The {} stayed up because",
    "The {} was fired because", "The {} was promoted because", "The {} yelled because",
)  # fmt: skip
# Professions of one word that people (Bolukbasi et al. 2016) find as stereotypical as +-0.5 or more, and not
# defined by gender (0.3 at most).
_FEMALE = """
    nurse teacher secretary dancer clerk librarian receptionist hairdresser housekeeper caretaker homemaker stylist
    nanny educator
"""
_MALE = """
    doctor captain boss soldier officer president judge farmer manager senator minister scientist coach lawyer
    commander director detective athlete scholar banker surgeon architect philosopher pastor ambassador physician
    mechanic economist magician warrior sergeant colonel lieutenant electrician carpenter plumber janitor
    firefighter mathematician physicist astronaut boxer drummer historian inventor inspector dentist chef diplomat
    entrepreneur politician programmer guitarist sculptor wrestler
"""
FEMALE, MALE = tuple(_FEMALE.split()), tuple(_MALE.split())
COMMON = 5  # as many of each list are one token in the usual vocabularies


def gender(model: Any = None, n: int = 64, seed: int = 0) -> list[Pair]:
    """Gendered pronouns behind professions (Vig et al. 2020, arXiv:2004.12265): the stereotype, and what mediates it.

    Published for GPT-2: swapping a profession for "man" or "woman" (set-gender) changes the odds of the pronouns most
    for stereotyped ones; the effect grows with the model. Few neurons, mostly in the first and middle layers, and few
    heads, in middle layers, mediate most of it.

    A clean prompt has a profession that people find stereotypically female or male, in one of the paper's 17
    templates; the corrupted one "man" or "woman", the other gender, in its place. Half of the pairs are female, half
    male, as long as there are some. Answers: the stereotypical pronoun against the other. Regions: PROFESSION, VERB
    (what stands between it and the last word), END ("that", "because").

    Args:
        model: An `InterpretableModel`: professions and pronouns are one token each for its tokenizer. None: ones that
            are in the usual vocabularies.
        n: How many pairs.
        seed: Which ones.

    Returns:
        n different pairs, of several lengths.

    Raises:
        InputError: The tokenizer has no such words as one token, or too few for n pairs.

    Example:
        >>> from mlxtrace import prompts
        >>> pair = prompts.load("gender", n=1)[0]
        >>> {pair.target, pair.foil} == {" she", " he"}
        True
    """
    drawing = Drawing("gender", model, n, seed)
    for words, before in ((("man", "woman"), "The"), (("he", "she"), "that")):
        missing = sorted(set(words) - set(drawing.one_token(words, before)))
        if missing:
            names = " and ".join(map(repr, missing))
            raise drawing.refusal(f"{names} must be one token behind a space, which this tokenizer has not")
    female, male = (
        list(words[:COMMON]) if model is None else drawing.one_token(words, "The") for words in (FEMALE, MALE)
    )
    what = "are common" if model is None else "are one token for this tokenizer"
    cure = f"{len(female) + len(male)} professions {what}, in {len(TEMPLATES)} templates"
    return drawing.collect(_drawn(drawing, female, male), cure)


def _drawn(drawing: Drawing, female: Sequence[str], male: Sequence[str]) -> Iterator[Pair | str]:
    """All pairs in turn, a female and a male one; what is left of either in the end."""
    mixed = []
    for words, man, answers in ((female, "man", (" she", " he")), (male, "woman", (" he", " she"))):
        all_of_them = [(word, template, man, answers) for word in words for template in TEMPLATES]
        mixed += [(k, *all_of_them[j]) for k, j in enumerate(drawing.rng.permutation(len(all_of_them)))]
    for _, word, template, other, (target, foil) in sorted(mixed, key=lambda drawn: drawn[0]):
        clean = template.format(word)
        verb, end = template.split(" {} ")[1].rsplit(" ", 1)
        regions = {
            "PROFESSION": place(clean, word, clean.index(word, 4)),
            "VERB": place(clean, verb, len(clean) - len(f"{verb} {end}")),
            "END": -1,
        }
        pair = Pair(clean, template.format(other), target, foil, word, regions)
        yield pair if drawing.model is None else _checked(drawing, pair)


def _checked(drawing: Drawing, pair: Pair) -> Pair | str:
    clean, corrupted = drawing.read(pair.clean), drawing.read(pair.corrupted)
    answers = [drawing.behind(pair.clean, answer) for answer in (pair.target, pair.foil)]
    one = [len(tokens or []) for tokens in answers] == [1, 1]
    if not one or differences(clean, corrupted) != list(found(clean, pair.regions["PROFESSION"])):
        return "have a profession that is several tokens in its sentence"
    return pair
