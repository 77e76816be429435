"""Greater-than: "The war lasted from the year 1732 to the year 17" -> a year after 32."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ...text.pair import Pair
from .drawing import Drawing, differences, found, place

# Hanna et al. 2023, appendix, and their code
_NOUNS = """
    abduction accord affair agreement appraisal assaults assessment attack attempts campaign captivity case challenge
    chaos clash collaboration coma competition confrontation consequence conspiracy construction consultation contact
    contract convention cooperation custody deal decline decrease demonstrations development disagreement disorder
    dispute domination dynasty effect effort employment endeavor engagement epidemic evaluation exchange existence
    expansion expedition experiments fall fame flights friendship growth hardship hostility illness impact imprisonment
    improvement incarceration increase insurgency invasion investigation journey kingdom marriage modernization
    negotiation notoriety obstruction operation order outbreak outcome overhaul patrols pilgrimage plague plan practice
    process program progress project pursuit quest raids reforms reign relationship retaliation riot rise rivalry
    romance rule sanctions shift siege slump stature stint strikes study test testing tests therapy tour tradition
    treaty trial trip unemployment voyage warfare work
"""
NOUNS = tuple(_NOUNS.split())
TEMPLATE = "The {noun} lasted from the year {century}{year:02} to the year {century}"
CENTURIES, YEARS = range(11, 18), range(2, 99)
CORRUPTED_YEAR = 1
SEEN = (1732, 1401)  # years that an error shows as the tokenizer reads them
SPLIT = "have a year that is not two tokens, XX and YY"


def greater_than(model: Any = None, n: int = 64, seed: int = 0) -> list[Pair]:
    """Greater-than (Hanna et al. 2023, arXiv:2305.00586): what began in 1732 did not end before.

    Published for GPT-2 small: attention heads (5.5, 6.1, 6.9, 7.10, 8.11 and 9.1 among them) look from END at YY, and
    MLPs 8 to 11 at END raise the years after YY, 9, 10 and 11 by what the heads and the MLPs before them wrote.

    "The <noun> lasted from the year XXYY to the year XX" with the paper's nouns, XX from 11 to 17 and YY from 02 to 98;
    the tokenizer must read a year as two tokens, XX and YY, as GPT-2's reads most. The corrupted prompt has 01 for YY,
    as published, where every later year is as good. The paper's measure is `greater_than_metric(model, pair)`. The
    answers are one year of each side, as token ids: the middle of those after YY against the middle of 02 to YY.
    Regions: NOUN, XX1, YY, END (XX again).

    Args:
        model: An `InterpretableModel`: years are XX and YY for its tokenizer. None: texts without answers, which are
            token ids, and some of whose years may be one token.
        n: How many pairs.
        seed: Which ones.

    Returns:
        n different pairs.

    Raises:
        InputError: The tokenizer reads too few years as XX and YY.

    Example:
        >>> from mlxtrace import prompts
        >>> pair = prompts.load("greater_than", n=1)[0]
        >>> pair.corrupted.split()[6][2:], pair.clean[-2:] == pair.regions["XX1"]
        ('01', True)
    """
    drawing = Drawing("greater_than", model, n, seed)
    cure = "take a model whose tokenizer reads years as XX and YY, as GPT-2's does"
    if model is not None:
        words = [[model.token_to_str(t) for t in drawing.behind("the year", f" {y}") or []] for y in SEEN]
        cure = f"{cure}; this one reads {' and '.join(map(str, words))}"
    return drawing.collect(_drawn(drawing), cure)


def _drawn(drawing: Drawing) -> Iterator[Pair | str]:
    rng = drawing.rng
    for _ in range(5 * drawing.n + 50):
        noun = NOUNS[rng.randint(len(NOUNS))]
        century, year = CENTURIES[rng.randint(len(CENTURIES))], YEARS[rng.randint(len(YEARS))]
        clean = TEMPLATE.format(noun=noun, century=century, year=year)
        corrupted = TEMPLATE.format(noun=noun, century=century, year=CORRUPTED_YEAR)
        start = clean.index(f"{century}{year:02}")
        regions = {
            "NOUN": place(clean, noun, len("The ")),
            "XX1": place(clean, str(century), start),
            "YY": place(clean, f"{year:02}", start + 2),
            "END": -1,
        }
        if None in regions.values():  # 1222: the text "22" is found before YY
            continue
        pair = Pair(clean, corrupted, regions=regions)
        yield pair if drawing.model is None else _answered(drawing, pair, year)


def _answered(drawing: Drawing, pair: Pair, year: int) -> Pair | str:
    """The pair with its answers as tokens, once the tokenizer reads its years as the task needs; else why not."""
    clean, corrupted = drawing.read(pair.clean), drawing.read(pair.corrupted)
    first, second = (list(found(clean, pair.regions[name])) for name in ("XX1", "YY"))
    split = len(first) == len(second) == 1 and second[0] == first[0] + 1
    if not split or differences(clean, corrupted) != second or clean.ids[-1] != clean.ids[first[0]]:
        return SPLIT
    sides = (year + 1 + 99) // 2, (2 + year) // 2
    tokens = [drawing.behind(pair.clean, f"{number:02}") or [] for number in sides]
    if [len(token) for token in tokens] != [1, 1]:
        return SPLIT
    return dataclasses.replace(pair, target=tokens[0][0], foil=tokens[1][0])
