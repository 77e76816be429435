"""What patchscopes share: answers are read whole, and prompts that leave no room for them are refused."""

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError, SiteError, TokenError
from mlxtrace.experiments import patchscope_parts as parts

SOURCE, TARGET = [7, 31, 32, 90, 15, 120], [3, 44, 81, 9]


def test_a_whole_answer_is_a_product_and_its_rank_the_largest(llama):
    scope = parts.scope_of(llama, SOURCE, 2, TARGET, -1, [1, 2])
    assert scope.run.ids == (*TARGET, 1)
    logits = np.log(np.array([[[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]]))
    said = scope.read(logits, 2)
    np.testing.assert_allclose(said.prob, [0.7 * 0.3])
    assert said.rank.tolist() == [1] and said.ids.tolist() == [[1, 2]]
    np.testing.assert_allclose(parts.measure_of(scope)(logits), [[0.21], [1], [1], [0.7]])


def test_sites(llama):
    assert parts.site_of(llama, 1).name == parts.site_of(llama, np.int64(-2)).name == "layers.1.resid_post"
    assert parts.site_of(llama, "layers.0.mlp").component == "mlp"
    for wrong in ("layers.0.pattern", "nowhere", True, None, 1.5):
        with pytest.raises(SiteError):
            parts.site_of(llama, wrong)


def test_what_is_read_is_what_a_trace_shows(llama):
    scope = parts.scope_of(llama, SOURCE, 2, TARGET, 1, 5)
    sites = [parts.site_of(llama, name) for name in ("layers.0.mlp", "layers.2.resid_pre")]
    shown = llama.run_with_cache(SOURCE)[1]
    for vector, site in zip(parts.vectors_of(llama, scope, sites), sites, strict=True):
        assert mx.array_equal(vector, shown[site.name][:, 2])
        assert mx.array_equal(parts.value_at(llama, scope, site, sites[0], None)[0], shown[site.name][:, 2])


def test_an_answer_that_leaves_the_models_positions_is_refused():
    model = InterpretableModel(models.make("gpt2"))  # 128 positions
    parts.scope_of(model, SOURCE, 2, list(range(128)), -1, 5)
    with pytest.raises(TokenError, match="129 tokens"):
        parts.scope_of(model, SOURCE, 2, list(range(128)), -1, [5, 6])


def test_options_of_its_own(llama):
    parts.check_options({"sampler": None}, 1)
    for options, tokens, said in (
        ({"where": "all"}, 1, "where="),
        ({"source_model": 1}, 0, "source_model=.*max_tokens=0"),
    ):
        with pytest.raises(InputError, match=said):
            parts.check_options(options, tokens)


def test_a_special_token_is_noted():
    demo = InterpretableModel("demo")
    assert not parts.scope_of(demo, "The Louvre is in", -1, None, -1, None).notes
    assert "special token" in parts.scope_of(demo, "The Louvre is in", -1, None, 0, None).notes[0]
