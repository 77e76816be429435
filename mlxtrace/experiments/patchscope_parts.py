"""What patchscopes share: the two prompts, the positions that are read and written, and the answer that is followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..engine.runs import Keep, Run, Site, capture, to_numpy
from ..engine.top_tokens import Said, read
from .lens_sites import (
    InputError,
    Prompt,
    SiteError,
    TracedModel,
    check_width,
    layers_of,
    notes_of,
    one_component,
    one_position,
    texts_of,
    whole_number,
)

__all__ = [
    "Scope",
    "TracedModel",
    "check_mapping",
    "check_options",
    "layers_of",
    "measure_of",
    "notes_at",
    "notes_of",
    "one_component",
    "scope_of",
    "site_of",
    "to_numpy",
    "value_at",
    "vectors_of",
    "whole_number",
]

# Of the paper (section 4.1): a prompt whose continuation repeats what stands in the place of the question mark.
IDENTITY = "cat -> cat; 1135 -> 1135; hello -> hello; ?"

# Options of `generate` that are not for the caller: what is set here, and tokens that the probabilities do not see.
OURS = ("interventions", "where", "stream", "prompt_cache")


@dataclass(frozen=True)
class Scope:
    """A source prompt read at a position, a target prompt written at one, and the answer's tokens.

    said: the model's own next token after the source prompt up to that position, and its probability.
    """

    source: Prompt
    source_position: int
    target: Prompt
    target_position: int
    answer: tuple[int, ...]
    said: tuple[int, float]

    @property
    def run(self) -> Run:
        """The target prompt with all but the last token of the answer behind it."""
        return Run((*self.target.ids, *self.answer[:-1]))

    def read(self, logits: np.ndarray, k: int) -> Said:
        """What logits `[rows, tokens of the answer, V]` say: the likeliest first tokens; of the whole answer its
        probability, and the largest rank of its tokens.
        """
        each = [read(logits[:, i], k, token) for i, token in enumerate(self.answer)]
        prob, rank = np.prod([x.prob for x in each], axis=0), np.max([x.rank for x in each], axis=0)
        return Said(each[0].ids, each[0].probabilities, prob, rank)

    def words(self, model: TracedModel, ids: Any) -> dict[str, Any]:
        """What every result says of the prompts, the answer and its tokens."""
        token, probability = self.said
        texts = texts_of(model, [token, *self.answer, *np.unique(ids).tolist()])
        return {
            "answer": "".join(texts[t] for t in self.answer),
            "answer_ids": list(self.answer),
            "texts": texts,
            "source": self.source.text,
            "source_tokens": list(self.source.tokens),
            "source_position": self.source_position,
            "source_said": texts[token],
            "source_prob": probability,
            "target_prompt": self.target.text,
            "target_tokens": list(self.target.tokens),
            "target_position": self.target_position,
            "model": model.name,
        }

    @property
    def notes(self) -> list[str]:
        """What is odd about the place that is written."""
        mark = self.target.special.get(self.target_position)
        return [f"the target position holds a special token ({mark})"] if mark else []


def scope_of(
    model: TracedModel,
    source: Any,
    source_position: Any,
    target_prompt: Any,
    target_position: Any,
    answer: Any,
) -> Scope:
    """Everything that was asked for, read and checked. answer: None for what the model says after the source."""
    given, aim = model.prompt(source), model.prompt(IDENTITY if target_prompt is None else target_prompt)
    i = one_position("source_position", source_position, given)
    j = one_position("target_position", target_position, aim)
    tokens = None if answer is None else tuple(int(t) for t in model.answer_tokens(answer, aim))
    logits, _ = capture(model.resolver, Run(given.ids[: i + 1]), [])
    said = read(logits, 1)
    top = int(said.ids[0, 0]), float(said.prob[0])
    made = Scope(given, i, aim, j, tokens or top[:1], top)
    model.ids(list(made.run.ids))  # TokenError when the answer leaves the model's positions
    return made


def measure_of(scope: Scope) -> Callable[[np.ndarray], np.ndarray]:
    """Of logits `[rows, tokens of the answer, V]`: probability, rank, the likeliest token and its probability."""

    def measure(logits: np.ndarray) -> np.ndarray:
        said = scope.read(logits, 1)
        return np.stack([said.prob, said.rank, said.ids[:, 0], said.probabilities[:, 0]]).astype(np.float64)

    return measure


# ---- what is read and written


def site_of(model: TracedModel, given: Any) -> Site:
    """A site by name, or a layer's output by its number; SiteError where it holds nothing of a single token."""
    by_name, resolver = isinstance(given, str | Site), model.resolver
    site = resolver.resolve(given) if by_name else resolver.site("resid_post", given)
    if site.side == "pattern":
        raise SiteError(
            f"{site.name} is of two tokens, a query and a key: a patchscope reads and writes one token"
        )
    return site


