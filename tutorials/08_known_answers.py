"""Tutorial 8: a model with known answers, and what each method says of it.

    python tutorials/08_known_answers.py [FOLDER]

runs offline and writes its figure to FOLDER. A trained model has no answer sheet: when two methods disagree, nobody can
say which is right. This model was not trained. A small program was written into its weights, and an interpreter of
the same program, which never sees the weights, says what every patch of every cell must do. So methods can be graded.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mlxtrace import GaussianNoise, InterpretableModel, compiled

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
warnings.simplefilter("ignore")  # both runs are saturated, and results say so

# ---- 1. The program
#
# Six people are known by first and last name together; each has a city, a job, a pet ... of three that are asked for.
# Two people are named, and something is asked about the first or the second.

program = compiled.lookup()
model = InterpretableModel(program)  # InterpretableModel("compiled") is the same: the program of seed 0
pairs = {pair.id: pair for pair in program.pairs}
for layer, rules in enumerate(program.rules.layers):
    heads = ", ".join(f"head {h}: {rule.role}" for h, rule in sorted(rules.heads.items()))
    print(f"layer {layer}: {heads}; {len(rules.neurons)} of 256 neurons have a rule")

# A person is recognised in layer 0 (a head brings the first name to the last name, a neuron fires on both). Layer 1
# brings to the last token what is asked, and of whom. Layer 2 looks the person up, and layer 3 says the answer. Three
# things are there to mislead: neurons in layer 2 write the answer where nobody reads it, an onlooker there looks where
# the lookup looks and copies nothing, and a backup in layer 3 answers when the lookup has found nobody.

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

# ---- 2. Exact patching is exact
#
# Every number of the program is a whole number that float32 holds, so there is no tolerance here: not close, the same.

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
print(f"{cells} cells of {len(COMPONENTS)} components, largest error: {max(errors)}")

# ---- 3. What is there and what is used
#
# The MLP of layer 2 writes the answer: its output at the last token differs between the two prompts. A probe would find
# it. Patching it does nothing, in either direction, because nobody reads it.

at_last = {}
for name in ("clean", "corrupted"):
    _, cache = model.run_with_cache(getattr(pair, name), sites=["layers.2.mlp", "layers.3.mlp"])
    at_last[name] = {layer: np.array(cache[f"layers.{layer}.mlp"][0, -1]) for layer in (2, 3)}
for layer in (2, 3):
    written = np.abs(at_last["clean"][layer] - at_last["corrupted"][layer]).max()
    moved = np.abs(truth(pair, "mlp")[layer, -1])
    print(
        f"MLP of layer {layer}: written differently by up to {written:.0f}, changes the logits by {moved:.0f}"
    )

# ---- 4. Sufficient, necessary, neither
#
# Here the corrupted prompt names nobody who is known. Restoring either lookup brings the answer back; corrupting either
# takes nothing away, because the other one answers. A map of what is necessary is empty at both heads. Corrupted
# together (a window of two layers) they matter.

nobody = pairs["nobody 1"]
where = {"component": "attn", "positions": "last", "metric": "logit_diff", "progress": False}
print("either lookup restored:", model.activation_patching(nobody, **where).recovery)
print("either one corrupted:  ", model.activation_patching(nobody, direction="noise", **where).recovery)
print(
    "two layers corrupted:  ",
    model.activation_patching(nobody, direction="noise", window=2, **where).recovery,
)

# The price of windows is place: one MLP does something, that of layer 3, and a window of three lights up two.

for window in (1, 3):
    mlps = model.activation_patching(pair, component="mlp", positions="last", window=window, **how)
    print(f"MLPs, window {window}:", mlps.recovery)

# ---- 5. Noise
#
# Noise on the subject's embeddings is off the program's path: names are half there, and of several people. States come
# out where they should, at the name's last token in layers 0 and 1 and at the last token from layer 2 on, but not in
# full, and how much depends on the noise. With another person's name the same cells give exactly all of it.

noisy, other = (
    model.activation_patching(pair.clean, corruption, component="resid_post", positions="each", metric="prob",
                              target=pair.target, progress=False)
    for corruption in (GaussianNoise(pair.subject, samples=10), pair.corrupted)
)  # fmt: skip
for name, found in (("noise", noisy), ("another name", other)):
    print(
        f"{name:>12}: last name {found.recovery[:, 5].round(1)}, last token {found.recovery[:, -1].round(1)}"
    )

# ---- 6. Gradients
#
# Attribution patching estimates all cells from one backward pass. A softmax that has decided has no gradient, nor has a
# neuron that is off. So take pairs of the program in both directions, and count the cells that matter, those of them
# for which the estimate is 0, and the cells that do nothing and are given something.


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
print("           matter    missed, given something although nothing, largest error (effects are 8 and 16)")
for i, component in enumerate(ATTENTION):
    right = np.stack([truth(p, component, direction) for p, direction in trials])
    said = f"{component:>9}{np.count_nonzero(right):>7}   "
    for method, found in guesses.items():
        given = found[:, i]
        missed = np.count_nonzero((np.abs(given) < 1e-3) & (right != 0))
        invented = np.count_nonzero((np.abs(given) > 1e-3) & (right == 0))
        said += f"{method:>6}: {missed}, {invented}, {np.abs(given - right).max():.0f}"
    print(said)

# Keys and queries: plain gradients miss every one. Recomputing the softmax (atp*) finds those for which the values that
# would be fetched differ already. Points on the way between the embeddings (ig) find others, and where a softmax has
# not decided on the way, or a neuron is far from its threshold, they can be wrong by hundreds.

# One pair as a figure, where the corrupted name is nobody's. Corrupting the lookup's key sends it to the other person,
# which plain gradients do not see. Corrupting its value leaves it with nobody, and then the backup answers: nothing
# changes, and gradients say that the answer is lost.

shown = pairs["unknown last name 1"]
bars: dict[str, list[float]] = {}  # of each cell: the truth, then the estimates
for component in ("resid_pre", "q", "k", "v", "pattern", "head", "mlp", "neuron"):
    right = truth(shown, component, "noise")
    given = [estimates(shown, component, method, "noise") for method in ("atp", "atp*", "ig")]
    for cell in np.argwhere((right != 0) | (np.abs(given) > 0.5).any(0)):
        unit = f" {cell[2]}" if len(cell) > 2 else ""
        label = f"{component}{unit}, layer {cell[0]}, token {cell[1]}"
        bars[label] = [float(x[tuple(cell)]) for x in (right, *given)]
figure = Figure(figsize=(8, 6.5), layout="constrained")
axes = figure.subplots()
rows = np.arange(len(bars))
looks = (("the truth", "black"), ("atp", "#d55e00"), ("atp*", "#0072b2"), ("ig", "#009e73"))
for i, (name, colour) in enumerate(looks):
    axes.barh(rows + 0.2 * i, [values[i] for values in bars.values()], 0.2, label=name, color=colour)
axes.set_yticks(rows + 0.3, list(bars))
axes.invert_yaxis()
axes.axvline(0, color="0.6", linewidth=0.8)
axes.set_xlabel("change of the logit difference")
axes.set_title(f"Corrupting one cell: {shown.clean}", fontsize=10)
axes.legend(frameon=False)
figure.savefig(FOLDER / "08_estimates.png", dpi=120)

# ---- 7. A screen says what it may have missed
#
# For neurons: rank by gradients, run the best exactly, audit the rest. Of our first pair four neurons matter. The
# screen verifies three; all that it reports is right. The fourth, which recognises the person, is off in the corrupted
# run and guessed to do nothing, as every idle neuron is, and the audit did not happen to draw it. So a screen does not
# say that there is nothing else: it says how many of the others may be stronger than what it reports.

screened = model.screen(pair, component="neuron", verify=50, audit=300, **how)
matter = [tuple(map(int, cell)) for cell in np.argwhere(truth(pair, "neuron"))]
verified = {(row["layer"], row["position"], row["neuron"]) for row in screened.verified if row["effect"]}
print(f"neurons that matter: {len(matter)}; verified: {len(verified)}")
for layer, position, neuron in set(matter) - verified:
    print(f"missed: {program.rules.layers[layer].neurons[neuron].role} (layer {layer}, token {position})")
print(f"allowed for: {screened.missed_bound:.1%} of {screened.audit.population} others")

# ---- 8. Edges
#
# One sender, one read: the path of the name through the program, each edge worth everything.

names = {}
for method in ("exact", "eap", "eap-ig"):
    found = model.edges(pair, method=method, progress=False)
    strong = np.argwhere(np.abs(np.nan_to_num(found.scores)) > 0.5)
    names[method] = {f"{found.senders[s]} -> {found.receivers[r]}": found.scores[s, r] for s, r in strong}
    print(f"{method:>7}:", ", ".join(f"{name} {score:+.1f}" for name, score in names[method].items()))
told = program.interpreter.edges(pair.clean, pair.corrupted, (pair.target, pair.foil))
print(
    "edges as the interpreter says:", all(told[tuple(name.split(" -> "))] == 8.0 for name in names["exact"])
)

# The gradient gives the first edge double: a neuron that goes from 0 to 1 while its input moves by 2, from below 0, has
# half of the way without a slope, and gradients see none of that. And no method lists the edges that bring the question
# to the last token, without which there is no answer: both prompts ask the same, so nothing that carries the question
# differs. What a pair of prompts holds fixed, no patch between them can see. The pair "question 1" shows just those:

asked = model.edges(pairs["question 1"], progress=False)
strong = np.argwhere(np.abs(np.nan_to_num(asked.scores)) > 0.5)
print("question 1:", ", ".join(f"{asked.senders[s]} -> {asked.receivers[r]}" for s, r in strong))
