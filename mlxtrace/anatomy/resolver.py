"""Where each site is in any mlx-lm model, and the one vocabulary of names for it.

A name is a full dotted path (`model.layers.8.mlp`), any unique suffix of one (`layers.8.mlp`, `h.8.mlp`), or
a canonical site (`layers.8.resid_mid`, `embed`, `norm`, `logits`); `.input` or `.output` at its end picks a
side of the module. Anything else raises with the closest names.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import PositionError, SiteError, UnsupportedError, closest
from . import probe

COMPONENTS = (
    "resid_pre",
    "q",
    "k",
    "v",
    "pattern",
    "head",
    "attn",
    "resid_mid",
    "neuron",
    "mlp",
    "resid_post",
)
ALIASES = {"output": "resid_post", "self_attn": "attn"}
GLOBAL_SITES = ("embed", "norm", "logits")
HEAD_NAMES = ("n_heads", "num_attention_heads", "num_heads", "n_head", "num_v_heads")
KV_HEAD_NAMES = ("n_kv_heads", "num_key_value_heads", "num_kv_heads")


@dataclass(frozen=True)
class Site:
    """One array of a forward pass: a side of one module call, and how to look at it.

    Attributes:
        name: canonical name, or the module path (with `.input` for an input).
        path: the module whose call carries the array; '' is the model itself.
        side: 'input' or 'output' of that call; or 'q', 'k', 'v', 'pattern' of the attention call inside it.
        slot: which argument, for an input (None: the first array).
        visit: which call of the module within one pass, from 0.
        view: 'whole'; 'heads' (last axis split by head); 'middle' (residual stream after the mixer); 'sum' (of
            the outputs of several modules that write together, at the last of them).
        layer, component: for canonical sites.
        heads: number of heads of a 'heads' view.
        bases: for 'middle' the site that is added to, for 'sum' the other modules' outputs.
        modules: for an MLP of several modules, the paths of all of them.
    """

    name: str
    path: str
    side: str = "output"
    slot: int | str | None = None
    visit: int = 0
    view: str = "whole"
    layer: int | None = None
    component: str | None = None
    heads: int = 0
    bases: tuple[Site, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def port(self) -> tuple[str, str, int]:
        """The event of a pass in which the array can be read and replaced."""
        return self.path, self.side, self.visit

    def base(self, passed: Callable[[Site], mx.array]) -> mx.array | None:
        """What the array at the port is added to, from what passed at the `bases`; None where there are none."""
        parts = [passed(site) for site in self.bases]
        return sum(parts[1:], parts[0]) if parts else None

    def get(self, x: mx.array, base: mx.array | None = None) -> mx.array:
        """The site's array from what passes at its port."""
        if self.view == "heads":
            return x.reshape(*x.shape[:-1], self.heads, -1)
        return base + x if self.bases else x

    def put(self, x: mx.array, value: mx.array, base: mx.array | None = None) -> mx.array:
        """What must pass at the port so that the site's array becomes `value`.

        For the middle of the stream the mixer's contribution takes up the difference, for a sum the last module's
        output. What was not changed goes on bit for bit, and zeros are zeros; other values to a rounding of
        `base + (value - base)`.
        """
        if self.view == "heads":
            return value.reshape(x.shape)
        if self.bases:
            before = base + x
            return mx.where(value == before, x + (value - before), value - base)
        return value


def _heads_of(holder: object, kv: bool) -> int | None:
    values = (getattr(holder, name, None) for name in (*(KV_HEAD_NAMES if kv else ()), *HEAD_NAMES))
    return next((v for v in values if isinstance(v, int) and v > 0), None)


