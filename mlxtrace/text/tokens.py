"""Text and tokens: what the model sees of a prompt, and where its subject is.

    encode, as_ids                              text (or ids) -> checked token ids
    decode, token_to_str, to_str_tokens         token ids -> text
    char_spans, subject_range                   which tokens carry which characters
    answer_token, answer_tokens                 the token that an answer starts with, and all of its tokens
    special_marks                               which tokens are BOS, EOS or other special ones

A tokenizer here is mlx-lm's wrapper, one of transformers, a bare one of the `tokenizers` library, anything
else that encodes and decodes, or None, when prompts are given as token ids.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..arguments import as_integer, positions_in
from ..errors import SubjectError, TokenError, closest

_PARTIAL = "\ufffd"  # what decoding writes for bytes that are no whole character
_MESSAGE = '{"role": "user", "content": "..."}'
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")

# --- text <-> ids ---------------------------------------------------------------------------------


def encode(tokenizer: Any, text: str) -> list[int]:
    """The token ids that the model sees for a prompt, special tokens included as in mlx_lm's `generate`.

    A text that already starts with the BOS token gets no second one. TokenError when there is no tokenizer or
    no token.
    """
    if not isinstance(text, str):
        raise TokenError(f"A text was expected, not {type(text).__name__} {text!r}.")
    _need(tokenizer, text)
    if not text:
        raise TokenError("The text is empty: there is nothing to trace. Give at least one character.")
    bos = getattr(tokenizer, "bos_token", None)
    ids = _tokenize(tokenizer, text, special=not (bos and text.startswith(bos)))
    if not bos and len(ids) > 1 and ids[0] == ids[1] and ids[0] in _special_ids(tokenizer):
        ids = _tokenize(tokenizer, text, special=False)  # a bare tokenizer does not name its BOS
    if not ids:
        raise TokenError(f"The tokenizer makes no token of {text!r}: give a text that it knows.")
    return ids


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text alone, without the special tokens that the tokenizer puts around a prompt."""
    _need(tokenizer, text)
    return _tokenize(tokenizer, text, special=False)


def as_ids(tokenizer: Any, prompt: str | Sequence[int] | Any, vocab_size: int | None = None) -> list[int]:
    """The token ids of one prompt, given as text, as a list of ints, or as an array [T] or [1, T].

    TokenError when there is no token, more than one prompt, anything but integers, or an id outside
    0..vocab_size-1.
    """
    if isinstance(prompt, str):
        ids, source = encode(tokenizer, prompt), f"The tokenizer gives the text {prompt!r}"
    else:
        ids, source = _given_ids(prompt), "The prompt has"
    wrong = [i for i in ids if i < 0 or (vocab_size is not None and i >= vocab_size)]
    if wrong:
        cure = "is this the model's own tokenizer?" if isinstance(prompt, str) else "check the ids."
        valid = "of 0 or more" if vocab_size is None else f"0..{vocab_size - 1}"
        raise TokenError(f"{source} the token id {wrong[0]}, but the model's ids are {valid}: {cure}")
    return ids


def is_chat(given: Any) -> bool:
    """Whether these are the messages of a chat, which make one prompt."""
    if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) for one in given):
        return False
    return any("role" in one or "content" in one for one in given)


def chat_in(given: Any) -> Sequence[Mapping[str, Any]] | None:
    """The messages of one chat, also as a list of one; None for another prompt."""
    alone = given[0] if isinstance(given, list | tuple) and len(given) == 1 else None
    return next((chat for chat in (given, alone) if is_chat(chat)), None)


def decode(tokenizer: Any, ids: Iterable[int]) -> str:
    """The text of the tokens, special ones included; without a tokenizer "<12><7>"."""
    ids = [int(i) for i in ids]
    if tokenizer is None:
        return "".join(f"<{i}>" for i in ids)
    inner = _inner(tokenizer)
    for options in ({"clean_up_tokenization_spaces": False}, {}):
        try:
            return inner.decode(ids, skip_special_tokens=False, **options)
        except TypeError:
            continue
    return inner.decode(ids)


