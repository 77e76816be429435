"""Tutorial 2: activation patching, which sites carry an answer.

    python tutorials/02_activation_patching.py [FOLDER] [MODEL]

runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
from the hub:

    python tutorials/02_activation_patching.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
"""

import sys
from pathlib import Path

import mlxtrace
from mlxtrace import GaussianNoise
from mlxtrace.errors import AlignmentError

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "demo")

# ---- 1. Two prompts that differ in what matters, and in nothing else
#
# `clean` has the answer that we want back; `corrupted` is the same sentence about something else, so its answer is
# another one. Activations of the clean run are put into the corrupted one, a site at a time, and the recovery is how
# much of the clean answer's probability comes back: 100 * (patched - corrupted) / (clean - corrupted).

CLEAN = "The Eiffel Tower is located in the city of"
CORRUPTED = "The Colosseum is located in the city of"
print(model.receipt(CLEAN), model.receipt(CORRUPTED), sep="\n")

# Positions can only be compared when both prompts have as many tokens. If they do not, the default is an error that
# shows them side by side; align="ends" pairs the common tail and the subjects' last tokens. That choice is yours.

try:
    model.activation_patching(CLEAN, "The Leaning Tower of Pisa is located in the city of", progress=False)
except AlignmentError as error:
    print(error)

# ---- 2. Where: layers x tokens
#
# The residual stream at one token after one layer holds everything the model knows there. Expect two bands: the
# subject's last token in early layers, the prompt's last token in late ones, and nothing between. Where the first
# ends and the second begins, attention carries the answer across.

both = {"align": "ends", "progress": False}
states = model.activation_patching(CLEAN, CORRUPTED, "resid_post", positions="each", **both)
print(states)
states.plot(FOLDER / "02_states.png")

# The last layer's row is a law, not a finding: after the last layer only the last token is read, so every other
# position recovers exactly 0 there. An implementation that shows anything else has a bug.

# ---- 3. What: the MLPs and the attentions that write those states

parts = model.activation_patching(CLEAN, CORRUPTED, ["mlp", "attn"], positions="each", **both)
print(parts)
parts.plot(FOLDER / "02_mlp_and_attention.png")

# One MLP is one step of a computation that runs over several layers. When single ones restore little, patch windows.

windows = model.activation_patching(CLEAN, CORRUPTED, ["mlp", "attn"], positions="each", window=3, **both)
windows.plot(FOLDER / "02_windows.png")

# ---- 4. Which heads fetch it
#
# Only attention moves information between tokens, so at the last token some heads must fetch the city. Patch each head
# there (the slice of the output projection's input that is its own). With probabilities next to nothing shows: no
# head is enough by itself, and a probability that goes from 0.00001 to 0.0001 is still 0. The difference of the two
# answers' logits adds up instead, and names the layers that fetch: on the demo 5 and 6, several heads sharing the work.

heads = model.activation_patching(
    CLEAN, CORRUPTED, "head", positions="last", metric=["logit_diff", "prob"], **both
)
heads.plot(FOLDER / "02_heads.png")
for row in heads.top(4):
    print(f"layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} % of logit_diff, "
          f"{row['prob_recovery']:.2f} % of prob")  # fmt: skip

# ---- 5. The other direction
#
# Restoring asks: is this site enough? Corrupting it in an otherwise clean run asks: is it needed? A site that is
# enough need not be needed, where the model has a second way. Always look at both before you say "the" site.

noised = model.activation_patching(
    CLEAN, CORRUPTED, "resid_post", positions="each", direction="noise", **both
)
noised.plot(FOLDER / "02_necessity.png")
subject, layer = states.subject_range[-1], 1
print(f"last subject token, layer {layer}: restoring it recovers {states.sel(layer=layer, position=subject):.0f} %, "
      f"corrupting it leaves {noised.sel(layer=layer, position=subject):.0f} %")  # fmt: skip

# ---- 6. Another metric, another corruption
#
# Probabilities saturate: a site that moves p from 0.001 to 0.01 matters and shows nothing. The difference of two
# logits does not. And instead of another prompt, the corruption may be noise on the subject's embeddings, which is
# tutorial 3.

logits = model.activation_patching(
    CLEAN,
    CORRUPTED,
    "mlp",
    positions="subject_last",
    metric=["prob", "logit_diff"],
    subject="Eiffel Tower",
    **both,
)
for layer in range(min(4, model.n_layers)):
    prob, diff = (logits.sel(metric=name, layer=layer) for name in ("prob", "logit_diff"))
    print(
        f"MLP of layer {layer} at the last subject token: {prob:6.1f} % of prob, {diff:6.1f} % of logit_diff"
    )
noise = model.activation_patching(
    CLEAN, GaussianNoise("Eiffel Tower"), "resid_post", positions="each", progress=False
)
noise.plot(FOLDER / "02_noise.png")

# ---- 7. What it cost
#
# The textbook runs one forward pass per cell. Here a cell is a row of a batch that is born at the layer where it
# first differs, so the whole map is a handful of passes; `plan` says how many, and `plan_only=True` says it before.

print(states.plan)
states.save(FOLDER / "02_states.npz")
assert (mlxtrace.PatchingResult.load(FOLDER / "02_states.npz").raw == states.raw).all()
