"""Lines of Python that make a page again: run, they give the same numbers."""

import numpy as np
import pytest
import shipped
from page_results import CLASSES, PROMPTS, page_results

from mlxtrace import prompts
from mlxtrace.pages.reproduction import About, python_lines, reproduction, versions


def again(result):
    """What the lines for a result give."""
    lines = python_lines([result])
    assert lines[-1] == 'mlxtrace.report(result, "report.html")' and "import mlxtrace" in lines
    space = {}
    code = "\n".join(line for line in lines if not line.startswith(("mlxtrace.report", "model =")))
    exec(code, space | {"model": shipped.load("demo")}, space)
    return space["result"]


@pytest.mark.parametrize(
    "settings",
    [
        {"component": ["mlp", "attn"], "positions": "each", "window": 3, "layers": [2, 3, 4]},
        {"component": "head", "direction": "noise", "metric": ["logit_diff", "prob"], "layers": [1, 5]},
        {"component": "resid_post", "positions": "subject", "layers": [0, 11]},
        {"component": "resid_post", "positions": "subject", "answers": [" Paris", " France"], "layers": 3},
    ],
)
def test_patching_is_run_again(settings):
    result = shipped.load("demo").activation_patching(*PROMPTS, progress=False, **settings)
    np.testing.assert_array_equal(again(result).raw, result.raw)


def test_prompts_of_unlike_length_are_aligned_again():
    prompts = PROMPTS[0], "The very Statue of Liberty is in the city of"
    result = shipped.load("demo").activation_patching(*prompts, layers=[3], align="ends", progress=False)
    assert len(result.tokens) != len(result.corrupted_tokens)
    np.testing.assert_array_equal(again(result).raw, result.raw)


def test_a_trace_is_run_again():
    trace = shipped.load("demo").causal_trace(
        PROMPTS[0], "Eiffel Tower", kind="mlp", window=2, samples=2, seed=3, positions="last", progress=False
    )
    np.testing.assert_array_equal(again(trace).raw, trace.raw)


def test_a_set_is_run_again():
    pairs = [
        prompts.Pair(*PROMPTS, target=" Paris"),
        prompts.Pair("The Louvre Museum is in the city of", PROMPTS[1]),
    ]
    result = shipped.load("demo").activation_patching(
        pairs, metric="logit_diff", positions="regions", layers=[3], progress=False
    )
    np.testing.assert_array_equal(again(result).raw, result.raw)


@pytest.mark.parametrize("name", CLASSES)
def test_what_cannot_be_written_out_is_a_comment(name):
    lines = python_lines([page_results()[name]])
    compile("\n".join(lines), "lines", "exec")
    assert any(line.startswith(("result =", "# result:")) for line in lines)


def test_the_command_the_weights_and_the_versions_are_named():
    html = reproduction([], About("python -m mlxtrace.patch --clean '<b>'", "bfloat16, 4 bits"))
    assert "--clean &#x27;&lt;b&gt;&#x27;" in html and "bfloat16, 4 bits" in html
    assert all(f"{name} {version}" in html for name, version in versions().items())
    assert "precision is not kept" in reproduction([], About())
