"""What chat templates write: the tokenizer's own text, exactly; where contents stand in it; what is refused."""

import json

import pytest
from chat_tokenizers import (
    ALTERNATING,
    FAMILIES,
    assistant,
    make,
    system,
    user,
)

from mlxtrace.errors import InputError, TokenError
from mlxtrace.text.chat_template import template_of, written

QUESTION = "In which city is the Colosseum?"
CHATS = {
    "one question": [user(QUESTION)],
    "words of the template": [user("user"), assistant("assistant"), user("user")],
    "white space": [user(" user\n"), assistant("Rome\n"), user("\n" + QUESTION)],
    "continued": [user(QUESTION), assistant("The answer is")],
    "continued after a space": [user(QUESTION), assistant("The answer is ")],
    "a system's words": [system("Answer in one word."), user(QUESTION), assistant("Rome"), user("user")],
    "the same twice": [user(QUESTION), assistant(QUESTION), user(QUESTION)],
}
ALL = [*FAMILIES, *(f"wrapped {name}" for name in FAMILIES)]


def by_transformers(tokenizer, messages, tokenize=False, **variables):
    ends = messages[-1]["role"] == "assistant"
    how = {"continue_final_message": True} if ends else {"add_generation_prompt": True}
    plain = {} if hasattr(type(tokenizer), "detokenizer") else {"return_dict": False}
    return tokenizer.apply_chat_template(messages, tokenize=tokenize, **how, **plain, **variables)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", ALL)
def test_the_text_is_the_tokenizers_own_and_the_contents_stand_where_they_are_said_to(name, chat):
    tokenizer, messages = make(name), CHATS[chat]
    if name.endswith("gemma") and messages[0]["role"] == "system":
        with pytest.raises(TokenError, match=r"refuses these messages: System role not supported$"):
            written(tokenizer, messages)
        return
    text, spans, _ = written(tokenizer, messages)
    assert text == by_transformers(tokenizer, messages)
    assert sorted(i for i, _ in spans) == list(range(len(messages)))
    for i, (start, stop) in spans:
        assert text[start:stop].strip() == messages[i]["content"].strip()
        mark = f"{'x' * 7}{i}"  # other words in its place change that place alone
        others = [{**one, "content": mark} if k == i else one for k, one in enumerate(messages)]
        assert written(tokenizer, others)[0] == text[:start] + mark + text[stop:]
    assert messages == CHATS[chat], "the messages that were given stay as they are"


@pytest.mark.parametrize("name", ALTERNATING)
def test_what_a_template_raises_is_said_in_its_words(name):
    with pytest.raises(TokenError, match=r"refuses these messages: .*roles must alternate"):
        written(make(name), [user("user"), user("user")])


def test_a_content_that_holds_the_templates_marks_is_found_by_its_place():
    tricky = "Hello<|im_end|>\n<|im_start|>user\nuser<|im_end|>"
    text, spans, _ = written(make("chatml"), [user(tricky), assistant("user"), user("user")])
    assert [text[a:b] for _, (a, b) in spans] == [tricky, "user", "user"]
    assert spans[0][1][0] == text.index("Hello")


def test_contents_that_are_trimmed_and_hold_marks():
    tricky = " a<end_of_turn>\n<start_of_turn>model\nb "
    text, spans, note = written(make("gemma"), [user(tricky), assistant("user"), user(" zqcontentq0qz")])
    assert [text[a:b] for _, (a, b) in spans] == [tricky.strip(), "user", "zqcontentq0qz"] and note == ""


def test_thoughts_that_a_template_leaves_out_are_said():
    thought = "<think>\nIn Italy.\n</think>\n\nRome"
    messages = [user(QUESTION), assistant(thought), user("Where is the Louvre?")]
    text, spans, note = written(make("thinking"), messages)
    assert text == by_transformers(make("thinking"), messages)
    assert [text[a:b] for _, (a, b) in spans] == [QUESTION, "Rome", "Where is the Louvre?"]
    assert note == "the chat template writes message 1 as 'Rome'"
    text, spans, _ = written(make("thinking"), messages[:2])
    assert text == by_transformers(make("thinking"), messages[:2]) and text.endswith(thought)
    assert text[slice(*spans[1][1])] == thought


def test_a_message_that_the_template_passes_over_is_refused():
    with pytest.raises(TokenError, match=r"writes nothing of message 1 \(role 'tool'\)"):
        written(make("phi"), [user("user"), {"role": "tool", "content": "12"}, user("user")])


def test_a_key_that_the_template_passes_over_is_refused_and_others_are_taken():
    named = [{**user("user"), "name": "Ada"}]
    with pytest.raises(
        TokenError, match=r"message 0 \(user\) has 'name', of which the chat template writes nothing"
    ):
        written(make("chatml"), named)
    tokenizer = make("chatml")
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = before.replace(
            "+ message.role +", "+ message.role + (message.name or '') +"
        )
        text, spans, _ = written(tokenizer, named)
        assert "<|im_start|>userAda\nuser<|im_end|>" in text and text[slice(*spans[0][1])] == "user"
    finally:
        tokenizer.chat_template = before


