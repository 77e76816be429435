"""Tutorial 5: attention heads, which of them move a fact.

    python tutorials/05_heads.py [FOLDER] [MODEL]

runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
from the hub:

    python tutorials/05_heads.py figures mlx-community/Llama-3.2-1B-Instruct-4bit

It is the second half of the nnsight tutorial on causal mediation, in this package's words.
"""

import sys
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import metrics, plotting

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "demo")

CLEAN, CORRUPTED = "Paris is in the country of", "Rio is in the country of"
SUBJECT = "Paris"
print(model.receipt(CLEAN, SUBJECT))
both = {"align": "ends", "subject": SUBJECT, "progress": False}

# ---- 1. The question
#
# Tutorials 2 and 4 show two bands: the answer is at the subject's last token in early layers and at the prompt's last
# token in late ones. Only one kind of component can carry something from one token to another: attention heads. A head
# is a slice of what goes into the attention's output projection; patch that slice from the clean run, and see how much
# of the answer comes back. All tokens at once, every head of every layer on its own:

heads = model.activation_patching(CLEAN, CORRUPTED, "head", metric=["logit_diff", "prob"], **both)
print(heads)
heads.plot(FOLDER / "05_heads.png")

# Two metrics, because one of them misleads here. The probability hardly moves for any single head (below 3 %): the
# answer has to win against " Brazil" before its probability shows. The difference of the two logits adds up
# from the start.

for metric in ("logit_diff", "prob"):
    print(f"strongest head by {metric}: {heads.sel(metric=metric).max():.1f} %")

# ---- 2. Which of them move it
#
# The map has two places, and they do different work. To tell them apart, patch at one token only. What a head writes at
# the prompt's last token has been fetched from other tokens, so this map shows the heads that move the fact:

moving = model.activation_patching(CLEAN, CORRUPTED, "head", positions="last", metric="logit_diff", **both)
moving.plot(FOLDER / "05_moving_heads.png")
print("at the last token:")
for row in moving.top(6):
    print(f"  layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} %")

# And at the subject, the heads that put the name together, in the first layer on the demo ("Pa" and "ris" are two
# tokens, and no single token is a city):

naming = model.activation_patching(CLEAN, CORRUPTED, "head", positions="subject", metric="logit_diff", **both)
print("at the subject:")
for row in naming.top(3):
    print(f"  layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} %")

# ---- 3. Where they look
#
# A head that moves the fact to the last token must look at a token that has it. Its pattern says: row = the token that
# looks, column = the token that is looked at, and a row sums to 1. (Some architectures compute attention in a way that
# no pattern can be read from, and say so.)

strongest = [(row["layer"], row["head"]) for row in moving.top(3)]
sites = [f"layers.{layer}.pattern" for layer, _ in strongest]
_, cache = model.run_with_cache(CLEAN, sites=sites)
patterns = np.array([cache[f"layers.{i}.pattern"][0, h].tolist() for i, h in strongest])
tokens = model.to_str_tokens(CLEAN)
subject = model.subject_range(CLEAN, SUBJECT)
plotting.attention_pattern(
    patterns,
    tokens,
    heads=[f"{head} of layer {layer}" for layer, head in strongest],
    subject_range=subject,
    title=f"The heads that bring the answer to the last token: {CLEAN}",
    path=FOLDER / "05_patterns.png",
)
for (layer, head), pattern in zip(strongest, patterns, strict=True):
    seen = pattern[-1, subject[-1]]
    print(f"layer {layer}, head {head}: the last token looks at {tokens[subject[-1]]!r} with {seen:.2f}")

# ---- 4. Is it where they look, or what they read there?
#
# A pattern is no proof: a head may look at a token and take nothing from it. Patch the parts of the attention
# themselves, as the attention call sees them (queries and keys after their rotary positions). On the demo queries,
# keys and patterns recover nothing: both prompts make the heads look at the same place. The values recover: the heads
# read something else there.

layers = sorted({layer for layer, _ in strongest})
for component in ("q", "k", "pattern", "v"):
    inside = model.activation_patching(CLEAN, CORRUPTED, component, layers, metric="logit_diff", **both)
    row = inside.top(1)[0]
    print(f"{component:>8}: {row['logit_diff_recovery']:5.1f} % (layer {row['layer']}, head {row['head']})")

# Where keys are grouped, several query heads read the same keys and values: `v` has as many heads as there are groups.

# ---- 5. Together
#
# Each head recovers a little. Do they do so together? Take the heads one after the other, strongest first, and patch
# them in one trace. If each did its own share of a sum, "together" would be the sum of "alone".

_, clean = model.run_with_cache(CLEAN, sites=[f"layers.{i}.head" for i in range(model.n_layers)])


def patched(chosen: list[tuple[int, int]]) -> np.ndarray:
    """Last-position logits of the corrupted run with some heads' outputs at the last token from the clean run."""

    def from_clean(x, layer):
        for head in [h for i, h in chosen if i == layer]:
            x[:, -1, head] = clean[f"layers.{layer}.head"][:, -1, head]
        return x

    edits = {f"layers.{i}.head": (lambda x, i=i: from_clean(x, i)) for i in {i for i, _ in chosen}}
    with model.trace(CORRUPTED, interventions=edits, cache=False) as trace:
        pass
    return np.array(trace.output[0, -1].tolist())


answer, other = moving.target.token, moving.foil.token
print("heads  together     alone    p(answer)")
for count in (1, 2, 3, 6, 12, 24):
    top = moving.top(count)
    logits = patched([(row["layer"], row["head"]) for row in top])
    together = metrics.recovery(
        float(logits[answer] - logits[other]), moving.clean, moving.corrupted, "logit_diff"
    )
    alone = sum(row["logit_diff_recovery"] for row in top)
    print(f"{count:>5}{together:>9.1f} %{alone:>8.1f} %{metrics.softmax(logits)[answer]:>13.4f}")

# Three heads out of 96 turn the answer round; one at a time none of them could. And a control, without which a number
# like that means little: as many heads from anywhere else.

rng = np.random.RandomState(0)
weak = [(row["layer"], row["head"]) for row in moving.top(10**6)][24:]
logits = patched([weak[i] for i in rng.permutation(len(weak))[:6]])
chance = metrics.recovery(float(logits[answer] - logits[other]), moving.clean, moving.corrupted, "logit_diff")
print(f"six other heads together: {chance:.1f} %")

# ---- 6. What this does not say
#
# Patched one at a time in the other direction, no head is needed: the others make up for it. "The" head that moves a
# fact is usually several, and a map of single heads shows the ones that add most, not all that take part.

needed = model.activation_patching(
    CLEAN, CORRUPTED, "head", positions="last", metric="prob", direction="noise", **both
)
print(f"corrupting one head leaves at least {needed.recovery.min():.1f} % of the answer's probability")
