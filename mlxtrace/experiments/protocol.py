"""What experiments use of a model: any object with these can be traced and patched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from ..anatomy.resolver import ModuleResolver
from ..forward.cache import ActivationCache
from ..forward.trace import Trace
from ..text.prompt import Prompt, PromptLike

__all__ = ["Prompt", "PromptLike", "TracedModel"]


class TracedModel(Protocol):
    """A model whose text is read, and whose passes are run, for an experiment."""

    name: str
    net: nn.Module
    tokenizer: Any
    resolver: ModuleResolver

    def __init__(self, model: Any, tokenizer: Any = None) -> None: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def d_model(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def is_quantized(self) -> bool: ...

    def prompt(self, prompt: Any, subject: Any = None) -> Prompt: ...

    def ids(self, prompt: Any) -> list[int]: ...

    def to_str_tokens(self, prompt: Any) -> list[str]: ...

    def token_to_str(self, token: int) -> str: ...

    def answer_token(self, answer: str | int, prompt: Any = None) -> int: ...

    def answer_tokens(self, answer: Any, prompt: Any = None) -> tuple[int, ...]: ...

    def generate(self, prompt: Any, max_tokens: int = 50, **options: Any) -> Any: ...

    def subject_range(self, prompt: Any, subject: Any) -> range: ...

    def trace(
        self, prompt: Any = None, interventions: Mapping | None = None, cache: bool = True
    ) -> Trace: ...

    def run_with_cache(
        self, prompt: Any, sites: list[str] | None = None
    ) -> tuple[mx.array, ActivationCache]: ...
