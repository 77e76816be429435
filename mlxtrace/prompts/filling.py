"""The work of a run over many prompts: what has no file yet is made, a batch at a time, and each result kept at once.

Batches are dealt to the ranks, so that two of them never make the same file. Where several processes hold one model,
all of them run each batch, and the one that leads reads and writes. A run may be killed at any moment: what is there
is kept, and the next run does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..notebook import tqdm
from .provenance import versions
from .ranks import Ranks


@dataclass(frozen=True)
class Made:
    """What came of an item: a result, of one part of it, or why there is none. fields: the item's own, with its id."""

    fields: Mapping[str, Any]
    part: Any = None
    result: Any = None
    why: str = ""


class Filling:
    """A folder while it is filled. What is made before it is begun is held, and written when it is."""

    def __init__(self, folder: Any, ranks: Ranks):
        self.folder, self.ranks = folder, ranks
        self._begun = False
        self._held: list[Made] = []

    def begin(self, sure: bool = True) -> None:
        """Write down the settings, once for all ranks: each of them calls this once.

        sure: that with these settings a result can be made. When no rank is, nothing is written, and it is an
        InputError.
        """
        if not self.ranks.total(int(sure)):
            raise InputError(self._none())
        if self.ranks.rank == 0:
            self.ranks.led(self.folder.begin)
        self.ranks.wait()
        self.ranks.led(self.folder.check)
        self._begun = True
        for made in self._held:
            self._write(made)
        self._held = []

    def fill(
        self,
        batches: Sequence[Sequence[Any]],
        parts: list[Any],
        make: Callable[[Sequence[Any], dict[str, list[Any]]], Iterable[Made]],
        progress: bool | None = None,
    ) -> None:
        """Make what is missing of this rank's share of the batches, and wait for the other ranks.

        Args:
            batches: items that are made together; an item has an `id`.
            parts: what each of them has results of.
            make: what comes of a batch, one `Made` after the other, of the parts that are missing by id.
            progress: True or False for a bar, on the first rank; None: in a terminal or notebook.
        """
        mine = batches[self.ranks.rank :: self.ranks.size]
        lacking = self.ranks.led(lambda: [self._lacking(batch, parts) for batch in mine])
        left = [sum(map(bool, of_batch.values())) for of_batch in lacking]
        total = sum(map(len, mine))
        if not self._begun and sum(left) < total:
            self.begin()
        first = self.ranks.leads and self.ranks.rank == 0
        hidden = True if not first else (None if progress is None else not progress)
        with tqdm(total=total, initial=total - sum(left), unit=self.folder.item, disable=hidden) as bar:
            for batch, of_batch, n in zip(mine, lacking, left, strict=True):
                if n:
                    self._do(make(batch, of_batch))
                    bar.update(n)
        if not self._begun:
            self.begin(sure=False)
        self.ranks.wait()

    def _lacking(self, batch: Sequence[Any], parts: list[Any]) -> dict[str, list[Any]]:
        return {item.id: self.folder.missing(item.id, parts) for item in batch}

    def _do(self, made: Iterable[Made]) -> None:
        for one in made:
            if self._begun:
                self._write(one)
                continue
            self._held.append(one)
            if one.result is not None:
                self.begin()

    def _write(self, made: Made) -> None:
        if not self.ranks.leads:
            return
        if made.result is None:
            self.folder.skip(made.fields, made.why)
            return
        own = {self.folder.item: dict(made.fields), "hash": self.folder.hash, "versions": versions()}
        made.result.settings = {**(self.folder.settings or {}), **made.result.settings, **own}
        self.folder.save(made.fields["id"], made.part, made.result)

    def _none(self) -> str:
        first = self._held[:1]
        why = "".join(f", such as {made.fields['id']}: {made.why}" for made in first)
        return f"none of the {self.folder.items} can be used{why}"
