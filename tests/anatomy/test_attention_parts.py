"""Attention in parts is attention: by block, by what rows share, whatever is masked, by either kind of arithmetic."""

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace.anatomy import attention_parts as parts
from mlxtrace.anatomy.attention import plain_attention

SHARED, OWN, WIDTH = 13, 5, 8
BOUND = {
    0.35: 2e-6,
    30.0: 1e-4,
}  # rounding grows with the scores: soft, and so hard that the largest is taken off


@pytest.fixture(params=["numpy", "mlx"])
def arithmetic(request, monkeypatch):
    """Either kind of arithmetic, a few scores at a time."""
    monkeypatch.setattr(parts, "on_processor", lambda: request.param == "numpy")
    monkeypatch.setattr(parts, "IN_CACHE", 40)
    monkeypatch.setattr(parts, "IN_MEMORY", 40)
    monkeypatch.setattr(parts, "LONG", 0)
    return request.param


def drawn(*shape, scale=1.0):
    return mx.array(scale * np.random.RandomState(sum(shape)).randn(*shape).astype(np.float32))


def window(queries, keys, width):
    """Which keys a query sees of which the last is its own, and `width` before it."""
    at = np.arange(queries)[:, None] + keys - queries
    return (np.arange(keys) <= at) & (np.arange(keys) > at - width)


MASKS = {
    "none": lambda n, keys: None,
    "causal": lambda n, keys: "causal",
    "causal array": lambda n, keys: mx.array(window(n, keys, 99)),
    "window": lambda n, keys: mx.array(window(n, keys, 7)),  # the last queries see nothing that is shared
    "window of 3": lambda n, keys: mx.array(window(n, keys, 3)[None, None]),
    "added": lambda n, keys: mx.where(mx.array(window(n, keys, 4)), drawn(n, keys), -mx.inf),  # and here too
}


def textbook(q, k, v, scale, mask, sinks=None):
    """Softmax of all scores at once, in float64."""
    q, k, v = (np.array(x.astype(mx.float32)).astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = scale * q @ k.swapaxes(-1, -2)
    if isinstance(mask, str):
        mask = mx.array(window(q.shape[2], k.shape[2], 1000))
    if mask is not None:
        mask = np.array(mask)
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if sinks is not None:
        sink = np.broadcast_to(np.array(sinks).reshape(-1, 1, 1), (*scores.shape[:-1], 1))
        scores = np.concatenate([scores, sink], axis=-1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True))[..., : k.shape[2]] @ v


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", BOUND)
def test_attention_is_the_textbook_s(arithmetic, mask, sinks, scale):
    q, k, v = drawn(2, 6, 9, WIDTH), drawn(2, 3, 14, WIDTH), drawn(2, 3, 14, WIDTH + 2)
    seen, sink = MASKS[mask](9, 14), drawn(6) if sinks else None
    out = parts.attend(q, k, v, scale=scale, mask=seen, sinks=sink)
    np.testing.assert_allclose(np.array(out), textbook(q, k, v, scale, seen, sink), atol=BOUND[scale])


@pytest.mark.parametrize("shared_rows", [1, 3])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", BOUND)
def test_what_rows_share_is_looked_at_once(arithmetic, mask, sinks, scale, shared_rows, monkeypatch):
    monkeypatch.setattr(parts, "plain_attention", None)
    q, own_k, own_v = drawn(4, 6, OWN, WIDTH), drawn(4, 3, OWN, WIDTH), drawn(4, 3, OWN, WIDTH)
    shared_k, shared_v = drawn(shared_rows, 3, SHARED, WIDTH), drawn(shared_rows, 3, SHARED, WIDTH, scale=2.0)
    of = np.array([0, 1, 2, 1]) * (shared_rows > 1)
    wholes = [mx.concatenate([s[mx.array(of)], o], 2) for s, o in ((shared_k, own_k), (shared_v, own_v))]
    queries = parts.Queries.of(np.ones((4, OWN), bool), of, np.zeros(4, int))
    k, v = (
        parts.Joined.of(whole, shared, own, queries)
        for whole, shared, own in zip(wholes, (shared_k, shared_v), (own_k, own_v), strict=True)
    )
    seen, sink = MASKS[mask](OWN, SHARED + OWN), drawn(6) if sinks else None
    out = parts.attend(q, k, v, scale=scale, mask=seen, sinks=sink)
    np.testing.assert_allclose(np.array(out), textbook(q, *wholes, scale, seen, sink), atol=BOUND[scale])


def test_tokens_that_do_not_attend_have_what_another_row_has(arithmetic):
    attend = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    queries = parts.Queries.of(attend, np.array([0, 7, 7, 0]), np.array([0, 1, 1, 0]))
    assert {row: at.tolist() for row, at in queries.by_shared.items()} == {
        0: [0, 1, 2, 11],
        7: [3, 4, 5, 7, 8],
    }
    at = np.concatenate(list(queries.by_shared.values()))
    assert at[queries.back].tolist() == [0, 1, 2, 3, 4, 5, 3, 7, 8, 0, 1, 11]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_comes_back_as_the_plain_call_gives_it(arithmetic, dtype):
    q, k, v = (x.astype(dtype) for x in (drawn(1, 4, 6, 8), drawn(1, 2, 6, 8), drawn(1, 2, 6, 8)))
    out = parts.attend(q, k, v, scale=3.3, mask="causal")
    assert out.dtype == plain_attention(q, k, v, scale=3.3, mask="causal").dtype == dtype
    expected = mx.array(textbook(q, k, v, 3.3, "causal"))  # scores are large: rounded ones would be seen
    if arithmetic == "numpy":  # elsewhere it is the plain call
        assert mx.allclose(out.astype(mx.float32), expected, rtol=0.008, atol=1e-4)
    queries = parts.Queries.of(np.ones((1, 2), bool), np.zeros(1, int), np.zeros(1, int))
    joined = (parts.Joined.of(x, x[:, :, :4], x[:, :, 4:], queries) for x in (k, v))
    once = parts.attend(q[:, :, 4:], *joined, scale=3.3, mask="causal")
    assert once.dtype == dtype
    assert mx.allclose(once.astype(mx.float32), expected[:, :, 4:], rtol=0.008, atol=1e-4)


UNKNOWN = [
    {"mask": mx.ones((2, 1, 6, 6), mx.bool_)},
    {"mask": mx.ones((6, 1, 6), mx.bool_)},  # of each head, which keys: as many numbers as queries and keys
    {"unheard_of": 1},
]


@pytest.mark.parametrize("options", UNKNOWN, ids=["rows", "heads", "option"])
def test_what_is_not_known_goes_to_the_plain_call(arithmetic, options, monkeypatch):
    asked = []
    monkeypatch.setattr(parts, "plain_attention", lambda *arrays, **named: asked.append(named))
    x = drawn(2, 6, 6, 8)
    parts.attend(x, x, x, scale=1.0, **options)
    assert asked == [{"scale": 1.0, **options}]


def test_short_prompts_and_other_devices_go_to_the_plain_call(monkeypatch):
    monkeypatch.setattr(parts, "plain_attention", lambda *_, **__: "plain")
    short, long = drawn(1, 1, parts.LONG - 1, 4), drawn(1, 1, parts.LONG, 4)
    assert parts.attend(short, short, short, scale=1.0) == "plain"
    monkeypatch.setattr(parts, "on_processor", lambda: True)
    assert parts.attend(long, long, long, scale=1.0).shape == long.shape
    monkeypatch.setattr(parts, "on_processor", lambda: False)
    assert parts.attend(long, long, long, scale=1.0) == "plain"
