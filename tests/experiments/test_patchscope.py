"""A patchscope: traces by hand, what is generated, and what is refused."""

import mlx.core as mx
import models
import numpy as np
import pytest

from mlxtrace import InterpretableModel
from mlxtrace import interventions as iv
from mlxtrace.errors import InputError, PositionError, SiteError, TokenError

SOURCE, TARGET = [7, 31, 32, 90, 15, 120], [3, 44, 81, 9]


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def probabilities(model, ids, edits=None):
    with model.trace(list(ids), interventions=edits) as trace:
        pass
    x = np.array(trace.output[0].astype(mx.float32), dtype=np.float64)
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
@pytest.mark.parametrize(
    "read, written", [("layers.0.resid_post", "layers.1.resid_pre"), ("layers.1.mlp", "layers.0.mlp")]
)
def test_it_is_a_trace_by_hand(name, read, written):
    model = InterpretableModel(models.make(name))
    if "mlp" in read and name == "mamba":
        pytest.skip("no MLP")
    scope = model.patchscope(SOURCE, read, 2, TARGET, written, 1, max_tokens=0, target=[5, 8], k=3)
    value = model.run_with_cache(SOURCE)[1][read][:, 2:3]
    right = probabilities(model, [*TARGET, 5], {written: iv.replace_at(value, 1)})[-2:]
    plain = probabilities(model, [*TARGET, 5])[-2:]
    assert scope.prob == pytest.approx(right[0, 5] * right[1, 8], rel=1e-4)
    assert scope.base_prob == pytest.approx(plain[0, 5] * plain[1, 8], rel=1e-4)
    np.testing.assert_allclose(scope.probabilities, -np.sort(-right[0])[:3], rtol=1e-4)
    np.testing.assert_allclose(scope.base_probabilities, -np.sort(-plain[0])[:3], rtol=1e-4)
    assert scope.rank == max((right[0] > right[0, 5]).sum(), (right[1] > right[1, 8]).sum())
    assert (scope.answer_ids, scope.text, scope.generated) == ([5, 8], "", [])


def test_what_is_generated_begins_with_the_likeliest_token_and_sees_the_edit_once(demo):
    source, target = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
    scope = demo.patchscope(source, "layers.6", -1, target, max_tokens=4)
    assert scope.text.startswith("Paris") and scope.answer == " Paris"
    value = demo.run_with_cache(source)[1]["layers.6.resid_post"][:, -1:]
    ids = demo.ids(target)
    at = len(ids) - 1
    for token in scope.generated:  # the whole sequence anew, the edit where it was
        assert token == probabilities(demo, ids, {"layers.6": iv.replace_at(value, at)})[-1].argmax()
        ids.append(token)
    assert scope.ids[0] == scope.generated[0]


def test_the_same_token_put_back_changes_nothing(demo):
    prompt = "The Louvre is in the city of"
    same = demo.patchscope(prompt, 4, 3, prompt, target_position=3, max_tokens=3)
    assert same.top == same.base_top and same.prob == same.base_prob
    assert same.text == demo.generate(prompt, max_tokens=3)


def test_defaults_are_the_papers(demo):
    scope = demo.patchscope("The Eiffel Tower is in the city of", 8, max_tokens=0)
    assert scope.target_prompt == "cat -> cat; 1135 -> 1135; hello -> hello; ?"
    assert (
        scope.target_tokens[scope.target_position] == " ?"
        and scope.source_tokens[scope.source_position] == " of"
    )
    assert scope.source_site == scope.target_site == "layers.8.resid_post"
    assert (scope.answer, scope.source_said) == (
        " Paris",
        " Paris",
    ) and scope.prob > 0.9 > 0.01 > scope.base_prob


def test_a_mapping_stands_between(llama):
    def halved(x):
        return x * 0.5

    scope = llama.patchscope(SOURCE, 1, 2, TARGET, max_tokens=0, target=5, mapping=halved)
    value = llama.run_with_cache(SOURCE)[1]["layers.1.resid_post"][:, 2:3] * 0.5
    right = probabilities(llama, TARGET, {"layers.1": iv.replace_at(value, 3)})[-1]
    assert scope.prob == pytest.approx(right[5], rel=1e-4) and scope.mapping == "halved"
    for wrong in (3, lambda x: x[:2], lambda x: None):
        with pytest.raises(InputError, match="mapping"):
            llama.patchscope(SOURCE, 1, 2, TARGET, max_tokens=0, mapping=wrong)


@pytest.mark.parametrize(
    "options, error, said",
    [
        ({"source_site": "layers.1.pattern"}, SiteError, "two tokens"),
        (
            {"source_site": "layers.1.head", "target_site": "layers.1.mlp"},
            SiteError,
            "choose sites of one shape",
        ),
        ({"source_site": "layers.9"}, PositionError, "layer 9"),
        ({"source_site": None}, SiteError, "needs a layer"),
        ({"source_position": 6}, PositionError, "outside"),
        ({"target_position": [0, 1]}, InputError, "target_position=.* is 2 tokens"),
        ({"max_tokens": -1}, InputError, "max_tokens"),
        ({"target": []}, TokenError, "token"),
        ({"stream": True, "max_tokens": 1}, InputError, "stream="),
        ({"prompt_cache": [], "max_tokens": 1}, InputError, "prompt_cache="),
        ({"temperature": 1.0}, InputError, "generates nothing"),
        ({"temperature": 1.0, "max_tokens": 1}, InputError, "temperature"),
        ({"source": [SOURCE, SOURCE]}, TokenError, "2 prompts"),
        ({"target_prompt": None}, TokenError, "no tokenizer"),
    ],
)
def test_what_means_nothing_is_refused(llama, options, error, said):
    given = {
        "source": SOURCE,
        "source_site": 1,
        "source_position": 2,
        "target_prompt": TARGET,
        "max_tokens": 0,
    }
    with pytest.raises(error, match=said):
        llama.patchscope(**{**given, **options})
