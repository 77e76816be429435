"""The laws of a model's arithmetic: rows do not change each other, quantized weights are their dequantized values."""

from __future__ import annotations

import copy

from ..engine import memory
from ..loading import cast
from .law import DoesNotApply, Measurement, law, relative_error
from .model_under_test import ModelUnderTest


@law("quantized weights act as their dequantized values", "this quantized model compared with a float one")
def quantized(tested: ModelUnderTest) -> Measurement:
    """The same weights dequantized, in the precision in which the model computes."""
    if not tested.model.is_quantized:
        raise DoesNotApply("the weights are not quantized")
    if tested.resolver.group is not None:
        raise DoesNotApply("not measured on a sharded model: MLX dequantizes whole layers only")
    packed = [m for m in tested.net.modules() if hasattr(m, "bits") and "scales" in m]
    if 4 * sum(8 / m.bits * m.weight.nbytes for m in packed) > memory.default_memory():
        raise DoesNotApply("a dequantized copy does not fit the memory")
    dequantized = cast(copy.deepcopy(tested.net), tested.tolerance.dtype)
    error = relative_error(tested.plain(tested.ids, dequantized), tested.base.output)
    return Measurement(error, 2 * tested.limit)  # both sides round


@law(
    "logits do not depend on the rows beside them",
    "any number of a batch: the rows of this model's batches change each other",
)
def rows_are_independent(tested: ModelUnderTest) -> Measurement:
    """How far logits move with the batch's shape and order: the worst row's to the cap, the median's to rounding."""
    floor, tolerance = tested.tolerance.floor, tested.tolerance
    if floor.typical > tolerance.least:
        note = f"not rounding: half of all rows move; {tolerance.describe()}"
        return Measurement(floor.typical, tolerance.least, note)
    return Measurement(floor.most, tolerance.cap)
