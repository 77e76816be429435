"""Causal tracing and activation patching for every language model that mlx-lm runs."""

from . import terminal

terminal.catch_interrupts_while_importing()

from . import blas  # noqa: E402

blas.preload()

from . import errors, facts, interventions, metrics, plotting  # noqa: E402
from .averages import AverageTrace  # noqa: E402
from .cache import ActivationCache  # noqa: E402
from .corruption import GaussianNoise, Substitution  # noqa: E402
from .mediation import CausalEffects  # noqa: E402
from .model import InterpretableModel  # noqa: E402
from .resolver import ModuleResolver  # noqa: E402
from .results import PatchingResult  # noqa: E402
from .tracing import CausalTrace  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "ActivationCache",
    "AverageTrace",
    "CausalEffects",
    "CausalTrace",
    "GaussianNoise",
    "InterpretableModel",
    "ModuleResolver",
    "PatchingResult",
    "Substitution",
    "check",
    "errors",
    "facts",
    "interventions",
    "metrics",
    "plotting",
]


def __getattr__(name: str) -> object:
    """`mlxtrace.check`, imported when it is asked for: `python -m mlxtrace.check` must be the first to run it."""
    if name == "check":
        import importlib

        return importlib.import_module(".check", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
