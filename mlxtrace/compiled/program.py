"""A compiled program: its model, its tokenizer, prompts that it answers, and the interpreter of its rules."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .interpreter import Interpreter
from .llama_weights import llama
from .rules import Rules
from .tokenizer import word_tokenizer
from .weights import gpt2

ARCHITECTURES = {"gpt2": gpt2, "llama": llama}


@dataclass(frozen=True, eq=False)
class Program:
    """A program with known answers.

    Attributes:
        name: "lookup" or "induction".
        rules: what each head and each neuron does.
        architecture: "gpt2" or "llama", of mlx-lm.
        pairs: clean and corrupted prompts of one length with their answers (`mlxtrace.prompts.Pair`s).

    Example:
        >>> from mlxtrace import InterpretableModel, compiled
        >>> program = compiled.lookup(seed=3)
        >>> model = InterpretableModel(program)
        >>> pair = program.pairs[0]
        >>> found = model.activation_patching(pair, component="resid_post", metric="logit_diff", progress=False)
        >>> bool(found.raw[-1] == found.clean)
        True
    """

    name: str
    rules: Rules
    pairs: tuple[Any, ...]
    architecture: str = "gpt2"

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise InputError(f"architecture={self.architecture!r} is none of {', '.join(ARCHITECTURES)}")

    @functools.cached_property
    def net(self) -> Any:
        """The rules as a model of mlx-lm, in float32."""
        return ARCHITECTURES[self.architecture](self.rules)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """A token to a word."""
        return word_tokenizer(self.rules.words)

    @functools.cached_property
    def interpreter(self) -> Interpreter:
        """The rules followed without weights."""
        return Interpreter(self.rules)
