"""What a model looks like from inside, found by watching one probe pass and never by its name alone.

`probe(net)` runs a handful of tokens with every module tapped and reads off the record: which module embeds
the tokens, which are the layers and in what order they run, which argument carries the hidden state, which
submodules mix positions (the mixer) and which do not (the MLP), and whether the residual stream is their
plain sum. Names only break ties.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import LoadError
from .contributions import Written, has_matrices, written
from .heads import split_heads
from .max_length import position_limit
from .recording import (
    NEEDS_CACHE,
    Call,
    find_vocab,
    forward,
    module_paths,
    probe_tokens,
    record,
    same,
    unwrapped_name,
    without_caches,
)
from .taps import arrays_of, first_array, put_argument

__all__ = [
    "NEEDS_CACHE",
    "Layer",
    "Structure",
    "forward",
    "module_paths",
    "probe",
    "probe_tokens",
    "unwrapped_name",
]

MIXER_NAMES = {
    "self_attn", "attn", "attention", "self_attention", "linear_attn", "mamba", "mixer", "conv",
    "temporal_block", "time_mixer", "short_conv", "token_mixer", "ssm",
}  # fmt: skip
MLP_NAMES = {
    "mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "mlps", "mlp_block", "channel_mixer",
    "feedforward", "ff", "mlp_moe",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer as it runs: module path, visit, and the paths of its parts (None where it has none)."""

    path: str
    visit: int
    slot: int | str | None  # the argument that is the hidden state; None: the module is never called
    time_axis: int
    mixers: tuple[str, ...]
    mlps: tuple[str, ...]
    summed: tuple[str, ...]  # the modules whose outputs, added up, are what several `mlps` write together
    no_mlp: str  # why there is no such sum, when `summed` is empty
    rest: tuple[str, ...]  # what else writes to the stream, beside mixers and MLPs
    plain: (
        bool | None
    )  # the output is a scaled sum of the input and of what the parts write; None: not measured
    added: str | None  # the module whose output the stream gains between resid_pre and resid_mid
    no_mid: str  # why there is no resid_mid, when `added` is None
    out_proj: str | None
    down_proj: str | None
    chained: bool  # the next layer's input is this layer's output, bit for bit
    reads: tuple[str, ...] = ()  # linear maps, token by token, of the mixer's own input (query, key, value)
    acts: tuple[str, ...] = ()  # token by token after the mixing: the output projection, the MLPs
    split: int | None = (
        None  # heads that `out_proj`'s input is split by, as measured; 0: it is not; None: not known
    )
    attention: str | None = None  # the module that makes the layer's one attention call
    no_attention: str = "this layer has no mixer"  # why there is no such module, when `attention` is None
    attention_heads: tuple[int, int] = (0, 0)  # its query heads, its key-value heads


@dataclass(frozen=True)
class Structure:
    """The whole model as it runs."""

    layers: tuple[Layer, ...]
    embed: str
    norm: str | None
    norm_visit: int
    head: str | None
    d_model: int
    vocab_size: int
    visits: dict[str, int] = dataclasses.field(default_factory=dict)  # module path -> calls in one pass
    max_length: int | None = (
        None  # tokens that its table of positions has rows for; None: it has no such table
    )


def _same_ids(x: mx.array, tokens: mx.array) -> bool:
    return x.shape == tokens.shape and not mx.issubdtype(x.dtype, mx.inexact) and bool((x == tokens).all())


def _close(a: mx.array, b: mx.array) -> bool:
    if a.shape != b.shape:
        return False
    tolerance = {mx.float32: 1e-4, mx.float16: 5e-3}.get(a.dtype, 4e-2)
    a, b = a.astype(mx.float32), b.astype(mx.float32)
    return (mx.abs(a - b).max() <= tolerance * mx.abs(a).max()).item()


def _unit(x: mx.array) -> mx.array:
    """Each token's vector at length 1, so that what went through a norm without weights can be recognised."""
    x = x.astype(mx.float32)
    return x / mx.maximum(mx.linalg.norm(x, axis=-1, keepdims=True), 1e-20)


def _is_hidden(x: Any, tokens: mx.array, width: int | None = None) -> bool:
    """Whether an array has a vector per token: [..., T, D], or with a known width [B, T, streams, D] too."""
    if not isinstance(x, mx.array) or x.ndim < 3 or not mx.issubdtype(x.dtype, mx.floating):
        return False
    if width is None:
        return x.shape[-2] == tokens.shape[1]
    return x.shape[-1] == width and tokens.shape[1] in (x.shape[-2], x.shape[1])


