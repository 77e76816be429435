"""Whether a model knows a fact: what it says after the prompt, its top token at each step, is the whole attribute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import metrics
from ..errors import InputError, MlxtraceError, PositionError, TokenError
from ..experiments.protocol import Prompt, TracedModel
from ..plotting.labels import probability, quoted
from .fact_files import Fact
from .last_logits import Run, capture, continued, text_behind


@dataclass(frozen=True)
class Known:
    """A fact's prompt with its subject, or None and why the fact cannot be traced.

    answer: the tokens that say the attribute; None where the top token says it, or is all that was asked for.
    """

    prompt: Prompt | None
    why: str = ""
    answer: tuple[int, ...] | None = None


@dataclass(frozen=True)
class FactReader:
    """Reads facts, each text once: its prompt, and its attribute's tokens behind it."""

    model: TracedModel
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)

    def prompt(self, fact: Fact) -> Prompt:
        """The prompt that was read."""
        key = fact.prompt, ""
        if key not in self.kept:
            self.kept[key] = self.model.prompt(fact.prompt)
        return self.kept[key]

    def answers(self, fact: Fact) -> Iterator[tuple[int, ...]]:
        """The attribute's tokens, with a space before it and with none; of those where the tokenizer says so."""
        for attribute in (f" {fact.attribute}", fact.attribute):
            key = fact.prompt, attribute
            if key not in self.kept:
                try:
                    self.kept[key] = self.model.answer_tokens(attribute, self.prompt(fact))
                except TokenError:
                    self.kept[key] = None
            if self.kept[key] is not None:
                yield self.kept[key]

    def is_several(self, fact: Fact) -> bool:
        """Whether the attribute may be several tokens: without a space only where the prompt asks for none."""
        try:
            prompt = self.prompt(fact)
            first = next(self.answers(fact), None)
            bare = not prompt.text[-1:].isalnum() and any(len(tokens) > 1 for tokens in self.answers(fact))
        except MlxtraceError:  # it cannot be traced at all
            return False
        return first is None or len(first) > 1 or bare


def read_known(
    model: TracedModel, fact: Fact, first_token: bool = False, reader: FactReader | None = None
) -> Known:
    """A fact as a model that knows it reads it.

    first_token: it is known by the first token of its attribute, as in the code of Meng et al. 2022. reader: which has
    read facts before.
    """
    reader = FactReader(model) if reader is None else reader
    try:
        prompt = reader.prompt(fact)
        answer, instead = _said(model, fact, prompt, first_token, reader)
        if instead:
            return Known(None, f"the model says {instead}, not {quoted(fact.attribute)}")
        return Known(prompt.with_subject(fact.subject), "", answer)
    except (InputError, PositionError) as error:  # of this fact; the settings were checked before
        return Known(None, str(error))


def _said(
    model: TracedModel, fact: Fact, prompt: Prompt, first_token: bool, reader: FactReader
) -> tuple[tuple[int, ...] | None, str]:
    """The tokens of the attribute that the model says, and "" - or what it says instead."""
    logits = _last(model, prompt.ids)
    top, nearly, there = int(logits.argmax()), "", False
    for tokens in reader.answers(fact):
        there = True
        if tokens[0] != top:
            continue
        if first_token or len(tokens) == 1:
            return None, ""
        found = continued(model, [prompt], [tokens])[0]
        if found.whole:
            return tokens, ""
        says, likely = found.instead
        nearly = (
            nearly or f"{quoted(text_behind(model, prompt, says))} ({probability(float(np.exp(likely)))})"
        )
    if nearly:
        return None, nearly
    text = model.token_to_str(top).strip()
    if text == fact.attribute:
        return None, ""
    if not there and text != "" and fact.attribute.startswith(text):
        return (None, "") if first_token else _spelled(model, fact, prompt, top)
    says = f"{quoted(model.token_to_str(top))} ({probability(float(metrics.softmax(logits)[top]))})"
    return None, says


def _spelled(model: TracedModel, fact: Fact, prompt: Prompt, top: int) -> tuple[tuple[int, ...] | None, str]:
    """The same where the tokenizer leaves the attribute's tokens open (it splits the space off, say): text decides."""
    said = [top]
    while (text := text_behind(model, prompt, said).strip()) != fact.attribute:
        if not fact.attribute.startswith(text) or len(said) > len(fact.attribute):
            return None, quoted(text_behind(model, prompt, said))
        said.append(int(_last(model, model.ids([*prompt.ids, *said])).argmax()))
    return tuple(said), ""


def _last(model: TracedModel, ids: tuple[int, ...] | list[int]) -> np.ndarray:
    """The logits `[V]` of what follows some tokens."""
    logits = capture(model.resolver, Run(tuple(ids)), [])[0]
    assert logits is not None  # they were not declined
    return logits[0]
