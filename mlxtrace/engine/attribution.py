"""Attribution patching: what a patch would do, estimated from gradients, for all sites at once.

    found = attribute(resolver, base, source, sites, at, source_at, measure, "atp*")
    found.of(cell)                      # [rows]: the estimated change, patched - base

- "atp": `gradient . (source - base)`, in one forward pass of both runs and one forward and backward pass
  (Nanda 2023, "Attribution patching: activation patching at industrial scale").
- "atp*": queries and keys by the softmax that they would give (QK fix), and gradients with one layer's contribution
  dropped at a time (GradDrop), so that effects that cancel are seen (Kramar et al. 2024, arXiv:2403.00745, sec. 3).
- "ig": the gradient is averaged on the way from the base run's embeddings to the source run's (Hanna et al. 2024,
  arXiv:2403.17806, sec. 3).

These are estimates and nothing else: a sweep says what a patch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .attribution_part import Measure, Part, Rows, Scores, Site, allowed_bytes
from .runs import Cell

METHODS = ("atp", "atp*", "ig")


class Attribution(Scores):
    """Estimates by site name, float64 `[rows, T of base, units]`: heads, neurons, or 1; 0 where nothing is patched.

    plain: with nothing dropped from the gradient. base: what is measured of the base run, `[rows]`. drops: of "atp*",
    by layer whose contribution is dropped, `[layers, rows, T, units]`, float32, NaN for what is in that layer.
    passes: that were differentiated. bytes: estimated peak of one.
    """

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The estimate of every unit at every position, by site name."""
        return {name: self._signed(x, self.drops.get(name)) for name, x in self.plain.items()}

    def of(self, cell: Cell) -> np.ndarray:
        """The estimated change `[rows]` of what is measured, `patched - base`, when a cell is patched."""
        total = self._summed(cell, self.plain, 0)
        dropped = self._summed(cell, self.drops, 1) if self.drops else None
        return self._signed(total, dropped)

    def of_units(
        self, sites: Sequence[Site], at: Sequence[int], groups: Sequence[tuple[int, ...] | None]
    ) -> np.ndarray:
        """The same `[groups, rows]` of cells that patch these positions of some sites, each with a group of units.

        groups: heads or neurons of a cell; None for all of them.
        """
        total = self._grouped([self.plain[site.name] for site in sites], at, groups)
        if not self.drops:
            return np.moveaxis(total, -1, 0)
        dropped = self._grouped([self.drops[site.name] for site in sites], at, groups)
        return np.moveaxis(self._signed(total, dropped), -1, 0)

    def folded(self, contexts: int, length: int) -> Attribution:
        """Of rows of several contexts, one after the other, what each row does in all of them; the first positions."""

        def fold(x: np.ndarray, axis: int) -> np.ndarray:
            apart = x.reshape(*x.shape[:axis], contexts, -1, *x.shape[axis + 1 :]).sum(axis)
            return apart[..., :length, :] if apart.ndim > axis + 1 else apart

        return Attribution(
            plain={name: fold(x, 0) for name, x in self.plain.items()},
            base=fold(self.base, 0),
            drops={name: fold(x, 1) for name, x in self.drops.items()},
            passes=self.passes,
            bytes=self.bytes,
        )

    @staticmethod
    def _grouped(
        maps: Sequence[np.ndarray], at: Sequence[int], groups: Sequence[tuple[int, ...] | None]
    ) -> np.ndarray:
        """The sum `[..., rows, groups]` over positions and maps; a part that is dropped adds nothing."""
        parts = [x[..., list(at), :].sum(-2) for x in maps]
        if all(group is not None and len(group) == 1 for group in groups):
            parts = [x[..., [group[0] for group in groups if group]] for x in parts]
        else:
            parts = [
                np.stack([x.sum(-1) if g is None else x[..., list(g)].sum(-1) for g in groups], -1)
                for x in parts
            ]
        lost = np.all([np.isnan(part) for part in parts], axis=0)
        return np.where(lost, np.nan, np.nansum(parts, axis=0))

    @staticmethod
    def _summed(cell: Cell, maps: dict[str, np.ndarray], before: int) -> Any:
        """The sum over what a cell patches; `before` axes come before the rows. A part that is dropped adds nothing."""
        parts = []
        for patch in cell.patches:
            part = maps[patch.site.name][..., list(patch.at), :]
            part = part if patch.heads is None else part[..., list(patch.heads)]
            parts.append(part.sum((-2, -1)))
        lost = np.all([np.isnan(part) for part in parts], axis=0)
        return np.where(lost, np.nan, np.nansum(parts, axis=0)) if before else np.sum(parts, axis=0)

    @staticmethod
    def _signed(plain: np.ndarray, dropped: np.ndarray | None) -> np.ndarray:
        """The mean size over the drops (sec. 3.2), with the sign of what nothing was dropped from.

        Where that is 0 the mean over the drops gives the sign.
        """
        if dropped is None:
            return plain
        kept = ~np.isnan(dropped)
        n = np.maximum(kept.sum(0), 1)
        size = np.abs(np.where(kept, dropped, 0)).sum(0) / n
        sign = np.where(plain == 0, np.sign(np.where(kept, dropped, 0).sum(0)), np.sign(plain))
        return sign * size


