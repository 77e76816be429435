"""A trace of prompts of several lengths: a pass for each length, all driven by one body.

with model.trace(["The Louvre is in", "The Eiffel Tower is in"]) as trace:
    last = model.layers[5].output[:, -1].save()     # [2, D]
trace.output[1], trace.activations["layers.8.mlp"][0]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import EditError, InputError, OrderError
from .groups import held
from .trace import ActivationCache, Edit, Group, Groups, ModuleResolver, Site, Trace

Batches = Sequence[
    tuple[tuple[int, ...], mx.array]
]  # of each length: places of its prompts, and ids `[n, T]`


def trace_of(
    resolver: ModuleResolver,
    batches: Batches | None,
    another: Callable[..., Trace],
    interventions: Mapping[str, Edit] | None = None,
    cache: bool = True,
    sites: list[str] | None = None,
) -> Trace:
    """A trace of prompts in a batch for each length: a plain `Trace` of one, a `GroupTrace` of several.

    Args:
        resolver: of the model to run.
        batches: places and ids of the prompts of each length; None when only `invoke` is used.
        another, interventions, cache, sites: as those of a `Trace`.
    """
    if batches is not None and len(batches) > 1:
        return GroupTrace(resolver, batches, another, interventions, cache, sites)
    return Trace(resolver, batches[0][1] if batches else None, another, interventions, cache, sites)


class GroupTrace(Trace):
    """A traced forward pass for each length: what is asked for is a `Groups`, and so is the output.

    The passes wait for the body together: at a site that it asks for, all of them stand there. An error in one of them,
    or in the body, ends all.

    Args:
        resolver: of the model to run.
        batches: places and ids of the prompts of each length.
        another, interventions, cache, sites: as those of a `Trace`; a declared function is applied in each pass.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> with model.trace(["The Louvre is in", "The Eiffel Tower is in"]) as trace:
        ...     model.layers[3].mlp.output[:, -1] = 0.0
        >>> trace.output[1].shape == (7, model.vocab_size)
        True
        >>> trace.activations["layers.3.mlp"][0][-1].max().item()
        0.0
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        batches: Batches,
        another: Callable[..., Trace],
        interventions: Mapping[str, Edit] | None = None,
        cache: bool = True,
        sites: list[str] | None = None,
    ):
        super().__init__(resolver, None, another, cache=cache)
        self._groups = [(places, ids.shape[1]) for places, ids in batches]
        self._members = [Trace(resolver, ids, another, interventions, cache, sites) for _, ids in batches]
        self.tokens: Any = self._together("ids", [ids for _, ids in batches])

    def _together(self, name: str, arrays: Sequence[mx.array]) -> Groups:
        groups = zip(self._groups, arrays, strict=True)
        return Groups(name, [Group(places, held(x, name), tokens) for (places, tokens), x in groups])

    def _each(self, do: Callable[[Trace], Any]) -> list[Any]:
        """What each pass gives; an error of one says which prompts are its."""
        found = []
        for group, member in zip(self.tokens.groups, self._members, strict=True):
            try:
                found.append(do(member))
            except (OrderError, EditError) as error:
                raise type(error)(f"in the pass of {group}: {error}") from error
        return found

    @property
    def output(self) -> Any:
        """Logits of each prompt, edits included: a `Groups`; OrderError before the block has ended."""
        self._need_done("output")
        return self._logits

    @property
    def activations(self) -> Any:
        """Every activation as it went on: a `GroupCache`; OrderError before the block has ended."""
        self._need_done("activations")
        return GroupCache(
            [(*group, member.activations) for group, member in zip(self._groups, self._members, strict=True)]
        )

    def read(self, site: Site) -> Any:
        """The arrays at a site, as `Trace.read` gives them."""
        return self._together(site.name, self._each(lambda member: member.read(site)))

    def write(self, site: Site, value: Any) -> None:
        """Put a value in a site's place: one for all prompts, or a list with one for each."""
        self.read(site)[...] = value

    def _edited_sites(self) -> list[Site]:
        """The sites that are edited in any of the passes."""
        return [site for member in self._members for site in member._edited_sites()]

    def _begin(self, block: Trace) -> None:
        for member in self._members:
            member._begin(block)
            member._state = "open"

    def _finish(self) -> None:
        self._each(Trace._finish)
        for member in self._members:
            member._state = "done"
        self._logits = self._together("logits", [member.output for member in self._members])

    def abandon(self) -> None:
        """Stop all passes where they stand and put the model back; after the end of the block, nothing."""
        with ExitStack() as stack:
            stack.callback(super().abandon)
            for member in self._members:
                stack.callback(member.abandon)


class GroupCache(Mapping):
    """Activations of prompts of several lengths: names as in an `ActivationCache`, and a `Groups` under each.

    Attributes:
        groups: `(prompts, tokens, cache)` of each length, where the cache is an `ActivationCache`.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> logits, cache = model.run_with_cache(["The Louvre is in", "The Eiffel Tower is in"])
        >>> cache["layers.8.mlp"][:, -1].shape, cache["layers.8.mlp"][1].shape
        ((2, 128), (7, 128))
    """

    def __init__(self, groups: Sequence[tuple[tuple[int, ...], int, ActivationCache]]):
        self.groups = list(groups)

    def __getitem__(self, name: str) -> Groups:
        return Groups(name, [Group(places, held(cache[name], name), n) for places, n, cache in self.groups])

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.groups[0][-1] if name in self)  # a module may be called once a token

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return all(name in cache for *_, cache in self.groups)

    def numpy(self, name: str) -> list[np.ndarray]:
        """The activation under a name as NumPy arrays, as `ActivationCache.numpy` gives them.

        Args:
            name: as `cache[name]` takes it.

        Returns:
            For each prompt, in their order, a copy `[T, ...]`.

        Raises:
            SiteError: (a KeyError) nothing or several are meant.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo", dtype="bfloat16")
            >>> _, cache = model.run_with_cache(["The Louvre is in", "The Eiffel Tower is in"])
            >>> [x.shape for x in cache.numpy("layers.8.mlp")]
            [(6, 128), (7, 128)]
        """
        found, numbers = self[name], sorted(i for prompts, *_ in self.groups for i in prompts)
        floats = mx.issubdtype(found[0].dtype, mx.floating)
        return [np.array(found[i].astype(mx.float32) if floats else found[i]) for i in numbers]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(cache.nbytes for *_, cache in self.groups)

    def save(self, path: str | os.PathLike) -> None:
        """InputError: a file holds the activations of prompts of one length."""
        raise InputError(
            f"a file holds the activations of prompts of one length, and these are {len(self.groups)} groups: save "
            "each, `for prompts, tokens, cache in activations.groups: cache.save(f'{tokens}.safetensors')`"
        )

    def __repr__(self) -> str:
        groups = f"{len(self.groups)} groups of prompts by length"
        return f"GroupCache({len(self)} activations of {groups}, {self.nbytes / 1e6:.1f} MB)"
