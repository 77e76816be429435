"""How the corrupted run is made: another prompt, or noise on the subject's embeddings.

    Substitution(text)            the corrupted prompt, written out
    GaussianNoise(subject, ...)   noise on the embedding module's output at the subject's tokens
    noise_array, corrupt          the draw, and putting it there

The method is causal tracing's (Meng et al. 2022, section 2.1 and appendix B.1). Where the paper leaves
details open the authors' released code decides: NumPy's `RandomState(seed)`, and a standard deviation taken
over all elements of the embeddings (see `embeddings`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import mlx.core as mx
import numpy as np

from ..arguments import positions_in, whole_number
from ..errors import EditError, InputError

_FORMS = (
    '"s3" (3 x the standard deviation of the embeddings; "s" is 1 x), '
    'a number of 0 or more (absolute standard deviation), or "u3" (uniform in [-3, 3])'
)
Kind = Literal["s", "abs", "u"]
UNTIL = "until"  # in the place of a number of samples
MOST_SAMPLES = 100  # that it may come to
WITHIN, MOST_WITHIN = 10.0, 50  # percentage points of recovery
_LEVEL = re.compile(r"([su]?)((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)?")


@dataclass(frozen=True)
class NoiseLevel:
    """A parsed level: `value` in standard deviations ("s"), absolute ("abs"), or a half-width ("u")."""

    kind: Kind
    value: float

    def __str__(self) -> str:
        if self.kind == "u":
            return f"uniform in [-{self.value:g}, {self.value:g}]"
        return f"{self.value:g} x std of the embeddings" if self.kind == "s" else f"std {self.value:g}"


@dataclass(frozen=True)
class GaussianNoise:
    """Corrupt by noise on the embeddings of the subject's tokens, as causal tracing does (Meng et al. 2022, 2.1).

    To each token embedding :math:`h` of the subject, in each of `samples` rows, :math:`h + \\epsilon` with
    :math:`\\epsilon \\sim N(0, \\nu^2)`, independent in each component, drawn by NumPy's `RandomState(seed)`.

    Args:
        subject: where the noise goes: the subject's text as it stands in the prompt, or its token positions as a
            range or list; None when the experiment names the subject.
        level: :math:`\\nu`. "s3" is 3 times the standard deviation of the embedding table's elements; a number of 0
            or more is the standard deviation itself; "u3" is uniform noise in [-3, 3] instead.
        samples: rows of independent noise, over which metrics are averaged; 1 or more. "until" draws as many for each
            cell as it takes (see `within`), from 2 to 100: `activation_patching` and `causal_trace` take it.
        seed: of NumPy's `RandomState`; from 0 to 2**32 - 1.
        replace: put the noise in the embeddings' place instead of adding it, in the corrupted baseline as well as in
            the patched rows (the baseline of the ROME authors' code adds either way).
        within: with "until", how narrow: percentage points of recovery on either side of each cell that may be one
            of the strongest five; 10 unless given.

    Raises:
        InputError: a value has no meaning.

    Example:
        >>> from mlxtrace import GaussianNoise, InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> noise = GaussianNoise("Eiffel Tower", level="s3", samples=4)
        >>> result = model.activation_patching(
        ...     "The Eiffel Tower is in the city of", noise, layers=[0, 1], positions="each", progress=False
        ... )
        >>> result.raw.shape == (2, len(result.tokens))
        True
    """

    subject: str | range | Sequence[int] | None = None
    level: str | float = "s3"
    samples: int | str = 10
    seed: int = 1
    replace: bool = False
    within: float | None = None

    def __post_init__(self) -> None:
        parse_level(self.level)
        # as plain ints, whatever they were given as
        samples, within = _samples_of(self.samples, self.within)
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "within", within)
        object.__setattr__(self, "seed", whole_number("GaussianNoise's seed", self.seed, 0, 2**32 - 1))
        if not isinstance(self.replace, bool):
            raise InputError(f"GaussianNoise(replace={self.replace!r}): give True or False.")
        if isinstance(self.subject, str) and not self.subject.strip():
            raise InputError(
                "GaussianNoise(subject=...) is empty: give the subject as it stands in the prompt."
            )
        if isinstance(self.subject, bytes | bytearray) or not isinstance(
            self.subject, str | range | Sequence | mx.array | np.ndarray | None
        ):
            raise InputError(
                f"GaussianNoise(subject={self.subject!r}): give a text, a range or a list of token positions."
            )

    @property
    def parsed_level(self) -> NoiseLevel:
        return parse_level(self.level)

    @property
    def most(self) -> int:
        """The samples that are drawn at most."""
        return self.samples if isinstance(self.samples, int) else MOST_SAMPLES

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as files have them: `within` where it means something.

        Example:
            >>> from mlxtrace import GaussianNoise
            >>> GaussianNoise("Eiffel Tower", samples="until").to_dict()["within"]
            10.0
        """
        fields = dict(vars(self))
        return {name: value for name, value in fields.items() if name != "within" or value is not None}


@dataclass(frozen=True)
class Substitution:
    """Corrupt by another prompt, usually the clean one with another subject. The same as giving that prompt itself.

    Args:
        text: the corrupted prompt, as text or token ids.

    Raises:
        InputError: there is no prompt in it.

    Example:
        >>> from mlxtrace import InterpretableModel, Substitution
        >>> model = InterpretableModel("demo")
        >>> corrupted = Substitution("The Colosseum is located in the city of")
        >>> clean = "The Eiffel Tower is located in the city of"
        >>> result = model.activation_patching(clean, corrupted, progress=False)
        >>> len(result.raw) == model.n_layers
        True
    """

    text: str | list[int]

    def __post_init__(self) -> None:
        if not isinstance(self.text, str | Sequence | mx.array | np.ndarray) or not _size(self.text):
            raise InputError(f"Substitution({self.text!r}): give the corrupted prompt as text or token ids.")


def _samples_of(samples: Any, within: Any) -> tuple[int | str, float | None]:
    """A number of samples and None, or "until" and how narrow; InputError for what is neither."""
    if isinstance(samples, str) and samples != UNTIL:
        raise InputError(f'samples is a whole number of 1 or more, or "{UNTIL}", not {samples!r}')
    if not isinstance(samples, str):
        if within is not None:
            raise InputError(
                f'within={within!r} says how narrow intervals are with samples="{UNTIL}": a number of samples has none'
            )
        return whole_number("GaussianNoise's samples", samples), None
    if within is None:
        return samples, WITHIN
    wrong = isinstance(within, bool) or not isinstance(within, Real)
    if wrong or not 0 < float(within) <= MOST_WITHIN:
        raise InputError(
            f"within is in percentage points of recovery, above 0 and up to {MOST_WITHIN}, not {within!r}"
        )
    return samples, float(within)


def _size(text: Any) -> int:
    return len(text) if getattr(text, "ndim", 1) else 0


def parse_level(level: str | float) -> NoiseLevel:
    """Read a level: "s3", "s", "s1.5", 0.13, "0.13" or "u3"; InputError with the valid forms otherwise."""
    kind: Kind = "abs"
    number: Any = level
    if isinstance(level, str):
        form = _LEVEL.fullmatch(level)
        letter, number = form.groups() if form else ("", None)
        kind = "s" if letter == "s" else "u" if letter == "u" else "abs"
        number = number or ("1" if level == "s" else "")
    try:
        value = math.nan if isinstance(number, bool) or not isinstance(number, Real | str) else float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"Noise level {level!r} has no meaning. Valid: {_FORMS}.")
    return NoiseLevel(kind, value)


