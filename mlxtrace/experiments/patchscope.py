"""A patchscope (Ghandeharioun et al. 2024, arXiv:2401.06102): a token of one prompt, put into another.

scope = patchscope(model, "The Eiffel Tower is in", "layers.5", "last", "Louvre, Colosseum: x", "layers.5", -1)
scope.text                 # what the model goes on with
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from .. import interventions as iv
from ..results.patchscope_result import Patchscope
from .patchscope_parts import (
    Scope,
    TracedModel,
    check_mapping,
    check_options,
    notes_at,
    scope_of,
    site_of,
    to_numpy,
    value_at,
    whole_number,
)


def patchscope(
    model: TracedModel,
    source: Any,
    source_site: str | int,
    source_position: Any = -1,
    target_prompt: Any = None,
    target_site: str | int | None = None,
    target_position: Any = -1,
    max_tokens: int = 10,
    mapping: Callable[[mx.array], mx.array] | None = None,
    target: Any = None,
    k: int = 5,
    **options: Any,
) -> Patchscope:
    """Read one token's representation in a source prompt, write it into a target prompt, and let the model go on.

    Args:
        model: what is patched; not given where this is called as its method.
        source: the prompt that is read: text, ids, an array, the messages of a chat, or a `Prompt`; one.
        source_site: what is read: a site's name such as "layers.5.resid_post", or a layer's number for its output.
        source_position: at which token, a number or a region of one token ("last", "subject_last").
        target_prompt: the prompt that is written; None: the paper's identity prompt, "cat -> cat; 1135 -> 1135;
            hello -> hello; ?".
        target_site: what is written; None: the same as is read.
        target_position: at which token. It is written once, as the prompt is read: new tokens see its keys and values.
        max_tokens: how many are generated at most; 0 for none.
        mapping: what is done to the vector `[D]` in between, a function of it; None: the identity.
        target: the answer whose probability is told, as text (as it continues the target prompt) or token ids, scored
            whole; None: the model's own next token after the source prompt up to `source_position`.
        k: how many of the likeliest next tokens are kept.
        options: further ones of `model.generate`, such as a sampler.

    Returns:
        A `Patchscope`: `.text` that was generated, `.top` the likeliest next tokens with the patch and `.base_top`
        without it, `.prob` of the answer. It prints both prompts with the tokens that are read and written.

    Raises:
        SiteError: a name matches no site, or what is read does not fit where it is written.
        InputError, PositionError, TokenError: an argument that means nothing.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompts = "The Eiffel Tower is in the city of", 8, -1, "The Colosseum is in the city of"
        >>> scope = model.patchscope(*prompts, max_tokens=1)
        >>> scope.text, scope.top[0][0], scope.base_top[0][0]
        ('Paris', ' Paris', ' Rome')
    """
    k = whole_number("k", k, 1, model.vocab_size)
    max_tokens = whole_number("max_tokens", max_tokens, 0)
    check_options(options, max_tokens)
    check_mapping(mapping)
    read = site_of(model, source_site)
    written = read if target_site is None else site_of(model, target_site)
    scope = scope_of(model, source, source_position, target_prompt, target_position, target)
    vector = value_at(model, scope, read, written, mapping)
    edit: Any = {written.name: iv.replace_at(vector, scope.target_position)}
    options |= {"interventions": edit, "where": "prompt"}
    said = model.generate(scope.target, max_tokens=max_tokens, **options) if max_tokens else None
    patched, plain = (scope.read(_logits(model, scope, edits), k) for edits in (edit, None))
    generated = [] if said is None else [int(t) for t in said.tokens]
    return Patchscope(
        text="" if said is None else str(said),
        generated=generated,
        ids=patched.ids[0],
        probabilities=patched.probabilities[0],
        base_ids=plain.ids[0],
        base_probabilities=plain.probabilities[0],
        prob=float(patched.prob[0]),
        rank=int(patched.rank[0]),
        base_prob=float(plain.prob[0]),
        source_site=read.name,
        target_site=written.name,
        mapping="" if mapping is None else getattr(mapping, "__name__", type(mapping).__name__),
        notes=[*scope.notes, *notes_at(model, [read, written])],
        **scope.words(model, np.concatenate([patched.ids, plain.ids])),
    )


def _logits(model: TracedModel, scope: Scope, edits: Any) -> np.ndarray:
    """Logits `[1, tokens of the answer, V]` after the target prompt."""
    with model.trace(list(scope.run.ids), interventions=edits, cache=False) as trace:
        pass
    return to_numpy(trace.output[:, -len(scope.answer) :])
