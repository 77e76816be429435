"""How exactly the numbers of a model can be compared on this machine: by how far its own logits move.

    close(found, right, model)                       # logits, relative to the largest
    close(found, right, model, of="probability")

The same prompt gives other last bits in a batch of another size, or in another row of it: how many depends on the
model, the kernels of the BLAS and its threads. This noise floor is measured, and ten times as much is allowed, though
never less than the rounding that was seen everywhere. A floor above the cap fails: then nothing could be told from the
numbers, and a comparison that passed would mean nothing.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlxtrace.anatomy.recording import forward
from mlxtrace.metrics import softmax

FIRST = [3, 17, 40, 41, 52, 60, 77, 8, 9]
SECOND = [3, 17, 90, 91, 52, 60, 77, 8, 9]
BATCHES = ([0], [1], [0, 0], [0, 1], [1, 0], [1, 0, 0], [0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1, 1])
FACTOR = 10
CAP = {"logit": 1e-4, "probability": 1e-5}  # of the floor: relative to the largest logit; absolute
LEAST = {"logit": 2e-5, "probability": 1e-6}


def floor(model, of: str = "logit") -> float:
    """The largest change of a row's last-position logits (relative) or probabilities with the batch around it."""
    measured = model.__dict__.setdefault("_noise_floor", {})
    if not measured:
        measured |= _measure(model.net)
    return measured[of]


def _measure(net) -> dict[str, float]:
    rows: tuple[list, list] = ([], [])
    for batch in BATCHES:
        logits = forward(net, mx.array([(FIRST, SECOND)[i] for i in batch]))[:, -1].astype(mx.float32)
        for i, row in zip(batch, np.array(logits, np.float64), strict=True):
            rows[i].append(row)
    kept = [
        np.stack(same)[:, np.isfinite(same[0])] for same in rows
    ]  # without tokens that the model rules out
    chances = [softmax(same) for same in kept]
    return {
        "logit": max(float(np.ptp(same, axis=0).max() / np.abs(same).max()) for same in kept),
        "probability": max(float(np.ptp(same, axis=0).max()) for same in chances),
    }


def allowed(model, of: str = "logit", least: float | None = None) -> float:
    """How far two computations of one number may lie apart; an AssertionError when the floor is above its cap."""
    found = floor(model, of)
    assert found <= CAP[of], (
        f"{model!r}: its own {of} moves by {found:.2g} with the batch's shape, above the {CAP[of]:.0e} up to which "
        "numbers can be compared: nothing could be told from this test here"
    )
    return max(LEAST[of] if least is None else least, FACTOR * found)


def close(found, right, model, of: str = "logit", least: float | None = None) -> None:
    """Assert that arrays agree to the model's noise: relative to the largest value for logits, else absolutely."""
    found, right = (np.asarray(x, dtype=np.float64) for x in (found, right))
    tolerance = allowed(model, of, least)
    scale = max(1.0, float(np.abs(right).max(where=np.isfinite(right), initial=0))) if of == "logit" else 1.0
    said = f"{of}s, of which {model!r}'s own move by {floor(model, of):.2g} with the batch's shape"
    np.testing.assert_allclose(found, right, rtol=0, atol=tolerance * scale, err_msg=said)