def find_layers(net: nn.Module) -> list[nn.Module]:
    """The layer modules in definition order: mlx-lm's own `model.layers`, else the longest module list."""
    paths = module_paths(net)
    layers = getattr(net, "layers", None)
    if layers is None:
        lists = [v for m in paths.values() for v in m.children().values() if isinstance(v, list)]
        layers = max(lists, key=len, default=None)
    layers = [m for m in layers or [] if isinstance(m, nn.Module)]
    if not layers:
        raise LoadError(
            f"{type(net).__name__} has no list of layers: expected a language model of mlx-lm, "
            "with its layers in `model.layers`"
        )
    return layers


def _mixes(call: Call, tokens: mx.array) -> bool:
    """Whether a module moves information between positions: change the token before last, see the last."""
    args, kwargs = without_caches(call)
    for key, x in list(arrays_of(args, kwargs)):
        if _is_hidden(x, tokens):
            bumped = mx.concatenate([x[..., :-2, :], x[..., -2:-1, :] * -1.5 + 0.5, x[..., -1:, :]], axis=-2)
            args, kwargs = put_argument(args, kwargs, key, bumped)
    out = first_array(call.forward(*args, **kwargs))
    return not same(out[..., -1, :], call.hidden()[..., -1, :])


def _parts(inside: list[Call], own: str, tokens: mx.array, paths: dict) -> tuple[list[Call], list[Call]]:
    """The mixers and the MLPs among the calls made inside one layer."""
    width = tokens.shape[1]
    shaped = [
        c
        for c in inside
        if (h := c.hidden()) is not None and h.ndim >= 3 and width in (h.shape[-2], h.shape[1])
    ]

    def role(call: Call) -> set[str]:
        names = [p for p in call.path[len(own) :].split(".") if p and not p.isdigit()]
        return {names[-1]} if names else set()

    def shallowest(wanted: set[str], but: list[Call]) -> list[Call]:
        taken = [(c.index, c.end) for c in but]
        found: list[Call] = []
        for c in shaped:
            inner = any(a <= c.index < b for a, b in [*taken, *((f.index, f.end) for f in found)])
            if role(c) & wanted and not inner and has_matrices(paths[c.path]):
                found.append(c)
        return found

    mixers = shallowest(MIXER_NAMES, [])
    mlps = shallowest(MLP_NAMES, mixers)
    if not mixers or not mlps:
        known = [(c.index, c.end) for c in (*mixers, *mlps)]
        for c in shaped:
            if any(a <= c.index < b or c.index <= a < c.end for a, b in known):
                continue
            if not has_matrices(paths[c.path]) or not paths[c.path].children():
                continue
            target = mixers if _mixes(c, tokens) else mlps
            target.append(c)
            known.append((c.index, c.end))
    if not mlps and len(mixers) == 1 and not _mixes(mixers[0], tokens):
        mixers, mlps = [], mixers  # one block per layer, and this one is an MLP (nemotron_h)
    return mixers, mlps


def _projection(calls: list[Call], whole: Call, paths: dict) -> str | None:
    """The last linear map inside a call, when its output is the call's own output."""
    for c in reversed(calls[whole.index + 1 : whole.end]):
        if same(c.hidden(), whole.hidden()):
            if "weight" in paths[c.path] or not paths[c.path].children():
                return c.path if "weight" in paths[c.path] else None
            if hasattr(paths[c.path], "linear"):  # a LoRA layer around a linear one
                return c.path
    return None


def _reads(calls: list[Call], mixer: Call, paths: dict) -> tuple[str, ...]:
    """The linear maps inside a mixer that are given its own input."""
    given = next(iter(mixer.inputs()), None)
    inside = calls[mixer.index + 1 : mixer.end]
    linear = [c for c in inside if "weight" in paths[c.path] and paths[c.path].weight.ndim == 2]
    plain = [c for c in linear if len(c.inputs()) == 1 and isinstance(c.output, mx.array)]
    return tuple(c.path for c in plain if same(c.inputs()[0], given))


def _attention(calls: list[Call], mixers: list[Call]) -> dict:
    """The module inside the only mixer that makes its only attention call, and the heads of that call."""
    inside = [c for m in mixers for c in calls[m.index : m.end] if c.attention]
    made = sum(len(c.attention) for c in inside)
    if not mixers:
        return {}
    if not made:
        return {"no_attention": "its mixer makes no call of mlx's attention"}
    if len(mixers) > 1 or made > 1:
        return {
            "no_attention": f"it has {len(mixers)} mixers and makes {made} calls of attention, not one of each"
        }
    if inside[0].gathered:
        return {"no_attention": "its attention call gathers keys, so that they are not one per token"}
    return {"attention": inside[0].path, "attention_heads": inside[0].attention[0]}


