"""The pairs of a set: the first one's tokens, and all in a table."""

from test_patching_set import a_set

from mlxtrace.pages.pair_table import MOST, pair_list


def test_the_first_pair_and_all():
    html = pair_list(a_set(n=4).singles)
    assert "4 pairs of prompts" in html and html.count("<tr>") == 5 and html.count("<mark") == 4
    assert "All 4 pairs" in html and "p clean" in html


def test_a_large_set_is_cut_and_says_so():
    html = pair_list(a_set(n=3).singles * 100)
    assert html.count("<tr>") == MOST + 1 and f"All 300 pairs, the first {MOST}" in html
