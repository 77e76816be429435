# %% [markdown]
# # Tutorial 4: causal mediation, what carries the difference between two prompts
#
#     python tutorials/04_causal_mediation.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
# from the hub:
#
#     python tutorials/04_causal_mediation.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
#
# The experiments are those of the nnsight tutorials on causal mediation, in this package's words. Opened as a notebook
# (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.

# %%
import sys
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace.errors import MlxtraceError

# A notebook's kernel has arguments of its own.
given = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
FOLDER = Path(given[0] if given else "tutorial-figures")
MODEL = given[1] if len(given) > 1 else "demo"
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(MODEL)
QUIET = {"progress": False}


def claim(sentence: str, holds: bool) -> None:
    """Says whether a sentence of this page holds here. It was written about the demo: there it has to."""
    print(f"{'holds' if holds else 'does not hold here'}: {sentence}")
    assert holds or MODEL != "demo", sentence


def having(component: str) -> list[int]:
    """The layers that have such a component: not every architecture has all of them."""
    return [i for i in range(model.n_layers) if f"layers.{i}.{component}" in model.resolver.sites()]


# %% [markdown]
# ## 1. Total, direct, indirect
#
# The base run is patched; the source run gives the activations. Three questions about a component:
#
# - **total**: what does changing the prompt do to the answer?
# - **direct**: base prompt, the component as in the source run: does it bring the source's answer? (is it enough?)
# - **indirect**: source prompt, the component as in the base run: does the source's answer go? (is it needed?)

# %%
BASE, SOURCE = "The Eiffel Tower is located in", "The Colosseum is located in"
KINDS = [kind for kind in ("mlp", "attn") if len(having(kind)) == model.n_layers]
if "mlp" not in KINDS:
    print("MLPs are skipped: not every layer of this model has one")
try:
    found = {kind: model.causal_effects(BASE, SOURCE, kind, align="ends", **QUIET) for kind in KINDS}
except MlxtraceError as refused:
    print(f"All that follows is skipped: {model.name} cannot be asked this. {refused}")
    raise SystemExit from refused
first = found[KINDS[0]]
print(first)
first.plot(FOLDER / f"04_{KINDS[0]}.png")

# %% [markdown]
# `total` follows the tutorials: P(base answer) in the base run less P(source answer) in the source run. Two prompts
# that the model is equally sure of have a total of 0 by that, although everything changed. `change` is the textbook's:
# one and the same answer's probability, before and after.

# %%
claim(f"total {first.total:.4f}, change {first.change:.4f}", abs(first.total) < 0.1 < 0.9 < first.change)

# %% [markdown]
# ## 2. The same words in the literature
#
# Pearl (2001) and Vig et al. (2020), who brought mediation to language models, mean other things by these words. Write
# Y(prompt, z) for the probability of the source's answer when the component has the value z:
#
# - the **natural indirect effect** is Y(base, z of the source) - Y(base, z of the base): what goes *through* the
#   component. That is the number called direct above, less the base run's.
# - the **natural direct effect** is Y(source, z of the base) - Y(base, z of the base): what goes *round* it. That is
#   `change` less the number called indirect above.
#
# Both are there by these names, so that a paper can say which it means.

# %%
for kind, effects in found.items():
    assert np.allclose(effects.natural_indirect, effects.direct - effects.base_value, atol=1e-12)
    assert np.allclose(effects.natural_direct, effects.change - effects.indirect, atol=1e-12)
    print(f"{kind}: layer   direct  natural indirect   indirect  natural direct")
    for layer in range(model.n_layers):
        through, around = effects.natural_indirect[layer], effects.natural_direct[layer]
        print(
            f"{layer:>{len(kind) + 7}}{effects.direct[layer]:>9.3f}{through:>18.3f}"
            f"{effects.indirect[layer]:>11.3f}{around:>16.3f}"
        )

# %% [markdown]
# The two natural effects add up to the change only where the component and what goes round it do not need each other.
# Of all MLPs that is so of the first, which carries everything. Attention in the middle layers is different: nothing
# goes through it alone, and without it most is lost. There several layers work together.

# %%
if "mlp" in KINDS:
    whole = first.natural_indirect[0] + first.natural_direct[0]
    claim(
        f"MLP of layer 0: {first.natural_indirect[0]:.3f} through it, {first.natural_direct[0]:.3f} round it, "
        f"of {first.change:.3f}",
        abs(whole - first.change) < 0.02 and first.natural_indirect[0] > 0.9,
    )
    claim(
        f"any other MLP alone brings {first.direct[1:].max(initial=0):.4f} at most",
        first.direct[1:].max(initial=0) < 0.001,
    )
attention = found["attn"]
middle = 1 + int(attention.indirect[1:].argmax()) if model.n_layers > 1 else 0
claim(
    f"attention of layer {middle}: {attention.natural_indirect[middle]:.3f} through it alone, "
    f"{attention.natural_direct[middle]:.3f} left without it, of {attention.change:.3f}",
    attention.natural_indirect[middle] < 0.01 and attention.natural_direct[middle] < 0.2,
)
attention.plot(FOLDER / "04_attention.png")

# %% [markdown]
# ## 3. A trap: whole layers
#
# Patch the output of a whole layer, all tokens together, and every layer is perfect. It has to be so: the rest of the
# model sees nothing but that output, so the run becomes the other run. It says nothing about any layer, and the prompts
# must have equal lengths for it to be possible at all. MLPs and attentions are parts of the stream, not all of it, so
# their numbers, above, tell layers apart.

