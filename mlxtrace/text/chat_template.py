"""What a tokenizer's own template writes of messages, and where their contents stand in it.

    text, spans, note = written(tokenizer, [{"role": "user", "content": "Where is the Louvre?"}])
    text[slice(*spans[0][1])]        # "Where is the Louvre?"

A content is not searched for, because it may be "user", stand there twice, or hold the template's own marks: the
template writes the chat a second time, with other words in the place of the contents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InputError, TokenError

Message = dict[str, Any]
Span = tuple[int, int]
Render = Callable[..., str]  # the text of messages
# arguments of `apply_chat_template` that the messages settle
SETTLED = {"conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict",
           "return_tensors", "return_assistant_tokens_mask", "padding", "truncation", "max_length",
           "tokenizer_kwargs"}  # fmt: skip


def written(
    tokenizer: Any, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
) -> tuple[str, list[tuple[int, Span]], str]:
    """The chat's text; of each content in it the message's number and its characters, in their order; and a note.

    A last message of the assistant's is continued: the text ends with its content. Else the template's generation
    prompt stands at the end. TokenError for messages that the template refuses, or leaves out.
    """
    if not messages:
        raise TokenError('the chat has no messages: give [{"role": "user", "content": "..."}]')
    render = _renderer(tokenizer, messages[-1]["role"] != "assistant", variables or {})
    text = render(messages)
    _check_keys(render, messages, text)
    spans, end = _places(render, messages, text)
    missing = {i for i, one in enumerate(messages) if one["content"]} - {i for i, _ in spans}
    if missing:
        first = min(missing)
        raise TokenError(
            f"the chat template writes nothing of message {first} (role {messages[first]['role']!r}): leave it out, or "
            "give it another role"
        )
    if messages[-1]["role"] == "assistant":
        text, spans = _continued(render, messages, text, spans)
    return text, spans, "; ".join(filter(None, [_note_of_date(tokenizer, variables or {}), end]))


def _continued(
    render: Render, messages: Sequence[Message], text: str, spans: list[tuple[int, Span]]
) -> tuple[str, list[tuple[int, Span]]]:
    """The text up to the end of the last message's content, as the tokenizer itself would leave it open."""
    odd = "the chat template does not end with the last message, which cannot be continued"
    if not spans or spans[-1][0] != len(messages) - 1:
        raise TokenError(odd)
    start, stop = spans[-1][1]
    try:
        own = render(messages, add_generation_prompt=False, continue_final_message=True)
    except TokenError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        own = text[:stop]  # what writes the chat knows of no such thing
    if own.rstrip() != text[:stop].rstrip():
        raise TokenError(odd)
    return own, [*spans[:-1], (spans[-1][0], (start, len(own)))]


def own_ids(
    tokenizer: Any, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
) -> list[int] | None:
    """The ids of a tokenizer that writes chats in a way of its own, where its text may say less; None for others."""
    if isinstance(template_of(tokenizer), str | dict):
        return None
    ends = messages[-1]["role"] == "assistant"
    how = {"add_generation_prompt": not ends, **({"continue_final_message": True} if ends else {})}
    try:
        made = tokenizer.apply_chat_template(
            [dict(one) for one in messages], tokenize=True, **how, **(variables or {})
        )
    except Exception:  # it writes texts only
        return None
    made = made["input_ids"] if hasattr(made, "keys") else made
    return [int(i) for i in made] if isinstance(made, Sequence) and not isinstance(made, str) else None


def template_of(tokenizer: Any) -> Any:
    """The tokenizer's chat template, or what writes chats in its place; None where there is none."""
    wrapped = hasattr(type(tokenizer), "detokenizer")
    inner = tokenizer._tokenizer if wrapped else tokenizer
    found = (tokenizer._chat_template if wrapped else None) or getattr(inner, "chat_template", None)
    own = getattr(type(inner), "apply_chat_template", None)
    if found or own is None or own.__module__ == "transformers.tokenization_utils_base":
        return found
    return own  # a tokenizer with a way of its own


def _renderer(tokenizer: Any, opened: bool, variables: Mapping[str, Any]) -> Render:
    """What writes messages as text. opened: with the template's generation prompt at the end."""
    template = template_of(tokenizer)
    if template is None or not hasattr(tokenizer, "apply_chat_template"):
        none = "there is no tokenizer" if tokenizer is None else "this tokenizer has no chat template"
        raise TokenError(
            f"messages were given, but {none} to write them with: give the prompt as text, or the template that the "
            'model was trained with, model.tokenizer.chat_template = "{% for message in messages %}..."'
        )
    _check_variables(template, variables)

    def render(messages: Sequence[Message], **how: bool) -> str:
        how = how or {"add_generation_prompt": opened}
        try:
            made = tokenizer.apply_chat_template(
                [dict(one) for one in messages], tokenize=False, **how, **variables
            )
        except Exception as error:  # templates raise what they like
            said = " ".join(str(error).split()) or type(error).__name__
            raise TokenError(f"the tokenizer's chat template refuses these messages: {said}") from error
        if not isinstance(made, str):
            raise TokenError(f"the tokenizer's chat template makes {type(made).__name__}, not a text")
        return made

    return render


