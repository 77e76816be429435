"""A tokenizer made in code: a token to a word, with the space before it, and a start token before every text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .rules import START, UNKNOWN


def word_tokenizer(words: Sequence[str]) -> Any:
    """A fast tokenizer whose token i is words[i]; START and UNKNOWN are among them."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    special = (START, UNKNOWN)
    vocabulary = {word if word in special else f"\u2581{word}": i for i, word in enumerate(words)}
    made = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, words.index(START))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=START, unk_token=UNKNOWN)