# %%
if len(model.ids(BASE)) == len(model.ids(SOURCE)):
    whole = model.causal_effects(BASE, SOURCE, "resid_post", **QUIET)
    print("whole layers, direct effects:", whole.direct.round(3))
    claim(
        "every layer gives the source run's value, and without it the base run's",
        np.allclose(whole.direct, whole.source_value, atol=1e-5)
        and np.allclose(whole.indirect, whole.change, atol=1e-5),
    )
else:
    print("skipped, whole layers: these prompts have different lengths")

# %% [markdown]
# ## 4. The map of positions
#
# One token at a time the trap is gone. The metric is P(source answer) - P(base answer): towards one country and away
# from the other, from -1 to 1, so the change is up to 2. Read it from the left: the city's token carries the
# country in early layers; then, between two layers, the last token does, and no other token ever. In late layers
# the city's token may say Paris or Rio, it is not asked again.

# %%
BASE, SOURCE = "Paris is in the country of", "Rio is in the country of"
flow = None
try:
    flow = model.causal_effects(
        BASE, SOURCE, "resid_post", positions="each", metric="prob_diff", align="ends", **QUIET
    )
    print(flow)
except MlxtraceError as refused:
    print(f"skipped, the map: {refused}")
flow.plot(FOLDER / "04_information_flow.png") if flow is not None else None

# %%
if flow is not None:
    at = flow.positions
    last = len(at) - 1
    city = at.index(flow.subject_range[-1]) if flow.subject_range and flow.subject_range[-1] in at else 0
    words = [flow.tokens[position] for position in at]
    maps = {"direct": flow.direct_change, "indirect": flow.indirect}  # [layer, position] each
    half = {
        (name, token): [int(layer) for layer in np.flatnonzero(values[:, token] > flow.change / 2)]
        for name, values in maps.items()
        for token in (city, last)
    }
    for (name, token), layers in half.items():
        print(f"{name}: {words[token]!r} carries half of the change or more in layers {layers}")
    between = max(np.delete(values, [city, last], axis=1).max(initial=0) for values in maps.values())
    claim(f"any other token carries {between:.3f} of {flow.change:.3f} at most", between < 0.01 * flow.change)
    late = max(values[-3:, city].max() for values in maps.values())
    claim(f"in the last three layers {words[city]!r} carries {late:.3f} at most", late < 0.01 * flow.change)

# %% [markdown]
# Direct and indirect effects are not the same question. Where a map shows one without the other, the component is
# enough but not needed (there is a second way), or needed but not enough (it works together with something else). Here
# the two differ in the layer of the crossing.

# %%
if flow is not None:
    enough, needed = (
        [(int(i), words[j]) for i, j in np.argwhere(one & ~other)]
        for one, other in (
            (maps["direct"] > flow.change / 2, maps["indirect"] > flow.change / 2),
            (maps["indirect"] > flow.change / 2, maps["direct"] > flow.change / 2),
        )
    )
    print("enough, not needed:", enough or "none")
    ends = [(half["direct", last] or [0])[0] - 1, (half["direct", city] or [0])[-1] + 1]
    claim(
        f"needed, not enough: {', '.join(f'{word!r} after layer {i}' for i, word in needed) or 'none'}",
        not enough
        and len(needed) == 2
        and {i for i, _ in needed} == set(ends)
        and {w for _, w in needed} == {words[city], words[last]},
    )

# %% [markdown]
# After that layer part of the answer has crossed and part has not: either token alone brings nothing, for the other one
# still says the other country, and without either one the answer is gone. (Tutorial 2 has another pair of prompts:
# there each token is enough by itself in the layer of the crossing.)
#
# ## 5. Noise everywhere but in a window
#
# Another idea: add noise to every layer's output, and restore the clean one in a window of layers. A window that
# protects the answer should matter.

# %%
options = {"window": min(3, model.n_layers), "samples": 8}
quiet = model.noising_window(SOURCE, level=0.1, **options)
loud = model.noising_window(SOURCE, level=2.0, **options)
print(loud)
claim(
    f"level 0.1 takes {quiet.clean - quiet.noised:.4f} from the answer, level 2.0 takes {loud.clean - loud.noised:.4f}",
    quiet.clean - quiet.noised < 0.01 and loud.clean - loud.noised > 0.9,
)
loud.plot(FOLDER / "04_noising_window.png")

# %% [markdown]
# It misleads, for the reason of section 3. A restored layer output wipes out all noise below it, so the later the
# window, the less noise is left: the last one gives the clean run exactly, in any model. What grows with the layer is
# the fewer noised layers above, not the importance of the window.

# %%
print(f"last window: {loud.scores[-1]:.4f}, clean run: {loud.clean:.4f}")
assert abs(loud.scores[-1] - loud.clean) < 1e-3, "nothing is noised above the last window"
claim("each window keeps as much as the one before, or more", (np.diff(loud.scores) > -0.001).all())

# %% [markdown]
# MLP outputs do not have this fault: noise that was added below stays in the stream, and a window of MLPs only spares
# its own. Then the map does say which layers' MLPs cannot bear noise.

# %%
parts = None
if "mlp" in KINDS:
    parts = model.noising_window(SOURCE, level=1.0, component="mlp", **options)
    print(parts)
    claim(
        f"no window of MLPs gives back the clean run: {parts.scores.max():.3f} at best of {parts.clean:.3f}, around "
        f"layer {parts.scores.argmax()}; all of them noised leave {parts.noised:.3f}",
        parts.noised < parts.scores.max() < parts.clean - 0.05,
    )
else:
    print("skipped, windows of MLPs: not every layer has one")
parts.plot(FOLDER / "04_noising_mlp_window.png") if parts is not None else None
