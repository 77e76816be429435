"""What is asked of a generation and cannot be: said before anything runs, with what to write in its place."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest

from mlxtrace import InterpretableModel, errors
from mlxtrace import interventions as iv
from mlxtrace.forward.generation_checks import Asked

IDS = [3, 17, 5, 90, 44, 8]
T = len(IDS)


@pytest.fixture(autouse=True)
def _no_pass(monkeypatch, llama):
    """Nothing runs: each error comes first."""

    def no_pass(*_, **__):
        raise AssertionError("a pass was run")

    monkeypatch.setattr(type(llama.net), "__call__", no_pass)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"where": "tokens"}, "'prompt', 'new', 'all'"),
        ({"where": None}, "where"),
        ({"max_new_tokens": 5}, "write max_tokens"),
        ({"temperature": 0.7}, "make_sampler"),
        ({"do_sample": True}, "make_sampler"),
        ({"fwd_hooks": []}, "interventions="),
        ({"hooks": []}, "interventions="),
        ({"verbose": True}, "stream=True"),
        ({"prefil_step_size": 5}, "closest: prefill_step_size"),
        ({"model": None}, "model"),
        ({"sampler": 0.7}, "sampler"),
        ({"logits_processors": print}, "list of functions"),
        ({"logits_processors": [None]}, "list of functions"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_options_that_are_none(llama, options, match, stream):
    with pytest.raises((errors.InputError, TypeError), match=match):
        llama.generate(IDS, stream=stream, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"draft_model": object()}, "draft_model"),
        ({"input_embeddings": mx.zeros((T, 4))}, "input_embeddings"),
        ({"kv_bits": 8, "quantized_kv_start": 0}, "quantized_kv_start=6"),
        ({"where": "new", "max_tokens": 1}, "max_tokens=1"),
    ],
)
def test_options_under_which_interventions_have_no_place(llama, options, match):
    with pytest.raises(errors.InputError, match=match):
        llama.generate(IDS, interventions={"layers.1": iv.scale(2)}, **options)


@pytest.mark.parametrize(
    ("positions", "where", "n"),
    [
        (T + 4, "all", 5),  # the last new token is never run for another one
        ([0, T + 4], "all", 5),
        (-T - 1, "all", 5),
        (T, "prompt", 5),
        (slice(T, None), "prompt", 5),
        (slice(T + 4, None), "all", 5),
        (slice(2, 2), "all", 5),
        (-1, "new", 5),
        ([3, T], "new", 5),
        (T, "all", 1),
        (-1, "new", -1),
        (slice(2, 4), "new", -1),
    ],
)
def test_positions_that_are_never_run(llama, positions, where, n):
    for edit in (iv.zero_at(positions), iv.compose(iv.scale(2), iv.add_vector(1.0, positions))):
        with pytest.raises(errors.PositionError):
            llama.generate(IDS, n, {"layers.1": edit}, where)


@pytest.mark.parametrize(
    ("positions", "where", "n"),
    [
        (T + 3, "all", 5),
        (T + 3, "new", 5),
        (slice(None), "new", 5),
        (slice(T + 3, None), "new", 5),
        (slice(-1, None), "prompt", 5),
        (-T, "all", 1),
        (T + 500, "all", -1),
        (slice(T + 500, None, 7), "new", -1),
        (range(T), "prompt", -1),
    ],
)
def test_positions_that_may_be_run(positions, where, n):
    asked = Asked(T, 0, n, where, {"sampler": None, "logits_processors": None})
    asked.check_interventions({"layers.1": iv.zero_at(positions)})


def test_a_table_of_positions_is_not_read_past():
    model = InterpretableModel(models.make("gpt2"))
    room = model.resolver.structure.max_length - T + 1
    with pytest.raises(errors.TokenError, match=f"max_tokens={room}"):
        model.generate(IDS, room + 1)
    with pytest.raises(errors.TokenError, match="room"):
        model.generate(IDS, -1, stream=True)
    Asked(T, 0, room, "all", {"sampler": None, "logits_processors": None}).check(room + T - 1)
    with pytest.raises(errors.TokenError, match="room"):
        Asked(T, 1, room, "all", {"sampler": None, "logits_processors": None}).check(room + T - 1)


def test_a_stream_of_mlx_is_none(llama):
    for stream in (mx.default_stream(mx.cpu), print, 1):
        with pytest.raises(errors.InputError, match="stream is True or False"):
            llama.generate(IDS, stream=stream)


def test_prompts_that_are_none(llama):
    for prompt in ([], None, [[1, 2], [3, 4]], [1, 10**6]):
        with pytest.raises(errors.TokenError):
            llama.generate(prompt)
