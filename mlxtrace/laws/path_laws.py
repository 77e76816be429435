"""The laws of path patching: what it returns, against traces in which every step of a path is taken by hand.

A trace gives what a sender changes (its output replaced, the rest of its layer held), another what a read becomes of
it (the layer's input changed, its mixer held for an MLP), a third what follows (that read replaced).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import UnsupportedError
from .law import DoesNotApply, Measurement, as_numpy, largest, law
from .model_under_test import ModelUnderTest

METRICS = ("logit", "logit_diff")
LEAST_GAP = 2e-3  # between the runs' logits: recoveries over less are refused
LAST = 6  # the position of a path that is patched at one


class PathsByHand:
    """The tested model's base run (`ids`) with paths from the source run (`other`), by traces alone.

    before, after: the first layer of which the last one reads something, and the last one.
    """

    def __init__(self, tested: ModelUnderTest):
        self.tested, self.last = tested, tested.model.n_layers - 1
        self.before = min(1, self.last - 1)
        if self.before < 0:
            raise DoesNotApply("this model has one layer")
        for layer in (self.before, self.last):
            tested.layers_with(
                "resid_pre", "resid_post", "head", "attn", "mlp", "q", "k", "v", layers=[layer]
            )
        self.base, self.source = tested.base.activations, tested.source.activations
        logits = [as_numpy(run.output)[0, -1].astype(np.float64) for run in (tested.base, tested.source)]
        gap = np.where(np.isfinite(logits[0]), logits[1] - logits[0], 0)
        self.target, self.foil, self.scale = int(gap.argmax()), int(gap.argmin()), largest(logits[0])
        if min(abs(gap[self.target]), abs(gap[self.foil])) < LEAST_GAP:
            raise DoesNotApply("the last token depends on next to nothing of the tokens that were changed")

    def asked(self, senders: Any, receivers: Any, **options: Any) -> np.ndarray:
        """What path patching returns, `[METRICS, senders, receivers]`."""
        found = {"metric": list(METRICS), "target": self.target, "foil": self.foil, **options}
        clean, corrupted = list(self.tested.other), list(self.tested.ids)
        try:
            return self.tested.model.path_patching(
                clean, corrupted, senders=senders, receivers=receivers, progress=False, **found
            ).raw
        except UnsupportedError as error:
            raise DoesNotApply(str(error).split(": ", 1)[-1]) from error

    # ---- a path, step by step

    def traced(self, edits: dict[str, mx.array], *sites: str) -> Any:
        """What the base run has at some sites with others replaced, and its logits."""
        run = self.tested.traced(edits, list(sites))
        return [run.activations[site] for site in sites], as_numpy(run.output)[0, -1].astype(np.float64)

    def changed(self, layer: int, edits: dict[str, mx.array]) -> mx.array:
        """What a layer's output gains from edits of its parts."""
        name = f"layers.{layer}.resid_post"
        (after,), _ = self.traced(edits, name)
        return after - self.base[name]

    def embed(self) -> mx.array:
        return self.source["layers.0.resid_pre"] - self.base["layers.0.resid_pre"]

    def mlp(self, layer: int) -> mx.array:
        return self.changed(layer, {f"layers.{layer}.mlp": self.source[f"layers.{layer}.mlp"]})

    def heads(self, layer: int, heads: Iterable[int], given: mx.array | None = None) -> mx.array:
        """What the outputs of heads change: those of the source run, or these."""
        given = self.source[f"layers.{layer}.head"] if given is None else given
        held = {f"layers.{layer}.mlp": self.base[f"layers.{layer}.mlp"]}
        return self.changed(
            layer, {**held, f"layers.{layer}.head": self.mixed(f"layers.{layer}.head", given, heads)}
        )

    def mixed(self, name: str, given: mx.array, heads: Iterable[int]) -> mx.array:
        """The base run's array with some heads' from another."""
        chosen = np.isin(np.arange(given.shape[2]), list(heads)).tolist()
        return mx.where(mx.array(chosen)[:, None], given, self.base[name])

    def read(self, kind: str, layer: int, change: mx.array) -> mx.array:
        """What queries, keys, values or the MLP's output become when the stream that they read has a change."""
        before = f"layers.{layer}.resid_pre"
        edits = {before: self.base[before] + change}
        if kind == "mlp":
            edits[f"layers.{layer}.attn"] = self.base[f"layers.{layer}.attn"]
        (found,), _ = self.traced(edits, f"layers.{layer}.{kind}")
        return found

    def patched(self, kind: str, layer: int, head: int, change: mx.array) -> np.ndarray:
        """The logits with one read of the change."""
        if kind == "logits":
            name = f"layers.{self.last}.resid_post"
            return self.traced({name: self.base[name] + change})[1]
        name, found = f"layers.{layer}.{kind}", self.read(kind, layer, change)
        value = found if kind == "mlp" else self.mixed(name, found, [head])
        return self.traced({name: value})[1]

    def error(self, found: np.ndarray, logits: Sequence[np.ndarray]) -> float:
        """The largest difference of values `[METRICS, ...]` and those of logits, relative to the largest logit."""
        right = np.array([[x[self.target], x[self.target] - x[self.foil]] for x in logits]).T
        return float(np.abs(found.reshape(len(METRICS), -1) - right).max()) / self.scale


def _ends(tested: ModelUnderTest, last: int) -> list[tuple[str, str, int]]:
    """Receivers in the last layer: name, kind and head."""
    heads = {kind: tested.resolver.head_count(kind, last) - 1 for kind in "qkv"}
    found = [(f"a{last}.h{head}.{kind}", kind, head) for kind, head in heads.items()]
    return [*found, (f"m{last}", "mlp", 0), ("logits", "logits", 0)]


