"""The laws of answers of several tokens: what a sweep says of a whole answer, against passes by hand with it behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .law import DoesNotApply, Measurement, law
from .model_under_test import LENGTH, ModelUnderTest
from .pair_by_hand import METRICS, NOISE_SEED, SAMPLES, SUBJECT, PairByHand, Write, drawn_by_hand

AT = [3, LENGTH - 1]  # one of the tokens that differ, and the last of the prompt
LEAST_GAP = 5e-3  # between the runs, of what is compared: recoveries over less are refused
Answer = tuple[int, ...]


class _Forced:
    """A pair whose runs go on with the tokens of an answer, so that the last positions say how likely each is."""

    def __init__(self, tested: ModelUnderTest, component: str, layers: Sequence[int], noisy: bool = False):
        noises = drawn_by_hand(tested, "s3") if noisy else None
        self.pair = PairByHand(tested, [component], layers, tested.ids if noisy else None, noises)
        self.component, vocab = component, tested.model.vocab_size
        first, other = self.pair.target, self.pair.foil
        more = [(first + 5 * i + 1) % vocab for i in range(4)]
        self.target: Answer = (first, more[0], more[1])
        self.apart: Answer = (other, more[2])  # what is run behind the prompt is another for it
        self.shared: Answer = (first, more[3])  # parts from the target in its last token
        if more[0] == more[3] or first == other:
            raise DoesNotApply("the vocabulary is too small for two answers")

    def logprobs(self, answer: Answer, direction: str, layer: int | None, at: int) -> np.ndarray:
        """Of an answer, by sample, with one position of a layer patched; layer None: nothing is."""
        pair, total = self.pair, np.zeros(len(self.pair.noises))
        for sample, noise in enumerate(pair.noises):
            base, values = pair.corrupted, pair.clean_activations
            if direction == "noise":
                base, values, noise = pair.clean, pair.corrupted_activations[sample], None
            writes = []
            if layer is not None:
                writes = [Write(self.component, layer, [at], values[self.component, layer], [at])]
            logits = pair.by_hand.run([*base, *answer[:-1]], writes, noise)[0]
            for token, row in zip(answer, logits[len(base) - 1 :], strict=True):
                total[sample] += row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
        return total

    def check_gap(self, *answers: Answer) -> None:
        """DoesNotApply where the first answer, or it against the other, is hardly another in the two runs."""
        clean, corrupted = (
            [self.logprobs(answer, direction, None, 0).mean() for answer in answers]
            for direction in ("noise", "denoise")
        )
        gaps = [clean[0] - corrupted[0]]
        if len(answers) > 1:
            gaps.append(clean[0] - clean[1] - corrupted[0] + corrupted[1])
        if min(map(abs, gaps)) < LEAST_GAP:
            raise DoesNotApply("the answers depend on next to nothing of the tokens that were changed")


@law("answers of several tokens, by hand", "a target or a foil of several tokens, and answers=")
def whole_answers(tested: ModelUnderTest) -> Measurement:
    """Log-probabilities of answers that part at once, and in their last token, both ways; with noise; added up."""
    if not tested.sweep.chosen.causal:
        raise DoesNotApply("this model looks at later tokens")
    layers = tested.middle_last()
    component = tested.components_in_all(["resid_post", "mlp", "attn"], layers)[0]
    forced = _Forced(tested, component, layers)
    errors = [
        _against(forced, forced.apart, layers[-1:], "denoise"),
        _against(forced, forced.shared, layers[:1], "noise"),
        _added(forced, layers[0]),
        _with_noise(_Forced(tested, component, layers[:1], True), layers[0]),
    ]
    return Measurement(max(errors), tested.limit)


def _against(forced: _Forced, foil: Answer, layers: Sequence[int], direction: str) -> float:
    """The target's log-probability, and it less the foil's, at each layer and position."""
    forced.check_gap(forced.target, foil)
    found = forced.pair.experiment(
        forced.component,
        layers=layers,
        positions="each",
        direction=direction,
        metric=["logprob", METRICS[1]],
        target=forced.target,
        foil=foil,
    )
    errors = []
    for i, layer in enumerate(layers):
        for at in AT:
            ours, theirs = (forced.logprobs(a, direction, layer, at)[0] for a in (forced.target, foil))
            errors += [found.raw[0, i, at] - ours, found.raw[1, i, at] - (ours - theirs)]
    tokens = len(forced.target) + len(foil)
    return float(np.abs(errors).max()) / (tokens * max(forced.pair.scale, 1.0))


def _added(forced: _Forced, layer: int) -> float:
    """The probabilities of two answers that are right, one of them of one token, together."""
    right = [forced.target, forced.apart[:1]]
    options = {"layers": layer, "positions": AT[:1], "metric": "prob", "target": None, "foil": None}
    clean, corrupted, patched = (
        float(np.exp([forced.logprobs(answer, direction, at, AT[0])[0] for answer in right]).sum())
        for direction, at in (("noise", None), ("denoise", None), ("denoise", layer))
    )
    largest = max(clean, corrupted, patched)
    if abs(clean - corrupted) < LEAST_GAP * largest:
        return 0.0
    found = forced.pair.experiment(forced.component, answers=right, **options)
    error = max(abs(found.raw.item() - patched), abs(found.clean - clean))
    return error / forced.pair.probability_scale(largest) / len(forced.target)


def _with_noise(forced: _Forced, layer: int) -> float:
    """A causal trace of the target: the mean over the samples of the product of its tokens' probabilities."""
    pair, at = forced.pair, AT[1]
    if forced.component != "resid_post":  # which is what a trace restores
        return 0.0
    found = pair.model.causal_trace(
        list(pair.clean),
        SUBJECT,
        samples=SAMPLES,
        seed=NOISE_SEED,
        positions=[at],
        target=list(forced.target),
        progress=False,
    )
    runs = (
        (found.high_score, forced.logprobs(forced.target, "noise", None, at)[:1]),
        (found.low_score, forced.logprobs(forced.target, "denoise", None, at)),
        (found.raw[0, layer], forced.logprobs(forced.target, "denoise", layer, at)),
    )
    largest = max(float(np.exp(right).max()) for _, right in runs)
    errors = [np.abs(np.mean(value) - np.exp(right).mean()) for value, right in runs]
    return float(max(errors)) / pair.probability_scale(largest) / len(forced.target)
