"""Tokenizers that know given words as one token, as those of large models know common ones, and models for them.

    model = model_of(WORDS)                   # byte-level BPE, as GPT-2's: no BOS is put before a text
    model = model_of(WORDS, "metaspace")      # as SentencePiece's: "▁" for a space, and a BOS before each text

Years are two tokens, " 17" and "32".
"""

from __future__ import annotations

import models
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

import mlxtrace


def tokenizer(words: list[str], style: str = "bytes", years: bool = True) -> PreTrainedTokenizerFast:
    """A BPE whose merges put together a space and one of the words, letter by letter, and pairs of digits."""
    space = "Ġ" if style == "bytes" else "▁"
    letters = pre_tokenizers.ByteLevel.alphabet() if style == "bytes" else [chr(c) for c in range(33, 127)]
    merges: list[tuple[str, str]] = []
    pairs = [f"{n:02}" for n in range(100)] if years else []
    for word in [*pairs, *words]:
        made = space
        for letter in word:
            merges.append((made, letter))
            made += letter
    merges += [(pair[0], pair[1]) for pair in pairs]
    merges = list(dict.fromkeys(merges))
    vocabulary = [*dict.fromkeys([space, *sorted(letters), *(a + b for a, b in merges)])]
    made = Tokenizer(BPE({token: i for i, token in enumerate(["<s>", *vocabulary])}, merges))
    made.add_special_tokens([AddedToken("<s>", special=True)])
    if style == "bytes":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        made.decoder = decoders.Metaspace(prepend_scheme="first")
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<s>")


def model_of(words: list[str], style: str = "bytes", years: bool = True) -> mlxtrace.InterpretableModel:
    """A tiny Llama with random weights that reads with such a tokenizer."""
    made = tokenizer(words, style, years)
    net = models.make("llama", vocab_size=len(made), num_hidden_layers=1)
    return mlxtrace.InterpretableModel(net, made)
