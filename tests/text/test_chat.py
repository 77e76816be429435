"""Chats as prompts: the turns' positions, what a subject is looked for in, and messages that mean nothing."""

import copy
import pickle

import pytest
from chat_tokenizers import FAMILIES, assistant, make, model_of, system, user

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError, SubjectError, TokenError
from mlxtrace.text.prompt import read

QUESTION = "In which city is the Colosseum?"
MESSAGES = [user("Where is the Louvre?"), assistant("Paris"), user(QUESTION)]


def texts(prompt):
    """Of each region what its tokens say."""
    tokenizer = prompt.tokenizer
    said = {name: tokenizer.decode([prompt.ids[i] for i in at]) for name, at in prompt.regions.items()}
    return {name: text.strip() for name, text in said.items()}


@pytest.mark.parametrize("name", [*FAMILIES, *(f"wrapped {name}" for name in FAMILIES)])
def test_turns_are_regions_and_the_rest_is_the_template(name):
    tokenizer = make(name)
    prompt = read(tokenizer, MESSAGES)
    said = texts(prompt)
    assert list(said) == ["user[0]", "assistant[0]", "user[1]", "template", "last"]
    assert [said[f"user[{k}]"] for k in (0, 1)] == ["Where is the Louvre?", QUESTION]
    assert said["assistant[0]"] == "Paris"
    positions = [
        p for turn in ("user[0]", "assistant[0]", "user[1]", "template") for p in prompt.regions[turn]
    ]
    assert sorted(positions) == list(prompt.positions), "each token is of one of them"
    assert isinstance(prompt.regions["user[0]"], range) and isinstance(prompt.regions["template"], tuple)
    assert prompt.regions["last"] == range(len(prompt) - 1, len(prompt))
    assert not prompt.decoded and list(prompt.ids) == list(prompt.plain_ids)
    bos = FAMILIES[name.rpartition("wrapped ")[2]][1]
    special = [mark for mark in prompt.special.values() if mark == "BOS"]
    assert len(special) == (0 if bos is None else prompt.text.count(bos)) <= 1


@pytest.mark.parametrize("name", ["llama-3", "wrapped gemma", "mistral"])
def test_a_text_that_was_written_by_the_template_gets_no_second_bos(name):
    tokenizer = make(name)
    prompt = read(tokenizer, MESSAGES)
    assert read(tokenizer, prompt.text).ids == prompt.ids


@pytest.mark.parametrize("name", ["chatml", "trimmed", "wrapped thinking"])
def test_white_space_is_of_the_content_that_has_it(name):
    tokenizer = make(name)
    contents = ["\nuser\n", " The\n\nRome ", "user"]
    prompt = read(tokenizer, [user(contents[0]), assistant(contents[1]), user(contents[2])])
    names = ["user[0]", "assistant[0]", "user[1]"]
    said = [tokenizer.decode([prompt.ids[i] for i in prompt.regions[name]]) for name in names]
    assert said == contents and prompt.note == ""


def test_a_system_turn_has_no_number_where_it_is_alone():
    chat = [system("Answer in one word."), user("user")]
    assert texts(read(make("phi"), chat))["system"] == "Answer in one word."
    both = read(make("chatml"), [system("user"), *chat])
    assert [texts(both)[f"system[{k}]"] for k in (0, 1)] == ["user", "Answer in one word."]


def test_the_last_words_of_the_assistant_are_continued():
    prompt = read(make("chatml"), [user(QUESTION), assistant("The answer is")])
    assert prompt.text.endswith("assistant\nThe answer is")
    assert prompt.regions["assistant[0]"][-1:] == prompt.regions["last"]
    assert prompt.answer_token(" Rome") == read(make("chatml"), prompt.text).answer_token(" Rome")


def test_an_answer_after_the_generation_prompt_needs_no_space():
    prompt = read(make("llama-3"), [user(QUESTION)])
    first = make("llama-3").encode(prompt.text + "Rome", add_special_tokens=False)[len(prompt)]
    assert prompt.answer_token("Rome") == first
    model = model_of("llama-3")
    assert model.answer_token("Rome", [user(QUESTION)]) == first


def test_a_chat_prints_its_turns():
    prompt = read(make("gemma"), [user("Where is the Louvre?")], "Louvre")
    lines = repr(prompt).splitlines()
    assert lines[1].split() == ["0", "0", "'<bos>'", "template", "BOS"]
    at = prompt.regions["user[0]"]
    assert all(lines[1 + p].split()[3:][-2:] == ["user[0]", "*"] for p in prompt.subject)
    assert lines[-1] == f"{len(prompt)} tokens; user[0] {at[0]} to {at[-1]}; * marks the subject"
    assert "<td>user[0] *</td>" in prompt._repr_html_()


def test_a_subject_is_looked_for_in_the_contents():
    prompt = read(
        make("llama-3"), [user("The user is in Rome"), assistant("user"), user("Where is the user?")]
    )
    first, second = prompt.find("user"), prompt.find("user", 2)
    assert set(first) <= set(prompt.regions["user[0]"]) and set(second) <= set(prompt.regions["assistant[0]"])
    assert set(prompt.find("user", 3)) <= set(prompt.regions["user[1]"])
    read_again = prompt.with_subject("user")
    assert read_again.subject == first and "occurs 3 times" in read_again.note and "date" in read_again.note
    with pytest.raises(SubjectError, match="'user' occurs 3 times in the messages, not 4"):
        prompt.find("user", 4)
    with pytest.raises(SubjectError, match="'assistants' does not occur in the messages' contents"):
        prompt.find("assistants")
    with pytest.raises(SubjectError, match="'Today' does not occur in the messages"):  # the template says it
        prompt.find("Today")
    assert prompt.find([0]) == range(1)


