"""The tokenizer: a token to a word."""

from __future__ import annotations

from mlxtrace.compiled.tokenizer import word_tokenizer


def test_words_spaces_and_unknown_words():
    made = word_tokenizer(["<s>", "<unk>", "red", "green", "."])
    assert made.encode("red green .") == [0, 2, 3, 4]
    assert made.encode("red blue") == [0, 2, 1]
    assert made.decode([0, 2, 3], skip_special_tokens=True) == "red green"
    assert (made.bos_token, made.unk_token_id, len(made)) == ("<s>", 1, 5)
