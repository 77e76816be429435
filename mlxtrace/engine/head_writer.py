"""What single heads write to the stream: their part of what the mixer adds, as it is, scaled, or through a norm."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..errors import UnsupportedError
from .layer_calls import LayerCall


class HeadWriter:
    """How the mixer's output gets into the stream of one layer: as it is, times a factor, or through a norm.

    Through a norm each head is given the part of the norm's output that it makes up, at the run's own scale.
    """

    def __init__(self, call: LayerCall, heads: int, stream: mx.array):
        width, where = stream.shape, call.layer.path
        self.call, self.heads, self.projection = call, heads, call.projection()
        y = mx.random.normal(width, key=mx.random.key(3)).astype(stream.dtype)
        once, twice = (call.written(mixer=times * y).astype(mx.float32) for times in (1, 2))
        nothing = call.written(mixer=mx.zeros_like(y))
        self.kind, self.gain = "sum", mx.ones((1, 1, width[-1]))
        if mx.any(nothing != 0):
            raise UnsupportedError(
                f"edges of this model cannot be patched: {where} adds something of its own"
            )
        if mx.array_equal(once, y.astype(mx.float32)):
            return
        if mx.array_equal(2 * once, twice):
            self.kind = "scaled"
            return
        self.kind = "normed"
        large = mx.full(width, 1e4, dtype=y.dtype)
        self.gain = call.written(mixer=large).astype(mx.float32)[:1, :1]
        expected = self._scale(y, once) * self.gain * y.astype(mx.float32)
        if mx.abs(expected - once).max() > 2e-2 * mx.abs(once).max():
            raise UnsupportedError(
                f"edges of this model cannot be patched: what {where} adds is no sum over its heads"
            )

    def _scale(self, y: mx.array, written: mx.array) -> mx.array:
        """The norm's scale for each token `[..., T, 1]`."""
        before = self.gain * y.astype(mx.float32)
        return (written * before).sum(-1, keepdims=True) / mx.maximum(
            (before * before).sum(-1, keepdims=True), 1e-30
        )

    def heads_written(self, projected: mx.array, heads: list[int]) -> mx.array:
        each = self._projected_apart(projected, heads)
        if self.kind == "sum":
            return each.astype(mx.float32)
        if self.kind == "scaled":
            flat = each.reshape(-1, *each.shape[2:])
            return self.call.written(mixer=flat).astype(mx.float32).reshape(each.shape)
        whole = self.projection(projected.reshape(*projected.shape[:-2], -1))
        scale = self._scale(whole, self.call.written(mixer=whole).astype(mx.float32))
        return each.astype(mx.float32) * self.gain * scale

    def _projected_apart(self, projected: mx.array, heads: list[int]) -> mx.array:
        """What the projection gives for each head alone `[heads, N, T, D]`, its bias shared by all heads."""
        if type(self.projection) is nn.Linear:
            weight = self.projection.weight
            weight = weight.reshape(weight.shape[0], self.heads, -1)[:, mx.array(heads)]
            each = mx.einsum("nthw,dhw->hntd", projected[:, :, mx.array(heads)], weight)
            bias = self.projection.get("bias")
            return each if bias is None else each + bias / self.heads
        alone = (mx.arange(self.heads) == mx.array(heads)[:, None])[:, None, None, :, None]
        inputs = mx.where(alone, projected[None], 0)
        nothing = self.projection(mx.zeros_like(inputs[:1, :1, :1].reshape(1, 1, -1)))
        flat = inputs.reshape(-1, inputs.shape[2], self.heads * inputs.shape[-1])
        each = self.projection(flat).reshape(*inputs.shape[:3], -1)
        return each - nothing + nothing / self.heads
