"""One trace on two models: what quantization, or anything else that changes weights, does to it.

result = compare_bits(model, "The Eiffel Tower is located in the city of", "Eiffel Tower", bits=4)
result.correlation, result.largest_difference, result.peak_moved
"""

from __future__ import annotations

import copy
import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import plotting
from ..arguments import whole_number
from ..errors import InputError
from ..results.printing import page, quoted
from .causal_trace import CausalTrace, causal_trace
from .protocol import PromptLike, TracedModel

BITS = (2, 3, 4, 5, 6, 8)
TIE = 0.01  # of the total effect
GROUPS = (16, 32, 64, 128)  # affine takes 32 and more; the others name their own


@dataclass(repr=False, eq=False)
class Comparison:
    """The same trace on two models, with the same answer and the same noise, and how they differ.

    Args:
        first, second: the two traces.
        names: of the two models.
        notes: what must be known to read the numbers.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in the city of"
        >>> result = model.compare_bits(prompt, "Eiffel Tower", bits=8, positions="last", samples=2, progress=False)
        >>> result.difference.shape, result.names[1], result.correlation > 0.99
        ((1, 12), '8 bits', True)
        >>> len(result.to_rows())
        12
        >>> figure = result.plot()
    """

    first: CausalTrace
    second: CausalTrace
    names: tuple[str, str]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def difference(self) -> np.ndarray:
        """`[positions, layers]`: second scores - first scores."""
        return self.second.scores - self.first.scores

    @property
    def correlation(self) -> float:
        """Pearson's, over all cells' scores; NaN when one of the maps is flat."""
        a, b = self.first.scores.ravel(), self.second.scores.ravel()
        if np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
            return float("nan")
        return float(np.corrcoef(a, b)[0, 1])

    @property
    def largest_difference(self) -> float:
        """Of two scores, in probability."""
        return float(np.abs(self.difference).max())

    @property
    def peaks(self) -> tuple[dict, dict]:
        """The strongest cell of each trace, as in `CausalTrace.to_rows`."""
        return self.first.top(1)[0], self.second.top(1)[0]

    @property
    def peak_moved(self) -> bool:
        """Whether either trace's strongest cell is, in the other trace, below its strongest by more than `TIE`.

        Scores that saturate (every late layer at the last token) tie to the fourth digit, and rounding picks one.
        """
        one, two = self.first, self.second
        at = [np.unravel_index(x.scores.argmax(), x.scores.shape) for x in (one, two)]
        falls = [
            (x.scores.max() - x.scores[peak]) / x.total_effect for x, peak in ((one, at[1]), (two, at[0]))
        ]
        return bool(max(falls) > TIE)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per cell: kind, position, token, layer, score of each, difference."""
        rows = []
        for a, b in zip(self.first.to_rows(), self.second.to_rows(), strict=True):
            row = {name: a[name] for name in ("kind", "position", "token", "layer")}
            row |= {"first": a["score"], "second": b["score"], "difference": b["score"] - a["score"]}
            rows.append(row)
        return rows

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Draw both maps on one colour scale.

        Args:
            path: a PNG, PDF or SVG to write as well.

        Returns:
            The matplotlib `Figure`.
        """
        return plotting.comparison(self, path)

    def __repr__(self) -> str:
        i, layer = np.unravel_index(np.abs(self.difference).argmax(), self.difference.shape)
        width, lines = max(map(len, self.names)), []
        for name, trace, peak in zip(self.names, (self.first, self.second), self.peaks, strict=True):
            lines.append(
                f"{name:<{width}}  clean {trace.high_score:.4f}, corrupted {trace.low_score:.4f}, "
                f"peak {peak['score']:.4f} at layer {peak['layer']}, "
                f"position {peak['position']} {quoted(peak['token'])}"
            )
        token = self.first.tokens[self.first.positions[i]]
        lines += [
            f"correlation {self.correlation:.4f}",
            f"largest difference {self.largest_difference:.4f}, at layer {layer}, {quoted(token)}",
            f"the peak {'moved' if self.peak_moved else 'stayed where it was'}",
        ]
        title = f"Comparison of a causal trace: {self.first.prompt} → {quoted(self.first.answer.text)}"
        return page(title, lines, self.notes)


