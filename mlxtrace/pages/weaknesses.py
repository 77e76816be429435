"""What a reviewer would object to: where results are weak, and what they do not show.

for sentence in weaknesses(results, [asked_of(one) for one in results]): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .asked import Asked, questions_of

SMALL = 0.2  # of probability: a corruption that lowers the answer by less leaves a gap of which percent mean little
UNSURE = 0.5  # of the clean answer's probability
SURE = 0.99
LEAST = {
    "prob": SMALL,
    "prob_diff": SMALL,
    "logit": 1.0,
    "logit_diff": 1.0,
    "logprob": 1.0,
    "kl": 0.1,
}  # of a gap
FEW = 10  # pairs
WIDE = 1 / 3  # of the layers: a window that spans more says little about where
FAITHFUL = 0.8
BEYOND = 115.0  # percent


def weaknesses(results: Sequence[Any], asked: Sequence[Asked]) -> list[str]:
    """What is weak in some results, and what they cannot show, as sentences.

    Args:
        results: what experiments returned.
        asked: what each is of, an `Asked`.

    Returns:
        Sentences, the most serious first; none twice.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.pages.asked import asked_of
        >>> from mlxtrace.pages.weaknesses import weaknesses
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> result = InterpretableModel("demo").activation_patching(*prompts, window=8, progress=False)
        >>> [said for said in weaknesses([result], [asked_of(result)]) if "8 layers" in said] != []
        True
    """
    found, more = [], []
    for one in questions_of(asked):
        found += [*_of_answers(one), *_of_gaps(one)]
        more += [*_of_pairs(one), *_of_runs(one)]
    for result, one in zip(results, asked, strict=True):
        found += [*_of_layers(result), *_of_numbers(result, one)]
    return list(dict.fromkeys([*found, *more, *_of_all(results, asked)]))


# ---- the corruption


def _of_answers(asked: Asked) -> list[str]:
    found, by_role = [], {said.role: said for said in asked.answers}
    answer, foil = by_role.get("answer"), by_role.get("foil")
    if answer and foil and answer.text and answer.text == foil.text:
        found.append(
            f"Both runs have the same answer, {answer.words}: the corruption does not change what the model says, "
            "so there is little for a patch to bring back, whatever the percentages. Choose a corrupted prompt "
            "with another answer."
        )
    if not answer or answer.clean is None or answer.corrupted is None:
        return found
    over = " on average" if asked.pairs else ""
    if answer.clean < UNSURE:
        found.append(
            f"The model is unsure of {answer.words} even in the clean run (probability {answer.clean:.2g}{over}): "
            "what is located may be a guess rather than something that it knows."
        )
    drop, ends = (
        answer.clean - answer.corrupted,
        f"{answer.clean:.3g} clean, {answer.corrupted:.3g} corrupted{over}",
    )
    if drop < SMALL and answer.clean >= UNSURE:
        found.append(
            f"The corruption leaves the answer {answer.words} in place (probability {ends}): there is little to bring "
            "back, and what is measured may be something else that the prompts differ in. Choose a corrupted prompt "
            "with another answer."
        )
    elif drop < SMALL:
        found.append(
            f"The corruption takes little of the answer's probability ({ends}): it leaves little to explain."
        )
    return found


def _of_gaps(asked: Asked) -> list[str]:
    found = []
    for gap in asked.gaps:
        if abs(gap.size) < LEAST.get(gap.metric, 0.0):
            found.append(
                f"The gap that counts as 100 % is small: {gap.metric} is {gap.clean:.3g} in the clean and "
                f"{gap.corrupted:.3g} in the corrupted run."
            )
        if gap.half == gap.half and gap.half > abs(gap.size) / 2:
            found.append(
                f"The pairs hardly agree on the gap itself: {gap.metric} differs by {gap.size:.3g} ± "
                f"{gap.half:.2g} (95 %)."
            )
    return found


def _of_runs(asked: Asked) -> list[str]:
    """What the two runs are, however large the gap between them is."""
    found = []
    for gap in asked.gaps:
        if gap.metric == "prob" and gap.clean > SURE and gap.corrupted < 1 - SURE:
            found.append(
                "Probabilities saturate: the answer goes from almost 1 to almost 0, so that a patch seems to do "
                "all or nothing. A difference of logits (--metric logit_diff) grades what this metric cannot."
            )
    if asked.noise:
        found.append(
            "The corrupted run has noise on embeddings, which the model never met in training; another subject in "
            "its place can give other sites (Zhang and Nanda 2023, section 3). Numbers are means over the samples "
            "of one seed."
        )
    if asked.tokens and asked.corrupted_tokens and len(asked.tokens) != len(asked.corrupted_tokens):
        found.append(
            f"The prompts have {len(asked.tokens)} and {len(asked.corrupted_tokens)} tokens: only the positions "
            "that answer to each other were patched, and positions shift behind the difference."
        )
    return found


def _of_pairs(asked: Asked) -> list[str]:
    n = len(asked.pairs)
    if n == 0 and asked.clean:
        return [
            "One prompt: there is no interval, and what holds here may not hold for another. A set of pairs tells."
        ]
    if 0 < n < FEW:
        return [
            f"{n} pair{'s' if n > 1 else ''}: too few for the 95 % intervals, which suppose many, and for a claim "
            "about prompts of this kind."
        ]
    return []


# ---- the numbers


def _of_numbers(result: Any, asked: Asked) -> list[str]:
    found, settings = [], getattr(result, "settings", None) or {}
    if settings.get("approximate") or getattr(result, "approximate", False):
        method = settings.get("approximate") or getattr(result, "method", "gradients")
        found.append(
            f"Some numbers are estimates by gradients ({method}), not measured: verify the strongest by patching."
        )
    share = float(getattr(result, "real", 1.0))  # a `Faithfulness` is a number
    if share < FAITHFUL:
        found.append(
            f"The circuit is not faithful: with it alone {100 * share:z.0f} % of the gap is left. It is no "
            "explanation of what the model does; take more edges, and see the curve."
        )
    if hasattr(result, "missed_bound") and result.verify < result.live:
        found.append(
            f"The screen ran {len(result.rows)} of {result.live} cells exactly; with 95 % confidence up to "
            f"{result.missed_cells} of those that were not verified may be stronger than the tenth strongest."
        )
    if hasattr(result, "recovery") and hasattr(result, "no_effect") and hasattr(result, "interval"):
        found += _of_recoveries(result, bool(asked.pairs))
    return found


def _of_recoveries(result: Any, many: bool) -> list[str]:
    found, values = [], np.asarray(result.recovery)
    if many:
        halves = np.asarray(result.interval)
        moved = np.abs(values - result.no_effect)
        told = np.isfinite(halves) & (moved > 5)
        covering = told & (halves >= moved)
        if covering.any():
            found.append(
                f"In {int(covering.sum())} of the {int(told.sum())} cells that moved by more than 5 % "
                f"({_named(result)}) the 95 % interval covers no effect; and each cell has an interval of its own: "
                "of a hundred cells without any effect about five seem to have one."
            )
    if not hasattr(result, "direction"):
        return found
    if np.nanmax(values, initial=0) > BEYOND or np.nanmin(values, initial=0) < 100 - BEYOND:
        found.append(
            f"Some recoveries lie outside 0 to 100 % ({_named(result)}: {np.nanmin(values):z.0f} to "
            f"{np.nanmax(values):z.0f} %). They are no shares that add up: cells overshoot, work against the "
            "answer, or do the same work twice."
        )
    return found


def _named(result: Any) -> str:
    """Which result is meant: what was patched in it, and which way."""
    if not hasattr(result, "direction"):
        return "difference"
    return f"{', '.join(result.components)}; {'corrupting' if result.direction == 'noise' else 'restoring'}"


def _of_layers(result: Any) -> list[str]:
    window, depth = getattr(result, "window", 1), _depth(result)
    if depth and window > 1 and window > depth * WIDE:
        return [
            f"A window of {window} layers spans {'all' if window >= depth else f'{window} of'} the {depth} layers: "
            f"it says little about where in depth something happens. Try a window of {max(2, round(depth * 0.2))}."
        ]
    return []


def _depth(result: Any) -> int:
    """The number of layers, as far as a result knows it."""
    coords = getattr(result, "coords", None) or {}
    if coords.get("layer"):
        return int(max(coords["layer"])) + 1
    if hasattr(result, "noise_level"):
        return int(result.raw.shape[1])
    layers = getattr(result, "layers", None)
    return int(max(layers)) + 1 if isinstance(layers, list) and layers else 0


# ---- what was not run


def _of_all(results: Sequence[Any], asked: Sequence[Asked]) -> list[str]:
    found = []
    directions = {one.direction for one in asked if one.direction}
    if directions == {"denoise"}:
        found.append(
            "Only restoring was run: it shows what suffices to bring the answer back, not what the model needs. "
            "Sites that back each other up are found by restoring and missed by corrupting, and the other way "
            "round."
        )
    if directions == {"noise"}:
        found.append(
            "Only corrupting was run: it shows what the model needs, not what suffices to bring the answer back."
        )
    components = {name for result in results for name in getattr(result, "components", ())}
    if any(name.startswith("resid") for name in components):
        found.append(
            "In maps of layer outputs the last token of the last layer is 100 % (or 0 %, corrupting) by "
            "construction, and so nearly are the changed tokens of the first layers, taken together: nothing has "
            "been read from them yet. Only the way between them is a finding."
        )
    names = {one.model.partition(" ")[0] for one in asked}
    if "demo" in names:
        found.append(
            "The demo's circuit was planted by its training, so that there is a truth to find: nothing here "
            "carries over to other models."
        )
    if "induction" in names:
        found.append(
            "The bundled induction model is small and was trained on made-up sequences: nothing here carries over to "
            "other models."
        )
    if any(name.startswith("compiled") for name in names):
        found.append(
            "The compiled model's weights were written by hand: its answer is known, and it is no trained model."
        )
    return found
