"""The check: a sound model passes it, a law that raises has failed, and the command says what was found."""

import dataclasses
import json
import os
import subprocess
import sys

import mlx.core as mx
import models
import pytest
from faulty_models import OF_A_MODEL, IgnoringInput, Model, Mutating, Pair, Sound, failing, rows_of

import mlxtrace
from mlxtrace import InterpretableModel, blas, check
from mlxtrace.laws.law import Measurement
from mlxtrace.laws.registry import LAWS, MODEL_LAWS


# The laws of experiments are measured on a model that ships, on the small model of known make and on mamba: of these
# layers on the one that writes into its input, where a handle that is not its own shows in two of them only.
@pytest.mark.parametrize(
    ("layer", "laws"),
    [
        pytest.param(Sound, MODEL_LAWS, id="Sound"),
        pytest.param(Pair, MODEL_LAWS, id="Pair"),
        pytest.param(Mutating, OF_A_MODEL, id="Mutating"),
        pytest.param(Sound, OF_A_MODEL, id="Sound, experiments", marks=pytest.mark.heavy),
        pytest.param(Pair, OF_A_MODEL, id="Pair, experiments", marks=pytest.mark.heavy),
    ],
)
def test_models_without_a_fault_pass(layer, laws):
    rows = rows_of(layer, laws)
    assert not failing(rows), [r for r in rows.values() if r.status == "fail"]
    assert rows["fan-out gives the loop's numbers"].status == "pass"
    verdict = check.verdict(list(rows.values()))
    passed = sum(row.status == "pass" for row in rows.values())
    assert verdict.startswith(f"{passed} laws hold on this model") and "were not tried" in verdict


def test_a_model_that_raises_half_way_fails_and_does_not_raise(monkeypatch):
    def broken(tested):
        raise ZeroDivisionError("no")

    monkeypatch.setattr(check, "LAWS", [dataclasses.replace(LAWS[3], measure=broken)])
    (row,) = check.run(Model())
    assert row.status == "fail" and "ZeroDivisionError: no" in row.note


def test_a_failure_says_where_its_tolerance_comes_from(monkeypatch):
    wrong = dataclasses.replace(LAWS[3], measure=lambda t: Measurement(1.0, t.limit, "worst: here"))
    (row,) = check.run(Model(), [wrong])
    assert row.status == "fail" and row.note.startswith("worst: here; this model's own logits move by up to")


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


# Adapters on 4 bits, which is both. Half precision is slow on a CPU; each part that rounds has quick tests of its own.
QUICK = {"lora, 4 bits"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.heavy]) for kind in KINDS]
)
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
    # the laws of experiments are measured on 4 bits and on plain weights above
    rows = {row.law: row for row in check.run(net, MODEL_LAWS if kind in QUICK else OF_A_MODEL)}
    assert not failing(rows), [r for r in rows.values() if r.status == "fail"]
    if bits:
        assert rows["quantized weights act as their dequantized values"].status == "pass"
    for law in ("heads, concatenated and projected, are the mixer's output", "pattern @ v are the heads"):
        assert rows[law].status == "pass"


# ---- the command


def rows_and_table(rows, out, laws):
    assert [row.law for row in rows] == [law.name for law in laws]
    assert mlxtrace.check is check
    text = check.table(rows)
    assert text in out
    assert all(row.law in text and row.status in ("pass", "fail", "n/a") for row in rows)
    assert all(len(line) <= 130 for line in text.splitlines())
    for row in rows:
        assert (row.error is None) == (row.status == "n/a") and bool(row.note) >= (row.status == "n/a")


# Each law has a test of its own. All of them on a model of two layers take CI 20 seconds; the other has twelve.
@pytest.mark.parametrize(
    "model, laws",
    [
        ("induction", LAWS[::4]),
        *(pytest.param(m, LAWS, marks=pytest.mark.heavy) for m in ("induction", "demo")),
    ],
    ids=["some of the laws", "induction", "demo"],
)
def test_the_command_on_a_model_that_ships(model, laws, tmp_path, capsys, monkeypatch):
    found, measured = [], check.run
    monkeypatch.setattr(check, "LAWS", laws)
    monkeypatch.setattr(check, "run", lambda *given: found.extend(measured(*given)) or found)
    assert check.main([model, "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    rows_and_table(found, out, laws)
    last = " ".join(out.split("\n\n")[-1].split())
    apart = sum(row.status == "n/a" for row in found)
    assert apart == (laws is LAWS)
    told = f" ({apart} of {len(laws)} does not apply" if apart else ""
    assert last.startswith(f"{len(laws) - apart} laws hold on this model{told}")
    assert "not tried" in last
    assert f"InterpretableModel({model!r}" in out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == len(laws) and {r["status"] for r in rows} <= {"pass", "n/a"}


def test_the_exit_status_of_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(
        check, "InterpretableModel", lambda *_, **__: InterpretableModel(Model(IgnoringInput))
    )
    monkeypatch.setattr(check, "run", lambda model: [check.Row("a law", "fail", 1.0, 0.0, "", "this")])
    assert check.main(["whatever"]) == 1
    assert "Do not trust this." in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no-such-folder"], ["demo", "--json", "nowhere/rows.json"]])
def test_bad_input_is_one_line_and_status_2(arguments, capsys, monkeypatch):
    monkeypatch.setattr(blas, "_message", "advice")  # which nobody asked for here
    monkeypatch.setattr(blas, "_on_cpu", lambda: True)
    assert check.main(arguments) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1 and said.startswith("mlxtrace.check: ")


@pytest.mark.heavy  # in a process of its own; test_patch.py starts one without a fast BLAS, too
def test_bad_input_is_one_line_where_there_is_advice_on_the_blas():
    made = subprocess.run(
        [sys.executable, "-m", "mlxtrace.check", "no-such-folder"],
        env={**os.environ, "MLXTRACE_BLAS": "none"},
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