@law("a path is what traces of its steps give", "path_patching (single edges, chains)")
def steps(tested: ModelUnderTest) -> Measurement:
    """The embedding, an MLP and a head to every kind of read in the last layer; and a chain through values."""
    hand = PathsByHand(tested)
    layer, last, ends = hand.before, hand.last, _ends(tested, hand.last)
    head = tested.resolver.head_count("head", layer) - 1
    senders = ["embed", f"m{layer}", f"a{layer}.h{head}"]
    found = hand.asked(senders, [name for name, _, _ in ends])
    changes = [hand.embed(), hand.mlp(layer), hand.heads(layer, [head])]
    if _normed(
        tested, layer
    ):  # a head's own part of what the norm gives is another thing than what it changes
        found, changes = found[:, :2], changes[:2]
    logits = [hand.patched(kind, last, at, change) for change in changes for _, kind, at in ends]
    errors = [hand.error(found, logits)]
    if not _normed(tested, last):
        errors.append(_chain(hand, tested, last))
    return Measurement(max(errors), tested.limit, f"layers {layer} and {last}")


def _normed(tested: ModelUnderTest, layer: int) -> bool:
    """Whether a norm stands between a layer's heads and the stream: twice the output is not twice the change."""
    name, post = f"layers.{layer}.attn", f"layers.{layer}.resid_post"
    base = tested.base.activations
    held = {f"layers.{layer}.mlp": mx.zeros_like(base[f"layers.{layer}.mlp"])}
    runs = [tested.traced({**held, name: times * base[name]}, [post]) for times in (0, 1, 2)]
    nothing, once, twice = (as_numpy(run.activations[post]) for run in runs)
    return float(np.abs(twice - 2 * once + nothing).max()) > 0.1 * float(np.abs(once - nothing).max())


def _chain(hand: PathsByHand, tested: ModelUnderTest, last: int) -> float:
    """All of the stream to the values of a head in the last layer, whose output the logits read."""
    head, name, before = (
        tested.resolver.head_count("v", last) - 1,
        f"layers.{last}.v",
        f"layers.{last}.resid_pre",
    )
    values = hand.mixed(name, hand.read("v", last, hand.source[before] - hand.base[before]), [head])
    (given,), _ = hand.traced({name: values}, f"layers.{last}.head")
    group = given.shape[2] // values.shape[2]
    change = hand.heads(last, range(head * group, (head + 1) * group), given)
    found = hand.asked([[f"r{last}", f"a{last}.h{head}.v"]], ["logits"])
    return hand.error(found, [hand.patched("logits", last, 0, change)])


@law(
    "all of the stream into a read is that read of the other run", "path_patching, senders as sums, positions"
)
def whole(tested: ModelUnderTest) -> Measurement:
    """At all positions, and at one, where it is also what patching that read gives."""
    hand = PathsByHand(tested)
    last, ends = hand.last, _ends(tested, hand.last)[:3]
    found = hand.asked([f"r{last}"], [name for name, _, _ in ends])
    at_one = hand.asked([f"r{last}"], [name for name, _, _ in ends], positions=[LAST])
    sites = [(f"layers.{last}.{kind}", head) for _, kind, head in ends]
    edits = [(name, hand.mixed(name, hand.source[name], [head])) for name, head in sites]
    there = mx.array((np.arange(len(tested.ids)) == LAST).tolist())[:, None, None]
    of_one = [(name, mx.where(there, value, hand.base[name])) for name, value in edits]
    errors = [hand.error(found, [hand.traced({name: value})[1] for name, value in edits])]
    errors.append(hand.error(at_one, [hand.traced({name: value})[1] for name, value in of_one]))
    logits = as_numpy(tested.source.output)[0, -1].astype(np.float64)
    errors.append(hand.error(hand.asked([f"r{last + 1}"], "logits"), [logits]))
    return Measurement(max(errors), tested.limit)


@law("a sender to all that read it is its output patched", 'path_patching, together="live"')
def everywhere(tested: ModelUnderTest) -> Measurement:
    """The embedding, an MLP, and a head where no norm stands between it and the stream."""
    hand = PathsByHand(tested)
    layer, last = hand.before, hand.last
    later = [f"{part}{i}" for i in range(layer + 1, last + 1) for part in "am"]
    mlp, head = f"layers.{layer}.mlp", f"layers.{layer}.head"
    edits = [(f"m{layer}", later, {mlp: hand.source[mlp]})]
    first = "layers.0.resid_pre"
    edits.append(
        ("embed", [f"{part}{i}" for i in range(last + 1) for part in "am"], {first: hand.source[first]})
    )
    if not _normed(tested, layer):
        number = tested.resolver.head_count("head", layer) - 1
        read = [f"m{layer}", *later] if not _parallel(hand, layer) else later
        edits.append((f"a{layer}.h{number}", read, {head: hand.mixed(head, hand.source[head], [number])}))
    errors = []
    for sender, receivers, edit in edits:
        found = hand.asked(sender, [[*receivers, "logits"]], together="live")
        errors.append(hand.error(found, [hand.traced(edit)[1]]))
    return Measurement(max(errors), tested.limit)


def _parallel(hand: PathsByHand, layer: int) -> bool:
    """Whether a layer's MLP gives the same whatever its mixer gives."""
    mixer, mlp = f"layers.{layer}.attn", f"layers.{layer}.mlp"
    (found,), _ = hand.traced({mixer: 2 * hand.base[mixer]}, mlp)
    return bool(mx.array_equal(found, hand.base[mlp]).item())
