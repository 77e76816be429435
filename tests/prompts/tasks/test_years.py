"""Greater-than pairs against the sentence of Hanna et al. 2023."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from word_tokenizer import model_of

import mlxtrace
from mlxtrace import prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts.tasks.years import NOUNS
from mlxtrace.text.regions import regions_of

SENTENCE = re.compile(r"The (\w+) lasted from the year (\d\d)(\d\d) to the year (\d\d)")
SOME = {
    "abduction",
    "accord",
    "affair",
    "warfare",
    "work",
    "siege",
    "reign",
    "voyage",
    "trial",
    "dynasty",
    "coma",
}


def check(pair) -> tuple[str, int, int]:
    """The sentence is the paper's, and the corrupted one has 01; noun, century, year."""
    noun, century, year, again = SENTENCE.fullmatch(pair.clean).groups()
    assert again == century and 11 <= int(century) <= 17 and 2 <= int(year) <= 98 and noun in NOUNS
    assert pair.corrupted == f"The {noun} lasted from the year {century}01 to the year {century}"
    assert list(pair.regions) == ["NOUN", "XX1", "YY", "END"] and pair.regions["END"] == -1
    return noun, int(century), int(year)


def test_pairs_are_of_the_paper():
    assert len(NOUNS) == len(set(NOUNS)) == 120 and set(NOUNS) >= SOME
    pairs = prompts.load("greater_than", n=2000, seed=1)
    found = [check(pair) for pair in pairs]
    assert {c for _, c, _ in found} == set(range(11, 18)) and {y for _, _, y in found} == set(range(2, 99))
    assert len({n for n, _, _ in found}) == len(NOUNS) and max(Counter(y for _, _, y in found).values()) < 60
    assert all(pair.target is None and pair.foil is None for pair in pairs)
    assert prompts.load("greater_than", n=5, seed=1) == pairs[:5]
    assert any(century == year for _, century, year in found)  # 1717, whose YY is the second "17"
    for pair in pairs:
        match, starts = SENTENCE.fullmatch(pair.clean), {}
        for name in ("NOUN", "XX1", "YY"):
            word, k = (where, 1) if isinstance(where := pair.regions[name], str) else where
            starts[name] = [m.start() for m in re.finditer(word, pair.clean)][k - 1]
        assert starts == {"NOUN": match.start(1), "XX1": match.start(2), "YY": match.start(3)}
    written = SENTENCE.fullmatch(
        "The war lasted from the year 1732 to the year 17"
    )  # the paper's own example
    assert written and written.groups() == ("war", "17", "32", "17")


@pytest.mark.parametrize("style", ["bytes", "metaspace"])
def test_years_are_two_tokens_and_regions_stand_where_they_should(style):
    model = model_of(["year", "The", "to", "the", "work"], style)
    for pair in prompts.load("greater_than", model=model, n=200):
        noun, century, year = check(pair)
        clean, corrupted = model.prompt(pair.clean), model.prompt(pair.corrupted)
        regions = regions_of(clean, pair.regions)
        (xx,), (yy,), (end,) = regions["XX1"], regions["YY"], regions["END"]
        assert (clean.tokens[xx], clean.tokens[yy]) == (f" {century}", f"{year:02}") and yy == xx + 1
        assert end == len(clean) - 1 and clean.ids[end] == clean.ids[xx]
        assert "".join(clean.tokens[i] for i in regions["NOUN"]).strip() == noun and regions["NOUN"][-1] < xx
        assert [i for i, (a, b) in enumerate(zip(clean.ids, corrupted.ids, strict=True)) if a != b] == [yy]
        assert corrupted.tokens[yy] == "01"
        later, earlier = (int(model.token_to_str(token)) for token in (pair.target, pair.foil))
        assert 2 <= earlier <= year < later <= 99
        assert later == -(-(year + 100) // 2) or later == (year + 100) // 2
        assert model.encode(f"{pair.clean}{later}")[-1] == pair.target


def test_prompts_can_be_patched_with_these_answers():
    model = model_of(["year"])
    kept = prompts.suitable(model, prompts.load("greater_than", model=model, n=30))
    assert set(kept.dropped) <= {"the clean run does not answer with the target",
                                 "the corrupted run does not lose the target"}  # fmt: skip


def test_a_tokenizer_that_reads_years_otherwise():
    for model in (model_of(["year"], years=False), mlxtrace.InterpretableModel("demo")):
        with pytest.raises(
            InputError, match=r"0 pairs can be made, not 4; \d+ have a year that is not two tokens"
        ):
            prompts.load("greater_than", model=model, n=4)
    with pytest.raises(
        InputError, match=r"reads \[' ', '1', '7', '3', '2'\] and \[' ', '1', '4', '0', '1'\]"
    ):
        prompts.load("greater_than", model=model_of(["year"], years=False), n=1)
