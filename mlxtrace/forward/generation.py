"""Text that a model goes on with, by mlx-lm's own loop, under interventions or none.

text = model.generate("The Louvre is in", max_tokens=10, interventions={"layers.5": iv.add_vector(4 * v)})
text.tokens, text.logprobs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..errors import InputError, OrderError
from ..text.decoder import tokenizer_for
from . import open_traces
from .declared import Edit, declared
from .generation_checks import Asked
from .steps import KEPT, Steps, tokens_in


class GeneratingModel(Protocol):
    """What is used of a model to generate."""

    net: Any
    tokenizer: Any
    resolver: Any

    def prompt(self, prompt: Any, subject: Any = None) -> Any: ...

    def decode(self, ids: Any) -> str: ...

    def _longest(self) -> int | None: ...


class Generation(str):
    """Text that was generated: a plain string, with what it was made of.

    Attributes:
        tokens: the ids, the end-of-text token that ended it included.
        logprobs: float64 `[len(tokens)]`, the log-probability that each had, logits processors included.
        prompt: the `Prompt` that it goes on from.
        finish_reason: "stop" at an end-of-text token, "length" after `max_tokens`.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> text = InterpretableModel("demo").generate("The Eiffel Tower is in the city of", max_tokens=1)
        >>> text, text.finish_reason, len(text.tokens), text.logprobs.shape
        ('Paris', 'length', 1, (1,))
    """

    tokens: list[int]
    logprobs: np.ndarray
    prompt: Any
    finish_reason: str | None

    @classmethod
    def of(cls, responses: Iterator[Any], prompt: Any) -> Generation:
        """What mlx-lm's responses are together."""
        text, tokens, logprobs, reason = "", [], [], None
        for response in responses:
            text += response.text
            tokens.append(response.token)
            logprobs.append(_logprob(response.logprobs, response.token))
            reason = response.finish_reason
        made = cls(text)
        made.tokens, made.logprobs, made.prompt = tokens, np.array(logprobs), prompt
        made.finish_reason = reason
        return made

    def __enter__(self) -> Any:
        raise InputError(
            "model.generate(...) gives text, and is no block: to edit what is generated, give it "
            "interventions={site: function}; to read activations, `with model.trace(prompt):`"
        )

    def __exit__(self, *_: object) -> None: ...


def _logprob(row: mx.array, token: int) -> float:
    """The log-probability of a token, in float64: MLX's own sums are float32."""
    x = np.array(row.astype(mx.float32), dtype=np.float64)
    most = x.max()
    return float(x[token] - most - np.log(np.exp(x - most).sum()))


class Stepped(nn.Module):
    """A model whose passes are made by a function; in all else it is the model."""

    def __init__(self, net: nn.Module, run: Callable[..., mx.array]):
        super().__init__()
        self["net"] = net
        object.__setattr__(self, "_run", run)

    def __call__(self, tokens: mx.array, cache: Any = None, **options: Any) -> mx.array:
        return self._run(tokens, cache=cache, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self["net"], name)