def test_a_prompt_of_a_chat_is_a_value():
    prompt = read(make("chatml"), MESSAGES)
    assert prompt == read(make("chatml"), tuple(MESSAGES)) and hash(prompt) == hash(
        read(make("chatml"), MESSAGES)
    )
    assert prompt != read(make("chatml"), prompt.text), "a text has no turns"
    assert copy.deepcopy(prompt) == prompt and pickle.loads(pickle.dumps(prompt)).regions == prompt.regions


def test_parts_of_a_content_are_joined_when_they_are_texts():
    parts = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "the Louvre?"}]
    one = read(make("phi"), [{"role": "user", "content": parts}])
    assert one.ids == read(make("phi"), [user("Where is the Louvre?")]).ids
    image = [*parts, {"type": "image_url", "image_url": "a.png"}]
    with pytest.raises(TokenError, match=r"message 0 \(user\) has a part of type 'image_url'"):
        read(make("phi"), [{"role": "user", "content": image}])


def test_marks_in_a_content_are_said():
    note = read(make("chatml"), [user("a<|im_end|>b")]).note
    assert note == "the content of user[0] holds '<|im_end|>', which is read as a mark of the template"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"content": "a"}], "message 0 has no role"),
        ([user("a"), {"role": "", "content": "a"}], "message 1 has no role"),
        ([{"role": "user"}], "has the content None"),
        ([user("a"), {"role": "assistant", "content": 3}], r"message 1 \(assistant\) has the content 3"),
        ([user("")], r"message 0 \(user\) is empty: leave it out$"),
        (
            [user("a"), assistant(" ")],
            r"message 1 \(assistant\) is empty: .* where the answer begins by itself",
        ),
        (
            [user("a"), {"role": "assistant", "tool_calls": [1]}],
            "'tool_calls', of which the chat template writes",
        ),
        ([user("a"), "b"], "a list of prompts holds a text, .* not dict"),
        (user("a"), r"a chat is a list of \{"),
        ({"messages": [user("a")]}, r"a chat is a list of \{"),
        ([{"text": "a"}], r"a message is \{"),
        ([], "no tokens"),
    ],
)
def test_messages_that_mean_nothing(messages, said):
    model = model_of("chatml")
    with pytest.raises(TokenError, match=said):
        model.trace(messages)


def test_the_models_methods_take_chats():
    model = model_of("llama-3")
    prompt = model.prompt(MESSAGES, "Colosseum")
    ids = list(prompt.ids)
    assert model.ids(MESSAGES) == model.ids([MESSAGES]) == model.ids(prompt) == ids
    assert model.to_tokens(MESSAGES).tolist() == [ids] == model.to_tokens([MESSAGES]).tolist()
    assert model.to_tokens([MESSAGES, MESSAGES, prompt.text]).tolist() == [ids] * 3
    assert model.to_str_tokens(MESSAGES) == list(prompt.tokens)
    assert model.subject_range(MESSAGES, "Colosseum") == prompt.subject
    assert model.receipt(MESSAGES) == model.prompt(MESSAGES)
    logits, cache = model.run_with_cache(MESSAGES, sites=["layers.0.mlp"])
    with model.trace(MESSAGES) as trace:
        h = model.layers[0].mlp.output.save()
    with model.trace() as both, both.invoke(MESSAGES):
        again = model.output.save()
    assert (trace.output == logits).all() and (h == cache["layers.0.mlp"]).all() and (again == logits).all()


def test_variables_of_the_template_go_with_messages():
    model = model_of("llama-3")
    dated = model.prompt(MESSAGES, template={"date_string": "26 Jul 2024"})
    assert "26 Jul 2024" in dated.text and model.prompt(dated) is dated and dated.note == ""
    for given in ("a text", [1, 2], dated):
        with pytest.raises(InputError, match="give the prompt as messages"):
            model.prompt(given, template={"date_string": "26 Jul 2024"})


def test_without_a_template_it_is_said_how_to_give_one():
    model = InterpretableModel("demo")
    with pytest.raises(
        TokenError, match=r"this tokenizer has no chat template .*model\.tokenizer\.chat_template = "
    ):
        model.prompt(MESSAGES)
    before = model.tokenizer.chat_template
    try:
        model.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        assert texts(model.prompt(MESSAGES))["user[1]"] == QUESTION
    finally:
        model.tokenizer.chat_template = before


def test_contents_whose_tokens_melt_together_are_refused():
    tokenizer = make("chatml")
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        with pytest.raises(TokenError, match=r"the tokens of user\[1\] cannot be told from those beside it"):
            read(tokenizer, [user("the Colos"), user("seum")])
        assert list(read(tokenizer, [user("the"), user(" Colosseum")]).regions)[:2] == ["user[0]", "user[1]"]
    finally:
        tokenizer.chat_template = before


class Shy:
    """It writes a chat's marks as words, which are other tokens than those that it gives the chat."""

    chat_template = None

    def __init__(self, first):
        self.first = first

    def __getattr__(self, name):
        return getattr(make("phi"), name)

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        text = "user " + messages[0]["content"]
        return (
            [self.first, *self.encode(text, add_special_tokens=False)][not self.first :] if tokenize else text
        )


def test_a_tokenizer_whose_text_is_not_its_chat():
    assert texts(read(Shy(0), [user("Louvre")]))["user[0]"] == "Louvre"
    with pytest.raises(TokenError, match="other tokens than it gives the chat itself: give its ids"):
        read(Shy(3), [user("Louvre")])
