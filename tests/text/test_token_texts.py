"""What tokens are called: Chinese, parts of characters, ids without a text."""

import pytest
import tiny_tokenizers

from mlxtrace.text.token_texts import token_texts
from mlxtrace.text.tokens import encode


@pytest.mark.parametrize("name", ["byte-level", "wrapped byte-level", "bare byte-level"])
def test_parts_of_characters_are_shown_as_their_bytes(name):
    tokenizer = tiny_tokenizers.make(name)
    inner = getattr(tokenizer, "_tokenizer", tokenizer)
    vocabulary = inner.get_vocab()
    first = vocabulary["æ"]  # the byte E6, with which 法 and 是 begin
    assert token_texts(tokenizer, [first, first]) == {first: "\\xe6"}
    texts = token_texts(tokenizer, encode(tokenizer, "Paris 鳥"))
    assert "\ufffd" not in "".join(texts.values()) and all(texts.values())


def test_pieces_of_sentencepiece_keep_their_space():
    tokenizer = tiny_tokenizers.make("sentencepiece")
    texts = token_texts(tokenizer, encode(tokenizer, "The Louvre"))
    assert any(text.startswith(" ") for text in texts.values()) and "<s>" in texts.values()


def test_without_a_text_there_is_the_id():
    assert token_texts(None, [7]) == {7: "<7>"}
    tokenizer = tiny_tokenizers.make("byte-level")
    assert token_texts(tokenizer, [99_999]) == {99_999: "<99999>"}
