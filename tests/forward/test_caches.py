"""What mlx-lm's caches hold, and where a prompt may not run in one piece."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

from mlxtrace import errors
from mlxtrace.forward.caches import refuse_pieces, refuse_sinks, short_pass, tokens_in


def filled(cache, n):
    cache.update_and_fetch(mx.zeros((1, 1, n, 4)), mx.zeros((1, 1, n, 4)))
    return cache


def test_tokens_of_every_kind_of_cache():
    assert tokens_in(None) == 0 == tokens_in([ArraysCache(2)])
    assert tokens_in([ArraysCache(2), filled(KVCache(), 3)]) == 3
    assert tokens_in([CacheList(filled(KVCache(), 5), ArraysCache(1))]) == 5


def test_tokens_that_are_always_kept():
    cache = [filled(RotatingKVCache(max_size=8, keep=4), 2)]
    refuse_sinks(cache, 6)
    refuse_sinks([RotatingKVCache(max_size=4, keep=0), KVCache()], 50)  # a window is the same in one piece
    with pytest.raises(errors.UnsupportedError, match="max_kv_size"):
        refuse_sinks(cache, 7)


class LongerPieces:
    """A model whose pieces of several tokens end otherwise."""

    def __init__(self, net):
        self.net = net

    def __getattr__(self, name):
        return getattr(self.net, name)

    def __call__(self, tokens, cache=None):
        return self.net(tokens, cache=cache) * (2 if tokens.shape[1] > 1 else 1)


def test_a_model_whose_pieces_differ_is_refused():
    net = models.make("llama", num_hidden_layers=2)
    measured: dict = {}
    refuse_pieces(net, measured)
    assert measured["pieces"][0] < 1e-5
    refuse_pieces(LongerPieces(net), measured)  # measured once
    with pytest.raises(errors.UnsupportedError, match="one piece"):
        refuse_pieces(LongerPieces(net), {})
    assert short_pass(net)[0].shape == (1, 8) and tokens_in(short_pass(net)[1]) == 0
