"""A pair holds what was written down."""

from __future__ import annotations

from mlxtrace.text.pair import Pair


def test_a_pair_is_its_fields():
    pair = Pair("The Louvre is in", "The Colosseum is in", " Paris", " Rome", "Louvre", {"END": -1}, "0")
    assert pair == Pair(
        clean="The Louvre is in",
        corrupted="The Colosseum is in",
        target=" Paris",
        foil=" Rome",
        subject="Louvre",
        regions={"END": -1},
        id="0",
    )
    assert Pair("a").regions == {} and Pair("a").corrupted is None
