"""Patchscopes from every layer into every layer, in a few passes (Ghandeharioun et al. 2024, arXiv:2401.06102).

scope = patchscope_map(model, "The Eiffel Tower is in the city of")
scope.prob                 # [target layers, source layers]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import numpy as np

from ..engine.choice import choose
from ..engine.transplant import Transplant
from ..results.patchscope_result import PatchscopeMap
from .patchscope_parts import (
    TracedModel,
    layers_of,
    measure_of,
    notes_of,
    one_component,
    scope_of,
    vectors_of,
)


def patchscope_map(
    model: TracedModel,
    source: Any,
    source_position: Any = -1,
    target_prompt: Any = None,
    target_position: Any = -1,
    component: str = "resid_post",
    target: Any = None,
    layers: int | Iterable[int] | None = None,
    target_layers: int | Iterable[int] | None = None,
    engine: str = "auto",
    max_memory: int | None = None,
    progress: bool | None = None,
) -> PatchscopeMap:
    """Put one token's representation, from each layer of a source prompt, into each layer of a target prompt.

    Both runs are the model's; the source's stream at a position is written over the target's at another (the mapping
    between them is the identity), and the logits after the target prompt are read.

    Args:
        model: what is patched; not given where this is called as its method.
        source: the prompt that is read: text, ids, an array, the messages of a chat, or a `Prompt`; one.
        source_position: the token that is read, as a number or a region of one token ("last", "subject_last").
        target_prompt: the prompt that is written; None: the paper's identity prompt, "cat -> cat; 1135 -> 1135;
            hello -> hello; ?".
        target_position: the token that is written.
        component: what is read and written in each layer: resid_post (layer outputs, as in the paper), resid_pre,
            resid_mid, attn or mlp.
        target: the answer whose probability is mapped, as text (as it continues the target prompt) or token ids, scored
            whole; None: the model's own next token after the source prompt up to `source_position`.
        layers, target_layers: those that are read, and those that are written; None for all.
        engine: how the model is swept: "auto", "fanout", "flat" or "loop".
        max_memory: bytes beside the weights; None: a quarter of what is free.
        progress: True or False; None: a bar in a terminal or notebook.

    Returns:
        A `PatchscopeMap`: `.prob` and `.rank` of the answer and the likeliest token, `[target layers, source layers]`.

    Raises:
        SiteError: the component is not as wide as the stream. InputError, PositionError, TokenError: an argument that
        means nothing.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", -1, "The Colosseum is in the city of"
        >>> scope = model.patchscope_map(*prompts, layers=[0, 8, 11], target_layers=[8, 11], progress=False)
        >>> scope.answer, scope.prob.shape, scope.first[-1][-1]
        (' Paris', (2, 3), ' Paris')
        >>> bool(scope.prob[0, 0] < 0.1 < 0.9 < scope.prob[0, 1])
        True
    """
    name = one_component(component)
    read, written = layers_of(model, layers), layers_of(model, target_layers)
    every = list(dict.fromkeys([*read, *written]))
    sites = {layer: model.resolver.site(name, layer) for layer in every}
    scope = scope_of(model, source, source_position, target_prompt, target_position, target)
    kept = dict(zip(every, vectors_of(model, scope, list(sites.values())), strict=True))
    vectors = mx.concatenate([kept[layer] for layer in read])
    places = [sites[layer] for layer in written]
    chosen, many = choose(model.resolver, engine), len(scope.answer)
    rows = Transplant(model.resolver, scope.run, places, scope.target_position, chosen, many, max_memory)
    found = rows.run(vectors, measure_of(scope), progress)
    prob, rank, ids, top = found.values
    said = scope.words(model, np.append(ids, found.base[2]).astype(np.int64))
    return PatchscopeMap(
        prob=prob,
        rank=rank.astype(np.int64),
        ids=ids.astype(np.int64),
        probabilities=top,
        layers=read,
        target_layers=written,
        base_prob=float(found.base[0]),
        base_said=said["texts"][int(found.base[2])],
        base_said_prob=float(found.base[3]),
        component=name,
        notes=[*scope.notes, *notes_of(model, name, every)],
        **said,
    )
