"""What mlx-lm is given where a model has no tokenizer that it takes."""

from __future__ import annotations

import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper

from mlxtrace import InterpretableModel
from mlxtrace.text.decoder import Decoder, tokenizer_for


def test_mlx_lm_takes_what_only_decodes():
    wrapped = TokenizerWrapper(Decoder(lambda ids: "".join(f"<{i}>" for i in ids)))
    detokenizer = wrapped.detokenizer
    detokenizer.add_token(12)
    detokenizer.add_token(7)
    detokenizer.finalize()
    assert detokenizer.text == "<12><7>" and wrapped.eos_token_ids == set() and not wrapped.get_vocab()
    with pytest.raises(NotImplementedError):
        wrapped.apply_chat_template([])


def test_a_tokenizer_of_mlx_lm_is_taken_as_it_is():
    model = InterpretableModel("demo")
    assert tokenizer_for(model) is model.tokenizer
    assert isinstance(tokenizer_for(InterpretableModel(model.net)), Decoder)
