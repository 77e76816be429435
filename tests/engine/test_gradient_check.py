"""Gradients that are not what the forward pass does are found, and refused with the reason."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest
from models import make
from more_models import make as make_more

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.gradient_check import checked_way, wrong_components
from mlxtrace.engine.gradient_pass import Way
from mlxtrace.errors import UnsupportedError


@mx.custom_function
def kernel(x):
    return x * 1


@kernel.vjp
def _refused(primals, cotangents, outputs):
    raise ValueError("[Primitive::vjp] Not implemented for CustomKernel.")


class Around(nn.Module):
    """A module whose output goes through a function."""

    def __init__(self, module: nn.Module, function):
        super().__init__()
        self.module, self._function = module, function

    def __call__(self, *args, **kwargs):
        return self._function(self, self.module(*args, **kwargs))


def with_mlp(function) -> ModuleResolver:
    net = make("llama")
    net.layers[1].mlp = Around(net.layers[1].mlp, function)
    net.eval()
    return ModuleResolver(net)


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3_next", "mixtral"])
def test_models_that_have_gradients_pass(name):
    resolver = ModuleResolver(make(name))
    assert checked_way(resolver) == Way() and not wrong_components(resolver, Way())


@pytest.mark.parametrize(("dtype", "quantize"), [(mx.bfloat16, None), (mx.float16, None), (None, 4)])
def test_so_do_models_at_half_precision_and_quantized_ones(dtype, quantize):
    assert checked_way(ModuleResolver(make("llama", dtype=dtype, quantize=quantize))) == Way()


@pytest.mark.parametrize("dtype", [None, mx.bfloat16])
@pytest.mark.parametrize(
    "function",
    [
        lambda module, x: mx.stop_gradient(x),  # none at all
        lambda module, x: x - 2 * (x - mx.stop_gradient(x)),  # turned
    ],
)
def test_a_gradient_that_is_lost_or_turned_is_refused(function, dtype):
    net = make("llama", dtype=dtype)
    for layer in net.layers:
        layer.mlp = Around(layer.mlp, function)
    with pytest.raises(UnsupportedError, match="finite differences of its forward pass give"):
        checked_way(ModuleResolver(net))


def test_one_layer_that_loses_its_gradient_is_enough():
    with pytest.raises(UnsupportedError, match="finite differences"):
        checked_way(with_mlp(lambda module, x: mx.stop_gradient(x)))


def test_steps_have_no_gradient():
    """afm7 rounds keys and values to 8 bits."""
    with pytest.raises(UnsupportedError, match="activation_patching needs none"):
        checked_way(ModuleResolver(make_more("afm7")))


def test_a_mixer_whose_fast_path_has_no_gradient_takes_the_other_one():
    net = make("llama")
    for layer in net.layers:
        layer.self_attn = Picky(layer.self_attn, lambda module, x: x if module.training else kernel(x))
    net.eval()
    resolver = ModuleResolver(net)
    assert checked_way(resolver) == Way(training=True)
    assert not any(module.training for module in net.modules())


class Picky(Around):
    """A mixer with the attributes of the one inside."""

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def test_a_pass_without_a_gradient_is_refused_with_what_was_raised():
    with pytest.raises(UnsupportedError, match=r"there are none: ValueError: .*CustomKernel"):
        checked_way(with_mlp(lambda module, x: kernel(x)))
