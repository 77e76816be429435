# %% [markdown]
# # Tutorial 7: from a trace to a steering vector to text, and what a vector that steers does not prove.
#
#     python tutorials/07_steering.py [FOLDER]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. That model knows which city
# a landmark is in. Patching finds where it decides, the difference of two lists' activations there is a direction ("in
# Paris" less "in Rome"), and with the direction added it writes that Roman landmarks are in Paris.
#
# The whole experiment is section 1. The others ask what it has shown, with the controls that such a claim needs.

# %%
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import mlxtrace
from mlxtrace import Direction, facts, metrics
from mlxtrace import interventions as iv

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel("demo")
QUIET = {"progress": False}

landmarks = [f for f in facts.load("demo") if f.relation == "landmark_city"]
NAMES = {city: [f.subject for f in landmarks if f.attribute == city] for city in ("Paris", "Rome", "London")}
PARIS, ROME = NAMES["Paris"][:-1], NAMES["Rome"][:-1]  # what directions are made of
UNSEEN = NAMES["Rome"][-1]  # and what they are tried on, beside landmarks of a third city
for what, names in (("Paris", PARIS), ("Rome", ROME), ("kept for tests", [UNSEEN, *NAMES["London"]])):
    print(f"{what}: {', '.join(names)}")


def about(names: list[str], template: str = "The {} is in the city of") -> list:
    """A prompt for each name, which knows where its subject is."""
    return [model.prompt(template.format(name), subject=name) for name in names]


# %% [markdown]
# ## 1. Ten lines: find by patching, steer, read the text
#
# Put the last token's state of a prompt about Paris into prompts about Rome, a layer at a time: where it brings nearly
# all of the answer with it, the answer is there. In that layer the mean state over prompts about Paris, less that over
# prompts about Rome, is the direction. Added at the last token of a prompt of neither list, it changes what is written.

# %%
clean, corrupted = zip(*itertools.product(about(PARIS), about(ROME)), strict=True)
options = {"component": "resid_post", "align": "ends", "metric": "logit_diff", "progress": False}
decided = model.activation_patching(clean, corrupted, positions="last", **options)
late = next(layer for layer in decided if decided[layer] > 90)
say_paris = model.direction(about(PARIS), about(ROME), f"layers.{late}")
steered = {f"layers.{late}": iv.add_vector(2 * say_paris, -1)}
prompt = f"The {UNSEEN} is located in the city of"
print(f"\n{say_paris}\n")
print(f"{prompt!r}: {model.generate(prompt)!r}; steered {model.generate(prompt, interventions=steered)!r}\n")

# %% [markdown]
# ## 2. Another place
#
# The last token is not the only place. Patching the last token of the *name* finds an early one: there the model puts
# together what the name is, and hands it on in the middle layers (tutorials 2 and 3). So make a direction there, too.

# %%
named = model.activation_patching(clean, corrupted, positions="subject_last", **options)
print(f"recovery over {len(clean)} pairs, percent\n   layer  name's last token  last token")
for layer in decided:
    print(f"{layer:>8}{named[layer]:>19.0f}{decided[layer]:>12.0f}")
early = max(layer for layer in named if named[layer] > 97)
is_in_paris = model.direction(about(PARIS), about(ROME), f"layers.{early}", positions="subject_last")
print(f"\n{is_in_paris}\n")

# %% [markdown]
# ## 3. Told apart is not used
#
# `separation` asks whether prompts that were held out are told apart by the direction of the others. At the last token
# they are, without an error, in *every* layer, and it proves nothing about what the model does with that (nor would a
# probe's accuracy). Add each layer's direction there: the answer changes only where patching has found the answer. What
# random vectors of the same length do, ten of them in each layer, is the control. No prompt here made a direction.

# %%
TEST = [
    *about([UNSEEN], "The {} is located in"),
    *about([UNSEEN], "Visitors can see the {} in"),
    *about([UNSEEN], "The {} stands in the city of"),
    *about(NAMES["London"], "To see the {} you must travel to"),
]
TOKEN = model.answer_token(" Paris", TEST[0])


