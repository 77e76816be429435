"""Caches in safetensors files: whole, damaged, and of earlier versions."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlxtrace import ActivationCache
from mlxtrace.errors import LoadError


def test_no_flipped_bit_of_a_cache_goes_unnoticed(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        ("output", f"m.{i}"): mx.array(rng.normal(size=(1, 3, 4))).astype(mx.bfloat16) for i in range(3)
    }
    path = tmp_path / "x.safetensors"
    ActivationCache(arrays, {}).save(path)
    whole, same, refused = path.read_bytes(), 0, 0
    for bit in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            loaded = ActivationCache.load(path)
        except LoadError:
            refused += 1
            continue
        same += 1
        assert sorted(loaded) == [key for _, key in arrays], bit
        assert all(
            mx.array_equal(loaded[key], x) and loaded[key].dtype == x.dtype for (_, key), x in arrays.items()
        )
    assert refused > 10 * same > 0


def test_a_cache_that_was_written_before_there_were_checksums_loads(tmp_path):
    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"output:a": mx.ones(3)}, {"mlxtrace": "{}"})
    assert mx.array_equal(ActivationCache.load(tmp_path / "x.safetensors")["a"], mx.ones(3))
