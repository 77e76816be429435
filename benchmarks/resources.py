"""Memory against what was asked for, and what tracing without edits costs."""

from __future__ import annotations

import mlx.core as mx

from mlxtrace import InterpretableModel
from mlxtrace.errors import InputError

from . import cases, models
from .timing import median_of, timed

FRACTIONS = (1.0, 0.5, 0.25, 0.125)


def measure(quick: bool, repeats: int) -> dict:
    """Both, on a GPT-2-small shape of 24 tokens."""
    shape = models.GPT2_TOY if quick else models.GPT2_SMALL
    model = InterpretableModel(models.mlx_model(shape, models.draw(shape)))
    case = cases.different(shape, 8 if quick else 24)
    return {"memory": memory(model, case), "tracing": tracing(model, case, 5 * repeats)}


def memory(model: InterpretableModel, case: cases.Case) -> list[dict]:
    """Peak bytes beside the weights of a map, for several bounds; the largest is what the map would take."""

    def run(bound: int | None):
        prompts = list(case.clean), list(case.corrupted)
        options = {"component": "resid_post", "positions": "each", "metric": "prob", "progress": False}
        return model.activation_patching(*prompts, **options, engine="fanout", max_memory=bound).plan

    whole, rows = run(None).bytes, []
    for fraction in FRACTIONS:
        bound = int(whole * fraction)
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        try:
            seconds, plan = timed(lambda bound=bound: run(bound))
        except InputError as error:  # less than one cell needs
            print(f"  max_memory {bound / 1e6:7.1f} MB: {error}")
            continue
        peak = mx.get_peak_memory() - before
        rows.append({"max_memory": bound, "peak": peak, "passes": plan.passes, "seconds": seconds})
        print(
            f"  max_memory {bound / 1e6:7.1f} MB: peak {peak / 1e6:7.1f} MB ({peak / bound:.0%}), "
            f"{plan.passes} passes, {seconds:.2f} s",
            flush=True,
        )
    return rows


def tracing(model: InterpretableModel, case: cases.Case, repeats: int) -> dict:
    """Seconds of a bare forward pass, of a trace without edits, and of one that keeps no activations."""
    ids = mx.array([list(case.clean)])

    def bare() -> None:
        mx.eval(model.net(ids))

    def traced(cache: bool) -> None:
        with model.trace(ids, cache=cache) as trace:
            pass
        mx.eval(trace.output)

    found = {
        "bare": median_of(bare, repeats),
        "traced": median_of(lambda: traced(True), repeats),
        "uncached": median_of(lambda: traced(False), repeats),
    }
    print(
        f"  a bare pass {found['bare'] * 1e3:.1f} ms, traced {found['traced'] / found['bare']:.2f} times that, "
        f"without keeping activations {found['uncached'] / found['bare']:.2f} times",
        flush=True,
    )
    return found
