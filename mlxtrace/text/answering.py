"""The methods of a model that read answers: the tokens of a text as it continues a prompt."""

from __future__ import annotations

from typing import Any

from . import tokens
from .prompt import Prompt, PromptLike


class Answering:
    """Reads answers with `self.tokenizer`; without one (None) answers are token ids."""

    tokenizer: Any

    @property
    def vocab_size(self) -> int:
        """The number of logits."""
        raise NotImplementedError

    def _known_ids(self) -> int:
        """The number of ids that can be read."""
        raise NotImplementedError

    def receipt(self, prompt: PromptLike, subject: Any = None) -> Prompt:
        """A prompt of any length, as it was tokenized."""
        raise NotImplementedError

    def answer_token(self, answer: str | int, prompt: PromptLike | None = None) -> int:
        """The one token that an answer starts with after a prompt.

        Args:
            answer: Text, with its space (" Paris"), or a token id.
            prompt: What it answers, as text, token ids or a `Prompt`; None: any text.

        Returns:
            The token's id.

        Raises:
            TokenError: As `answer_tokens` does, and for several ids.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> model.answer_token(" Louvre") == model.answer_tokens(" Louvre")[0]
            True
        """
        if prompt is None or isinstance(prompt, str):
            return tokens.answer_token(self.tokenizer, answer, prompt, self.vocab_size)
        return self.receipt(prompt).answer_token(answer, self.vocab_size)

    def answer_tokens(self, answer: Any, prompt: PromptLike | None = None) -> tuple[int, ...]:
        """All tokens of an answer as it continues a prompt.

        Args:
            answer: Text, with its space (" Paris"), a token id, or the ids of the answer's tokens.
            prompt: What it answers, as text, token ids or a `Prompt`; None: any text.

        Returns:
            The tokens' ids, one or several.

        Raises:
            TokenError: The text is empty, melts into the prompt, or has no space where " Paris" would be another
                token than "Paris"; or there is no such token.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> [model.token_to_str(token) for token in model.answer_tokens(" Louvre")]
            [' Lou', 'vre']
        """
        if prompt is None or isinstance(prompt, str):
            found = tokens.answer_tokens(self.tokenizer, answer, prompt, self.vocab_size)
        else:
            found = self.receipt(prompt).answer_tokens(answer, self.vocab_size)
        known = self._known_ids()
        if unread := [token for token in found[:-1] if token >= known]:
            raise tokens.TokenError(
                f"The answer has the token id {unread[0]} before its last one, where the model reads it, but the ids "
                f"that it has embeddings for are 0..{known - 1}: check the ids."
            )
        return found
