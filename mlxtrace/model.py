"""InterpretableModel: load, tokenize, trace; one thin method per experiment.

model = InterpretableModel("demo")
with model.trace("The Eiffel Tower is located in the city of") as trace:
    h = model.layers[5].output.save()
    model.layers[8].mlp.output[:, 4] = h[:, 4]
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from . import blas
from .anatomy.resolver import ModuleResolver
from .arguments import as_integer
from .errors import InputError, LoadError, SiteAttributeError, TokenError
from .experiments.activation_patching import activation_patching
from .experiments.causal_effects import causal_effects
from .experiments.causal_trace import causal_trace
from .experiments.compare_bits import compare_bits
from .experiments.noising_window import noising_window
from .forward.activation import Activation
from .forward.cache import ActivationCache
from .forward.names import LayerList, SiteReference, child, part_names
from .forward.open_traces import current
from .forward.trace import Edit, Trace
from .loading import cast, dtype_of, load
from .text import prompt as prompts
from .text import tokens
from .text.prompt import Prompt, PromptLike

DEMO = Path(__file__).parent / "demo"


class InterpretableModel:
    """A language model of mlx-lm that can be traced, edited and patched.

    Args:
        model: "demo" (ships with the package), a local folder, a hub name, or a loaded `nn.Module`.
        tokenizer: for a loaded module; None if prompts will be token ids.
        dtype: "float32", "float16" or "bfloat16": cast the weights, and dequantize a quantized model. A module
            that is passed in is changed in place. The demo is stored in half precision and computed in
            float32 unless told otherwise.

    Raises LoadError when the model cannot be found, loaded or run.
    """

    def __init__(self, model: str | os.PathLike | nn.Module, tokenizer: Any = None, dtype: Any = None):
        target = dtype_of(dtype)
        if isinstance(model, nn.Module):
            net, self.name = model, type(model).__module__.rsplit(".", 1)[-1]
        elif isinstance(model, (str, os.PathLike)):
            name = os.fspath(model)
            if name == "demo":
                target = target or mx.float32
            net, loaded = load(str(DEMO) if name == "demo" else name)
            tokenizer, self.name = tokenizer or loaded, name
        else:
            raise LoadError(f"a model is a name, a folder or an mlx module, not {type(model).__name__}")
        if tokenizer is not None and (isinstance(tokenizer, str) or not hasattr(tokenizer, "encode")):
            raise LoadError(
                f"a tokenizer encodes text; {type(tokenizer).__name__} does not (None: prompts are ids)"
            )
        if target is not None:
            net = cast(net, target)
        self.net, self.tokenizer = net, tokenizer
        self.resolver, self._seen = ModuleResolver(net), self._parts()
        blas.notice()

    # ---- facts about the model

    @property
    def _module_resolver(self) -> ModuleResolver:
        return self.resolver

    @property
    def n_layers(self) -> int:
        return self.resolver.n_layers

    @property
    def d_model(self) -> int:
        return self.resolver.structure.d_model

    @property
    def n_heads(self) -> int | None:
        """Query heads of the first attention layer; None where no mixer has heads."""
        return self.resolver.attention_heads()

    @property
    def n_kv_heads(self) -> int | None:
        """Key-value heads of the first attention layer; None where no mixer has heads."""
        return self.resolver.attention_heads(kv=True)

    @property
    def vocab_size(self) -> int:
        return self.resolver.structure.vocab_size

    @property
    def is_quantized(self) -> bool:
        return any(hasattr(m, "bits") and "scales" in m for _, m in self.net.named_modules())

    # ---- text

    def encode(self, text: str) -> list[int]:
        """Token ids as the model sees a prompt, special tokens included."""
        return tokens.encode(self.tokenizer, text)

    def decode(self, ids: Any) -> str:
        """The text of token ids, special tokens included."""
        return tokens.decode(self.tokenizer, self._known(ids))

    def prompt(self, prompt: PromptLike, subject: Any = None) -> Prompt:
        """Read a prompt once: a `Prompt`, which prints as a table and is taken wherever a prompt is.

        Args:
            prompt: text, token ids (a list, or an array [T] or [1, T]), or a `Prompt`, which is checked and passes.
            subject: text that occurs in it (the first occurrence counts), or consecutive positions.

        Raises TokenError, SubjectError or PositionError when there is none, or the model has no room for it.
        """
        self._renew()
        read = self.receipt(prompt, subject)
        self._check_length(len(read))
        return read

    def ids(self, prompt: PromptLike) -> list[int]:
        """The ids of one prompt, checked against the vocabulary and the longest prompt that the model has room for."""
        self._renew()
        ids = self._known(prompt)
        self._check_length(len(ids))
        return ids

    def _check_length(self, length: int) -> None:
        limit = self.resolver.structure.max_length
        if limit is not None and length > limit:
            raise TokenError(
                f"the prompt has {length} tokens, but the model has embeddings for {limit} positions only: shorten it"
            )

    def _known(self, prompt: PromptLike) -> list[int]:
        """The ids of one prompt of any length, each of which has an embedding."""
        if isinstance(prompt, Prompt):
            prompts.check_reader(prompt, self.tokenizer)
            prompt = prompt.ids
        return tokens.as_ids(self.tokenizer, prompt, self._rows())

    def _rows(self) -> int:
        """The number of token ids that have an embedding."""
        rows = getattr(self.resolver.get_embedding_layer().get("weight"), "shape", (self.vocab_size,))[0]
        return min(rows, self.vocab_size)

    def _renew(self) -> None:
        """Look at the model anew when its modules or arrays are others than before (quantized, say, or cast)."""
        before, self._seen = self._seen, self._parts()
        if before[0] != self._seen[0]:
            with contextlib.suppress(LoadError):  # one that cannot be probed says why when it is run
                made = ModuleResolver(self.net)
                self.resolver = made if made.structure else self.resolver
        elif before[1] != self._seen[1]:
            self.resolver.measured.clear()

    def _parts(self) -> tuple[list, list]:
        """What tells the model's modules and arrays from others, without reading any weights."""
        modules = [id(m) for _, m in self.net.named_modules()]
        return modules, [(id(x), str(x.dtype), x.shape) for _, x in tree_flatten(self.net.parameters())]

    def to_tokens(self, prompt: PromptLike) -> mx.array:
        """The ids as an array `[1, T]`."""
        return mx.array([self.ids(prompt)])

    def to_str_tokens(self, prompt: PromptLike) -> list[str]:
        """The text of each token; together they are the decoded prompt."""
        ids = self._known(prompt)
        return (
            list(prompt.tokens) if isinstance(prompt, Prompt) else tokens.to_str_tokens(self.tokenizer, ids)
        )

    def token_to_str(self, token: int) -> str:
        """The text of one token, a leading space kept."""
        token = as_integer(token) if as_integer(token) is not None else token
        text = tokens.token_to_str(self.tokenizer, token)
        self._known([token])
        return text

    def answer_token(self, answer: str | int, prompt: PromptLike | None = None) -> int:
        """The one token that an answer starts with after a prompt; TokenError if ambiguous."""
        if prompt is None or isinstance(prompt, str):
            return tokens.answer_token(self.tokenizer, answer, prompt, self.vocab_size)
        return self.receipt(prompt).answer_token(answer, self.vocab_size)

    def subject_range(self, prompt: PromptLike, subject: Any) -> range:
        """The token positions of the subject; SubjectError when it is not in the prompt."""
        return self.receipt(prompt).find(subject)

    def receipt(self, prompt: PromptLike, subject: Any = None) -> Prompt:
        """A prompt of any length: ids, texts, positions, special tokens, the subject; prints as a table."""
        if not isinstance(prompt, Prompt):
            return prompts.read(self.tokenizer, prompt, subject, self._rows())
        self._known(prompt)
        return prompt if subject is None else prompt.with_subject(subject)

    # ---- tracing

    def trace(
        self,
        prompt: PromptLike | None = None,
        interventions: Mapping[str, Edit] | None = None,
        cache: bool = True,
    ) -> Trace:
        """One forward pass, run while the `with` block reads and edits it.

        Args:
            prompt: text, ids, or an array `[B, T]` of ids; None when only `trace.invoke` is used.
            interventions: `{site name: function array -> array}`.
            cache: keep every activation, for `trace.activations` and for reading sites that have gone by.
        """
        if prompt is None and interventions:
            raise InputError(
                "interventions need a prompt; with trace.invoke(prompt, interventions=...) give them there"
            )
        batch = None if prompt is None else self._batch(prompt)
        return Trace(self.resolver, batch, self._batch, interventions, cache)

    def run_with_cache(
        self, prompt: PromptLike, sites: list[str] | None = None
    ) -> tuple[mx.array, ActivationCache]:
        """Logits `[B, T, V]` and the activations, of all sites or of those named."""
        if isinstance(sites, str):
            sites = [sites]
        with Trace(self.resolver, self._batch(prompt), self._batch, sites=sites) as trace:
            pass
        return trace.output, trace.activations

    # ---- experiments, each with its page in `patching`

    activation_patching = activation_patching
    causal_trace = causal_trace
    causal_effects = causal_effects
    noising_window = noising_window
    compare_bits = compare_bits

    def _batch(self, prompt: Any) -> mx.array:
        if isinstance(prompt, mx.array) and prompt.ndim == 2 and prompt.shape[0] > 1:
            return mx.array([self.ids(row) for row in prompt])
        return self.to_tokens(prompt)

    @property
    def output(self) -> Activation:
        """Inside a trace: the logits `[B, T, V]`, editable."""
        return current(self.net).read(self.resolver.site("logits"))

    @output.setter
    def output(self, value: mx.array) -> None:
        current(self.net).write(self.resolver.site("logits"), value)

    @property
    def layers(self) -> LayerList:
        """The layers in the order in which they run, to be traced: `model.layers[3].mlp.output`."""
        return LayerList(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "resolver" not in self.__dict__:
            raise AttributeError(name)
        if name in ("embed", "norm", "logits"):
            return SiteReference(self, self.resolver.site(name))
        return child(self, "", name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *part_names(self)})

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in vars(self) or hasattr(type(self), name) or name.startswith("_")
        if "resolver" in vars(self) and not known:
            raise SiteAttributeError(
                f"assign to model.output, or to .output of a part of the model, not to model.{name}"
            )
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        size = "quantized" if self.is_quantized else "float"
        return f"InterpretableModel({self.name!r}: {self.n_layers} layers, width {self.d_model}, {size})"
