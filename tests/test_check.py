"""The check: a sound model passes it, and each way of being broken is caught by the law that it breaks."""

import dataclasses
import json
import os
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import models
import pytest
import test_house

import mlxtrace
from mlxtrace import InterpretableModel, blas, check
from mlxtrace.laws.model_under_test import Found
from mlxtrace.laws.tracing_laws import LAWS

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


class Deaf(Sound):
    """Ignores its input: what comes out was decided before."""

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


class Seeing(Sound):
    """Sees later positions."""

    def __call__(self, x):
        x = x + self.self_attn(self.norm1(x), mask=None)
        return x + self.mlp(self.norm2(x))


class Sluggish(Sound):
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


def rows_of(layer, **options):
    return {row.law: row for row in check.run(Model(layer, **options))}


def failing(rows):
    return {law for law, row in rows.items() if row.status == "fail"}


STREAM = "the whole stream of another run gives its logits"
FOLLOWS = "a layer's output follows from its input"
ITSELF = "a site replaced by itself changes nothing"


@pytest.mark.parametrize("layer", [Sound, Pair, Mutating], ids=lambda c: c.__name__)
def test_models_without_a_fault_pass(layer):
    rows = rows_of(layer)
    assert not failing(rows), [r for r in rows.values() if r.status == "fail"]
    assert rows["fan-out gives the textbook's numbers"].status == "pass"
    verdict = check.verdict(list(rows.values()))
    held = sum(row.status == "pass" for row in rows.values())
    assert verdict.startswith(f"{held} laws hold on this model") and "were not tried" in verdict


def test_a_layer_that_ignores_its_input():
    rows = rows_of(Deaf)
    assert failing(rows) == {"a layer reads its input"}
    row = rows["a layer reads its input"]
    assert row.error == 1 and "layer 1" in row.note
    assert "what comes before cannot matter" in check.verdict(list(rows.values()))


def test_a_layer_that_writes_into_what_its_caller_still_uses():
    rows = rows_of(MutatingBeside, beside=True)
    assert ITSELF in failing(rows)
    assert "layers.1.resid_pre" in rows[ITSELF].note


def test_a_layer_that_sees_later_positions():
    rows = rows_of(Seeing)
    assert failing(rows) == {"no position sees a later one"}
    assert rows["before the first difference nothing is recovered"].status == "n/a"


def test_state_outside_the_stream():
    rows = rows_of(Remembering, first=Remembering)
    assert {STREAM, FOLLOWS} & failing(rows)
    assert "resid_pre" in check.verdict(list(rows.values()))


def test_a_component_that_nothing_reads():
    rows = rows_of(Sluggish)
    assert failing(rows) == {"what a component writes is read"}
    assert "layers.1.mlp" in rows["what a component writes is read"].note


def test_an_answer_that_changes_from_call_to_call():
    rows = rows_of(Drifting)
    assert "two plain runs agree to the bit" in failing(rows)
    assert "any number" in check.verdict(list(rows.values()))


def test_a_model_that_raises_half_way_fails_and_does_not_raise(monkeypatch):
    def broken(trial):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(check, "LAWS", [*LAWS[:3], dataclasses.replace(LAWS[3], measure=broken)])
    row = check.run(Model())[3]
    assert row.status == "fail" and "ZeroDivisionError: no" in row.note


def test_an_engine_that_errs_is_caught(monkeypatch):
    """The engine is right in its own probe and wrong elsewhere: the base rows agree, the patched ones do not."""
    from mlxtrace.engine import batch

    model = InterpretableModel(Model())
    check.run(model)  # the probes are remembered as they are
    honest = batch.Batch.run

    def dishonest(self):
        logits = honest(self)
        logits[self.base.rows :] *= 1.01
        return logits

    monkeypatch.setattr(batch.Batch, "run", dishonest)
    failed = failing({row.law: row for row in check.run(model)})
    assert {"fan-out gives the textbook's numbers", "flat batches give the textbook's numbers"} <= failed
    assert not {ITSELF, STREAM} & failed


class Crowded(Model):
    """Another answer as soon as it has company: every logit is scaled when there is more than one row."""

    factor = 1.01

    def __call__(self, tokens, cache=None):
        logits = super().__call__(tokens, cache)
        return logits * self.factor if tokens.shape[0] > 1 else logits


@pytest.mark.parametrize("factor", [1.01, 1.0005])
def test_a_model_that_answers_otherwise_in_company_fails(factor):
    """No tolerance grows with the model's own deviation beyond the cap; laws that cannot say anything say so."""
    net = Crowded()
    net.factor = factor
    rows = {row.law: row for row in check.run(net, FLOOR)}
    row = rows["logits do not depend on the rows beside them"]
    assert row.status == "fail" and row.error > 3e-4 and "half of all rows move" in row.note
    stream = rows["the whole stream of another run gives its logits"]
    if factor > 1.002:
        assert stream.status == check.NOISY and "the most that any law may allow is 0.002" in stream.note
        assert check.NOISY in check.table(list(rows.values()))
        assert "Nothing can be said of 1 law" in check.verdict(list(rows.values()))
    assert "Do not trust" in check.verdict(list(rows.values()))


FLOOR = [law for law in LAWS if law.name.startswith(("logits do not", "the whole stream"))]


def test_a_failure_says_where_its_tolerance_comes_from(monkeypatch):
    wrong = dataclasses.replace(LAWS[3], measure=lambda t: Found(1.0, t.limit, "worst: here"))
    (row,) = check.run(Model(), [wrong])
    assert row.status == "fail" and row.note.startswith("worst: here; this model's own logits move by up to")


