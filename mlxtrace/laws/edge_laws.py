"""The laws of edges and circuits: what `edges` and its circuits return, against paths and traces taken by hand."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from .law import DoesNotApply, Measurement, as_numpy, law
from .model_under_test import ModelUnderTest
from .path_laws import METRICS, PathsByHand, UnsupportedError

STEP = 0.02  # of central differences: their own error grows with its square, that of float32 falls with it
SUMS = 1e-4  # of the largest logit: contributions are added up in another order than the model's
FEW = 1000  # edges that are all patched one by one
MOST = 0.2  # a limit above which nothing is said
SLOPES = 5e-3  # what is left of both, relative to the largest slope


class _Edges:
    """The tested model's edges from its source run (`other`) into its base run (`ids`), estimated and as circuits."""

    def __init__(self, tested: ModelUnderTest):
        self.tested, self.hand = tested, PathsByHand(tested)
        self.answers = {"target": self.hand.target, "foil": self.hand.foil}

    def estimated(self, direction: str = "denoise", **options: Any) -> Any:
        """What `edges` returns; DoesNotApply where the model's edges or gradients are refused."""
        asked = {"method": "eap", "metric": METRICS[1], "direction": direction, **self.answers, **options}
        try:
            return self.tested.model.edges(
                list(self.tested.other), list(self.tested.ids), progress=False, **asked
            )
        except UnsupportedError as error:
            raise DoesNotApply(str(error).split(": ", 1)[-1]) from error

    def ends(self) -> list[tuple[str, str, int]]:
        """Reads of the last layer: name, kind and head; and the logits."""
        last = self.hand.last
        heads = {kind: self.tested.resolver.head_count(kind, last) - 1 for kind in "qkv"}
        found = [(f"a{last}.h{head}.{kind}", kind, head) for kind, head in heads.items()]
        return [*found, (f"m{last}", "mlp", 0), ("logits", "logits", 0)]

    def with_read_corrupted(self, kind: str, head: int) -> float:
        """The metric of the clean run with one head's queries, keys or values in the last layer from the other run."""
        site = f"layers.{self.hand.last}.{kind}"
        theirs = self.hand.base[site]
        mine = mx.array((np.arange(theirs.shape[2]) == head).tolist())[:, None]
        with self.tested.trace(
            self.tested.other, {site: lambda x: mx.where(mine, theirs, x)}, cache=False
        ) as trace:
            pass
        return _difference(as_numpy(trace.output)[0, -1].astype(np.float64), self.hand)


@law("an edge's estimate is the slope of its effect", 'edges(method="eap"), edges(method="eap-ig")')
def slopes(tested: ModelUnderTest) -> Measurement:
    """From the embedding and an MLP to every kind of read in the last layer; EAP-IG of one step from the other side."""
    limit = max(SLOPES, tested.limit / STEP)
    if limit > MOST:
        raise DoesNotApply("in this precision slopes are lost in rounding")
    edges = _Edges(tested)
    hand, found = edges.hand, edges.estimated()
    errors, right = [], []
    for sender, change in (("embed", hand.embed()), (f"m{hand.before}", hand.mlp(hand.before))):
        for name, kind, head in edges.ends():
            up, down = (hand.patched(kind, hand.last, head, share * change) for share in (STEP, -STEP))
            slope = _difference(up - down, hand) / (2 * STEP)
            errors.append(abs(found[sender, name] - slope))
            right.append(abs(slope))
    scale = max(*right, float(np.abs(found.scores).max()))
    one_step = edges.estimated(method="eap-ig", steps=1).scores
    turned = np.abs(one_step + edges.estimated("noise").scores).max() / max(np.abs(one_step).max(), 1e-12)
    return Measurement(max(max(errors) / scale, float(turned)), limit)


def _difference(logits: np.ndarray, hand: PathsByHand) -> float:
    return float(logits[hand.target] - logits[hand.foil])


@law("circuits keep what they keep clean", "circuit.faithfulness, .curve, .minimality")
def circuits(tested: ModelUnderTest) -> Measurement:
    """All edges and none; all but one, which is that edge by itself; all but those into a read, which is that read."""
    edges = _Edges(tested)
    scores = edges.estimated()
    whole, none = scores.circuit(scores.n), scores.circuit(0)
    senders, ends = ["embed", f"m{edges.hand.before}"], [name for name, _, _ in edges.ends()]
    alone = tested.model.path_patching(
        list(tested.other),
        list(tested.ids),
        senders=senders,
        receivers=ends,
        direction="noise",
        metric=METRICS[1],
        progress=False,
        **edges.answers,
    ).raw
    dropped = [whole.without((sender, receiver)) for sender in senders for receiver in ends]
    name, kind, head = edges.ends()[0]
    dropped.append(whole.without(*(edge for edge in whole.edges if edge[1] == name)))
    right = [scores.clean[0], scores.corrupted[0], *alone.ravel(), edges.with_read_corrupted(kind, head)]
    found = whole.values_of(np.stack([one.kept for one in (whole, none, *dropped)]), None)[0][:, 0]
    errors = np.abs(found - right) / edges.hand.scale
    if scores.n <= FEW:
        exact = edges.estimated("noise", method="exact")
        one_by_one = [exact[sender, receiver] for sender in senders for receiver in ends]
        errors = np.append(errors, np.abs(scores.clean[0] + one_by_one - alone.ravel()) / edges.hand.scale)
    share = abs(dropped[0].faithfulness() * scores.gap + scores.corrupted[0] - right[2]) / edges.hand.scale
    return Measurement(float(max(*errors, share)), max(tested.limit, SUMS), f"{scores.n} edges")