def _acts(out_proj: str | None, mixers: list[Call], mlps: list[Call], tokens: mx.array) -> tuple[str, ...]:
    """What runs token by token after the layer's last mixing; nothing where an MLP mixes tokens as well."""
    if len(mixers) > 1:  # an MLP between two mixers is still before a mixing
        out_proj, mlps = None, [c for c in mlps if c.index > mixers[-1].index]
    able = [c for c in mlps if len(c.inputs()) == 1 and isinstance(c.output, mx.array)]
    if any(_mixes(c, tokens) for c in able):
        return ()
    return (*([out_proj] if out_proj else []), *dict.fromkeys(c.path for c in able))


def _middle(calls, layer: Call, pre: mx.array, parts: Written) -> tuple[str | None, str]:
    """The path of what is added to `resid_pre` to give `resid_mid`, or None and the reason."""
    mixers, mlps = parts.mixers, parts.mlps
    if len(mixers) != 1 or not parts.summed:
        return None, f"the layer has {len(mixers)} mixers and {len(mlps)} MLPs, not one of each"
    mixer, post = mixers[0], layer.hidden()
    inside = calls[layer.index + 1 : layer.end]
    if mixer.index > mlps[0].index:
        return None, "the MLP runs before the mixer"

    def with_norm(part: Call) -> list[Call]:
        return [part, *(c for c in inside if c.index >= part.end and same(_first(c), part.hidden()))]

    def _first(call: Call) -> mx.array | None:
        return next(iter(call.inputs()), None)

    several = len(parts.summed) > 1
    thoughts = [c.hidden() for c in (parts.summed if several else with_norm(parts.summed[0]))]
    thoughts = [sum(thoughts[1:], thoughts[0])] if several else thoughts
    for a in with_norm(mixer):
        if a.hidden().shape != pre.shape:
            continue
        mid = pre + a.hidden()
        after = [x for c in inside if c.index >= a.end for x in c.inputs()]
        follows = any(_close(mid, x) or _close(_unit(mid), _unit(x)) for x in after)
        for thought in thoughts:
            if thought.shape == pre.shape and _close(post, mid + thought):
                if follows:
                    return a.path, ""
                return None, "attention and MLP read the same input in parallel, so no middle exists"
    return None, "the layer's output is not the plain sum of its input, mixer and MLP"


def _layer(calls: list[Call], call: Call, slot, tokens, paths, following: Call | None, next_slot) -> Layer:
    inside = calls[call.index + 1 : call.end]
    pre = dict(arrays_of(call.args, call.kwargs))[slot]
    known = _parts(inside, call.path, tokens, paths)
    parts = written(calls, call, slot, *known, paths, lambda c: _mixes(c, tokens))
    mixers, mlps = parts.mixers, parts.mlps
    added, reason = _middle(calls, call, pre, parts)
    after = dict(arrays_of(following.args, following.kwargs)).get(next_slot) if following else None
    out_proj = _projection(calls, mixers[0], paths) if mixers else None
    return Layer(
        path=call.path,
        visit=call.visit,
        slot=slot,
        time_axis=1 if pre.shape[1] == tokens.shape[1] else pre.ndim - 2,
        mixers=tuple(dict.fromkeys(c.path for c in mixers)),
        mlps=tuple(dict.fromkeys(c.path for c in mlps)),
        summed=tuple(c.path for c in parts.summed),
        no_mlp=parts.refused,
        rest=tuple(dict.fromkeys(c.path for c in parts.rest)),
        plain=parts.plain,
        added=added,
        no_mid=reason,
        out_proj=out_proj,
        down_proj=_projection(calls, mlps[0], paths) if mlps else None,
        chained=same(after, call.hidden()),
        reads=_reads(calls, mixers[0], paths) if len(mixers) == 1 else (),
        acts=_acts(out_proj, mixers, mlps, tokens),
        **_attention(calls, mixers),
    )


