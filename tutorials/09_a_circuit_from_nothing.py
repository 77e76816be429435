"""Tutorial 9: a circuit that nobody planted, from the first guess to its edges.

    python tutorials/09_a_circuit_from_nothing.py [FOLDER] [MODEL]

runs offline on the induction model that ships with mlxtrace, and writes its figures to FOLDER. That model was asked for
the next word of random rows and for nothing else (mlxtrace/demo/induction/README.md), so what it does inside has to be
found, as in any trained model. Here it is small enough for every step to be exact.
"""

import sys
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import plotting, prompts

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "induction")

# ---- 1. The question
#
# The words are random, so nothing but the prompt itself says what comes next: what came after "egg" the last time?

PROMPT = "cat horse bell egg fish map crab lime cat horse bell egg"
with model.trace(PROMPT) as trace:
    pass
print("next:", repr(model.token_to_str(int(np.array(trace.output[0, -1]).argmax()))))

# ---- 2. A guess, from what the heads look at
#
# Olsson et al. (2022, arXiv:2209.11895) found in such models a head that looks one word back, and, a layer above it,
# heads that look from a word to the one after its earlier copy, and copy that. Two numbers for each head say how far it
# does either: its mean attention to the previous word, and to the word after the earlier copy.

pairs = prompts.induction(model, n=16, differs="A1")
patterns = []
for pair in pairs:
    _, cache = model.run_with_cache(pair.clean, sites=["layers.0.pattern", "layers.1.pattern"])
    patterns.append([np.array(cache[f"layers.{layer}.pattern"])[0] for layer in range(2)])
patterns = np.array(patterns)  # [pair, layer, head, query, key]
first, b1 = np.arange(2, 17), pairs[0].regions["B1"]
previous = patterns[..., first, first - 1].mean((0, -1))
induction = patterns[..., -1, b1].mean(0)
print("head     previous word   word after the earlier copy")
for layer, head in np.ndindex(previous.shape):
    print(f"a{layer}.h{head}{previous[layer, head]:16.2f}{induction[layer, head]:20.2f}")
back, looks = int(previous[0].argmax()), int(induction[1].argmax())
tokens = model.to_str_tokens(PROMPT)
_, cache = model.run_with_cache(PROMPT, sites=["layers.0.pattern", "layers.1.pattern"])
shown = [(0, back), (1, looks)]
plotting.attention_pattern(
    np.array([np.array(cache[f"layers.{layer}.pattern"])[0, head] for layer, head in shown]),
    tokens,
    heads=[f"{head} of layer {layer}" for layer, head in shown],
    title="A head that looks one word back, and one that looks behind the earlier copy",
    path=FOLDER / "09_patterns.png",
)

# ---- 3. What is compared
#
# A pattern is no proof. Pairs ask a question of the model, and which pairs decides what can be answered. In these the
# earlier "A" changes places with another word X: clean "... A B ... X C ... A" -> B, corrupted "... X B ... A C ... A"
# -> C. The same words stand there to be copied; what differs is where A is found.

for name, tokens in (("clean", pairs[0].clean), ("corrupted", pairs[0].corrupted)):
    print(f"{name:>9}: {model.decode(tokens)}")
print("answers:", repr(model.token_to_str(pairs[0].target)), "and", repr(model.token_to_str(pairs[0].foil)))
print(prompts.suitable(model, pairs))

# ---- 4. Which cells matter
#
# The output of every head at every named place, from the clean run into the corrupted one. B1 is the word behind the
# earlier A, and C1 the one behind X.

heads = model.activation_patching(
    pairs, component="head", positions="regions", metric="logit_diff", progress=False
)
for row in heads.top(6):
    print(f"  a{row['layer']}.h{row['head']} at {row['region']:<4}{row['logit_diff_recovery']:6.1f} %")

# The head that looks one word back, at the two places where the words before differ; and what layer 1 writes at the
# end. With queries, keys and values there are 160 cells. In larger models there would be millions, which only gradients
# can rank. How well would they do here?

