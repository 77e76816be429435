"""Small models with one fault each, for the laws to find; `Sound` has none."""

from __future__ import annotations

from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn

from mlxtrace import InterpretableModel, check
from mlxtrace.laws.registry import EXPERIMENT_LAWS, MODEL_LAWS

# The laws after these are of the installation, whatever the model: test_check.py measures them.
OF_A_MODEL = (*MODEL_LAWS, *EXPERIMENT_LAWS)
VOCAB, WIDTH, HEADS = 64, 32, 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n_heads = HEADS
        self.qkv_proj, self.o_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def __call__(self, x, mask="causal"):
        parts = mx.split(self.qkv_proj(x), 3, axis=-1)
        q, k, v = (p.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for p in parts)
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.5, mask=mask)
        return self.o_proj(out.swapaxes(1, 2).reshape(x.shape))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(WIDTH, 48), nn.Linear(48, WIDTH)

    def __call__(self, x):
        return self.down_proj(nn.gelu(self.up_proj(x)))


class Sound(nn.Module):
    """A plain pre-norm layer."""

    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = Attention(), MLP()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def __call__(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class IgnoringInput(Sound):
    """Gives the same output whatever its input."""

    def __call__(self, x):
        return super().__call__(mx.ones_like(x))


class Mutating(Sound):
    """Writes into its input, as several architectures do."""

    def __call__(self, x):
        x += self.self_attn(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x


class MutatingBeside(Sound):
    """Writes into its input, which its caller goes on using (`Model.beside`)."""

    def __call__(self, x):
        x *= 0.5
        return self.self_attn(self.norm1(x)) + self.mlp(self.norm2(x))


class Pair(Sound):
    """Returns a tuple whose second part nobody reads."""

    def __call__(self, x):
        out = super().__call__(x)
        return out, out.mean()


class SeeingLaterPositions(Sound):
    """Sees later positions."""

    def __call__(self, x):
        x = x + self.self_attn(self.norm1(x), mask=None)
        return x + self.mlp(self.norm2(x))


class LeavingOutMLP(Sound):
    """Leaves out its MLP's output."""

    def __call__(self, x):
        self.mlp(self.norm2(x))
        return x + self.self_attn(self.norm1(x))


class Remembering(Sound):
    """Adds what the layer before had as its input, through a drawer that no call shows."""

    drawer: dict = {}  # noqa: RUF012

    def __call__(self, x):
        before, self.drawer["x"] = self.drawer.get("x"), x
        x = super().__call__(x)
        return x if before is None or before.shape != x.shape else x + 0.3 * before


class Drifting(Sound):
    """Gives another answer at every call."""

    calls: list = []  # noqa: RUF012

    def __call__(self, x):
        self.calls.append(1)
        return super().__call__(x) * (1 + 0.01 * len(self.calls))


class Model(nn.Module):
    def __init__(self, layer=Sound, first=Sound, beside=False):
        super().__init__()
        mx.random.seed(1)
        self.embed_tokens, self.norm = nn.Embedding(VOCAB, WIDTH), nn.RMSNorm(WIDTH)
        self.layers = [first(), layer(), Sound()]
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)
        self._beside = beside
        for _, module in self.named_modules():
            if isinstance(module, nn.Linear):
                module.weight = mx.random.normal(module.weight.shape) * 1.5 / module.weight.shape[1] ** 0.5
        self.embed_tokens.weight = mx.random.normal((VOCAB, WIDTH))
        mx.eval(self.parameters())

    def __call__(self, tokens, cache=None):
        Remembering.drawer.clear()
        h = self.embed_tokens(tokens)
        for layer in self.layers:
            out = layer(h)
            out = out[0] if isinstance(out, tuple) else out
            h = h + out if self._beside and isinstance(layer, MutatingBeside) else out
        return self.lm_head(self.norm(h))


def rows_of(layer, laws=OF_A_MODEL, **options):
    return {row.law: row for row in check.run(Model(layer, **options), laws)}


def failing(rows):
    return {law for law, row in rows.items() if row.status == "fail"}


class DependingOnCompany(Model):
    """Every logit is scaled as soon as there is more than one row."""

    factor = 1.01

    def __call__(self, tokens, cache=None):
        logits = super().__call__(tokens, cache)
        return logits * self.factor if tokens.shape[0] > 1 else logits


class Misreporting(InterpretableModel):
    """A model whose experiments do something else than they say: `change(name, arguments, options)` is what."""

    change = staticmethod(lambda name, arguments, options: (arguments, options))

    def _changed(self, name, arguments, options):
        arguments, options = type(self).change(name, arguments, dict(options))
        return getattr(InterpretableModel, name)(self, *arguments, **options)

    def activation_patching(self, *arguments, **options):
        return self._changed("activation_patching", arguments, options)

    def causal_trace(self, *arguments, **options):
        return self._changed("causal_trace", arguments, options)

    def causal_effects(self, *arguments, **options):
        return self._changed("causal_effects", arguments, options)

    def noising_window(self, *arguments, **options):
        return self._changed("noising_window", arguments, options)

    def run_with_cache(self, *arguments, **options):
        return self._changed("run_with_cache", arguments, options)

    def trace(self, *arguments, **options):
        return self._changed("trace", arguments, options)


def misreporting(net: nn.Module, change) -> InterpretableModel:
    """A model with one lie: `change` gets the experiment's name, its arguments and its options, and returns others."""
    return type("Misreporting", (Misreporting,), {"change": staticmethod(change)})(net)


def seen(law, model) -> bool:
    """Whether a law fails on a model, and not because anything raised."""
    (row,) = check.run(model, [law])
    assert row.status in ("pass", "fail") and row.error != float("inf"), row
    return row.status == "fail"


class _Scaled:
    """Activations of which one is scaled."""

    def __init__(self, activations, name: str, factor: float):
        self.activations, self.name, self.factor = activations, name, factor

    def __iter__(self):
        return iter(self.activations)

    def __getitem__(self, name):
        return self.activations[name] * (self.factor if name == self.name else 1)


def show_scaled(tested, name: str, factor: float) -> None:
    """Let the traces that a model under test shares show one activation scaled."""
    base = tested.base
    shown = _Scaled(base.activations, name, factor)
    tested.__dict__["base"] = SimpleNamespace(activations=shown, output=base.output)
