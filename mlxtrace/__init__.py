"""Causal tracing and activation patching for every language model that mlx-lm runs."""

import sys

from . import terminal

terminal.catch_interrupts_while_importing()

from . import blas  # noqa: E402

blas.preload()

from . import compiled, errors, interventions, metrics, plotting, prompts  # noqa: E402
from .anatomy.resolver import ModuleResolver  # noqa: E402
from .engine.corruption import GaussianNoise, Substitution  # noqa: E402
from .forward.cache import ActivationCache  # noqa: E402
from .model import InterpretableModel  # noqa: E402
from .prompts import facts  # noqa: E402
from .results.attribution_result import AttributionResult  # noqa: E402
from .results.average_trace import AverageTrace  # noqa: E402
from .results.causal_effects_result import CausalEffects  # noqa: E402
from .results.causal_trace_result import CausalTrace  # noqa: E402
from .results.direction import Direction  # noqa: E402
from .results.edges_result import Circuit, Edges  # noqa: E402
from .results.logit_lens_result import LogitLens  # noqa: E402
from .results.patching_result import PatchingResult  # noqa: E402
from .results.patchscope_result import Patchscope, PatchscopeMap  # noqa: E402
from .results.path_result import PathResult  # noqa: E402
from .results.screened import Screened  # noqa: E402
from .version import VERSION  # noqa: E402

__version__ = VERSION
sys.modules[f"{__name__}.facts"] = facts  # its home is `prompts`, its public name mlxtrace.facts
__all__ = [
    "ActivationCache",
    "AttributionResult",
    "AverageTrace",
    "CausalEffects",
    "CausalTrace",
    "Circuit",
    "Direction",
    "Edges",
    "GaussianNoise",
    "InterpretableModel",
    "LogitLens",
    "ModuleResolver",
    "PatchingResult",
    "Patchscope",
    "PatchscopeMap",
    "PathResult",
    "Screened",
    "Substitution",
    "check",
    "compiled",
    "errors",
    "facts",
    "interventions",
    "metrics",
    "plotting",
    "prompts",
]


def __getattr__(name: str) -> object:
    """`mlxtrace.check`, imported when it is asked for: `python -m mlxtrace.check` must be the first to run it."""
    if name == "check":
        import importlib

        return importlib.import_module(".check", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
