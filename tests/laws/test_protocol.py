"""The protocol: a model has what the laws use of it, and laws use nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import models

import mlxtrace.laws
from mlxtrace import InterpretableModel
from mlxtrace.laws.protocol import ModelWithExperiments


def test_models_have_what_the_laws_use():
    model = InterpretableModel(models.make("llama"))
    used = [n for n in dir(ModelWithExperiments) if not n.startswith("_")] + list(
        ModelWithExperiments.__mro__[1].__annotations__
    )
    assert {"layers", "activation_patching", "net", "trace"} <= set(used)
    for name in used:
        assert hasattr(model, name), name


def test_laws_use_no_more_of_a_model_than_the_protocol_has():
    declared = {*dir(ModelWithExperiments), *ModelWithExperiments.__mro__[1].__annotations__}
    for path in Path(mlxtrace.laws.__file__).parent.glob("*.py"):
        used = set(re.findall(r"tested\.model\.(\w+)", path.read_text()))
        assert used <= declared, (path.name, used - declared)
