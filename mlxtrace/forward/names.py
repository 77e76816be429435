"""What attribute paths of a model mean: modules and canonical sites, to be read and edited in a trace.

    model.layers[3].self_attn.o_proj.input      model.layers[3].resid_mid.output      model.lm_head.output

References hold a path and a model, and nothing of the pass: they can be kept, compared and copied. `dir()` of each
is what IPython and Jupyter complete; what an editor completes is written down in the classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, overload

import mlx.core as mx
import mlx.nn as nn

from ..anatomy.components import ALIASES, COMPONENTS
from ..anatomy.resolver import ModuleResolver, Site
from ..errors import EditError, InputError, MlxtraceError, PositionError, SiteAttributeError, closest
from .activation import Activation
from .open_traces import current
from .other_names import METHODS


class NamedModel(Protocol):
    """What is used of a model to name its parts: any object with these will do."""

    name: str
    net: nn.Module
    resolver: ModuleResolver


class Reference:
    """What is edited by assigning to its `.output`, and by nothing else: a misspelt edit must not vanish."""

    EDITED = ("output",)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self.EDITED:
            words = " or ".join(f".{x}" for x in self.EDITED)
            raise SiteAttributeError(f"assign to {words} of {self!r}, not to .{name}")
        object.__setattr__(self, name, value)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise EditError(f"{self!r} is not the array itself: write .output[...] = value")


class ModuleReference(Reference):
    """A module by its path, to be traced: `.output`, `.input`, submodules and canonical sites."""

    EDITED = ("output", "input")

    def __init__(self, model: NamedModel, path: str, visit: int = 0, layer: int | None = None):
        self._model, self._path, self._visit, self._layer = model, path, visit, layer

    @property
    def module(self) -> nn.Module:
        """The mlx module itself."""
        return self._model.resolver.paths[self._path]

    def _output_site(self) -> Site:
        return self._model.resolver.module_site(self._path, visit=self._visit)

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
        if name.startswith("_"):  # also while a copy is being made, before there is a _model
            raise AttributeError(name)
        return child(self._model, self._path, name, self._visit, self._layer)

    def __getitem__(self, index: int) -> Any:
        return child(self._model, self._path, str(index), self._visit)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *part_names(self._model, self._path, self._layer)})

    def __repr__(self) -> str:
        return f"<{self._path or 'model'}: {type(self.module).__name__}>"


class SiteReference(Reference):
    """A canonical site, to be traced: `model.layers[3].resid_mid.output`.

    Its array has the shape of its component: `[B, T, D]` for the residual stream, attention and MLP outputs,
    `[B, T, heads, width]` for `head`, `q`, `k` and `v`, `[B, heads, T, T]` for `pattern`. In a trace of prompts of
    several lengths it is a `Groups` of such arrays, as of every module.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> model.layers[3].resid_mid
        <site layers.3.resid_mid>
        >>> with model.trace("The Eiffel Tower is in the city of") as trace:
        ...     stream = model.layers[3].resid_mid.output.save()
        >>> stream.shape[-1] == model.d_model
        True
    """

    def __init__(self, model: NamedModel, site: Site):
        self._model, self._site = model, site

    @property
    def output(self) -> Activation:
        """Inside a trace: the site's array, editable."""
        return current(self._model.net).read(self._site)

    @output.setter
    def output(self, value: mx.array) -> None:
        current(self._model.net).write(self._site, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while a copy is being made, before there is a _site
            raise AttributeError(name)
        parts = f"; it is made of {', '.join(self._site.modules)}" if self._site.modules else ""
        raise SiteAttributeError(f"{self!r} has .output only, no .{name}{parts}")

    def __repr__(self) -> str:
        return f"<site {self._site.name}>"


class LayerReference(ModuleReference):
    """A layer as `model.layers[i]` gives it: where an MLP is several modules, its `mlp` is all of them."""

    # For editors: what most models have. `dir(layer)` has what this model has.
    resid_pre: SiteReference
    attn: SiteReference
    resid_mid: SiteReference
    mlp: SiteReference
    resid_post: SiteReference

    def __getattr__(self, name: str) -> Any:
        if name == "mlp" and self._has_several_mlps():
            return SiteReference(self._model, self._model.resolver.site("mlp", self._layer))
        if name == "router":  # a module of that name may hold the one whose output are the logits
            site = self._model.resolver.table.get(f"layers.{self._layer}.router")
            if site is not None and site.path != f"{self._path}.router":
                return SiteReference(self._model, site)
        return super().__getattr__(name)

    def _has_several_mlps(self) -> bool:
        return self._layer is not None and len(self._model.resolver.layer(self._layer).mlps) > 1


class ModuleList:
    """A list of modules inside the model: index it, iterate it, take its length."""

    def __init__(self, items: list[Any], name: str):
        self._items, self._name = items, name

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._items[index]
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise InputError(f"{self._name} are numbered: {self._name}[0], not [{index!r}]")
        try:
            return self._items[index]
        except IndexError:
            raise PositionError(
                f"{self._name}[{index}] does not exist: they are numbered 0 to {len(self._items) - 1}"
            ) from None

    def __setitem__(self, index: Any, value: Any) -> None:
        raise EditError(f"{self._name}[{index!r}] is a module: assign to its .output or .input")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<{self._name}: {len(self._items)} modules>"


class LayerList(ModuleList):
    """The layers as they run; a stack that is run twice counts twice.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> len(model.layers) == model.n_layers
        True
        >>> model.layers[3].mlp
        <model.layers.3.mlp: MLP>
    """

    def __init__(self, model: NamedModel):
        layers = model.resolver.structure.layers
        super().__init__([LayerReference(model, x.path, x.visit, i) for i, x in enumerate(layers)], "layers")

    @overload
    def __getitem__(self, index: int) -> LayerReference: ...

    @overload
    def __getitem__(self, index: slice) -> list[LayerReference]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[LayerReference]:
        return super().__iter__()


def submodules(model: NamedModel, path: str) -> set[str]:
    """The names of what is directly inside a module."""
    begin = path + "." if path else ""
    return {p[len(begin) :].split(".")[0] for p in model.resolver.paths if p.startswith(begin) and p != path}


def part_names(model: NamedModel, path: str = "", layer: int | None = None) -> set[str]:
    """What can be written after a module: its submodules, and the canonical sites that this model has there."""
    names = {name for name in submodules(model, path) if name.isidentifier()}
    begin = "" if layer is None else f"layers.{layer}."
    if layer is not None or not path:
        with contextlib.suppress(
            MlxtraceError
        ):  # a model that cannot be run has no sites, and completes all the same
            sites = [name[len(begin) :] for name in model.resolver.table if name.startswith(begin)]
            names.update(name for name in sites if "." not in name)
    return names


def child(model: NamedModel, path: str, name: str, visit: int = 0, layer: int | None = None) -> Any:
    """What `reference.name` means: a submodule, a list of them, a canonical site, or a plain attribute."""
    paths = model.resolver.paths
    inner = f"{path}.{name}" if path else name
    if inner in paths:
        return ModuleReference(model, inner, visit)
    if layer is not None and name in (*COMPONENTS, *ALIASES):
        return SiteReference(model, model.resolver.site(name, layer))
    try:
        value = getattr(paths[path], name)
    except AttributeError:
        if not path and name in METHODS:
            raise SiteAttributeError(f"an InterpretableModel has no {name!r}; here {METHODS[name]}") from None
        inside = submodules(model, path)
        sites = COMPONENTS if layer is not None else ("layers", "embed", "norm", "output") if not path else ()
        tied = ": its head is the embedding (tied), see `model.output`" if name == "lm_head" else ""
        raise SiteAttributeError(
            f"{path or model.name} has no {name!r}{tied}; {closest(name, [*inside, *sites])}"
        ) from None
    if isinstance(value, list) and value and all(isinstance(m, nn.Module) for m in value):
        known: dict[int, int] = {}
        for i, m in enumerate(model.resolver.get_layers()):
            known.setdefault(id(m), i)
        items = [ModuleReference(model, f"{inner}.{i}", visit, known.get(id(m))) for i, m in enumerate(value)]
        return ModuleList(items, inner)
    if isinstance(value, nn.Module):
        return ModuleReference(model, model.resolver.path_of(value), visit)
    return value
