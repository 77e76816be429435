# %% [markdown]
# # Tutorial 7: from a trace to a steering vector to text, and what a vector that steers does not prove
#
#     python tutorials/07_steering.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. That model knows which city
# a landmark is in. Patching finds where it decides, the difference of two lists' activations there is a direction ("in
# Paris" less "in Rome"), and with the direction added it writes that Roman landmarks are in Paris. Opened as a notebook
# (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.
#
# The whole experiment is section 1. The others ask what it has shown, with the controls that such a claim needs.

# %%
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np

import mlxtrace
from mlxtrace import Direction, facts, metrics
from mlxtrace import interventions as iv
from mlxtrace.errors import MlxtraceError
from mlxtrace.plotting.sheet import Sheet

import mlx.core as mx  # isort: skip  (after mlxtrace, which loads a fast BLAS ahead of it)

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
try:
    TOKEN, INSTEAD = (model.answer_token(f" {city}", clean[0]) for city in ("Paris", "Rome"))
    decided = model.activation_patching(
        clean, corrupted, positions="last", target=" Paris", foil=" Rome", **options
    )
except MlxtraceError as refused:
    print(f"All that follows is skipped: {model.name} cannot be asked this. {refused}")
    raise SystemExit from refused
late = next(layer for layer in decided if decided[layer] > 90 or layer == model.n_layers - 1)
say_paris = model.direction(about(PARIS), about(ROME), f"layers.{late}")
steered = {f"layers.{late}": iv.add_vector(2 * say_paris, -1)}
prompt = f"The {UNSEEN} is located in the city of"
print(say_paris)

# %%
as_it_is, changed = (model.generate(prompt, max_tokens=12, interventions=edit) for edit in ({}, steered))
claim(f"{prompt!r}: {as_it_is!r}; steered {changed!r}", (as_it_is, changed) == ("Rome.", "Paris."))

# %% [markdown]
# ## 2. Another place
#
# The last token is not the only place. Patching the last token of the *name* finds an early one: there the model puts
# together what the name is, and hands it on in the middle layers (tutorials 2 and 3). So make a direction there, too.

# %%
named = model.activation_patching(
    clean, corrupted, positions="subject_last", target=" Paris", foil=" Rome", **options
)
print(f"recovery over {len(clean)} pairs, percent\n   layer  name's last token  last token")
for layer in decided:
    print(f"{layer:>8}{named[layer]:>19.0f}{decided[layer]:>12.0f}")
carrying = [layer for layer in named if named[layer] > 97] or [max(named, key=named.get)]
early = carrying[-1]
claim(
    f"the name's last token has the answer up to layer {early}, {named[early]:.0f} %; the last token from layer {late} "
    f"on, {decided[late]:.0f} %",
    early < 4 < late and named[late] < 10 and decided[early] < 10,
)
is_in_paris = model.direction(about(PARIS), about(ROME), f"layers.{early}", positions="subject_last")
print(is_in_paris)

# %% [markdown]
# ## 3. Told apart is not used
#
# `separation` asks whether prompts that were held out are told apart by the direction of the others. At the last token
# they are, without an error, in *every* layer that is tried, and it proves nothing about what the model does with that
# (nor would a probe's accuracy). Add each layer's direction there: the answer changes only where patching has found the
# answer. What random vectors of the same length do, ten of them in each layer, is the control. No prompt here made a
# direction.

# %%
TEST = [
    *about([UNSEEN], "The {} is located in"),
    *about([UNSEEN], "The {} stands in the city of"),
    *about(NAMES["London"], "To see the {} you must travel to"),
]


def paris(layer: int, vectors: np.ndarray, region: str = "last") -> np.ndarray:
    """Mean p(" Paris") over the test prompts, for each of some vectors `[n, D]`: a row of one pass each."""
    found = []
    for prompt in TEST:
        with model.trace(mx.array([prompt.ids] * len(vectors)), cache=False) as trace:
            model.layers[layer].output[:, prompt.regions[region].start] += mx.array(vectors, dtype=mx.float32)
        found.append(metrics.softmax(trace.output)[:, -1, TOKEN])
    return np.mean(found, axis=0)


random = np.random.RandomState(0)
layers, rows = list(decided)[1::2] or list(decided), []  # every second layer shows as much
for layer in layers:
    one = model.direction(about(PARIS), about(ROME), f"layers.{layer}")
    draws = random.randn(10, model.d_model)
    draws *= 2 * one.norm / np.linalg.norm(draws, axis=1, keepdims=True)
    moved, *by_chance = paris(layer, np.stack([np.array((2 * one).vector), *draws]))
    rows.append((one.separation, decided[layer] / 100, moved, max(by_chance)))
print("at the last token\n   layer  told apart  patched  direction added  best of 10 random vectors")
for layer, (apart, patched, moved, chance) in zip(layers, rows, strict=True):
    print(f"{layer:>8}{apart:>12.2f}{patched:>9.2f}{moved:>17.3f}{chance:>27.3f}")


