"""How well a direction tells two classes apart that it was not made of: leave-pair-out cross-validation.

    share = held_out(positive, negative)      # activations [n, D] and [m, D], a row for each prompt

One prompt of either class is left out, the direction is the difference of the means of all others, and it is right when
the positive one of the two lies further along it. Over all pairs that is the area under the ROC curve; leaving a pair
out has no bias where leaving one prompt out, and comparing with all others, has (Airola et al. 2011, Computational
Statistics and Data Analysis 55).
"""

from __future__ import annotations

import numpy as np

LEAST = 3  # prompts of either class without which nothing is left to make a direction of and to say something about
ROUNDING = 1e-12  # of the largest term: sums in float64 are no more exact, so that these are ties


def held_out(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """The share of pairs of a positive and a negative row that a direction of the other rows puts in their order.

    Ties count half. None where a class has fewer than three rows. Give each prompt's row once: a copy of the row that
    is left out would be among the others.
    """
    if min(len(positive), len(negative)) < LEAST:
        return None
    centre = np.concatenate([positive, negative]).mean(0)  # it changes no difference, and keeps digits
    p, n = positive - centre, negative - centre
    a, b = _means_of_others(p), _means_of_others(n)
    # (a_i - b_j) . (p_i - n_j), for all pairs at once
    terms = [(a * p).sum(1)[:, None], -a @ n.T, -p @ b.T, (b * n).sum(1)[None]]
    found = terms[0] + terms[1] + terms[2] + terms[3]
    tied = np.abs(found) <= ROUNDING * max(np.abs(term).max() for term in terms)
    return float(np.where(tied, 0.5, found > 0).mean())


def _means_of_others(rows: np.ndarray) -> np.ndarray:
    """For each row the mean of all others."""
    return (rows.sum(0) - rows) / (len(rows) - 1)
