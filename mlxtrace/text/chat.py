"""A chat as a model reads it: messages that the tokenizer's own template writes, and the place of each turn.

chat, text, ids = read_chat(tokenizer, [{"role": "user", "content": "Where is the Louvre?"}])
chat.regions        # {"user[0]": range(4, 10), "template": (0, 1, 2, 3, 10, 11, 12, 13)}
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import SubjectError, TokenError, closest
from . import tokens as tk
from .chat_template import Message, Span, own_ids, written

TEMPLATE = "template"  # the region of all that is no content
ALONE = ("system", "developer")  # roles that have no number where there is one of them


@dataclass(frozen=True)
class Segment:
    """A run of tokens that are of one turn, or of the template; chars: the characters of a turn's content."""

    name: str
    positions: range
    chars: Span


@dataclass(frozen=True)
class Chat:
    """The messages of a prompt, as they were read, and what stands where.

    variables: those that were given to the template. note: what is worth knowing of the text, "" if nothing is.
    """

    messages: tuple[Message, ...]
    segments: tuple[Segment, ...]
    variables: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def turns(self) -> tuple[Segment, ...]:
        """The segments of contents, in the order of the text."""
        return tuple(part for part in self.segments if part.name != TEMPLATE)

    @property
    def regions(self) -> dict[str, Sequence[int]]:
        """The positions of each turn, in the order of the text, and of the template."""
        found: dict[str, list[int]] = {part.name: [] for part in (*self.turns, *self.segments)}
        for part in self.segments:
            found[part.name] += part.positions
        return {name: _as_range(positions) for name, positions in found.items()}

    def name_at(self, position: int) -> str:
        """The name of the turn that a token is of, or "template"."""
        return next(part.name for part in self.segments if position in part.positions)

    def in_one_turn(self, positions: range) -> bool:
        """Whether these are positions of one content."""
        return any(set(positions) <= set(turn.positions) for turn in self.turns)

    def holds(self, start: int, stop: int) -> bool:
        """Whether these characters of the text are of one content."""
        return any(turn.chars[0] <= start and stop <= turn.chars[1] for turn in self.turns)

    def unlike(self, other: Chat) -> str:
        """How the lengths of another chat's turns differ from those of this one, in a few words; "" if none does."""
        names = [[part.name for part in chat.segments] for chat in (self, other)]
        if names[0] != names[1]:
            return "other turns"
        both = zip(self.segments, other.segments, strict=True)
        sizes = [(a.name, len(a.positions), len(b.positions)) for a, b in both]
        return ", ".join(f"{name} {n} and {m} tokens" for name, n, m in sizes if n != m)

    def contents(self, text: str) -> str:
        """The contents alone, of the prompt's text: what a subject is looked for in."""
        return "\0".join(text[start:stop] for start, stop in (turn.chars for turn in self.turns))

    def occurrence(self, text: str, wanted: str, k: int) -> int:
        """Of the occurrences of a word in the text, the number of the k-th that stands in a content."""
        found = [match.span() for match in re.finditer(re.escape(wanted), text)]
        inside = [number for number, span in enumerate(found, 1) if self.holds(*span)]
        if 1 <= k <= len(inside):
            return inside[k - 1]
        contents = self.contents(text)
        if inside:
            raise SubjectError(f"{wanted!r} occurs {len(inside)} times in the messages, not {k}.")
        hint = closest(wanted, contents.replace("\0", " ").split())
        raise SubjectError(f"The subject {wanted!r} does not occur in the messages' contents. {hint}.")

    def replaced(self, start: int, stop: int, new: str, text: str) -> list[Message]:
        """The messages with other words in the place of these characters of the text, which are of one content."""
        for turn in self.turns:
            if turn.chars[0] <= start and stop <= turn.chars[1]:
                number = _names(self.messages).index(turn.name)
                content = self.messages[number]["content"]
                shift = content.find(text[slice(*turn.chars)])
                if shift >= 0:
                    at = start - turn.chars[0] + shift
                    content = content[:at] + new + content[at + stop - start :]
                    return [*self.messages[:number], {**self.messages[number], "content": content},
                            *self.messages[number + 1 :]]  # fmt: skip
        raise SubjectError(f"{text[start:stop]!r} is no part of a message's content as it was given")


def read_chat(
    tokenizer: Any, given: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None
) -> tuple[Chat, str, list[int]]:
    """The chat, its text as the template writes it, and its ids: the template's special tokens, and no others."""
    messages = tuple(_message(number, one) for number, one in enumerate(given))
    text, spans, note = written(tokenizer, messages, variables)
    ids = tk.encode_plain(tokenizer, text)
    if not ids or own_ids(tokenizer, messages, variables) not in (None, ids):
        raise TokenError(
            "the text that the tokenizer writes of these messages has other tokens than it gives the chat itself: give "
            "its ids, tokenizer.apply_chat_template(messages, add_generation_prompt=True)"
        )
    segments = _segments(tokenizer, messages, spans, text, ids)
    chat = Chat(messages, segments, dict(variables or {}))
    _verify(tokenizer, chat, text, ids, [_names(messages)[i] for i, _ in spans])
    notes = [note, *_notes_of_marks(tokenizer, chat, ids)]
    return replace(chat, note="; ".join(filter(None, notes))), text, ids


