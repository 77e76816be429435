"""A model reads and writes text: ids in any form, checked against its vocabulary, its embeddings and its length."""

from __future__ import annotations

import mlx.core as mx
import models
import numpy as np
import pytest
from tiny_tokenizers import SPM, make

from mlxtrace import InterpretableModel, errors
from mlxtrace.text.reader import Reader

IDS = [3, 17, 5, 90, 41, 8, 77]
TEXT = "The Eiffel Tower is located in"


class Small(Reader):
    """A reader without a model: so many ids, and prompts of so many tokens."""

    def __init__(self, tokenizer=None, known=100, vocab_size=100, longest=None):
        self.tokenizer, self.known, self.size, self.longest = tokenizer, known, vocab_size, longest

    @property
    def vocab_size(self):
        return self.size

    def _known_ids(self):
        return self.known

    def _longest(self):
        return self.longest


def plain(net):
    out = net(mx.array([IDS]))
    mx.eval(out)
    return out


@pytest.mark.parametrize(
    "prompt", [IDS, tuple(IDS), mx.array(IDS), mx.array([IDS]), np.array(IDS)], ids=lambda p: type(p).__name__
)
def test_prompts_of_ids(llama, prompt):
    with llama.trace(prompt) as trace:
        pass
    assert mx.array_equal(trace.output, plain(llama.net))


@pytest.mark.parametrize(
    "prompt", [[], [1.5], [models.VOCAB], [-1], "text", 3, [[1, 2], 3], [[1, 2], []], mx.zeros((2, 0))]
)
def test_prompts_that_mean_nothing(llama, prompt):
    with pytest.raises(errors.MlxtraceError):
        llama.trace(prompt)


def test_ids_have_an_embedding_and_answers_a_logit():
    """A vocabulary that is padded has more logits than rows: those are answers, and no prompts."""
    reader = Small(known=50, vocab_size=60)
    assert reader.ids([49]) == [49] and reader.answer_token(59) == 59
    for call in (reader.ids, reader.receipt, reader.prompt, reader.to_str_tokens, reader.decode):
        with pytest.raises(errors.TokenError, match="50"):
            call([50])
    with pytest.raises(errors.TokenError):
        reader.token_to_str(50)
    with pytest.raises(errors.TokenError):
        reader.answer_token(60)


def test_a_prompt_that_is_too_long_can_be_looked_at_and_not_run():
    reader = Small(longest=3)
    assert reader.ids([1, 2, 3]) == list(reader.prompt([1, 2, 3]).ids)
    assert len(reader.receipt([1, 2, 3, 4])) == len(reader.to_str_tokens([1, 2, 3, 4])) == 4
    assert reader.subject_range([1, 2, 3, 4], [3]) == range(3, 4)
    for prompt in ([1, 2, 3, 4], reader.receipt([1, 2, 3, 4])):
        for call in (reader.ids, reader.prompt, reader.to_tokens):
            with pytest.raises(errors.TokenError, match=r"4 tokens.*3 positions"):
                call(prompt)


def test_text_and_ids_lead_to_each_other():
    reader = Small(make(SPM), 1000, 1000)
    ids = reader.encode(TEXT)
    assert reader.ids(TEXT) == ids == reader.to_tokens(TEXT).tolist()[0]
    assert "".join(reader.to_str_tokens(TEXT)) == reader.decode(ids) and TEXT in reader.decode(ids)
    assert reader.token_to_str(ids[-1]) in TEXT


@pytest.mark.parametrize("form", ["text", "ids", "array", "prompt"])
def test_answers_continue_a_prompt_in_any_form(form):
    reader = Small(make(SPM), 1000, 1000)
    ids = reader.encode(TEXT)
    prompt = {"text": TEXT, "ids": ids, "array": mx.array([ids]), "prompt": reader.prompt(TEXT)}[form]
    assert reader.answer_token(" Paris", prompt) == reader.encode(f"{TEXT} Paris")[len(ids)]
    with pytest.raises(errors.TokenError, match="ambiguous"):
        reader.answer_token("Paris", prompt)


def test_the_model_is_looked_at_anew_before_a_prompt_is_checked(monkeypatch):
    model = InterpretableModel(models.make("llama"))
    looks = []
    monkeypatch.setattr(type(model), "_renew", lambda self: looks.append(self))
    for call in (model.ids, model.prompt, model.to_tokens):
        call(IDS)
    assert len(looks) == 3


def test_tokens_of_several_prompts_are_an_array_where_they_have_one_length():
    reader = Small(longest=3)
    assert reader.to_tokens([[5, 6], [7, 8]]).tolist() == [[5, 6], [7, 8]]
    assert reader.to_tokens([reader.prompt([5, 6])]).tolist() == [[5, 6]]
    assert reader.to_tokens(mx.array([[5, 6], [7, 8]])).dtype == mx.int32
    with pytest.raises(errors.TokenError, match=r"\(1, 2 tokens\)"):
        reader.to_tokens([[5], [6, 7]])
    for wrong, said in (
        ([[5], [100]], "prompt 1 of the 2"),
        ([[5], [1, 2, 3, 4]], "4 tokens, but"),
        ([], "no tokens"),
    ):
        with pytest.raises(errors.TokenError, match=said):
            reader.to_tokens(wrong)


@pytest.mark.parametrize("given", [["a", "b"], ["a"], [[5], [6, 7]], mx.array([[5, 6], [7, 8]])], ids=repr)
def test_what_reads_one_prompt_refuses_a_list_of_prompts(given):
    reader = Small()
    for call in (
        reader.ids,
        reader.prompt,
        reader.receipt,
        reader.to_str_tokens,
        reader.encode,
        reader.decode,
    ):
        with pytest.raises(errors.TokenError, match=r"one prompt is expected|text was expected"):
            call(given)
    with pytest.raises(errors.TokenError):
        reader.answer_token(5, given)