def compare(
    model: TracedModel, other: TracedModel, prompt: PromptLike, subject: Any = None, **options: Any
) -> Comparison:
    """The same causal trace on two models with one tokenizer.

    The answer is the first model's (or `target`), and so is the absolute noise level. options: as in `causal_trace`.
    InputError when the models have different depths or split the prompt differently.
    """
    read, elsewhere = model.prompt(prompt, subject), other.prompt(prompt, subject)
    if model.n_layers != other.n_layers or read.ids != elsewhere.ids:
        raise InputError(
            f"the models cannot be compared cell by cell: {model.n_layers} and {other.n_layers} layers, "
            f"{len(read)} and {len(elsewhere)} tokens"
        )
    first = causal_trace(model, read, **options)
    uniform = str(options.get("noise", "")).startswith("u")
    noise = options["noise"] if uniform else first.noise_level
    same = {**options, "noise": noise, "target": first.answer.token}
    return Comparison(first, causal_trace(other, elsewhere, **same), (model.name, other.name))


def compare_bits(
    model: TracedModel,
    prompt: PromptLike,
    subject: Any = None,
    bits: int = 4,
    *,
    group_size: int | None = None,
    mode: str = "affine",
    **options: Any,
) -> Comparison:
    """The same causal trace on a model and on a copy of it quantized to `bits` bits, as `mlx_lm.convert -q` does.

    Args:
        model: what is traced; not given where this is called as its method.
        prompt, subject: as in `causal_trace`.
        bits: per weight: 2, 3, 4, 5, 6 or 8.
        group_size: weights that share a scale; default 64, or 32 where that divides more layers.
        mode: of `nn.quantize` ("affine", "mxfp4" ...).
        options: further ones of `causal_trace`.

    Returns:
        A `Comparison` of the two traces.

    Raises:
        InputError: the model is quantized already, or cannot be quantized this way.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompt = "The Eiffel Tower is in the city of"
        >>> result = model.compare_bits(prompt, "Eiffel Tower", bits=4, positions="last", samples=2, progress=False)
        >>> result.first.answer.text == result.second.answer.text
        True
    """
    if model.is_quantized:
        raise InputError(
            f'{model.name} is quantized already: load it in full precision, or with dtype="float32" to compare '
            "its dequantized weights"
        )
    twin, notes = quantized(model, bits, group_size, mode)
    result = compare(model, twin, prompt, subject, **options)
    return dataclasses.replace(result, names=(model.name, f"{bits} bits"), notes=notes)


def quantized(
    model: TracedModel, bits: int, group_size: int | None = None, mode: str = "affine"
) -> tuple[TracedModel, list[str]]:
    """A quantized copy of a model, and a note if some layers could not be quantized."""
    if isinstance(bits, bool) or bits not in BITS:
        raise InputError(f"cannot quantize to bits={bits!r}: MLX has {', '.join(map(str, BITS))}")
    if group_size is not None and whole_number("group_size", group_size) not in GROUPS:
        raise InputError(
            f"cannot quantize with group_size={group_size!r}: MLX has {', '.join(map(str, GROUPS))}"
        )
    net = copy.deepcopy(model.net)
    able = [m for _, m in net.named_modules() if hasattr(m, "to_quantized") and "weight" in m]
    if group_size is None and mode == "affine":
        fit = {size: sum(_width(m) % size == 0 for m in able) for size in (32, 64)}
        group_size = 64 if fit[64] >= fit[32] else 32

    def fits(_: str, module: nn.Module) -> bool:
        return hasattr(module, "to_quantized") and _width(module) % (group_size or 32) == 0

    try:
        sizes: dict[str, Any] = (
            {"bits": bits} if group_size is None else {"bits": bits, "group_size": group_size}
        )
        nn.quantize(net, **sizes, mode=mode, class_predicate=fits)
        mx.eval(net.parameters())
    except (ValueError, TypeError) as error:
        raise InputError(
            f"cannot quantize to bits={bits!r}, group_size={group_size}, {mode}: {error}"
        ) from error
    left = sum(not hasattr(m, "bits") for _, m in net.named_modules() if hasattr(m, "to_quantized"))
    if left == len(able):
        raise InputError(f"no layer's width is a multiple of group_size={group_size}, so none was quantized")
    notes = [f"{left} of {len(able)} layers kept their precision: their width is no multiple of the group"]
    return type(model)(net, model.tokenizer), notes if left else []


def _width(module: nn.Module) -> int:
    """The inputs of a module's weights, which its groups divide."""
    return module["weight"].shape[-1]
