"""Maps of patchscopes: each cell is the patchscope of its two layers, and the last layer's row is the logit lens."""

import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import EngineError, InputError, TokenError

SOURCE, TARGET = [7, 31, 32, 90, 15, 120], [3, 44, 81, 9]


@pytest.mark.parametrize("name", ["llama", "mamba"])
@pytest.mark.parametrize("component, target", [("resid_post", 5), ("resid_pre", [5, 8])])
def test_each_cell_is_its_patchscope(name, component, target):
    model = InterpretableModel(models.make(name))
    found = model.patchscope_map(SOURCE, 2, TARGET, 3, component, target, progress=False)
    for i, j in ((0, model.n_layers - 1), (1, 0), (model.n_layers - 1, 1)):
        names = (f"layers.{layer}.{component}" for layer in (j, i))
        one = model.patchscope(SOURCE, next(names), 2, TARGET, next(names), 3, max_tokens=0, target=target)
        assert found.prob[i, j] == pytest.approx(one.prob, rel=1e-4) and found.ids[i, j] == one.ids[0]
        assert found.base_prob == pytest.approx(one.base_prob, rel=1e-4)


def test_what_is_put_into_the_last_layer_at_the_end_is_read_as_a_lens_reads_it(llama):
    lens = llama.logit_lens(SOURCE, target=5, positions=2)
    scope = llama.patchscope_map(SOURCE, 2, TARGET, -1, target=5, target_layers=-1, progress=False)
    np.testing.assert_allclose(scope.prob[0], lens.prob[:, 0], rtol=1e-4)
    assert scope.ids[0].tolist() == lens.ids[:, 0, 0].tolist()


def test_the_diagonal_of_one_prompt_is_the_prompt_itself(llama):
    same = llama.patchscope_map(SOURCE, 2, SOURCE, 2, target=5, progress=False)
    np.testing.assert_allclose(same.prob.diagonal(), same.base_prob, rtol=1e-4)
    assert np.abs(same.prob - same.base_prob).max() > 1e-5


def test_layers_are_those_asked_for(llama):
    whole = llama.patchscope_map(SOURCE, 2, TARGET, 1, target=5, progress=False)
    some = llama.patchscope_map(
        SOURCE, 2, TARGET, 1, target=5, layers=[2, 0], target_layers=[1], engine="loop", progress=False
    )
    assert (some.layers, some.target_layers, some.prob.shape) == ([2, 0], [1], (1, 2))
    np.testing.assert_allclose(some.prob[0], whole.prob[1, [2, 0]], rtol=1e-4)


def test_the_answer_is_what_the_source_says_up_to_its_token(llama):
    logits, _ = llama.run_with_cache(SOURCE)
    scope = llama.patchscope_map(SOURCE, 3, TARGET, progress=False)
    assert scope.answer_ids == [int(logits[0, 3].argmax())] and scope.source_said == scope.answer


def test_what_means_nothing_is_refused(llama):
    for options, error, said in (
        ({"component": "head"}, InputError, "as wide as"),
        ({"engine": "fast"}, InputError, "fast"),
        ({"max_memory": 10}, InputError, "max_memory"),
        ({"source": [SOURCE, TARGET]}, TokenError, "2 prompts"),
        ({"target": 160}, TokenError, "160"),
    ):
        with pytest.raises(error, match=said):
            llama.patchscope_map(**{"source": SOURCE, "target_prompt": TARGET, "progress": False, **options})
    assert issubclass(EngineError, Exception)
