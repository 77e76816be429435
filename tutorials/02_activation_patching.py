# %% [markdown]
# # Tutorial 2: activation patching, which sites carry an answer
#
#     python tutorials/02_activation_patching.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
# from the hub:
#
#     python tutorials/02_activation_patching.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
#
# Opened as a notebook (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.

# %%
import sys
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import GaussianNoise
from mlxtrace.errors import AlignmentError, MlxtraceError

# A notebook's kernel has arguments of its own.
given = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
FOLDER = Path(given[0] if given else "tutorial-figures")
MODEL = given[1] if len(given) > 1 else "demo"
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(MODEL)


def claim(sentence: str, holds: bool) -> None:
    """Says whether a sentence of this page holds here. It was written about the demo: there it has to."""
    print(f"{'holds' if holds else 'does not hold here'}: {sentence}")
    assert holds or MODEL != "demo", sentence


def having(component: str) -> list[int]:
    """The layers that have such a component: not every architecture has all of them."""
    return [i for i in range(model.n_layers) if f"layers.{i}.{component}" in model.resolver.sites()]


# %% [markdown]
# ## 1. Two prompts that differ in what matters, and in nothing else
#
# `clean` has the answer that we want back; `corrupted` is the same sentence about something else, so its answer is
# another one. Activations of the clean run are put into the corrupted one, a site at a time, and the recovery is how
# much of the clean answer's probability comes back: 100 * (patched - corrupted) / (clean - corrupted).

# %%
CLEAN = "The Eiffel Tower is located in the city of"
CORRUPTED = "The Colosseum is located in the city of"
print(model.receipt(CLEAN), model.receipt(CORRUPTED), sep="\n")

# %% [markdown]
# Positions can only be compared when both prompts have as many tokens. If they do not, the default is an error that
# shows them side by side; `align="ends"` pairs the common tail and the subjects' last tokens. That choice is yours.

# %%
LONGER = "The Leaning Tower of Pisa is located in the city of"
both = {"align": "ends", "subject": "Eiffel Tower", "progress": False}
try:
    model.activation_patching(CLEAN, LONGER, "resid_post", layers=0, progress=False)
    print("to this tokenizer the two have one length")
except MlxtraceError as error:
    print(error)
    claim("prompts of two lengths are refused", isinstance(error, AlignmentError))

# %% [markdown]
# A recovery is a share of the gap between the two runs. So the first question is whether there is a gap: does this
# model give the two prompts two answers? Where it does not, nothing that follows would mean anything: it is refused.

# %%
try:
    gap = model.activation_patching(
        CLEAN, CORRUPTED, "resid_post", layers=0, positions="last", metric=["prob", "logit_diff"], **both
    )
except MlxtraceError as refused:
    print(f"All that follows is skipped: {model.name} cannot be asked this. {refused}")
    raise SystemExit from refused
print(f"answers {gap.target.text!r} and {gap.foil.text!r}")
for run, found in (("clean", gap.clean), ("corrupted", gap.corrupted)):
    print(
        f"{run:>9}: p({gap.target.text.strip()}) {found['prob']:.4f}, logit difference {found['logit_diff']:.2f}"
    )

# %% [markdown]
# ## 2. Where: layers x tokens
#
# The residual stream at one token after one layer holds everything the model knows there. Expect two bands: the
# subject's last token in early layers, the prompt's last token in late ones, and nothing between.

# %%
states = model.activation_patching(CLEAN, CORRUPTED, "resid_post", positions="each", **both)
print(states)
states.plot(FOLDER / "02_states.png")

# %%
at = states.coords["position"]  # the tokens that were patched: all, where both prompts have as many
subject, last = at.index(states.subject_range[-1]), len(at) - 1
words = [states.tokens[position] for position in at]


def half(recovery: np.ndarray) -> list[int]:
    """The layers in which half of the answer or more comes back."""
    return [int(layer) for layer in np.flatnonzero(recovery >= 50)]


early, late = half(states.recovery[:, subject]), half(states.recovery[:, last])
others = np.delete(states.recovery, [subject, last], axis=1)
claim(f"half of the answer or more comes back at {words[subject]!r} in layers {early}", 0 in early)
claim(f"and at {words[last]!r} in layers {late}", late[-1:] == [model.n_layers - 1] and 0 not in late)
claim(f"any other token brings back {others.max():.1f} % at most", others.max() < 5)

# %% [markdown]
# Where the first band ends and the second begins, attention carries the answer across.
#
# The last layer's *column* is a law, not a finding: after the last layer only the last token is read, so every other
# position recovers exactly 0 there, and the last one everything. An implementation that shows anything else has a bug.

# %%
assert (states.recovery[-1, :last] == 0).all()
claim(
    "the last token's state after the last layer is the answer", abs(states.recovery[-1, last] - 100) < 0.01
)
print("last layer:", states.recovery[-1].round(3))

# %% [markdown]
# ## 3. What: the MLPs and the attentions that write those states

# %%
kinds = [kind for kind in ("mlp", "attn") if len(having(kind)) == model.n_layers]
if "mlp" not in kinds:
    print("MLPs are skipped: not every layer of this model has one")
parts = model.activation_patching(CLEAN, CORRUPTED, kinds, positions="each", **both)
print(parts)
parts.plot(FOLDER / "02_mlp_and_attention.png")