def _check_variables(template: Any, variables: Mapping[str, Any]) -> None:
    if not isinstance(variables, Mapping) or not all(isinstance(name, str) for name in variables):
        raise InputError(
            f'template={variables!r}: give the variables of the template, such as {{"enable_thinking": False}}; the '
            "template itself is model.tokenizer.chat_template"
        )
    taken = sorted(SETTLED & set(variables))
    if taken:
        raise InputError(f"template={{{taken[0]!r}: ...}}: that is settled by the messages")
    known = set(re.findall(r"\w+", template)) if isinstance(template, str) else None
    for name in variables:
        if known is not None and name != "chat_template" and name not in known:
            raise InputError(f"template={{{name!r}: ...}}: the chat template has no variable of that name")


def _check_keys(render: Render, messages: Sequence[Message], text: str) -> None:
    """TokenError for what a message says beside its content, and the template leaves out."""
    for number, one in enumerate(messages):
        for key in one.keys() - {"role", "content"}:
            bare = {name: value for name, value in one.items() if name != key}
            try:
                same = render([*messages[:number], bare, *messages[number + 1 :]]) == text
            except TokenError:
                same = False  # the template needs it
            if same:
                raise TokenError(
                    f"message {number} ({one['role']}) has {key!r}, of which the chat template writes nothing: leave "
                    "it out, or say it in the content"
                )


def _note_of_date(tokenizer: Any, variables: Mapping[str, Any]) -> str:
    template = template_of(tokenizer)
    dated = isinstance(template, str) and "strftime_now" in template
    if not dated or any("date" in name for name in variables):
        return ""
    return "the chat template writes the date of today: on another day this is another prompt"


# ---- where the contents stand


def _places(render: Render, messages: Sequence[Message], text: str) -> tuple[list[tuple[int, Span]], str]:
    """Of each content the message's number and its characters, in the order of the text, and a note."""
    filled = [i for i, one in enumerate(messages) if one["content"]]
    marks = _marks(filled, "".join([text, *(one["content"] for one in messages)]))
    try:
        other = render([{**one, "content": marks.get(i, "")} for i, one in enumerate(messages)])
    except TokenError:  # it looks into what it writes
        return _by_search(messages, text, filled), ""
    pieces = re.split(f"({'|'.join(marks.values())})", other) if marks else [other]
    order = [int(mark[:-2].rpartition("q")[2]) for mark in pieces[1::2]]
    as_given = [f"({'|'.join(map(re.escape, _variants(messages[i]['content'])))})" for i in order]
    spans = _between(text, pieces[::2], as_given)
    if spans is not None:
        return list(zip(order, spans, strict=True)), ""
    spans = _between(text, pieces[::2], ["(.+?)"] * len(order))
    if spans is None or spans != _between(text, pieces[::2], ["(.+)"] * len(order)):
        return _by_search(messages, text, filled), ""
    found = list(zip(order, spans, strict=True))
    kept = {i: text[a:b].strip() for i, (a, b) in found}
    cut = [i for i, part in kept.items() if part != messages[i]["content"].strip()]
    return found, "; ".join(f"the chat template writes message {i} as {kept[i]!r:.300}" for i in cut)


def _marks(numbers: Sequence[int], text: str) -> dict[int, str]:
    """For each message a word that stands nowhere in the text."""
    word = "zqcontent"
    while word in text:
        word += "z"
    return {i: f"{word}q{i}qz" for i in numbers}


def _between(text: str, pieces: Sequence[str], contents: Sequence[str]) -> list[Span] | None:
    """Where patterns of the contents match between the pieces that the template wrote."""
    tail = "".join(content + re.escape(piece) for content, piece in zip(contents, pieces[1:], strict=True))
    found = re.fullmatch(re.escape(pieces[0]) + tail, text, re.DOTALL)
    return None if found is None else [found.span(k) for k in range(1, len(contents) + 1)]


def _variants(content: str) -> list[str]:
    """A content as templates write it: as it is, without white space around it, or as JSON."""
    as_json = json.dumps(content, ensure_ascii=False)[1:-1]
    return list(dict.fromkeys([content, content.lstrip(), content.rstrip(), content.strip(), as_json]))


def _by_search(messages: Sequence[Message], text: str, filled: Sequence[int]) -> list[tuple[int, Span]]:
    """The spans of contents that stand in the text once each; TokenError for others."""
    spans = []
    for i in filled:
        content = messages[i]["content"].strip()
        if text.count(content) != 1:
            raise TokenError(
                f"the chat template rewrites its messages, so that the place of message {i} ({messages[i]['role']}) "
                f"cannot be told: {text!r:.300}; give contents as the template keeps them, or the whole as a text"
            )
        at = text.index(content)
        spans.append((i, (at, at + len(content))))
    return sorted(spans, key=lambda found: found[1])
