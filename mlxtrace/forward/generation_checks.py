"""What is asked of a generation, checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..arguments import as_integer
from ..errors import InputError, PositionError, TokenError, closest
from ..intervention import Intervention, absolute, positioned
from .other_names import OPTIONS

WHERE = ("prompt", "new", "all")


@dataclass(frozen=True)
class Asked:
    """A generation that is asked for.

    Args:
        prompt: how many tokens the prompt has.
        before: how many the given cache holds.
        max_tokens: the most new ones; -1 for no limit.
        where: in which passes interventions act.
        options: what mlx-lm is given, by name.
    """

    prompt: int
    before: int
    max_tokens: int
    where: str
    options: Mapping[str, Any]

    def check(self, longest: int | None) -> None:
        """InputError for what is none of mlx-lm's options; TokenError when positions would run past the model's table.

        longest: how many positions the model has embeddings for, which MLX reads past without a word; None: no limit.
        """
        number = as_integer(self.max_tokens)
        if number is None or (number < 1 and number != -1):
            raise InputError(
                f"max_tokens is a whole number of 1 or more, or -1 for no limit, not {self.max_tokens!r}"
            )
        if self.where not in WHERE:
            raise InputError(f"where is one of {', '.join(map(repr, WHERE))}, not {self.where!r}")
        self._check_options()
        if longest is None:
            return
        room = longest - self.before - self.prompt + 1
        if number == -1 or number > room:
            raise TokenError(
                f"after {self.prompt + self.before} tokens the model has room for {room} more (it has embeddings for "
                f"{longest} positions only), not for max_tokens={number}: give max_tokens={room} or less"
            )

    def _check_options(self) -> None:
        from mlx_lm.generate import generate_step, speculative_generate_step, stream_generate

        kinds = generate_step, speculative_generate_step, stream_generate
        known = {name for kind in kinds for name in inspect.signature(kind).parameters}
        known -= {"model", "tokenizer", "prompt", "kwargs"}
        for name in self.options:
            if name not in known:
                cure = OPTIONS.get(name)
                hint = f"write {cure}" if cure else closest(name, known)
                raise InputError(f"model.generate has no option {name!r}; {hint}")
        sampler, processors = self.options["sampler"], self.options["logits_processors"]
        if sampler is not None and not callable(sampler):
            raise InputError(f"sampler is a function of log-probabilities [1, V], not {sampler!r}")
        listed = isinstance(processors, list | tuple) and all(map(callable, processors))
        if processors is not None and not listed:
            raise InputError(
                f"logits_processors are a list of functions (tokens, logits) -> logits, not {processors!r}"
            )

    def check_interventions(self, functions: Mapping[str, Callable]) -> None:
        """InputError for options under which they have no place; PositionError for positions that no pass will hold."""
        if self.options.get("draft_model") is not None:
            raise InputError(
                "with a draft model tokens are run several at once and taken back, so interventions have no place "
                "there: leave out draft_model"
            )
        if self.options.get("input_embeddings") is not None:
            raise InputError("interventions need the prompt's tokens: leave out input_embeddings")
        bits, begin = self.options.get("kv_bits"), self.options.get("quantized_kv_start", 5000)
        if bits is not None and self.where != "new" and self.before + self.prompt > begin:
            raise InputError(
                f"the cache is quantized from token {begin} on, within the prompt, which under interventions runs in "
                f"one piece: give quantized_kv_start={self.before + self.prompt} or more, or where='new'"
            )
        if self.where == "new" and self.max_tokens == 1:
            raise InputError(
                "where='new' edits the passes of new tokens, and max_tokens=1 has none: the prompt's pass gives the "
                "token"
            )
        for key, fn in functions.items():
            for edit in positioned(fn):
                self._check_places(key, edit)

    def _check_places(self, key: str, edit: Intervention) -> None:
        start = self.prompt if self.where == "new" else 0
        end = self.prompt + self.max_tokens - 1  # the last new token is never run for another
        if self.where == "prompt":
            end = self.prompt
        [positions] = edit.positions
        some = [p for p in (getattr(positions, "start", 0), getattr(positions, "step", 1)) if p is not None]
        endless = self.where != "prompt" and self.max_tokens == -1
        if endless:
            end = self.prompt + sum(abs(p) for p in some) + 1
        chosen = absolute(positions, self.prompt, end)
        if isinstance(positions, slice) and positions.stop is None:
            chosen = [p for p in chosen if p >= start][:1]
        outside = [p for p in chosen if p < start or (p >= end and not endless)]
        if outside or not chosen:
            which = {"prompt": "those of the prompt", "new": "those of new tokens", "all": "all that are run"}
            raise PositionError(
                f"{edit} at {key!r} could not act at {f'position {outside[0]}' if outside else 'any position'}: "
                f"{which[self.where]} are {start}..{'' if endless else end - 1} (where={self.where!r}, a prompt of "
                f"{self.prompt} tokens, max_tokens={self.max_tokens})"
            )
