"""Tables of tokens: as wide as they look, in Chinese and with accents that stand on other characters."""

from mlxtrace.results import token_table as tt


def test_widths_are_those_of_a_terminal():
    assert [tt.width(x) for x in ("Paris", "巴黎", "e\u0301", "ｶ")] == [5, 4, 1, 1]
    assert tt.cut("巴黎是首都", 7) == "巴黎是…" and tt.width(tt.cut("巴黎是首都", 6)) <= 6
    assert tt.cut("Paris", 5) == "Paris" and tt.padded("巴", 4) == "巴  "


def test_columns_stand_below_each_other():
    lines = tt.token_table(
        "layer", ["0", "11"], ['4 " is"', "5 x"], [[" 巴黎", "a\n"], [" Paris", "\x1b[2J"]]
    )
    starts = [tt.width(line[: line.rindex('  "') + 2]) for line in lines[1:]]
    assert len(set(starts)) == 1 and "\x1b" not in "".join(lines) and '"a\\n"' in lines[1]
    assert tt.last_that_fit(500, 5) == 6 and tt.last_that_fit(2, 5) == 2


def test_a_prompt_with_its_token_marked():
    tokens = [f" {i}" for i in range(100)]
    assert tt.marked(["The", " Louvre", " is"], 1) == "The⟦ Louvre⟧ is"
    cut = tt.marked(tokens, 50, around=2)
    assert cut == "… 48 49⟦ 50⟧ 51 52…"


def test_bars():
    assert tt.bars_of(" Paris", 0.5).startswith('" Paris"         0.5000 ██████████')
