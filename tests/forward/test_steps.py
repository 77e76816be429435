"""The passes of a generation: who sees what in which pass, what is kept, and what raises."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv

IDS = [3, 17, 5, 90, 44, 8, 21]
T, N = len(IDS), 5


def seen(model, site, where, **options):
    """The shapes of what a function is given, in each pass."""
    shapes = []

    def look(x):
        shapes.append(tuple(x.shape))
        return x

    model.generate(options.pop("ids", IDS), N, {site: look}, where, **options)
    return shapes


def test_each_token_is_seen_once(llama):
    width = llama.d_model
    new = [(1, 1, width)] * N
    assert seen(llama, "layers.1", "all") == [(1, T, width), *new]
    assert seen(llama, "layers.1", "prompt") == [(1, T, width)]
    assert seen(llama, "layers.1", "new") == new == seen(llama, "layers.1", "new", prefill_step_size=2)
    assert seen(llama, "layers.1", "all", prefill_step_size=2) == [(1, T, width), *new]
    assert seen(llama, "layers.1", "all", ids=IDS[:1]) == [(1, 1, width), *new]
    assert [shape[:2] for shape in seen(llama, "layers.1.k", "all")] == [(1, T), *[(1, 1)] * N]
    patterns = [shape[2:] for shape in seen(llama, "layers.1.pattern", "all")]
    assert patterns == [(T, T), *((1, T + n) for n in range(1, N + 1))]


def test_where_text_begins_after_a_cache(llama):
    """Positions count from the prompt's start: a cache holds what came before."""
    before, text = IDS[:4], IDS[4:]
    edit = iv.zero_at([0, len(text)])
    cache = make_prompt_cache(llama.net)
    llama.net(mx.array([before]), cache=cache)
    found = llama.generate(text, N, {"layers.1.mlp": edit}, prompt_cache=cache)
    whole = llama.generate(IDS, N, {"layers.1.mlp": iv.zero_at([4, T])})
    assert found.tokens == whole.tokens and np.abs(found.logprobs - whole.logprobs).max() < 5e-5
    with pytest.raises(errors.InputError, match="prompt_cache"):
        llama.generate(text, N, {"layers.1.k": iv.scale(2)}, prompt_cache=make_prompt_cache(llama.net))


def test_a_site_that_a_pass_never_reaches(llama, monkeypatch):
    from mlxtrace.forward import steps

    plain = steps.Steps.wants
    monkeypatch.setattr(steps.Steps, "wants", lambda self, port: self.done < T and plain(self, port))
    with pytest.raises(errors.OrderError, match=f"new token at position {T}.*where='prompt'"):
        llama.generate(IDS, N, {"layers.1": iv.scale(2)})
    monkeypatch.setattr(steps.Steps, "wants", lambda self, port: False)
    with pytest.raises(errors.OrderError, match="pass of the prompt never called it"):
        llama.generate(IDS, N, {"layers.1": iv.scale(2)})


def test_attention_on_a_quantized_cache_is_not_seen():
    model = InterpretableModel(
        models.make("llama", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    )
    for site in ("layers.1.k", "layers.1.pattern"):
        with pytest.raises(errors.OrderError, match="did not happen"):
            model.generate(
                IDS, N, {site: iv.scale(2.0)}, "new", kv_bits=8, kv_group_size=32, quantized_kv_start=0
            )


def test_keys_of_a_window_that_forgets_are_refused():
    model = InterpretableModel(models.make("gemma3_text", sliding_window=6))
    local = next(
        i
        for i in range(model.n_layers)
        if getattr(model.resolver.get_layers()[i].self_attn, "is_sliding", False)
    )
    with pytest.raises(errors.UnsupportedError, match="forgets"):
        model.generate(IDS, N, {f"layers.{local}.k": iv.scale(2.0)})
    model.generate(IDS, N, {f"layers.{local}.q": iv.scale(2.0)})


def test_what_is_another_thing_in_a_pass_of_one_token_is_refused():
    model = InterpretableModel(models.make("llama", num_hidden_layers=2))
    module = model.net.model.layers[0].mlp.gate_proj
    outer = model.net.model.layers[0].mlp
    mlp, gate = type(outer), type(module)

    class OtherGate(gate):
        def __call__(self, x):
            out = gate.__call__(self, x)
            return mx.concatenate([out, out], axis=-1) if x.shape[1] == 1 else out

    class Halving(mlp):
        def __call__(self, x):
            width = self.up_proj.weight.shape[0]
            return self.down_proj(self.gate_proj(x)[..., :width] * self.up_proj(x))

    module.__class__, outer.__class__ = OtherGate, Halving
    path = "layers.0.mlp.gate_proj"
    with pytest.raises(errors.UnsupportedError, match="something else there"):
        model.generate(IDS, N, {path: lambda x: x * 2})
    with pytest.raises(errors.UnsupportedError, match="something else there"):
        model.generate(IDS, N, {path: lambda x: x * 2}, "new")
    model.generate(IDS, N, {path: lambda x: x * 2}, "prompt")
