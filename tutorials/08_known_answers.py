# %% [markdown]
# # Tutorial 8: a model with known answers, and what each method says of it
#
#     python tutorials/08_known_answers.py [FOLDER]
#
# runs offline and writes its figure to FOLDER; it opens as a notebook, too. A trained model has no answer sheet: when
# two methods disagree, nobody can say which is right. This model was not trained. A small program was written into its
# weights, and an interpreter of the same program, which never sees the weights, says what every patch of every cell
# must do. So methods can be graded.

# %%
import sys
import warnings
from pathlib import Path

import numpy as np

from mlxtrace import GaussianNoise, InterpretableModel, compiled
from mlxtrace.plotting.sheet import Sheet

# A notebook's kernel has arguments of its own.
given = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
if given[1:] not in ([], ["compiled"]):
    print(
        f"All of this is skipped: of {given[1]} nobody knows the answers. It is about a program in a model's weights."
    )
    raise SystemExit
FOLDER = Path(given[0] if given else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
warnings.simplefilter("ignore")  # both runs are saturated, and results say so


def claim(sentence: str, holds: bool) -> None:
    """Prints a sentence of this page, which has to hold."""
    assert holds, sentence
    print(f"holds: {sentence}")


# %% [markdown]
# ## 1. The program
#
# Six people are known by first and last name together; each has a city, a job, a pet ... of three that are asked for.
# Two people are named, and something is asked about the first or the second.

# %%
program = compiled.lookup()
model = InterpretableModel(program)  # InterpretableModel("compiled") is the same: the program of seed 0
pairs = {pair.id: pair for pair in program.pairs}
for layer, rules in enumerate(program.rules.layers):
    heads = ", ".join(f"head {h}: {rule.role}" for h, rule in sorted(rules.heads.items()))
    print(f"layer {layer}: {heads}; {len(rules.neurons)} of 256 neurons have a rule")

# %% [markdown]
# A person is recognised in layer 0 (a head brings the first name to the last name, a neuron fires on both). Layer 1
# brings to the last token what is asked, and of whom. Layer 2 looks the person up, and layer 3 says the answer. Three
# things are there to mislead: neurons in layer 2 write the answer where nobody reads it, an onlooker there looks where
# the lookup looks and copies nothing, and a backup in layer 3 answers when the lookup has found nobody.

# %%
pair = pairs["last name 1"]
print(f"{pair.clean} ->{pair.target}; {pair.corrupted} ->{pair.foil}")


def truth(pair, component, direction="denoise"):
    """What each patch changes, [layer, position] and perhaps heads or neurons, as the interpreter says."""
    answers = pair.target, pair.foil
    after = program.interpreter.cells(pair.clean, pair.corrupted, component, answers, direction)
    logits = program.interpreter.logits(pair.corrupted if direction == "denoise" else pair.clean)
    target, foil = (program.rules.words.index(answer.strip()) for answer in answers)
    return after - (logits[target] - logits[foil])


how = {"metric": "logit_diff", "progress": False}

# %% [markdown]
# ## 2. Exact patching is exact
#
# Every number of the program is a whole number that float32 holds, so there is no tolerance here: not close, the same.

# %%
COMPONENTS = ["resid_pre", "q", "k", "v", "pattern", "head", "attn", "resid_mid", "mlp", "resid_post"]
errors, cells = [], 0
for component in COMPONENTS:
    for direction in ("denoise", "noise"):
        found = model.activation_patching(
            pair, component=component, positions="each", direction=direction, **how
        )
        base = found.corrupted if direction == "denoise" else found.clean
        errors.append(np.abs(found.raw - base - truth(pair, component, direction)).max())
        cells += found.raw.size
claim(f"{cells} cells of {len(COMPONENTS)} components, largest error: {max(errors)}", max(errors) == 0)

# %% [markdown]
# ## 3. What is there and what is used
#
# The MLP of layer 2 writes the answer: its output at the last token differs between the two prompts. A probe would find
# it. Patching it does nothing, in either direction, because nobody reads it.

# %%
at_last = {}
for name in ("clean", "corrupted"):
    _, cache = model.run_with_cache(getattr(pair, name), sites=["layers.2.mlp", "layers.3.mlp"])
    at_last[name] = {layer: np.array(cache[f"layers.{layer}.mlp"][0, -1]) for layer in (2, 3)}
for layer in (2, 3):
    written = np.abs(at_last["clean"][layer] - at_last["corrupted"][layer]).max()
    moved = np.abs(truth(pair, "mlp")[layer, -1])
    claim(
        f"MLP of layer {layer}: written differently by up to {written:.0f}, changes the logits by {moved:.0f}",
        written > 0 and (moved > 0) == (layer == 3),
    )
for way in ("denoise", "noise"):
    unread = model.activation_patching(
        pair, component="mlp", layers=2, positions="last", direction=way, **how
    )
    base = unread.corrupted if way == "denoise" else unread.clean
    claim(f"{way}: the logit difference is {unread.raw[0]:.0f}, as without a patch", unread.raw[0] == base)

# %% [markdown]
# ## 4. Sufficient, necessary, neither
#
# Here the corrupted prompt names nobody who is known. Restoring either lookup brings the answer back; corrupting either
# takes nothing away, because the other one answers. A map of what is necessary is empty at both heads. Corrupted
# together (a window of two layers) they matter.

# %%
nobody = pairs["nobody 1"]
where = {"component": "attn", "positions": "last", "metric": "logit_diff", "progress": False}
found = {
    "either lookup restored": model.activation_patching(nobody, **where).recovery,
    "either one corrupted": model.activation_patching(nobody, direction="noise", **where).recovery,
    "two layers corrupted": model.activation_patching(nobody, direction="noise", window=2, **where).recovery,
}
for what, recovery in found.items():
    print(f"{what:>22}: {recovery}")
claim("either one is enough", (found["either lookup restored"] == [0, 0, 100, 100]).all())
claim("neither is needed", (found["either one corrupted"] == 100).all())
claim("both together are", (found["two layers corrupted"] == [100, 100, 100, 0]).all())

# %% [markdown]
# The price of windows is place: one MLP does something, that of layer 3, and a window of three lights up two.

# %%
for window in (1, 3):
    mlps = model.activation_patching(pair, component="mlp", positions="last", window=window, **how)
    print(f"MLPs, window {window}:", mlps.recovery)
    assert mlps.recovery.tolist() == ([0, 0, 0, 100] if window == 1 else [0, 0, 100, 100])

# %% [markdown]
# ## 5. Noise
#
# Noise on the subject's embeddings is off the program's path: names are half there, and of several people. States come
# out where they should, at the name's last token in layers 0 and 1 and at the last token from layer 2 on, but not in
# full, and how much depends on the noise. With another person's name the same cells give exactly all of it.

# %%
noisy, other = (
    model.activation_patching(pair.clean, corruption, component="resid_post", positions="each", metric="prob",
                              target=pair.target, progress=False)
    for corruption in (GaussianNoise(pair.subject, samples=10), pair.corrupted)
)  # fmt: skip
at = pair.subject, noisy.subject_range[-1]  # the name, and the position of its last token
sites = {}
for name, found in (("noise", noisy), ("another name", other)):
    sites[name] = found.recovery[:, at[1]], found.recovery[:, -1]
    print(f"{name:>12}: last name {sites[name][0].round(1)}, last token {sites[name][1].round(1)}")
early, late = sites["noise"]
claim(
    "noise finds both sites",
    early.argmax() < 2 and early[2:].max() < 1 and late[:2].max() < 1 and late[2:].min() > 99,
)
claim(f"the early one not in full: {early.max():.0f} %", 50 < early.max() < 95)
exact = np.array([[100, 100, 0, 0], [0, 0, 100, 100]])
claim("another name gives exactly all of both", np.abs(np.array(sites["another name"]) - exact).max() < 1e-3)

# %% [markdown]
# ## 6. Gradients
#
# Attribution patching estimates all cells from one backward pass. A softmax that has decided has no gradient, nor has a
# neuron that is off. So take pairs of the program in both directions, and count the cells that matter, those of them
# for which the estimate is 0, and the cells that do nothing and are given something.


# %%
def estimates(pair, component, method, direction):
    neurons = {"neurons": "each"} if component == "neuron" else {}
    where = {"component": component, "positions": "each", "direction": direction, **neurons}
    return model.attribution_patching(pair, method=method, **where, **how).scores


trials = [(p, direction) for p in program.pairs[::4] for direction in ("denoise", "noise")]
ATTENTION = ["q", "k", "v", "pattern", "head"]
guesses = {
    method: np.stack([estimates(p, ATTENTION, method, direction) for p, direction in trials])
    for method in ("atp", "atp*", "ig")  # [trial, component, layer, position, head], from the same few passes
}
graded = {}
print("           matter    missed, given something although nothing, largest error (effects are 8 and 16)")
for i, component in enumerate(ATTENTION):
    right = np.stack([truth(p, component, direction) for p, direction in trials])
    said = f"{component:>9}{np.count_nonzero(right):>7}   "
    for method, found in guesses.items():
        given = found[:, i]
        missed = np.count_nonzero((np.abs(given) < 1e-3) & (right != 0))
        invented = np.count_nonzero((np.abs(given) > 1e-3) & (right == 0))
        wrong = np.abs(given - right).max()
        graded[component, method] = np.count_nonzero(right), missed, invented, wrong
        said += f"{method:>6}: {missed}, {invented}, {wrong:.0f}"
    print(said)

# %% [markdown]
# Keys and queries: plain gradients miss every one. Recomputing the softmax (atp*) finds those for which the values that
# would be fetched differ already. Points on the way between the embeddings (ig) find others, and where a softmax has
# not decided on the way, or a neuron is far from its threshold, they can be wrong by hundreds.

# %%
for component in ("q", "k"):
    matter, missed, *_ = graded[component, "atp"]
    claim(f"plain gradients miss {missed} of {matter} cells of {component}", missed == matter)
    claim(f"atp* misses {graded[component, 'atp*'][1]} of them", graded[component, "atp*"][1] < matter)
claim(f"ig finds {graded['pattern', 'ig'][0]} of {graded['pattern', 'ig'][0]} patterns, which atp* does not",
      graded["pattern", "ig"][1] == 0 < graded["pattern", "atp*"][1])  # fmt: skip
worst = max(graded[component, "ig"][3] for component in ATTENTION)
claim(f"and is wrong by up to {worst:.0f}", worst > 100)
#
# One pair as a figure, where the corrupted name is nobody's. Corrupting the lookup's key sends it to the other person,
# which plain gradients do not see. Corrupting its value leaves it with nobody, and then the backup answers: nothing
# changes, and gradients say that the answer is lost.

# %%
shown = pairs["unknown last name 1"]
bars: dict[str, list[float]] = {}  # of each cell: the truth, then the estimates
for group in (["resid_pre", "mlp"], ATTENTION, ["neuron"]):
    guess = [
        estimates(shown, group if len(group) > 1 else group[0], m, "noise") for m in ("atp", "atp*", "ig")
    ]
    for i, component in enumerate(group):
        right = truth(shown, component, "noise")
        given = [g[i] if len(group) > 1 else g for g in guess]
        for cell in np.argwhere((right != 0) | (np.abs(given) > 0.5).any(0)):
            unit = f" {cell[2]}" if len(cell) > 2 else ""
            label = f"{component}{unit}, layer {cell[0]}, token {cell[1]}"
            bars[label] = [float(x[tuple(cell)]) for x in (right, *given)]
name = model.subject_range(shown.clean, shown.subject)[-1]
key, value = (bars[f"{part} 3, layer 2, token {name}"] for part in ("k", "v"))
claim(
    f"corrupting the key changes {key[0]:+.0f}, and atp says {key[1]:+.0f}",
    key[0] == -16 and abs(key[1]) < 0.5,
)
claim(
    f"corrupting the value changes {value[0]:+.0f}, and atp says {value[1]:+.0f}",
    value[0] == 0 and value[1] < -8,
)

# %%
sheet = Sheet(FOLDER / "08_estimates.png")
figure = sheet.open(8.5, 6)
axes = sheet.axes()[0, 0]
rows = np.arange(len(bars))
looks = (("the truth", "black"), ("atp", "#d55e00"), ("atp*", "#0072b2"), ("ig", "#56b4e9"))
for i, (name, colour) in enumerate(looks):
    axes.barh(rows + 0.2 * i, [values[i] for values in bars.values()], 0.2, label=name, color=colour)
axes.set_yticks(rows + 0.3, list(bars))
axes.invert_yaxis()
axes.axvline(0, color="0.6", linewidth=0.8)
axes.set_xlabel("change of the logit difference")
figure.legend(frameon=False, loc="outside right center")
sheet.headline("Corrupting one cell: what happens, and what gradients say", [shown.clean])
sheet.finish()

# %% [markdown]
# ## 7. A screen says what it may have missed
#
# For neurons: rank by gradients, run the best exactly, audit the rest. Of our first pair four neurons matter. The
# screen verifies three; all that it reports is right. The fourth, which recognises the person, is off in the corrupted
# run and guessed to do nothing, as every idle neuron is, and the audit did not happen to draw it. So a screen does not
# say that there is nothing else: it says how many of the others may be stronger than what it reports.

# %%
screened = model.screen(pair, component="neuron", verify=50, audit=300, **how)
matter = [tuple(map(int, cell)) for cell in np.argwhere(truth(pair, "neuron"))]
verified = {(row["layer"], row["position"], row["neuron"]) for row in screened.verified if row["effect"]}
claim(f"neurons that matter: {len(matter)}; verified: {len(verified)}, all of these", verified < set(matter))
_, cache = model.run_with_cache(pair.corrupted, sites=[f"layers.{i}.neuron" for i in range(model.n_layers)])
for layer, position, neuron in set(matter) - verified:
    off = abs(float(cache[f"layers.{layer}.neuron"][0, position, neuron].item()))
    role = program.rules.layers[layer].neurons[neuron].role
    claim(f"missed: {role} (layer {layer}, token {position}), at {off:.0f} in the corrupted run", off == 0)
claim(
    f"allowed for: {screened.missed_bound:.1%} of {screened.audit.population} others, "
    f"{screened.missed_bound * screened.audit.population:.0f} cells",
    screened.missed_bound * screened.audit.population >= len(matter) - len(verified),
)

# %% [markdown]
# ## 8. Edges
#
# One sender, one read: the path of the name through the program, each edge worth everything.

# %%
names = {}
for method in ("exact", "eap", "eap-ig"):
    found = model.edges(pair, method=method, progress=False)
    strong = np.argwhere(np.abs(np.nan_to_num(found.scores)) > 0.5)
    names[method] = {f"{found.senders[s]} -> {found.receivers[r]}": found.scores[s, r] for s, r in strong}
    print(f"{method:>7}:", ", ".join(f"{name} {score:+.1f}" for name, score in names[method].items()))
told = program.interpreter.edges(pair.clean, pair.corrupted, (pair.target, pair.foil))
exact = names["exact"]
claim("each exact edge is worth all of the change", set(exact.values()) == {16.0})
claim("they are edges of the interpreter", all(told[tuple(name.split(" -> "))] == 8.0 for name in exact))
first = next(iter(exact))
claim(
    f"eap gives {first} {names['eap'][first] / exact[first]:.0f} times its worth", names["eap"][first] == 32.0
)

# %% [markdown]
# The gradient gives the first edge double: a neuron that goes from 0 to 1 while its input moves by 2, from below 0, has
# half of the way without a slope, and gradients see none of that. And no method lists the edges that bring the question
# to the last token, without which there is no answer: both prompts ask the same, so nothing that carries the question
# differs. What a pair of prompts holds fixed, no patch between them can see. The pair "question 1" shows just those:

# %%
asked = model.edges(pairs["question 1"], progress=False)
strong = np.argwhere(np.abs(np.nan_to_num(asked.scores)) > 0.5)
seen = [f"{asked.senders[s]} -> {asked.receivers[r]}" for s, r in strong]
print("question 1:", ", ".join(seen))
claim(
    "they bring the question from the embedding",
    "embed -> a1.h0.v" in seen and "embed -> a1.h0.v" not in exact,
)
