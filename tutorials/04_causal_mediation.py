"""Tutorial 4: causal mediation, what carries the difference between two prompts.

    python tutorials/04_causal_mediation.py [FOLDER] [MODEL]

runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
from the hub:

    python tutorials/04_causal_mediation.py figures mlx-community/Llama-3.2-1B-Instruct-4bit

The experiments are those of the nnsight tutorials on causal mediation, in this package's words.
"""

import sys
from pathlib import Path

import mlxtrace

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "demo")
QUIET = {"progress": False}

# ---- 1. Total, direct, indirect
#
# The base run is patched; the source run gives the activations. Three questions about a component:
#   total      what does changing the prompt do to the answer?
#   direct     base prompt, the component as in the source run: does it bring the source's answer? (is it enough?)
#   indirect   source prompt, the component as in the base run: does the source's answer go? (is it needed?)

BASE, SOURCE = "The Eiffel Tower is located in", "The Colosseum is located in"
mlp = model.causal_effects(BASE, SOURCE, "mlp", align="ends", **QUIET)
print(mlp)
mlp.plot(FOLDER / "04_mlp.png")

# `total` follows the tutorials: P(base answer) in the base run less P(source answer) in the source run. Two prompts
# that the model is equally sure of have a total of 0 by that, although everything changed. `change` is the textbook's:
# one and the same answer's probability, before and after.

print(f"total {mlp.total:.4f}, change {mlp.change:.4f}")

# ---- 2. A trap: whole layers
#
# Patch the output of a whole layer, all tokens together, and every layer is perfect. It has to be so: the rest of the
# model sees nothing but that output, so the run becomes the other run. It says nothing about any layer, and the prompts
# must have equal lengths for it to be possible at all.

if len(model.ids(BASE)) == len(model.ids(SOURCE)):
    whole = model.causal_effects(BASE, SOURCE, "resid_post", **QUIET)
    print("whole layers, direct effects:", whole.direct.round(3))

# ---- 3. MLP against attention
#
# Their outputs are parts of the stream, not all of it, so these numbers can tell layers apart.

attention = model.causal_effects(BASE, SOURCE, "attn", align="ends", **QUIET)
print("layer   mlp direct  indirect    attn direct  indirect")
for layer in range(model.n_layers):
    print(f"{layer:>5}{mlp.direct[layer]:>13.3f}{mlp.indirect[layer]:>10.3f}"
          f"{attention.direct[layer]:>15.3f}{attention.indirect[layer]:>10.3f}")  # fmt: skip
attention.plot(FOLDER / "04_attention.png")

# ---- 4. The map of positions
#
# One token at a time the trap is gone. The metric is P(source answer) - P(base answer): towards one country and away
# from the other, from -1 to 1, so the change is up to 2. Read it from the left: the city's token carries the
# country in early layers; then, between two layers, the last token does, and nothing between them ever. In late layers
# the city's token may say Paris or Rio, it is not asked again.

BASE, SOURCE = "Paris is in the country of", "Rio is in the country of"
flow = model.causal_effects(
    BASE, SOURCE, "resid_post", positions="each", metric="prob_diff", align="ends", **QUIET
)
print(flow)
flow.plot(FOLDER / "04_information_flow.png")

# Direct and indirect effects are not the same question. Where a map shows one without the other, the component is
# enough but not needed (there is a second way), or needed but not enough (it works together with something else).

for name, values in (("direct", flow.direct_change), ("indirect", flow.indirect)):
    token = len(flow.positions) - 1
    crossing = next((i for i in range(model.n_layers) if values[i, token] > flow.change / 2), None)
    print(f"{name}: the last token carries half of the change from layer {crossing} on")

# ---- 5. Noise everywhere but in a window
#
# Another idea: add noise to every layer's output, and restore the clean one in a window of layers. A window that
# protects the answer should matter.

quiet = model.noising_window(SOURCE, window=3, level=0.1, samples=8)
loud = model.noising_window(SOURCE, window=3, level=2.0, samples=8)
print(loud)
loud.plot(FOLDER / "04_noising_window.png")

# It misleads, for the reason of section 2. A restored layer output wipes out all noise below it, so the later the
# window, the less noise is left: the last one gives the clean run exactly, in any model. What grows with the layer is
# the number of noised layers above, not the importance of the window.

print(f"last window: {loud.scores[-1]:.4f}, clean run: {loud.clean:.4f}")
print(
    f"level 0.1 takes {quiet.clean - quiet.noised:.4f} from the answer, level 2.0 takes {loud.clean - loud.noised:.4f}"
)

# MLP outputs do not have this fault: noise that was added below stays in the stream, and a window of MLPs only spares
# its own. Then the map does say which layers' MLPs cannot bear noise.

parts = model.noising_window(SOURCE, window=3, level=1.0, samples=8, component="mlp")
print(parts)
parts.plot(FOLDER / "04_noising_mlp_window.png")
