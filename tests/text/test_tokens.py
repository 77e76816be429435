"""Tokens over tokenizers built here, byte-level BPE and SentencePiece-like, in many scripts."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tiny_tokenizers import (
    BYTES,
    CORPUS,
    MAKERS,
    SPM,
    Slow,
    hugging,
    make,
    word_piece,
)

from mlxtrace.errors import InputError, PositionError, SubjectError, TokenError
from mlxtrace.text import tokens as tk

TEXTS = [
    *CORPUS,
    "The Eiffel Tower 🗼 is in",
    "🗼",
    "👩‍🚀 flies 🚀🚀",
    "naïve café — Zürich",
    "  two  spaces  ",
    "line\nbreak\ttab",
    "エッフェル塔は",
    "한국의 수도는 서울",
    "Ω≈ç√∫ \u0301 combining",
]
SUBJECTS = [
    ("The Eiffel Tower is located in", "Eiffel Tower"),
    ("Eiffel Tower is located in", "Eiffel Tower"),
    ("I saw the Eiffel Tower", "Eiffel Tower"),
    ("The Eiffel Tower 🗼 is in", "🗼"),
    ("🗼 is in Tokyo", "🗼"),
    ("🚀👩‍🚀 flies", "👩‍🚀"),
    ("Эйфелева башня находится в", "Эйфелева башня"),
    ("法国的首都是巴黎", "首都"),
    ("बर्लिन जर्मनी में है", "जर्मनी"),
    ("In naïve Zürich, café culture", "Zürich"),
    ("Audible.com is owned by", "Audible.com"),
    ("Rome is Rome is", "Rome"),
    ("(Rome) is in", "Rome"),
]


@pytest.fixture(params=MAKERS)
def tokenizer(request):
    return make(request.param)


# --- text <-> ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_concatenate_to_the_decoded_text(tokenizer, text):
    ids = tk.encode(tokenizer, text)
    pieces = tk.to_str_tokens(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tk.decode(tokenizer, ids)
    assert tk.decode(tokenizer, ids).endswith(text)


def test_long_texts_take_the_same_pieces_as_short_ones(tokenizer):
    text = " ".join(TEXTS) * 3
    ids = tk.encode(tokenizer, text)
    pieces = tk.to_str_tokens(tokenizer, ids)
    assert "".join(pieces) == tk.decode(tokenizer, ids)
    assert pieces[:40] == tk.to_str_tokens(tokenizer, ids[:200])[:40]


@pytest.mark.parametrize("cut", range(1, 8))
def test_half_a_character_does_not_crash(tokenizer, cut):
    ids = tk.encode(tokenizer, "🗼 巴黎")[:cut]
    pieces = tk.to_str_tokens(tokenizer, ids)
    assert len(pieces) == len(ids) and "".join(pieces) == tk.decode(tokenizer, ids)
    assert all(isinstance(tk.token_to_str(tokenizer, i), str) for i in ids)


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "slow byte-level"])
def test_special_tokens_are_added_once(name):
    tokenizer = make(name)
    bos = next(
        (s for s in ("<s>", "<|end|>") if s in str(tk.to_str_tokens(tokenizer, tk.encode(tokenizer, "a")))),
        None,
    )
    plain, given = tk.encode(tokenizer, "The Tower"), tk.encode(tokenizer, f"{bos or ''}The Tower")
    assert (plain[0] == given[0]) and plain.count(plain[0]) == given.count(plain[0]) == 1
    assert (bos is not None) == (name not in (BYTES, "byte-level prefix"))


def test_encoding_is_what_mlx_lm_feeds_the_model():
    wrapper = make(SPM)
    assert tk.encode(wrapper, "The Eiffel") == wrapper.encode("The Eiffel", add_special_tokens=True)
    assert tk.encode(wrapper, "<s>The Eiffel") == wrapper.encode("<s>The Eiffel", add_special_tokens=False)


@pytest.mark.parametrize("name", [BYTES, SPM, "bare byte-level", "bare sentencepiece"])
def test_a_token_alone_keeps_its_space(name):
    tokenizer = make(name)
    assert tk.token_to_str(tokenizer, tk.answer_token(tokenizer, " Paris")) == " Paris"


@pytest.mark.parametrize(
    "prompt",
    [[5, 1, 2], (5, 1, 2), np.array([5, 1, 2]), mx.array([[5, 1, 2]]), np.array([[5, 1, 2]]), [[5, 1, 2]]],
)
def test_ids_in_any_form(prompt):
    ids = tk.as_ids(None, prompt, 6)
    assert ids == [5, 1, 2] and all(type(i) is int for i in ids)


def test_lists_of_array_scalars():
    assert tk.as_ids(None, list(mx.array([5, 1]))) == tk.as_ids(None, list(np.array([5, 1]))) == [5, 1]
    assert tk.as_ids(None, range(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], "no tokens"),
        (mx.array([], dtype=mx.int32), "no tokens"),
        ([1, 2.0], "float"),
        ([True], "bool"),
        (mx.array([1.0, 2.0]), "float"),
        (np.array([True]), "bool"),
        ([1, None], "NoneType"),
        ([1, "a"], "2 prompts|integers"),
        ([[1, 2], [3, 4]], "2 prompts"),
        (mx.array([[1], [2]]), "2 prompts"),
        (["The", "Eiffel"], "2 prompts"),
        ([1, 6], "id 6.*0..5"),
        ([-1], "id -1"),
        (3, "text or token ids"),
        (np.array(3), "text or token ids"),
        (None, "text or token ids"),
        (b"abc", "text or token ids"),
        ({1: 2}, "text or token ids"),
        ("The Eiffel", "no tokenizer"),
    ],
)
def test_prompts_that_are_none(prompt, says):
    with pytest.raises(TokenError, match=says):
        tk.as_ids(None, prompt, 6)


def test_texts_that_are_none():
    for text in ("", 5, None):
        with pytest.raises(TokenError):
            tk.encode(make(BYTES), text)
    with pytest.raises(TokenError, match="own tokenizer"):
        tk.as_ids(make(BYTES), "The Eiffel Tower", vocab_size=10)


def test_without_a_tokenizer_tokens_are_numbers():
    assert tk.to_str_tokens(None, [12, 7]) == ["<12>", "<7>"]
    assert tk.decode(None, mx.array([12, 7])) == "<12><7>" and tk.token_to_str(None, 12) == "<12>"
    assert tk.to_str_tokens(make(BYTES), []) == []


# --- characters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_spans_cover_the_text_in_order(tokenizer, text):
    ids = tk.encode(tokenizer, text)
    spans = tk.char_spans(tokenizer, text, ids)
    assert len(spans) == len(ids)
    covered = {c for a, b in spans for c in range(a, b)}
    assert {i for i, ch in enumerate(text) if not ch.isspace()} <= covered <= set(range(len(text)))
    filled = [s for s in spans if s[0] < s[1]]
    assert filled == sorted(filled)


@pytest.mark.parametrize("name", ["byte-level bos", "sentencepiece", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_decoded_spans_agree_with_the_offsets_of_fast_tokenizers(name, text):
    tokenizer = make(name)
    ids = tk.encode(tokenizer, text)
    fast = tk.char_spans(tokenizer, text, ids)
    body, slow = tk._decoded_spans(tokenizer, ids, tk._special_ids(tokenizer))
    extra = len(body) - len(text)
    for token, (a, b), (x, y) in zip(ids, fast, slow, strict=True):
        if a < b and tk.decode(tokenizer, [token]).strip():  # not SentencePiece's "▁" in front
            assert text[a:b].strip() == text[max(0, x - extra) : y - extra].strip()


def test_ids_of_another_text_are_refused():
    for name in (BYTES, SPM, "slow byte-level"):
        with pytest.raises(TokenError, match="is not the text"):
            tk.char_spans(make(name), "The Eiffel Tower", tk.encode(make(name), "The Louvre Museum"))


@pytest.mark.parametrize(("prompt", "subject"), SUBJECTS)
@pytest.mark.parametrize("as_given", ["text", "ids"])
def test_subject_ranges(tokenizer, prompt, subject, as_given):
    ids = tk.encode(tokenizer, prompt)
    found = tk.subject_range(tokenizer, prompt if as_given == "text" else ids, subject)
    inside = tk.decode(tokenizer, [ids[i] for i in found])
    assert subject in inside and len(inside.strip()) <= len(subject) + 6
    # nothing before or after belongs to it: the first occurrence ends where the range ends
    assert subject in tk.decode(tokenizer, ids[: found.stop])
    assert tk.decode(tokenizer, ids[: found.start]).count(subject) == 0
    for shorter in (ids[found.start + 1 : found.stop], ids[found.start : found.stop - 1]):
        assert subject not in tk.decode(tokenizer, shorter)


def test_subject_ranges_by_hand():
    bos, plain = make("byte-level bos"), make(BYTES)
    prompt = "The Eiffel Tower is located in"
    words = [t.strip() for t in tk.to_str_tokens(plain, tk.encode(plain, prompt))]
    assert "".join(words[i] for i in tk.subject_range(plain, prompt, "Eiffel Tower")) == "EiffelTower"
    a, b = (tk.subject_range(t, prompt, "Eiffel Tower") for t in (plain, bos))
    assert [i + 1 for i in a] == list(b)
    # part of a token counts, white space around the subject does not
    pieces = tk.to_str_tokens(plain, tk.encode(plain, prompt))
    for part in ("iffel Towe", "Towe", "cated"):
        assert tk.subject_range(plain, prompt, part) == authors_range(pieces, part)
    assert tk.subject_range(plain, prompt, " Eiffel Tower ") == a
    # a leading space picks the word: "Rome" alone is found inside "Jerome" first
    assert (
        tk.subject_range(plain, "JeRome and Rome", " Rome").start
        > tk.subject_range(plain, "JeRome and Rome", "Rome").start
    )


def test_the_special_token_is_no_part_of_a_subject():
    for name in ("sentencepiece", "bare sentencepiece", "byte-level bos"):
        tokenizer = make(name)
        ids = tk.encode(tokenizer, "s end of it")  # the "s" of "<s>" comes first
        for prompt in ("s end of it", ids):
            (at,) = tk.subject_range(tokenizer, prompt, "s")
            assert at in (1, 2) and tk.decode(tokenizer, [ids[at]]).strip() == "s"


def test_known_facts():
    path = Path(__file__).parents[3] / "shared" / "data" / "known_1000.json"
    if not path.exists():
        pytest.skip("the facts of the ROME authors are not here")
    facts = json.loads(path.read_text())
    for name in (BYTES, "sentencepiece"):
        tokenizer = make(name)
        for fact in facts:
            ids = tk.encode(tokenizer, fact["prompt"])
            found = tk.subject_range(tokenizer, fact["prompt"], fact["subject"], ids)
            inside = tk.decode(tokenizer, [ids[i] for i in found])
            assert fact["subject"] in inside
            assert found == authors_range(tk.to_str_tokens(tokenizer, ids), fact["subject"])


def authors_range(pieces, substring):
    """What the ROME authors' rule gives, written anew: characters of the joined tokens, first occurrence."""
    start = "".join(pieces).index(substring)
    ends = np.cumsum([len(p) for p in pieces])
    return range(int(np.argmax(ends > start)), int(np.argmax(ends >= start + len(substring))) + 1)


