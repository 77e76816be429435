"""What results are of, whatever their class."""

import math

import pytest
from page_results import CLASSES, page_results
from test_causal_trace_result import made as trace
from test_patching_result import make
from test_patching_set import a_set

from mlxtrace.pages.asked import Asked, asked_of, questions_of
from mlxtrace.results.saved import Answer


def test_of_one_pair():
    asked = asked_of(make([0.1, 0.5]))
    assert (asked.clean, asked.corrupted) == ("The Eiffel Tower in", "The Colosseum in")
    assert [(said.role, said.text, said.clean, said.corrupted) for said in asked.answers] == [
        ("answer", " Paris", 0.9, 0.1),
        ("foil", " Rome", 0.01, 0.8),
    ]
    assert [(gap.metric, gap.clean, gap.corrupted) for gap in asked.gaps] == [("prob", 0.9, 0.1)]
    assert asked.pairs == () and asked.subject == (1, 2) and math.isnan(asked.gaps[0].half)


def test_of_a_set_the_means_and_the_interval_of_the_gap():
    result = a_set(n=5, target=Answer(5, " Paris", 0.6, 0.2))
    asked = asked_of(result)
    assert asked.pairs == tuple(f"p{i}" for i in range(5)) and asked.answers[0].clean == pytest.approx(0.6)
    gaps = [single.clean - single.corrupted for single in result.singles]
    mean = sum(gaps) / 5
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 4)
    assert asked.gaps[0].size == pytest.approx(mean)
    assert asked.gaps[0].half == pytest.approx(1.96 * spread / math.sqrt(5))


def test_answers_of_their_own_have_no_common_text():
    result = a_set(n=2)
    result.singles[1].target = Answer(9, " Lima", 0.5, 0.1)
    answer = asked_of(result).answers[0]
    assert answer.text == "" and answer.clean == pytest.approx(0.7) and answer.words == "each pair's own"


def test_of_a_trace_the_noise_is_the_corruption():
    asked = asked_of(trace())
    assert "0.1" in asked.noise and "2 samples" in asked.noise and asked.direction == "denoise"
    assert asked.gaps[0].size == pytest.approx(0.8) and asked.pairs == ()  # its ids are tokens


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_read(name):
    asked = asked_of(page_results()[name])
    assert isinstance(asked.model, str) and all(isinstance(text, str) for text in asked.key[:3])
    for gap in asked.gaps:
        assert math.isfinite(gap.size)


def test_results_of_one_question_are_one():
    both = [make([0.1, 0.5]), make([0.2, 0.3], direction="noise"), make([0.1], clean_text="Another")]
    assert len(questions_of([asked_of(one) for one in both])) == 2
    known = questions_of([Asked("demo"), asked_of(make([0.1]))])
    assert [one.clean for one in known] == ["The Eiffel Tower in"]


def test_noise_on_a_prompt_is_one_question_for_traces_and_maps():
    noised = make([0.1], corrupted_text="The Eiffel Tower in", settings={"corruption": "3 x std"})
    found = questions_of([asked_of(trace()), asked_of(noised)])
    assert len(found) == 1 and found[0].tokens and {gap.metric for gap in found[0].gaps} == {"prob"}