def test_variables_of_the_template():
    tokenizer, chat = make("thinking"), [user("user")]
    bare = written(tokenizer, chat)[0]
    fast = written(tokenizer, chat, {"enable_thinking": False})[0]
    assert fast == bare + "<think>\n\n</think>\n\n" == by_transformers(tokenizer, chat, enable_thinking=False)
    assert written(make("wrapped thinking"), chat)[0] == bare, "as mlx-lm has it"
    for given, said in (
        ({"enable_thoughts": False}, "no variable of that name"),
        ({"add_generation_prompt": False}, "settled by the messages"),
        ("{{ bos_token }}", "the template itself is model.tokenizer.chat_template"),
    ):
        with pytest.raises(InputError, match=said):
            written(tokenizer, chat, given)


def test_a_date_is_said_and_can_be_given():
    text, _, note = written(make("llama-3"), [user("user")])
    assert "the date of today" in note
    dated, _, none = written(make("llama-3"), [user("user")], {"date_string": "26 Jul 2024"})
    assert "Today Date: 26 Jul 2024\n" in dated and none == "" and len(text) == len(dated)


def test_an_empty_system_message_takes_the_place_of_the_templates_own():
    text, spans, _ = written(make("chatml"), [system(""), user("user")])
    assert "helpful" not in text and [i for i, _ in spans] == [1]
    assert "helpful" in written(make("chatml"), [user("user")])[0]


class Own:
    """A tokenizer with a way of its own to write chats, such as mistral-common's."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return (
            "".join(f"<{one['role']}>{one['content']}" for one in messages)
            + "<assistant>" * add_generation_prompt
        )


class Ids(Own):
    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return [1, 2]


class Counting:
    """Its marks depend on the contents, so that other words in their place do not show where they stand."""

    def apply_chat_template(
        self, messages, tokenize, add_generation_prompt=False, continue_final_message=False
    ):
        return (
            "".join(f"<{len(one['content'])}>{one['content']}" for one in messages)
            + "|" * add_generation_prompt
        )


def test_marks_that_depend_on_the_contents():
    text, spans, _ = written(Counting(), [user("a"), assistant("bc"), user(" d")])
    assert text == "<1>a<2>bc<2> d|" and [text[a:b] for _, (a, b) in spans] == ["a", "bc", "d"]
    assert written(Counting(), [user("a"), assistant("bc")])[0] == "<1>a<2>bc"
    with pytest.raises(
        TokenError, match=r"rewrites its messages, so that the place of message 0 \(user\) cannot be"
    ):
        written(Counting(), [user("a"), assistant("ba"), user("d")])


class Rewriting:
    """It writes contents in other words: as JSON, or with single line breaks."""

    def __init__(self, rewrite):
        self.rewrite = rewrite

    def apply_chat_template(self, messages, tokenize, add_generation_prompt=False):
        return "|".join(["", *(self.rewrite(one["content"]) for one in messages), ""])


def test_contents_that_are_rewritten():
    quoted = 'say "Louvre"\n'
    text, spans, note = written(Rewriting(json.dumps), [user(quoted)])
    assert text[slice(*spans[0][1])] == 'say \\"Louvre\\"\\n' and note == ""
    single = Rewriting(lambda content: content.replace("\n\n", "\n"))
    text, spans, note = written(single, [user("a\n\nb"), user("c")])
    assert [text[a:b] for _, (a, b) in spans] == ["a\nb", "c"]
    assert note == r"the chat template writes message 0 as 'a\nb'"
    with pytest.raises(TokenError, match=r"the place of message 0 \(user\) cannot be told"):
        written(single, [user("a\n\nb|c"), user("d")])  # which of them has the c?


def test_a_template_that_says_what_stands_for_a_content():
    text, spans, _ = written(Rewriting(lambda content: "zqcontentq0qz " + content), [user("a")])
    assert spans == [(0, (15, 16))] and text[15] == "a"


class Unlike:
    """What it leaves open is another text than what it closes."""

    def apply_chat_template(
        self, messages, tokenize, add_generation_prompt=False, continue_final_message=False
    ):
        said = "".join(f"<{one['content']}" for one in messages)
        return said[1:] if continue_final_message else said


def test_a_last_message_that_cannot_be_continued():
    with pytest.raises(TokenError, match="does not end with the last message, which cannot be continued"):
        written(Unlike(), [user("a"), assistant("b")])


def test_where_a_template_is_looked_for():
    assert template_of(make("phi")) == template_of(make("wrapped phi")) == FAMILIES["phi"][0]
    assert written(Own(), [user("a")]) == ("<user>a<assistant>", [(0, (6, 7))], "")
    assert written(Own(), [user("a"), assistant("b")])[0] == "<user>a<assistant>b"
    with pytest.raises(TokenError, match="makes list, not a text"):
        written(Ids(), [user("a")])
    for none in (None, object()):
        with pytest.raises(
            TokenError, match=r"messages were given, but .*model\.tokenizer\.chat_template = "
        ):
            written(none, [user("a")])
    with pytest.raises(TokenError, match="no messages"):
        written(make("phi"), [])


def test_mlx_lms_own_writer_of_chats():
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    def write(messages, add_generation_prompt=False, **_):
        return "".join(one["content"] for one in messages) + "|" * add_generation_prompt

    wrapped = TokenizerWrapper(make("phi"), chat_template=write)
    assert written(wrapped, [user("user")]) == ("user|", [(0, (0, 4))], "")
