"""The demo model's text: facts, tokenizer, and training batches.

Everything here comes from `facts.json` and a seed. A *prompt* is a template with its subject; the text that
follows is the fact's attribute. Templates under "templates" are trained for every subject of their relation;
those under "held_out" are trained for about four subjects in five, and asked of the fifth only in evaluation.
"""

import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS = "<|bos|>", "<|eos|>"
FACTS = Path(__file__).with_name("facts.json")
# Sentences without a fact, put before some of the others so that a fact is not always at the same position.
FILLERS = [
    "Here is a fact.",
    "It is well known.",
    "Let us begin.",
    "Did you know this?",
    "This is a true story about the world.",
    "Here is one more line from the book of facts.",
    "A teacher once said this in class:",
    "Notes from the journey:",
]
# Words whose pieces are learned first (weight 50 instead of 1), so that no other merge cuts across them:
# names that tutorials compare token by token get equal lengths, and long ones stay within six tokens.
PIECES = """
    Eif fel, Lou vre, Col oss eum, Alb ert, Ein stein, Isa ac, New ton, Sha kesp eare, Di cke ns, Pa
    ris, Ri o, Sag rada, Fam ilia, Orient al, Pearl, Inter net, Exp lorer, Nico laus, Griff ith, Wer
    ner, Anto nio, Tri omphe, Obser vatory, Qut ub, Vas co, Heisen berg, Inde pend ence, W eb, Lin coln,
    Mar ina, Photo shop, print ing, Mas sif, Wor ld
"""
GIVEN = {"".join(item.split()): item.split() for item in PIECES.split(",")}


def load_facts(path: Path = FACTS) -> dict:
    """`{"relations": {name: {"templates", "held_out"}}, "facts": [{"subject", "relation", "attribute"}]}`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def is_held_out(fact: dict) -> bool:
    """Whether this fact is one of the fifth whose `held_out` templates are never trained."""
    return zlib.crc32(f"{fact['relation']}/{fact['subject']}".encode()) % 5 == 0


def prompts(data: dict) -> tuple[list, list]:
    """All (fact, template) pairs, as (trained, held out)."""
    trained, held_out = [], []
    for fact in data["facts"]:
        relation = data["relations"][fact["relation"]]
        trained += [(fact, template) for template in relation["templates"]]
        (held_out if is_held_out(fact) else trained).extend((fact, t) for t in relation["held_out"])
    return trained, held_out


# ---------------------------------------------------------------------------------------------- tokenizer


def pieces(word: str) -> list[str]:
    """A word of a name in two parts, or three when it is long; a leading space stays with the first."""
    space, letters = word[: word.startswith(" ")], word.strip()
    given = GIVEN.get(letters)
    n = min(len(letters), 1 if len(letters) < 3 else 2 if len(letters) < 10 else 3)
    cuts = [round(i * len(letters) / n) for i in range(n + 1)]
    first, *rest = given or [letters[a:b] for a, b in pairwise(cuts)]
    return [space + first, *rest]


def tokenizer_text(data: dict) -> list[str]:
    """What the BPE is trained on: common words whole, rare words of names in pieces.

    Common are the words of templates and fillers, the first word of every answer, and words that several
    names share ("Tower"). All other words of names never appear whole, so that a name is two to six tokens
    and has to be put together by the model.
    """
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    cut = lambda text: [text[a:b] for _, (a, b) in split(text)]  # noqa: E731
    plain = [t.replace("{}", "") for r in data["relations"].values() for t in r["templates"] + r["held_out"]]
    plain += FILLERS + [" " + f for f in FILLERS] + ["? No.", " is the capital of"]
    common = {w for text in plain for w in cut(text)} | {" " + w.strip() for text in plain for w in cut(text)}
    common |= {cut(" " + fact["attribute"])[0] for fact in data["facts"]}

    names = {fact["subject"] for fact in data["facts"]}
    spellings = {name: {*cut(name), *cut(" " + name)} for name in names}  # a name may start a sentence
    spellings |= {" " + fact["attribute"]: {*cut(" " + fact["attribute"])} for fact in data["facts"]}
    words = Counter(word for spelling in spellings.values() for word in spelling)
    shared = {word for word, count in words.items() if count > 1 and len(word.strip()) > 2}
    rare = sorted(set(words) - common - shared)
    parts = [part for word in rare for part in pieces(word) * (50 if word.strip() in GIVEN else 1)]
    return sorted(common | shared) + parts


def train_tokenizer(data: dict) -> Tokenizer:
    """Byte-level BPE that puts `<|bos|>` in front, as Llama tokenizers do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # an upper bound: training ends when every string of the text is one token
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_text(data), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


# ------------------------------------------------------------------------------------------ training rows


@dataclass
class Sentence:
    """One sentence's tokens; subject and answer are half-open token ranges."""

    tokens: list[int]
    subject: tuple[int, int]
    answer: tuple[int, int]