def test_a_tokenizer_that_changes_the_text_is_searched_in_what_it_keeps():
    for tokenizer in (hugging(word_piece(), None, "[UNK]"), Slow(word_piece())):
        prompt = "The eiffel tower is in paris"
        found = tk.subject_range(tokenizer, prompt, "eiffel tower")
        assert tk.decode(tokenizer, [tk.encode(tokenizer, prompt)[i] for i in found]) == "eiffel tower"
    fast = hugging(word_piece(), None, "[UNK]")
    assert len(tk.subject_range(fast, "The Eiffel Tower", "Eiffel Tower")) >= 1
    assert len(tk.subject_range(fast, "the 🗼 is", "🗼")) == 1  # unknown to it, yet found by its offsets


@pytest.mark.parametrize(
    "given", [range(1, 3), [1, 2], [2, 1], (1, 2), np.array([1, 2]), [-2, -3], range(-3, -1)]
)
def test_subjects_given_as_positions(given):
    assert tk.subject_range(None, [9, 8, 7, 6], given) == range(1, 3)
    assert tk.subject_range(None, [9, 8, 7, 6], 3) == range(3, 4)


@pytest.mark.parametrize(
    ("subject", "error", "says"),
    [
        ([0, 2], SubjectError, "not consecutive"),
        ([4], PositionError, r"-4\.\.3"),
        ([], PositionError, "no position"),
        ([1.5], InputError, "Positions are"),
        ([True], InputError, "Positions are"),
        ([1, 1], InputError, "twice"),
        ("Eiffel", SubjectError, "no tokenizer"),
        (None, InputError, "Positions are"),
    ],
)
def test_subjects_without_a_tokenizer(subject, error, says):
    with pytest.raises(error, match=says):
        tk.subject_range(None, [9, 8, 7, 6], subject)


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("Louvre Museum", "closest"),
        ("Eifel Tower", "closest: Eiffel Tower"),
        ("eiffel tower", "other letters"),
        ("Ei\u0301ffel Tower", "other letters"),
        ("The Eiffel Tower is located in the city of Paris and more", "closest"),
    ],
)
def test_subjects_that_are_absent(tokenizer, subject, says):
    with pytest.raises(SubjectError, match=says):
        tk.subject_range(tokenizer, "The Eiffel Tower is located in", subject)


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "byte-level prefix"])
def test_answers(name):
    tokenizer = make(name)
    prompt = "The Eiffel Tower is located in the city of"
    whole = tk.encode(tokenizer, prompt + " Paris")
    after = whole[len(tk.encode(tokenizer, prompt)) :]
    assert tk.decode(tokenizer, after).strip() == "Paris"
    assert tk.answer_token(tokenizer, " Paris") == tk.answer_token(tokenizer, " Paris", prompt) == after[0]
    assert tk.answer_token(tokenizer, after[0]) == tk.answer_token(tokenizer, np.int64(after[0])) == after[0]


