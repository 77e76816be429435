"""One trace, or those of a set, on two models: what quantization, or anything else that changes weights, does to it.

result = compare_bits(model, "The Eiffel Tower is located in the city of", "Eiffel Tower", bits=4)
result.correlation, result.largest_difference, result.peak_moved
many = compare_bits(model, prompts, subjects, bits=4)
many.difference, many.interval, many.moved
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, overload

import mlx.core as mx
import mlx.nn as nn

from ..arguments import Spans, whole_number
from ..errors import InputError, SubjectError, UnsupportedError
from ..notebook import tqdm
from ..results.comparison_set import Comparison, ComparisonSet
from .causal_trace import causal_trace
from .pair_sets import AnyOf, Pair, each, is_many, right_answer, with_answers
from .protocol import Prompt, PromptLike, TracedModel

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (16, 32, 64, 128)  # affine takes 32 and more; the others name their own


def compare(
    model: TracedModel, other: TracedModel, prompt: Any, subject: Any = None, **options: Any
) -> Comparison | ComparisonSet:
    """The same causal trace on two models with one tokenizer, of a prompt or of each prompt of a set.

    The answer is the first model's (or `target`), and so is the absolute noise level.

    Args:
        model, other: the two models.
        prompt: text, ids, an array, a `Prompt` or a `Pair`, whose clean prompt, subject and target count; or a list.
        subject: as in `causal_trace`; for a list one for all, or a list of as many.
        options: further ones of `causal_trace`.

    Returns:
        A `Comparison`; for a list, also of one, a `ComparisonSet`.

    Raises:
        InputError: the models have different depths or split a prompt differently; the list is empty, or some of its
            prompts have no subject; each is named.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.experiments.compare_bits import compare, quantized
        >>> model = InterpretableModel("induction")
        >>> other, _ = quantized(model, bits=4)
        >>> prompts = ["The cat sat. The cat", "A cat sat. A cat"]
        >>> result = compare(model, other, prompts, "sat", samples=1, positions="last", progress=False)
        >>> result.roles, result.n
        (['last token'], 2)
    """
    asked, alone = _asked(model, other, prompt, subject, options)
    second = other.name if other.name != model.name else f"another {other.name}"
    return _compared(model, other, asked, alone, (model.name, second), (), options)


@overload
def compare_bits(
    model: TracedModel,
    prompt: PromptLike | Pair,
    subject: Any = None,
    bits: int = 4,
    *,
    group_size: int | None = None,
    mode: str = "affine",
    **options: Any,
) -> Comparison: ...


@overload
def compare_bits(
    model: TracedModel,
    prompt: Sequence[str] | Sequence[Pair] | Sequence[Prompt],
    subject: Any = None,
    bits: int = 4,
    *,
    group_size: int | None = None,
    mode: str = "affine",
    **options: Any,
) -> ComparisonSet: ...


def compare_bits(
    model: TracedModel,
    prompt: Any,
    subject: Any = None,
    bits: int = 4,
    *,
    group_size: int | None = None,
    mode: str = "affine",
    **options: Any,
) -> Comparison | ComparisonSet:
    """The same causal trace on a model and on a copy of it quantized to `bits` bits, as `mlx_lm.convert -q` does.

    Args:
        model: what is traced; not given where this is called as its method.
        prompt: text, ids, an array, a `Prompt` or a `Pair`, of which the clean prompt, the subject and the target
            count; or a list of them, each of which is traced on both models.
        subject: as in `causal_trace`; for a list one for all, or a list of as many; None: each one's own.
        bits: per weight: 2, 3, 4, 5, 6 or 8.
        group_size: weights that share a scale; default 64, or 32 where that divides more layers.
        mode: of `nn.quantize` ("affine", "mxfp4" ...).
        options: further ones of `causal_trace`.

    Returns:
        A `Comparison` of the two traces; for a list, also of one, a `ComparisonSet`: means by role of a token and
        layer, their paired difference with its 95 % interval, and in how many prompts the peak moved.

    Raises:
        InputError: the model is quantized already, or cannot be quantized this way; the list is empty, subjects are
            not as many, or prompts have none (each is named).

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("induction")
        >>> prompt, few = "The cat sat. The cat", {"positions": "last", "samples": 2, "progress": False}
        >>> result = model.compare_bits(prompt, "sat", bits=4, **few)
        >>> result.first.answer.text == result.second.answer.text
        True
    """
    if model.is_quantized:
        raise InputError(
            f'{model.name} is quantized already: load it in full precision, or with dtype="float32" to compare '
            "its dequantized weights"
        )
    asked, alone = _asked(model, model, prompt, subject, options)
    twin, notes = quantized(model, bits, group_size, mode)
    return _compared(model, twin, asked, alone, (model.name, f"{bits} bits"), notes, options)


# ---- the prompts, and the traces of each


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A prompt as either model reads it, and the answer that is asked for."""

    first: Prompt
    second: Prompt
    target: Any
    id: str


