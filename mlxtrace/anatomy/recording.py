"""One plain pass of a model, and the record of every module call in it: what the probe reads."""

from __future__ import annotations

import dataclasses
import os
import threading
import zlib
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..errors import LoadError, OrderError
from .architecture_exceptions import exceptional
from .attention import attending, plain_attention
from .calls import Calls
from .taps import arrays_of, first_array, fresh, own_run

GROUP = "_mlxtrace_group"  # on a sharded model: of the processes that hold it together
DOING = 128  # bytes in which they tell each other what they are about to do
WAITING = 60.0  # seconds after which one that waits for the others says so


@dataclass
class Call:
    """One module call of the probe pass; arrays are handles of their own."""

    index: int
    path: str
    visit: int
    parent: int | None
    args: tuple = ()
    kwargs: dict = dataclasses.field(default_factory=dict)
    output: Any = None
    forward: Any = None
    end: int = 0  # calls made inside have index < end
    attention: tuple[tuple[int, int], ...] = ()  # heads (query, key-value) of the attention calls it makes
    gathered: bool = False  # an attention call of it has no query and key per row and token

    def hidden(self) -> mx.array | None:
        """The main array that came out, if any."""
        return first_array(self.output)

    def array(self) -> mx.array:
        """The main array that came out of a call that is known to give one."""
        found = self.hidden()
        assert found is not None, f"{self.path} gives no array"
        return found

    def argument(self, slot: int | str | None) -> mx.array | None:
        """The array that the module was given in a slot, if any."""
        return None if slot is None else self.arguments().get(slot)

    def hidden_input(self, slot: int | str | None) -> mx.array:
        """The array that a layer was given in a slot; LoadError when there is none."""
        found = self.argument(slot)
        if found is None:
            raise LoadError(f"{self.path} is a layer, but is given no hidden state [B, T, width]")
        return found

    def arguments(self) -> dict[int | str, mx.array]:
        """The arrays that the module was given, by position or keyword."""
        return dict(arrays_of(self.args, self.kwargs))

    def inputs(self) -> list[mx.array]:
        """The arrays that the module was given."""
        return list(self.arguments().values())


def snapshot(value: Any) -> Any:
    """The same value with handles of its own on its arrays, also inside tuples and lists."""
    if isinstance(value, mx.array):
        return fresh(value)
    if type(value) in (tuple, list):
        return type(value)(snapshot(v) for v in value)
    return value


def without_caches(call: Call) -> tuple[tuple, dict]:
    """A call's arguments for running it again: caches were used up by the pass, and must not be appended to."""
    args = tuple(None if hasattr(a, "update_and_fetch") else snapshot(a) for a in call.args)
    return args, {k: None if k == "cache" else snapshot(v) for k, v in call.kwargs.items()}


def forward(net: nn.Module, tokens: mx.array, cache: list | None = None) -> mx.array:
    """Logits `[B, T, V]` of a plain pass, with a fresh cache where the architecture is wrong without."""
    if cache is None and exceptional(net).needs_cache:
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(net)
    group = vars(net).get(GROUP)
    if group is not None:
        meet(group, f"a pass over {described(tokens)}")
    with own_run():
        out = net(tokens) if cache is None else net(tokens, cache=cache)
    logits = first_array(out) if out is not None else None
    if logits is None:
        logits = getattr(out, "logits", None)
    if logits is None:
        raise LoadError(f"{type(net).__name__} returned {type(out).__name__}, not logits [B, T, V]")
    return logits


def meet(group: Any, doing: str) -> None:
    """Go on once all processes of a sharded model are about to do the same; OrderError where they are not.

    Processes that run other passes would add up each other's arrays, to numbers that belong to neither.
    """
    own = np.frombuffer(doing.encode()[:DOING].ljust(DOING), np.uint8)
    found = mx.distributed.all_gather(mx.array(own)[None], group=group, stream=mx.cpu)
    words = f"mlxtrace: rank {group.rank()} has waited {WAITING:.0f} s for the other ranks, at {doing}\n"
    notice = threading.Timer(WAITING, os.write, (2, words.encode()))
    notice.daemon = True
    notice.start()
    try:
        mx.eval(found)  # which raises when a process is lost
    finally:
        notice.cancel()
    told = [bytes(one).decode(errors="replace").strip() for one in np.array(found)]
    other = next((rank for rank, one in enumerate(told) if one != told[0]), None)
    if other is not None:
        raise OrderError(
            f"the ranks that hold this model together must make the same calls, on the same prompts: rank 0 is at "
            f"{told[0]}, rank {other} at {told[other]}"
        )


