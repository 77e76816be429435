"""Which pairs are kept, and that for each of the others the reason is said."""

from __future__ import annotations

import dataclasses
import functools
import importlib

import numpy as np
import pytest

import mlxtrace
from mlxtrace import metrics, prompts
from mlxtrace.errors import InputError
from mlxtrace.prompts import Pair, Suitable, last_logits
from mlxtrace.prompts.suitable import suitable

PARIS, ROME, LONG = (f"The {x} is in the city of" for x in ("Louvre Museum", "Colosseum", "Arc de Triomphe"))
TOWER, SEINE = "The Eiffel Tower is in the city of", "The Seine is in the city of"
GOOD = Pair(PARIS, ROME, " Paris", " Rome", id="good")


@pytest.fixture(scope="module")
def model():
    return mlxtrace.InterpretableModel("demo")


def test_a_good_pair_is_kept_as_it_is(model):
    for answers in ("preferred", "top"):
        for pair in (
            GOOD,
            Pair(PARIS, ROME),
            Pair(PARIS, ROME, target=" Paris"),
            Pair(PARIS, ROME, foil=" Rome"),
        ):
            kept = suitable(model, [pair], answers)
            assert list(kept) == kept.pairs == [pair] and kept[0] is pair and len(kept) == 1
            assert kept.dropped == kept.why == {}


REASONS = {
    "cannot be read: ": Pair(PARIS, ROME, subject="Rome"),
    "cannot be read: region": Pair(PARIS, ROME, regions={"A": "Rome"}),
    "there is no corrupted prompt": Pair(PARIS),
    "the prompts differ in length: 11 and ": Pair(PARIS, LONG),
    "both prompts are the same tokens": Pair(PARIS, PARIS),
    "the clean run does not answer with the target: the target is ' New York City', its top token ' Paris'": Pair(
        PARIS, ROME, " New York City", " Rome"
    ),
    "the corrupted run does not lose the target: the target is ' Paris', its top token": Pair(
        PARIS, TOWER, " Paris", " San Francisco"
    ),
    "one answer is the beginning of the other: ' New' and ' New York'": Pair(
        PARIS, ROME, " New", " New York"
    ),
    "both answers are the same tokens: ' New York'": Pair(PARIS, ROME, " New York", " New York"),
    "both answers are the same token: ' Paris'": Pair(PARIS, ROME, " Paris", " Paris"),
    "the pair was there before": GOOD,
    "the clean run does not answer with the target: the target is ' Rome', its top token ' Paris'": Pair(
        PARIS, ROME, " Rome", " Paris"
    ),
    "the clean run does not answer with the target: the target is ' London'": Pair(PARIS, ROME, " London"),
    "the corrupted run does not lose the target: the target is ' Paris', its top token ' Paris'": Pair(
        PARIS, TOWER, " Paris", " Rome"
    ),
    "the corrupted run does not lose the target: the target": Pair(TOWER, PARIS),
}


def test_every_reason_is_said(model):
    pairs = [GOOD, *(dataclasses.replace(pair, id=f"p{i}") for i, pair in enumerate(REASONS.values()))]
    assert len(model.prompt(PARIS)) == len(model.prompt(ROME)) == len(model.prompt(TOWER))
    kept = suitable(model, pairs)
    assert kept.pairs == [GOOD]
    said = {reason.split(":")[0] for reason in REASONS}
    for (start, _), (name, why) in zip(REASONS.items(), kept.why.items(), strict=True):
        assert why.replace(str(len(model.prompt(PARIS))), "11").startswith(start) and name.startswith("p"), (
            why
        )
    assert set(kept.dropped) == said and sum(kept.dropped.values()) == len(REASONS)
    table = str(kept)
    assert table.startswith(f" 1 of {len(pairs)} pairs are suitable") and all(
        reason in table for reason in said
    )
    assert str(Suitable([GOOD], {}, {})) == "1 of 1 pairs are suitable"


def test_top_asks_for_both_top_tokens(model):
    pairs = [Pair(PARIS, ROME, " Paris", " London", id="foil"), Pair(PARIS, TOWER, " Paris", id="kept"), GOOD]
    kept = suitable(model, pairs, "top")
    assert kept.pairs == [GOOD] and list(kept.dropped.values()) == [1, 1]
    assert kept.why["foil"].startswith("the corrupted run does not answer with the foil: ")
    assert kept.why["kept"].startswith("the corrupted run does not lose the target")
    assert (
        suitable(model, pairs[:1]).pairs == pairs[:1]
    )  # preferred: Paris to London, and less in the other run