# %%
recovered = dict(zip(kinds, parts.recovery.reshape(len(kinds), *states.recovery.shape), strict=True))
for kind in kinds:
    layer, token = np.unravel_index(recovered[kind].argmax(), recovered[kind].shape)
    best = recovered[kind][layer, token]
    claim(
        f"the strongest {kind} is that of layer {layer} at {words[token]!r}, {best:.1f} %",
        (layer, token) == (0, subject),
    )
fetching = recovered["attn"][:, last]
strongest = int(fetching.argmax())
claim(
    f"at the last token attention brings most in layer {strongest}, {fetching[strongest]:.1f} %, where the bands meet",
    early[-1:] == late[:1] == [strongest],
)

# %% [markdown]
# One attention is one step of a computation that may run over several layers. When single ones restore little, patch
# windows of layers together.

# %%
windows = model.activation_patching(CLEAN, CORRUPTED, kinds, positions="each", window=3, **both)
wide = windows.recovery.reshape(len(kinds), *states.recovery.shape)[-1, :, last]
claim(
    f"three attentions at the last token bring back {wide.max():.1f} %, one {fetching.max():.1f} % at most",
    wide.max() > 95 > 60 > fetching.max(),
)
windows.plot(FOLDER / "02_windows.png")

# %% [markdown]
# ## 4. Which heads fetch it
#
# Only attention moves information between tokens, so at the last token some heads must fetch the city. Patch each head
# there (the slice of the output projection's input that is its own). With probabilities next to nothing shows: no
# head is enough by itself, and a probability that goes from 0.00001 to 0.0001 is still 0. The difference of the two
# answers' logits adds up instead, and names the layers that fetch, several heads sharing the work.

# %%
with_heads = having("head")
heads = None
if with_heads:
    heads = model.activation_patching(
        CLEAN, CORRUPTED, "head", with_heads, positions="last", metric=["logit_diff", "prob"], **both
    )
    for row in heads.top(4):
        print(
            f"layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} % of logit_diff, "
            f"{row['prob_recovery']:.2f} % of prob"
        )
    top = [row["layer"] for row in heads.top(4)]
    diff, prob = (heads.sel(metric=name).max() for name in ("logit_diff", "prob"))
    claim(f"the strongest four are in layers {sorted(set(top))}", set(top) <= {strongest, strongest + 1})
    claim(f"no head brings back more than {prob:.2f} % of the probability", prob < 1)
    claim(f"but {diff:.1f} % of the logit difference, a small share as well", 5 < diff < 15)
else:
    print("skipped, heads: this model's mixers have none")
heads.plot(FOLDER / "02_heads.png") if with_heads else None

# %% [markdown]
# ## 5. The other direction
#
# Restoring asks: is this site enough? Corrupting it in an otherwise clean run asks: is it needed? A site that is
# enough need not be needed, where the model has a second way. Always look at both before you say "the" site.

# %%
noised = model.activation_patching(
    CLEAN, CORRUPTED, "resid_post", positions="each", direction="noise", **both
)
noised.plot(FOLDER / "02_necessity.png")

# %%
layer = min(1, model.n_layers - 1)
enough, left = states.recovery[layer, subject], noised.recovery[layer, subject]
claim(
    f"{words[subject]!r} after layer {layer} is enough and needed: restored it recovers {enough:.0f} %, "
    f"corrupted it leaves {left:.0f} %",
    enough > 99 and left < 1,
)
spare = [(int(i), words[j]) for i, j in np.argwhere((states.recovery > 50) & (noised.recovery > 50))]
claim(
    f"enough, and not needed: {', '.join(f'{word!r} after layer {i}' for i, word in spare) or 'none'}",
    spare == [(early[-1], words[subject]), (early[-1], words[last])] if early else not spare,
)

# %% [markdown]
# Where the bands meet both tokens have the answer. Corrupt either one, and the other still has it: the map of what is
# needed has a gap there, and nothing is missing.
#
# ## 6. Another corruption
#
# Instead of another prompt, the corruption may be noise on the subject's embeddings, which is tutorial 3. It breaks
# a name into pieces: a single clean piece of it can bring some of the answer back, which a piece of one name among
# those of another does not.

# %%
try:
    noise = model.activation_patching(
        CLEAN, GaussianNoise("Eiffel Tower"), "resid_post", positions="each", progress=False
    )
except MlxtraceError as refused:
    noise = None
    print(f"skipped, noise: {refused}")
if noise is not None:
    inside = states.subject_range[:-1]
    name = [noise.recovery[:, position].max() for position in inside]
    claim(
        f"the bands are the same: {half(noise.recovery[:, states.subject_range[-1]])}, {half(noise.recovery[:, -1])}",
        half(noise.recovery[:, states.subject_range[-1]]) == early and half(noise.recovery[:, -1]) == late,
    )
    claim(
        "what single tokens of the name before its last one bring back: "
        + ", ".join(f"{states.tokens[p]!r} {x:.0f} %" for p, x in zip(inside, name, strict=True)),
        max(name, default=0) > 50 > others.max(),
    )
noise.plot(FOLDER / "02_noise.png") if noise is not None else None

# %% [markdown]
# ## 7. What it cost
#
# The textbook runs one forward pass per cell. Here a cell is a row of a batch that is born at the layer where it
# first differs, so the whole map is a handful of passes; `plan` says how many, and `plan_only=True` says it before.

# %%
print(states.plan)
claim(f"{states.plan.cells} cells, passes: {states.plan.passes}", states.plan.passes * 10 < states.plan.cells)
states.save(FOLDER / "02_states.npz")
assert (mlxtrace.PatchingResult.load(FOLDER / "02_states.npz").raw == states.raw).all()
