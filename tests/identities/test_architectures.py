"""Every law on every architecture of mlx-lm that a tiny configuration is known for: the table, module x law.

pytest tests/identities/test_architectures.py               a sample of our own configurations, of each way of wiring
pytest -m heavy tests/identities/test_architectures.py      the others, those of the shared file, and the table printed

The second, with MLXTRACE_WRITE=1 in the environment, writes docs/SUPPORT.md anew.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pkgutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.models
import models
import more_models
import pytest
from test_mutations import FAULTS, MISSED

import mlxtrace
from mlxtrace import InterpretableModel, check, errors
from mlxtrace.engine import choice
from mlxtrace.laws.precision_laws import quantized
from mlxtrace.laws.registry import EXPERIMENT_LAWS, LAWS, MODEL_LAWS

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "architectures.json"
ENTRIES = json.loads(SHARED.read_text()) if SHARED.is_file() else {}
# What fails, and why. Nothing may be here that this package could mend.
KNOWN = {
    "phi3small": {
        "no position sees a later one": "mlx-lm's block-sparse layers look ahead (its mask is not causal)"
    },
}
# What the laws do not say, and a reader of numbers should know.
REMARKS = [
    "Latent attention (deepseek_v3 and its kin): `q` and `k` are without the rotated part, whose scores reach the "
    "attention call in its mask; `pattern` has them.",
    "Gated attention (see 12): `head` is what is projected, after the gate.",
    "deepseek_v41: what is projected mixes the heads in groups, so `head` is refused; its attention call has no `q`, "
    "`k`, `v` or `pattern` per token.",
    "granitemoehybrid, gemma4 with experts: `mlp` is all modules that write the MLP, as one component; an MLP whose "
    "modules are not simply added up is refused.",
    "Whatever a layer writes beside attention and MLP (gemma4's per-layer inputs, talkie's skips), and a residual "
    "stream that is not the whole state, is measured and said in `result.notes` and `resolver.describe()`.",
    "gemma2, gear: the softcapped scores are computed without mlx's attention call, so there is no `pattern`.",
    "iquestloopcoder: layers and mixers are never called, so there are `mlp` and `neuron` sites and no others.",
    "longcat_flash, falcon_h1: two mixers to a layer; they are named by their module paths in traces.",
    "`router` is the output of the one module that gives each expert its logit; where a gate gives out its choice only "
    "(the deepseek family and its kin) there is none.",
    'Experts in half precision run on Metal only: on a CPU load with dtype="float32".',
]
PLANTED = f"""## What the check would see

