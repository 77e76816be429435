"""Small tokenizers of every make, trained on a few sentences: byte-level BPE, SentencePiece-like, WordPiece."""

import json
from functools import cache

from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The Eiffel Tower is located in the city of Paris",
    "The Louvre Museum is located in the city of Paris",
    "Vinson Massif is located in the continent of Antarctica",
    "Albert Einstein developed the theory of relativity",
    "Paris is in the country of France. Rome, Berlin and Tokyo: 12 of 100",
    "Эйфелева башня находится в городе Париж",
    "法国的首都是巴黎",
    "बर्लिन जर्मनी में है",
]
BYTES, SPM = "byte-level", "wrapped sentencepiece"


def byte_level(bos, add_prefix_space=False, trim_offsets=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    if bos:
        template = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, template])
    return tokenizer


def sentencepiece_like(metaspace=False):
    """Llama's: "▁" for spaces, one put in front, byte fallback, BOS."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(
        [text for text in CORPUS * 4 if text.isascii()],
        trainers.BpeTrainer(vocab_size=300, show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    names += sorted(learned["vocab"], key=learned["vocab"].get)
    names += [] if "▁" in names else ["▁"]
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = [tuple(m) for m in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        strip = decoders.Strip(" ", 1, 0)
        replace = decoders.Replace("▁", " ")
        tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def word_piece():
    """BERT's: lower case, accents dropped, words that it does not know."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=50))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS[:5] * 4, trainer)
    return tokenizer


def hugging(tokenizer, bos, unk=None):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=bos, unk_token=unk)


class Slow:
    """A tokenizer of another make: it encodes and decodes, without offsets or special arguments."""

    def __init__(self, tokenizer):
        self._of = tokenizer

    def encode(self, text):
        return self._of.encode(text).ids

    def decode(self, ids):
        return self._of.decode(ids, skip_special_tokens=False)


MAKERS = {
    "byte-level": lambda: hugging(byte_level(False), "<|end|>"),
    "byte-level bos": lambda: hugging(byte_level(True), "<|end|>"),
    "byte-level prefix": lambda: hugging(byte_level(False, True, True), "<|end|>"),
    "sentencepiece": lambda: hugging(sentencepiece_like(), "<s>", "<unk>"),
    "metaspace": lambda: hugging(sentencepiece_like(True), "<s>", "<unk>"),
    "wrapped byte-level": lambda: TokenizerWrapper(hugging(byte_level(True), "<|end|>")),
    "wrapped sentencepiece": lambda: TokenizerWrapper(hugging(sentencepiece_like(), "<s>", "<unk>")),
    "bare byte-level": lambda: byte_level(True),
    "bare sentencepiece": sentencepiece_like,
    "slow byte-level": lambda: Slow(byte_level(False)),
}


@cache
def make(name):
    """The tokenizer of that name, made once."""
    return MAKERS[name]()
