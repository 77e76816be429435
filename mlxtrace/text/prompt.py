"""A prompt, read once: its token ids, their texts, the subject and other named regions; it prints as a receipt.

    prompt = read(tokenizer, "The Eiffel Tower is in the city of", subject="Eiffel Tower")
    prompt.ids, prompt.tokens, prompt.subject, prompt.regions["subject_last"]

Users get one from `model.prompt(...)`, and may give it wherever a prompt is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import mlx.core as mx

from ..errors import InputError, TokenError
from . import receipt
from . import tokens as tk
from .chat import Chat, read_chat


@dataclass(frozen=True, repr=False)
class Prompt:
    """What a model reads of a prompt: prints as a table of position, id, text and marks (BOS, `*` for the subject).

    Args:
        text: The text as it was given; for token ids, what they decode to.
        ids: The token ids, special ones included, one per position.
        tokens: The text of each token.
        special: `{position: "BOS", "EOS" or "special"}` of the special tokens.
        subject: The positions of the subject, or None.
        regions: `{name: positions}`: "last", and with a subject "subject" and "subject_last"; of a chat before these
            its turns, "system", "user[0]", "assistant[0]", ..., and "template", all that is no turn's content.
        note: What else is worth knowing, such as a subject that occurs twice; "" if nothing is.
        subject_text: The subject as it was given, when it was given as text.
        decoded: Whether `text` was decoded from ids.
        tokenizer: What read it; None for ids without a tokenizer.
        chat: The messages and the places of their turns, when messages were given; else None.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> model = InterpretableModel("demo")
        >>> prompt = model.prompt("The Louvre is in", subject="Louvre")
        >>> prompt
        position    id  token
               0     0  '<|bos|>'  BOS
               1  1604  'The'
               2   420  ' Lou'     *
               3   335  'vre'      *
               4  1875  ' is'
               5   534  ' in'
        6 tokens; * marks the subject
        >>> prompt.regions
        {'last': range(5, 6), 'subject': range(2, 4), 'subject_last': range(3, 4)}
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    special: Mapping[int, str] = field(default_factory=dict, hash=False)
    subject: range | None = None
    regions: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    note: str = ""
    subject_text: str | None = None
    decoded: bool = False
    tokenizer: Any = field(default=None, compare=False)
    chat: Chat | None = field(default=None, hash=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bos(self) -> int | None:
        """The position of the BOS token, or None."""
        return next((i for i, mark in self.special.items() if mark == "BOS"), None)

    @property
    def positions(self) -> range:
        return range(len(self.ids))

    @property
    def wording(self) -> str:
        """The text that a subject is looked for in: of a chat the contents of its messages, not the template."""
        return self.text if self.chat is None else self.chat.contents(self.text)

    @cached_property
    def plain_ids(self) -> tuple[int, ...]:
        """The ids of the text without the special tokens that the tokenizer puts around it."""
        if self.decoded or any(self.tokens[i] in self.text for i in self.special):
            return tuple(tk.encode_plain(self.tokenizer, self.text))
        return tuple(token for i, token in enumerate(self.ids) if i not in self.special)

    def answer_token(self, answer: str | int, vocab_size: int | None = None) -> int:
        """The one token that an answer starts with after this prompt.

        Args:
            answer: Text, with its space (" Paris"), or a token id.
            vocab_size: The number of logits, which ids are checked against.

        Returns:
            The token's id.

        Raises:
            TokenError: The answer is empty, ambiguous or no token.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> token = model.prompt("The Louvre is in").answer_token(" Paris")
            >>> model.token_to_str(token)
            ' Paris'
        """
        if self.tokenizer is None or not isinstance(answer, str):
            return tk.answer_token(self.tokenizer, answer, None, vocab_size)
        return self.answer_tokens(answer, vocab_size)[0]

    def answer_tokens(self, answer: Any, vocab_size: int | None = None) -> tuple[int, ...]:
        """All tokens of an answer as it continues this prompt.

        Args:
            answer: Text, with its space (" Paris"), a token id, or the ids of the answer's tokens.
            vocab_size: The number of logits, which ids are checked against.

        Returns:
            The tokens' ids, one or several.

        Raises:
            TokenError: The answer is empty, ambiguous or no token.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> tokens = model.prompt("Paris is near the").answer_tokens(" Louvre")
            >>> [model.token_to_str(token) for token in tokens]
            [' Lou', 'vre']
        """
        if self.tokenizer is None or not isinstance(answer, str):
            return tk.answer_tokens(self.tokenizer, answer, None, vocab_size)
        key = answer, vocab_size
        if key not in self._answers:
            self._answers[key] = tk.answer_tokens(
                self.tokenizer, answer, self.text, vocab_size, self.plain_ids
            )
        return self._answers[key]

    @cached_property
    def _answers(self) -> dict[tuple[str, int | None], tuple[int, ...]]:
        """The answers that were read behind this prompt, by text: each is read once."""
        return {}

    def find(self, subject: str | int | range | Sequence[int], occurrence: int = 1) -> range:
        """The positions of a text in the prompt.

        Args:
            subject: Text, whose first occurrence counts (of a chat, in the contents of its messages), or consecutive
                positions, which are checked.
            occurrence: Which occurrence of the text counts, from 1.

        Returns:
            Every position that shares a character with it.

        Raises:
            SubjectError, PositionError: It is not in the prompt.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.prompt("The Louvre is in").find("Louvre")
            range(2, 4)
        """
        given = list(self.ids) if self.decoded else self.text
        if self.chat is not None and isinstance(subject, str) and subject.strip():
            subject = subject.strip()
            occurrence = self.chat.occurrence(self.text, subject, occurrence)
        return tk.subject_range(self.tokenizer, given, subject, self.ids, occurrence)

    def with_subject(self, subject: str | int | range | Sequence[int]) -> Prompt:
        """The same prompt with this subject.

        Args:
            subject: Text that occurs in it (its first occurrence counts), or consecutive positions.

        Returns:
            A new `Prompt`; the same one if this is its subject already.

        Raises:
            SubjectError, PositionError: It is not in the prompt.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.prompt("The Louvre is in").with_subject(range(2, 4)).regions["subject_last"]
            range(3, 4)
        """
        if isinstance(subject, str | range) and subject in (self.subject_text, self.subject):
            return self
        found = self.find(subject)
        given = list(self.ids) if self.decoded else self.wording
        regions = {**self.regions, "subject": found, "subject_last": found[-1:]}
        own = self.chat.note if self.chat is not None else ""
        notes = [own, tk.repeated(self.tokenizer, given, subject, self.ids, found)]
        return dataclasses.replace(
            self,
            subject=found,
            regions=regions,
            note="; ".join(filter(None, notes)),
            subject_text=subject if isinstance(subject, str) else None,
        )

    def __repr__(self) -> str:
        return receipt.text(self)

    def _repr_html_(self) -> str:
        return receipt.as_html(self)


# what is taken wherever a prompt is: of mappings, the messages of a chat
PromptLike = Prompt | str | Sequence[int] | Sequence[Mapping[str, Any]] | mx.array
Prompts = PromptLike | Sequence[PromptLike]  # what is taken where several may be


def read(
    tokenizer: Any, prompt: Any, subject: Any = None, vocab_size: int | None = None, template: Any = None
) -> Prompt:
    """Read a text, token ids, or the messages of a chat; errors as in `tokens.as_ids` and `tokens.subject_range`.

    template: variables of the chat template.
    """
    chat, text, messages = None, prompt, tk.chat_in(prompt)
    if messages is not None:
        chat, text, ids = read_chat(tokenizer, messages, template)
        ids = tk.as_ids(tokenizer, ids, vocab_size)
    elif template is not None:
        raise InputError("template= gives variables of the chat template: give the prompt as messages")
    else:
        ids = tk.as_ids(tokenizer, prompt, vocab_size)
    texts = tuple(tk.to_str_tokens(tokenizer, ids))
    decoded = not isinstance(text, str)
    made = Prompt(
        text="".join(texts) if decoded else text,
        ids=tuple(ids),
        tokens=texts,
        special=tk.special_marks(tokenizer, ids),
        regions={**(chat.regions if chat else {}), "last": range(len(ids) - 1, len(ids))},
        note=chat.note if chat else "",
        decoded=decoded,
        tokenizer=tokenizer,
        chat=chat,
    )
    return made if subject is None else made.with_subject(subject)


def check_reader(prompt: Prompt, tokenizer: Any) -> None:
    """TokenError for a prompt that another tokenizer has read, whose ids mean other tokens here."""
    if prompt.tokenizer is tokenizer:
        return
    here = tuple(tk.to_str_tokens(tokenizer, prompt.ids))
    if here != prompt.tokens:
        raise TokenError(
            f"the prompt {prompt.text!r} was read by another tokenizer; for this model its ids are {''.join(here)!r}: "
            "give its text, or prompt.ids to mean these ids"
        )
