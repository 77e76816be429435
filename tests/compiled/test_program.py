"""Programs as models: read, answered and loaded like any other."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlxtrace import InterpretableModel, compiled, errors


@pytest.mark.parametrize("make", [compiled.lookup, compiled.induction])
@pytest.mark.parametrize("seed", range(3))
def test_the_model_answers_its_pairs(make, seed):
    program = make(seed)
    for pair in program.pairs:
        for text, answer in ((pair.clean, pair.target), (pair.corrupted, pair.foil)):
            ids = program.tokenizer.encode(text)
            logits = np.array(program.net(mx.array([ids])))[0, -1]
            assert (logits == program.interpreter.logits(text)).all()
            if not pair.id.startswith("nobody") or text == pair.clean:
                assert program.tokenizer.decode([int(logits.argmax())]) == answer.strip()


def test_names_seeds_and_programs_load():
    first = InterpretableModel("compiled")
    assert repr(first) == "InterpretableModel('compiled': 4 layers, width 64, float)"
    assert InterpretableModel("compiled-induction").n_layers == 2
    again, other = (InterpretableModel(compiled.lookup(seed)) for seed in (0, 1))
    arrays = [dict(tree_flatten(model.net.parameters())) for model in (first, again, other)]
    assert all((arrays[0][name] == arrays[1][name]).all() for name in arrays[0])
    assert first.tokenizer.get_vocab() != other.tokenizer.get_vocab()
    assert other.name == "compiled lookup"
    for seed in (-1, 1.5, "a", None, 2**32):
        with pytest.raises(errors.InputError, match="seed is a whole number"):
            compiled.lookup(seed)
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(errors.LoadError, match="float32 only"):
            InterpretableModel("compiled", dtype=dtype)
    assert InterpretableModel("compiled", dtype="float32").name == "compiled"


def test_prompts_are_read_as_any_models():
    model = InterpretableModel("compiled")
    pair = compiled.lookup().pairs[0]
    first, second = (
        list(model.subject_range(pair.clean, pair.regions[f"{n} person"])) for n in ("first", "second")
    )
    assert (first, second) == ([1, 2], [4, 5])
    assert model.decode(model.encode(pair.clean)) == "<s> " + pair.clean
    target = model.answer_token(pair.target, pair.clean)
    assert model.token_to_str(target) == pair.target
    with pytest.raises(errors.TokenError, match="melts into"):
        model.answer_token(pair.target.strip(), pair.clean)
    with pytest.raises(errors.TokenError, match="does not know"):
        model.answer_token(" Atlantis", pair.clean)
    with pytest.raises(errors.TokenError, match="32 positions"):
        model.prompt("met " * 40)


def test_all_pairs_are_a_set():
    program = compiled.lookup()
    model = InterpretableModel(program)
    found = model.activation_patching(
        list(program.pairs), component="resid_post", layers=3, positions="regions", metric="logit_diff",
        progress=False,
    )  # fmt: skip
    assert found.recovery[0, -1] == 100.0
