"""One batched forward pass of a sweep: rows are born, patched, and read at the last position.

The loop engine runs one forward pass per cell. But a patch at layer l leaves everything below l as it was, so a
cell needs no row of its own before layer l:

    layer            0     1     2     3            rows in the batch
    base rows       ───────────────────────►        n
    cell at 1             └─────────────────►       + n, copied from the base rows at the input of layer 1
    cell at 3                         └─────►       + n, at the input of layer 3

`Batch` is one such pass. At the input of a layer it appends the rows of the cells that are born there; at each
tapped site it writes the source activations into the rows and positions that the cells name; at the final norm
it keeps the last position. With every birth at the embedding (`flat`) nothing grows in mid-pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

from ..anatomy.attention_parts import LONG, Joined, Queries, attend, attending
from ..anatomy.recording import forward, last_logits
from ..anatomy.resolver import ModuleResolver, Site, rows_back, rows_first, time_axis
from ..anatomy.taps import arrays_of, fresh, put_argument
from ..errors import EngineError
from .differences import ChangedTokens, indices, map_arrays, on_tokens, scatter
from .runs import (
    FLAT,
    Hooks,
    Patch,
    Rows,
    evaluate_by_layer,
    norm_input,
    slice_to_last,
    to_numpy,
)

# Of the tokens of a layer, the share above which they are not picked out.
MOST_DIFFER = 0.8
# Where fewer tokens are shared, copying them costs less than taking attention apart.
FEWEST_SHARED = 64


class Prefix(KVCache):
    """Keys and values of the base run before `length`, shared by all rows of a pass.

    Args:
        base: the base run's cache.
        origin: of each row of the pass, which row of the base run it is of.
        queries: the tokens that attend to it, once for all rows; None: it is copied into every row.
    """

    def __init__(self, base: KVCache, length: int, origin: np.ndarray, queries: Queries | None = None):
        super().__init__()
        if base.keys is None or base.values is None:
            raise EngineError("the base run left its cache empty, so there is no prefix to share")
        self._keys, self._values = base.keys, base.values
        self._length, self._origin = length, origin
        self.offset, self._queries = length, queries

    def _joined(self, base: mx.array, own: mx.array) -> mx.array:
        base, rows = base[:, :, : self._length], own.shape[0]
        if base.shape[0] == 1:
            shared = mx.broadcast_to(base, (rows, *base.shape[1:]))
        else:
            shared = mx.take(base, mx.array(self._origin[:rows]), axis=0)
        whole = mx.concatenate([shared, own], axis=2)
        return whole if self._queries is None else Joined.of(whole, base, own, self._queries)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.offset += keys.shape[2]
        return self._joined(self._keys, keys), self._joined(self._values, values)


class Batch:
    """One pass: base rows, and the rows of some cells, born where they first differ.

    Args:
        base: the runs that are patched; the rows of those that have a cell here come first in the batch.
        sources: activations by site name, of the source run (False) and of the fixed run (True).
        cells: (birth, patches of the cell), in order of birth.
        block: rows per cell. start: first position that is run. caches: the base run's, when start > 0.
        side_axes: see `side_axes`. sparse: run what goes token by token on the tokens that can differ only.
        merged: keys and values before `start` are attended to once for all rows, see `Prefix`; needs `sparse`.
        every_position: the logits of all positions are wanted, not of the last `read`. eager: compute layer by layer,
            which holds less.
    """

    def __init__(
        self,
        resolver: ModuleResolver,
        base: Rows,
        sources: dict[bool, dict[str, mx.array]],
        cells: list[tuple[int, Sequence[Patch]]],
        block: int,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        side_axes: dict | None = None,
        sparse: bool = False,
        every_position: bool = False,
        eager: bool = False,
        prompts: Sequence[int] | None = None,
        read: int = 1,
        merged: bool = False,
    ):
        self.resolver, self.base, self.sources = resolver, base, sources
        self.every_position, self.read = every_position, read
        self.start, self.caches, self.side_axes = start, caches or (), side_axes or {}
        self.births = np.array([birth for birth, _ in cells], dtype=int)
        self.block = block
        self.prompts = np.zeros(len(cells), dtype=int) if prompts is None else np.array(prompts, dtype=int)
        members, of_cell = np.unique(
            self.prompts if len(cells) else np.zeros(1, dtype=int), return_inverse=True
        )
        self.base_rows = (members[:, None] * base.each + np.arange(base.each)).reshape(-1)
        born = of_cell[: len(cells), None] * base.each + np.arange(block) % base.each
        self.origin = np.concatenate([np.arange(len(self.base_rows)), born.reshape(-1)])
        self.hooks = Hooks(resolver)
        self.planned, self.fired = 0, 0  # taps
        self.changed: ChangedTokens | None = None
        self.merged = merged
        self._grow_at_layers()
        self._patch(cells)
        if eager:
            evaluate_by_layer(self.hooks)
        if sparse:
            self._skip_equal_tokens(cells)
        if not every_position:
            slice_to_last(self.hooks, read)

    # ---- rows

    def _rows_after(self, birth: int) -> int:
        """Rows in the batch once the cells of this birth are there."""
        return len(self.base_rows) + self.block * int((self.births <= birth).sum())

    def _grow_at_layers(self) -> None:
        first = self.base_rows[self.origin[: self._rows_after(FLAT)]]
        self.hooks.add(self.resolver.site("embed"), lambda x: self.base.embedded(fresh(x), first, self.start))
        births = set(self.births.tolist()) - {FLAT}
        layers = [(layer.path, layer.visit) for layer in self.resolver.structure.layers]
        for layer, call in enumerate([*layers, None]):
            if births and (layer in births or call in self.side_axes):
                site = self.resolver.site("resid_pre", layer) if call else norm_input(self.resolver)
                self.hooks.calls[site.path, site.visit] = self._grower(site, self._rows_after(layer))
                self.planned += 1

    def _grower(self, site: Site, rows: int) -> Callable[[tuple, dict], tuple[tuple, dict]]:
        """Grow the hidden state, and every array beside it that has a row per batch row, to `rows` rows."""
        beside = self.side_axes.get((site.path, site.visit), {})

        def expand(x: mx.array, where: tuple) -> mx.array:
            return self._expand(x, beside[where], rows) if where in beside else x

        def grow(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            self.fired += 1
            slot = next(arrays_of(args, kwargs))[0] if site.slot is None else site.slot
            if beside:
                args, kwargs = map_arrays(args, expand), map_arrays(kwargs, expand)
            x = dict(arrays_of(args, kwargs))[slot]
            return put_argument(args, kwargs, slot, self._expand(x, time_axis(self.resolver, site) - 1, rows))

        return grow

    def _expand(self, x: mx.array, axis: int, rows: int) -> mx.array:
        have = x.shape[axis]
        if have >= rows:
            return x
        return mx.concatenate([x, mx.take(x, mx.array(self.origin[have:rows]), axis=axis)], axis=axis)

    # ---- patches

    def _patch(self, cells: list[tuple[int, Sequence[Patch]]]) -> None:
        """Gather all patches of all cells by site, so that each site is written once."""
        at_site: dict[tuple[str, bool], list[tuple[int, Patch]]] = defaultdict(list)
        for i, (_, patches) in enumerate(cells):
            for patch in patches:
                at_site[patch.site.name, patch.fixed].append((i, patch))
        for (name, fixed), entries in at_site.items():
            site = entries[0][1].site
            self.hooks.add_site(site, self._writer(site, self.sources[fixed][name], entries))
            self.planned += 1

    def _writer(
        self, site: Site, source: mx.array, entries: list[tuple[int, Patch]]
    ) -> Callable[[mx.array], mx.array]:
        source = rows_first(self.resolver, site, source)
        each = source.shape[0] // len(self.base.members)
        to, from_ = indices(entries, self.prompts, each, self.block, len(self.base_rows), self.start)

        def write(x: mx.array) -> mx.array:
            self.fired += 1
            changed = scatter(rows_first(self.resolver, site, x), to, source, from_)
            return rows_back(self.resolver, site, changed)

        return write

    # ---- tokens that can differ

    def _skip_equal_tokens(self, cells: list[tuple[int, Sequence[Patch]]]) -> None:
        """Where a token of a cell is still the base run's, take what the base row gets there.

        With rows of several prompts, a layer of which most tokens differ is run whole: taking tokens out and putting
        them back costs as much.
        """
        self.changed = changed = ChangedTokens(
            self.resolver, [patches for _, patches in cells], self.start, self.base.length
        )
        patched = {port[0] for port in self.hooks.at}
        for layer, info in enumerate(self.resolver.structure.layers):
            rows = self._rows_after(layer)
            alive = (rows - len(self.base_rows)) // self.block
            for paths, mask in ((info.reads, changed.before[layer]), (info.acts, changed.after[layer])):
                last_only = paths is info.acts and not self.every_position and changed.last_only(layer)
                most = alive > 0 and mask[:alive].mean() > MOST_DIFFER
                if most and len(self.base.members) > 1 and not last_only:
                    continue
                run = on_tokens(self._of_rows(mask[:alive], rows, last_only), self.origin[:rows])
                for path in paths:
                    if not any(p.startswith(path + ".") for p in patched):
                        self.hooks.forwards[path, info.visit] = run

    def _of_rows(self, mask: np.ndarray, rows: int, last_only: bool) -> np.ndarray:
        """The tokens of `mask [cells, T]` by row `[rows, T]`, and all of the base rows; of the last `read` alone."""
        full = np.ones((rows, mask.shape[1]), dtype=bool)
        full[len(self.base_rows) :] = np.repeat(mask, self.block, axis=0)
        if last_only:
            full[:, : -self.read] = False
        return full

    # ---- the pass

    def _prefixes(self) -> list[Prefix]:
        """What each layer's cache is in this pass."""
        of_base, queries = self.base_rows[self.origin], [None] * len(self.caches)
        if self.merged and self.changed is not None and len(queries) == self.resolver.n_layers:
            queries = [self._queries(self.changed, layer, of_base) for layer in range(len(queries))]
        return [Prefix(cache, self.start, of_base, q) for cache, q in zip(self.caches, queries, strict=True)]

    def _queries(self, changed: ChangedTokens, layer: int, of_base: np.ndarray) -> Queries:
        """The tokens of a layer whose attention can differ from the base run's, and is looked at."""
        rows = self._rows_after(layer)
        alive = (rows - len(self.base_rows)) // self.block
        last_only = bool(self.resolver.structure.layers[layer].acts) and changed.last_only(layer)
        attend = self._of_rows(changed.after[layer][:alive], rows, last_only)
        shared = of_base[:rows] if self.base.rows > 1 else np.zeros(rows, dtype=int)
        return Queries.of(attend, shared, self.origin[:rows])

    def run(self) -> np.ndarray:
        """Logits as `capture` has them, in float32: base rows first, then each cell's block in order."""
        logits = self.begin()
        mx.eval(logits)
        return self.end(logits)

    def begin(self) -> mx.array:
        """The pass, not computed yet."""
        of_base = self.base_rows[self.origin]
        tokens = self.base.tokens(of_base[: self._rows_after(FLAT)], self.start)
        with self.hooks.hooked(), attending(attend if self.merged or self.base.length >= LONG else None):
            logits = forward(self.resolver.net, tokens, self._prefixes() if self.start else None)
            logits = logits if self.every_position else last_logits(logits, self.read)
        self.hooks = Hooks(self.resolver)  # those that were used hold this batch, and with it the sources
        return logits

    def end(self, logits: mx.array) -> np.ndarray:
        """What `begin` gave, computed and checked."""
        if self.fired != self.planned or len(logits) != len(self.origin):
            raise EngineError(
                f"{self.fired} of {self.planned} planned taps fired and {len(logits)} of {len(self.origin)} rows "
                "came out: this model does not run as it was probed; use engine='loop'"
            )
        return to_numpy(logits)