class ModuleResolver:
    """Finds embedding, layers, norm, head and every site of a model (see `structure.probe`)."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.paths = probe.module_paths(net)
        self._first_path = {}
        for path, module in self.paths.items():
            self._first_path.setdefault(id(module), path)
        self._layer_modules = probe.find_layers(net)
        self.measured: dict[
            Hashable, Any
        ] = {}  # what was measured of this model once, while its weights stay

    @functools.cached_property
    def structure(self) -> probe.Structure:
        return probe.probe(self.net)

    def get_layers(self) -> list[nn.Module]:
        """The layer modules, in the order in which they run."""
        return [self.paths[layer.path] for layer in self.structure.layers]

    def get_embedding_layer(self) -> nn.Module:
        """The module that embeds the tokens (possibly quantized)."""
        return self.paths[self.structure.embed]

    def get_final_norm(self) -> nn.Module:
        """The norm between the last layer and the head."""
        if self.structure.norm is None:
            raise UnsupportedError("no single module follows the last layer, so there is no final norm")
        return self.paths[self.structure.norm]

    @functools.cached_property
    def n_layers(self) -> int:
        return len(self.structure.layers)

    def layer(self, index: int) -> probe.Layer:
        """What the probe found of one layer; PositionError when there is no such layer."""
        if not -self.n_layers <= index < self.n_layers:
            raise PositionError(
                f"layer {index} does not exist: this model has layers 0 to {self.n_layers - 1}"
            )
        return self.structure.layers[index]

    def first_path(self, path: str) -> str:
        """The one path under which a module is known when it can be reached by several."""
        return self._first_path[id(self.paths[path])]

    def path_of(self, module: nn.Module) -> str:
        """The dotted path of a module of this model."""
        return self._first_path[id(module)]

    # ---- what a pass needs, once per model

    @functools.cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Every module once, under its first path; the model itself is ''."""
        return {path: m for path, m in self.paths.items() if self._first_path[id(m)] == path}

    @functools.cached_property
    def slots(self) -> dict[str, int | str]:
        """Which argument of a layer's call is the hidden state, where that is known."""
        return {layer.path: layer.slot for layer in self.structure.layers if layer.slot is not None}

    @functools.cached_property
    def attends(self) -> frozenset[str]:
        """The modules that make a layer's attention call."""
        return frozenset(layer.attention for layer in self.structure.layers if layer.attention)

    @functools.cached_property
    def ports(self) -> frozenset[tuple[str, str, int]]:
        """The ports of all canonical sites, with those that they are reckoned from."""
        return frozenset(site.port for site in self.table.values()) | self.bases

    @functools.cached_property
    def bases(self) -> frozenset[tuple[str, str, int]]:
        """The ports that a middle of the residual stream, or a sum, is reckoned from."""
        return frozenset(base.port for site in self.table.values() for base in site.bases)

    def visits(self, site: Site) -> int:
        """How often a pass calls the site's module."""
        return self.structure.visits.get(site.path, 0)

    # ---- canonical sites

    def site(self, component: str, layer: int | None = None) -> Site:
        """The canonical site of a component, at a layer unless it is embed, norm or logits.

        Raises:
            SiteError: unknown component. UnsupportedError: this architecture has no such site there.
        """
        component = ALIASES.get(component, component)
        if component in GLOBAL_SITES:
            return self._global_site(component)
        if component not in COMPONENTS:
            raise SiteError(
                f"unknown component {component!r}; {closest(component, [*COMPONENTS, *ALIASES])}"
                f" (all: {', '.join(COMPONENTS)})"
            )
        if layer is None or isinstance(layer, bool) or not hasattr(layer, "__index__"):
            raise SiteError(f"{component!r} needs a layer: 'layers.0.{component}' and so on")
        info = self.layer(layer)
        layer = operator.index(layer) % self.n_layers
        make = functools.partial(
            Site, f"layers.{layer}.{component}", visit=info.visit, layer=layer, component=component
        )
        return getattr(self, f"_{component}")(info, layer, make)

    def _refuse(self, layer: int, component: str, why: str) -> UnsupportedError:
        name = probe.unwrapped_name(self.net)
        return UnsupportedError(f"layers.{layer}.{component} does not exist in this {name} model: {why}")

    def _resid_pre(self, info, layer, make) -> Site:
        if info.slot is None:
            raise self._refuse(layer, "resid_pre", info.no_mid)
        return make(path=info.path, side="input", slot=info.slot)

    def _resid_post(self, info, layer, make) -> Site:
        if info.slot is None:
            raise self._refuse(layer, "resid_post", info.no_mid)
        return make(path=info.path)

    def _resid_mid(self, info, layer, make) -> Site:
        if info.added is None:
            raise self._refuse(layer, "resid_mid", info.no_mid)
        return make(path=info.added, view="middle", bases=(self.site("resid_pre", layer),))

    def _single(self, layer: int, component: str, paths: tuple[str, ...]) -> str:
        if len(paths) == 1:
            return paths[0]
        if not paths:
            called = self.layer(layer).slot is not None
            raise self._refuse(
                layer, component, "this layer has none" if called else self.layer(layer).no_mid
            )
        why = self.layer(layer).no_mlp if component == "mlp" else "this layer has several"
        raise self._refuse(layer, component, f"{why}; name one of {', '.join(paths)}")

    def _attn(self, info, layer, make) -> Site:
        return make(path=self._single(layer, "attn", info.mixers))

    def _mlp(self, info, layer, make) -> Site:
        if len(info.mlps) < 2 or not info.summed:
            return make(path=self._single(layer, "mlp", info.mlps))
        *others, last = info.summed
        bases = tuple(Site(path, path, visit=info.visit) for path in others)
        return make(path=last, view="sum" if bases else "whole", bases=bases, modules=info.mlps)

    def _head(self, info, layer, make) -> Site:
        self._single(layer, "head", info.mixers)
        if info.out_proj is None:
            raise self._refuse(layer, "head", "the mixer does not end in one output projection")
        heads = self.n_heads(layer)
        if not heads:
            raise self._refuse(layer, "head", "the mixer does not say how many heads it has")
        if info.split is not None and info.split != heads:
            raise self._refuse(
                layer,
                "head",
                "what is projected mixes the heads, so that no slice of it is one head"
                if not info.split
                else f"the mixer says that it has {heads} heads, but attends with {info.split}",
            )
        return make(path=info.out_proj, side="input", view="heads", heads=heads)

    def _internal(self, info, layer, make, side: str) -> Site:
        if info.attention is None:
            raise self._refuse(
                layer, side, f"{info.no_attention}, so there are no queries, keys, values or patterns to see"
            )
        return make(path=info.attention, side=side)

    _q = functools.partialmethod(_internal, side="q")
    _k = functools.partialmethod(_internal, side="k")
    _v = functools.partialmethod(_internal, side="v")
    _pattern = functools.partialmethod(_internal, side="pattern")

    def head_count(self, component: str, layer: int) -> int:
        """How many heads a component that is split by head has at a layer."""
        site, heads = self.site(component, layer), self.layer(layer).attention_heads
        return {"q": heads[0], "pattern": heads[0], "k": heads[1], "v": heads[1]}.get(component, site.heads)

    def _neuron(self, info, layer, make) -> Site:
        self._single(layer, "neuron", info.mlps)
        if info.down_proj is None:
            raise self._refuse(
                layer, "neuron", "the MLP does not end in one down projection (experts, perhaps)"
            )
        return make(path=info.down_proj, side="input")

    def _global_site(self, name: str) -> Site:
        if name == "logits":
            return Site(name, "", component=name)
        if name == "embed":
            return Site(name, self.structure.embed, component=name)
        self.get_final_norm()
        return Site(name, self.structure.norm, visit=self.structure.norm_visit, component=name)

    def n_heads(self, layer: int, kv: bool = False) -> int | None:
        """Query heads (or key-value heads) of a layer's mixer; value heads where attention is linear.

        The mixer's own attributes say, or else its attention call. The model's arguments are believed only when no
        mixer says anything, because in mixed models they mean the attention layers alone.
        """
        mixers = self.layer(layer).mixers
        found = _heads_of(self.paths[mixers[0]], kv) if mixers else None
        found = found or self.layer(layer).attention_heads[kv]
        if found or not mixers or any(_heads_of(m, kv) for m in self._mixer_modules):
            return found
        return _heads_of(getattr(self.net, "args", None), kv)

    def attention_heads(self, kv: bool = False) -> int | None:
        """Heads of the model's attention: of the first mixer that has queries, else of the first that has heads."""
        plain = [m for m in self._mixer_modules if hasattr(m, "scale") or hasattr(m, "rope")]
        found = (_heads_of(m, kv) for m in [*plain, *self._mixer_modules])
        return next((n for n in found if n), None) or _heads_of(getattr(self.net, "args", None), kv)

    @functools.cached_property
    def _mixer_modules(self) -> list[nn.Module]:
        return [self.paths[p] for layer in self.structure.layers for p in layer.mixers]

    def sites(self) -> list[str]:
        """Every canonical site that this model has."""
        found = []
        for layer in range(self.n_layers):
            for component in COMPONENTS:
                try:
                    found.append(self.site(component, layer).name)
                except UnsupportedError:
                    continue
        tail = ["norm", "logits"] if self.structure.norm is not None else ["logits"]
        return ["embed", *found, *tail]

    @functools.cached_property
    def table(self) -> dict[str, Site]:
        """Every canonical site by name."""
        return {name: self._canonical(name) for name in self.sites()}

    # ---- names

    def resolve(self, name: str | Site) -> Site:
        """The site that a name means; a Site means itself.

        Raises:
            SiteError: the name matches nothing, or several modules, with the closest names.
        """
        if isinstance(name, Site):
            return name
        if not isinstance(name, str) or not name:
            raise SiteError(f"a site is named by a string such as 'layers.0.mlp', not {name!r}")
        matches = self._modules(name)
        if not matches and name.endswith((".input", ".output")):
            stem, side = name.rsplit(".", 1)
            whole = self.table.get(stem)
            if whole is not None and whole.modules:
                if side == "output":
                    return whole
                raise self._refuse(whole.layer, f"mlp.{side}", f"name one of {', '.join(whole.modules)}")
            matches = self._modules(stem)
            if side == "input":
                matches = [self.module_site(s.path, "input", s.visit, "@" in stem) for s in matches]
        site = self._one(name, matches)
        if site is None and matches:
            some = ", ".join(sorted(s.path for s in matches)[:4])
            raise SiteError(
                f"{name!r} is ambiguous: it ends {len(matches)} module paths ({some}, ...); write more"
            )
        if site is None:
            raise SiteError(f"no site is named {name!r}; {closest(name, self._known_names())}")
        return site

    def _one(self, name: str, matches: list[Site]) -> Site | None:
        """A single module match, or else the canonical site; the latter also where both mean the same module."""
        if len(matches) != 1:
            return self._canonical(name)
        try:
            canonical = self._canonical(name)
        except UnsupportedError:
            if name.endswith(".mlp") and self.structure.layers[int(name.split(".")[1])].no_mlp:
                raise  # one of several would be taken for the whole
            return matches[0]
        except PositionError:
            return matches[0]
        if canonical is not None and canonical.modules:  # the module of that name is a part of the MLP
            return canonical
        same = canonical is not None and (canonical.path, canonical.side) == matches[0].port[:2]
        return canonical if same or (canonical and name in GLOBAL_SITES) else matches[0]

    def _modules(self, name: str) -> list[Site]:
        """The outputs of the modules whose path is `name`, or else ends with it."""
        stem, visit = self._visit(name)
        ends = [stem] if stem in self.paths else [p for p in self.paths if p.endswith("." + stem)]
        found = [self.module_site(p, visit=visit, marked="@" in name) for p in ends if p]
        return list({site.port: site for site in found}.values())

    def module_site(self, path: str, side: str = "output", visit: int = 0, marked: bool = False) -> Site:
        """A side of a module by its path. A module that several places share needs its visit `marked`.

        Raises:
            SiteError: the path is a further name of a module that runs more than once, so which is not said.
        """
        first, slot = self.first_path(path), None
        times = self.structure.visits.get(first, 0)
        if first != path and times > 1 and not marked and not visit:
            raise SiteError(
                f"{path} is the same module as {first}, which runs {times} times in a pass: "
                f"write {first}@0, {first}@1, ..."
            )
        if visit and visit >= times:
            raise SiteError(f"{first} runs {times} times in a pass, so there is no {first}@{visit}")
        if side == "input":
            slot = self.slots.get(first)
        name = first or "logits"
        return Site(name if side == "output" else f"{name}.input", first, side, slot, visit)

    @staticmethod
    def _visit(name: str) -> tuple[str, int]:
        stem, mark, number = name.partition("@")
        return (stem, int(number)) if mark and number.isdigit() else (name, 0)

    def _canonical(self, name: str) -> Site | None:
        if name in GLOBAL_SITES:
            return self.site(name)
        parts = name.split(".")
        if len(parts) == 2 and parts[0] == "layers" and parts[1].isdigit():
            return self.site("resid_post", int(parts[1]))
        if len(parts) != 3 or parts[0] != "layers" or not parts[1].isdigit():
            return None
        if parts[2] == "input":
            return self.site("resid_pre", int(parts[1]))
        return self.site(parts[2], int(parts[1])) if parts[2] in (*COMPONENTS, *ALIASES) else None

    def input_site(self, path: str, visit: int = 0) -> Site:
        """The input side of a module: a layer's hidden state, else its first array."""
        return self.module_site(path, "input", visit)

    def _known_names(self) -> list[str]:
        return [*self.sites(), *(p for p in self.paths if p)]

    def remarks(self, component: str, layers: Iterable[int]) -> list[str]:
        """What a component is not, at some layers, as the probe measured it: a sentence for each kind of layer."""
        found: dict[str, list[int]] = {}
        for i in layers:
            for remark in self._remarks_at(component, self.layer(i)):
                found.setdefault(remark, []).append(i)
        return [f"{text}: layers {', '.join(map(str, some))}" for text, some in found.items()]

    def _remarks_at(self, component: str, layer: probe.Layer) -> list[str]:
        def named(paths: tuple[str, ...]) -> str:
            return " + ".join(p.removeprefix(layer.path + ".") for p in paths)

        said = []
        if component == "mlp" and len(layer.mlps) > 1 and layer.summed:
            through = "" if len(layer.summed) > 1 else f", as {named(layer.summed)} adds it to the stream"
            said.append(f"mlp is {named(layer.mlps)} together{through}")
        if component not in ("attn", "mlp", "head", "neuron") or layer.slot is None:
            return said
        if layer.rest:
            said.append(f"the stream also gains {named(layer.rest)}, which is in neither attn nor mlp")
        if layer.plain is None:
            said.append("whether attn and mlp are all that these layers write could not be measured")
        elif not layer.plain:
            said.append(
                "the layer's output is no sum of its input, attn and mlp: these are not all that moves it"
            )
        return said

    def describe(self) -> str:
        """A table of the layers and what each site is in this model."""
        s, rows = self.structure, []
        for i, layer in enumerate(s.layers):
            tail = [
                ", ".join(p[len(layer.path) + 1 :] for p in paths) or "-"
                for paths in (layer.mixers, layer.mlps)
            ]
            middle = "yes" if layer.added else f"no: {layer.no_mid}"
            rows.append((str(i), layer.path + (f"@{layer.visit}" if layer.visit else ""), *tail, middle))
        head = ("layer", "module", "attn", "mlp", "resid_mid")
        widths = [max(len(r[i]) for r in [head, *rows]) for i in range(5)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows]
        ]
        said = [f"note: {x}" for c in ("mlp", "attn") for x in self.remarks(c, range(self.n_layers))]
        ends = f"embed: {s.embed}   norm: {s.norm or '-'}   head: {s.head or '(no module: tied to the embedding)'}"
        return "\n".join([*lines, ends, *dict.fromkeys(said)])

    def __repr__(self) -> str:
        return f"ModuleResolver({probe.unwrapped_name(self.net)}, {len(self._layer_modules)} layers)"