def attribute(
    resolver: Any,
    base: Rows,
    source: Rows,
    sites: Sequence[Site],
    at: Sequence[int],
    source_at: Sequence[int],
    measure: Measure,
    method: str = "atp",
    max_memory: int | None = None,
    read: int = 1,
) -> Attribution:
    """Estimate, for every unit of some sites at every position, what patching it would do.

    Args:
        resolver: of the model.
        base, source: the run that is patched, and the run that the activations come from; or those of several prompts.
        sites: where.
        at, source_at: the positions of the base run that are patched, and of the source run that they come from.
        measure: of the last position's logits `[rows, V]`, in MLX -> `[rows]`, by row of the base run.
        method: "atp", "atp*" or "ig".
        max_memory: bytes beside the weights; None: a quarter of what is free.
        read: of how many of the last positions `measure` gets logits; of more than one `[rows, read, V]`.

    Returns:
        An `Attribution`; where either run has samples, a row for each, member after member.
    """
    both = Attributing(resolver, base, source, sites, at, source_at, method, max_memory, read)
    both.begin()
    return both.run(measure)


class Attributing:
    """A base and a source run whose difference is attributed: `begin` runs both plainly, `run` differentiates.

    What does not fit the memory at once is done in parts, some layers at a time.

    Args: as `attribute` has them.
    """

    def __init__(
        self,
        resolver: Any,
        base: Rows,
        source: Rows,
        sites: Sequence[Site],
        at: Sequence[int],
        source_at: Sequence[int],
        method: str = "atp",
        max_memory: int | None = None,
        read: int = 1,
    ):
        given = resolver, base, source
        self.method, self.max_memory = method, max_memory
        where = at, source_at, method, read
        self.parts = [Part(*given, some, *where) for some in self._split(given, list(sites))]
        self.begun: Part | None = None

    def _split(self, given: tuple[Any, Rows, Rows], sites: list[Site]) -> list[list[Site]]:
        """The sites in parts whose arrays take half of the memory at most, or are of one layer."""
        allowed = allowed_bytes(self.max_memory, given[0].group) // 2
        layers = sorted({s.layer or 0 for s in sites})
        if len(layers) < 2 or Part(*given, sites, (), (), self.method).kept <= allowed:
            return [sites]
        first = layers[: len(layers) // 2]
        halves = (
            [s for s in sites if (s.layer or 0) in first],
            [s for s in sites if (s.layer or 0) not in first],
        )
        return [part for half in halves for part in self._split(given, half)]

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """Run both plainly and keep what the first part needs; the logits of both that are read."""
        for part in self.parts:
            part.fit(self.max_memory)  # refused before anything is run
        return self._begin(self.parts[0])

    def _begin(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        if self.begun is not None:
            self.begun.let_go()
        self.begun = part
        return part.begin()

    def run(self, measure: Measure) -> Attribution:
        """The estimates for one measure."""
        found = []
        for part in self.parts:
            if self.begun is not part:
                self._begin(part)
            found.append(part.run(measure))
        return Attribution(
            plain={name: x for one in found for name, x in one.plain.items()},
            base=found[0].base,
            drops={name: x for one in found for name, x in one.drops.items()},
            passes=sum(one.passes for one in found),
            bytes=max(one.bytes for one in found),
        )
