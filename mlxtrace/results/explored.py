"""What results with a figure can do: be looked around in, with the function of `interactive` that draws them."""

from __future__ import annotations

import inspect
import os
from typing import Any

from .. import interactive
from ..errors import InputError, UnsupportedError

FIGURES = {  # by the name of the class, or of one that it derives from: the function of `interactive`
    "AverageTrace": "averages",
    "CausalEffects": "effects",
    "CausalTrace": "trace",
    "Circuit": "circuit",
    "Comparison": "comparison",
    "ComparisonSet": "compared_averages",
    "Curve": "curve",
    "Edges": "edges",
    "LogitLens": "lens",
    "NoisingWindow": "noising",
    "PatchingDifference": "differences",
    "PatchingResult": "recoveries",
    "Patchscope": "patchscope",
    "PatchscopeMap": "patchscope_map",
    "PathResult": "paths",
    "Screened": "screen",
}


def figure_of(kind: type) -> str | None:
    """The function of `interactive` that draws a class of results; None where there is none."""
    return next((FIGURES[base.__name__] for base in kind.__mro__ if base.__name__ in FIGURES), None)


class Explored:
    """Base of results: those with a figure have one to look around in."""

    def explore(self, path: str | os.PathLike | None = None, **options: Any) -> Any:
        """The figure to look around in: hovering says token, layer, head, value and interval.

        Args:
            path: an .html file to write as well, which needs no network.
            options: what the drawing takes: `metric` of recoveries; `rows` ("auto", "all" or a range) of maps with
                tokens; `heads` ("auto", "all" or a list) where there are many; `of` of a logit lens; `most` edges of
                circuits and paths.

        Returns:
            A plotly Figure, which a notebook shows as a cell's last line.

        Raises:
            InputError: for an option that this result has not, or a path that cannot be written, before drawing.
            UnsupportedError: without plotly: pip install plotly.

        Example:
            >>> from mlxtrace import InterpretableModel
            >>> model = InterpretableModel("demo")
            >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
            >>> result = model.activation_patching(*prompts, positions="each", progress=False)
            >>> result.explore().data[0].z.shape == (len(result.tokens), model.n_layers)
            True
        """
        name = figure_of(type(self))
        if name is None:
            raise UnsupportedError(f"{type(self).__name__} has no figure: print it, or see to_rows()")
        draw = getattr(interactive, name)
        known = [name for name, p in inspect.signature(draw).parameters.items() if p.kind is p.KEYWORD_ONLY]
        if odd := [name for name in options if name not in known]:
            takes = ", ".join(f"{name}=" for name in known) or "no options"
            raise InputError(f"explore() of a {type(self).__name__} takes {takes}; it has no {odd[0]}=")
        return draw(self, path, **options)
