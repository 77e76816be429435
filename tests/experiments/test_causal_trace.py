"""Causal tracing: the published numbers, by a loop written from the paper; laws; and what bad input gets."""

import copy

import models
import numpy as np
import pytest
import rome_loop
from noise import close

import mlxtrace
from mlxtrace.errors import EffectError, InputError, MlxtraceError, PositionError, SubjectError

IDS = [7, 31, 32, 90, 15, 120, 8]
NETS = {
    "gpt2": (rome_loop.GPT2, {"n_layer": 5}),
    "llama": (rome_loop.Llama, {"num_hidden_layers": 5}),
}


@pytest.fixture(scope="module", params=NETS)
def both(request):
    """A model in mlxtrace, and the same weights in NumPy."""
    reference, changes = NETS[request.param]
    net = models.make(request.param, seed=4, **changes)
    return mlxtrace.InterpretableModel(net), reference(net)


def same(trace, expected):
    scores, low, high, answer = expected
    np.testing.assert_allclose(trace.scores, scores, atol=1e-5)
    np.testing.assert_allclose([trace.low_score, trace.high_score], [low, high], atol=1e-5)
    assert trace.answer.token == answer


@pytest.mark.parametrize(
    "options",
    [
        {},  # the published ten samples
        {"kind": "mlp", "window": 3, "samples": 3},
        {"kind": "attn", "window": 4, "samples": 3},
        {"kind": "mlp", "samples": 3},
        {"severed": "mlp", "samples": 3},
        {"severed": "attn", "samples": 3},
        {"seed": 5, "samples": 3},
    ],
    ids=str,
)
def test_scores_are_the_papers(both, options):
    model, reference = both
    trace = model.causal_trace(IDS, range(1, 3), noise=0.7, progress=False, **options)
    same(trace, rome_loop.trace(reference, IDS, range(1, 3), 0.7, **options))
    assert np.ptp(trace.scores) > 0.01  # something happens, so agreeing means something


def test_the_published_window_at_this_depth(both):
    model, _ = both
    options = {"kind": "mlp", "samples": 2, "noise": 0.7, "positions": [1], "progress": False}
    trace = model.causal_trace(IDS, range(1, 3), window="auto", **options)
    assert trace.window == 1 and not any("spans" in note for note in trace.notes)
    np.testing.assert_array_equal(trace.raw, model.causal_trace(IDS, range(1, 3), window=1, **options).raw)
    whole = model.causal_trace(IDS, range(1, 3), **options)
    assert whole.window == 10 and any(note.endswith("is 1 of 5") for note in whole.notes)


def test_uniform_and_replacing_noise(both):
    model, reference = both
    trace = model.causal_trace(IDS, range(1, 3), noise="u1.5", replace=True, samples=4, progress=False)
    expected = rome_loop.trace(reference, IDS, range(1, 3), 1.5, samples=4, draw="uniform", replace=True)
    same(trace, expected)


def test_noise_scale_is_of_the_table_or_of_the_subjects(llama_folder):
    model = mlxtrace.InterpretableModel(llama_folder)
    table = np.array(model.resolver.get_embedding_layer().weight, dtype=np.float64)
    prompt = "The Eiffel Tower is located in the city of"
    plain = model.causal_trace(prompt, "Eiffel Tower", samples=2, positions="last", progress=False)
    assert plain.noise_level == pytest.approx(3 * table.std(ddof=1), rel=1e-6)
    assert "whole embedding table" in plain.notes[0]
    subjects = ["Eiffel Tower", "Colosseum"]
    trace = model.causal_trace(
        prompt, "Eiffel Tower", noise="s2", subjects=subjects, samples=2, positions="last", progress=False
    )
    rows = np.concatenate([table[model.encode(s)] for s in subjects])
    assert trace.noise_level == pytest.approx(2 * rows.std(ddof=1), rel=1e-6)
    again = model.causal_trace(
        prompt, "Eiffel Tower", noise=trace.noise_level, samples=2, positions="last", progress=False
    )
    np.testing.assert_array_equal(again.raw, trace.raw)


def test_severed_with_one_draw_leaves_other_tokens_alone(both):
    model, _ = both
    trace = model.causal_trace(
        IDS, range(1, 3), noise=0.7, severed="mlp", severed_noise="same", progress=False
    )
    plain = model.causal_trace(IDS, range(1, 3), noise=0.7, progress=False)
    assert trace.low_score == plain.low_score
    np.testing.assert_allclose(trace.scores[0], trace.low_score, atol=1e-6)
    np.testing.assert_allclose(trace.scores[:, -1], plain.scores[:, -1], atol=1e-6)  # no MLP comes after
    assert np.abs(trace.scores - plain.scores).max() > 1e-3


def test_laws(both):
    model, _ = both
    n = model.n_layers
    trace = model.causal_trace(IDS, range(1, 3), noise=0.7, progress=False)
    assert trace.raw.shape == (len(IDS), n, 10)
    np.testing.assert_array_equal(trace.scores[:-1, -1], trace.low_score)  # the last layer hands nothing on
    close(trace.scores[-1, -1], trace.high_score, model, "probability")
    np.testing.assert_array_equal(
        trace.scores[0], trace.low_score
    )  # before the subject nothing was corrupted
    assert trace.plan.passes <= 8 and trace.plan.cells == len(IDS) * n
    again = model.causal_trace(IDS, range(1, 3), noise=0.7, progress=False)
    np.testing.assert_array_equal(trace.raw, again.raw)
    other = model.causal_trace(IDS, range(1, 3), noise=0.7, seed=2, progress=False)
    assert np.abs(other.scores - trace.scores).max() > 1e-4
    still = model.causal_trace(IDS, range(1, 3), noise=0.0, samples=2, progress=False)
    close(still.scores, np.full_like(still.scores, still.high_score), model, "probability")
    with pytest.raises(EffectError, match="hardly moves"):
        _ = still.recovery