def noise_array(noise: GaussianNoise, n_tokens: int, width: int, std: float | None = None) -> np.ndarray:
    """Draw the noise as the ROME authors' code does: float64 [samples, n_tokens, width].

    std: the standard deviation that "s" levels multiply; others ignore it. Equal arguments give equal
    numbers; the first samples of many are those of a draw of fewer. Of "until" all that may be drawn.
    """
    level = noise.parsed_level
    scale = level.value
    if level.kind == "s":
        if std is None or not math.isfinite(std) or std < 0:
            raise InputError(
                f"Noise level {noise.level!r} is relative: give the embeddings' std, not {std!r}."
            )
        scale = level.value * std
    draw = np.random.RandomState(noise.seed)
    shape = (noise.most, n_tokens, width)
    if level.kind == "u":
        return draw.uniform(-1, 1, shape) * scale
    return draw.randn(*shape) * scale


def corrupt(
    x: mx.array, noise: np.ndarray, positions: range | Sequence[int], replace: bool = False
) -> mx.array:
    """Add the noise to embeddings x at some positions, or overwrite them with it.

    x [samples, T, D]; noise [samples, n, D], n the number of positions. Returns a new array of x's shape
    and dtype; the sum is taken in float32. EditError when the shapes differ, PositionError when a position
    is outside x.
    """
    index = positions_in(positions, x.shape[1]) if x.ndim == 3 else []
    if x.ndim != 3 or tuple(noise.shape) != (x.shape[0], len(index), x.shape[2]):
        raise EditError(
            f"Noise of shape {list(noise.shape)} does not fit embeddings of shape {list(x.shape)} "
            f"at {len(index)} positions: they are [samples, positions, width] and [samples, tokens, width]."
        )
    index, rows = mx.array(index), mx.array(noise.astype(np.float32))
    if not replace:
        rows = x[:, index].astype(mx.float32) + rows
    y = mx.array(x)  # a handle of its own: models write to their embeddings in place
    y[:, index] = rows.astype(x.dtype)
    return y
