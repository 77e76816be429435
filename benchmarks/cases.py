"""What is swept: prompts and the cells of a map, the same for every contender."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from .models import Shape

SAMPLES, NOISE_SEED, NOISE_STD = 10, 1, 0.4


@dataclass(frozen=True)
class Case:
    """A map of cells: every layer x every position from `first` on.

    clean, corrupted: token ids of one length; with `samples`, the corrupted runs are the clean prompt with that
    many draws of noise on the embeddings at `subject`. window: layers patched together, centred.
    """

    name: str
    shape: Shape
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    component: str = "resid_post"
    window: int = 1
    samples: int = 0
    subject: tuple[int, ...] = ()
    first: int = 0
    target: int = -1

    @property
    def length(self) -> int:
        return len(self.clean)

    @property
    def cells(self) -> list[tuple[int, int]]:
        return [(layer, p) for layer in range(self.shape.layers) for p in range(self.first, self.length)]

    @property
    def first_difference(self) -> int:
        if self.samples:
            return self.subject[0]
        return next(i for i, (a, b) in enumerate(zip(self.clean, self.corrupted, strict=True)) if a != b)

    def layers_at(self, layer: int) -> range:
        """The layers that the cell of this layer patches: `[l - w//2, l + ceil(w/2))`, cut at the edges."""
        return range(max(0, layer - self.window // 2), min(self.shape.layers, layer - (-self.window // 2)))

    def noise(self) -> np.ndarray:
        """float64 `[samples, subject, width]`, drawn as the ROME authors draw it."""
        shape = (self.samples, len(self.subject), self.shape.width)
        return NOISE_STD * np.random.RandomState(NOISE_SEED).randn(*shape)

    def some(self, n: int, seed: int) -> list[tuple[int, int]]:
        """A random sample of the cells, or all of them."""
        cells = self.cells
        return cells if n >= len(cells) else random.Random(seed).sample(cells, n)


def different(shape: Shape, length: int, shared: int = 1, seed: int = 0, **options) -> Case:
    """Two random prompts that differ at every position from `shared` on: nothing is null but what must be."""
    draw = np.random.RandomState(seed)
    clean = draw.randint(2, shape.vocab, length)
    corrupted = clean.copy()
    corrupted[shared:] = (clean[shared:] - 2 + draw.randint(1, shape.vocab - 2, length - shared)) % (
        shape.vocab - 2
    ) + 2
    name = options.pop("name", f"{length} tokens")
    return Case(name, shape, tuple(clean.tolist()), tuple(corrupted.tolist()), **options)


def realistic(shape: Shape, length: int, seed: int = 0, **options) -> Case:
    """Two prompts that differ in a subject of three tokens only, after a quarter of the prompt."""
    where = tuple(range(length // 4, length // 4 + 3))
    whole = different(shape, length, 1, seed)
    corrupted = tuple(
        b if i in where else a for i, (a, b) in enumerate(zip(whole.clean, whole.corrupted, strict=True))
    )
    name = options.pop("name", f"{length} tokens, a subject of 3")
    return replace(whole, name=name, corrupted=corrupted, subject=where, **options)


def noised(shape: Shape, length: int, samples: int = SAMPLES, seed: int = 0, **options) -> Case:
    """Noise on a subject of three tokens after a quarter of the prompt, `samples` draws."""
    subject = tuple(range(length // 4, length // 4 + 3))
    whole = different(shape, length, 1, seed)
    name = options.pop("name", f"{length} tokens, {samples} noise samples")
    return replace(whole, name=name, corrupted=whole.clean, samples=samples, subject=subject, **options)


def preamble(shape: Shape, shared: int = 256, question: int = 16, seed: int = 0) -> Case:
    """A preamble that both prompts share, and a question that differs in every token; cells of the question."""
    name = f"{shared} shared + {question} tokens"
    return different(shape, shared + question, shared, seed, name=name, first=shared)
