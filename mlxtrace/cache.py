"""ActivationCache: what a trace leaves, a mapping from names to arrays that can be saved and loaded."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping

import mlx.core as mx

from .errors import LoadError, SiteError, closest
from .resolver import Site
from .taps import fresh

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
        own = site is not None and ((found and found[0][1] == site.path) or site.modules)
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
        for alias, component in (("output", "resid_post"), ("self_attn", "attn"), ("input", "resid_pre")):
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
        """Write everything to one safetensors file, atomically."""
        path = _text(path)
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise LoadError(f"cannot write {path}: the folder {folder} does not exist")
        if os.path.isdir(path):
            raise LoadError(f"cannot write {path}: it is a folder")
        sites = {name: _site_to_dict(site) for name, site in self._sites.items() if self._has(site)}
        handle, partial = tempfile.mkstemp(suffix=".safetensors", dir=folder)
        os.close(handle)
        try:
            arrays = {f"{side}:{key}": x for (side, key), x in self._arrays.items()}
            mx.save_safetensors(partial, arrays, {"mlxtrace": json.dumps(sites)})
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike) -> ActivationCache:
        """Read a file written by `save`; LoadError when it is not one."""
        path = _text(path)
        if not os.path.isfile(path):
            raise LoadError(f"no such file: {path}")
        try:
            arrays, metadata = mx.load(path, format="safetensors", return_metadata=True)
            table = json.loads(metadata["mlxtrace"])
            mx.eval(list(arrays.values()))
            keyed = {tuple(name.split(":", 1)): x for name, x in arrays.items()}
            sites = {name: _site_from_dict(fields) for name, fields in table.items()}
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = "it has no table of sites" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise LoadError(f"{path} is not a cache saved by mlxtrace: {why}") from error
        return cls(keyed, sites)

    def __repr__(self) -> str:
        return f"ActivationCache({len(self)} activations, {self.nbytes / 1e6:.1f} MB)"


def _text(path: str | os.PathLike) -> str:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise LoadError(f"a file is named by a text or a Path, not {path!r}")
    return os.fspath(path)


def _site_to_dict(site: Site) -> dict:
    return {**vars(site), "bases": [_site_to_dict(base) for base in site.bases]}


def _site_from_dict(fields: dict) -> Site:
    fields = dict(fields)
    alone = fields.pop("base", None)  # as earlier versions wrote it
    bases = tuple(_site_from_dict(base) for base in fields.get("bases", [alone] if alone else []))
    return Site(**{**fields, "bases": bases, "modules": tuple(fields.get("modules", ()))})
