"""What users of other libraries type raises one error that says what to write here."""

from __future__ import annotations

import mlx_lm
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace.forward.other_names import METHODS, OPTIONS

PROMPT = "The Eiffel Tower is in the city of"


@pytest.fixture(scope="module")
def demo():
    return InterpretableModel("demo")


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_other_libraries(demo, name):
    with pytest.raises(errors.SiteAttributeError, match=name) as raised:
        getattr(demo, name)
    assert METHODS[name] in str(raised.value) and not hasattr(demo, name) and name not in dir(demo)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_other_libraries(demo, name):
    with pytest.raises(errors.InputError, match=name) as raised:
        demo.generate(PROMPT, **{name: 5})
    assert OPTIONS[name] in str(raised.value)


def test_what_is_said_to_be_there_is_there(demo):
    for name in (
        "trace",
        "run_with_cache",
        "generate",
        "answer_token",
        "decode",
        "token_to_str",
        "subject_range",
    ):
        assert any(f"model.{name}" in cure for cure in METHODS.values()) and callable(getattr(demo, name))
    from mlx_lm import sample_utils

    assert sample_utils.make_sampler and sample_utils.make_logits_processors


def test_a_model_is_not_called(demo):
    calls = [
        lambda: demo(PROMPT),
        lambda: demo(demo.to_tokens(PROMPT), return_type="loss"),
        lambda: mlx_lm.generate(demo, demo.tokenizer, PROMPT, max_tokens=2),
        lambda: next(mlx_lm.stream_generate(demo, demo.tokenizer, PROMPT, max_tokens=2)),
    ]
    for call in calls:
        with pytest.raises(
            errors.UnsupportedError, match=r"model\.run_with_cache.*mlx_lm\.generate\(model\.net"
        ):
            call()


def test_generating_is_no_block(demo):
    with pytest.raises(errors.InputError, match="interventions="), demo.generate(PROMPT, max_tokens=1):
        pass