@pytest.mark.parametrize("name", [BYTES, SPM])
def test_an_answer_without_its_space_is_ambiguous(name):
    tokenizer = make(name)
    for prompt in (None, "The city of"):
        with pytest.raises(TokenError, match=r"' Paris'.*token id") as error:
            tk.answer_token(tokenizer, "Paris", prompt)
        assert str(tk.answer_token(tokenizer, " Paris")) in str(error.value)


def test_no_space_is_asked_for_where_none_is_written():
    plain = make(BYTES)
    assert tk.answer_token(plain, "巴黎") == tk.encode(plain, "巴黎")[0]
    assert tk.answer_token(plain, "巴黎", "法国:") == tk.encode(plain, "巴黎")[0]
    with pytest.raises(TokenError, match=r"melts.*id of the token"):
        tk.answer_token(plain, "巴黎", "法国的首都是")  # a learned token spans the boundary
    assert tk.answer_token(plain, "Paris", "(") == tk.encode(plain, "Paris")[0]
    assert tk.answer_token(plain, ",") == tk.encode(plain, ",")[0]
    assert tk.answer_token(plain, "\n") == tk.encode(plain, "\n")[0]
    lower = hugging(word_piece(), None, "[UNK]")
    assert tk.token_to_str(lower, tk.answer_token(lower, "Paris")).strip() == "paris"  # one token either way


