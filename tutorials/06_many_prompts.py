# %% [markdown]
# # Tutorial 6: many prompts, a finding is an average with an interval, and where a single pair misleads
#
#     python tutorials/06_many_prompts.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
# from the hub:
#
#     python tutorials/06_many_prompts.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
#
# Opened as a notebook (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import GaussianNoise, plotting, prompts
from mlxtrace.errors import InputError

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


# %% [markdown]
# ## 1. A set of pairs
#
# A pair is a clean and a corrupted prompt; a set is a list of pairs. They can be written by hand, read from a file
# (`prompts.load("pairs.jsonl")`), or made for the model at hand: for each fact another subject of the same relation,
# with as many tokens and another answer. Not every pair can be used on every model. `suitable` keeps those that line
# up and whose answers are what they should be in both runs, and says how many it dropped for which reason.

# %%
try:
    pairs = prompts.load("facts", model=model, n=64)
except InputError as refused:
    print(f"All that follows is skipped: {model.name} cannot be asked this. {refused}")
    raise SystemExit from refused
kept = prompts.suitable(model, pairs)
print(kept)
pairs = kept.pairs
if len(pairs) < 10:
    print(f"All that follows is skipped: {len(pairs)} pairs are no set.")
    raise SystemExit
print(f"the first of {len(pairs)}: {pairs[0].clean!r}, corrupted {pairs[0].corrupted!r}")

# %% [markdown]
# ## 2. Where: layers x regions
#
# Prompts of a set differ in length, so "position 4" means nothing over a set. What a token is to its prompt does: the
# subject's first, middle and last token, the one behind it, those further on, the last. A region's number is the mean
# over its tokens, each patched by itself (`within="last"` or `"together"` ask for something else). Recovery is mean
# over mean: 100 * sum(patched - corrupted) / sum(clean - corrupted), and the interval says how far it would move with
# other pairs of the same kind: 1.96 standard errors, pairs being the units. The logit difference is the metric to
# average, for probabilities that saturate make every pair look alike. For the map half of the pairs are enough.

# %%
options = {"component": "resid_post", "positions": "regions", "metric": "logit_diff", **QUIET}
states = model.activation_patching(pairs[:32], **options)
print(states)
states.plot(FOLDER / "06_states.png")


# %%
def row(result: mlxtrace.PatchingResult, region: str) -> tuple[np.ndarray, np.ndarray]:
    """Recoveries and the half-widths of their intervals, `[layers]`."""
    at = result.coords["region"].index(region)
    return result.recovery[:, at], result.interval[:, at]


strong = {}
for region in ("last subject token", "last token"):
    values, halves = row(states, region)
    strong[region] = [int(layer) for layer in np.flatnonzero(values - halves >= 50)]
    print(f"{region}: half of the answer or more, interval and all, in layers {strong[region]}")
early, late = strong.values()
claim(
    "the two ends of a path: early layers and late ones",
    {0, 1, 2, 3} <= {*early} < {*range(6)} and {*late} >= {8, 9},
)
claim("no layer is at both ends, interval and all", not {*early} & {*late})

# %% [markdown]
# On the demo this is the planted circuit: its training let the name be put together at the subject's last token by
# layers 0 to 3, and fetched from there by attention in layers 4 to 8 (mlxtrace/demo/README.md). The intervals say that
# it is no accident of one name. Two other rows are faint for a reason of names, not of models: a subject of one token
# is its first and its last one, and where a prompt ends right behind its subject the first subsequent token is the last
# one, and has its late site.

# %%
spans = [(model.subject_range(pair.clean, pair.subject), len(model.ids(pair.clean))) for pair in pairs[:32]]
twofold = {
    "first subject token": np.array([len(span) == 1 for span, _ in spans]),
    "first subsequent token": np.array([span.stop == length - 1 for span, length in spans]),
}
clean, corrupted = (np.array([getattr(s, run) for s in states.singles]) for run in ("clean", "corrupted"))
for region, both in twofold.items():
    if both.all() or region not in states.coords["region"]:
        print(f"skipped, {region}: it has two roles in every pair")
        continue
    brought = states.per_pair[:, :, states.coords["region"].index(region)] - corrupted[:, None]
    others = 100 * brought[~both].sum(0) / (clean - corrupted)[~both].sum()
    claim(
        f"{region}: two roles in {both.sum()} of {len(spans)} pairs; the others bring {others.max():.1f} % at most",
        others.max() < 1 < row(states, region)[0].max(),
    )

# %% [markdown]
# ## 3. Which layers fetch it, on average and pair by pair
#
# Only attention moves information between tokens. Restore attention's output at the last token, a layer at a time.

# %%
fetching = model.activation_patching(pairs, component="attn", positions="last", metric="logit_diff", **QUIET)
print(fetching)
best = max(fetching, key=fetching.get)
each = np.array([single.recovery for single in fetching.singles])  # [pairs, layers]
own = each.argmax(1)
counted = ", ".join(f"layer {layer} in {(own == layer).sum()}" for layer in sorted(set(own)))
print(f"pair by pair: {counted}")
claim(f"on average layer {best} fetches most, {fetching[best]:.1f} %", best == 5)
claim(
    f"it is the strongest of {(own == best).mean():.0%} of the pairs, not of all",
    0.5 < (own == best).mean() < 0.7,
)
fetching.plot(FOLDER / "06_fetching.png")

