"""One layer of a plain run, called again on other inputs, its parts giving what they are told to give.

    call = calls[3]                                    # of `record_calls`
    q, k, v = call.attention_inputs(x)                 # what its attention call would see, were x its input
    mlp = call.mlp_output(x)                           # what its MLP would give, were x the stream that it reads
    added = call.written(mixer=y, mlp=m)               # what the stream gains when its parts give these

The layer is the model's own, with its norms, positions and masks; nothing of it is written again here. A call that
is not needed to its end is abandoned there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..anatomy.attention import attending
from ..anatomy.layout import Layer
from ..anatomy.taps import arrays_of, first_array, fresh, put_argument, put_first, tapping, whole_call

Handler = Callable[[Callable[..., Any], tuple, dict], Any]


class _Abandoned(Exception):
    """A call went as far as it was needed; carries what was found there."""

    def __init__(self, found: Any):
        super().__init__()
        self.found = found


@dataclass
class LayerCall:
    """A layer's call as a plain run made it, to be made again.

    Attributes:
        layer: what the probe found of it. paths: the model's modules by path.
        forward, args, kwargs: the call. rows: of the run.
        axes: by the place of an argument, the batch axis of the arrays that have a row per row of the run.
    """

    layer: Layer
    paths: Mapping[str, nn.Module]
    forward: Callable[..., Any]
    args: tuple
    kwargs: dict
    rows: int
    axes: Mapping[tuple, int]

    def again(
        self,
        x: mx.array,
        handlers: Mapping[str, Handler] | None = None,
        attend: Callable[..., mx.array] | None = None,
    ) -> Any:
        """The layer's output `[N, T, D]` for an input x; or what a handler that abandons the call has found.

        handlers: by module path, what is done in place of its call. attend: in place of the attention call.
        N is a multiple of the run's rows; each row of x is beside what its row of the run had beside it.
        """
        slot = self.layer.slot
        if slot is None:
            slot = next(arrays_of(self.args, self.kwargs))[0]
        args = tuple(self._beside(v, (i,), len(x)) for i, v in enumerate(self.args))
        kwargs = {k: self._beside(v, (k,), len(x)) for k, v in self.kwargs.items()}
        args, kwargs = put_argument(args, kwargs, slot, fresh(x))
        taps = [(self.paths[path], handler) for path, handler in (handlers or {}).items()]
        try:
            with tapping(taps), attending(attend):
                return first_array(self.forward(*args, **kwargs))
        except _Abandoned as stopped:
            return stopped.found

    def _beside(self, value: Any, where: tuple, rows: int) -> Any:
        """An argument with as many rows as x; the hidden state itself is put in its place afterwards."""
        if isinstance(value, mx.array):
            axis = self.axes.get(where)
            times = rows // self.rows
            return fresh(value) if axis is None or times < 2 else _repeated(value, axis, times)
        if type(value) in (tuple, list):
            return type(value)(self._beside(v, (*where, i), rows) for i, v in enumerate(value))
        return value

    # ---- what is read

    def attention_inputs(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values `[N, T, heads, width]` as the attention call sees them, x being the input."""

        def stop(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
            raise _Abandoned(tuple(part.swapaxes(1, 2) for part in (q, k, v)))

        return self.again(x, attend=stop)

    def mlp_output(self, x: mx.array, mixer: mx.array | None = None) -> mx.array:
        """What the MLP gives `[N, T, D]` when the stream that it reads is x: the mixer is made to give zeros.

        mixer: what the mixer gives instead.
        """
        found: dict[str, mx.array] = {}

        def noting(path: str) -> Handler:
            def handler(forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
                out = forward(*args, **kwargs)
                found[path] = fresh(_array(out))
                return out

            return handler

        self.again(x, {**self._mixer_gives(mixer), **{path: noting(path) for path in self.layer.summed}})
        parts = [found[path] for path in self.layer.summed]
        return sum(parts[1:], parts[0])

    def mlp_input(self, x: mx.array, mixer: mx.array | None = None) -> mx.array:
        """What the MLP is given when the layer is given x, and the mixer gives this (None: zeros)."""

        def stop(_: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
            raise _Abandoned(fresh(next(arrays_of(args, kwargs))[1]))

        return self.again(x, {**self._mixer_gives(mixer), **dict.fromkeys(self.layer.summed, stop)})

    def projected(self, x: mx.array, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """What the output projection is given `[N, T, width]` with these queries, keys and values for an input x."""

        def attend(*_: mx.array, **options: Any) -> mx.array:
            return mx.fast.scaled_dot_product_attention(
                *(part.swapaxes(1, 2) for part in (q, k, v)), **options
            )

        def stop(_: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
            raise _Abandoned(fresh(next(arrays_of(args, kwargs))[1]))

        assert self.layer.out_proj is not None, "only layers whose heads are known are asked"
        return self.again(x, {self.layer.out_proj: stop}, attend)

    def projection(self) -> Callable[[mx.array], mx.array]:
        """The mixer's output projection, on whatever is put in the place of what it is given."""
        assert self.layer.out_proj is not None, "only layers whose heads are known are asked"
        return whole_call(self.paths[self.layer.out_proj])

    # ---- what is written

    def written(self, mixer: mx.array | None = None, mlp: mx.array | None = None) -> mx.array:
        """What the stream gains `[N, T, D]` when mixer and MLP give these outputs, None being zeros."""
        given = mixer if mixer is not None else mlp
        assert given is not None, "one of the parts is given"
        first, *others = self.layer.summed or (None,)
        handlers = self._mixer_gives(mixer)
        if first is not None:
            handlers |= {first: _giving(mlp), **{path: _giving(None) for path in others}}
        return self.again(mx.zeros_like(given), handlers)

    def _mixer_gives(self, value: mx.array | None) -> dict[str, Handler]:
        return {path: _giving(value) for path in self.layer.mixers}


def _giving(value: mx.array | None) -> Handler:
    """A handler that gives a value in place of a module's output, or zeros."""

    def handler(forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        out = forward(*args, **kwargs)  # never computed: only its form is kept
        return put_first(out, mx.zeros_like(_array(out)) if value is None else fresh(value))

    return handler


def _array(out: Any) -> mx.array:
    found = first_array(out)
    assert found is not None, "a part of a layer gives an array"
    return found


def _repeated(x: mx.array, axis: int, times: int) -> mx.array:
    return mx.concatenate([x] * times, axis=axis)