for method in ("atp", "ig"):
    guessed = model.attribution_patching(
        pairs, component="head", positions="regions", metric="logit_diff", method=method, progress=False
    )
    estimates = [guessed.recovery[0, guessed.coords["region"].index(region), back] for region in ("B1", "C1")]
    print(
        f"a0.h{back} at B1 and C1 by {method:>4}: " + "".join(f"{estimate:8.1f} %" for estimate in estimates)
    )

# Where a softmax has made up its mind its gradient is nothing: attribution patching sees next to nothing of the
# strongest cells, and has one on the wrong side. Gradients on the way between both runs see them, too large. So no
# estimate is reported as an effect: a screen ranks by several, runs the best exactly, and a random sample of the
# others as well, which says what may have been missed.

screened = model.screen(
    pairs,
    component=["q", "k", "v", "head"],
    positions="regions",
    metric="logit_diff",
    verify=40,
    audit=40,
    progress=False,
)
print(screened)

# ---- 5. Who tells whom
#
# The guess says more than which cells: that what the head of layer 0 writes reaches the *keys* of layer 1. Path
# patching gives one read of one head that one contribution from the clean run, and leaves all else as it was.

READS = ["a1.q", "a1.k", "a1.v"]
paths = model.path_patching(pairs, senders="a0", receivers=READS, metric="logit_diff", progress=False)
print(paths)
paths.plot(FOLDER / "09_paths.png")

# ---- 6. All edges, and a circuit of a few
#
# The same for every edge there is, embedding and logits included.

edges = model.edges(pairs, progress=False)
print(edges)
circuit = edges.circuit(9)
print(circuit)
circuit.plot(FOLDER / "09_circuit.png")

# Nine edges: the embedding into the values of the head that looks back, that head into the keys of each head of layer
# 1, and each of these to the logits. Kept clean, with all others corrupted, they carry what tells the two runs apart,
# and as many edges drawn at random carry nothing. Measured on pairs that the edges were not chosen by:

fresh = prompts.induction(model, n=16, seed=1, differs="A1")
print("nine edges, on other pairs:", circuit.faithfulness(fresh))
print(f"nine edges drawn at random, 20 times: {np.abs(circuit.random(20, fresh)).max():.2f} at most")
curve = edges.curve(fresh, sizes=[0, 0.05, 0.09, 0.2, 0.5, 1])
print(curve)
curve.plot(FOLDER / "09_curve.png")
print("what is lost without each edge:")
for row in circuit.minimality(fresh):
    print(f"  {row['sender']:>6} -> {row['receiver']:<8}{row['drop']:6.2f}")

# ---- 7. Another question, another circuit
#
# In these pairs B itself is another word, and A stands where it stood. Now the keys say the same in both prompts, and
# what is read there differs.

other = model.edges(prompts.induction(model, n=16), progress=False)
print(other)
print("in both circuits:", circuit.compare(other.circuit(9))["shared"], "edges")

# The four edges to the logits, and no other: a circuit belongs to what differs between two prompts, not to a model.
# What both prompts have in common is in neither.

# ---- 8. Does it need the head?
#
# Without what the head of layer 0 writes, the heads of layer 1 should not find the place any more.


def looking(without: int | None = None) -> np.ndarray:
    """What each head of layer 1 looks at B1 with, from the last word: the mean over the pairs."""
    found = []
    for pair in fresh:
        with model.trace(pair.clean):
            if without is not None:
                model.layers[0].head.output[:, :, without] = 0
            found.append(np.array(model.layers[1].pattern.output[0, :, -1, b1]))
    return np.mean(found, axis=0)


print("layer 1 looks at B1 with", looking().round(2))
for head in range(model.n_heads):
    print(f"          without a0.h{head}:", looking(head).round(2))

# ---- 9. What this does not say
#
# That larger models do it so: there heads share their work. And that this one had to: on other rows models of the same
# shape learned to answer as well, without a head that looks one word back (the model's card has them). That is why the
# heads were looked at before a circuit was claimed.
