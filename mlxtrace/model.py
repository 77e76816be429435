"""InterpretableModel: load, tokenize, trace; one thin method per experiment.

model = InterpretableModel("demo")
with model.trace("The Eiffel Tower is located in the city of") as trace:
    h = model.layers[5].output.save()
    model.layers[8].mlp.output[:, 4] = h[:, 4]
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import blas, tokens
from .activation import Activation
from .cache import ActivationCache
from .errors import InputError, LoadError, PositionError, SiteAttributeError, closest
from .resolver import COMPONENTS, ModuleResolver, Site
from .trace import Edit, Trace, current

DEMO = Path(__file__).parent / "demo"
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


class InterpretableModel:
    """A language model of mlx-lm that can be traced, edited and patched.

    Args:
        model: "demo" (ships with the package), a local folder, a hub name, or a loaded `nn.Module`.
        tokenizer: for a loaded module; None if prompts will be token ids.
        dtype: "float32", "float16" or "bfloat16": cast the weights, and dequantize a quantized model.
            The demo is stored in half precision and computed in float32 unless told otherwise.

    Raises LoadError when the model cannot be found, loaded or run.
    """

    def __init__(self, model: str | os.PathLike | nn.Module, tokenizer: Any = None, dtype: Any = None):
        target = _dtype(dtype)
        blas.notice()
        if isinstance(model, nn.Module):
            net, self.name = model, type(model).__module__.rsplit(".", 1)[-1]
        elif isinstance(model, (str, os.PathLike)):
            name = os.fspath(model)
            if name == "demo":
                target = target or mx.float32
            net, loaded = _load(str(DEMO) if name == "demo" else name)
            tokenizer, self.name = tokenizer or loaded, name
        else:
            raise LoadError(f"a model is a name, a folder or an mlx module, not {type(model).__name__}")
        if target is not None:
            net = _cast(net, target)
        self.net, self.tokenizer = net, tokenizer
        self.resolver = ModuleResolver(net)

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
        """Query heads of the first layer that has any; None where no mixer says."""
        return self._first_heads(kv=False)

    @property
    def n_kv_heads(self) -> int | None:
        """Key-value heads of the first layer that has any."""
        return self._first_heads(kv=True)

    def _first_heads(self, kv: bool) -> int | None:
        found = (self.resolver.n_heads(i, kv) for i in range(self.n_layers))
        return next((n for n in found if n), None)

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
        return tokens.decode(self.tokenizer, self.ids(ids))

    def ids(self, prompt: str | mx.array | list[int]) -> list[int]:
        """The ids of one prompt, checked against the vocabulary."""
        return tokens.as_ids(self.tokenizer, prompt, self.vocab_size)

    def to_tokens(self, prompt: str | mx.array | list[int]) -> mx.array:
        """The ids as an array `[1, T]`."""
        return mx.array([self.ids(prompt)])

    def to_str_tokens(self, prompt: str | mx.array | list[int]) -> list[str]:
        return tokens.to_str_tokens(self.tokenizer, self.ids(prompt))

    def token_to_str(self, token: int) -> str:
        return tokens.token_to_str(self.tokenizer, self.ids([token])[0])

    def answer_token(self, answer: str | int, prompt: str | None = None) -> int:
        """The one token that an answer starts with after a prompt; TokenError if ambiguous."""
        prompt = prompt if isinstance(prompt, str) else None
        return tokens.answer_token(self.tokenizer, answer, prompt, self.vocab_size)

    def subject_range(self, prompt: str | mx.array | list[int], subject: Any) -> range:
        """The token positions of the subject; SubjectError when it is not in the prompt."""
        return tokens.subject_range(self.tokenizer, prompt, subject, self.ids(prompt))

    def receipt(self, prompt: str | mx.array | list[int], subject: Any = None) -> tokens.Receipt:
        """What was tokenized: ids, texts, positions, special tokens and the subject; prints as a table."""
        self.ids(prompt)
        return tokens.receipt(self.tokenizer, prompt, subject)

    # ---- tracing

    def trace(
        self,
        prompt: str | mx.array | list[int] | None = None,
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
        self, prompt: str | mx.array | list[int], sites: list[str] | None = None
    ) -> tuple[mx.array, ActivationCache]:
        """Logits `[B, T, V]` and the activations, of all sites or of those named."""
        if isinstance(sites, str):
            sites = [sites]
        with Trace(self.resolver, self._batch(prompt), self._batch, sites=sites) as trace:
            pass
        return trace.output, trace.activations

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
        return _child(self, "", name)

    def __repr__(self) -> str:
        size = "quantized" if self.is_quantized else "float"
        return f"InterpretableModel({self.name!r}: {self.n_layers} layers, width {self.d_model}, {size})"


class ModuleReference:
    """A module by its path, to be traced: `.output`, `.input`, submodules and canonical sites."""

    def __init__(self, model: InterpretableModel, path: str, visit: int = 0, layer: int | None = None):
        self._model, self._path, self._visit, self._layer = model, path, visit, layer

    @property
    def module(self) -> nn.Module:
        """The mlx module itself."""
        return self._model.resolver.paths[self._path]

    def _output_site(self) -> Site:
        path = self._model.resolver.first_path(self._path)
        return Site(path or "logits", path, visit=self._visit)

    @property
    def output(self) -> Activation:
        """Inside a trace: what the module returns, `[B, T, ...]`, editable."""
        return current(self._model.net).read(self._output_site())

    @output.setter
    def output(self, value: mx.array) -> None:
        current(self._model.net).write(self._output_site(), value)

    @property
    def input(self) -> Activation:
        """Inside a trace: what the module is given, `[B, T, ...]`, editable."""
        return current(self._model.net).read(self._model.resolver.input_site(self._path, self._visit))

    @input.setter
    def input(self, value: mx.array) -> None:
        current(self._model.net).write(self._model.resolver.input_site(self._path, self._visit), value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _child(self._model, self._path, name, self._visit, self._layer)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in ("output", "input"):
            raise SiteAttributeError(f"assign to .output or .input of {self._path}, not to .{name}")
        object.__setattr__(self, name, value)

    def __getitem__(self, index: int) -> Any:
        return _child(self._model, self._path, str(index))

    def __repr__(self) -> str:
        return f"<{self._path or 'model'}: {type(self.module).__name__}>"


class SiteReference:
    """A canonical site, to be traced: `model.layers[3].resid_mid.output`."""

    def __init__(self, model: InterpretableModel, site: Site):
        self._model, self._site = model, site

    @property
    def output(self) -> Activation:
        """Inside a trace: the site's array, editable."""
        return current(self._model.net).read(self._site)

    @output.setter
    def output(self, value: mx.array) -> None:
        current(self._model.net).write(self._site, value)

    def __repr__(self) -> str:
        return f"<site {self._site.name}>"


