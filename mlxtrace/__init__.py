"""Causal tracing and activation patching for every language model that mlx-lm runs."""

import sys

from . import terminal

terminal.catch_interrupts_while_importing()

from . import blas  # noqa: E402

blas.preload()

from . import compiled, errors, interactive, interventions, metrics, plotting, prompts  # noqa: E402
from .anatomy.resolver import ModuleResolver  # noqa: E402
from .arguments import spans  # noqa: E402
from .engine.corruption import GaussianNoise, Substitution  # noqa: E402
from .forward.cache import ActivationCache  # noqa: E402
from .model import InterpretableModel  # noqa: E402
from .pages.report import report  # noqa: E402
from .prompts import facts  # noqa: E402
from .results.attribution_result import AttributionResult, AttributionSet, PatchingResult, PatchingSet  # noqa: E402
from .results.average_trace import AverageTrace  # noqa: E402
from .results.causal_trace_result import CausalTrace  # noqa: E402
from .results.circuit_result import Circuit, Completeness, Curve, Faithfulness  # noqa: E402
from .results.comparison_set import Comparison, ComparisonSet  # noqa: E402
from .results.direction import Direction  # noqa: E402
from .results.edges_result import Edges  # noqa: E402
from .results.effects_set import CausalEffects, EffectsSet  # noqa: E402
from .results.logit_lens_result import LogitLens  # noqa: E402
from .results.noising_window_set import NoisingWindow, NoisingWindowSet  # noqa: E402
from .results.patching_difference import PatchingDifference  # noqa: E402
from .results.patchscope_result import Patchscope, PatchscopeMap  # noqa: E402
from .results.path_set import PathResult, PathSet  # noqa: E402
from .results.screened import Screened  # noqa: E402
from .version import VERSION  # noqa: E402

__version__ = VERSION
sys.modules[f"{__name__}.facts"] = facts  # its home is `prompts`, its public name mlxtrace.facts
__all__ = [
    "ActivationCache",
    "AttributionResult",
    "AttributionSet",
    "AverageTrace",
    "CausalEffects",
    "CausalTrace",
    "Circuit",
    "Comparison",
    "ComparisonSet",
    "Completeness",
    "Curve",
    "Direction",
    "Edges",
    "EffectsSet",
    "Faithfulness",
    "GaussianNoise",
    "InterpretableModel",
    "LogitLens",
    "ModuleResolver",
    "NoisingWindow",
    "NoisingWindowSet",
    "PatchingDifference",
    "PatchingResult",
    "PatchingSet",
    "Patchscope",
    "PatchscopeMap",
    "PathResult",
    "PathSet",
    "Screened",
    "Substitution",
    "check",
    "compiled",
    "errors",
    "facts",
    "interactive",
    "interventions",
    "metrics",
    "plotting",
    "prompts",
    "report",
    "spans",
]


def __getattr__(name: str) -> object:
    """`mlxtrace.check`, imported when it is asked for: `python -m mlxtrace.check` must be the first to run it."""
    if name == "check":
        import importlib

        return importlib.import_module(".check", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