@pytest.mark.parametrize("kind", [None, "mlp", "attn"])
def test_engines_agree(both, kind):
    model, _ = both
    found = [
        model.causal_trace(
            IDS, range(1, 3), noise=0.7, kind=kind, window=3, samples=3, engine=engine, progress=False
        )
        for engine in ("fanout", "flat", "loop")
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.raw, found[0].raw, atol=2e-5)
    assert [t.plan.engine for t in found] == ["fanout", "flat", "loop"]


def test_subjects_of_every_shape(both):
    model, reference = both
    for subject in (range(6, 7), range(0, 1), range(0, 7)):  # the end, the start, everything
        trace = model.causal_trace(IDS, subject, noise=0.7, samples=2, progress=False)
        same(trace, rome_loop.trace(reference, IDS, subject, 0.7, samples=2))


def test_one_layer_and_windows_at_the_edges():
    net = models.make("gpt2", n_layer=1)
    trace = mlxtrace.InterpretableModel(net).causal_trace(IDS, [2], noise=1.0, kind="mlp", progress=False)
    same(trace, rome_loop.trace(rome_loop.GPT2(net), IDS, [2], 1.0, kind="mlp"))
    assert trace.scores.shape == (len(IDS), 1)


def test_rows_answers_and_texts(llama_folder):
    model = mlxtrace.InterpretableModel(llama_folder)
    prompt = "Paris is in Paris and the Eiffel Tower is in the city of Paris"

    def run(subject, **options):
        return model.causal_trace(prompt, subject, samples=2, progress=False, **options)

    assert run("Paris", positions="last").subject_range == model.subject_range(prompt, "Paris")
    assert run("Paris", positions="last").subject_range[0] == 0  # the first occurrence
    whole = run("Eiffel Tower", kind="attn", window=2)
    some = run("Eiffel Tower", kind="attn", window=2, positions=[-1, 3])
    assert some.positions == [len(whole.tokens) - 1, 3]
    close(some.raw, whole.raw[some.positions], model, "probability")
    last = run("Eiffel Tower", positions="subject_last")
    assert last.positions == [model.subject_range(prompt, "Eiffel Tower")[-1]]
    wrong = run("Eiffel Tower", target=" Rome", positions="last")
    assert wrong.answer.token == model.answer_token(" Rome", prompt)
    assert any("own answer is" in note for note in wrong.notes)
    same_token = run("Eiffel Tower", target=whole.answer.token)
    assert same_token.high_score == pytest.approx(whole.high_score) and len(same_token.notes) == 1


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_agrees_with_its_dequantized_weights(bits):
    from mlx_lm.utils import dequantize_model

    net = models.make("llama", quantize=bits)
    quantized = mlxtrace.InterpretableModel(net).causal_trace(IDS, [2, 3], samples=3, progress=False)
    plain = mlxtrace.InterpretableModel(dequantize_model(copy.deepcopy(net)))
    plain = plain.causal_trace(IDS, [2, 3], samples=3, progress=False)
    assert quantized.noise_level == pytest.approx(plain.noise_level, rel=1e-6)
    np.testing.assert_allclose(quantized.scores, plain.scores, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"kind": "mpl"}, InputError, "closest: mlp"),
        ({"kind": "mlp", "window": 0}, InputError, "window"),
        ({"kind": "mlp", "severed": "mlp"}, InputError, "kind=None"),
        ({"severed": "all"}, InputError, "severed"),
        ({"severed": "mlp", "severed_noise": "old"}, InputError, "same"),
        ({"samples": 0}, InputError, "samples"),
        ({"noise": "3s"}, InputError, "Valid"),
        ({"noise": -1.0}, InputError, "Valid"),
        ({"seed": -1}, InputError, "seed"),
        ({"positions": "all"}, InputError, "each"),
        ({"positions": [99]}, PositionError, "outside"),
        ({"subject": [2, 4]}, SubjectError, "not consecutive"),
        ({"subject": "Eiffel"}, SubjectError, "no tokenizer"),
        ({"subject": [50]}, PositionError, "outside"),
        ({"target": 10_000}, InputError, "10000"),
        ({"engine": "fast"}, InputError, "unknown"),
        ({"engine": None}, InputError, "unknown"),
        ({"subjects": 3, "noise": "s3"}, InputError, "list of one subject"),
        ({"max_memory": "2GB"}, InputError, "bytes"),
    ],
    ids=str,
)
def test_bad_input(llama, options, error, says):
    arguments = {"subject": range(1, 3), "noise": 0.5, **options}
    with pytest.raises(error, match=says) as caught:
        llama.causal_trace(IDS, **arguments, progress=False)
    assert isinstance(caught.value, MlxtraceError)


def test_absent_subject_names_the_prompt(llama_folder):
    model = mlxtrace.InterpretableModel(llama_folder)
    with pytest.raises(SubjectError, match="does not occur"):
        model.causal_trace("The Eiffel Tower is in", "Louvre")