def test_answers_are_read_behind_their_own_prompts(model):
    """By token id, and with prompts of ids, the same is kept."""
    tokens = [model.answer_token(x) for x in (" Paris", " Rome")]
    by_ids = Pair(model.encode(PARIS), model.encode(ROME), *tokens, id="ids")
    assert suitable(model, [by_ids]).pairs == [by_ids]
    assert suitable(model, [GOOD, by_ids]).dropped == {"the pair was there before": 1}
    assert (
        len(suitable(model, [GOOD, Pair(PARIS, ROME, " Paris", " London")])) == 2
    )  # other answers: another pair


LIBERTY, GATE = (
    "The Statue of Liberty is located in the city of",
    "The Golden Gate Bridge is located in the city of",
)


@functools.cache
def said(model, text, answer):
    """The probability of all of an answer and what is said greedily, token by token, each in a pass of its own."""
    ids, tokens, p, greedy = model.encode(text), model.encode(text + answer), 1.0, []
    for token in tokens[len(ids) :]:
        after = metrics.softmax(np.array(model.run_with_cache(ids, [])[0])[0, -1])
        p, greedy, ids = p * after[token], [*greedy, int(after.argmax())], [*ids, token]
    return p, tokens[len(ids) - len(greedy) :] == greedy


def test_answers_of_several_tokens_are_judged_whole(model):
    """Of many pairs what is kept is what a loop, token by token, says should be."""
    sights = ["Statue of Liberty", "Golden Gate Bridge", "Casa Rosada", "Getty Center", "Eiffel Tower"]
    texts = [f"The {sight} is located in the city of" for sight in sights]
    answers = [" New York", " San Francisco", " Buenos Aires", " Paris", " New"]
    cases = [
        (a, b, target, foil)
        for a, b in ((0, 1), (1, 0), (2, 3), (0, 2))
        for target in answers
        for foil in (None, *answers[:3], " Paris")
    ]
    pairs = [Pair(texts[a], texts[b], t, f, id=f"{i}") for i, (a, b, t, f) in enumerate(cases)]
    same_length = [len(model.prompt(p.clean)) == len(model.prompt(p.corrupted)) for p in pairs]
    expected = {"preferred": [], "top": []}
    for pair, same in zip(pairs, same_length, strict=True):
        foil = pair.foil or ""
        if not same or pair.target.startswith(foil or "-") or foil.startswith(pair.target):
            continue
        (p, says), (lost, still) = (
            said(model, pair.clean, pair.target),
            said(model, pair.corrupted, pair.target),
        )
        if pair.foil is None:
            good = says and lost < p and not still
            top = says and not still
        else:
            (q, _), (gained, says_foil) = said(model, pair.clean, foil), said(model, pair.corrupted, foil)
            good = p > q and lost / gained < p / q and not still
            top = says and says_foil
        expected["preferred"] += [pair.id] if good else []
        expected["top"] += [pair.id] if top else []
    for answers, ids in expected.items():
        assert [pair.id for pair in suitable(model, pairs, answers)] == ids and 3 < len(ids) < sum(
            same_length
        )


def test_any_of_the_acceptable_answers_will_do(model):
    both = Pair(LIBERTY, GATE, answers=(" New York", " Paris"), id="both")
    neither = Pair(LIBERTY, GATE, answers=(" Rome", " New Delhi"), id="neither")
    other = Pair(LIBERTY, GATE, answers=(" San Francisco", " New York"), id="other")
    again = Pair(LIBERTY, GATE, answers=(" New", " New York"), id="beginning")
    twice = Pair(LIBERTY, GATE, " New York", answers=(" New York",), id="twice")
    kept = suitable(model, [both, neither, other, again, twice])
    assert kept.pairs == [both]
    assert "' Rome' or ' New Delhi', and it says ' New Y'" in kept.why["neither"]
    assert kept.why["other"].startswith("the corrupted run does not lose the target")
    assert (
        "' New' is the beginning of ' New York'" in kept.why["beginning"] and "give one" in kept.why["twice"]
    )


