"""A screen in words: each sentence says what was measured, and how far it goes."""

import numpy as np
import pytest
from test_screened import STRONG, screened

from mlxtrace.results.screened_words import place


def test_the_sentences_that_a_paper_quotes():
    found = screened([*STRONG, *np.linspace(0, 0.05, 40)], 12, 1012)
    bound = 100 * found.missed_bound
    sentences = (
        "Of 1,017 cells (single MLP neurons), of which 1,012 can differ from the base run, the 12 that gradients",
        "(atp*) rank first, and 40 of the other 1,000 drawn at random (seed 0), were run exactly.",
        'The strongest, neuron 11 of layer 1 at position 2 " x", changes logit_diff by -1.2',
        "(-30.0 % of clean - corrupted). The 10 strongest were among the first 12 of the ranking.",
        "In the random sample estimates and effects correlate with r = 1.00 (ranks: 1.00), and 0 of 40 are stronger",
        "than the tenth strongest verified cell (0.3): at 95 % confidence no more than",
        f"{bound:.2g} % of the 1,000 are (exact, hypergeometric).",
    )
    assert found.sentence == " ".join(sentences)
    said = repr(found)
    assert "guesses" in said and "strongest:" in said and "neuron 11 of layer 1" in said and "Paris" in said
    assert "<pre" in found._repr_html_() and "&quot; x&quot;" in found._repr_html_()


def test_what_gradients_did_not_decide_is_said_so():
    every = screened(STRONG, 12, 12, cells=12)
    assert every.sentence.startswith("All 12 cells (single MLP neurons) were run exactly. The strongest")
    assert "guesses" not in repr(every)
    assert screened(STRONG, 12, 12).sentence.startswith(
        "Of 17 cells (single MLP neurons), of which 12 can differ"
    )
    both = screened(STRONG, 12, 99, methods={"neuron": "atp*", "mlp": "atp"})
    assert "single MLP neurons, MLP output" in both.sentence and "neuron: atp*, mlp: atp" in both.sentence
    assert (
        screened(STRONG, 12, 99, direction="noise")
        .__repr__()
        .startswith("Screen: corrupting the MLP neurons")
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"component": "head", "layer": 3, "head": 2}, "head 2 of layer 3"),
        ({"component": "k", "layer": 3, "head": 2, "region": "subject"}, 'k, layer 3 head 2 at "subject"'),
        ({"component": "mlp", "layer": 0, "position": 4, "token": " a"}, 'mlp, layer 0 at position 4 " a"'),
    ],
)
def test_places(row, said):
    assert place(row) == said