# %% [markdown]
# ## 4. Where a single pair misleads
#
# Had the study been about one prompt, which is what most tutorials do, it could have been this one. Nothing is wrong
# with it: the model knows both answers, its gap is large, and its numbers are as exact as any. Its strongest layer is
# another one, and a paper about it alone would say so.

# %%
margin = each.max(1) - each[:, best]
odd = int(margin.argmax())
single = fetching.singles[odd]
print(f"a single pair: {single.clean_text!r}, corrupted {single.corrupted_text!r}")
print(f"{'layer':>7}{'this pair':>12}{'all pairs':>12}")
for layer in fetching:
    print(f"{layer:>7}{single[layer]:>11.1f}%{fetching[layer]:>11.1f}% ± {fetching.interval[layer]:.1f}")
gap = np.array([s.clean - s.corrupted for s in fetching.singles])
claim(f"its gap is {gap[odd]:.1f}, the mean one {gap.mean():.1f}", gap[odd] > 0.9 * gap.mean())
claim(f"it says layer {own[odd]}, by {margin[odd]:.1f} points over layer {best}", margin[odd] > 20)

# %% [markdown]
# And sizes: the share of the answer that the state of the subject's last token carries in the first layer. With its
# lowest and its highest pair one could tell two stories about the same site.

# %%
at = states.coords["region"].index("last subject token")
share = 100 * (states.per_pair[:, 0, at] - corrupted) / (clean - corrupted)
low, high = int(np.nanargmin(share)), int(np.nanargmax(share))
values, halves = row(states, "last subject token")
print(f"{values[0]:.1f} ± {halves[0]:.1f} % over all")
claim(
    f"{share[low]:.0f} % for {states.singles[low].clean_text!r}, "
    f"{share[high]:.0f} % for {states.singles[high].clean_text!r}",
    share[low] + 20 < values[0] < share[high],
)

# %% [markdown]
# Is the lead of the best layer over the next one real? The pairs are the same in both, so take the difference pair by
# pair before averaging: what pairs have in common falls out. `per_pair` has all numbers for such questions, how many
# pairs are enough among them.

# %%
second = sorted(fetching, key=fetching.get)[-2]


def lead(n: int) -> tuple[float, float]:
    """How far the best layer is ahead of the second over the first n pairs, in points, ± 1.96 standard errors."""
    apart, gaps = (fetching.per_pair[:, best] - fetching.per_pair[:, second])[:n], gap[:n]
    ratio = 100 * apart.sum() / gaps.sum()
    spread = 100 * apart - ratio * gaps
    return ratio, 1.96 * np.sqrt(n / (n - 1) * (spread**2).sum()) / gaps.sum()


for n in (len(pairs) // 2, len(pairs)):
    ahead, half = lead(n)
    claim(
        f"{n} pairs: layer {best} leads layer {second} by {ahead:.1f} ± {half:.1f} points, "
        f"{'more' if ahead > half else 'no more'} than chance allows",
        (ahead > half) == (n == len(pairs)),
    )

# %% [markdown]
# ## 5. Two sets of numbers, one difference
#
# Does another corruption tell another story? The same prompts, broken by noise on their subjects instead of another
# subject. `a - b` is paired: the interval is that of the pairs' differences.

# %%
few = pairs[:10]
names = model.activation_patching(few, **options)
noise = model.activation_patching(few, GaussianNoise(samples=2), **options)
apart = names - noise
print(apart)
plotting.compare([names, noise], labels=["another subject", "noise"], path=FOLDER / "06_two_corruptions.png")

# %% [markdown]
# On the demo both find the two ends of the path. They differ in the middle of names: a clean piece of a name among
# pieces that are noised brings some of the answer back, among the pieces of another name hardly any. Differences of a
# few cells of so many may be chance: 95 % intervals leave one in twenty out.

# %%
for region in ("last subject token", "last token"):
    found = [[int(i) for i in np.flatnonzero(row(one, region)[0] >= 50)] for one in (names, noise)]
    claim(f"{region}: half of the answer in layers {found[0]} with names, {found[1]} with noise",
          len({*found[0]} ^ {*found[1]}) <= 1)  # fmt: skip
middle = "middle subject tokens"
if middle in names.coords["region"]:
    of_names, of_noise = (row(one, middle)[0].max() for one in (names, noise))
    beyond = np.abs(row(apart, middle)[0]) > row(apart, middle)[1]
    claim(
        f"{middle}: up to {of_names:.0f} % with names, {of_noise:.0f} % with noise; "
        f"apart in layers {[int(i) for i in np.flatnonzero(beyond)]}, interval and all",
        of_names < 10 < 20 < of_noise and beyond[:5].all(),
    )
cells = np.isfinite(apart.recovery)
print(f"{cells.sum()} cells were compared: by chance alone about {cells.sum() / 20:.0f} would differ")

# %% [markdown]
# ## 6. Into a folder
#
# On a large model a set takes hours. `prompts.run` keeps a file for each pair, goes on where it was stopped, spreads
# pairs over `mlx.launch`'s processes, and refuses to mix settings. What comes back is the same result.

# %%
with tempfile.TemporaryDirectory() as folder:
    again = prompts.run(model, few[:2], out=folder, **options)
    claim(
        "from a folder: the same numbers",
        np.allclose(again.per_pair, names.per_pair[:2], atol=1e-2, equal_nan=True),
    )

# %% [markdown]
# The same from a shell, for any file of pairs or task (ioi, greater_than, gender, induction, facts):
#
#     python -m mlxtrace.patch --pairs facts --limit 64 --component resid_post --positions regions --plot map.png