@pytest.mark.parametrize("engine", ["fanout", "flat", "prefix"])
def test_an_engine_that_the_probe_refuses_is_a_failure(monkeypatch, engine):
    """Without a known reason: that the caches are others, say, is one, and that the engine errs is none."""
    from mlxtrace.engine import choice

    def wrong(self, *names):
        return "it errs" if (names or ("prefix",))[0] == engine else ""

    monkeypatch.setattr(choice.TrialSweep, "wrong" if engine != "prefix" else "prefix_wrong", wrong)
    registry = [law for law in LAWS if law.name.startswith(("fan-out", "flat", "sharing"))]
    rows = check.run(models.make("llama"), registry)
    refused = {"fanout": 0, "flat": 1, "prefix": 2}[engine]
    assert rows[refused].status == "fail" and "the probe refused it: it errs" in rows[refused].note


def test_a_known_exception_is_no_failure(monkeypatch):
    from mlxtrace.anatomy.architecture_exceptions import EXCEPTIONS, Exceptional
    from mlxtrace.engine import choice

    monkeypatch.setitem(EXCEPTIONS, "llama", Exceptional(engines={"fanout": "a reason"}))
    monkeypatch.setattr(choice.TrialSweep, "wrong", lambda self, name: "it errs")
    (row,) = check.run(models.make("llama"), [law for law in LAWS if law.name.startswith("fan-out")])
    assert row.status == "n/a" and row.note == "not used on this architecture: a reason"


def test_one_layer_whose_values_are_others_is_enough(monkeypatch):
    """The law of patterns takes the worst layer, not the worst of those that agree."""
    from mlxtrace.laws import registry

    law = [law for law in LAWS if law.name == "pattern @ v are the heads"]
    calls, honest = [], registry.weighted

    def once(weights, v):
        calls.append(1)
        return honest(weights, v) * (2 if len(calls) == 2 else 1)

    monkeypatch.setattr(registry, "weighted", once)
    (row,) = check.run(models.make("llama"), law)
    assert row.status == "fail" and row.error > 0.5 and len(calls) == 3


def test_a_loop_by_hand_shares_nothing_with_the_engine():
    """by_hand imports no module of the package."""
    assert not test_house.imported("laws.by_hand")


# ---- precisions

FURTHER = ["gemma3_text", "gpt2", "qwen2", "starcoder2", "gemma4_text"]


KINDS = {  # dtype, bits, LoRA
    "float16": (mx.float16, None, False),
    "bfloat16": (mx.bfloat16, None, False),
    "4 bits": (None, 4, False),
    "8 bits": (None, 8, False),
    "4 bits, bfloat16": (mx.bfloat16, 4, False),
    "lora": (None, None, True),
    "lora, 4 bits": (None, 4, True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", *(pytest.param(n, marks=pytest.mark.heavy) for n in FURTHER)])
def test_precisions_and_adapters(name, kind):
    dtype, bits, lora = KINDS[kind]
    net = models.make(name, dtype=dtype, quantize=bits)
    if lora:
        from mlx_lm.tuner.utils import linear_to_lora_layers

        linear_to_lora_layers(net, 2, {"rank": 4, "scale": 8.0, "dropout": 0.0})
        for path, module in net.named_modules():
            if path.endswith("_proj") and "lora_b" in module:
                module.lora_b = mx.random.normal(module.lora_b.shape) * 0.1
        net.eval()
    rows = {row.law: row for row in check.run(net)}
    assert not failing(rows), [r for r in rows.values() if r.status == "fail"]
    if bits:
        assert rows["quantized weights act as their dequantized values"].status == "pass"
    for law in ("heads, concatenated and projected, are the mixer's output", "pattern @ v are the heads"):
        assert rows[law].status == "pass"


# ---- the command


def test_the_rows_and_the_table():
    rows = check.run(Model())
    assert [row.law for row in rows] == [law.name for law in LAWS]
    assert mlxtrace.check is check
    text = check.table(rows)
    assert all(row.law in text and row.status in ("pass", "fail", "n/a") for row in rows)
    assert all(len(line) <= 130 for line in text.splitlines())
    for row in rows:
        assert (row.error is None) == (row.status == "n/a") and bool(row.note) >= (row.status == "n/a")


def test_the_command_on_the_demo(tmp_path, capsys):
    assert check.main(["demo", "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    last = " ".join(out.split("\n\n")[-1].split())
    assert last.startswith("39 laws hold on this model (1 of 40 does not apply") and "not tried" in last
    assert "InterpretableModel('demo'" in out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == len(LAWS) and {r["status"] for r in rows} == {"pass", "n/a"}


def test_the_exit_status_of_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(check, "InterpretableModel", lambda *_, **__: InterpretableModel(Model(Deaf)))
    monkeypatch.setattr(check, "run", lambda model: [check.Row("a law", "fail", 1.0, 0.0, "", "this")])
    assert check.main(["whatever"]) == 1
    assert "Do not trust this." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "library"),
    [
        (["no-such-folder"], ""),
        (["no-such-folder"], "none"),
        (["demo", "--json", "nowhere/rows.json"], "none"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, library):
    made = subprocess.run(
        [sys.executable, "-m", "mlxtrace.check", *arguments],
        env={**os.environ, "MLXTRACE_BLAS": library},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 2
    assert len(made.stderr.strip().splitlines()) == 1 and made.stderr.startswith("mlxtrace.check: ")


def test_advice_on_the_blas_comes_after_the_result(monkeypatch, capsys):
    monkeypatch.setattr(blas, "_message", "advice")
    monkeypatch.setattr(blas, "_on_cpu", lambda: True)
    monkeypatch.setattr(check, "run", lambda model: [check.Row("a law", "pass", 0.0, 0.0)])
    assert check.main(["demo"]) == 0
    said = capsys.readouterr()
    assert "1 law holds" in said.out and said.err == "mlxtrace.check: note: advice\n"
