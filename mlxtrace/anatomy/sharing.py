"""Which arrays of a sharded model are a rank's own part, and how the whole is made up of them.

Two plain passes (of several tokens, and of one more) are recorded on every rank, and what each call is given and gives
is compared between the ranks: what is the same on all of them is whole, anything else is a part. Along which axis, or
whether it is a term of a sum, follows from the module: a linear map that is given a part gives a term of a sum, a norm
or an activation gives the slices that it is given. What cannot be told so is marked as unknown, and refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.nn.layers.distributed import sum_gradients
from mlx_lm.models.cache import make_prompt_cache

from .recording import GROUP as GROUP
from .recording import Call, OrderError, Recorder, attending, find_vocab, forward, module_paths, probe_tokens
from .recording import meet as meet
from .shards import Part, Share, group_of
from .shards import share_of as share_of
from .taps import MARK, fresh

LENGTH = 11  # of the pass of several tokens: no usual number of heads
FUSED = (
    "qkv",
    "gate_up",
    "up_gate",
)  # several maps in one matrix: each of them is sliced, so that slices alternate
CLOSE = 0.03  # how far sums over a whole may be apart on different devices
EXACT = 1e-3  # and in float32
HUGE = 1e20  # what masks hold
Where = int | str | None  # an argument, or the output


def shared_out(net: nn.Module) -> Any:
    """Mark the modules of a sharded model with what of their calls is a part; the group, None for a whole model."""
    for module in net.modules():
        vars(module).pop(MARK, None)
    group = group_of(net)
    if group is not None:
        set_apart(net)
        cache = make_prompt_cache(net)
        many, one = _Look(net, group, LENGTH, cache), _Look(net, group, 1, cache)
        modules = module_paths(net)
        for path, share in many.shares.items():
            alone = one.shares.get(path, Share())
            if (share.inputs.keys(), share.output is None) != (alone.inputs.keys(), alone.output is None):
                share.inputs, share.output, share.unknown = {}, None, {"input", "output"}
            share.unknown |= alone.unknown
            share.attention |= alone.attention
            if share != Share():
                setattr(modules[path], MARK, share)
    return group


def set_apart(net: nn.Module) -> None:
    """Give a model modules of its own where mlx-lm has one for all models: activations that are default arguments."""
    for module in net.modules():
        for name, child in module.children().items():
            if isinstance(child, nn.Module) and not child.children() and not child.parameters():
                setattr(module, name, copy.copy(child))


def check_alike(group: Any, name: str, x: mx.array) -> None:
    """OrderError where an edited array is not the same on all ranks, so that each would put in a part of another."""
    found = mx.distributed.all_gather(_sketch(x)[None], group=group, stream=mx.cpu)
    try:
        mx.eval(found)
    except ValueError as error:
        if "transform" not in str(error):  # inside `mx.grad` arrays have no values
            raise
        return
    of_all = np.array(found)
    apart = np.abs(of_all - of_all[0]).max(-1) > (EXACT if x.dtype == mx.float32 else CLOSE)
    if apart.any():
        raise OrderError(
            f"the edit at {name} makes another array on rank {apart.argmax()} than on rank 0 of this sharded model: "
            "edit on all ranks alike, and give random numbers a seed (mx.random.seed(0) on each, interventions.noise)"
        )


def summing(paths: dict[str, nn.Module], group: Any, site: Any) -> Callable[[mx.array], mx.array]:
    """What makes the gradient of a zero that is added at a site whole; see `ModelParts.summing`."""
    share = vars(paths[site.path]).get(MARK, Share())
    above = [path for path in paths if site.path.startswith(path + ".") and path]
    inside = any(vars(paths[path]).get("sharding_group") is not None for path in above)
    whole = not share.inputs if site.side == "input" else share.output is None
    summed: Any = sum_gradients(group)
    return summed if inside and whole and site.side in ("input", "output") else lambda x: x


class _Recorder(Recorder):
    """Writes down attention calls with what they are given."""

    def __init__(self, tokens: mx.array):
        super().__init__(tokens)
        self.attended: list[
            tuple[int, dict[str, mx.array]]
        ] = []  # the call that makes it, and arrays by name

    def attention(self, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        named = {"q": q, "k": k, "v": v, **options}
        arrays = {name: fresh(x) for name, x in named.items() if isinstance(x, mx.array)}
        if self._stack:
            self.attended.append((self._stack[-1].index, arrays))
        return super().attention(q, k, v, **options)


class _Look:
    """One recorded pass, compared between the ranks.

    shares: by path, what of a module's calls is a part.
    """

    def __init__(self, net: nn.Module, group: Any, length: int, cache: list):
        self.group, self.length = group, length
        self.paths = module_paths(net)
        tokens = probe_tokens(find_vocab(net), length)
        recorder = _Recorder(tokens)
        own = {id(module): path for path, module in reversed(self.paths.items())}
        with (
            recorder.tapping({path: self.paths[path] for path in own.values()}),
            attending(recorder.attention),
        ):
            mx.eval(forward(net, tokens, cache))
        self.calls, self.attended = recorder.calls, recorder.attended
        self.copies = self._compared()
        self.made: list[
            tuple[np.ndarray, tuple, Any]
        ] = []  # sketches of parts that were given out, and what they are
        self.shares: dict[str, Share] = {}
        for call in sorted(self.calls, key=lambda c: (c.end, -c.index)):  # what is inside comes first
            self._read(call)
        self._read_attention()

    # ---- comparing

    def _compared(self) -> dict[tuple[int, Any], tuple[int, np.ndarray]]:
        """By call (or attention call) and place, how many ranks in a row have the same array, and its own sketch."""
        places: list[tuple[tuple[int, Any], mx.array]] = []
        for call in self.calls:
            places += [((call.index, key), x) for key, x in call.arguments().items()]
            if (out := call.hidden()) is not None:
                places.append(((call.index, None), out))
        for i, (_, arrays) in enumerate(self.attended):
            places += [((i, f"attention {name}"), x) for name, x in arrays.items()]
        mine = mx.stack([_sketch(x) for _, x in places])
        size = self.group.size()
        of_all = np.array(mx.distributed.all_gather(mine, group=self.group)).reshape(size, *mine.shape)
        own = np.array(mine)
        return {place: (_copies(of_all[:, i]), own[i]) for i, (place, _) in enumerate(places)}

    def _parted(self, call: int, where: Any) -> bool:
        return self.copies[call, where][0] < self.group.size()

    # ---- reading one call

    def _read(self, call: Call) -> None:
        share = self.shares.setdefault(call.path, Share())
        inputs = {}
        for key, x in call.arguments().items():
            if self._parted(call.index, key):
                inputs[key] = self._given(call, key, x)
        out = call.hidden()
        output = None
        if out is not None and self._parted(call.index, None):
            output = self._gives(call, inputs, out)
            self.made.append((self.copies[call.index, None][1], out.shape, output))
        known = {key: part for key, part in inputs.items() if part is not None}
        if call.visit and (share.inputs != known or share.output != output):
            inputs, output = {"": None}, False  # not the same at each call
        share.inputs = known if len(known) == len(inputs) else {}
        share.output = output if isinstance(output, Part) else None
        share.unknown = {
            side for side, bad in (("input", None in inputs.values()), ("output", output is False)) if bad
        }
        if share.unknown and not share.inputs:
            share.output = None if inputs else share.output

    def _part(self, call: Call, where: Where, axis: int | None) -> Part:
        return Part(self.group, axis, 1 if axis is None else self.copies[call.index, where][0])

    def _given(self, call: Call, key: Any, x: mx.array) -> Part | None:
        """What an argument is: as it was given out, else by its shape; None where it is not known."""
        sketch = self.copies[call.index, key][1]
        for known, shape, part in reversed(self.made):
            if shape == x.shape and np.array_equal(known, sketch):
                return part or None
        axis = self._axis(call, x)
        return None if axis is None else self._part(call, key, axis)

    def _gives(self, call: Call, inputs: dict[Any, Part | None], out: mx.array) -> Part | bool:
        """What a call gives; False where it is not known."""
        module, name = self.paths[call.path], call.path.rpartition(".")[2]
        kind = type(module).__name__
        if "Linear" in kind and "weight" in module:
            axis = 1 if "Multi" in kind else -1
            if axis == 1 or not inputs:
                return not any(part in name for part in FUSED) and self._part(call, None, axis)
            return self._part(call, None, None)
        if module.children():
            inside = [c for c in self.calls[call.index + 1 : call.end] if "weight" in self.paths[c.path]]
            last = self.shares[inside[-1].path].output if inside else None
            return last if last is not None and last.axis is None else False
        given, first = next(iter(inputs.values()), None), next(iter(call.inputs()), None)
        if given is None or given.axis is None or first is None or first.ndim != out.ndim:
            return False
        return given

    def _axis(self, call: Call, x: mx.array) -> int | None:
        """Along which axis an array is sliced: heads where it is inside of attention, else the width."""
        if x.ndim < 4:
            return -1 if x.ndim > 1 else None
        above = [c for c in self.calls if c.index <= call.index < c.end]
        makers = {index for index, _ in self.attended}
        if any(c.index <= i < c.end for c in above[-2:] for i in makers):
            if x.ndim > 4 or x.shape[1:3].count(self.length) != 1:
                return None
            return 1 if x.shape[2] == self.length else 2
        chosen = any(not mx.issubdtype(y.dtype, mx.inexact) for c in above[1:] for y in c.inputs())
        return -1 if chosen else None

    # ---- attention

    def _read_attention(self) -> None:
        for i, (maker, arrays) in enumerate(self.attended):
            parts = {}
            for name in arrays:
                copies = self.copies[i, f"attention {name}"][0]
                if copies < self.group.size():
                    parts[name] = Part(self.group, 0 if name == "sinks" else 1, copies)
            if "q" not in parts:
                continue
            for call in self.calls:
                if call.index <= maker < call.end:
                    self._inside(self.shares[call.path], parts)

    def _inside(self, share: Share, parts: dict[str, Part]) -> None:
        """An attention call inside of a module's; where those inside are shared out differently, it has none."""
        if share.attention.get(self.length == 1, parts) != parts:
            share.unknown.add("attention")
        share.attention = {} if "attention" in share.unknown else {self.length == 1: parts}


def _sketch(x: mx.array) -> mx.array:
    """A few sums over an array that tell it from another of its shape, and its size."""
    flat = x.reshape(-1).astype(mx.float32)
    flat = mx.where(mx.abs(flat) < HUGE, flat, 0)  # false for what is not a number
    size = mx.sqrt(mx.square(flat).sum())
    at = mx.arange(flat.size).astype(mx.float32)
    sums = [(flat * mx.cos(pace * at + 1)).sum() / mx.maximum(size, 1e-30) for pace in (0.7, 1.9, 2.6)]
    return mx.stack([*sums, mx.log(mx.maximum(size, 1e-30))])


def _copies(sketches: np.ndarray) -> int:
    """How many ranks in a row have the same array, by their sketches `[ranks, ...]`."""
    n = len(sketches)
    for copies in range(n, 1, -1):
        blocks = sketches.reshape(n // copies, copies, -1) if n % copies == 0 else None
        if blocks is not None and np.all(np.abs(blocks - blocks[:, :1]) < CLOSE):
            return copies
    return 1
