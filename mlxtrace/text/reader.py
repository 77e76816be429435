"""The methods of a model that read and write text: with its tokenizer, and with the ids that it has room for."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..errors import TokenError
from . import tokens
from .answering import Answering
from .batches import Batch, by_length, one_batch, several
from .prompt import Prompt, PromptLike, Prompts, check_reader, read


class Reader(Answering):
    """Reads prompts with `self.tokenizer`; without one (None) prompts are token ids."""

    def _known_ids(self) -> int:
        """The number of ids that have an embedding and a logit."""
        raise NotImplementedError

    def _longest(self) -> int | None:
        """The most tokens that a prompt may have; None: there is no such limit."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """Token ids as the model sees a prompt, special tokens included.

        Args:
            text: Any text but an empty one.

        Returns:
            The ids, of any number.

        Raises:
            TokenError: There is no tokenizer, or it makes no token of the text.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> len(model.encode("The Eiffel Tower"))
            5
        """
        return tokens.encode(self.tokenizer, text)

    def decode(self, ids: Any) -> str:
        """The text of token ids, special tokens included.

        Args:
            ids: A list, or an array `[T]` or `[1, T]`.

        Returns:
            The text; without a tokenizer "<12><7>".

        Raises:
            TokenError: They are no ids of this model.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.decode(model.encode("The Eiffel Tower"))
            '<|bos|>The Eiffel Tower'
        """
        return tokens.decode(self.tokenizer, self._known(ids))

    def prompt(self, prompt: PromptLike, subject: Any = None, template: Any = None) -> Prompt:
        """Read a prompt once: a `Prompt`, which prints as a table and is taken wherever a prompt is.

        Args:
            prompt: Text, token ids (a list, or an array `[T]` or `[1, T]`), or a `Prompt`, which is checked; or a chat,
                a list of `{"role": "user", "content": ...}`, which the tokenizer's own template writes, with its
                generation prompt unless the last message is the assistant's, to be continued.
            subject: Text that occurs in it (its first occurrence counts), or consecutive positions.
            template: Of a chat: variables of the template, such as `{"enable_thinking": False}`.

        Returns:
            The ids, their texts, the special tokens, the subject and other named regions.

        Raises:
            TokenError: There is no token, one that the model does not know, or more than it has room for.
            SubjectError, PositionError: The subject is not in the prompt.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompt = model.prompt("The Eiffel Tower is in the city of", subject="Eiffel Tower")
            >>> prompt.subject, prompt.regions["subject_last"], len(prompt)
            (range(2, 5), range(4, 5), 10)
        """
        longest = self._longest()  # first: it looks at the model anew
        made = self.receipt(prompt, subject, template)
        _check_length(len(made), longest)
        return made

    def ids(self, prompt: PromptLike) -> list[int]:
        """The ids of one prompt, checked against the vocabulary and the longest prompt that the model has room for.

        Args:
            prompt: Text, token ids, a `Prompt`, or the messages of a chat.

        Returns:
            The ids, one per position.

        Raises:
            TokenError: There is no token, one that the model does not know, or more than it has room for.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.ids([[5, 6, 7]])
            [5, 6, 7]
        """
        longest = self._longest()
        found = self._known(prompt)
        _check_length(len(found), longest)
        return found

    def _known(self, prompt: PromptLike) -> list[int]:
        """The ids of one prompt of any length, each of which has an embedding."""
        if tokens.chat_in(prompt):
            prompt = read(self.tokenizer, prompt)
        if isinstance(prompt, Prompt):
            check_reader(prompt, self.tokenizer)
            prompt = prompt.ids
        return tokens.as_ids(self.tokenizer, prompt, self._known_ids())

    def to_tokens(self, prompt: Prompts) -> mx.array:
        """The ids of a prompt, or of several of one length, as an array.

        Args:
            prompt: Text, token ids, a `Prompt`, or the messages of a chat; or a list of these, or an array `[B, T]`.

        Returns:
            int32 `[1, T]`, or `[B, T]` with a row for each prompt of a list.

        Raises:
            TokenError: As `ids` does, and for prompts of several lengths: nothing is padded.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.to_tokens("The Eiffel Tower").shape
            (1, 5)
            >>> model.to_tokens(["The Louvre is", "Paris is in"]).shape
            (2, 5)
        """
        return one_batch(self._batches(prompt))

    def _batches(self, given: Prompts) -> list[Batch]:
        """The ids of one prompt or of a list, a batch for each length; each is checked as `ids` does."""
        prompts = several(given)
        if prompts is None:
            one: Any = given
            return by_length([self.ids(one)])
        longest, found = self._longest(), []
        for i, prompt in enumerate(prompts):
            try:
                found.append(self._known(prompt))
                _check_length(len(found[-1]), longest)
            except TokenError as error:
                raise TokenError(f"prompt {i} of the {len(prompts)} given: {error}") from error
        return by_length(found)

    def to_str_tokens(self, prompt: PromptLike) -> list[str]:
        """The text of each token; together they are the decoded prompt.

        Args:
            prompt: Text, token ids, a `Prompt`, or the messages of a chat.

        Returns:
            One text per position. A character made of several tokens stands at the last of them.

        Raises:
            TokenError: There is no token, or one that the model does not know.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.to_str_tokens("The Louvre")
            ['<|bos|>', 'The', ' Lou', 'vre']
        """
        ids = self._known(prompt)
        return (
            list(prompt.tokens) if isinstance(prompt, Prompt) else tokens.to_str_tokens(self.tokenizer, ids)
        )

    def token_to_str(self, token: int) -> str:
        """The text of one token, a leading space kept.

        Args:
            token: The token's id.

        Returns:
            Its text as it stands inside a sentence.

        Raises:
            TokenError: It is no id of this model.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.token_to_str(model.answer_token(" Paris"))
            ' Paris'
        """
        text = tokens.token_to_str(self.tokenizer, token)
        self._known([token])
        return text

    def subject_range(self, prompt: PromptLike, subject: Any) -> range:
        """The token positions of the subject in a prompt.

        Args:
            prompt: Text, token ids, a `Prompt`, or the messages of a chat.
            subject: Text that occurs in it (its first occurrence counts), or consecutive positions.

        Returns:
            Every position that shares a character with the subject.

        Raises:
            SubjectError, PositionError: It is not in the prompt.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.subject_range("The Eiffel Tower is in", "Eiffel Tower")
            range(2, 5)
        """
        return self.receipt(prompt).find(subject)

    def receipt(self, prompt: PromptLike, subject: Any = None, template: Any = None) -> Prompt:
        """What was tokenized, as a table: like `prompt`, but of any length.

        Args:
            prompt: Text, token ids, a `Prompt`, or the messages of a chat.
            subject: Text that occurs in it, or consecutive positions; `*` marks them.
            template: Of a chat: variables of the template.

        Returns:
            A `Prompt`, which prints as a table of position, id and text.

        Raises:
            TokenError, SubjectError, PositionError: As `prompt` does.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> print(model.receipt("The Louvre is in", subject="Louvre"))
            position    id  token
                   0     0  '<|bos|>'  BOS
                   1  1604  'The'
                   2   420  ' Lou'     *
                   3   335  'vre'      *
                   4  1875  ' is'
                   5   534  ' in'
            6 tokens; * marks the subject
        """
        if template is not None or not isinstance(prompt, Prompt):
            return read(self.tokenizer, prompt, subject, self._known_ids(), template)
        self._known(prompt)
        return prompt if subject is None else prompt.with_subject(subject)


def _check_length(length: int, longest: int | None) -> None:
    if longest is not None and length > longest:
        raise TokenError(
            f"the prompt has {length} tokens, but the model has embeddings for {longest} positions only: shorten it"
        )
