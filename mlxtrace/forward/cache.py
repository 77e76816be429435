"""ActivationCache: what a trace leaves, a mapping from names to arrays that can be saved and loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np

from ..anatomy.components import ALIASES
from ..anatomy.sites import Site
from ..errors import LoadError, SiteError, closest
from ..storage import load_tensors, save_tensors

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
    """Activations of one forward pass: a mapping from dotted module paths to the modules' outputs `[B, T, ...]`.

    Lookups also take any unique suffix of a path and any canonical site (`layers.8.resid_mid`, `layers.8.head`,
    `embed`). Made by `trace.activations`, `model.run_with_cache` and `ActivationCache.load`.

    Args:
        arrays: by side ("input", "output", "q", ...) and module path.
        sites: the canonical sites of the model, by name.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> logits, cache = model.run_with_cache("The Eiffel Tower is in the city of")
        >>> cache["layers.3.mlp"].shape == cache["layers.3.resid_mid"].shape
        True
        >>> "model.layers.3.self_attn.o_proj" in cache, "layers.99.mlp" in cache
        (True, False)
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
        """The activation under a name, on a handle of its own.

        Raises:
            SiteError: (a KeyError) nothing or several are meant; with the closest names.
        """
        found = self._find(name)
        if not isinstance(found, Site):
            return mx.array(self._arrays[found])  # `x = cache[name]; x *= 2` must not change the cache
        x = mx.array(self._arrays[cache_key(found)])
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
        """Bytes of all arrays together."""
        return sum(x.nbytes for x in self._arrays.values())

    def arrays(self) -> list[mx.array]:
        """All arrays, those of inputs and of attention included.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> _, cache = InterpretableModel("demo").run_with_cache("The Eiffel Tower")
            >>> len(cache.arrays()) > len(cache)
            True
        """
        return list(self._arrays.values())

    def numpy(self, name: str) -> np.ndarray:
        """The activation under a name as a NumPy array, float32 where it is of any float: NumPy has no bfloat16.

        Args:
            name: as `cache[name]` takes it.

        Returns:
            A copy, `[B, T, ...]`.

        Raises:
            SiteError: (a KeyError) nothing or several are meant.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> _, cache = InterpretableModel("demo", dtype="bfloat16").run_with_cache("The Eiffel Tower")
            >>> x = cache.numpy("layers.3.mlp")
            >>> x.shape, str(x.dtype), str(cache["layers.3.mlp"].dtype)
            ((1, 5, 128), 'float32', 'mlx.core.bfloat16')
        """
        x = self[name]
        return np.array(x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one safetensors file, whole or not at all, with a checksum.

        Args:
            path: of the file, as it is to be named; its folder must exist.

        Raises:
            InputError: the file cannot be written there, or ends as another format does (`.npz`, `.pt`).

        Example:
            >>> import os, tempfile
            >>> from mlxtrace import ActivationCache, InterpretableModel
            >>> _, cache = InterpretableModel("demo").run_with_cache("The Eiffel Tower", sites=["layers.3.mlp"])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     cache.save(os.path.join(folder, "x.safetensors"))
            ...     again = ActivationCache.load(os.path.join(folder, "x.safetensors"))
            >>> list(again), again.nbytes == cache.nbytes
            (['model.layers.3.mlp'], True)
        """
        sites = {name: _site_to_dict(site) for name, site in self._sites.items() if self._has(site)}
        save_tensors(path, {f"{side}:{key}": x for (side, key), x in self._arrays.items()}, json.dumps(sites))

    @classmethod
    def load(cls, path: str | os.PathLike) -> ActivationCache:
        """Read a file written by `save`.

        Args:
            path: of the file.

        Returns:
            The cache, bit for bit as it was saved.

        Raises:
            LoadError: there is no such file, it is not one written by `save`, or it has changed since.

        Example:
            >>> from mlxtrace import ActivationCache, InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.run_with_cache("Paris is in", sites=["layers.3.mlp"])[1].save("mlp.safetensors")
            >>> list(ActivationCache.load("mlp.safetensors"))
            ['model.layers.3.mlp']
        """
        arrays, table = load_tensors(path, "cache")
        try:
            keyed = {_key(name): x for name, x in arrays.items()}
            sites = {name: _site_from_dict(fields) for name, fields in json.loads(table).items()}
        except Exception as error:  # whatever a table that others wrote makes JSON and Site raise
            raise LoadError(
                f"{path} is not a cache saved by mlxtrace: {' '.join(str(error).split())}"
            ) from error
        return cls(keyed, sites)

    def __repr__(self) -> str:
        return f"ActivationCache({len(self)} activations, {self.nbytes / 1e6:.1f} MB)"


def _key(name: str) -> Key:
    side, path = name.split(":", 1)
    return side, path


def _site_to_dict(site: Site) -> dict:
    return {**vars(site), "bases": [_site_to_dict(base) for base in site.bases]}


def _site_from_dict(fields: dict) -> Site:
    fields = dict(fields)
    alone = fields.pop("base", None)  # as earlier versions wrote it
    bases = tuple(_site_from_dict(base) for base in fields.get("bases", [alone] if alone else []))
    return Site(**{**fields, "bases": bases, "modules": tuple(fields.get("modules", ()))})
