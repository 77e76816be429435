"""Checksums see types, shapes and names."""

from __future__ import annotations

import mlx.core as mx

from mlxtrace.storage import checksums


def test_checksums_of_types_and_shapes_differ():
    x = mx.arange(12, dtype=mx.float32)
    several = [
        x,
        x.reshape(3, 4),
        x.reshape(4, 3),
        x.reshape(3, 4).T,
        x.astype(mx.bfloat16),
        x.view(mx.uint32),
        x[::-1],
    ]
    assert len({checksums.of_arrays({"x": one}) for one in several}) == len(several)
    assert checksums.of_arrays({"x": mx.array(1.0)}) != checksums.of_arrays({"y": mx.array(1.0)})
    assert checksums.of_arrays({"x": mx.zeros((0, 3))}) != checksums.of_arrays({})
