"""Tutorial 6: many prompts, a finding is an average with an interval, and where a single pair misleads.

    python tutorials/06_many_prompts.py [FOLDER] [MODEL]

runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
from the hub:

    python tutorials/06_many_prompts.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import GaussianNoise, plotting, prompts

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "demo")
QUIET = {"progress": False}

# ---- 1. A set of pairs
#
# A pair is a clean and a corrupted prompt; a set is a list of pairs. They can be written by hand, read from a file
# (`prompts.load("pairs.jsonl")`), or made for the model at hand: for each fact another subject of the same relation,
# with as many tokens and another answer. Not every pair can be used on every model. `suitable` keeps those that line
# up and whose answers are what they should be in both runs, and says how many it dropped for which reason.

pairs = prompts.load("facts", model=model, n=64)
kept = prompts.suitable(model, pairs)
print(kept)
pairs = kept.pairs
print(f"the first of {len(pairs)}: {pairs[0].clean!r}, corrupted {pairs[0].corrupted!r}\n")

# ---- 2. Where: layers x regions
#
# Prompts of a set differ in length, so "position 4" means nothing over a set. What a token is to its prompt does: the
# subject's first, middle and last token, the one behind it, those further on, the last. A region's number is the mean
# over its tokens, each patched by itself (within="last" or "together" ask for something else). Recovery is mean over
# mean: 100 * sum(patched - corrupted) / sum(clean - corrupted), and the interval says how far it would move with other
# pairs of the same kind: 1.96 standard errors, pairs being the units. The logit difference is the metric to average,
# for probabilities that saturate make every pair look alike.

states = model.activation_patching(
    pairs, component="resid_post", positions="regions", metric="logit_diff", **QUIET
)
print(states)
states.plot(FOLDER / "06_states.png")


def row(result: mlxtrace.PatchingResult, region: str) -> tuple[np.ndarray, np.ndarray]:
    """Recoveries and the half-widths of their intervals, `[layers]`."""
    at = result.coords["region"].index(region)
    return result.recovery[:, at], result.interval[:, at]


for region in ("last subject token", "last token"):
    values, halves = row(states, region)
    strong = [layer for layer in states.coords["layer"] if values[layer] - halves[layer] >= 50]
    if strong:
        print(f"{region}: half of the answer or more, interval and all, in layers {strong[0]} to {strong[-1]}; "
              f"in layer {strong[0]} {values[strong[0]]:.1f} ± {halves[strong[0]]:.1f} %")  # fmt: skip

# On the demo this is the planted circuit: its training let the name be put together at the subject's last token by
# layers 0 to 3, and fetched from there by attention in layers 4 to 8 (mlxtrace/demo/README.md). 64 pairs find both
# ends of it, and the intervals say that it is no accident of one name. Two rows are faint for a reason of names, not
# of models: a subject of one token is its first and its last one, and where a prompt ends right behind its subject the
# first subsequent token is the last one.

# ---- 3. Which layers fetch it, on average and pair by pair
#
# Only attention moves information between tokens. Restore attention's output at the last token, a layer at a time.

fetching = model.activation_patching(pairs, component="attn", positions="last", metric="logit_diff", **QUIET)
print(f"\n{fetching}")
fetching.plot(FOLDER / "06_fetching.png")
best = max(fetching, key=fetching.get)
each = np.array([single.recovery for single in fetching.singles])  # [pairs, layers]
own = each.argmax(1)
counted = ", ".join(f"layer {layer} in {(own == layer).sum()}" for layer in sorted(set(own)))
print(f"on average layer {best} fetches most, {fetching[best]:.1f} %; pair by pair: {counted}")

# ---- 4. Where a single pair misleads
#
# Had the study been about one prompt, which is what most tutorials do, it could have been this one. Nothing is wrong
# with it: the model knows both answers, its gap is large, and its numbers are as exact as any. Its strongest layer is
# another one, and a paper about it alone would say so.

margin = each.max(1) - each[:, best]
odd = int(margin.argmax())
single = fetching.singles[odd]
print(f"\na single pair: {single.clean_text!r}, corrupted {single.corrupted_text!r}")
print(f"{'layer':>7}{'this pair':>12}{'all pairs':>12}")
for layer in fetching:
    print(f"{layer:>7}{single[layer]:>11.1f}%{fetching[layer]:>11.1f}% ± {fetching.interval[layer]:.1f}")
print(f"this pair says layer {own[odd]}, by {margin[odd]:.1f} points over layer {best}")

# And sizes: the share of the answer that the state of the subject's last token carries in the first layer. With its
# lowest and its highest pair one could tell two stories about the same site.

at = states.coords["region"].index("last subject token")
clean, corrupted = (np.array([getattr(s, run) for s in states.singles]) for run in ("clean", "corrupted"))
share = 100 * (states.per_pair[:, 0, at] - corrupted) / (clean - corrupted)
low, high = int(np.nanargmin(share)), int(np.nanargmax(share))
values, halves = row(states, "last subject token")
print(f"\nlayer 0 at the last subject token: {share[low]:.0f} % for {states.singles[low].clean_text!r}, "
      f"{share[high]:.0f} % for {states.singles[high].clean_text!r}, "
      f"{values[0]:.1f} ± {halves[0]:.1f} % over all")  # fmt: skip

# Is the lead of the best layer over the next one real? The pairs are the same in both, so take the difference pair by
# pair before averaging: what pairs have in common falls out. `per_pair` has all numbers for such questions.

second = sorted(fetching, key=fetching.get)[-2]
gap = np.array([s.clean - s.corrupted for s in fetching.singles])
lead = fetching.per_pair[:, best] - fetching.per_pair[:, second]
ratio = 100 * lead.sum() / gap.sum()
spread = 100 * lead - ratio * gap
half = 1.96 * np.sqrt(len(gap) / (len(gap) - 1) * (spread**2).sum()) / gap.sum()
print(f"lead of layer {best} over layer {second}: {ratio:.1f} ± {half:.1f} %")

# ---- 5. Two sets of numbers, one difference
#
# Does another corruption tell another story? The same prompts, broken by noise on their subjects instead of another
# subject. `a - b` is paired: the interval is that of the pairs' differences.

few = pairs[:10]
options = {"component": "resid_post", "positions": "regions", "metric": "logit_diff", **QUIET}
names = model.activation_patching(few, **options)
noise = model.activation_patching(few, GaussianNoise(samples=2), **options)
apart = names - noise
print(f"\n{apart}")
plotting.compare([names, noise], labels=["another subject", "noise"], path=FOLDER / "06_two_corruptions.png")

# On the demo both find the two ends of the path. They differ in the middle of names: a clean piece of a name among
# pieces that are noised brings some of the answer back, among the pieces of another name hardly any. Differences of a
# few cells among seventy may be chance: 95 % intervals leave one in twenty out.

# ---- 6. Into a folder
#
# On a large model a set takes hours. `prompts.run` keeps a file for each pair, goes on where it was stopped, spreads
# pairs over `mlx.launch`'s processes, and refuses to mix settings. What comes back is the same result.

with tempfile.TemporaryDirectory() as folder:
    again = prompts.run(model, few, out=folder, **options)
    print("from a folder:", np.allclose(again.recovery, names.recovery, atol=1e-2, equal_nan=True))

# The same from a shell, for any file of pairs or task (ioi, greater_than, gender, induction, facts):
#
#     python -m mlxtrace.patch --pairs facts --limit 64 --component resid_post --positions regions --plot map.png
