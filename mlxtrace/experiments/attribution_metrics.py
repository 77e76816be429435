"""Metrics that gradients are taken of, for estimates: which there are, and that they are not flat where it counts.

metric = checked_metric("logit_diff", "ig", "denoise")      # InputError for one that a method says nothing of
gradient = slope_at(measured, 0, "ig", "denoise", logits)   # what is differentiated
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import metrics
from ..custom_metric import in_both
from ..engine.attribution import METHODS, Measure
from ..errors import InputError, closest
from .answers import several
from .whole_slopes import slope

__all__ = ["check_method", "checked_metric", "metrics", "several", "slope", "slope_at"]


def check_method(method: Any) -> None:
    """InputError for a method that there is not."""
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"method={method!r} is unknown; {closest(str(method), METHODS)}: one of {', '.join(METHODS)}"
        )


def checked_metric(metric: Any, method: str, direction: str) -> Any:
    """The metrics, functions made ready for both kinds of array; InputError for those that have no gradient to use."""
    wanted = [_checked(one, method, direction) for one in several(metric)]
    return wanted if isinstance(metric, list | tuple) else wanted[0]


def _checked(metric: Any, method: str, direction: str) -> Any:
    """A metric, a function made ready for both kinds of array; InputError for one that has no gradient to use."""
    if callable(metric) and not isinstance(metric, metrics.Metric):
        if getattr(metric, "every_position", False):
            raise InputError(
                "attribution differentiates the last position's logits: a metric of every one has no place"
            )
        return in_both(metric)
    if not isinstance(metric, str) or metric not in metrics.METRICS:
        return "logprob" if isinstance(metric, str) and metric == "auto" and method == "ig" else metric
    kind = metrics.METRICS[metric]
    if kind.gradient is None:
        known = [name for name, one in metrics.METRICS.items() if one.gradient is not None]
        raise InputError(f"{metric} has no gradient to estimate with; use one of {', '.join(known)}")
    if method == "ig" and metric.startswith("prob"):
        raise InputError(
            f"method='ig' with {metric}: on the way from one run to the other a probability is near 0 or 1 most of the "
            "time, and estimates were off by hundreds of times the largest effect; use logprob or logit_diff"
        )
    if method != "ig" and direction == "noise" and "clean" in kind.needs:
        raise InputError(
            f"{metric} compares with the clean run, which direction='noise' patches: it is flat there, and every "
            "estimate would be 0. Use direction='denoise', method='ig', or a metric of answers"
        )
    return metric


def slope_at(measured: Any, number: int, method: str, direction: str, where: np.ndarray) -> Measure:
    """What is differentiated of a metric; InputError when "auto" became one that cannot be, or it is flat."""
    metric = measured.metrics[number]
    if metric.name in metrics.METRICS:
        _checked(metric.name, method, direction)
    gradient = slope(measured, number)
    if gradient is None:
        raise InputError(f"metric {metric.name} has no gradient to estimate with")
    metrics.check_gradient(metric.name, gradient, where)
    return gradient
