"""What was found, in sentences with the result's own numbers."""

import re

import pytest
from page_results import CLASSES, page_results
from test_patching_result import make

from mlxtrace.pages.findings import found, label
from mlxtrace.pages.methods import kind_of
from mlxtrace.results.strongest import strongest


@pytest.mark.parametrize("name", CLASSES)
def test_page_results_is_told_in_sentences(name):
    said = found(page_results()[name])
    assert said == "" or said.endswith(".")
    assert "nan" not in said and len(said) < 1200


def test_components_have_their_words_and_numbers_stay():
    result = make([[0.1, 0.5], [0.2, 0.9]], ("component", "layer"))
    said, plain = found(result), strongest(result)
    assert "MLP output of layer 1" in said and "attention output of layer 1" in said
    assert re.findall(r"-?\d+ %", said) == re.findall(r"-?\d+ %", plain)


def test_a_component_that_does_nothing_is_nowhere():
    result = make([[0.1, 0.1], [0.2, 0.9]], ("component", "layer"))
    assert "MLP output nowhere (each below 15 %)" in found(result)
    heads = make([[0.1, 0.1]], ("layer", "head"), components=["head"])
    assert found(heads) == "Restores most: no head (each below 15 %)."


def test_numbers_of_other_classes():
    every = page_results()
    trace = every["CausalTrace"]
    assert '" Paris" from 0.10 back to 0.60; it is 0.90 in the clean run' in found(trace)
    assert "last subject token" in found(trace)
    average = every["AverageTrace"]
    role, layer = average.peak("mlp")
    assert f"MLP outputs at the {role}, layer {layer}" in found(average) and "token token" not in found(
        average
    )
    path = every["PathResult"].top(1)[0]
    assert f"{path['sender']} → {path['receiver']} ({path['effect']:+.3g})" in found(every["PathResult"])
    assert found(every["Screened"]) == every["Screened"].sentence


def test_labels_say_which_way():
    result = make([[0.1, 0.5]], ("layer", "position"), direction="noise")
    assert label(result, kind_of(result)) == "Tokens and layers, corrupting"
    assert label(page_results()["Curve"], "circuit") == "The circuit"
