"""Sites: how an array is looked at and put back, in every view."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxtrace.anatomy.sites import Site

X = mx.arange(24, dtype=mx.float32).reshape(1, 3, 8)
BASE = Site("before", "layers.0")


def test_heads_split_the_last_axis():
    site = Site("h", "o_proj", "input", view="heads", heads=4)
    assert site.get(X).shape == (1, 3, 4, 2)
    assert mx.array_equal(site.get(X)[:, :, 1], X[..., 2:4])
    assert mx.array_equal(site.put(X, site.get(X)), X)


@pytest.mark.parametrize("view", ["middle", "sum"])
def test_what_is_added_to_a_base_takes_up_the_difference(view):
    site, base = Site("m", "attn", view=view, bases=(BASE,)), 1e4 * mx.ones_like(X)
    seen = site.get(X, base)
    assert mx.array_equal(seen, base + X)
    assert mx.array_equal(site.put(X, seen, base), X), "what was not changed goes on bit for bit"
    changed = mx.where(mx.arange(8) == 2, 0.0, seen)
    assert mx.array_equal(site.get(site.put(X, changed, base), base), changed)


def test_rows_of_all_prompts_are_shown_by_prompt():
    site, flat = Site("r", "gate", view="rows", bases=(BASE,)), mx.arange(24, dtype=mx.float32).reshape(6, 4)
    base = mx.zeros((2, 3, 8))
    assert site.get(flat, base).shape == (2, 3, 4)
    assert mx.array_equal(site.get(flat, base)[1, 0], flat[3])
    assert mx.array_equal(site.put(flat, 2 * site.get(flat, base), base), 2 * flat)


def test_a_site_with_bases_is_never_seen_without_them():
    for view in ("middle", "rows"):
        with pytest.raises(AssertionError, match="with bases"):
            Site("m", "attn", view=view, bases=(BASE,)).get(X)


def test_bases_are_added_up():
    arrays = {"a": X, "b": 2 * X}
    site = Site("s", "c", view="sum", bases=(Site("a", "a"), Site("b", "b")))
    assert mx.array_equal(site.base(lambda base: arrays[base.path]), 3 * X)
    assert BASE.base(lambda base: X) is None


def test_what_a_module_of_the_same_name_means():
    site = Site("layers.0.router", "model.layers.0.router.proj")
    assert site.is_meant_by("model.layers.0.router") and site.is_meant_by(site.path)
    assert not site.is_meant_by("model.layers.0.rout") and not site.is_meant_by("model.layers.1.router")
    assert Site("layers.0.mlp", "b", modules=("a", "b")).is_meant_by("anything")
    assert site.port == ("model.layers.0.router.proj", "output", 0)