def token_to_str(tokenizer: Any, token: int) -> str:
    """The text of one token as it stands inside a sentence: a leading space is kept."""
    number = as_integer(token)
    if number is None:
        raise TokenError(f"one token id was expected, not {token!r}; of several, decode gives the text")
    if tokenizer is None:
        return f"<{number}>"
    # SentencePiece drops the space of the first token only, so the second of two shows it
    return decode(tokenizer, [number, number])[len(decode(tokenizer, [number])) :]


def to_str_tokens(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token; together they are the decoded text wherever the tokenizer allows it.

    A character made of several byte tokens stands at the last of them; the earlier ones are "". Without a
    tokenizer "<12>".
    """
    ids = [int(i) for i in ids]
    if tokenizer is None:
        return [f"<{i}>" for i in ids]
    return [piece for piece, _ in _pieces(tokenizer, ids)]


def _pieces(tokenizer: Any, ids: list[int]) -> list[tuple[str, bool]]:
    """Each token's text, and whether the token ends inside a character that a later one completes."""
    pieces, start, seen, now = [], 0, "", ""
    for i in range(len(ids)):
        now = decode(tokenizer, ids[start : i + 1])
        whole = now.rstrip(_PARTIAL)
        # byte fallback spoils a whole run of bytes until it is valid: then nothing new is known
        pieces.append((whole[len(seen) :], now.endswith(_PARTIAL)))
        seen = max(seen, whole, key=len)
        if i - start >= 8 and _PARTIAL not in (alone := decode(tokenizer, ids[i : i + 1])):
            start, seen, now = i, alone, alone  # a short window: decoding all prefixes would be quadratic
    if pieces and len(now) > len(seen):  # bytes at the very end that never became a character
        pieces[-1] = (pieces[-1][0] + now[len(seen) :], False)
    if "".join(piece for piece, _ in pieces) == decode(tokenizer, ids):
        return pieces
    return [(token_to_str(tokenizer, i), False) for i in ids]


def _inner(tokenizer: Any) -> Any:
    """The tokenizer inside mlx-lm's wrapper, known by its `detokenizer`."""
    return tokenizer._tokenizer if hasattr(type(tokenizer), "detokenizer") else tokenizer


def _need(tokenizer: Any, text: object) -> None:
    if tokenizer is None:
        raise TokenError(f"There is no tokenizer to read {text!r} with: give token ids, or load one.")


def _tokenize(tokenizer: Any, text: str, special: bool) -> list[int]:
    if re.search("[\ud800-\udfff]", text):
        raise TokenError(
            f"The text {text!r} has half of a character (a lone surrogate), which no tokenizer reads."
        )
    inner = _inner(tokenizer)
    try:
        out = inner.encode(text, add_special_tokens=special)
    except TypeError:
        out = inner.encode(text)
    return [int(i) for i in getattr(out, "ids", out)]


def _special_ids(tokenizer: Any) -> set[int]:
    inner = _inner(tokenizer)
    added = getattr(inner, "added_tokens_decoder", None)
    if added is None and hasattr(inner, "get_added_tokens_decoder"):
        added = inner.get_added_tokens_decoder()
    named = {i for i, token in (added or {}).items() if getattr(token, "special", False)}
    return named | set(getattr(inner, "all_special_ids", None) or [])


def special_marks(tokenizer: Any, ids: Sequence[int]) -> dict[int, str]:
    """The positions of special tokens and what they are: "BOS", "EOS" or "special"."""
    named = {getattr(tokenizer, "eos_token_id", None): "EOS", getattr(tokenizer, "bos_token_id", None): "BOS"}
    known = _special_ids(tokenizer) if tokenizer is not None else set()
    return {i: named.get(token, "special") for i, token in enumerate(ids) if token in known}


def _given_ids(prompt: Any) -> list[int]:
    values = prompt.tolist() if hasattr(prompt, "tolist") else prompt
    if isinstance(values, bytes | bytearray | memoryview | dict) or not isinstance(values, Sequence):
        chat = f"; a chat is a list of {_MESSAGE}" if isinstance(prompt, Mapping) else ""
        raise TokenError(f"A prompt is a text or token ids, not {type(prompt).__name__} {prompt!r}{chat}.")
    values = [v.item() if hasattr(v, "item") and getattr(v, "ndim", 1) == 0 else v for v in values]
    nested = [v for v in values if isinstance(v, Sequence | range) or hasattr(v, "tolist")]
    if len(nested) == len(values) == 1 and not isinstance(values[0], str):
        return _given_ids(values[0])
    if nested:
        raise TokenError(
            f"a list of {len(values)} prompts was given where one prompt is expected: give one at a time."
        )
    if not values:
        raise TokenError("The prompt has no tokens: give at least one token id.")
    odd = [v for v in values if isinstance(v, bool) or not isinstance(v, int)]
    if odd:
        chat = f"; a message is {_MESSAGE}" if isinstance(odd[0], Mapping) or hasattr(odd[0], "role") else ""
        raise TokenError(f"Token ids are integers, not {type(odd[0]).__name__} {odd[0]!r}{chat}.")
    return list(values)


# --- characters and positions ---------------------------------------------------------------------


def char_spans(tokenizer: Any, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
    """The characters [start, end) of `text` that each token covers; (n, n) for none, as for BOS.

    Byte tokens that share a character all cover it. TokenError when the ids are not those of the text.
    """
    _need(tokenizer, text)
    ids = list(ids)
    backend = getattr(_inner(tokenizer), "backend_tokenizer", _inner(tokenizer))
    for special in (True, False) if hasattr(backend, "get_added_tokens_decoder") else ():
        encoding = backend.encode(text, add_special_tokens=special)
        if list(encoding.ids) == ids:
            return [tuple(span) for span in encoding.offsets]
    for hidden in (_special_ids(tokenizer), set()):
        body, spans = _decoded_spans(tokenizer, ids, hidden)
        extra = len(body) - len(
            text
        )  # SentencePiece may decode to one space more than it was given, or one fewer
        if body == text or (extra > 0 and body.endswith(text) and not body[:extra].strip()):
            return [(max(0, a - extra), max(0, b - extra)) for a, b in spans]
        if extra < 0 and text.endswith(body) and not text[:-extra].strip():
            return [(a - extra, b - extra) for a, b in spans]
    raise TokenError(f"The tokens decode to {decode(tokenizer, ids)!r}, which is not the text {text!r}.")


def _decoded_spans(tokenizer: Any, ids: Sequence[int], hidden: set[int]) -> tuple[str, list[tuple[int, int]]]:
    """The decoded text without the hidden (special) tokens, and each token's characters in it."""
    spans, text = [], ""
    for token, (piece, opens) in zip(ids, _pieces(tokenizer, list(ids)), strict=True):
        piece, opens = ("", False) if token in hidden else (piece, opens)
        spans.append((len(text), len(text) + len(piece) + opens))
        text += piece
    return text, spans


def subject_range(
    tokenizer: Any,
    prompt: str | Sequence[int] | Any,
    subject: str | int | range | Sequence[int],
    ids: Sequence[int] | None = None,
    occurrence: int = 1,
) -> range:
    """The token positions of the subject in the prompt.

    The subject's first occurrence (or a later one) is found by characters, every token that shares a character with it
    counts (Meng et al. 2022, the authors' `find_token_range`), and the result is verified by decoding it. A
    subject may be given as consecutive positions instead. SubjectError when it is empty or absent;
    PositionError when positions lie outside.
    """
    ids = as_ids(tokenizer, prompt) if ids is None else list(ids)
    if not isinstance(subject, str):
        found = sorted(positions_in(subject, len(ids)))
        if found != list(range(found[0], found[-1] + 1)):
            raise SubjectError(
                f"The subject's positions {found} are not consecutive: give one run of tokens."
            )
        return range(found[0], found[-1] + 1)
    if not subject.strip():
        raise SubjectError("The subject is empty: give it as it stands in the prompt.")
    if tokenizer is None:
        raise SubjectError(
            f"The subject {subject!r} is a text, but the prompt is token ids and there is no tokenizer: "
            "give its positions, such as range(1, 4)."
        )
    text, spans = _layout(tokenizer, prompt if isinstance(prompt, str) else None, ids)
    start, end = _locate(text, subject, occurrence)
    inside = [i for i, (a, b) in enumerate(spans) if a < b and a < end and b > start]
    while len(inside) > 1 and not decode(tokenizer, ids[inside[0] : inside[0] + 1]).strip():
        inside.pop(
            0
        )  # SentencePiece's "▁" before a first character that has no token: no part of the subject
    return _verified(tokenizer, ids, inside, subject.strip())


def repeated(tokenizer: Any, prompt: Any, subject: Any, ids: Sequence[int], found: range) -> str:
    """One sentence when the subject's text stands in the prompt more than once, "" otherwise.

    Its first occurrence counts, as in the ROME authors' code, which is worth knowing when another was meant.
    """
    if not isinstance(subject, str):
        return ""
    text = prompt if isinstance(prompt, str) else decode(tokenizer, ids)
    n = text.count(subject.strip())
    if n < 2:
        return ""
    where = f"positions {found[0]} to {found[-1]}" if len(found) > 1 else f"position {found[0]}"
    return (
        f"the subject {subject!r} occurs {n} times in the prompt; its first occurrence, {where}, is taken: to mean "
        "another one give its positions, such as subject=range(4, 6)"
    )


def _layout(tokenizer: Any, text: str | None, ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
    """A text and each token's characters in it: the prompt's own text, or the decoded one."""
    if text is not None:
        try:
            return text, char_spans(tokenizer, text, ids)
        except TokenError:
            pass  # a tokenizer that changes the text (lower case, say): look in what it kept
    return _decoded_spans(tokenizer, ids, _special_ids(tokenizer))


def _locate(text: str, subject: str, occurrence: int) -> tuple[int, int]:
    """The characters of one occurrence of the subject (the first is 1), without white space around it."""
    bare = subject.strip()
    looked_for = subject if subject in text else bare
    starts = [match.start() for match in re.finditer(re.escape(looked_for), text)]
    if 1 <= occurrence <= len(starts):
        start = starts[occurrence - 1] + looked_for.index(bare)
        return start, start + len(bare)
    if starts:
        raise SubjectError(
            f"{subject!r} occurs {len(starts)} times in the prompt {text!r}, not {occurrence}."
        )
    if _folded(bare) in _folded(text):
        hint = "It is there in other letters (capitals or accents count); write it as in the prompt"
    else:
        words, n = text.split(), len(bare.split())
        hint = closest(bare, (" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))))
    raise SubjectError(f"The subject {subject!r} does not occur in the prompt {text!r}. {hint}.")


def _folded(text: str) -> str:
    kept = (c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    return " ".join("".join(kept).split())


def _verified(tokenizer: Any, ids: list[int], inside: list[int], subject: str) -> range:
    found = range(inside[0], inside[-1] + 1) if inside else range(0)
    tokens = [ids[i] for i in found]
    text = decode(tokenizer, tokens)
    unknown = getattr(tokenizer, "unk_token_id", None) in tokens
    if not found or not (unknown or _folded(subject) in _folded(text)):
        raise SubjectError(
            f"The subject {subject!r} was found at tokens {list(found)}, but these decode to {text!r}: "
            "give its positions instead, such as range(1, 4)."
        )
    return found


# --- answers --------------------------------------------------------------------------------------


def answer_token(
    tokenizer: Any,
    answer: str | int,
    prompt: str | None = None,
    vocab_size: int | None = None,
    prompt_ids: Sequence[int] | None = None,
) -> int:
    """The one token that an answer starts with after a prompt; arguments and errors as in `answer_tokens`."""
    if not isinstance(answer, str):
        token, *more = as_ids(tokenizer, [answer], vocab_size)
        if more:
            raise TokenError(f"The answer is one token, not {len(more) + 1}: give the id of the first.")
        return token
    return answer_tokens(tokenizer, answer, prompt, vocab_size, prompt_ids)[0]


def answer_tokens(
    tokenizer: Any,
    answer: str | int | Sequence[int] | Any,
    prompt: str | None = None,
    vocab_size: int | None = None,
    prompt_ids: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """All tokens of an answer as it continues a prompt.

    prompt_ids: the prompt's ids without special tokens, when they are known.

    The text is taken as it continues the prompt, without special tokens: " Paris", with its space.
    TokenError when it is empty, when its first token says nothing about it, when it melts into the prompt's
    last token, or when it has no space where " Paris" would be another token than "Paris". A token id, or the ids of
    an answer of several tokens, are checked and returned.
    """
    if not isinstance(answer, str):
        return _given_answer(tokenizer, answer, vocab_size)
    _need(tokenizer, answer)
    if not answer.strip() and "\n" not in answer:  # a line break is something that a model can say
        raise TokenError(
            f'The answer {answer!r} is empty or blank: give a text such as " Paris", or a token id.'
        )
    found = _tokens_after(tokenizer, answer, prompt, prompt_ids)
    first = found[0]
    if _wants_space(answer, prompt):
        spaced = _tokens_after(tokenizer, " " + answer, prompt, prompt_ids)[0]
        if spaced != first:
            raise TokenError(
                f"{answer!r} is ambiguous: {' ' + answer!r} starts with token {spaced} "
                f"{_raw(tokenizer, spaced)}, {answer!r} without a space with token {first} "
                f"{_raw(tokenizer, first)}. After a word write {' ' + answer!r}; to mean the other, "
                f"give the token id {first}."
            )
    if answer.strip() and not decode(tokenizer, [first]).strip():
        raise TokenError(
            f"The answer {answer!r} starts with token {first} {_raw(tokenizer, first)}, white space that "
            "says nothing about it: end the prompt with that space and write the answer without it, "
            "or give a token id."
        )
    if getattr(tokenizer, "unk_token_id", None) in found:
        raise TokenError(f"The tokenizer does not know the answer {answer!r}: choose another, or a token id.")
    return tuple(as_ids(tokenizer, found, vocab_size))


def _given_answer(tokenizer: Any, answer: Any, vocab_size: int | None) -> tuple[int, ...]:
    """The tokens of an answer that is given as an id, or as the ids of its tokens."""
    if isinstance(answer, list | tuple) and any(isinstance(part, str) for part in answer):
        raise TokenError(
            f"One answer was expected, a text or the ids of its tokens, not {answer!r}: several answers, each of which "
            "is right, are answers=[...]"
        )
    several = isinstance(answer, Iterable) and getattr(answer, "ndim", 1) > 0
    return tuple(as_ids(tokenizer, answer if several else [answer], vocab_size))


def _tokens_after(
    tokenizer: Any, answer: str, prompt: str | None, prompt_ids: Sequence[int] | None
) -> list[int]:
    """The tokens of the answer behind the prompt, or behind a stand-in that it does not merge with."""
    known = prompt_ids if prompt else None
    for head in (prompt,) if prompt else ("of", "x", ".") if answer[0].isspace() else ("\n", ":", "."):
        before = _tokenize(tokenizer, head, special=False) if known is None else list(known)
        after = _tokenize(tokenizer, head + answer, special=False)
        if after[: len(before)] == before and len(after) > len(before):
            return after[len(before) :]
    if prompt:
        spaced = f"end the prompt without white space and write the answer as {' ' + answer.lstrip()!r}"
        cure = spaced if prompt[-1].isspace() else "give the id of the token that is meant"
        raise TokenError(f"The answer {answer!r} melts into the last token of the prompt {prompt!r}: {cure}.")
    alone = _tokenize(tokenizer, answer, special=False)
    if not alone:
        raise TokenError(f"The tokenizer makes no token of the answer {answer!r}: give a token id.")
    return alone


def _wants_space(answer: str, prompt: str | None) -> bool:
    """Whether a space is to be expected before the answer: not after a space or `(`, nor in Chinese."""
    return _spaced(answer[0]) and (not prompt or _spaced(prompt[-1]) or prompt[-1] in ",.:;!?)]}%")


def _spaced(character: str) -> bool:
    return character.isalnum() and not unicodedata.name(character, "").startswith(_UNSPACED)


def _raw(tokenizer: Any, token: int) -> str:
    inner = _inner(tokenizer)
    convert = getattr(inner, "convert_ids_to_tokens", None) or getattr(inner, "id_to_token", None)
    return repr(convert(token) if convert else token_to_str(tokenizer, token))
