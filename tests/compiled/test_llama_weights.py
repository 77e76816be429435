"""The same programs in a llama: patterns hard at every distance, gates straight or off, answers that agree."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlxtrace import InterpretableModel, compiled, errors
from mlxtrace.compiled.llama_weights import CONTENT, GATE, HALF, THETA
from mlxtrace.compiled.rules import LENGTH


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("make", [compiled.lookup, compiled.induction])
def test_patterns_and_logits_of_any_tokens_are_the_rules(make, architecture):
    """Prompts of the full length, of tokens drawn at random, which make no sentence."""
    program = make(9, architecture)
    model, random = InterpretableModel(program), np.random.RandomState(0)
    for _ in range(3):
        ids = random.randint(0, len(program.rules.words), LENGTH).tolist()
        run = program.interpreter.run(ids)
        logits, cache = model.run_with_cache(ids)
        assert (np.array(logits)[0, -1] == program.interpreter.logits(ids)).all()
        for layer, rules in enumerate(program.rules.layers):
            pattern = np.array(cache[f"layers.{layer}.pattern"])[0]
            for head in rules.heads:
                told = np.zeros((LENGTH, LENGTH))
                for p, looks in enumerate(run.at["pattern", layer]):
                    told[p, list(looks[head])] = list(looks[head].values())
                assert (pattern[head] == told).all(), rules.heads[head].role


def test_gates_are_straight_or_off():
    whole = mx.arange(-60.0, 61.0)
    assert (nn.silu(GATE * whole) == GATE * mx.maximum(whole, 0)).all()


def test_content_channels_hardly_turn():
    fastest = max(THETA ** (-(c % HALF) / HALF) for c in CONTENT)
    assert fastest * LENGTH < 1e-7


def test_answers_are_those_of_the_gpt2_and_no_other_architecture_is_known():
    programs = [compiled.lookup(2, architecture) for architecture in ("gpt2", "llama")]
    assert programs[0].pairs == programs[1].pairs
    for pair in programs[0].pairs[:3]:
        ids = mx.array([programs[0].tokenizer.encode(pair.clean)])
        assert (programs[0].net(ids)[0, -1] == programs[1].net(ids)[0, -1]).all()
    with pytest.raises(errors.InputError, match="none of gpt2, llama"):
        compiled.lookup(0, "mamba")
