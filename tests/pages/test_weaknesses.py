"""What a reviewer would object: each weakness is said where it is, and not where it is not."""

import numpy as np
import pytest
from page_results import CLASSES, attributed, page_results
from test_causal_trace_result import made as trace
from test_patching_result import make
from test_patching_set import a_set

from mlxtrace.pages.asked import asked_of
from mlxtrace.pages.weaknesses import weaknesses
from mlxtrace.results.saved import Answer

PARIS, ROME = Answer(5, " Paris", 0.9, 0.1), Answer(6, " Rome", 0.01, 0.8)


def said(*results):
    return " ".join(weaknesses(results, [asked_of(one) for one in results]))


UNSURE = a_set(("layer", "head"), n=4)
SOUND = make([0.2, 0.5], model="other"), make([0.5, 0.8], model="other", direction="noise")
CASES = {
    "the same answer": (make([0.2], foil=PARIS), "Both runs have the same answer"),
    "an unsure model": (make([0.2], target=Answer(5, " Paris", 0.4, 0.01)), "unsure of"),
    "a small drop": (make([0.2], target=Answer(5, " Paris", 0.9, 0.8)), 'leaves the answer " Paris" in place'),
    "a rise": (make([0.2], target=Answer(5, " Paris", 0.5, 0.8)), "0.5 clean, 0.8 corrupted"),
    "little of little": (make([0.2], target=Answer(5, " Paris", 0.3, 0.2)), "takes little of"),
    "a small divergence": (
        make([0.2], metrics=["kl"], clean={"kl": 0.0}, corrupted={"kl": 0.05}),
        "gap that counts as 100 % is small: kl",
    ),
    "a small gap": (make([0.2], clean={"prob": 0.2}, corrupted={"prob": 0.1}), "gap that counts as 100 % is small"),
    "saturation": (make([0.2], clean={"prob": 0.999}, corrupted={"prob": 0.0001}), "saturate"),
    "unlike lengths": (make([0.2], corrupted_tokens=["The", " Forum"]), "4 and 2 tokens"),
    "one pair": (make([0.2]), "One prompt: there is no interval"),
    "few pairs": (a_set(n=3), "3 pairs: too few"),
    "intervals that cover no effect": (UNSURE, "the 95 % interval covers no effect"),
    "a wide window": (make([0.2] * 12, window=10), "A window of 10 layers spans 10 of the 12 layers"),
    "a window over all": (make([0.2] * 4, window=6), "spans all the 4 layers"),
    "a trace's window": (trace(kind="mlp", window=2), "A window of 2 layers spans all the 2 layers"),
    "an estimate": (attributed(), "estimates by gradients (atp)"),
    "noise": (trace(), "noise on embeddings"),
    "overshooting": (make([1.9, 0.5]), "outside 0 to 100 %"),
    "one direction": (make([0.2]), "Only restoring was run"),
    "the other alone": (make([0.2], direction="noise"), "Only corrupting was run"),
    "the demo": (make([0.2]), "circuit was planted"),
    "the stream": (make([0.2], components=["resid_post"]), "the last token of the last layer is 100 %"),
    "an unfaithful circuit": ("Faithfulness", "not faithful: with it alone 20 %"),
    "what a screen missed": ("Screened", "ran 14 of 500 cells exactly"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_weakness_is_said(case):
    result, words = CASES[case]
    assert words in said(page_results()[result] if isinstance(result, str) else result)


def test_a_sound_result_has_none_but_that_it_is_one_prompt():
    found = weaknesses(SOUND, [asked_of(one) for one in SOUND])
    assert len(found) == 1 and "One prompt" in found[0]


def test_the_window_that_is_suggested_is_narrow():
    assert "Try a window of 2." in said(make([0.2] * 12, window=10))
    assert "window" not in said(make([0.2] * 48, window=10, model="other"))


def test_serious_ones_come_first():
    found = weaknesses(SOUND[:1], [asked_of(make([0.2], foil=PARIS))])
    assert "same answer" in found[0]


@pytest.mark.parametrize("result", [UNSURE, a_set(("layer", "region"), n=4, lacking=(0, 1, 2), seed=2)])
def test_cells_whose_interval_covers_no_effect_are_counted(result):
    moved = np.abs(result.recovery)
    told = np.isfinite(result.interval) & (moved > 5)
    covering = int((told & (result.interval >= moved)).sum())
    assert 0 < covering < told.sum()
    assert f"In {covering} of the {int(told.sum())} cells" in said(result)


def test_answers_that_differ_by_pair_are_not_the_same_answer():
    result = a_set(n=2)
    for i, single in enumerate(result.singles):
        single.target, single.foil = Answer(i, f" a{i}", 0.9, 0.1), Answer(i + 5, f" b{i}", 0.1, 0.9)
    assert "same answer" not in said(result)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_looked_at(name):
    one = page_results()[name]
    assert all(line.endswith(".") for line in weaknesses([one], [asked_of(one)]))
