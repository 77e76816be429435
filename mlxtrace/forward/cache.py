"""ActivationCache: what a trace leaves, a mapping from names to arrays that can be saved and loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import mlx.core as mx

from .. import checksums
from ..anatomy.components import ALIASES
from ..anatomy.sites import Site
from ..anatomy.taps import fresh
from ..errors import InputError, LoadError, MlxtraceError, SiteError, closest
from ..storage import regular, writing

Key = tuple[str, str]  # side, module path (with @visit when it is not the first)


def port_key(port: tuple[str, str, int]) -> Key:
    """Where the array of a port is stored: the model's own output is called 'logits'."""
    path, side, visit = port
    path = path or "logits"
    return side, f"{path}@{visit}" if visit else path


def cache_key(site: Site) -> Key:
    """Where a site's array is stored."""
    return port_key(site.port)


class ActivationCache(Mapping):
    """Activations of one forward pass.

    Keys are dotted module paths (`model.layers.8.mlp`), each with the module's output `[B, T, ...]`; lookups
    also take any unique suffix and any canonical site (`layers.8.resid_mid`, `layers.8.head`, `embed`).
    """

    def __init__(self, arrays: dict[Key, mx.array], sites: dict[str, Site]):
        self._arrays = arrays
        self._sites = sites

    def __iter__(self) -> Iterator[str]:
        return (path for side, path in self._arrays if side == "output")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        try:
            self._find(name)
        except SiteError:
            return False
        return True

    def __getitem__(self, name: str) -> mx.array:
        """The activation under a name; SiteError (a KeyError) with the closest names if there is none."""
        found = self._find(name)
        if not isinstance(found, Site):
            return fresh(self._arrays[found])  # `x = cache[name]; x *= 2` must not change the cache
        x = fresh(self._arrays[cache_key(found)])
        return found.get(x, found.base(lambda base: self._arrays[cache_key(base)]))

    def _find(self, name: object) -> Key | Site:
        if not isinstance(name, str):
            raise SiteError(f"an activation is named by a string, not {name!r}")
        side, stem = "output", name
        if name.endswith((".input", ".output")) and name not in self._sites:
            stem, side = name.rsplit(".", 1)
            whole = self._sites.get(stem)
            if whole is not None and whole.modules:
                name, stem = (stem, stem) if side == "output" else (name, name)
        if (side, stem) in self._arrays:
            return side, stem
        found = [key for key in self._arrays if key[0] == side and key[1].endswith("." + stem)]
        site = self._sites.get(name) or self._sites.get(name + ".resid_post") or self._alias(name)
        # a stack that runs twice keeps its second visit under another key than the suffix finds
        own = site is not None and ((found and site.is_meant_by(found[0][1])) or site.modules)
        first = len(found) != 1 or "." not in name or own
        if first and site is not None and self._has(site):
            return site
        if len(found) == 1:
            return found[0]
        if found:
            raise SiteError(f"{name!r} is ambiguous: {', '.join(k[1] for k in found[:4])}, ...; write more")
        known = [*self, *(n for n, s in self._sites.items() if self._has(s))]
        raise SiteError(f"nothing is cached under {name!r}; {closest(name, known)}")

    def _alias(self, name: str) -> Site | None:
        for alias, component in (*ALIASES.items(), ("input", "resid_pre")):
            if name.endswith("." + alias):
                return self._sites.get(name[: -len(alias)] + component)
        return None

    def _has(self, site: Site) -> bool:
        return cache_key(site) in self._arrays and all(self._has(base) for base in site.bases)

    @property
    def nbytes(self) -> int:
        """Bytes of everything held."""
        return sum(x.nbytes for x in self._arrays.values())

    def arrays(self) -> list[mx.array]:
        """Everything held, inputs included."""
        return list(self._arrays.values())

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one safetensors file, whole or not at all, with a checksum."""
        table = json.dumps(
            {name: _site_to_dict(site) for name, site in self._sites.items() if self._has(site)}
        )
        arrays = {f"{side}:{key}": x for (side, key), x in self._arrays.items()}
        try:
            with writing(path) as file:
                told = {"mlxtrace": table, "checksum": checksums.of_arrays(arrays, table)}
                mx.save_safetensors(file, arrays, told)
        except InputError as error:
            raise LoadError(f"the cache cannot be saved: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> ActivationCache:
        """Read a file written by `save`; LoadError when it is not one, or what it holds has changed since."""
        try:
            path = regular(path)
            arrays, metadata = mx.load(str(path), format="safetensors", return_metadata=True)
            table = metadata["mlxtrace"]
            mx.eval(list(arrays.values()))
            whole = metadata.get("checksum") in (
                None,
                checksums.of_arrays(arrays, table),
            )  # None: an older file
            keyed = {tuple(name.split(":", 1)): x for name, x in arrays.items()}
            sites = {name: _site_from_dict(fields) for name, fields in json.loads(table).items()}
        except FileNotFoundError as error:
            raise LoadError(f"no such file: {path}") from error
        except MlxtraceError as error:
            raise LoadError(str(error)) from error
        except Exception as error:  # whatever damage makes mlx and JSON raise, a RecursionError included
            why = "it has no table of sites" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise LoadError(f"{path} is not a cache saved by mlxtrace: {why}") from error
        if not whole:
            raise LoadError(
                f"{path} is damaged: what it holds does not have the checksum that was saved with it"
            )
        return cls(keyed, sites)

    def __repr__(self) -> str:
        return f"ActivationCache({len(self)} activations, {self.nbytes / 1e6:.1f} MB)"


def _site_to_dict(site: Site) -> dict:
    return {**vars(site), "bases": [_site_to_dict(base) for base in site.bases]}


def _site_from_dict(fields: dict) -> Site:
    fields = dict(fields)
    alone = fields.pop("base", None)  # as earlier versions wrote it
    bases = tuple(_site_from_dict(base) for base in fields.get("bases", [alone] if alone else []))
    return Site(**{**fields, "bases": bases, "modules": tuple(fields.get("modules", ()))})
