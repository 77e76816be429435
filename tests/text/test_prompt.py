"""A prompt that is read once: what it holds, how it prints, where it is taken, and whose it is."""

import copy
import pickle

import mlx.core as mx
import pytest
from tiny_tokenizers import BYTES, MAKERS, SPM, make

from mlxtrace import InterpretableModel
from mlxtrace.errors import PositionError, SubjectError, TokenError
from mlxtrace.text import prompt as pr
from mlxtrace.text import tokens as tk

TEXT = "The Eiffel Tower is located in"


@pytest.fixture(scope="module")
def model():
    return InterpretableModel("demo")


# --- what it holds, and how it prints -------------------------------------------------------------


def test_a_prompt_prints_as_a_receipt_of_what_was_tokenized():
    tokenizer = make(SPM)
    shown = pr.read(tokenizer, TEXT, "Eiffel Tower")
    assert list(shown.ids) == tk.encode(tokenizer, TEXT) and shown.bos == 0
    assert shown.subject == tk.subject_range(tokenizer, TEXT, "Eiffel Tower")
    lines = repr(shown).splitlines()
    assert len(lines) == len(shown.ids) + 2 and "BOS" in lines[1]
    marked = [i for i, line in enumerate(lines[1:-1]) if line.endswith("*")]
    assert marked == list(shown.subject)
    assert all(repr(token) in line for token, line in zip(shown.tokens, lines[1:-1], strict=True))
    assert "&lt;s&gt;" in shown._repr_html_() and "<s>" not in shown._repr_html_()


def test_prompts_without_subject_or_tokenizer():
    shown = pr.read(make(BYTES), "a\nb")
    assert shown.bos is None and shown.subject is None and "\\n" in repr(shown)
    assert pr.read(None, [3, 4], range(1, 2)).tokens == ("<3>", "<4>")
    with pytest.raises(SubjectError):
        pr.read(make(BYTES), "The Eiffel Tower", "Louvre")


def test_regions_are_named_positions():
    plain = pr.read(make(SPM), TEXT)
    n = len(plain)
    assert plain.regions == {"last": range(n - 1, n)} and plain.subject is None
    read = plain.with_subject("Eiffel Tower")
    start, stop = read.subject[0], read.subject[-1] + 1
    assert read.regions["subject"] == range(start, stop) == read.subject
    assert read.regions["subject_last"] == range(stop - 1, stop) and read.regions["last"] == range(n - 1, n)
    assert plain.subject is None and plain.ids == read.ids
    other = read.with_subject([-1])
    assert other.subject == range(n - 1, n) == other.regions["subject"] and other.subject_text is None


@pytest.mark.parametrize("given", [TEXT, None])
def test_the_text_is_as_given_or_decoded(given):
    tokenizer = make(SPM)
    ids = tk.encode(tokenizer, TEXT)
    read = pr.read(tokenizer, given or ids)
    assert read.decoded == (given is None) and read.text == (given or "".join(read.tokens))
    assert read.ids == tuple(ids) and read.find("Eiffel Tower") == tk.subject_range(
        tokenizer, TEXT, "Eiffel Tower"
    )


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("text", [TEXT, " two", "エッフェル塔は", "<s> a </s> b", "<|end|>The", "x<|end|>"])
def test_the_ids_without_special_tokens_are_those_of_the_text_alone(name, text):
    read = pr.read(make(name), text)
    assert list(read.plain_ids) == tk.encode_plain(make(name), text)


@pytest.mark.parametrize("name", [BYTES, SPM, "bare sentencepiece"])
@pytest.mark.parametrize("given", ["text", "ids"])
def test_answers_follow_the_prompt(name, given):
    tokenizer = make(name)
    read = pr.read(tokenizer, TEXT if given == "text" else tk.encode(tokenizer, TEXT))
    assert read.answer_token(" Paris") == tk.answer_token(tokenizer, " Paris", TEXT)
    assert read.answer_tokens(" Paris, France") == tk.answer_tokens(tokenizer, " Paris, France", TEXT)
    assert read.answer_token(7) == 7 and read.answer_tokens([7, 8]) == (7, 8)
    with pytest.raises(TokenError, match="ambiguous"):
        read.answer_token("Paris")
    with pytest.raises(TokenError, match="id 7"):
        read.answer_token(7, vocab_size=7)


def test_prompts_are_values():
    read = pr.read(None, [3, 4, 5], [1])
    same = pr.read(None, mx.array([[3, 4, 5]]), range(1, 2))
    assert read == same and hash(read) == hash(same) and len({read, same}) == 1
    assert read != pr.read(None, [3, 4, 5]) and read != pr.read(None, [3, 4, 6], [1])
    assert copy.deepcopy(read) == read == pickle.loads(pickle.dumps(read))
    with pytest.raises(AttributeError):
        read.text = "another"


# --- where it is taken ----------------------------------------------------------------------------


def test_a_prompt_is_taken_wherever_a_text_is(model):
    read = model.prompt(TEXT, "Eiffel Tower")
    assert model.prompt(read) is read and model.receipt(read) is read
    assert model.ids(read) == model.ids(TEXT) == list(read.ids)
    assert model.to_str_tokens(read) == model.to_str_tokens(TEXT) == list(read.tokens)
    assert model.to_tokens(read).tolist() == [list(read.ids)]
    assert model.subject_range(read, "Eiffel Tower") == read.subject == read.find("Eiffel Tower")
    assert model.answer_token(" Paris", read) == model.answer_token(" Paris", TEXT)
    assert repr(model.receipt(TEXT, "Eiffel Tower")) == repr(read)
    logits = model.run_with_cache(TEXT)[0]
    assert mx.array_equal(model.run_with_cache(read)[0], logits)
    with model.trace() as trace, trace.invoke(read):
        assert mx.array_equal(model.output, logits)


# --- whose it is ----------------------------------------------------------------------------------


def test_a_prompt_of_another_tokenizer_is_refused(model, llama):
    with pytest.raises(TokenError, match="another tokenizer"):
        model.prompt(pr.read(make(BYTES), TEXT))
    with pytest.raises(TokenError, match="another tokenizer"):
        llama.ids(model.prompt(TEXT))  # without a tokenizer its ids are numbers
    twin = copy.deepcopy(model.tokenizer)
    assert model.ids(pr.read(twin, TEXT)) == model.ids(TEXT)


def test_a_prompt_of_another_model_is_checked_against_this_one(llama):
    with pytest.raises(TokenError, match=str(llama.vocab_size)):
        llama.prompt(pr.read(None, [1, llama.vocab_size]))
    with pytest.raises(PositionError):
        llama.prompt(pr.read(None, [1, 2]), [2])
