"""The prompts token by token: what differs is marked, long ones are cut and say so."""

import re

from mlxtrace.pages.receipts import differences, receipt


def test_what_differs_is_marked():
    html = receipt(["The", " Eiffel", " Tower"], ["The", " Tokyo", " Tower"], subject=[1, 2])
    marked = re.findall(r"<mark[^>]*>([^<]*)</mark>", html)
    assert marked == [" Eiffel", " Tokyo"] and html.count("token subject") == 2
    assert "(3 tokens)" in html and "underlined" in html


def test_of_unlike_lengths_all_between_what_is_shared():
    assert differences(list("abcd"), list("axyzd")) == ({1, 2}, {1, 2, 3})
    assert differences(list("ab"), list("ab")) == (set(), set())
    assert differences(list("ab"), []) == (set(), set())
    assert differences(list("aab"), list("ab")) == ({1}, set())


def test_noise_marks_the_subject():
    html = receipt(["The", " Eiffel", " Tower"], (), [1, 2], noise="noise of 0.1.")
    assert html.count("<mark") == 2 and "with noise of 0.1 on the embeddings" in html


def test_a_long_prompt_is_cut_around_what_differs_and_says_so():
    clean = [f" t{i}" for i in range(2000)]
    other = [*clean[:1000], " x", *clean[1001:]]
    html = receipt(clean, other)
    assert "(2000 tokens, of which 1959 are not shown)" in html and "… 980 tokens …" in html
    assert html.count("<mark") == 2 and len(html) < 20_000
    assert "position 1999" in html and "position 988" in html and "position 987" not in html


def test_white_space_and_html_are_shown():
    html = receipt(["\n\t", "</script><b>", ' "x"\\'])
    assert "\\n\\t" in html and "&lt;/script&gt;&lt;b&gt;" in html and "<b>" not in html
    assert " &quot;x&quot;\\<" in html
