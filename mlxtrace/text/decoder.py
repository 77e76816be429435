"""What mlx-lm is given as a tokenizer where a model has none, or one that only encodes and decodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Decoding(Protocol):
    """A model that decodes, with its tokenizer or without one."""

    tokenizer: Any

    def decode(self, ids: Any) -> str: ...


class Decoder:
    """What mlx-lm asks of a tokenizer to make text of tokens: no stop tokens, no chat template.

    Args:
        decode: ids -> text.
    """

    eos_token_id = chat_template = bos_token = None

    def __init__(self, decode: Callable[[list[int]], str]):
        self.decode = decode

    def encode(self, text: str, **_: Any) -> list[int]:
        """A token that is always there: mlx-lm only looks how it decodes."""
        return [0]

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """There is none; mlx-lm looks at what it could be given."""
        raise NotImplementedError("there is no chat template")

    def get_vocab(self) -> dict[str, int]:
        """No names are known."""
        return {}


def tokenizer_for(model: Decoding) -> Any:
    """The model's tokenizer, if mlx-lm takes it, else one that decodes as the model does."""
    tokenizer = model.tokenizer
    if tokenizer is not None and hasattr(tokenizer, "eos_token_id") and hasattr(tokenizer, "chat_template"):
        return tokenizer
    return Decoder(model.decode)
