"""How experiments are called, for a type checker: `pyright` finds no error here (see `test_activation_patching`)."""

from typing import assert_type

from mlxtrace import CausalEffects, CausalTrace, GaussianNoise, InterpretableModel, PatchingResult
from mlxtrace.engine.plan import Plan

model = InterpretableModel("demo")
clean, corrupted = "The Eiffel Tower is in the city of", "The Statue of Liberty is in the city of"
result = model.activation_patching(clean, corrupted, "mlp", positions="each", metric=["prob", "kl"])
assert_type(result, PatchingResult)
result.plot("map.png")
assert_type(model.activation_patching(clean, GaussianNoise("Eiffel Tower"), plan_only=True), Plan)
assert_type(model.activation_patching(model.prompt(clean), [1, 2, 3], plan_only=False), PatchingResult)
print(model.activation_patching(clean, corrupted, plan_only=True).passes)

trace = model.causal_trace(clean, "Eiffel Tower", kind="mlp")
assert_type(trace, CausalTrace)
trace.plot()
assert_type(model.causal_trace(clean, range(1, 3), plan_only=True), Plan)
assert_type(model.causal_effects(corrupted, clean), CausalEffects)
model.noising_window(clean, window=3).plot()
model.compare_bits(clean, "Eiffel Tower", 4).first.plot()
model.compare_bits([clean, clean], "Eiffel Tower", 4).interval.max()


def either(plan_only: bool) -> PatchingResult | Plan:
    return model.activation_patching(clean, corrupted, plan_only=plan_only)