class ModuleList:
    """A list of modules inside the model: index it, iterate it, take its length."""

    def __init__(self, items: list[Any], name: str):
        self._items, self._name = items, name

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._items[index]
        try:
            return self._items[index]
        except IndexError:
            raise PositionError(
                f"{self._name}[{index}] does not exist: they are numbered 0 to {len(self._items) - 1}"
            ) from None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<{self._name}: {len(self._items)} modules>"


class LayerList(ModuleList):
    """The layers as they run; a stack that is run twice counts twice."""

    def __init__(self, model: InterpretableModel):
        layers = model.resolver.structure.layers
        super().__init__([ModuleReference(model, x.path, x.visit, i) for i, x in enumerate(layers)], "layers")


def _child(model: InterpretableModel, path: str, name: str, visit: int = 0, layer: int | None = None) -> Any:
    """What `reference.name` means: a submodule, a list of them, a canonical site, or a plain attribute."""
    paths = model.resolver.paths
    inner = f"{path}.{name}" if path else name
    if inner in paths:
        return ModuleReference(model, inner, visit)
    if layer is not None and name in (*COMPONENTS, "self_attn"):
        return SiteReference(model, model.resolver.site(name, layer))
    try:
        value = getattr(paths[path], name)
    except AttributeError:
        begin = path + "." if path else ""
        inside = {p[len(begin) :].split(".")[0] for p in paths if p.startswith(begin) and p != path}
        raise SiteAttributeError(
            f"{path or model.name} has no {name!r}; {closest(name, [*inside, *(COMPONENTS if layer is not None else ())])}"
        ) from None
    if isinstance(value, list) and value and all(isinstance(m, nn.Module) for m in value):
        known = {id(m): i for i, m in enumerate(model.resolver.get_layers())} if value else {}
        items = [ModuleReference(model, f"{inner}.{i}", 0, known.get(id(m))) for i, m in enumerate(value)]
        return ModuleList(items, inner)
    if isinstance(value, nn.Module):
        return ModuleReference(model, model.resolver.path_of(value), visit)
    return value


# ---- loading


def _dtype(dtype: Any) -> mx.Dtype | None:
    if dtype is None or dtype in DTYPES.values():
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _cast(net: nn.Module, dtype: mx.Dtype) -> nn.Module:
    from mlx_lm.utils import dequantize_model

    net = dequantize_model(net)
    net.set_dtype(dtype)
    mx.eval(net.parameters())
    return net


def _load(name: str) -> tuple[nn.Module, Any]:
    folder = Path(name).expanduser()
    if not name.strip():
        raise LoadError('the model\'s name is empty: give "demo", a folder, or a hub name')
    looks_local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_local and not folder.is_dir():
        hint = "; a hub name has the form owner/name" if not folder.exists() else " (it is a file)"
        raise LoadError(f'no model folder {name!r}{hint}; the bundled model is called "demo"')
    if looks_local and not (folder / "config.json").is_file():
        raise LoadError(f"{name} holds no config.json: expected a model folder that mlx_lm.load reads")
    import mlx_lm

    try:
        return mlx_lm.load(str(folder) if looks_local else name)[:2]
    except Exception as error:
        raise LoadError(f"{_why(name, looks_local, error)}") from error


def _why(name: str, local: bool, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if local:
        return f"mlx_lm cannot load the folder {name}: {kind}: {text}"
    offline = (
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
    )
    if kind in offline:
        return f"cannot load {name!r}: it is not in the local cache and the hub cannot be reached ({kind})"
    if kind in ("RepositoryNotFoundError", "GatedRepoError"):
        return f"cannot load {name!r}: the hub has no such model, or it needs a login ({kind})"
    return f"cannot load {name!r}: {kind}: {text}"
