"""A model sharded over 2 and 4 ranks gives on every rank what the whole model gives, in every experiment.

One launch for each number of ranks asks all models (`sharded_models`); the whole ones are asked here. CI asks
them a few questions; everything takes minutes where there are fewer cores than ranks:

    pytest -m heavy tests/identities/test_sharded.py -k everything
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sharded_models

import mlxtrace
from mlxtrace import InterpretableModel
from mlxtrace.engine import lanes

NAMES = ["llama", "qwen3", "qwen3_moe", "gpt_oss", "deepseek_v3"]
ON_TWO = ["llama-4bit", "pipeline:qwen3_moe"]  # on four ranks, too, where everything is asked
NAMES += ON_TWO
# Of these each rank's answers show whether what it shares out was put together. On four ranks fewer: gathers wait for
# every rank, and where there are two cores for four ranks that takes ten times as long as on two.
OF_FOUR = ["traced", "edited: layers.1.k", "edited: layers.1.pattern", "edited: layers.1.neuron"]
OF_FOUR += ["patched: map neuron", "patched: trace mlp", "estimated: atp neuron", "told: text"]
FEW = {2: [*OF_FOUR, "patched: map head", "estimated: atp head"], 4: OF_FOUR}
# Rounding: sums over ranks are sums in another order. Gradients, and differences of them, carry more of it.
TOLERANCE, OF_GRADIENTS = 3e-5, 2e-4
# A pipeline adds up nothing in another order. Heads' edges take weights apart where these are in one place only, and
# experts that are given what an edit gave find it laid out in another way.
ROUNDED = ("of edges", "estimated: atp*", "edited: model.")


@cache
def whole(name: str, *wanted: str) -> dict[str, np.ndarray]:
    """The whole model's answers, in one thread as on the ranks: some kernels round otherwise where two share a call."""
    with lanes._one_thread_each():
        return sharded_models.answers(InterpretableModel(sharded_models.make(name)), list(wanted)).found


def asked(n: int, folder: Path, wanted: list[str]) -> tuple[int, Path]:
    """How many ranks were asked, and where their answers are.

    They are started as `mlx.launch` does, but without it: while it waits, it keeps a core busy.
    """
    tests = Path(sharded_models.__file__).parent
    path = os.pathsep.join(map(str, (Path(mlxtrace.__file__).parents[1], tests)))
    port = 20000 + (os.getpid() + 97 * n + len(wanted)) % 20000
    hosts = folder.parent / f"{folder.name}.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port + rank}"] for rank in range(n)]))
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": path, "MLX_HOSTFILE": str(hosts)}
    names = [name for name in NAMES if n == 2 or not wanted or name not in ON_TWO]
    program = [sys.executable, sharded_models.__file__, folder, ",".join(names), *wanted]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ranks = [subprocess.Popen(program, env={**env, "MLX_RANK": str(r)}, **pipes) for r in range(n)]
    try:
        told = [rank.communicate(timeout=1200 if wanted else 7200)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert len(list(folder.iterdir())) == n * len(names), "\n".join(told)
    print(told[0])
    return n, folder


@pytest.fixture(scope="module", params=[2, 4])
def asked_a_few(request, tmp_path_factory) -> tuple[int, Path]:
    return asked(request.param, tmp_path_factory.mktemp("few"), FEW[request.param])


@pytest.fixture(scope="module", params=[2, 4])
def asked_all(request, tmp_path_factory) -> tuple[int, Path]:
    return asked(request.param, tmp_path_factory.mktemp("all"), [])


def difference(key: str, right: np.ndarray, found: np.ndarray, exact: bool = False) -> str:
    """How two answers differ; '' where they do not by more than rounding, or not at all."""
    if right.dtype.kind in "US" or found.dtype.kind in "US":
        return "" if str(right) == str(found) else f"{key}: {right} and {found}"
    if right.shape != found.shape:
        return f"{key}: {right.shape} and {found.shape}"
    finite = np.isfinite(right)
    if not np.array_equal(finite, np.isfinite(found)):
        return f"{key}: others are finite"
    off = np.abs(np.where(finite, right, 0) - np.where(finite, found, 0)).max()
    limit = OF_GRADIENTS if key.startswith("estimated") else TOLERANCE
    limit = 0 if exact and not key.startswith(ROUNDED) else limit
    size = np.abs(right).max(where=finite, initial=1e-9)
    return "" if off <= limit * size else f"{key}: off by {off / size:.1e}"


def refused(key: str, found: np.ndarray) -> bool:
    """Whether a module was asked for by its own path, of which a rank's share is no slice that could be found."""
    words = "and its layout is not known, so that it cannot be made whole"
    return key.startswith(sharded_models.MODULES) and words in str(found)


def compare(name: str, n: int, folder: Path, wanted: list[str]) -> None:
    if not (folder / f"{name}.0.npz").exists():
        pytest.skip("this many ranks are asked when everything is")
    right = whole(name, *wanted)
    assert len(right) > len(wanted)
    for rank in range(n):
        found = dict(np.load(folder / f"{name}.{rank}.npz"))
        own = [k for k in right.keys() ^ found.keys() if not k.startswith(sharded_models.MODULES)]
        assert own == []
        exact = name.startswith("pipeline:")
        answered = [key for key in found if key in right and not refused(key, found[key])]
        wrong = [difference(key, right[key], found[key], exact) for key in answered]
        assert [w for w in wrong if w] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_every_rank_answers_as_the_whole_model(name, asked_a_few):
    n, folder = asked_a_few
    compare(name, n, folder, FEW[n])


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_every_rank_answers_everything_as_the_whole_model(name, asked_all):
    compare(name, *asked_all, [])