def drawn(name: str, x: list, curves: dict, styles: tuple, xlabel: str, ylabel: str, title: str):
    """A figure of some curves."""
    sheet = Sheet(FOLDER / name)
    figure = sheet.open(7, 3.8)
    axes = sheet.axes()[0, 0]
    for (label, values), style in zip(curves.items(), styles, strict=True):
        axes.plot(x, values, style, label=label, markersize=4)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.03, 1.06))
    axes.set_xticks([i for i in x if i == int(i)][:: max(1, len(x) // 16)])
    figure.legend(fontsize=8, loc="outside right center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    sheet.headline(title, [f"{model.name}: prompts that no direction was made of"])
    return sheet.finish()


apart, patched, moved, by_chance = (np.array(column) for column in zip(*rows, strict=True))
used = [layer for layer, p in zip(layers, moved, strict=True) if p > 0.5]
claim(f"the cities are told apart in {(apart > 0.95).sum()} of {len(layers)} layers", (apart > 0.95).all())
claim(f"the direction changes the answer in layers {used}", used == [layer for layer in layers if layer >= 5])
claim(
    f"before, patching brings {max((decided[i] for i in layers if i not in used), default=0):.0f} % at most",
    all((decided[layer] > 50) == (layer in used) for layer in layers),
)
claim(f"the best random vector brings p(Paris) to {by_chance.max():.3f}", by_chance.max() < 0.1)

# %%
labels = (
    "told apart, held out",
    "answer brought\nby patching",
    "p(Paris),\ndirection added",
    "p(Paris), best of\n10 random vectors",
)
drawn(
    "07_layers.png", layers, dict(zip(labels, zip(*rows, strict=True), strict=True)), ("k:", "C0o-", "C3s-", "C7--"),
    "layer", "share", "The last token's state: where cities are told apart, and where one is decided",
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
print('mean p(" Paris") by coefficient      ' + "".join(f"{d:>7g}" for d in doses[::2]))
for name, values in curves.items():
    print(f"{' '.join(name.split()):<37}" + "".join(f"{v:>7.3f}" for v in values[::2]))
name_curve, last_curve, chance_curve, moved_curve = (np.array(values) for values in curves.values())
best = doses[name_curve.argmax()], doses[last_curve.argmax()]
claim(f"they are best at {best[0]:g} and {best[1]:g} times the direction", min(best) >= 1 and max(best) <= 4)
claim(
    f"with 6 times, less is left: {name_curve[-1]:.2f} of {name_curve.max():.2f} at the name, "
    f"{last_curve[-1]:.2f} of {last_curve.max():.2f} at the last token",
    name_curve[-1] < name_curve.max() and last_curve[-1] < last_curve.max(),
)
claim(
    f"a random vector brings {chance_curve.max():.3f} at most, the early direction at the last token "
    f"{moved_curve.max():.3f}",
    max(chance_curve.max(), moved_curve.max()) < 0.05,
)

# %%
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


print(f"as it is / steered at the name in layer {early} / at the last token in layer {late}")
for prompt in (
    *about([UNSEEN], "The {} is"),
    *about([UNSEEN, "Tower Bridge"], "The {} is in the country of"),
):
    print(f"{prompt.text!r}: " + " / ".join(map(repr, written(prompt))))

countries = about(NAMES["Rome"] + NAMES["London"], "The {} is in the country of")
_, at_names, at_ends = zip(*(written(prompt, tokens=1) for prompt in countries), strict=True)
for where, said, all_of_them in (("name", at_names, "France"), ("last token", at_ends, "Paris")):
    counted = ", ".join(f"{word} {said.count(word)}" for word in ("France", "Paris"))
    claim(
        f"countries of {len(said)} landmarks, steered at the {where}: {counted}",
        said.count(all_of_them) == len(said),
    )
asked = [prompt.text for prompt in (*about(PARIS), *about(ROME))]
assert not any("France" in text for text in asked)

# %% [markdown]
# Added at the name, the early direction changes what the landmark is: it is in Paris, and so in France, a word that no
# prompt and no answer of either list had. Added at the last token, the late one says its word whatever was asked:
# "Paris is a landmark in the city of Rome". Patching had told these places apart; the answer " Paris" alone does not.
#
# ## 6. What else it does
#
# A direction is added to everything that comes by, needed or not. Ask for what has nothing to do with cities.

# %%
elements = []  # prompts, and the token that starts the right answer
for fact in [f for f in facts.load("demo") if f.relation == "element_symbol"][::2]:
    try:
        elements.append((fact.prompt, model.answer_token(f" {fact.attribute}", fact.prompt)))
    except MlxtraceError:
        print(f"skipped: {fact.attribute!r} is no answer in this model's tokens")
kept = {name: 0 for name in ("as it is", "0.5", "1", "2")}
for asked, right in elements:
    for name in kept:
        edit = {} if name == "as it is" else {say_paris.site: iv.add_vector(float(name) * say_paris, -1)}
        with model.trace(asked, edit, cache=False) as trace:
            pass
        kept[name] += int(trace.output[0, -1].argmax().item() == right)
print(f"symbols of {len(elements)} elements that are right, by coefficient of the late direction: {kept}")
claim(
    "2 times the direction, which steers well, breaks them all",
    kept["as it is"] == len(elements) > 0 == kept["2"],
)

# %% [markdown]
# And how much of it is just the word? Compare with the rows of the embedding (tied here) that write the two words.

# %%
embed = model.resolver.get_embedding_layer()
rows_of = np.array(embed(mx.array([TOKEN, INSTEAD])).astype(mx.float32))
word = rows_of[0] - rows_of[1]
cosines = [float(np.array(one.unit.vector) @ word / np.linalg.norm(word)) for one in (is_in_paris, say_paris)]
claim(
    f"cosine with the difference of the two words: the early direction {cosines[0]:.2f}, the late {cosines[1]:.2f}",
    abs(cosines[0]) < 0.1 and 0.5 < cosines[1] < 0.95,
)

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
print("from its file:", again.site)
assert (again.vector == is_in_paris.vector).all().item()