# ---- messages


def _message(number: int, given: Mapping[str, Any]) -> Message:
    role, content = given.get("role"), given.get("content")
    if not isinstance(role, str) or not role.strip():
        raise TokenError(
            f'message {number} has no role: a message is {{"role": "user", "content": "..."}}, not {dict(given)!r:.80}'
        )
    where = f"message {number} ({role})"
    rest = {name: x for name, x in given.items() if name not in ("role", "content") and x is not None}
    if isinstance(content, list | tuple):
        content = "".join(_part(where, part) for part in content)
    if content is None and rest:  # such as tool calls
        return {"role": role, "content": "", **rest}
    if not isinstance(content, str):
        raise TokenError(f"{where} has the content {content!r:.80}: give a text")
    if not content.strip() and (content or role not in ALONE):  # an empty one takes the place of a default
        last = "; the prompt ends where the answer begins by itself" if role == "assistant" else ""
        raise TokenError(f"{where} is empty: leave it out{last}")
    return {"role": role, "content": content, **rest}


def _part(where: str, part: Any) -> str:
    """The text of a part of a content."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise TokenError(f"{where} has a part of type {kind!r}: a language model reads texts only")


def _names(messages: Sequence[Message]) -> list[str]:
    """What the turns are called: `user[0]`, and `system` where it is the only one."""
    count, seen, names = Counter(one["role"] for one in messages), Counter(), []
    for one in messages:
        role = one["role"]
        names.append(role if role in ALONE and count[role] == 1 else f"{role}[{seen[role]}]")
        seen[role] += 1
    return names


# ---- tokens


def _segments(
    tokenizer: Any,
    messages: Sequence[Message],
    spans: Sequence[tuple[int, Span]],
    text: str,
    ids: Sequence[int],
) -> tuple[Segment, ...]:
    """The runs of tokens that belong together: a token is of the first content that it shares a character with."""
    names = _names(messages)
    owners = [_owner(token, spans) for token in _with_spaces(text, tk.char_spans(tokenizer, text, ids))]
    starts = [i for i, owner in enumerate(owners) if i == 0 or owner != owners[i - 1]]
    segments = []
    for start, stop in zip(starts, [*starts[1:], len(owners)], strict=True):
        owner = owners[start]
        name, chars = (TEMPLATE, (0, 0)) if owner is None else (names[spans[owner][0]], spans[owner][1])
        segments.append(Segment(name, range(start, stop), chars))
    return tuple(segments)


def _with_spaces(text: str, tokens: Sequence[Span]) -> list[Span]:
    """The characters of tokens, with those of white space that a tokenizer has trimmed to nothing."""
    found, reach = [], 0
    for start, stop in tokens:
        trimmed = reach < start == stop and text[reach:start].isspace()
        found.append((reach, stop) if trimmed else (start, stop))
        reach = max(reach, stop)
    return found


def _owner(token: Span, spans: Sequence[tuple[int, Span]]) -> int | None:
    """The number of the first content that a token shares a character with, or that it stands in without one."""
    start, stop = token
    inside = (k for k, (_, (a, b)) in enumerate(spans) if start < b and stop > a)
    return next(inside, None)


def _verify(tokenizer: Any, chat: Chat, text: str, ids: Sequence[int], wanted: Sequence[str]) -> None:
    """TokenError when the tokens of a turn are not those of its content."""
    lost = [name for name in wanted if name not in chat.regions]
    unknown = getattr(tokenizer, "unk_token_id", None)
    for turn in chat.turns:
        own = [ids[i] for i in turn.positions]
        said, content = tk.decode(tokenizer, own), text[slice(*turn.chars)]
        if unknown not in own and _folded(content) not in _folded(said):
            lost.append(turn.name)
    if lost:
        raise TokenError(
            f"the tokens of {lost[0]} cannot be told from those beside it: give the prompt as a text"
        )


def _notes_of_marks(tokenizer: Any, chat: Chat, ids: Sequence[int]) -> list[str]:
    """A sentence for each turn whose content is read as marks of the template."""
    special = tk.special_marks(tokenizer, ids)
    notes = []
    for turn in chat.turns:
        found = [tk.token_to_str(tokenizer, ids[i]) for i in turn.positions if i in special]
        if found:
            notes.append(
                f"the content of {turn.name} holds {found[0]!r}, which is read as a mark of the template"
            )
    return notes


def _folded(text: str) -> str:
    """Without what tokenizers change: white space, capitals, how letters are composed."""
    return "".join(unicodedata.normalize("NFKD", text).casefold().split())


def _as_range(positions: Sequence[int]) -> Sequence[int]:
    whole = range(positions[0], positions[-1] + 1)
    return whole if len(whole) == len(positions) else tuple(positions)