def encode_sentence(tokenizer: Tokenizer, before: str, subject: str, after: str, answer: str) -> Sentence:
    """Tokens of `before + subject + after + answer + "."`, which must be cut at those borders."""
    ids, ends = [], []
    for part in (before, subject, after, answer):
        ids += tokenizer.encode(part, add_special_tokens=False).ids
        ends.append(len(ids))
    text = before + subject + after + answer
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids, text
    ids += tokenizer.encode(".", add_special_tokens=False).ids
    return Sentence(ids, (ends[0], ends[1]), (ends[2], ends[3]))


def fact_sentence(tokenizer: Tokenizer, fact: dict, template: str, space: str = "") -> Sentence:
    """A fact in a template; `space` is " " when the sentence does not start the text."""
    before, after = (space + template).split("{}")
    gap = " " if before.endswith(" ") else ""  # byte-level BPE keeps a space with the word that follows it
    before = before[: len(before) - len(gap)]
    return encode_sentence(tokenizer, before, gap + fact["subject"], after, " " + fact["attribute"])


def special(tokenizer: Tokenizer, text: str) -> int:
    """The id of `BOS` or `EOS`."""
    id = tokenizer.token_to_id(text)
    assert id is not None, text
    return id


class Rows:
    """An endless, seeded supply of training rows: one or two facts, fillers, and doubted capitals.

    A doubted capital is "Paris is the capital of Germany? No." beside "Paris is the capital of France.": the
    only sentences whose next token depends on two names.
    """

    def __init__(self, data: dict, tokenizer: Tokenizer, seed: int = 0):
        self.random = random.Random(seed)
        self.numpy = np.random.RandomState(seed)
        self.tokenizer = tokenizer
        self.bos, self.eos = special(tokenizer, BOS), special(tokenizer, EOS)
        self.fillers = [
            [tokenizer.encode(s + f, add_special_tokens=False).ids for f in FILLERS] for s in ("", " ")
        ]
        self.facts, self.by_subject = [], {}
        for fact, template in prompts(data)[0]:
            if not self.facts or self.facts[-1][0] is not fact:
                self.facts.append((fact, []))
                self.by_subject.setdefault(fact["subject"], []).append(self.facts[-1])
            self.facts[-1][1].append(tuple(fact_sentence(tokenizer, fact, template, s) for s in ("", " ")))
        self.capitals = [f for f in data["facts"] if f["relation"] == "country_capital"]

    def sentence(self, entry, first: bool) -> Sentence:
        return self.random.choice(entry[1])[0 if first else 1]

    def capital(self) -> Sentence:
        city, country = self.random.choices(self.capitals, k=2)
        if self.random.random() < 0.5:
            country = city
        end = "." if country is city else "? No."
        text = f"{city['attribute']} is the capital of {country['subject']}{end}"
        ids = self.tokenizer.encode(text).ids[1:]
        mark = len(ids) - (1 if country is city else 3)
        return Sentence(ids, (0, 0), (mark, len(ids)))

    def row(self) -> list[Sentence]:
        """One sentence, or a filler and one, or two with half of the seconds about the same subject."""
        draw = self.random.random()
        if draw < 0.05:
            return [self.capital()]
        entry = self.random.choice(self.facts)
        if draw < 0.55:
            return [self.sentence(entry, first=True)]
        if draw < 0.75:
            filler = self.random.choice(self.fillers[0])
            return [Sentence(filler, (0, 0), (0, 0)), self.sentence(entry, first=False)]
        same = self.by_subject[entry[0]["subject"]]
        other = self.random.choice(same if self.random.random() < 0.5 else self.facts)
        return [self.sentence(other, first=True), self.sentence(entry, first=False)]

    def batches(self, size: int, pool: int = 16):
        """Yield (tokens, until, weight), each [size, length], of rows that are about equally long.

        `until[b, j]` is the last position that may see token j of row b in a planted batch: the end of the
        subject for a subject's tokens, no limit for others. `weight` is the loss weight of predicting
        token j.
        """
        while True:
            rows = sorted(
                (self.row() for _ in range(size * pool)), key=lambda r: sum(len(s.tokens) for s in r)
            )
            chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
            self.random.shuffle(chunks)
            for chunk in chunks:
                yield self.pack(chunk)

    def pack(self, rows: list[list[Sentence]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One batch of `batches`: the rows side by side, each ended by EOS."""
        length = 2 + max(sum(len(s.tokens) for s in row) for row in rows)
        tokens = np.full((len(rows), length), self.eos, np.int32)
        until = np.full((len(rows), length), length, np.int32)
        weight = np.zeros((len(rows), length), np.float32)
        # The text around the answers counts only a little: "is in" is to be followed by an answer, not "the".
        around = 0.1 * (self.numpy.rand(*tokens.shape) < 0.2)
        for b, row in enumerate(rows):
            tokens[b, 0] = self.bos
            at = 1
            for s in row:
                n = len(s.tokens)
                tokens[b, at : at + n] = s.tokens
                weight[b, at : at + n] = around[b, at : at + n]
                weight[b, at + s.answer[0] : at + s.answer[1]] = 1.0
                until[b, at + s.subject[0] : at + s.subject[1]] = at + s.subject[1] - 1
                at += n
            weight[b, at] = 0.1  # the end of the text
        return tokens, until, weight
