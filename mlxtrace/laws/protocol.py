"""What the laws use of a model: what experiments use, and the experiments themselves as a user calls them."""

from __future__ import annotations

from typing import Any, Protocol

from ..experiments.protocol import TracedModel


class ModelWithExperiments(TracedModel, Protocol):
    """A model whose experiments are measured; its class makes another such model of a module."""

    def __init__(self, model: Any, tokenizer: Any = None, dtype: Any = None) -> None: ...

    @property
    def layers(self) -> Any: ...

    def activation_patching(self, *args: Any, **options: Any) -> Any: ...

    def attribution_patching(self, *args: Any, **options: Any) -> Any: ...

    def causal_trace(self, *args: Any, **options: Any) -> Any: ...

    def causal_effects(self, *args: Any, **options: Any) -> Any: ...

    def noising_window(self, *args: Any, **options: Any) -> Any: ...

    def path_patching(self, *args: Any, **options: Any) -> Any: ...

    def edges(self, *args: Any, **options: Any) -> Any: ...
