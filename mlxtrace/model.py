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
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import blas
from .anatomy.resolver import ModuleResolver, inventory
from .errors import InputError, LoadError, SiteAttributeError, UnsupportedError
from .experiments.activation_patching import activation_patching
from .experiments.attribution_patching import attribution_patching
from .experiments.causal_effects import causal_effects
from .experiments.causal_trace import causal_trace
from .experiments.circuits import circuit
from .experiments.compare_bits import compare_bits
from .experiments.directions import direction
from .experiments.edges import edges
from .experiments.logit_lens import logit_lens
from .experiments.noising_window import noising_window
from .experiments.patchscope import patchscope
from .experiments.patchscope_map import patchscope_map
from .experiments.path_patching import path_patching
from .experiments.screen import screen
from .forward.generation import generate
from .forward.group_trace import ActivationCache, Edit, Trace, trace_of
from .forward.names import Activation, LayerList, SiteReference, child, current, part_names
from .loading import Program, load_any
from .prompts.ranks import sharing
from .prompts.substitutes import substitutes
from .text.reader import Prompts, Reader


class InterpretableModel(Reader):
    """A language model of mlx-lm that can be traced, edited and patched.

    Args:
        model: "demo" or "induction" (they ship with the package), a local folder, a hub name, or a loaded
            `nn.Module`; "compiled" or "compiled-induction", whose answers are known, or any `compiled.Program`.
        tokenizer: For a loaded module; None if prompts will be token ids.
        dtype: "float32", "float16" or "bfloat16": cast the weights, and dequantize a quantized model. A module
            that is passed in is changed in place. The demo is stored in half precision and computed in
            float32 unless this says otherwise.
        adapter_path: A folder that `mlx_lm.lora` has written (LoRA, DoRA or full weights): they are put onto a
            model that is loaded by its name, as `mlx_lm.load` does, and its name says so.
        shard: True: mlx-lm shards the model over all the processes that `mlx.launch` has started, each of which reads
            its share; a number: over so many of them, and there is a model for each so many; or an
            `mx.distributed.Group`; "pipeline": each process reads whole layers, its share of them. All processes run
            the same program, and each gets the whole model's numbers.

    Raises:
        LoadError: The model cannot be found, loaded or run, or the adapters do not fit it.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> model
        InterpretableModel('demo': 12 layers, width 128, float)
        >>> with model.trace("The Eiffel Tower is located in the city of") as trace:
        ...     h = model.layers[5].output.save()
        ...     model.layers[8].mlp.output[:, 4] = h[:, 4]
        >>> h.shape, trace.output.shape == (1, 11, model.vocab_size)
        ((1, 11, 128), True)
    """

    def __init__(
        self,
        model: str | os.PathLike | nn.Module | Program,
        tokenizer: Any = None,
        dtype: Any = None,
        adapter_path: str | os.PathLike | None = None,
        shard: bool | int | str | mx.distributed.Group | None = None,
    ):
        group = sharing(shard)
        how = {"group": group, "pipeline": shard == "pipeline"}
        self.net, self.tokenizer, self.name = load_any(model, tokenizer, dtype, adapter_path, **how)
        self.resolver, self._seen = ModuleResolver(self.net), inventory(self.net)
        sharing(self.resolver.group)  # a module may come sharded
        blas.notice()

    # ---- facts about the model

    @property
    def _module_resolver(self) -> ModuleResolver:
        return self.resolver

    @property
    def n_layers(self) -> int:
        """The number of layers."""
        return self.resolver.n_layers

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""
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
        """The number of logits, which may be more than the tokenizer's tokens."""
        return self.resolver.structure.vocab_size

    @property
    def is_quantized(self) -> bool:
        """Whether any module has quantized weights."""
        return any(hasattr(m, "bits") and "scales" in m for _, m in self.net.named_modules())

    # ---- what it can read: the methods are those of `Reader`

    def _known_ids(self) -> int:
        return self.resolver.structure.known_ids

    def _longest(self) -> int | None:
        self._renew()
        return self.resolver.structure.max_length

    def _renew(self) -> None:
        """Look at the model anew when its modules or arrays are others than before (quantized, say, or cast)."""
        before, self._seen = self._seen, inventory(self.net)
        if before[0] != self._seen[0]:
            with contextlib.suppress(LoadError):  # one that cannot be probed says why when it is run
                self.resolver = ModuleResolver(self.net)
        elif before[1] != self._seen[1]:
            self.resolver.measured.clear()

    # ---- tracing

    def trace(
        self,
        prompt: Prompts | None = None,
        interventions: Mapping[str, Edit] | None = None,
        cache: bool = True,
    ) -> Trace:
        """One forward pass, run while the `with` block reads and edits it.

        Args:
            prompt: Text, ids, a `Prompt`, a chat's messages, or an array `[B, T]` of ids; None when only `trace.invoke`
                is used. Or a list of prompts: those of one length are the rows of a batch, as in an array `[B, T]`.
                Several lengths run in groups, a pass for each, and what the block asks for is a `Groups`: `h[i]` is
                prompt i's array, `h[:, -1]` the last token of each. Nothing is padded.
            interventions: `{site name: function array -> array}`; the functions are also in `interventions`.
            cache: Keep every activation, for `trace.activations` and for reading sites that have gone by.

        Returns:
            A `Trace`: `.output` the logits `[B, T, V]`, `.activations` an `ActivationCache`; by prompt where there are
            several lengths, `.output[i]` and `.activations[name][i]`.

        Raises:
            TokenError: The prompt is none. InputError: There are interventions without a prompt.
            SiteError: An intervention names no site.

        Example:
            >>> import mlx.core as mx
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> with model.trace("The Louvre is in", interventions={"layers.3.mlp": mx.zeros_like}) as trace:
            ...     attn = model.layers[3].attn.output.save()
            >>> attn.shape, float(trace.activations["layers.3.mlp"].max())
            ((1, 6, 128), 0.0)
            >>> with model.trace(["The Louvre is in", "The Eiffel Tower is in"]) as trace:
            ...     last = model.layers[5].output[:, -1].save()
            >>> last.shape, trace.output[0].shape == (6, model.vocab_size)
            ((2, 128), True)
        """
        if prompt is None and interventions:
            raise InputError(
                "interventions need a prompt; with trace.invoke(prompt, interventions=...) give them there"
            )
        batches = None if prompt is None else self._batches(prompt)
        return trace_of(self.resolver, batches, self.trace, interventions, cache)

    def run_with_cache(
        self, prompt: Prompts, sites: list[str] | None = None
    ) -> tuple[mx.array, ActivationCache]:
        """Run a prompt, and keep its activations.

        Args:
            prompt: Text, ids, a `Prompt`, or an array `[B, T]` of ids; or a list of prompts, as `trace` takes it.
            sites: The names of the sites to keep; None: all of them.

        Returns:
            The logits `[B, T, V]`, and an `ActivationCache`; by prompt where there are several lengths, `logits[i]` and
            `cache[name][i]`.

        Raises:
            TokenError: The prompt is none. SiteError: A name matches no site, or several.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> logits, cache = model.run_with_cache("The Louvre is in", sites=["layers.8.mlp"])
            >>> list(cache), cache["layers.8.mlp"].shape
            (['model.layers.8.mlp'], (1, 6, 128))
        """
        if isinstance(sites, str):
            sites = [sites]
        with trace_of(self.resolver, self._batches(prompt), self.trace, sites=sites) as trace:
            pass
        return trace.output, trace.activations

    generate = generate

    # ---- experiments, each with a file in `experiments`

    activation_patching = activation_patching
    attribution_patching = attribution_patching
    path_patching = path_patching
    causal_trace = causal_trace
    causal_effects = causal_effects
    noising_window = noising_window
    compare_bits = compare_bits
    screen = screen
    edges = edges
    circuit = circuit
    logit_lens = logit_lens
    patchscope = patchscope
    patchscope_map = patchscope_map
    substitutes = substitutes
    direction = direction

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

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise UnsupportedError(
            "an InterpretableModel is not called: model.run_with_cache(prompt) gives logits and activations, "
            "model.trace(prompt) reads and edits a pass, model.generate(prompt) gives text. mlx-lm's own functions "
            "take the network, mlx_lm.generate(model.net, model.tokenizer, ...)"
        )

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
