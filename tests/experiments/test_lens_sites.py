"""What lenses and patchscopes take, and how they refuse the rest."""

import mlx.core as mx
import models
import pytest

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError, PositionError, SiteError, SubjectError, TokenError
from mlxtrace.experiments import lens_sites


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


def test_components_are_as_wide_as_the_stream():
    assert (
        lens_sites.one_component("output") == "resid_post" and lens_sites.one_component("self_attn") == "attn"
    )
    for wrong in ("head", "q", "pattern", "neuron", "router"):
        with pytest.raises(InputError, match="not as wide as the residual stream"):
            lens_sites.one_component(wrong)
    for wrong in (["mlp", "attn"], "resid", None):
        with pytest.raises(InputError):
            lens_sites.one_component(wrong)


def test_one_position(demo):
    prompt = demo.prompt("The Eiffel Tower is in", subject="Eiffel Tower")
    one = lambda position: lens_sites.one_position("source_position", position, prompt)  # noqa: E731
    assert [one(p) for p in (-1, 2, "last", "subject_last", [3])] == [6, 2, 6, 4, 3]
    for wrong, error, said in (
        ("subject", InputError, "is 3 tokens"),
        ("each", InputError, "one token"),
        ([1, 2], InputError, "is 2 tokens"),
        (7, PositionError, "outside"),
        ("nowhere", InputError, "unknown"),
    ):
        with pytest.raises(error, match=said):
            one(wrong)
    with pytest.raises(SubjectError):
        lens_sites.one_position("source_position", "subject", demo.prompt("Paris is in"))


def test_an_answer_of_several_tokens_is_never_its_first(demo):
    prompt = demo.prompt("The Louvre is in")
    assert lens_sites.one_token(demo, " Paris", prompt) == demo.answer_token(" Paris")
    with pytest.raises(TokenError, match="one token at a time"):
        lens_sites.one_token(demo, " Louvre", prompt)


def test_widths():
    lens_sites.check_width("layers.0.mlp", mx.zeros((1, 3, 8)), 3, 8)
    with pytest.raises(SiteError, match=r"\[4, 1, 3, 8\]"):
        lens_sites.check_width("layers.0.resid_post", mx.zeros((4, 1, 3, 8)), 3, 8)


def test_tokens_without_a_text_have_their_id(demo):
    assert lens_sites.texts_of(demo, [demo.answer_token(" Paris")]) == {demo.answer_token(" Paris"): " Paris"}
    assert lens_sites.texts_of(InterpretableModel(models.make("llama")), [7]) == {7: "<7>"}
