"""How an experiment is called on pairs: its options, checked, and of each pair its result, or why it has none.

calls = Calls(model, "activation_patching", {"component": "mlp"})
calls.settings               # all of its options by name, as JSON can hold them
calls.on(batch)              # for each pair a result and "", or None and why there is none
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .. import errors
from ..experiments.activation_patching import how_read, patched, read_pairs
from .noise_scale import GaussianNoise, level_of_run
from .provenance import fingerprint, told

OF_A_PAIR = {  # arguments of experiments that each pair has its own of, and the name of its field
    "clean_text": "clean",
    "corrupted_text": "corrupted",
    "source": "clean",
    "base": "corrupted",
    "prompt": "clean",
    "subject": "subject",
    "target": "target",
    "foil": "foil",
    "answers": "answers",
}
NOT_HERE = {
    "plot": "a figure is written beside the results, average.png",
    "plan_only": "for a plan call the experiment itself, with a list of pairs",
}
LATER = {  # by experiment; folders that were begun before there were these do not name them
    "activation_patching": ("source_model",),
    "causal_trace": ("within",),
}
HOW = ("engine", "max_memory")  # these change no numbers, so that a later run may change them
OF_ITSELF = (  # what is wrong with a pair, not with what is asked of all
    errors.TokenError,
    errors.SubjectError,
    errors.AlignmentError,
    errors.EffectError,
    errors.PositionError,
)
Answered = tuple[Any, str]  # a result and "", or None and why there is none


class Calls:
    """An experiment with its options, called on one batch of pairs after the other.

    settings: what the numbers depend on, the weights among it, as JSON can hold it; together: whether pairs can share
    passes.
    InputError for an option that the experiment does not have, or that each pair has its own of.
    """

    def __init__(self, model: Any, experiment: str, options: Mapping[str, Any]):
        self.model, self.experiment = model, experiment
        known = inspect.signature(getattr(type(model), experiment)).parameters
        apart = {"self", "model", "progress", *OF_A_PAIR, *NOT_HERE}
        defaults = {name: known[name].default for name in known if name not in apart}
        for name, value in options.items():
            _check(experiment, name, value, defaults)
        self._options = {**defaults, **{name: _kept(value) for name, value in options.items()}}
        self._notes: list[str] = []
        self.together = experiment in ("activation_patching", "causal_effects")
        uncounted = {*HOW, *(name for name in LATER.get(experiment, ()) if self._options[name] is None)}
        counted = {name: _told(value) for name, value in self._options.items() if name not in uncounted}
        self.settings = {"experiment": experiment, **counted, "weights": fingerprint(model.net)}
        if "metric" in self._options:
            self._options["metric"] = _settled_metric(self._options["metric"])
            self.settings["metric"] = told(self._options["metric"])

    def scale(self, subjects: Sequence[Any]) -> None:
        """Settle the level of a causal trace's noise from the subjects of all pairs, where all are texts."""
        if self.experiment != "causal_trace":
            return
        asked, given = self._options, self._options.pop("subjects")
        if asked["positions"] != "each":
            raise errors.InputError(
                f'positions={asked["positions"]!r}: traces are averaged by the roles of all tokens, positions="each"'
            )
        if given is None and all(isinstance(subject, str) for subject in subjects):
            given = list(subjects)
        names = ("samples", "seed", "replace", "within")
        noise = GaussianNoise(level=asked["noise"], **{name: asked[name] for name in names})
        self.settings |= {} if noise.within is None else {"within": noise.within}
        asked["noise"], self.settings["noise_level"], self._notes = level_of_run(self.model, noise, given)

    def on(self, pairs: Sequence[Any]) -> Iterator[Answered]:
        """Of each pair its result and "", or None and why there is none; halves of a batch are tried where it fails.

        What is wrong with the options and not with a pair is raised.
        """
        try:
            made = CALLS[self.experiment](self.model, pairs, self._options)
        except errors.MlxtraceError as error:
            if len(pairs) > 1:
                yield from self.on(pairs[: len(pairs) // 2])
                yield from self.on(pairs[len(pairs) // 2 :])
            elif isinstance(error, OF_ITSELF):
                yield None, str(error)
            else:
                raise type(error)(f"pair {pairs[0].id}: {error}") from error
            return
        for single in made:
            single.notes = [*self._notes, *single.notes]
            if self.experiment == "causal_trace":
                single.settings = {}  # the folder's say the same, and its level as it was given
            yield single, ""


def _check(experiment: str, name: str, value: Any, known: Mapping[str, Any]) -> None:
    """InputError for an option that cannot be given."""
    if name in OF_A_PAIR:
        raise errors.InputError(
            f"each pair has its own {name}: give it there, Pair(..., {OF_A_PAIR[name]}={value!r})"
        )
    if name in NOT_HERE:
        raise errors.InputError(f"a run into a folder takes no {name}=: {NOT_HERE[name]}")
    if str(value).startswith("spans("):
        raise errors.InputError(
            f"a run into a folder takes no positions={value}: its batches would be refined at other tokens each; call "
            "the experiment itself"
        )
    if name not in known:
        raise errors.InputError(f"{experiment} has no option {name!r}; {errors.closest(name, known)}")


def _kept(value: Any) -> Any:
    """A value that can be used many times, as those of an iterator cannot, and written down as it is."""
    return list(value) if isinstance(value, Iterator | range) else value


def _told(value: Any) -> Any:
    """A value as JSON can hold it; a model as what tells it from others."""
    return {"weights": fingerprint(value.net)} if hasattr(value, "net") else told(value)


def _settled_metric(metric: Any) -> Any:
    """The metric with "auto" settled, as it must be the same for all batches: the answer's probability."""
    if isinstance(metric, list | tuple):
        return [_settled_metric(one) for one in metric]
    return "prob" if isinstance(metric, str) and metric == "auto" else metric


def _patched(model: Any, pairs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
    asked = {**options, "progress": False}
    source = asked["source_model"]
    reading = {} if source is None else how_read(model, source, asked["direction"])
    read = read_pairs(model, list(pairs), align=asked.pop("align"), **reading)
    found: Any = patched(model, read, **asked, recovered=False)
    return found[0]


def _effects(model: Any, pairs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
    return model.causal_effects(list(pairs), progress=False, **options).singles


def _noised(model: Any, pairs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
    return model.noising_window(list(pairs), **options).singles


def _traced(model: Any, pairs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
    return [
        model.causal_trace(pair.clean, pair.subject, **_answer_of(pair), progress=False, **options)
        for pair in pairs
    ]


def _answer_of(pair: Any) -> dict[str, Any]:
    """The answer of a pair, or those that are acceptable."""
    return {"answers": list(pair.answers)} if pair.answers else {"target": pair.target}


CALLS: dict[str, Callable[[Any, Sequence[Any], Mapping[str, Any]], Sequence[Any]]] = {
    "activation_patching": _patched,
    "causal_effects": _effects,
    "noising_window": _noised,
    "causal_trace": _traced,
}
