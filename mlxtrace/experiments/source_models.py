"""Patching between models: the source run is another model's, of the same shape and the same tokens.

reading = how_read(model, source_model, "denoise")      # what `read_pairs` is told besides
across = between(model, source_model, made, "denoise", cells)
across.models                                           # that of the clean and that of the corrupted run
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..engine.two_models import check_shapes
from ..errors import InputError
from .pair_sets import AlignedPair, PairSet, each


@dataclass(frozen=True)
class Between:
    """What follows from that the source run is another model's.

    models: of the clean and of the corrupted run; None where both are one. how: what a sweep is told besides.
    settings: what a result says of it. notes: what is to be said of it.
    """

    models: tuple[Any, Any] = (None, None)
    how: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


ONE_MODEL = Between()


def how_read(model: Any, source_model: Any, direction: str) -> dict[str, Any]:
    """What pairs are read with besides: the same prompt may be in both runs; noise is in the corrupted run's model."""
    other = _other(model, source_model)
    if other is None:
        return {}
    return {"same": True, "noised_by": model if direction == "denoise" else other}


def between(model: Any, source_model: Any, made: PairSet, direction: str, cells: Sequence[Any]) -> Between:
    """Both models, once it is known that they fit; ONE_MODEL when they are one. InputError for what does not fit.

    cells: of the first pair; all of their sites must hold arrays of one shape in both models.
    """
    other = _other(model, source_model)
    if other is None:
        return ONE_MODEL
    for what in ("n_layers", "d_model", "vocab_size"):
        there, here = getattr(other, what), getattr(model, what)
        if there != here:
            words = {"n_layers": "layers", "d_model": "as its width", "vocab_size": "logits"}[what]
            raise InputError(
                f"source_model is no model of the same shape: {other.name} has {there} {words}, {model.name} {here}"
            )
    _check_vocabularies(model, other)
    each(made.ids, made.alone, lambda i: _check_reading(model, other, made.pairs[i]))
    said = check_shapes(model.resolver, other.resolver, [p.site for cell in cells for p in cell.patches])
    models = (other, model) if direction == "denoise" else (model, other)
    name, notes = _named(model, other), [said] if said else []
    if any(pair.corrupted.noised for pair in made.pairs):
        notes.append(f"the noise is on the embeddings of {name if models[1] is other else model.name}")
    return Between(models, {"source_resolver": other.resolver}, {"source_model": name}, notes)


def _other(model: Any, source_model: Any) -> Any:
    """The source run's model; None when it is the very module that is patched. InputError when it is no model."""
    if not hasattr(source_model, "resolver") or not hasattr(source_model, "net"):
        raise InputError(
            f"source_model is an InterpretableModel of the same shape, not {source_model!r:.80}: "
            "InterpretableModel(name), or InterpretableModel(module, tokenizer)"
        )
    return None if source_model.net is model.net else source_model


def _check_reading(model: Any, other: Any, pair: AlignedPair) -> None:
    """InputError when the other model has no such tokens, or when they mean other texts there."""
    for run in (pair.clean, pair.corrupted):
        other.ids(list(run.ids))
        _check_texts(model, other, list(run.ids))


def _check_texts(model: Any, other: Any, ids: list[int]) -> None:
    if model.tokenizer is None or other.tokenizer is None:
        return
    for token, here, there in zip(ids, model.to_str_tokens(ids), other.to_str_tokens(ids), strict=True):
        _check_same(model, other, token, here, there)


def _check_vocabularies(model: Any, other: Any) -> None:
    """InputError when a token, but for added ones, is another text in the other model: its logit is another answer."""
    here, there = (_texts_by_id(one.tokenizer) for one in (model, other))
    if model.tokenizer is not other.tokenizer:
        for token in sorted(here.keys() & there.keys()):
            _check_same(model, other, token, here[token], there[token])


def _texts_by_id(tokenizer: Any) -> dict[int, str]:
    """The vocabulary but for added tokens, of which models often name some anew; {} where it cannot be asked for."""
    if not hasattr(tokenizer, "get_vocab") or not hasattr(tokenizer, "get_added_vocab"):
        return {}
    added = tokenizer.get_added_vocab()
    return {token: text for text, token in tokenizer.get_vocab().items() if text not in added}


def _check_same(model: Any, other: Any, token: int, here: str, there: str) -> None:
    if here != there:
        raise InputError(
            f"source_model reads other tokens: id {token} is {there!r} in {other.name} and {here!r} in {model.name}"
        )


def _named(model: Any, other: Any) -> str:
    """What the source run's model is called, where both have one name by what tells them apart."""
    if other.name != model.name:
        return other.name
    kinds = [_kind(one) for one in (model, other)]
    return f"{other.name} ({kinds[1]})" if kinds[0] != kinds[1] else f"another {other.name}"


def _kind(model: Any) -> str:
    """How its weights are kept: "4 bits", or a dtype; and whether adapters are on them."""
    modules = [module for _, module in model.net.named_modules()]
    bits = {m.bits for m in modules if hasattr(m, "bits") and "scales" in m}
    adapted = " with adapters" if any("lora_a" in m for m in modules) else ""
    if bits:
        return f"{' and '.join(map(str, sorted(bits)))} bits{adapted}"
    weight = model.resolver.get_embedding_layer().get("weight")
    kept = str(weight.dtype).removeprefix("mlx.core.") if isinstance(weight, mx.array) else "float"
    return f"{kept}{adapted}"
