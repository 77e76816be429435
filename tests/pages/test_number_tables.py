"""Tables: a caption, headings, numbers to the right."""

import re

import pytest

from mlxtrace.pages.number_tables import folded, number, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (97.345, "97.3"),
        (0.03124, "0.0312"),
        (-0.0, "0"),
        (-0.04, "−0.04"),
        (3, "3"),
        (None, ""),
        ("x", "x"),
        (1234.56, "1234.6"),
        (1.2e-7, "1.2e−07"),
        (True, "True"),
        (float("nan"), "nan"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_rows_may_lack_columns():
    html = table([{"layer": 3, "token": " <b>"}, {"layer": 4, "effect": 0.5}], "A & B", {"effect": "%"})
    assert "<caption>A &amp; B</caption>" in html and "<code> &lt;b&gt;</code>" in html
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', html) == ["layer", "token", "effect, %"]
    assert html.count("<tr>") == 3 and html.count('<td class="number">') == 4
    assert folded("Numbers", html).startswith("<details><summary>Numbers</summary>")
