"""What tests of runs over facts share: a model, facts that it knows, a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mlxtrace
from mlxtrace import facts
from mlxtrace.prompts.fact_files import parse

ROOT = Path(__file__).parents[2]


SUBJECTS = [
    "Eiffel Tower",
    "Louvre Museum",
    "Colosseum",
    "Statue of Liberty",
    "Paris",
    "Rio",
    "Albert Einstein",
]


PROMPTS = ["The {} is located in the city of", "The {} is in", "Hello {}", "The theory of the {} is known"]


QUICK = {"samples": 2, "window": 2, "progress": False}


@pytest.fixture(scope="module")
def model(llama_folder):
    return mlxtrace.InterpretableModel(llama_folder)


@pytest.fixture(scope="module")
def known(model):
    """Facts that a model of random weights gets right, because they were read off it; the third one is wrong."""
    found = []
    for subject in SUBJECTS:
        for prompt in (p.format(subject) for p in PROMPTS):
            logits, _ = model.run_with_cache(prompt, [])
            attribute = model.token_to_str(int(np.array(logits[0, -1]).argmax())).strip()
            if len(attribute) > 1 and attribute.isascii():
                found.append({"subject": subject, "prompt": prompt, "attribute": attribute})
    assert len(found) >= 6
    found = found[:6]
    found[2] = {**found[2], "attribute": "Berlin"}
    return parse(found, "the test's facts")


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def files(folder):
    return sorted(p.name for p in Path(folder, "traces").iterdir())


@pytest.fixture(scope="module")
def whole(model, known, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return facts.run(model, known, out=out, **QUICK)
