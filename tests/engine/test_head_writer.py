"""How the output of heads gets into the stream: as it is, scaled, through a norm, or in a way that is refused."""

import mlx.core as mx
import numpy as np
import pytest
from models import make

from mlxtrace.anatomy.resolver import ModuleResolver
from mlxtrace.engine.graph import Graph
from mlxtrace.engine.runs import Run
from mlxtrace.engine.split_reads import SplitRun
from mlxtrace.errors import UnsupportedError


def split(net):
    return SplitRun(Graph(ModuleResolver(net)), Run((3, 17, 90, 91)))


@pytest.mark.parametrize(
    ("name", "kind"), [("llama", "sum"), ("granite", "scaled"), ("gemma3_text", "normed")]
)
def test_it_is_measured(name, kind):
    run = split(make(name))
    assert {run._writer(layer).kind for layer in range(run.graph.n_layers)} == {kind}


@pytest.mark.parametrize("name", ["llama", "granite", "olmo2"])
def test_heads_by_number_are_those_of_all(name):
    run = split(make(name))
    every = np.array(run.heads_written(1, run.projected[1], range(4)))
    some = np.array(run.heads_written(1, run.projected[1], [3, 1]))
    np.testing.assert_allclose(some, every[[3, 1]], atol=1e-6)


class Adding:
    """A layer that adds something whatever its parts give."""

    def __call__(self, x, *args, **kwargs):
        return super().__call__(x, *args, **kwargs) + 0.1


class Bending:
    """A layer whose mixer's output is bent before it is added."""

    def __call__(self, x, mask=None, cache=None):
        x = x + mx.tanh(self.self_attn(self.input_layernorm(x), mask, cache))
        return x + self.mlp(self.post_attention_layernorm(x))


@pytest.mark.parametrize(
    ("kind", "said"), [(Adding, "adds something of its own"), (Bending, "is no sum over its heads")]
)
def test_what_is_no_sum_is_refused(kind, said):
    net = make("llama")
    layer = net.model.layers[1]
    layer.__class__ = type("Changed", (kind, type(layer)), {})
    with pytest.raises(UnsupportedError, match=said):
        split(net).contributions(1)
