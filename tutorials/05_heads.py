# %% [markdown]
# # Tutorial 5: attention heads, which of them move a fact
#
#     python tutorials/05_heads.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
# from the hub:
#
#     python tutorials/05_heads.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
#
# It is the second half of the nnsight tutorial on causal mediation, in this package's words. Opened as a notebook
# (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.

# %%
import sys
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import metrics, plotting
from mlxtrace.errors import MlxtraceError

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


CLEAN, CORRUPTED = "Paris is in the country of", "Rio is in the country of"
SUBJECT = "Paris"
print(model.receipt(CLEAN, SUBJECT))

# %% [markdown]
# ## 1. The question
#
# Tutorials 2 and 4 show two bands: the answer is at the subject's last token in early layers and at the prompt's last
# token in late ones. In a transformer only one kind of component can carry something from one token to another:
# attention heads. A head is a slice of what goes into the attention's output projection; patch that slice from the
# clean run, and see how much of the answer comes back. All tokens at once, every head of every layer on its own:

# %%
LAYERS = [i for i in range(model.n_layers) if f"layers.{i}.head" in model.resolver.sites()]
both = {"align": "ends", "subject": SUBJECT, "progress": False}
if not LAYERS:
    print(f"All that follows is skipped: the mixers of {model.name} have no heads.")
    raise SystemExit
try:
    heads = model.activation_patching(CLEAN, CORRUPTED, "head", LAYERS, metric=["logit_diff", "prob"], **both)
except MlxtraceError as refused:
    print(f"All that follows is skipped: {model.name} cannot be asked this. {refused}")
    raise SystemExit from refused
print(heads)
heads.plot(FOLDER / "05_heads.png")

# %% [markdown]
# Two metrics, because one of them misleads here. The probability hardly moves for any single head: the answer has to
# win against the other one before its probability shows. The difference of the two logits adds up from the start.

# %%
diff, prob = (heads.sel(metric=metric).max() for metric in ("logit_diff", "prob"))
claim(
    f"the strongest head brings back {diff:.1f} % of logit_diff and {prob:.1f} % of prob",
    prob < 3 < 15 < diff,
)

# %% [markdown]
# ## 2. Which of them move it
#
# The map has two places, and they do different work. To tell them apart, patch at one token only. What a head writes at
# the prompt's last token has been fetched from other tokens, so this map shows the heads that move the fact:

# %%
only = {"metric": "logit_diff", **both}
moving = model.activation_patching(CLEAN, CORRUPTED, "head", LAYERS, positions="last", **only)
for row in moving.top(6):
    print(f"at the last token: layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} %")
strongest = [(row["layer"], row["head"]) for row in moving.top(3)]
claim(
    f"the three strongest are in layers {sorted({i for i, _ in strongest})}", {i for i, _ in strongest} == {5}
)
moving.plot(FOLDER / "05_moving_heads.png")

# %% [markdown]
# And at the subject, the heads that put the name together. On the demo they are in the first layer: the name is two
# tokens, and no single one of them is a city.

# %%
try:
    naming = model.activation_patching(CLEAN, CORRUPTED, "head", LAYERS, positions="subject", **only).top(3)
except MlxtraceError as refused:
    naming = []
    print(f"skipped, heads at the subject: {refused}")
for row in naming:
    print(f"at the subject: layer {row['layer']}, head {row['head']}: {row['logit_diff_recovery']:.1f} %")
if naming:
    found = sorted({row["layer"] for row in naming})
    claim(f"the three strongest are in layers {found}", found == [0])

# %% [markdown]
# ## 3. Where they look
#
# A head that moves the fact to the last token must look at a token that has it. Its pattern says: row = the token that
# looks, column = the token that is looked at, and a row sums to 1. (Some architectures compute attention in a way that
# no pattern can be read from, and say so.)

# %%
tokens = model.to_str_tokens(CLEAN)
subject = model.subject_range(CLEAN, SUBJECT)
patterns = None
try:
    _, cache = model.run_with_cache(
        CLEAN, sites=sorted({f"layers.{layer}.pattern" for layer, _ in strongest})
    )
    patterns = np.array([cache[f"layers.{i}.pattern"][0, h].tolist() for i, h in strongest])
except MlxtraceError as refused:
    print(f"skipped, patterns: {refused}")
if patterns is not None:
    for (layer, head), pattern in zip(strongest, patterns, strict=True):
        seen = pattern[-1, subject[-1]]
        claim(
            f"head {head} of layer {layer} looks from {tokens[-1]!r} at {tokens[subject[-1]]!r}: {seen:.2f}",
            seen > 0.9,
        )
    sums = patterns.sum(-1)
    claim(f"rows sum to {sums.min():.3f} to {sums.max():.3f}", abs(sums - 1).max() < 0.001)

# %%
plotting.attention_pattern(
    patterns,
    tokens,
    heads=[f"{head} of layer {layer}" for layer, head in strongest],
    subject_range=subject,
    title=f"The heads that bring the answer to the last token: {CLEAN}",
    path=FOLDER / "05_patterns.png",
) if patterns is not None else None

