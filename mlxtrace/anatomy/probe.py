"""What a model looks like from inside, found by watching one probe pass and never by its name alone.

`probe(net)` runs a handful of tokens with every module tapped and reads off the record: which module embeds
the tokens, which are the layers and in what order they run, which argument carries the hidden state, which
submodules mix positions (the mixer) and which do not (the MLP), and whether the residual stream is their
plain sum. Names only break ties.
"""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import mlx.nn as nn

from ..errors import LoadError
from .layers import Paths, Slot, called_layer, uncalled_layer, with_heads
from .layout import Layer, Structure
from .max_length import id_limit, position_limit
from .parts import is_hidden
from .recording import Call, find_vocab, forward, module_paths, probe_tokens, record, same
from .wiring import has_matrices


def probe(net: nn.Module) -> Structure:
    """Watch one pass of 8 tokens and describe the model (module docstring).

    Raises:
        LoadError: there are no layers, no embedding module, or the pass fails.
    """
    own = {id(module) for module in find_layers(net)}
    paths, tokens = module_paths(net), probe_tokens(find_vocab(net))
    calls = _recorded(net, tokens)
    embed, root = _embedding(net, calls, tokens, paths), calls[0]
    runs = [call for call in calls if id(paths[call.path]) in own]
    if runs:
        layers = _called(calls, runs, embed, tokens, paths)
        layers = with_heads(net, tokens, calls, layers, paths)
        last = runs[-1].hidden()
        tail = [call for call in calls if call.index >= runs[-1].end]
    else:
        layers, last, tail = _uncalled(net, calls, tokens, paths), None, []
    norm = next((c for c in tail if any(same(x, last) for x in c.inputs())), None)
    head = next((c for c in reversed(tail) if c.index and same(c.hidden(), root.hidden())), None)
    known = min(paths[embed.path]["weight"].shape[0], root.array().shape[-1])
    return Structure(
        layers=layers,
        embed=embed.path,
        norm=norm.path if norm else None,
        norm_visit=norm.visit if norm else 0,
        head=head.path if head else None,
        d_model=embed.array().shape[-1],
        vocab_size=root.array().shape[-1],
        visits=dict(Counter(c.path for c in calls)),
        max_length=position_limit(calls, paths, tokens, lambda: forward(net, tokens)),
        known_ids=id_limit(calls, paths, tokens, known, lambda others: _recorded(net, others)),
    )


def find_layers(net: nn.Module) -> list[nn.Module]:
    """The layer modules in definition order: mlx-lm's own `model.layers`, else the longest module list."""
    layers = getattr(net, "layers", None)
    if layers is None:
        children = [v for m in module_paths(net).values() for v in m.children().values()]
        layers = max((v for v in children if isinstance(v, list)), key=len, default=None)
    layers = [m for m in layers or [] if isinstance(m, nn.Module)]
    if not layers:
        raise LoadError(
            f"{type(net).__name__} has no list of layers: expected a language model of mlx-lm, "
            "with its layers in `model.layers`"
        )
    return layers


def _recorded(net: nn.Module, tokens: mx.array) -> list[Call]:
    try:
        return record(net, tokens)
    except Exception as error:  # a model may fail in any way
        cure = '; load it with dtype="float32"' if "only supports float32" in str(error) else ""
        raise LoadError(
            f"a probe pass of {tokens.shape[1]} tokens through {type(net).__name__} failed: "
            f"{type(error).__name__}: {error}{cure}"
        ) from error


def _embedding(net: nn.Module, calls: list[Call], tokens: mx.array, paths: Paths) -> Call:
    """The first module with a table that is given the tokens."""
    for call in calls:
        if "weight" in paths[call.path] and any(_same_ids(x, tokens) for x in call.inputs()):
            return call
    raise LoadError(f"{type(net).__name__} calls no embedding module on the tokens")


def _same_ids(x: mx.array, tokens: mx.array) -> bool:
    return x.shape == tokens.shape and not mx.issubdtype(x.dtype, mx.inexact) and bool((x == tokens).all())


def _called(
    calls: list[Call], runs: list[Call], embed: Call, tokens: mx.array, paths: Paths
) -> tuple[Layer, ...]:
    """The layers from the calls of their modules."""
    slots: list[Slot] = []
    before = embed.array()
    for call in runs:
        slots.append(_slot(call, before, tokens.shape[1], embed.array().shape[-1]))
        before = call.array()
    if slots[0] != slots[-1] and isinstance(slots[-1], type(slots[0])):
        slots[0] = slots[-1]
    following = [call.argument(slot) for call, slot in zip(runs[1:], slots[1:], strict=True)]
    return tuple(
        called_layer(calls, call, slot, tokens, paths, given)
        for call, slot, given in zip(runs, slots, [*following, None], strict=True)
    )


def _slot(call: Call, before: mx.array, length: int, width: int) -> Slot:
    """The argument that holds the hidden state: the one equal to what came before, else the first."""
    found = [(k, x) for k, x in call.arguments().items() if is_hidden(x, length, width)]
    exact = [k for k, x in found if same(x, before)]
    return (exact or [k for k, _ in found] or [None])[0]


def _uncalled(net: nn.Module, calls: list[Call], tokens: mx.array, paths: Paths) -> tuple[Layer, ...]:
    """The layers from the calls of their parts, once for each time that the stack is run."""
    by_id = {id(module): path for path, module in paths.items()}
    own = [by_id[id(module)] for module in find_layers(net)]
    inside = [c for c in calls if any(c.path.startswith(path + ".") for path in own)]
    loops = max((c.visit + 1 for c in inside if has_matrices(paths[c.path])), default=1)
    return tuple(uncalled_layer(calls, path, visit, tokens, paths) for visit in range(loops) for path in own)
