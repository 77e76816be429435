"""What single tokens are called in tables and figures, parts of characters included.

texts = token_texts(tokenizer, [464, 20015])      # {464: "The", 20015: "\\xe4\\xbb"}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .tokens import token_to_str

_PARTIAL = "\ufffd"
# Byte-level tokenizers write bytes that are no printable character as the characters from 256 on.
_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [b for b in range(256) if b not in _PRINTABLE]
_BYTES = {chr(b): b for b in _PRINTABLE} | {chr(256 + i): b for i, b in enumerate(_OTHERS)}


def token_texts(tokenizer: Any, ids: Iterable[int]) -> dict[int, str]:
    """The text of each token id, once; of a part of a character its bytes, of an id without a text "<id>"."""
    return {i: _text(tokenizer, i) for i in dict.fromkeys(int(i) for i in ids)}


def _text(tokenizer: Any, token: int) -> str:
    try:
        text = token_to_str(tokenizer, token)
    except (LookupError, ValueError, OverflowError, TypeError):  # more logits than tokens
        text = ""
    if text and _PARTIAL not in text:
        return text
    return _raw(tokenizer, token) or text or f"<{token}>"


def _raw(tokenizer: Any, token: int) -> str:
    """How the vocabulary writes a token: `<0xE4>` of SentencePiece as it is, byte-level pieces as their bytes."""
    convert = getattr(tokenizer, "convert_ids_to_tokens", None) or getattr(tokenizer, "id_to_token", None)
    try:
        piece = convert(token) if convert else None
    except (LookupError, ValueError, OverflowError, TypeError):
        return ""
    if not isinstance(piece, str):
        return ""
    if all(c in _BYTES for c in piece):
        return bytes(_BYTES[c] for c in piece).decode("utf-8", "backslashreplace")
    return piece
