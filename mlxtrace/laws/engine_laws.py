"""The laws of the engines: fan-out, flat batches, shared prefixes and split sweeps give the numbers of the loop."""

from __future__ import annotations

from dataclasses import replace

from ..anatomy.architecture_exceptions import exceptional
from ..errors import InputError
from .law import DoesNotApply, Measurement, law, relative_error
from .model_under_test import DIFFERENT, ModelUnderTest


class Refused(Exception):
    """An engine is not used on a model although nothing known about the architecture speaks against it."""


def _explain_refusal(tested: ModelUnderTest, name: str, reason: str) -> None:
    """DoesNotApply where the probe is known to refuse an engine, Refused where it does so for any other reason."""
    if not reason:
        return
    if known := exceptional(tested.net).engines.get(name):
        raise DoesNotApply(f"not used on this architecture: {known}")
    raise Refused(f"the probe refused it: {reason}")


@law("no position sees a later one", "that what is patched at a token leaves earlier tokens alone")
def causal(tested: ModelUnderTest) -> Measurement:
    """Changing tokens leaves the logits before them as they were."""
    base, source, first = tested.base.output, tested.source.output, DIFFERENT[0]
    changed = tested.plain((*tested.ids[:-1], (tested.ids[-1] + 1) % tested.model.vocab_size))
    early = relative_error(source[:, :first], base[:, :first])
    error = max(early, relative_error(changed[:, :-1], base[:, :-1]))
    return Measurement(error, tested.limit, "" if error <= tested.limit else "sweeps share no prefix here")


@law("before the first difference nothing is recovered", "cells before the prompts differ")
def before(tested: ModelUnderTest) -> Measurement:
    """By the loop to rounding, by the engine exactly."""
    names = [name for name in tested.sweep.cells if name[0] == "before"]
    if not names:
        raise DoesNotApply("this model has no site to patch")
    if not tested.sweep.probe.causal:
        raise DoesNotApply("this model is not causal")
    rows, outcome = tested.sweep.fast
    fast, plain = dict(zip(tested.sweep.cells, rows, strict=True)), outcome.base[:, 0]
    exact = max(relative_error(fast[name], plain) for name in names)
    loop = max(relative_error(tested.sweep.loop[name], plain) for name in names)
    if exact and tested.sweep.chosen.name != "loop":
        return Measurement(exact, 0.0, "by the engine")
    return Measurement(loop, tested.limit)


def _against_the_loop(tested: ModelUnderTest, name: str, shares_prefix: bool = False) -> Measurement:
    _explain_refusal(tested, name, tested.sweep.probe.wrong(name))
    engine = replace(tested.sweep.engine(name), prefix=shares_prefix)
    return tested.sweep.against_the_loop(tested.sweep.logits(engine)[0], tested.limit)


@law("fan-out gives the loop's numbers", 'engine="fanout" (ask for engine="loop")')
def fanout(tested: ModelUnderTest) -> Measurement:
    """Every cell a row, born at the layer where it first differs."""
    return _against_the_loop(tested, "fanout")


@law("flat batches give the loop's numbers", 'engine="flat" (ask for engine="loop")')
def flat(tested: ModelUnderTest) -> Measurement:
    """Every cell a row from the tokens on."""
    return _against_the_loop(tested, "flat")


@law("sharing a prefix changes nothing", "sweeps whose prompts begin alike")
def prefix(tested: ModelUnderTest) -> Measurement:
    """The base run's keys and values stand for the positions before the first patch: in every row, and seen once."""
    probe = tested.sweep.probe
    _explain_refusal(tested, "fanout", probe.wrong("fanout"))
    if not probe.causal and causal(tested).error <= tested.limit:
        raise Refused("the probe takes this model for one that sees later positions, which it is not")
    if reason := probe.has_no_prefix():
        raise DoesNotApply(reason)
    _explain_refusal(tested, "prefix", probe.prefix_wrong())
    copied = _against_the_loop(tested, "fanout", shares_prefix=True)
    if probe.merged_wrong():
        return replace(copied, note=copied.note or "copied into every row")
    engine = replace(tested.sweep.engine("fanout"), prefix=True, merges=lambda shared, ran: True)
    once = tested.sweep.against_the_loop(tested.sweep.logits(engine)[0], tested.limit)
    return copied if once.error <= copied.error else once


@law("any split into passes gives the same numbers", "sweeps that do not fit the memory at once")
def split(tested: ModelUnderTest) -> Measurement:
    """With less memory than the sweep would like."""
    engine = tested.sweep.chosen
    if engine.name == "loop":
        raise DoesNotApply("every cell has a pass of its own here")
    passes = tested.sweep.fast[1].plan.passes
    for share in (0.4, 0.6, 0.8, 0.95):
        try:
            rows, outcome = tested.sweep.logits(engine, share)
        except InputError:  # not even one cell fits
            continue
        if outcome.plan.passes > passes:
            found = tested.sweep.against_the_loop(rows, tested.limit)
            return replace(found, note=found.note or f"{passes} and {outcome.plan.passes} passes")
    raise DoesNotApply("the sweep cannot be split further")