RUNS = [  # target, foil; probabilities of three tokens clean and corrupted; preferred, top
    (0, 1, [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], "", ""),
    (0, 1, [0.3, 0.2, 0.5], [0.2, 0.3, 0.5], "", "clean"),  # preferred, though another token is on top
    (0, 1, [0.3, 0.3, 0.4], [0.2, 0.3, 0.5], "clean", "clean"),  # neither is preferred
    (0, 1, [0.2, 0.3, 0.5], [0.1, 0.4, 0.5], "clean", "clean"),
    (0, 1, [0.6, 0.3, 0.1], [0.5, 0.4, 0.1], "corrupted", "foil"),  # less preferred, but on top still
    (0, 1, [0.4, 0.3, 0.3], [0.2, 0.1, 0.7], "corrupted", "foil"),  # lost the top, and is preferred even more
    (0, 1, [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], "", "foil"),
    (0, 1, [0.6, 0.4, 0.0], [0.0, 0.0, 1.0], "", "foil"),
    (0, None, [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], "", ""),
    (0, None, [0.3, 0.2, 0.5], [0.1, 0.2, 0.7], "clean", "clean"),  # without a foil it is on top or nothing
    (0, None, [0.4, 0.3, 0.3], [0.4, 0.5, 0.1], "corrupted", ""),  # as likely as before
    (0, None, [0.6, 0.3, 0.1], [0.4, 0.3, 0.3], "corrupted", "corrupted"),
    (None, None, [0.3, 0.1, 0.6], [0.5, 0.1, 0.4], "", ""),
    (None, None, [0.3, 0.1, 0.6], [0.2, 0.3, 0.5], "corrupted", "corrupted"),
    (None, 0, [0.3, 0.1, 0.6], [0.5, 0.1, 0.4], "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("target", "foil", "clean", "corrupted", "preferred", "top"), RUNS)
def test_what_the_answers_should_be(model, monkeypatch, target, foil, clean, corrupted, preferred, top):
    """Prompt [1] says `clean`, and prompt [2] `corrupted`."""

    def fake(model, asked, of):
        rows = {1: clean, 2: corrupted}
        return [of(i, np.array(rows[prompt.ids[0]])) for i, prompt in enumerate(asked)]

    monkeypatch.setattr(importlib.import_module("mlxtrace.prompts.suitable"), "of_each", fake)
    words = {"clean": "the clean run does not answer with the target", "": "",
             "corrupted": "the corrupted run does not lose the target",
             "foil": "the corrupted run does not answer with the foil"}  # fmt: skip
    for answers, reason in (("preferred", preferred), ("top", top)):
        kept = suitable(model, [Pair([1], [2], target, foil)], answers)
        assert list(kept.dropped) == ([words[reason]] if reason else []), answers


def test_the_same_as_the_loop(model):
    """Pairs of several lengths at once are judged as each is alone, by its own runs."""
    rng = np.random.RandomState(0)
    subjects = [
        "Louvre Museum",
        "Colosseum",
        "Eiffel Tower",
        "Seine",
        "Big Ben",
        "Tower Bridge",
        "Kremlin Palace",
    ]
    texts = [f"The {s} is in the {w}" for s in subjects for w in ("city of", "country of")]
    drawn = {tuple(rng.choice(texts, 2, replace=False)) for _ in range(60)}
    pairs = [Pair(str(a), str(b), id=f"{a}|{b}") for a, b in sorted(drawn)]

    @functools.cache
    def says(text):
        return metrics.softmax(np.array(model.run_with_cache(text, [])[0])[0, -1])

    expected = []
    for pair in pairs:
        a, b = says(pair.clean), says(pair.corrupted)
        same = len(model.prompt(pair.clean)) == len(model.prompt(pair.corrupted))
        top = a.argmax()
        if same and b.argmax() != top and b[top] < a[top]:
            expected.append(pair)
    kept = suitable(model, pairs)
    assert kept.pairs == expected and 3 < len(expected) < len(pairs)
    assert len(kept) + sum(kept.dropped.values()) == len(pairs) == len(kept) + len(kept.why)


def test_what_is_no_set(model):
    for wrong, says in (
        ([], "there are no pairs"),
        ("ioi", "prompts.load gives one"),
        ([GOOD, "a"], "not 'a'"),
        (None, "a list of Pair"),
        ([GOOD, GOOD], "several are called 'good'"),
        ([Pair(PARIS), Pair(ROME, id="0000")], "several are called '0000'"),
    ):
        with pytest.raises(InputError, match=says):
            suitable(model, wrong)
    for wrong in ("demo", None):
        with pytest.raises(InputError, match="an InterpretableModel reads prompts, not"):
            suitable(wrong, [GOOD])
    for wrong in ("best", None, 1, ["top"]):
        with pytest.raises(InputError, match="it is one of preferred, top"):
            suitable(model, [GOOD], wrong)


def test_one_pair_and_generators(model):
    assert suitable(model, GOOD).pairs == [GOOD] == suitable(model, (pair for pair in [GOOD])).pairs
    assert suitable(model, suitable(model, [GOOD])).pairs == [GOOD]


def test_none_may_be_left(model):
    kept = suitable(model, [Pair(PARIS)])
    assert len(kept) == 0 and "0 of 1" in str(kept) and kept.why == {"0000": "there is no corrupted prompt"}


def test_64_pairs_are_run_in_a_few_passes(model, monkeypatch):
    pairs = prompts.load("facts", model=model)
    lengths, passes = {len(model.prompt(pair.clean)) for pair in pairs}, []
    capture = last_logits.capture
    monkeypatch.setattr(last_logits, "capture", lambda *given: passes.append(1) or capture(*given))
    assert len(suitable(model, pairs)) == 64 and len(passes) == 2 * len(lengths) < 20
