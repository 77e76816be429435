"""Receipts of prompts of any length: every token of a short one, of a long one those that matter."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlxtrace.text.prompt import Prompt
from mlxtrace.text.receipt import gaps, rows_that_matter


def made(n, subject=None, **more):
    tokens = tuple(f" t{i}" for i in range(n))
    return Prompt(text="".join(tokens), ids=tuple(range(n)), tokens=tokens, subject=subject, **more)


def test_a_short_prompt_is_whole():
    text = repr(made(60, range(3, 5)))
    assert (
        len(text.splitlines()) == 62 and "⋮" not in text and text.endswith("60 tokens; * marks the subject")
    )


@pytest.mark.parametrize("n", [61, 500, 4000])
def test_a_long_one_shows_its_ends_and_its_subject(n):
    prompt = made(n, range(n - 30, n - 26), note="a note")
    lines = repr(prompt).splitlines()
    assert len(lines) < 40 and sum(line.endswith("*") for line in lines) == 4
    assert lines[1].endswith("' t0'") and f"' t{n - 1}'" in lines[-3]
    assert f"⋮  positions 8 to {n - 34}" in repr(prompt)
    assert lines[-2] == f"{n} tokens, 26 of them shown: .tokens and .ids have all; * marks the subject"
    page = prompt._repr_html_()
    assert page.count("<tr>") == 1 + 26 + 2 and len(page) < 5000 and "26 of them shown" in page


def test_turns_of_a_chat_are_seen_and_many_of_them_are_cut():
    def turn(i):
        return SimpleNamespace(name=f"user[{i}]", positions=range(100 * i + 10, 100 * i + 90))

    turns = [turn(i) for i in range(3)]
    chat = SimpleNamespace(turns=turns, name_at=lambda p: f"user[{p // 100}]")
    text = repr(replace(made(300), chat=chat))
    assert "' t110'" in text and "user[1]" in text and "' t150'" not in text
    assert "user[0] 10 to 89, user[1] 110 to 189, user[2] 210 to 289" in text
    many = SimpleNamespace(turns=[turn(i) for i in range(400)], name_at=lambda p: "")
    text = repr(replace(made(40000), chat=many))
    assert len(text.splitlines()) < 200 and max(map(len, text.splitlines())) < 400


def test_a_huge_token_is_cut_and_html_is_inert():
    prompt = Prompt(text="x", ids=(1, 2), tokens=("y" * 5000, "<script>"))
    assert max(map(len, repr(prompt).splitlines())) < 100
    assert len(prompt._repr_html_()) < 500 and "<script>" not in prompt._repr_html_()


def test_what_is_left_out_is_between_what_is_shown():
    shown = rows_that_matter(100, [range(50, 60), range(0, 1)])
    assert shown == sorted({*range(8), *range(47, 54), *range(56, 63), *range(92, 100)})
    assert gaps(shown, 100) == {47: "positions 8 to 46", 56: "positions 54 to 55", 92: "positions 63 to 91"}
