"""Is the corruption any good: both runs in numbers, and a verdict."""

import pytest
from test_patching_result import make
from test_patching_set import a_set

from mlxtrace.pages.asked import asked_of
from mlxtrace.pages.both_runs import both_runs, metric_words, sentences
from mlxtrace.results.saved import Answer


@pytest.mark.parametrize(
    ("clean", "corrupted", "words"),
    [(0.9, 0.01, "loses the answer"), (0.9, 0.85, "hardly touches"), (0.9, 0.5, "loses a part")],
)
def test_the_verdict(clean, corrupted, words):
    asked = asked_of(make([0.2], target=Answer(5, " Paris", clean, corrupted)))
    assert words in sentences(asked)[0]


def test_numbers_and_the_likeliest_tokens():
    tops = [[(" Paris", 0.9), ("<b>", 0.05)], [(" Rome", 0.8), (" Lyon", 0.1)]]
    html = both_runs(asked_of(make([0.2])), tops)
    assert "gap of the probability between the runs, 0.8: 0.9 clean, 0.1 corrupted" in html
    assert "p(answer): &quot; Paris&quot;" in html and "p(foil): &quot; Rome&quot;" in html
    assert "&lt;b&gt;" in html and "<b>" not in html and "likeliest next tokens" in html
    assert "likeliest" not in both_runs(asked_of(make([0.2])))


def test_of_a_set_means_and_the_interval():
    said = " ".join(sentences(asked_of(a_set(n=5))))
    assert "on average" in said and " ± " in said and "nan" not in said


def test_metrics_have_words():
    assert metric_words("logit_diff") == "logit difference" and metric_words("my_metric") == "my_metric"