def paris(layer: int, vectors: np.ndarray, region: str = "last") -> np.ndarray:
    """Mean p(" Paris") over the test prompts, for each of some vectors `[n, D]`: a row of one pass each."""
    found = []
    for prompt in TEST:
        with model.trace(mx.array([prompt.ids] * len(vectors)), cache=False) as trace:
            model.layers[layer].output[:, prompt.regions[region].start] += mx.array(vectors, dtype=mx.float32)
        found.append(metrics.softmax(trace.output)[:, -1, TOKEN])
    return np.mean(found, axis=0)


random = np.random.RandomState(0)
layers, rows = list(decided), []
for layer in layers:
    one = model.direction(about(PARIS), about(ROME), f"layers.{layer}")
    draws = random.randn(10, model.d_model)
    draws *= 2 * one.norm / np.linalg.norm(draws, axis=1, keepdims=True)
    moved, *by_chance = paris(layer, np.stack([np.array((2 * one).vector), *draws]))
    rows.append((one.separation, decided[layer] / 100, moved, max(by_chance)))
print("at the last token\n   layer  told apart  patched  direction added  best of 10 random vectors")
for layer, (apart, patched, moved, chance) in zip(layers, rows, strict=True):
    print(f"{layer:>8}{apart:>12.2f}{patched:>9.2f}{moved:>17.3f}{chance:>27.3f}")


