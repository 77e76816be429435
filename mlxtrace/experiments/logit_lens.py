"""The logit lens (nostalgebraist 2020): what each layer's stream says, read by the model's own norm and head.

lens = logit_lens(model, "The Eiffel Tower is located in the city of")
lens.top[8][-1]            # of layer 8, at the last position: [(" Paris", 0.61), ...]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import numpy as np

from ..engine import lens
from ..results.logit_lens_result import LogitLens
from . import lens_sites
from .lens_sites import TracedModel


def logit_lens(
    model: TracedModel,
    prompt: Any,
    target: Any = None,
    layers: int | Iterable[int] | None = None,
    positions: Any = "each",
    component: str = "resid_post",
    k: int = 5,
    max_memory: int | None = None,
) -> LogitLens:
    """Read the residual stream after each layer as the model reads its last: by its own final norm and head.

    The streams are put where the final norm is given the last layer's, so norm, head, soft caps and scales are the
    model's own, and what is read of the last layer's output is the model's own answer. That this is so is measured
    first; where it is not, the lens is refused. Nothing is trained: this is not the tuned lens.

    Args:
        model: what is read; not given where this is called as its method.
        prompt: text, ids, an array, the messages of a chat, or a `Prompt`; one.
        target: the answer whose probability is followed, one token, as text (as it continues the prompt) or id; None:
            the model's own next token.
        layers: which; None for all.
        positions: "each", a region by name ("last", "subject"), or numbers.
        component: what is read of each layer: resid_post, resid_mid, resid_pre, or a part by itself, attn or mlp.
        k: how many of the likeliest tokens are kept.
        max_memory: bytes beside the weights that norm and head may take; None: a quarter of what is free.

    Returns:
        A `LogitLens`: `.top`, the likeliest tokens of each layer and position with their probabilities; `.prob` and
        `.rank` of the answer `[layers, positions]`. It prints, draws a map, saves and loads.

    Raises:
        UnsupportedError: the model's final norm and head are not found, or are not all that makes logits of the stream.
        TokenError: the answer is several tokens. SiteError: the component is not as wide as the stream.
        InputError, PositionError: an argument that means nothing.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> lens = model.logit_lens("The Eiffel Tower is in the city of", positions="last", k=1)
        >>> lens.answer, lens.first[-1]
        (' Paris', [' Paris'])
        >>> bool(lens.prob[0, 0] < 0.1 < lens.prob[-1, 0])
        True
    """
    read, name = model.prompt(prompt), lens_sites.one_component(component)
    chosen = lens_sites.layers_of(model, layers)
    at = lens_sites.positions_of("each" if positions is None else positions, read)
    k = lens_sites.whole_number("k", k, 1, model.vocab_size)
    token = None if target is None else lens_sites.one_token(model, target, read)
    sites = [model.resolver.site(name, layer) for layer in chosen]
    lens.check(model.resolver)
    logits, kept = lens.streams(model.resolver, read.ids, sites, at)
    for site_name, x in kept.items():
        lens_sites.check_width(site_name, x, len(at), model.d_model)
    token = int(logits.argmax()) if token is None else token
    vectors = mx.concatenate([kept[site.name][0] for site in sites])
    said = lens.read_all(model.resolver, vectors, k, token, max_memory)
    shape = len(chosen), len(at)
    texts = lens_sites.texts_of(model, [token, *np.unique(said.ids).tolist()])
    return LogitLens(
        ids=said.ids.reshape(*shape, k),
        probabilities=said.probabilities.reshape(*shape, k),
        prob=said.prob.reshape(shape),
        rank=said.rank.reshape(shape),
        layers=chosen,
        positions=at,
        answer=texts[token],
        answer_id=token,
        final=float(lens.read(logits[None], 1, token).prob[0]),
        texts=texts,
        tokens=list(read.tokens),
        component=name,
        prompt=read.text,
        model=model.name,
        notes=[*_notes(name), *lens_sites.notes_of(model, name, chosen)],
    )


def _notes(component: str) -> list[str]:
    if component not in lens_sites.PARTS:
        return []
    return [
        f"{component} is normed by itself here, not as the part of the stream that it is in a pass: what it says alone "
        "is not what it adds to the answer"
    ]