def _asked(
    model: TracedModel, other: TracedModel, prompt: Any, subject: Any, options: dict[str, Any]
) -> tuple[list[_Asked], bool]:
    """The prompts as both models read them, and whether one was given by itself; takes the target out of the options.

    One error names all prompts that cannot be used.
    """
    if options.get("plan_only"):
        raise InputError("a comparison is two traces: causal_trace(..., plan_only=True) plans one of them")
    if isinstance(positions := options.get("positions"), Spans):
        raise InputError(
            f"positions={positions}: both models would be refined at tokens of their own; trace each, or name positions"
        )
    alone = not is_many(prompt)
    given = [prompt] if alone else list(prompt)
    if not given:
        raise InputError("there are no prompts to compare: the list is empty")
    pairs = [one if isinstance(one, Pair) else Pair(one) for one in given]
    subjects = _one_each("subject", subject, len(pairs), alone)
    targets = _one_each("target", options.pop("target", None), len(pairs), alone)
    answers = options.pop("answers", None)
    targets = targets if answers is None else with_answers(targets, answers, alone)
    ids = [one.id or str(i) for i, one in enumerate(pairs)]

    def read(i: int) -> _Asked:
        where = _one_of("subject", subjects[i], pairs[i].subject)
        answer = _one_of("target", targets[i], right_answer(pairs[i]))
        return _Asked(*_read(model, other, pairs[i].clean, where), answer, ids[i])

    return each(ids, alone, read), alone


def _one_each(name: str, value: Any, n: int, alone: bool) -> list[Any]:
    """A value for each prompt: those of a list, or the same for all; numbers of a subject are positions."""
    listed = isinstance(value, Sequence) and not isinstance(value, str | range)
    if alone or not listed or (name == "subject" and all(isinstance(x, int) for x in value)):
        return [value] * n
    if len(value) != n:
        raise InputError(
            f"{name} has {len(value)} entries for {n} prompts: give one for each, or one for all"
        )
    return list(value)


def _one_of(name: str, given: Any, own: Any) -> Any:
    if given is not None and own is not None:
        raise InputError(f"{name}= is given and the pair has its own, {own!r}: give one of them")
    return own if given is None else given


def _read(model: TracedModel, other: TracedModel, prompt: Any, subject: Any) -> tuple[Prompt, Prompt]:
    """The prompt as both models read it, in the same tokens."""
    read = model.prompt(prompt, subject)
    if read.subject is None:
        raise SubjectError(f"{read.text!r} has no subject, whose tokens are corrupted: pass subject=...")
    elsewhere = read if other is model else other.prompt(prompt, subject)
    if model.n_layers != other.n_layers or read.ids != elsewhere.ids:
        raise InputError(
            f"the models cannot be compared cell by cell: {model.n_layers} and {other.n_layers} layers, "
            f"{len(read)} and {len(elsewhere)} tokens"
        )
    return read, elsewhere


def _compared(
    model: TracedModel,
    other: TracedModel,
    asked: list[_Asked],
    alone: bool,
    names: tuple[str, str],
    notes: Sequence[str],
    options: dict[str, Any],
) -> Comparison | ComparisonSet:
    if alone:
        return dataclasses.replace(_traced(model, other, asked[0], names, options), notes=list(notes))
    shown = options.get("progress")
    with tqdm(asked, unit="prompt", disable=None if shown is None else not shown) as bar:
        singles = [_traced(model, other, one, names, {**options, "progress": False}) for one in bar]
    return ComparisonSet(singles, [one.id for one in asked], [*notes, *_shared(singles)])


def _traced(
    model: TracedModel, other: TracedModel, one: _Asked, names: tuple[str, str], options: dict[str, Any]
) -> Comparison:
    """One prompt's trace on both models: the answer and the absolute noise level are the first one's."""
    several = isinstance(one.target, AnyOf)
    right: dict[str, Any] = {"answers": one.target.answers} if several else {"target": one.target}
    first = causal_trace(model, one.first, **options, **right)
    uniform = str(options.get("noise", "")).startswith("u")
    noise = options["noise"] if uniform else first.noise_level
    answer = first.answer
    same = {
        **options,
        "noise": noise,
        **({"answers": answer.all} if answer.others else {"target": answer.tokens}),
    }
    return Comparison(first, causal_trace(other, one.second, **same), names)


def _shared(singles: Sequence[Comparison]) -> list[str]:
    """The notes that every prompt's first trace has."""
    return [note for note in singles[0].first.notes if all(note in one.first.notes for one in singles)]


# ---- quantization


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
    if model.resolver.group is not None:
        raise UnsupportedError("MLX cannot quantize sharded layers: load a quantized model, sharded as well")
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