def generate(
    model: GeneratingModel,
    prompt: Any,
    max_tokens: int = 50,
    interventions: Mapping[str, Edit] | None = None,
    where: str = "all",
    stream: bool = False,
    sampler: Callable[[mx.array], mx.array] | None = None,
    logits_processors: list[Callable] | None = None,
    **options: Any,
) -> Any:
    """Go on with a prompt, token by token: mlx-lm's `stream_generate`, its caches, samplers and stop tokens.

    Without interventions text and tokens are those of `mlx_lm.generate`, to the bit. With some, the prompt runs in one
    pass, in which each function sees it once (`[1, T, D]`), and then each new token in one of its own (`[1, 1, D]`).
    Positions of `interventions` count from the prompt's start, negative ones from its end; the first new token is at
    position T. A slice without an end goes on in the new tokens.

    Args:
        model: What goes on; not given where this is called as its method.
        prompt: Text, token ids, or a `Prompt`.
        max_tokens: The most tokens; -1 for no limit but a stop token.
        interventions: `{site name: function array -> array}`, as those of `model.trace`.
        where: In which passes they act: "prompt", "new" (new tokens) or "all".
        stream: Give mlx-lm's responses one by one, each with `.text`, `.token`, `.logprobs`, and at the end
            `.finish_reason`.
        sampler: Log-probabilities `[1, V]` -> token, as `mlx_lm.sample_utils.make_sampler` makes them; None: the
            likeliest.
        logits_processors: Functions (tokens, logits) -> logits.
        **options: Any other option of `mlx_lm.stream_generate`: `prompt_cache`, `max_kv_size`, `kv_bits`, and so on.
            Positions count from the prompt's start also where a `prompt_cache` holds earlier tokens.

    Returns:
        A `Generation`: the text as a string, with `.tokens`, `.logprobs`, `.prompt`, `.finish_reason`. With
        `stream=True` an iterator of responses.

    Raises:
        TokenError: The prompt is none, or leaves no room for the tokens. SiteError: An intervention names no site.
        PositionError: One names a position that will not be run. EditError: One made NaN, or another shape.
        OrderError: One never acted; or a trace of the model is open. InputError: An option is none of mlx-lm's.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace import interventions as iv
        >>> model = InterpretableModel("demo")
        >>> model.generate("The Eiffel Tower is in the city of", max_tokens=1)
        'Paris'
        >>> without = {f"layers.{i}.mlp": iv.zero_at([2, 3, 4]) for i in range(6)}
        >>> model.generate("The Eiffel Tower is in the city of", max_tokens=1, interventions=without) != "Paris"
        True
    """
    refuse_in_trace(model.net)
    if not isinstance(stream, bool):
        raise InputError(f"stream is True or False, whether responses are given one by one, not {stream!r}")
    read = model.prompt(prompt)
    options = {
        **options,
        "max_tokens": max_tokens,
        "sampler": sampler,
        "logits_processors": logits_processors,
    }
    asked = Asked(len(read), tokens_in(options.get("prompt_cache")), max_tokens, where, options)
    asked.check(model._longest())
    found, steps = declared(model.resolver, {} if interventions is None else interventions), None
    if found:
        asked.check_interventions({key: fn for key, _, fn in found})
        _refuse_lost(found, options)
        steps = Steps(model.resolver, found, read.ids, where)
    if model.resolver.group is not None:
        model.resolver.meet(f"{max_tokens} tokens to generate after {len(read)} ({hash(tuple(read.ids)):x})")
        options["sampler"] = _of_first(model.resolver.group, sampler)
    responses = _responses(model, read, steps, options)
    return responses if stream else Generation.of(responses, read)


def _refuse_lost(found: Any, options: dict[str, Any]) -> None:
    """InputError where a cache that is given would keep the keys or values as they were before they were edited."""
    names = [key for key, site, _ in found if site.side in KEPT]
    if names and options.get("prompt_cache") is not None:
        raise InputError(
            f"the prompt_cache would keep the keys and values of {names[0]!r} as they were before they are edited: "
            "leave prompt_cache out"
        )


def _of_first(group: Any, sampler: Callable[[mx.array], mx.array] | None) -> Callable[[mx.array], mx.array]:
    """A sampler that all processes of a sharded model share: each would draw, or round, in its own way."""

    def sample(logprobs: mx.array) -> mx.array:
        token = mx.argmax(logprobs, axis=-1) if sampler is None else sampler(logprobs)
        own = token if group.rank() == 0 else mx.zeros_like(token)
        return mx.distributed.all_sum(own, group=group)

    return sample


def refuse_in_trace(net: Any) -> None:
    """OrderError inside an open trace of the model, whose interventions would not reach what is generated."""
    if any(trace.has_prompt for trace in open_traces.here(net)):
        raise OrderError(
            "text is generated outside `with model.trace(...)`: the edits and interventions of the trace would not "
            "reach it. Give them to model.generate(prompt, interventions={...}), before or after the block"
        )


def _responses(model: GeneratingModel, prompt: Any, steps: Steps | None, options: dict) -> Iterator[Any]:
    from mlx_lm.generate import generation_stream, stream_generate

    net = model.net
    if steps is not None:
        run = steps
        if steps.where != "new":
            options = {**options, "prefill_step_size": len(prompt)}

        def stepped(tokens: mx.array, **given: Any) -> mx.array:
            refuse_in_trace(model.net)
            return run(tokens, **given)

        net = Stepped(model.net, stepped)
    try:
        for response in stream_generate(net, tokenizer_for(model), mx.array(prompt.ids), **options):
            if steps is not None and response.finish_reason is not None:
                steps.check_acted(response.generation_tokens)
            if model.resolver.group is not None:  # mlx-lm runs a token ahead, and its sums would meet others
                mx.synchronize(generation_stream)
            yield response
    finally:
        if (
            model.resolver.group is not None
        ):  # mlx-lm runs a token ahead: its sums over ranks would meet those of others
            mx.synchronize(generation_stream)