@pytest.mark.parametrize("name", [BYTES, SPM])
def test_the_first_token_of_a_long_answer(name):
    tokenizer = make(name)
    first = tk.answer_token(tokenizer, " Parisians love", "the city of")
    assert tk.token_to_str(tokenizer, first).startswith(" Par")


@pytest.mark.parametrize(
    ("answer", "prompt", "says"),
    [
        ("", None, "empty"),
        (" Paris", "The city of ", None),
        ("Paris", "The city of ", "melts"),
        (None, None, "integers"),
        (True, None, "integers"),
        (1.0, None, "integers"),
        (10**6, None, "id 1000000"),
        (-1, None, "id -1"),
    ],
)
def test_answers_that_are_none(answer, prompt, says):
    if says is None:
        assert isinstance(tk.answer_token(make(BYTES), answer, prompt), int)
        return
    with pytest.raises(TokenError, match=says):
        tk.answer_token(make(BYTES), answer, prompt, vocab_size=500)


def test_answers_that_a_tokenizer_cannot_tell():
    with pytest.raises(TokenError, match="no tokenizer"):
        tk.answer_token(None, " Paris")
    with pytest.raises(TokenError, match="white space"):
        tk.answer_token(make(SPM), " 巴黎")  # SentencePiece: "▁", then bytes
    with pytest.raises(TokenError, match="does not know"):
        tk.answer_token(hugging(word_piece(), None, "[UNK]"), " 🗼")
    assert tk.answer_token(None, 7, vocab_size=8) == 7


@pytest.mark.parametrize("name", [BYTES, SPM, "bare sentencepiece"])
def test_all_tokens_of_an_answer(name):
    """Those of prompt and answer as one text, behind the prompt's; nothing of it is left out."""
    tokenizer, prompt, answer = make(name), "The Eiffel Tower is located in the city of", " Parisians, France"
    known = tk.encode_plain(tokenizer, prompt)
    after = tk.encode_plain(tokenizer, prompt + answer)[len(known) :]
    assert len(after) > 2
    for given in ((prompt,), (None,), (prompt, None, known)):
        assert tk.answer_tokens(tokenizer, answer, *given) == tuple(after)
        assert tk.answer_token(tokenizer, answer, *given) == after[0]
    assert tk.answer_tokens(tokenizer, after[0]) == (after[0],)
    for given in (after, tuple(after), np.array(after), [after]):
        assert tk.answer_tokens(tokenizer, given) == tuple(after)
    with pytest.raises(TokenError, match=f"one token, not {len(after)}"):
        tk.answer_token(tokenizer, after)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([" Paris", " Rome"], r"answers=\[\.\.\.\]"),
        ([], "no tokens"),
        ([5, 500], "id 500"),
        ([5, True], "integers"),
        ([5, 1.0], "integers"),
        ([[5, 6], [7, 8]], "2 prompts"),
        (" Paris\ud800", "lone surrogate"),
    ],
)
def test_answers_of_several_tokens_that_are_none(answer, says):
    with pytest.raises(TokenError, match=says):
        tk.answer_tokens(make(BYTES), answer, "The city of", vocab_size=500)


def test_an_answer_with_an_unknown_token_anywhere_is_refused():
    with pytest.raises(TokenError, match="does not know"):
        tk.answer_tokens(hugging(word_piece(), None, "[UNK]"), " Paris 🗼")