def value_at(model: TracedModel, scope: Scope, read: Site, written: Site, mapping: Any) -> mx.array:
    """What is read of the source and goes to the target, `[1, 1, ...]`, once it is known to fit there."""
    value = _mapped(_at(model, read, scope.source.ids, scope.source_position), mapping)
    there = _at(model, written, scope.target.ids, scope.target_position)
    if value.shape != there.shape:
        shapes = list(value.shape[2:]), list(there.shape[2:])
        raise SiteError(
            f"{read.name} holds {shapes[0]} for a token, and {written.name} {shapes[1]}: choose sites of one shape"
        )
    return value


def _at(model: TracedModel, site: Site, ids: Sequence[int], position: int) -> mx.array:
    """A site's array at one position, `[1, 1, ...]`; SiteError where it has no row and token."""
    _, kept = capture(model.resolver, Run(tuple(ids)), [site])
    x = kept[site.name]
    if x.ndim < 3 or x.shape[:2] != (1, len(ids)):
        raise SiteError(
            f"{site.name} is {list(x.shape)}, not [1, {len(ids)} tokens, ...]: it has nothing of one token"
        )
    return x[:, position : position + 1]


def _mapped(x: mx.array, mapping: Any) -> mx.array:
    """What is written, `[1, 1, ...]`."""
    if mapping is None:
        return x
    made = mapping(mx.array(x[0, 0]))
    if not isinstance(made, mx.array) or made.shape != x.shape[2:]:
        found = list(made.shape) if isinstance(made, mx.array) else type(made).__name__
        raise InputError(f"mapping makes {found} of an array {list(x.shape[2:])}: it must keep the shape")
    return made[None, None]


def vectors_of(model: TracedModel, scope: Scope, sites: Sequence[Site]) -> list[mx.array]:
    """Each site's array at the source position, `[1, D]`; SiteError where it is not as wide as the stream."""
    keep = {site.name: Keep(positions=(scope.source_position,)) for site in sites}
    _, kept = capture(model.resolver, Run(scope.source.ids), sites, keep=keep, eager=True)
    for name, x in kept.items():
        check_width(name, x, 1, model.d_model)
    return [kept[site.name][0] for site in sites]


def check_mapping(mapping: Any) -> None:
    """InputError when what maps one vector to another is no function."""
    if mapping is not None and not callable(mapping):
        raise InputError(f"mapping is a function of an array, not {type(mapping).__name__}")


def check_options(options: Mapping[str, Any], max_tokens: int) -> None:
    """InputError for an option of `generate` that a patchscope sets itself, and for any where nothing is generated."""
    if options and not max_tokens:
        raise InputError(
            f"{next(iter(options))}= is of what is generated, and max_tokens=0 generates nothing: leave it out"
        )
    if odd := [name for name in OURS if name in options]:
        raise InputError(
            f"{odd[0]}= is not for a patchscope, which reads the target prompt alone: call model.generate(...) with it"
        )


def notes_at(model: TracedModel, sites: Sequence[Site]) -> list[str]:
    """What must be known of some sites."""
    found = [(site.component, site.layer) for site in sites]
    notes = [
        notes_of(model, name, [layer]) for name, layer in found if name is not None and layer is not None
    ]
    return list(dict.fromkeys(note for some in notes for note in some))
