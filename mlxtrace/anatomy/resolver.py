"""Where each site is in any mlx-lm model, and the one vocabulary of names for it.

A name is a full dotted path (`model.layers.8.mlp`), any unique suffix of one (`layers.8.mlp`, `h.8.mlp`), or
a canonical site (`layers.8.resid_mid`, `embed`, `norm`, `logits`); `.input` or `.output` at its end picks a
side of the module. Anything else raises with the closest names.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable

import mlx.core as mx
import mlx.nn as nn

from ..errors import PositionError, SiteError, UnsupportedError, closest
from . import remarks
from .architecture_exceptions import unwrapped_name
from .components import ALIASES, COMPONENTS, GLOBAL_SITES, canonical
from .finders import FINDERS, Missing, Place
from .model_parts import ModelParts
from .model_parts import inventory as inventory
from .sites import Site


class ModuleResolver(ModelParts):
    """Finds embedding, layers, norm, head and every site of a model, by watching one probe pass (see `probe`).

    Args:
        net: a language model of mlx-lm, or any module that is called and built like one.

    Raises:
        LoadError: the model has no layers, or a pass of a few tokens fails.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> resolver = InterpretableModel("demo").resolver
        >>> resolver.site("mlp", 3).name
        'layers.3.mlp'
        >>> resolver.resolve("layers.3.mlp").path == resolver.site("mlp", 3).path
        True
    """

    table: dict[str, Site]  # every canonical site by name

    def __init__(self, net: nn.Module):
        super().__init__(net)
        self.table = self._all_sites()

    def visits(self, site: Site) -> int:
        """How often a pass calls the site's module."""
        return self.structure.visits.get(site.path, 0)

    def head_count(self, component: str, layer: int) -> int:
        """How many heads a component that is split by head has at a layer."""
        site = self.site(component, layer)
        if site.heads:
            return site.heads
        return self.layer(layer).attention_heads[COMPONENTS[canonical(component)].heads == "key-value"]

    def neuron_count(self, layer: int) -> int:
        """How many neurons the MLP of a layer has; UnsupportedError where they cannot be told apart."""
        self.site("neuron", layer)
        if not self.layer(layer).neurons:
            raise self._refuse(layer, "neuron", "what its down projection is given is not [B, T, neurons]")
        return self.layer(layer).neurons

    # ---- canonical sites

    def site(self, component: str, layer: int | None = None) -> Site:
        """The canonical site of a component, at a layer unless it is embed, norm or logits.

        Args:
            component: a name of the table in `components`, an alias of one, or "embed", "norm", "logits".
            layer: from 0; negative numbers count from the last layer.

        Returns:
            The site: its module, the side of its call, and how the array is seen.

        Raises:
            SiteError: unknown component. UnsupportedError: this architecture has no such site there.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> InterpretableModel("demo").resolver.site("mlp", -1).path
            'model.layers.11.mlp'
        """
        if component in GLOBAL_SITES:
            return self._global_site(component)
        component = canonical(component)
        if layer is None or isinstance(layer, bool) or not hasattr(layer, "__index__"):
            raise SiteError(f"{component!r} needs a layer: 'layers.0.{component}' and so on")
        self.layer(layer)  # PositionError when there is no such layer
        index = operator.index(layer) % self.n_layers
        known = self.table.get(f"layers.{index}.{component}")
        return self._found(component, index) if known is None else known

    def _found(self, component: str, index: int) -> Site:
        try:
            place = Place(component, index, self.n_heads(index))
            return self.refuse_part(FINDERS[component](self.layer(index), place))
        except Missing as why:
            raise self._refuse(index, component, str(why)) from None

    def _refuse(self, layer: int | None, component: str, why: str) -> UnsupportedError:
        name = unwrapped_name(self.net)
        return UnsupportedError(f"layers.{layer}.{component} does not exist in this {name} model: {why}")

    def _global_site(self, name: str) -> Site:
        if name == "logits":
            return Site(name, "", component=name)
        if name == "embed":
            return Site(name, self.structure.embed, component=name)
        norm = self.path_of(self.get_final_norm())
        return Site(name, norm, visit=self.structure.norm_visit, component=name)

    def sites(self) -> list[str]:
        """Every canonical site that this model has.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> InterpretableModel("demo").resolver.sites()[:4]
            ['embed', 'layers.0.resid_pre', 'layers.0.q', 'layers.0.k']
        """
        return list(self.table)

    def _all_sites(self) -> dict[str, Site]:
        found = [self._global_site("embed")]
        for index in range(self.n_layers):
            for component in COMPONENTS:
                with contextlib.suppress(UnsupportedError):
                    found.append(self._found(component, index))
        tail = ["norm", "logits"] if self.structure.norm is not None else ["logits"]
        return {site.name: site for site in [*found, *map(self._global_site, tail)]}

    @functools.cached_property
    def ports(self) -> frozenset[tuple[str, str, int]]:
        """The ports of all canonical sites, with those of their bases."""
        return frozenset(site.port for site in self.table.values()) | self.bases

    @functools.cached_property
    def bases(self) -> frozenset[tuple[str, str, int]]:
        """The ports of what canonical sites are seen together with (see `Site.bases`)."""
        return frozenset(base.port for site in self.table.values() for base in site.bases)

    # ---- names

    def resolve(self, name: str | Site) -> Site:
        """The site that a name means; a Site means itself.

        Args:
            name: a path of modules, any unique end of one, or a canonical name, with `.input` or `.output` or not.

        Returns:
            The site.

        Raises:
            SiteError: the name matches nothing, or several modules, with the closest names.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> InterpretableModel("demo").resolver.resolve("layers.3.resid_mid").view
            'middle'
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
        """The only match, or else the canonical site; the latter also where it is what a module of that name means."""
        if len(matches) != 1:
            return self._canonical(name)
        try:
            site = self._canonical(name)
        except UnsupportedError:
            if name.endswith(".mlp") and self.structure.layers[int(name.split(".")[1])].no_mlp:
                raise  # one of several would be taken for the whole
            return matches[0]
        except PositionError:
            return matches[0]
        if site is None or not (name in GLOBAL_SITES or site.is_meant_by(matches[0].path)):
            return matches[0]
        return site if site.side == "output" or site.path != matches[0].path else matches[0]

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
        return self.refuse_part(Site(name if side == "output" else f"{name}.input", first, side, slot, visit))

    @staticmethod
    def _visit(name: str) -> tuple[str, int]:
        stem, mark, number = name.partition("@")
        return (stem, int(number)) if mark and number.isdigit() else (name, 0)

    def _canonical(self, name: str) -> Site | None:
        if name in GLOBAL_SITES:
            return self.site(name)
        parts = name.split(".")
        if len(parts) not in (2, 3) or parts[0] != "layers" or not parts[1].isdigit():
            return None
        component = parts[2] if len(parts) == 3 else "resid_post"
        component = "resid_pre" if component == "input" else component
        return self.site(component, int(parts[1])) if component in (*COMPONENTS, *ALIASES) else None

    def input_site(self, path: str, visit: int = 0) -> Site:
        """The input side of a module: a layer's hidden state, else its first array."""
        return self.module_site(path, "input", visit)

    def _known_names(self) -> list[str]:
        return [*self.sites(), *(p for p in self.paths if p)]

    # ---- in words

    def remarks(self, component: str, layers: Iterable[int]) -> list[str]:
        """What a component is not, at some layers, as the probe measured it: a sentence for each kind of layer."""
        return remarks.remarks(self.structure, component, layers)

    def describe(self) -> str:
        """A table of the layers and what each site is in this model.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> print(InterpretableModel("demo").resolver.describe().splitlines()[0])
            layer  module           attn       mlp  resid_mid
        """
        return remarks.layer_table(self.structure)

    def __repr__(self) -> str:
        return f"ModuleResolver({unwrapped_name(self.net)}, {self.n_layers} layers)"


def time_axis(resolver: ModuleResolver, site: Site) -> int:
    """The axis of token positions in a site's array; the batch is the one before it."""
    if site.layer is not None and site.component in ("resid_pre", "resid_post"):
        return resolver.layer(site.layer).time_axis
    return 1


def rows_first(resolver: ModuleResolver, site: Site, x: mx.array) -> mx.array:
    """A site's array as `[B, T, ...]`, heads third where there are any; see `rows_back`."""
    if site.side == "pattern":  # [B, heads, T, T]
        return x.swapaxes(1, 2)
    return mx.moveaxis(x, 0, 2) if time_axis(resolver, site) == 2 else x  # [streams, B, T, D]


def rows_back(resolver: ModuleResolver, site: Site, x: mx.array) -> mx.array:
    """What `rows_first` did, undone."""
    if site.side == "pattern":
        return x.swapaxes(1, 2)
    return mx.moveaxis(x, 2, 0) if time_axis(resolver, site) == 2 else x
