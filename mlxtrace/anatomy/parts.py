"""What a layer is made of: its mixers and MLPs, and what of them works token by token, from the recorded calls."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .recording import Call, same, without_caches
from .taps import arrays_of, first_array, put_argument
from .wiring import has_matrices

# Names only break ties: a part that has none of these is known by whether it mixes tokens.
MIXER_NAMES = {
    "self_attn", "attn", "attention", "self_attention", "linear_attn", "mamba", "mixer", "conv",
    "temporal_block", "time_mixer", "short_conv", "token_mixer", "ssm",
}  # fmt: skip
MLP_NAMES = {
    "mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "mlps", "mlp_block", "channel_mixer",
    "feedforward", "ff", "mlp_moe",
}  # fmt: skip

Paths = dict[str, nn.Module]


def is_hidden(x: Any, length: int, width: int | None = None) -> bool:
    """Whether an array has a vector per token: [..., T, D], or with a known width [B, T, streams, D] too."""
    if not isinstance(x, mx.array) or x.ndim < 3 or not mx.issubdtype(x.dtype, mx.floating):
        return False
    if width is None:
        return x.shape[-2] == length
    return x.shape[-1] == width and length in (x.shape[-2], x.shape[1])


def mixes(call: Call, length: int) -> bool:
    """Whether a module moves information between positions: change the token before last, see the last."""
    args, kwargs = without_caches(call)
    for key, x in list(arrays_of(args, kwargs)):
        if is_hidden(x, length):
            bumped = mx.concatenate([x[..., :-2, :], x[..., -2:-1, :] * -1.5 + 0.5, x[..., -1:, :]], axis=-2)
            args, kwargs = put_argument(args, kwargs, key, bumped)
    out = first_array(call.forward(*args, **kwargs))
    return out is None or not same(out[..., -1, :], call.array()[..., -1, :])


def mixers_and_mlps(
    inside: list[Call], layer: str, length: int, paths: Paths
) -> tuple[list[Call], list[Call]]:
    """The mixers and the MLPs among the calls made inside the layer with this path."""
    shaped = [c for c in inside if _has_tokens(c.hidden(), length)]
    mixers = _named(shaped, layer, MIXER_NAMES, [], paths)
    mlps = _named(shaped, layer, MLP_NAMES, mixers, paths)
    if not mixers or not mlps:
        known = [*mixers, *mlps]
        for call in shaped:
            related = any(_inside(call, k) or _inside(k, call) for k in known)
            if related or not has_matrices(paths[call.path]) or not paths[call.path].children():
                continue
            (mixers if mixes(call, length) else mlps).append(call)
            known.append(call)
    if not mlps and len(mixers) == 1 and not mixes(mixers[0], length):
        mixers, mlps = [], mixers  # one block per layer, and this one is an MLP (nemotron_h)
    return mixers, mlps


def _has_tokens(x: mx.array | None, length: int) -> bool:
    return x is not None and x.ndim >= 3 and length in (x.shape[-2], x.shape[1])


def _inside(call: Call, other: Call) -> bool:
    return other.index <= call.index < other.end


def _named(shaped: list[Call], layer: str, wanted: set[str], but: list[Call], paths: Paths) -> list[Call]:
    """The outermost modules with one of the wanted names that hold matrices, outside the others."""
    found: list[Call] = []
    for call in shaped:
        names = [p for p in call.path[len(layer) :].split(".") if p and not p.isdigit()]
        if not names or names[-1] not in wanted or any(_inside(call, c) for c in [*but, *found]):
            continue
        if has_matrices(paths[call.path]):
            found.append(call)
    return found


def projection(calls: list[Call], whole: Call, paths: Paths) -> str | None:
    """The last linear map inside a call, when its output is the call's own output."""
    for call in reversed(calls[whole.index + 1 : whole.end]):
        module = paths[call.path]
        if same(call.hidden(), whole.hidden()):
            if "weight" in module or not module.children():
                return call.path if "weight" in module else None
            if hasattr(module, "linear"):  # a LoRA layer around a linear one
                return call.path
    return None


def reads(calls: list[Call], mixer: Call, paths: Paths) -> tuple[str, ...]:
    """The linear maps inside a mixer that are given its own input."""
    given = next(iter(mixer.inputs()), None)
    inside = calls[mixer.index + 1 : mixer.end]
    linear = [c for c in inside if _is_table(paths[c.path].get("weight"))]
    plain = [c for c in linear if len(c.inputs()) == 1 and isinstance(c.output, mx.array)]
    return tuple(c.path for c in plain if same(c.inputs()[0], given))


def _is_table(weight: Any) -> bool:
    return isinstance(weight, mx.array) and weight.ndim == 2


def acts(out_proj: str | None, mixers: list[Call], mlps: list[Call], length: int) -> tuple[str, ...]:
    """What runs token by token after the layer's last mixing; nothing where an MLP mixes tokens as well."""
    if len(mixers) > 1:  # an MLP between two mixers is still before a mixing
        out_proj, mlps = None, [c for c in mlps if c.index > mixers[-1].index]
    able = [c for c in mlps if len(c.inputs()) == 1 and isinstance(c.output, mx.array)]
    if any(mixes(c, length) for c in able):
        return ()
    return (*([out_proj] if out_proj else []), *dict.fromkeys(c.path for c in able))


def attention_call(calls: list[Call], mixers: list[Call]) -> tuple[Call | None, str]:
    """The call inside the only mixer that makes its only attention call; or None and the reason."""
    inside = [c for m in mixers for c in calls[m.index : m.end] if c.attention]
    made = sum(len(c.attention) for c in inside)
    if not mixers:
        return None, "this layer has no mixer"
    if not made:
        return None, "its mixer makes no call of mlx's attention"
    if len(mixers) > 1 or made > 1:
        return None, f"it has {len(mixers)} mixers and makes {made} calls of attention, not one of each"
    if inside[0].gathered:
        return None, "its attention call gathers keys, so that they are not one per token"
    return inside[0], ""
