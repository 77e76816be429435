"""The look of a page: nothing is fetched for it, and paper has rules of its own."""

from mlxtrace.pages.stylesheet import PRINTING, STYLE


def test_nothing_comes_from_elsewhere():
    assert not [word for word in ("url(", "@import", "http", "//") if word in STYLE + PRINTING]


def test_braces_are_balanced_and_nothing_ends_the_element():
    for code in (STYLE, PRINTING):
        assert code.count("{") == code.count("}") and "</" not in code


def test_figures_are_not_cut_on_paper():
    paper = STYLE.split("@media print")[1]
    assert "article, figure, table" in paper and "break-inside: avoid" in paper
    assert "beforeprint" in PRINTING and "afterprint" in PRINTING
