"""A model reads answers: all of their tokens, behind a prompt in any form."""

from __future__ import annotations

import mlx.core as mx
import pytest
from tiny_tokenizers import SPM, make

from mlxtrace.errors import TokenError
from mlxtrace.text.reader import Reader

TEXT = "The Eiffel Tower is located in"


class Small(Reader):
    """A reader without a model."""

    vocab_size = 1000

    def __init__(self, tokenizer=None):
        self.tokenizer = tokenizer

    def _known_ids(self):
        return 1000


@pytest.mark.parametrize("form", ["text", "ids", "array", "prompt"])
def test_whole_answers_continue_a_prompt_in_any_form(form):
    reader = Small(make(SPM))
    ids = reader.encode(TEXT)
    prompt = {"text": TEXT, "ids": ids, "array": mx.array([ids]), "prompt": reader.receipt(TEXT)}[form]
    whole = reader.encode(f"{TEXT} Parisian city")[len(ids) :]
    assert reader.answer_tokens(" Parisian city", prompt) == tuple(whole) and len(whole) > 1
    assert reader.answer_token(" Parisian city", prompt) == whole[0]
    with pytest.raises(TokenError, match="ambiguous"):
        reader.answer_tokens("Parisian city", prompt)


def test_ids_are_answers_where_there_is_no_tokenizer():
    reader = Small()
    assert reader.answer_tokens([7, 8], [1, 2]) == (7, 8) and reader.answer_tokens(7) == (7,)
    assert reader.answer_tokens(mx.array([7, 8]), [1, 2]) == (7, 8)
    with pytest.raises(TokenError, match="1000"):
        reader.answer_tokens([7, 1000])
    with pytest.raises(TokenError, match="no tokenizer"):
        reader.answer_tokens(" Paris", [1, 2])
