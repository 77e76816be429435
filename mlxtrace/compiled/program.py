"""A compiled program: its model, its tokenizer, prompts that it answers, and the interpreter of its rules."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from . import weights
from .interpreter import Interpreter
from .rules import Rules
from .tokenizer import word_tokenizer


@dataclass(frozen=True, eq=False)
class Program:
    """A program with known answers.

    Attributes:
        name: "lookup" or "induction".
        rules: what each head and each neuron does.
        pairs: clean and corrupted prompts of one length with their answers (`mlxtrace.prompts.Pair`s).

    Example:
        >>> from mlxtrace import InterpretableModel, compiled
        >>> program = compiled.lookup(seed=3)
        >>> model = InterpretableModel(program)
        >>> pair = program.pairs[0]
        >>> found = model.activation_patching(pair, component="resid_post", metric="logit_diff", progress=False)
        >>> found.raw[-1] == found.clean
        True
    """

    name: str
    rules: Rules
    pairs: tuple[Any, ...]

    @functools.cached_property
    def net(self) -> Any:
        """The rules as a model: mlx-lm's `gpt2` in float32."""
        return weights.gpt2(self.rules)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """A token to a word."""
        return word_tokenizer(self.rules.words)

    @functools.cached_property
    def interpreter(self) -> Interpreter:
        """The rules followed without weights."""
        return Interpreter(self.rules)