# %% [markdown]
# ## 4. Is it where they look, or what they read there?
#
# A pattern is no proof: a head may look at a token and take nothing from it. Patch the parts of the attention
# themselves, as the attention call sees them (queries and keys after their rotary positions). On the demo queries,
# keys and patterns recover nothing: both prompts make the heads look at the same place. The values recover: the heads
# read something else there.

# %%
layers = sorted({layer for layer, _ in strongest})
parts = {}
for component in ("q", "k", "pattern", "v"):
    try:
        inside = model.activation_patching(CLEAN, CORRUPTED, component, layers, **only)
    except MlxtraceError as refused:
        print(f"skipped, {component}: {refused}")
        continue
    row = inside.top(1)[0]
    parts[component] = row["logit_diff_recovery"]
    print(f"{component:>8}: {parts[component]:5.1f} % (layer {row['layer']}, head {row['head']})")
looking = max((parts[part] for part in ("q", "k", "pattern") if part in parts), default=0.0)
if "v" in parts:
    claim(
        f"where they look brings back {looking:.1f} %, what they read {parts['v']:.1f} %",
        looking < 1 < 20 < parts["v"],
    )

# %% [markdown]
# Where keys are grouped, several query heads read the same keys and values: `v` has as many heads as there are groups.

# %%
print(f"{model.n_heads} heads read {model.n_kv_heads} groups of keys and values")

# %% [markdown]
# ## 5. Together
#
# Each head recovers a little. Do they do so together? Take the heads one after the other, strongest first, and patch
# them in one trace. If each did its own share of a sum, "together" would be the sum of "alone".

# %%
_, clean = model.run_with_cache(CLEAN, sites=[f"layers.{i}.head" for i in LAYERS])
answer, other = moving.target.token, moving.foil.token
ranked = [(row["layer"], row["head"], row["logit_diff_recovery"]) for row in moving.top(10**6)]


def patched(chosen: list[tuple]) -> tuple[float, float]:
    """Recovery of logit_diff, and p(answer), with some heads' outputs at the last token from the clean run."""

    def from_clean(x, layer):
        for head in [h for i, h, _ in chosen if i == layer]:
            x[:, -1, head] = clean[f"layers.{layer}.head"][:, -1, head]
        return x

    edits = {f"layers.{i}.head": (lambda x, i=i: from_clean(x, i)) for i in {i for i, *_ in chosen}}
    with model.trace(CORRUPTED, interventions=edits, cache=False) as trace:
        pass
    logits = np.array(trace.output[0, -1].tolist())
    diff = float(logits[answer] - logits[other])
    recovery = metrics.recovery(diff, moving.clean, moving.corrupted, "logit_diff")
    return recovery, float(metrics.softmax(logits)[answer])


table = {}
print("heads  together     alone    p(answer)")
for count in [count for count in (1, 2, 3, 6, 12, 24) if count <= len(ranked)]:
    together, p = patched(ranked[:count])
    alone = sum(recovery for *_, recovery in ranked[:count])
    table[count] = together, alone, p
    print(f"{count:>5}{together:>9.1f} %{alone:>8.1f} %{p:>13.4f}")
claim("together they bring back more than the sum", all(t > a for n, (t, a, _) in table.items() if n > 1))

# %% [markdown]
# A few heads turn the answer round; one at a time none of them could. And a control, without which a number
# like that means little: as many heads from anywhere else.

# %%
at_last = model.activation_patching(
    CLEAN, CORRUPTED, "head", LAYERS, positions="last", **{**only, "metric": "prob"}
)
count = min(3, len(ranked))
claim(
    f"{count} heads of {len(ranked)}: p(answer) {table[count][2]:.2f}; one alone {at_last.raw.max():.3f} at most",
    table[count][2] > 0.5 > 0.05 > at_last.raw.max(),
)
weak = ranked[len(ranked) // 4 :]
six = np.random.RandomState(0).permutation(len(weak))[:6]
by_chance, _ = patched([weak[i] for i in six])
claim(f"{len(six)} other heads together bring back {by_chance:.1f} %", abs(by_chance) < 5)

# %% [markdown]
# ## 6. What this does not say
#
# That a head is *needed*. Corrupt one at a time in the clean run, at all tokens together, and look at what is left.

# %%
needed = model.activation_patching(
    CLEAN, CORRUPTED, "head", LAYERS, metric=["prob", "logit_diff"], direction="noise", **both
)
least = {metric: needed.sel(metric=metric).min() for metric in ("prob", "logit_diff")}
claim(
    f"any head corrupted leaves {least['prob']:.1f} % of the answer's probability or more", least["prob"] > 95
)
claim(f"and {least['logit_diff']:.0f} % of the logit difference or more", 50 < least["logit_diff"] < 90)
whole = model.activation_patching(
    CLEAN, CORRUPTED, "attn", LAYERS[0], metric="prob", direction="noise", **both
)
claim(f"all heads of layer {LAYERS[0]} together leave {whole.recovery.max():.1f} %", whole.recovery.max() < 5)

# %% [markdown]
# So no single head is needed on the demo: what one no longer brings, others do. "The" head that moves a fact is usually
# several, and a map of single heads shows the ones that add most, not all that take part.