def _uncalled_layer(calls: list[Call], path: str, visit: int, tokens, paths) -> Layer:
    inside = [c for c in calls if c.path.startswith(path + ".") and c.visit == visit]
    mixers, mlps = _parts(inside, path, tokens, paths)
    names = [tuple(c.path for c in part) for part in (mixers, mlps)]
    return Layer(
        path=path,
        visit=visit,
        slot=None,
        time_axis=1,
        mixers=names[0],
        mlps=names[1],
        summed=names[1] if len(mlps) == 1 else (),
        no_mlp="" if len(mlps) == 1 else "this layer has several",
        rest=(),
        plain=None,
        added=None,
        no_mid="this architecture calls the parts of a layer, never the layer itself",
        out_proj=_projection(calls, mixers[0], paths) if mixers else None,
        down_proj=_projection(calls, mlps[0], paths) if mlps else None,
        chained=False,
    )


def _with_heads(net: nn.Module, tokens, calls: list[Call], layers: tuple, paths: dict) -> tuple[Layer, ...]:
    """The layers with what was measured of their heads."""
    found = {(c.path, c.visit): c.index for c in calls}
    mixer = {
        i: found[layer.mixers[0], layer.visit]
        for i, layer in enumerate(layers)
        if layer.out_proj and len(layer.mixers) == 1 and (layer.mixers[0], layer.visit) in found
    }
    projections = {index: layers[i].out_proj for i, index in mixer.items()}
    splits = split_heads(net, tokens, calls, projections, paths)
    return tuple(dataclasses.replace(layer, split=splits.get(mixer.get(i))) for i, layer in enumerate(layers))


def _slot(call: Call, before: mx.array, tokens: mx.array, width: int) -> int | str | None:
    """The argument that holds the hidden state: the one equal to what came before, else the first."""
    found = [(k, x) for k, x in arrays_of(call.args, call.kwargs) if _is_hidden(x, tokens, width)]
    exact = [k for k, x in found if same(x, before)]
    return (exact or [k for k, _ in found] or [None])[0]


def probe(net: nn.Module) -> Structure:
    """Watch one pass of 8 tokens and describe the model (module docstring)."""
    paths = module_paths(net)
    tokens = probe_tokens(find_vocab(net))
    try:
        calls = record(net, tokens)
    except Exception as error:
        cure = '; load it with dtype="float32"' if "only supports float32" in str(error) else ""
        raise LoadError(
            f"a probe pass of {tokens.shape[1]} tokens through {type(net).__name__} failed: "
            f"{type(error).__name__}: {error}{cure}"
        ) from error
    embed = next(
        (c for c in calls if "weight" in paths[c.path] and any(_same_ids(x, tokens) for x in c.inputs())),
        None,
    )
    if embed is None:
        raise LoadError(f"{type(net).__name__} calls no embedding module on the tokens")
    width, root = embed.hidden().shape[-1], calls[0]

    wanted = {id(m): i for i, m in enumerate(find_layers(net))}
    runs = [c for c in calls if id(paths[c.path]) in wanted]
    if not runs:
        by_id = {id(m): p for p, m in paths.items()}
        own = [by_id[i] for i in wanted]
        inside = [c for c in calls if any(c.path.startswith(p + ".") for p in own)]
        loops = max((c.visit + 1 for c in inside if has_matrices(paths[c.path])), default=1)
        layers = tuple(_uncalled_layer(calls, p, visit, tokens, paths) for visit in range(loops) for p in own)
        last = None
    else:
        slots, before = [], embed.hidden()
        for c in runs:
            slots.append(_slot(c, before, tokens, width))
            before = c.hidden()
        if slots[0] != slots[-1] and isinstance(slots[-1], type(slots[0])):
            slots[0] = slots[-1]
        following = [*zip(runs[1:], slots[1:], strict=True), (None, None)]
        layers = tuple(
            _layer(calls, c, slot, tokens, paths, *after)
            for c, slot, after in zip(runs, slots, following, strict=True)
        )
        layers = _with_heads(net, tokens, calls, layers, paths)
        last = runs[-1]

    tail = [c for c in calls if last is not None and c.index >= last.end]
    norm = next((c for c in tail if any(same(x, last.hidden()) for x in c.inputs())), None)
    head = next((c for c in reversed(tail) if c.index and same(c.hidden(), root.hidden())), None)
    return Structure(
        layers=layers,
        embed=embed.path,
        norm=norm.path if norm else None,
        norm_visit=norm.visit if norm else 0,
        head=head.path if head else None,
        d_model=width,
        vocab_size=root.hidden().shape[-1],
        visits=dict(Counter(c.path for c in calls)),
        max_length=position_limit(calls, paths, tokens, lambda: forward(net, tokens)),
    )
