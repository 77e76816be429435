"""What the probe pass finds: each layer with its parts, and the model around them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer as it runs: the paths of its parts, and where something is missing, the reason.

    Attributes:
        path, visit: the module, and which of its calls in a pass.
        slot: the argument that is the hidden state; None: the module is never called.
        time_axis: the axis of tokens in the hidden state.
        mixers, mlps: what mixes tokens, and what works token by token.
        summed: the modules whose outputs, added up, are what several `mlps` write together. no_mlp: why there are none.
        rest: what else writes to the stream, beside mixers and MLPs.
        plain: the output is a scaled sum of the input and of what the parts write; None: not measured.
        added: the module whose output the stream gains between resid_pre and resid_mid. no_mid: why there is none.
        out_proj, down_proj: the last linear map of the mixer, and of the MLP.
        neurons: numbers that `down_proj` is given for each token; 0: it is not given them as `[B, T, neurons]`.
        chained: the next layer's input is this layer's output, bit for bit.
        reads: linear maps, token by token, of the mixer's own input (query, key, value).
        acts: token by token after the mixing: the output projection, the MLPs.
        split: heads that `out_proj`'s input is split by, as measured; 0: it is not; None: not known.
        attention: the module that makes the layer's one attention call. no_attention: why there is none.
        attention_heads: its query heads, its key-value heads.
        router: the module whose output is a logit per expert. no_router: why there is none.
        router_in_rows: that output is `[B * T, experts]`.
    """

    path: str
    visit: int
    slot: int | str | None
    time_axis: int
    mixers: tuple[str, ...]
    mlps: tuple[str, ...]
    summed: tuple[str, ...]
    no_mlp: str
    rest: tuple[str, ...]
    plain: bool | None
    added: str | None
    no_mid: str
    out_proj: str | None
    down_proj: str | None
    chained: bool
    reads: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()
    split: int | None = None
    attention: str | None = None
    no_attention: str = "this layer has no mixer"
    attention_heads: tuple[int, int] = (0, 0)
    neurons: int = 0
    router: str | None = None
    no_router: str = "this layer has no mixture of experts"
    router_in_rows: bool = False


@dataclass(frozen=True)
class Structure:
    """The whole model as it runs.

    Attributes:
        layers: in the order in which they run. embed, norm, head: module paths.
        norm_visit: which call of the norm module is the final norm.
        visits: of each module path, its calls in one pass.
        max_length: tokens that its table of positions has rows for; None: it has no such table.
        known_ids: token ids that every table which they are looked up in has a row for, and that have a logit.
    """

    layers: tuple[Layer, ...]
    embed: str
    norm: str | None
    norm_visit: int
    head: str | None
    d_model: int
    vocab_size: int
    visits: dict[str, int] = dataclasses.field(default_factory=dict)
    max_length: int | None = None
    known_ids: int = 0
