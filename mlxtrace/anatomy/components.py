"""The one table of components: what can be read and written in a layer, and everything that is said of it elsewhere.

A component is added by an entry here and a function in `finders.py` that says where it is in a layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import InputError, SiteError, closest

Stage = Literal["input", "mixer", "output"]
Heads = Literal["query", "key-value"]
Colour = Literal["resid", "attn", "mlp"]

GLOBAL_SITES = ("embed", "norm", "logits")  # sites without a layer


@dataclass(frozen=True)
class Component:
    """One kind of place in a layer.

    Attributes:
        name: as users write it. aliases: what else they may write.
        stage: when in a layer it is written. "input": before tokens are mixed, so that a change reaches every later
            token in this very layer; "mixer": after the mixing and before the MLP has run; "output": at the MLP's
            end or after it, so that in the last layer no position but the last can matter.
        words: in titles. short: in the titles of causal traces, where there is little room.
        colour: family of colours in figures and tables; "resid" is the residual stream itself.
        heads: None, or which heads it is split by.
    """

    name: str
    stage: Stage
    words: str
    colour: Colour
    heads: Heads | None = None
    aliases: tuple[str, ...] = ()
    short: str = ""

    def __post_init__(self):
        known = self.stage in get_args(Stage) and self.colour in get_args(Colour)
        if not known or self.heads not in (None, *get_args(Heads)) or not (self.name and self.words):
            raise TypeError(
                f"the component {self.name!r} needs a stage, words, a colour family and its heads"
            )


_TABLE = (  # in the order of the stream
    Component("resid_pre", "input", "layer input", "resid"),
    Component("q", "mixer", "queries", "attn", "query"),
    Component("k", "input", "keys", "attn", "key-value"),
    Component("v", "input", "values", "attn", "key-value"),
    Component("pattern", "mixer", "attention pattern", "attn", "query"),
    Component("head", "mixer", "attention heads", "attn", "query"),
    Component("attn", "mixer", "attention output", "attn", aliases=("self_attn",), short="attention"),
    Component("resid_mid", "mixer", "residual stream after attention", "resid"),
    Component("router", "mixer", "router logits", "mlp"),
    Component("neuron", "output", "MLP neurons", "mlp"),
    Component("mlp", "output", "MLP output", "mlp", short="MLP"),
    Component("resid_post", "output", "layer output", "resid", aliases=("output",)),
)
COMPONENTS: dict[str, Component] = {c.name: c for c in _TABLE}
ALIASES: dict[str, str] = {alias: c.name for c in _TABLE for alias in c.aliases}
HEADED: tuple[str, ...] = tuple(c.name for c in _TABLE if c.heads)
STREAM: tuple[str, ...] = tuple(c.name for c in _TABLE if c.colour == "resid")
KINDS: tuple[str | None, ...] = (
    None,
    "mlp",
    "attn",
)  # what a causal trace restores; None: one layer's output


def canonical(name: str) -> str:
    """A component's own name, from that name or an alias.

    Raises:
        SiteError: there is no such component, with the closest names.

    Example:
        >>> from mlxtrace.anatomy.components import canonical
        >>> canonical("output")
        'resid_post'
    """
    found = ALIASES.get(name, name) if isinstance(name, str) else None
    if found not in COMPONENTS:
        raise SiteError(
            f"unknown component {name!r}; {closest(str(name), [*COMPONENTS, *ALIASES])}"
            f" (all: {', '.join(COMPONENTS)})"
        )
    return found


def centre_of(window: int, known: int, words: str = "") -> str:
    """What an axis of layers is called, of which so many are known, where each stands for a window around it.

    Example:
        >>> from mlxtrace.anatomy.components import centre_of
        >>> centre_of(3, 12), centre_of(40, 12, "restored MLP")
        ('centre of 3 layers', 'layer amid all 12 restored MLP layers or most of them')
    """
    words = f"{words} layers".strip()
    return (
        f"centre of {window} {words}"
        if window <= known
        else f"layer amid all {known} {words} or most of them"
    )


def published_window(n_layers: int) -> int:
    """How many layers are restored together: the published 10 of 48 (Meng et al. 2022) at another depth, 1 at least.

    Example:
        >>> from mlxtrace.anatomy.components import published_window
        >>> [published_window(n) for n in (2, 12, 24, 32, 48, 80)]
        [1, 3, 5, 7, 10, 17]
    """
    return max(1, (2 * 10 * n_layers + 48) // (2 * 48))  # the nearest; a half is one more


def wide_window(window: int, n_layers: int) -> str:
    """What is to be said of a window that spans most of a model; "" of others.

    Example:
        >>> from mlxtrace.anatomy.components import wide_window
        >>> wide_window(10, 12), wide_window(10, 48)
        ("a window of 10 spans most of this model's 12 layers; the published one, 10 of 48, is 3 of 12", '')
    """
    published = published_window(n_layers)
    if window <= max(published, n_layers / 2):
        return ""
    spans = "all" if window >= n_layers else "most"
    return (
        f"a window of {window} spans {spans} of this model's {n_layers} layers; the published one, 10 of 48, is "
        f"{published} of {n_layers}"
    )


def window_of(layer: int, window: int, n_layers: int) -> range:
    """The layers patched together: `[l - w//2, l + ceil(w/2))`, cut at the edges (Meng et al. 2022, app. B)."""
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


def window_by_component(window: Any, components: Iterable[str], n_layers: int) -> dict[str, Any]:
    """The window of each component: one for all, "auto" (as published, of MLP and attention only), or some by name.

    Raises:
        InputError: a name is none of the components.

    Example:
        >>> from mlxtrace.anatomy.components import window_by_component
        >>> window_by_component("auto", ["mlp", "resid_post"], 12), window_by_component({"mlp": 2}, ["mlp", "head"], 12)
        ({'mlp': 3, 'resid_post': 1}, {'mlp': 2, 'head': 1})
    """
    components = list(components)
    if isinstance(window, str) and window == "auto":
        return {name: published_window(n_layers) if name in KINDS else 1 for name in components}
    if not isinstance(window, Mapping):
        return dict.fromkeys(components, window)
    named = {ALIASES.get(name, name): value for name, value in window.items()}
    if stray := [name for name in named if name not in components]:
        raise InputError(
            f"window={dict(window)!r}: {stray[0]!r} is not patched; {closest(str(stray[0]), components)}"
        )
    return {name: named.get(name, 1) for name in components}


def complete(found: Iterable[str]) -> None:
    """Check that there is one finder per component; TypeError names those that are missing or too many."""
    if odd := COMPONENTS.keys() ^ set(found):
        raise TypeError(f"each component has one entry in the table and one finder, unlike {sorted(odd)}")


def short_words(name: str | None) -> str:
    """What the titles of causal traces call a component: "MLP"; None is a single layer's output.

    Example:
        >>> from mlxtrace.anatomy.components import short_words
        >>> short_words("mlp"), short_words(None)
        ('MLP', 'layer output')
    """
    component = COMPONENTS[name or "resid_post"]
    return component.short or component.words