The laws of experiments (`EXPERIMENT_LAWS` in `laws/registry.py`) ask for sweeps, traces and effects as a user does, and
for generated text, lenses, directions and other models' activations, and hold them to loops by hand; they are not in
the table. `python -m mlxtrace.check demo` fails on
{len(FAULTS) - len(MISSED)} of {len(FAULTS)} planted faults (`tests/laws/test_mutations.py`: one at a time, in a copy of
the package), written by the authors of the check, so not a sample of what may go wrong. To measure it again:
`python tests/laws/test_mutations.py`, or `pytest -m heavy tests/laws/test_mutations.py`."""
# Modules that cannot be run here at all.
CANNOT = {
    "olmo": "needs the package ai2-olmo, which stops Python when it is missing",
    "bitnet": "runs on Metal only",
    "muse_spark": "runs on Metal only",
}
METAL = mx.metal.is_available()
OWN = [*models.NAMES, *more_models.MORE]
# One of each kind of wiring runs in every test run; the architectures that are wired as these are marked heavy.
QUICK = {
    "llama", "gpt2", "gpt_neox", "gemma2", "gemma3_text", "gemma4_text", "olmo2", "mixtral", "mamba",
    "qwen3_next", "jamba", "nanbeige", "granitemoehybrid", "afm7", "deepseek_v3", "deepseek_v41",
    "gpt_oss", "kimi_linear", "longcat_flash", "nemotron_h", "llama4", "talkie", "lfm2",
    "openelm",
}  # fmt: skip


def skipped(module: str) -> str:
    """Why a module is not run here; '' when it is."""
    if METAL and "Metal" in CANNOT.get(module, ""):
        return ""
    if importlib.util.find_spec(f"mlx_lm.models.{module}") is None:
        return f"this mlx-lm has no {module}"
    return CANNOT.get(module, "")


# Of these the quick run measures the laws of experiments too (of llama: test_check.py), CI does so of gemma3_text as
# well. The heavy run does so of all.
EXPERIMENTS = {"mamba"}
# The laws after these are of the installation, whatever the model: test_check.py measures them, on the demo.
OF_A_MODEL = [*MODEL_LAWS, *EXPERIMENT_LAWS]


def rows_of(net, laws=None) -> list[check.Row]:
    return check.run(InterpretableModel(net), laws)


def own(name: str, laws=None) -> list[check.Row]:
    if reason := skipped(name):
        pytest.skip(reason)
    return rows_of((models if name in models.CONFIGS else more_models).make(name), laws)


def shared(name: str, laws=None) -> list[check.Row]:
    entry = ENTRIES[name]
    if reason := skipped(entry["module"]):
        pytest.skip(reason)
    return rows_of(more_models.build(entry["module"], entry["args"]), laws)


def holds(module: str, rows: list[check.Row]) -> None:
    failed = {row.law: (row.error, row.note) for row in rows if row.status not in ("pass", "n/a")}
    assert set(failed) == set(KNOWN.get(module, {})), failed


def _sampled(name: str):
    return pytest.param(name, marks=[] if name in QUICK else [pytest.mark.heavy])


@pytest.mark.parametrize("name", [_sampled(name) for name in OWN])
def test_the_laws_hold(name):
    holds(name, own(name, OF_A_MODEL if name in EXPERIMENTS else MODEL_LAWS))


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in OWN if name not in EXPERIMENTS])
def test_the_laws_of_experiments_hold(name):
    holds(name, own(name, [law for law in LAWS if law not in MODEL_LAWS]))


@pytest.mark.heavy
@pytest.mark.skipif(not ENTRIES, reason="../shared/data/architectures.json is not there")
@pytest.mark.parametrize("name", list(ENTRIES) or [""])
def test_the_laws_hold_on_the_shared_configurations(name):
    holds(ENTRIES[name]["module"], shared(name))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["4 bits", "bfloat16"])
@pytest.mark.parametrize("name", OWN)
def test_the_laws_hold_quantized_and_in_half_precision(name, kind):
    if reason := skipped(name):
        pytest.skip(reason)
    net = (models if name in models.CONFIGS else more_models).make(name)
    try:
        if kind == "bfloat16":
            net.set_dtype(mx.bfloat16)
        else:
            nn.quantize(net, group_size=32, bits=4, class_predicate=models._divisible)
        holds(name, rows_of(net))
    except errors.LoadError as error:
        pytest.skip(f"does not run here: {error}")
    except TypeError as error:
        if name != "afm7":  # its own layers cannot be quantized by nn.quantize
            raise
        pytest.skip(str(error))


def all_modules() -> list[str]:
    """The modules of mlx-lm that define a model."""
    folder = Path(mlx_lm.models.__path__[0])
    names = [m.name for m in pkgutil.iter_modules(mlx_lm.models.__path__)]
    return [n for n in names if "\nclass Model(" in (folder / f"{n}.py").read_text()]


def uncovered() -> list[str]:
    covered = {*OWN, *CANNOT, *(entry["module"] for entry in ENTRIES.values())}
    return [name for name in all_modules() if name not in covered]


def test_the_sample_is_of_what_there_is():
    assert set(OWN) >= QUICK and len(QUICK) >= 24


def test_every_module_has_a_configuration():
    if uncovered():
        pytest.skip(f"no tiny configuration of: {', '.join(uncovered())}")


def test_what_no_attention_call_shows_is_refused_with_a_reason():
    """Softcaps by hand, state spaces, two mixers in a layer: a sentence, and no made-up pattern."""
    for name, why in (("gemma2", "makes no call"), ("mamba", "makes no call"), ("longcat_flash", "2 mixers")):
        model = InterpretableModel((models if name in models.CONFIGS else more_models).make(name))
        for component in ("q", "k", "v", "pattern"):
            with pytest.raises(mlxtrace.errors.UnsupportedError, match=why):
                model.resolver.site(component, 0)


def test_models_that_once_grew_no_rows_still_do():
    """State beside the stream: arguments, caches that layers share, dicts and objects that they write into."""
    for name in ("gemma4_text", "afm7", "kimi_k3", "talkie", "deepseek_v41"):
        if not skipped(name):
            net = (models if name in models.CONFIGS else more_models).make(name)
            assert choice.choose(InterpretableModel(net).resolver).name == "fanout", name


# ---- the table

MARKS = {"pass": "●", "fail": "✗", "n/a": "·"}


def measured() -> dict[str, list[check.Row] | str]:
    """The rows of every module, the first configuration of each; a reason where it cannot be run."""
    found: dict[str, list[check.Row] | str] = {}
    jobs = [(name, own, name) for name in OWN] + [(e["module"], shared, n) for n, e in ENTRIES.items()]
    for module, rows, name in jobs:
        if module not in found:
            found[module] = skipped(module) or rows(name, MODEL_LAWS)
    found |= {module: skipped(module) for module in CANNOT if module not in found}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def table(found: dict[str, list[check.Row] | str]) -> str:
    """Module x law, in Markdown, and what is behind the marks."""
    lines = [
        "| module | " + " | ".join(str(i + 1) for i in range(len(MODEL_LAWS))) + " |",
        "|---|" + ":-:|" * len(MODEL_LAWS),
    ]
    for module, rows in found.items():
        marks = [MARKS[row.status] for row in rows] if not isinstance(rows, str) else ["?"] * len(MODEL_LAWS)
        lines.append(f"| {module} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def support() -> str:
    """The text of docs/SUPPORT.md."""
    found = measured()
    ran = {m: rows for m, rows in found.items() if not isinstance(rows, str)}
    failed = {m: [r for r in rows if r.status == "fail"] for m, rows in ran.items()}
    version = importlib.metadata.version("mlx-lm")
    parts = [
        "# Architectures and laws",
        f"{len(ran)} of the {len(all_modules())} modules of mlx-lm {version} that define a model, each as a tiny model "
        f"with random weights in float32 on {'Metal' if METAL else 'a CPU'}, checked by `mlxtrace.check`. "
        f"{sum(not f for f in failed.values())} keep every law that applies to them. Written by "
        "`tests/identities/test_architectures.py`, which holds it.",
        "● holds   · does not apply (`python -m mlxtrace.check MODEL` gives the reason)   ✗ fails   ? not run here",
        "\n".join(f"{i + 1}. {law.name}" for i, law in enumerate(MODEL_LAWS)),
        table(found),
        PLANTED,
        "## What fails",
        "\n".join(f"- **{m}**, {r.law}: {KNOWN[m][r.law]}." for m, rows in failed.items() for r in rows),
        "## What was not run",
        "\n".join(f"- **{m}**: {why}." for m, why in found.items() if isinstance(why, str))
        + "".join(f"\n- **{m}**: no tiny configuration." for m in uncovered()),
        "## Remarks",
        "\n".join(f"- {line}" for line in REMARKS),
        "## What does not apply, and why",
        "\n".join(f"- {line}" for line in absent(ran)),
    ]
    return "\n\n".join(parts) + "\n"


def absent(ran: dict[str, list[check.Row]]) -> list[str]:
    """The reasons for laws that do not apply, each with its modules, but for the law of quantized weights."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for module, rows in ran.items():
        for i, row in enumerate(rows):
            if row.status == "n/a" and row.law != quantized.name:
                reasons.setdefault((row.note, module), []).append(str(i + 1))
    by_reason: dict[tuple[str, str], list[str]] = {}
    for (note, module), laws in reasons.items():
        by_reason.setdefault((", ".join(laws), note), []).append(module)
    return [f"{laws}: {note} ({', '.join(names)})" for (laws, note), names in sorted(by_reason.items())]


@pytest.mark.heavy
@pytest.mark.skipif(not ENTRIES, reason="../shared/data/architectures.json is not there")
def test_the_table_is_what_the_documentation_says(capsys):
    text, page = support(), ROOT / "docs" / "SUPPORT.md"
    with capsys.disabled():
        print(f"\n{text}")
    if os.environ.get("MLXTRACE_WRITE"):
        page.write_text(text)
    assert _marks(page.read_text()) == _marks(text), "MLXTRACE_WRITE=1 writes it anew"


def test_the_page_has_every_remark():
    page = (ROOT / "docs" / "SUPPORT.md").read_text()
    assert not [line for line in REMARKS if f"- {line}\n" not in page]


def test_the_page_has_a_column_for_every_law():
    page = (ROOT / "docs" / "SUPPORT.md").read_text()
    assert all(f"\n{i + 1}. {law.name}\n" in page for i, law in enumerate(MODEL_LAWS))
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {len(MODEL_LAWS) + 2}
    assert PLANTED in page


def _marks(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]
