"""The values of the command's options: what each reads from text, and what it refuses."""

import argparse

import pytest

from mlxtrace import option_values as values
from mlxtrace import spans
from mlxtrace.anatomy.components import COMPONENTS
from mlxtrace.metrics import METRICS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3", [3]),
        ("0-3,8", [0, 1, 2, 3, 8]),
        (" 5 , 5-5 ", [5, 5]),
        ("-1", [-1]),
        ("-3-1", [-3, -2, -1, 0, 1]),
        ("0-0", [0]),
    ],
)
def test_numbers(text, found):
    assert values.numbers(text) == found == values.positions(text) == values.heads(text)


@pytest.mark.parametrize(
    "text", ["", "1,", ",", "a", "1-", "3-1", "1--2", "1.5", "0-9999999", "1 2", "1e3", "٣-"]
)
def test_what_is_no_list_of_numbers(text):
    with pytest.raises(argparse.ArgumentTypeError):
        values.numbers(text)


@pytest.mark.parametrize("name", values.POSITIONS)
def test_positions_by_name(name):
    assert values.positions(name) == name


def test_positions_that_are_no_name():
    with pytest.raises(argparse.ArgumentTypeError, match="subject"):
        values.positions("subjct")
    assert values.heads("each") == "each"
    with pytest.raises(argparse.ArgumentTypeError):
        values.heads("all")


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_can_be_asked_for(component):
    assert values.components(component) == [component]


@pytest.mark.parametrize("text", ["mpl", "mlp,", "", "mlp,mlp", "attn,self_attn"])
def test_what_is_no_list_of_components(text):
    with pytest.raises(argparse.ArgumentTypeError):
        values.components(text)


@pytest.mark.parametrize("name", ["auto", *METRICS])
def test_every_metric_can_be_asked_for(name):
    assert values.metric_names(f"{name}, kl") == [name, "kl"]


def test_what_is_no_metric():
    with pytest.raises(argparse.ArgumentTypeError, match="logit_diff"):
        values.metric_names("prob,logitdiff")


def test_counts():
    assert values.count("1") == 1 and values.count("20") == 20
    for text in ("0", "-1", "1.5", "", "two", "1e2", " 3", "+3"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number of 1 or more"):
            values.count(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 kib", 1536), ("7", 7), ("500MB", 5 * 10**8), ("2 GiB ", 2**31)],
)
def test_memory(text, size):
    assert values.memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "0", "0GB", "-1GB", "2 hundred", "1..5GB", "2GBB", "1,5GB"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="2GB"):
        values.memory(text)


def test_answers_are_texts_or_ids():
    assert values.answer(" Paris") == " Paris" and values.answer("id:12") == 12
    assert values.answer("id:") == "id:" and values.answer("id: 12") == "id: 12"


def test_answers_of_several_tokens_and_several_answers():
    assert values.answer("id:12,34") == [12, 34] and values.answer("id:12,") == "id:12,"
    assert values.answers(" New York| new york|id:12,34|id:5") == [" New York", " new york", [12, 34], 5]
    for text in ("", " a|", "|"):
        with pytest.raises(argparse.ArgumentTypeError, match="empty answer"):
            values.answers(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("spans:32", spans(32)), ("spans:8:0.1", spans(8, 0.1)), ("spans:8:none", spans(8, None))],
)
def test_spans(text, found):
    assert values.positions(text) == found


@pytest.mark.parametrize(
    "text", ["spans", "span:32", "spans:", "spans:1", "spans:8:2", "spans(32)", "spans:8:all"]
)
def test_spans_that_mean_nothing(text):
    with pytest.raises(argparse.ArgumentTypeError, match="width" if text != "spans:8:2" else "share"):
        values.positions(text)
