"""What lenses and patchscopes take: one component, layers, positions, an answer, and how tokens are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from ..errors import InputError, SiteError, TokenError
from ..text.token_texts import token_texts
from .caveats import cautions
from .grid import Prompt, TracedModel, components_of, layers_of, positions_of, whole_number

__all__ = [
    "Prompt",
    "TracedModel",
    "check_width",
    "layers_of",
    "notes_of",
    "one_component",
    "one_position",
    "one_token",
    "positions_of",
    "texts_of",
    "whole_number",
]
STREAM, PARTS = ("resid_pre", "resid_mid", "resid_post"), ("attn", "mlp")  # parts are as wide as the stream


def one_component(component: Any) -> str:
    """The name of one component that is as wide as the stream; InputError for several, or another."""
    names = components_of(component)
    if len(names) > 1:
        raise InputError(f"components {names}: one at a time, so make a call for each")
    if names[0] not in STREAM + PARTS:
        raise InputError(
            f"component={component!r} is not as wide as the residual stream: choose {', '.join(STREAM + PARTS)}"
        )
    return names[0]


def one_position(name: str, position: Any, prompt: Prompt) -> int:
    """One position of a prompt: a number, or a region of one token; InputError for several."""
    if isinstance(position, str) and position == "each":
        raise InputError(f"{name}='each': a patchscope reads one token and writes one; name its position")
    found = positions_of(position, prompt)
    if len(found) > 1:
        raise InputError(
            f"{name}={position!r} is {len(found)} tokens, {found}: name one of them, such as {found[-1]}"
        )
    return found[0]


def one_token(model: TracedModel, target: Any, prompt: Prompt) -> int:
    """The token of an answer; TokenError when it has several."""
    tokens = list(model.answer_tokens(target, prompt))
    if len(tokens) > 1:
        raise TokenError(
            f"the answer {target!r} is {len(tokens)} tokens, {tokens}, and a lens reads one token at a time: "
            "name one of them by its id. A patch or a patchscope scores whole answers"
        )
    return int(tokens[0])


def check_width(name: str, x: mx.array, tokens: int, width: int) -> None:
    """SiteError when a site's array is not `[1, tokens, width]`."""
    if tuple(x.shape) != (1, tokens, width):
        raise SiteError(
            f"{name} is {list(x.shape)} here, not {[1, tokens, width]}: this model's residual stream is not one vector "
            "for each token there"
        )


def texts_of(model: TracedModel, ids: Iterable[int]) -> dict[int, str]:
    """What tokens are called in tables and figures, by id."""
    return token_texts(model.tokenizer, ids)


def notes_of(model: TracedModel, component: str, layers: Sequence[int]) -> list[str]:
    """What must be known to read numbers of a component at some layers."""
    return cautions(model.resolver, [(component, layer) for layer in layers])