def drawn(name: str, x: list, curves: dict, styles: tuple, xlabel: str, ylabel: str, title: str) -> None:
    """A figure of some curves."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (label, values), style in zip(curves.items(), styles, strict=True):
        axes.plot(x, values, style, label=label, markersize=4)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.03, 1.06))
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FOLDER / name, dpi=120)


used = next(layer for layer, row in zip(layers, rows, strict=True) if row[2] > 0.5)
print(f"the cities are told apart in {sum(row[0] > 0.95 for row in rows)} of {len(rows)} layers; "
      f"the direction changes the answer from layer {used} on")  # fmt: skip
labels = (
    "told apart, held out",
    "answer brought\nby patching",
    "p(Paris),\ndirection added",
    "p(Paris), best of\n10 random vectors",
)
drawn(
    "07_layers.png", layers, dict(zip(labels, zip(*rows, strict=True), strict=True)), ("k:", "C0o-", "C3s-", "C7--"),
    "layer", "share", f"The last token's state: it tells cities apart in every layer, and decides from layer {used} on",
)  # fmt: skip

# %% [markdown]
# ## 4. How much, and where
#
# A coefficient of 1 moves the mean of one class onto the other's (a law of `mlxtrace.check`). Single prompts are no
# means, and those about London were in neither class, so it can take more; and with too much a state becomes like none
# that the model has seen. The early direction added at the last token is one more control: the place counts, too.

# %%
doses = np.arange(-1, 6.1, 0.5)
at_name, at_last = (np.outer(doses, np.array(one.vector)) for one in (is_in_paris, say_paris))
by_chance = np.outer(doses, draws[0] * say_paris.norm / np.linalg.norm(draws[0]))
curves = {
    f"layer {early}, at the\nname's last token": paris(early, at_name, "subject_last"),
    f"layer {late}, at the\nlast token": paris(late, at_last),
    f"random, layer {late},\nat the last token": paris(late, by_chance),
    f"that of layer {early},\nat the last token": paris(early, at_name),
}
print('\nmean p(" Paris") by coefficient      ' + "".join(f"{d:>7g}" for d in doses[::2]))
for name, values in curves.items():
    print(f"{' '.join(name.split()):<37}" + "".join(f"{v:>7.3f}" for v in values[::2]))
drawn(
    "07_dose.png", doses, curves, ("C0o-", "C3s-", "0.75", "C0:"), "coefficient", 'mean p(" Paris")',
    "Prompts about Rome and London that no direction was made of",
)  # fmt: skip

# %% [markdown]
# ## 5. What they mean: read the text
#
# Both directions make the answer " Paris". They do not mean the same. Have the model write other sentences with each.


# %%
def written(prompt, tokens: int = 14) -> list[str]:
    """What the model writes: as it is, with the early direction at the name, with the late one at the last token."""
    places = (is_in_paris, prompt.regions["subject_last"]), (say_paris, prompt.regions["last"])
    edits = [{}, *({one.site: iv.add_vector(2 * one, at)} for one, at in places)]
    return [model.generate(prompt, max_tokens=tokens, interventions=edit) for edit in edits]


print(f"\nas it is / steered at the name in layer {early} / at the last token in layer {late}")
for prompt in (
    *about([UNSEEN], "The {} is"),
    *about([UNSEEN, "Tower Bridge"], "The {} is in the country of"),
):
    print(f"{prompt.text!r}: " + " / ".join(map(repr, written(prompt))))

countries = about(NAMES["Rome"] + NAMES["London"], "The {} is in the country of")
_, at_names, at_ends = zip(*(written(prompt, tokens=1) for prompt in countries), strict=True)
for where, said in (("name", at_names), ("last token", at_ends)):
    counted = ", ".join(f"{word} {said.count(word)}" for word in ("France", "Paris"))
    print(f"countries of {len(said)} landmarks, steered at the {where}: {counted}")

# %% [markdown]
# Added at the name, the early direction changes what the landmark is: it is in Paris, and so in France, a word that no
# prompt and no answer of either list had. Added at the last token, the late one says its word whatever was asked:
# "Paris is a landmark in the city of Rome". Patching had told these places apart; the answer " Paris" alone does not.
#
# ## 6. What else it does
#
# A direction is added to everything that comes by, needed or not. Ask for what has nothing to do with cities.

# %%
elements = [f for f in facts.load("demo") if f.relation == "element_symbol"][::2]
kept = {name: 0 for name in ("as it is", "0.5", "1", "2")}
for fact in elements:
    right = model.answer_token(f" {fact.attribute}", fact.prompt)
    for name in kept:
        edit = {} if name == "as it is" else {say_paris.site: iv.add_vector(float(name) * say_paris, -1)}
        with model.trace(fact.prompt, edit, cache=False) as trace:
            pass
        kept[name] += int(trace.output[0, -1].argmax().item() == right)
print(f"\nsymbols of {len(elements)} elements that are right, by coefficient of the late direction: {kept}")

# %% [markdown]
# And how much of it is just the word? Compare with the rows of the embedding (tied here) that write the two words.

# %%
table = np.array(model.net.model.embed_tokens.weight.astype(mx.float32))
word = table[TOKEN] - table[model.answer_token(" Rome", TEST[0])]
for name, one in (("early", is_in_paris), ("late", say_paris)):
    cosine = float(np.array(one.unit.vector) @ word / np.linalg.norm(word))
    print(f"cosine of the {name} direction and the difference of the two words: {cosine:.2f}")

# %% [markdown]
# ## 7. What this has not shown
#
# - The demo was trained so that facts pass through these places, and has learned templates of facts, nothing else. That
#   a direction at the name carries over to countries is a property of its training, and no evidence of how larger
#   models keep what they know.
# - Eight prompts made the directions. `separation` holds prompts out, not kinds of prompts: all are one sentence with
#   other names in it, and lists that differ in something else as well (a word, a length) make a direction of that.
# - A vector that changes an answer is a way to change it. That the model computes with it takes more: the place
#   (patching), the controls (random vectors, other layers, other places), and what else it changes (text).
#
# A direction is kept in a file with what it was made of; `Direction.load` reads it.

# %%
with tempfile.TemporaryDirectory() as folder:
    again = Direction.load(is_in_paris.save(Path(folder) / "is_in_paris"))
print("\nfrom its file:", again.site, (again.vector == is_in_paris.vector).all().item())