def described(tokens: mx.array) -> str:
    """Token ids as a few words that tell them from others."""
    ids = np.array(tokens, dtype=np.int64)
    some = " ".join(map(str, ids.reshape(-1)[:8].tolist()))
    size = " x ".join(map(str, ids.shape))
    return f"{size} tokens ({some} ..., {zlib.crc32(ids.tobytes()):08x})"


def last_logits(logits: Any, read: int = 1) -> Any:
    """Of logits `[rows, T, V]` those of the last position, `[rows, V]`, or of more than one, `[rows, read, V]`."""
    return logits[..., -1, :] if read == 1 else logits[..., -read:, :]


def module_paths(net: nn.Module) -> dict[str, nn.Module]:
    """Every submodule by dotted path, in definition order; the model itself is ''."""
    return dict(sorted(net.named_modules(), key=lambda item: [_natural(p) for p in item[0].split(".")]))


def _natural(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


class Recorder(Calls):
    """Writes down the calls of one pass on tokens `[B, T]`, in the order in which they begin."""

    def __init__(self, tokens: mx.array):
        super().__init__({})
        self.shape = tuple(tokens.shape)
        self.calls: list[Call] = []
        self._stack: list[Call] = []  # those that have begun and not ended

    def call(self, path: str, visit: int, forward: Any, args: tuple, kwargs: dict) -> Any:
        """Make one call and write it down."""
        call = Call(len(self.calls), path, visit, self._stack[-1].index if self._stack else None)
        call.args, call.forward = snapshot(args), forward
        call.kwargs = {key: snapshot(value) for key, value in kwargs.items()}
        self.calls.append(call)
        self._stack.append(call)
        try:
            out = super().call(path, visit, forward, args, kwargs)
        finally:
            self._stack.pop()
        call.output, call.end = snapshot(out), len(self.calls)
        return out

    def attention(self, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        """Write an attention call down at the innermost call that makes it."""
        if self._stack:
            call = self._stack[-1]
            call.attention += ((q.shape[1], k.shape[1]),)
            call.gathered |= any((x.shape[0], x.shape[2]) != self.shape for x in (q, k, v))
        return plain_attention(q, k, v, **options)


def record(net: nn.Module, tokens: mx.array) -> list[Call]:
    """Run the model with every module tapped; the calls in the order in which they began."""
    recorder = Recorder(tokens)
    first_paths: dict[int, str] = {}
    paths = module_paths(net)
    for path, module in paths.items():
        first_paths.setdefault(id(module), path)
    with (
        recorder.tapping({path: paths[path] for path in first_paths.values()}),
        attending(recorder.attention),
    ):
        mx.eval(forward(net, tokens))
    return recorder.calls


def same(a: mx.array | None, b: mx.array | None) -> bool:
    """Whether two arrays are equal bit for bit, dtype included."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(mx.array_equal(a, b).item())


def find_vocab(net: nn.Module) -> int | None:
    """The number of tokens the model knows, from its arguments or its embedding table."""
    holders = [getattr(net, "args", None), getattr(net, "config", None)]
    holders += [getattr(h, "text_config", None) for h in holders if h is not None]
    for holder in holders:
        size = holder.get("vocab_size") if isinstance(holder, dict) else getattr(holder, "vocab_size", None)
        if isinstance(size, int) and size > 0:
            return size
    for module in module_paths(net).values():
        if isinstance(module, (nn.Embedding, nn.QuantizedEmbedding)):
            return module.weight.shape[0]
    return None


def probe_tokens(vocab: int | None, length: int = 8) -> mx.array:
    """A few different token ids, `[1, length]`."""
    return mx.array([[(3 + 7 * i) % (vocab or 64) for i in range(length)]])
