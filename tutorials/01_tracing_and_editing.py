# %% [markdown]
# # Tutorial 1: read a model's activations, and change them while it runs
#
#     python tutorials/01_tracing_and_editing.py [FOLDER] [MODEL]
#
# runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
# from the hub (any name that mlx_lm loads will do):
#
#     python tutorials/01_tracing_and_editing.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
#
# Opened as a notebook (VS Code and Jupyter with jupytext read the file as it is), the model is chosen in the next cell.

# %%
# mlxtrace comes before mlx: on a CPU it loads a fast BLAS ahead of it.
import itertools
import sys
from pathlib import Path

import mlxtrace
from mlxtrace import interventions as iv
from mlxtrace import metrics
from mlxtrace.plotting.sheet import Sheet

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip

# A notebook's kernel has arguments of its own.
given = [] if "kernel_launcher" in sys.argv[0] else sys.argv[1:]
FOLDER = Path(given[0] if given else "tutorial-figures")
MODEL = given[1] if len(given) > 1 else "demo"
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(MODEL)
PROMPT = "The Eiffel Tower is located in the city of"
OTHER = "The Colosseum is located in the city of"


def claim(sentence: str, holds: bool) -> None:
    """Says whether a sentence of this page holds here. It was written about the demo: there it has to."""
    print(f"{'holds' if holds else 'does not hold here'}: {sentence}")
    assert holds or MODEL != "demo", sentence


def having(component: str) -> list[int]:
    """The layers that have such a component: not every architecture has all of them."""
    return [i for i in range(model.n_layers) if f"layers.{i}.{component}" in model.resolver.sites()]


# %% [markdown]
# ## 1. What the model sees
#
# A model sees tokens, not words. Every experiment is about positions, so look at them first. The receipt shows the
# ids, the texts, whether a beginning-of-text token was added, and where the subject is. Which of its tokens is the
# subject's last one depends on the tokenizer.

# %%
print(model)
print(model.receipt(PROMPT, "Eiffel Tower"))
tokens = model.to_str_tokens(PROMPT)
subject = model.subject_range(PROMPT, "Eiffel Tower")
claim(f"the two words are {len(subject)} tokens, the last one {tokens[subject[-1]]!r}", len(subject) > 2)

# %% [markdown]
# ## 2. Read
#
# Inside the block the forward pass runs as far as you ask: `model.layers[2].output` is a real array as soon as you
# name it, shaped [batch, tokens, width].


# %%
def answer(logits: mx.array) -> tuple[str, float]:
    """The most likely next token and its probability, from logits [1, T, V]."""
    p = metrics.softmax(np.array(logits[0, -1].astype(mx.float32)))
    return model.token_to_str(int(p.argmax())), float(p.max())


middle, last = model.n_layers // 2, model.n_layers - 1
with model.trace(PROMPT) as trace:
    state = model.layers[middle].output.save()
    logits = model.output.save()
clean, p = answer(logits)
print(f"clean answer: {clean!r} {p:.3f} | a layer's output is shaped", state.shape)
assert state.shape == (1, len(tokens), model.d_model)

# %% [markdown]
# The pass goes forward only. What has gone by can still be read; to edit it would change nothing any more, so that
# raises.

# %%
with model.trace(PROMPT):
    logits = model.output.save()
    again = model.layers[middle].output
    try:
        model.layers[middle].output[:, -1] = 0
        print("edited too late, without a word")
        raise AssertionError
    except mlxtrace.errors.MlxtraceError as error:
        print("an edit that comes too late:", error)
assert mx.array_equal(again, state)

# %% [markdown]
# After the block everything that went by is in a cache, by the module's path or by a canonical name that is the
# same for every architecture: resid_pre, attn, resid_mid, mlp, resid_post. In most architectures a layer adds what its
# attention and its MLP put out to what came in (some scale it, or normalize it, first).

# %%
cache = trace.activations
if having("mlp"):
    layer = having("mlp")[0]
    came, attn, mlp, went = (
        cache[f"layers.{layer}.{part}"].astype(mx.float32)
        for part in ("resid_pre", "attn", "mlp", "resid_post")
    )
    apart = float(mx.abs(went - (came + attn + mlp)).max() / mx.abs(went).max())
    claim(f"layer {layer}'s output is what came in, its attention and its MLP, to {apart:.0e}", apart < 1e-5)
else:
    print("skipped, what a layer adds: layers of this model have no MLP of their own")

# %% [markdown]
# How long the residual stream's vectors are, token by token: many models let one token grow much longer than all
# others (the first one, which attention rests on). It is worth knowing before you compare differences of states.

# %%
norms = np.array(
    [
        np.linalg.norm(np.array(cache[f"layers.{i}.resid_post"][0].astype(mx.float32)), axis=-1)
        for i in range(model.n_layers)
    ]
).T  # [tokens, layers]
longest = int(norms[:, last].argmax())
claim(
    f"in the last layer {tokens[longest]!r} at position {longest} is longest, "
    f"{norms[longest, last] / np.median(norms[:, last]):.1f} times the median token",
    longest == 0,
)
sheet = Sheet(FOLDER / "01_norms.png")
figure = sheet.open(6.4, 1.2 + 0.26 * len(tokens))
axes = sheet.axes()[0, 0]
image = axes.imshow(norms, cmap="Purples", vmin=0, aspect="auto")
axes.set_xlabel("layer")
axes.set_ylabel("token")
axes.set_yticks(range(len(tokens)), [repr(token)[1:-1] for token in tokens])
axes.xaxis.get_major_locator().set_params(integer=True)
figure.colorbar(image, label="length")
sheet.headline("How long the residual stream is", [f"after each layer of {model.name}: {PROMPT}"])
sheet.finish()

# %% [markdown]
# ## 3. Edit
#
# The array is editable in place, or replaced by assignment, and the rest of the pass goes on with what you left.
# Take the attention of the last token away, in every layer, and the model cannot fetch anything from the subject.

# %%
with model.trace(PROMPT):
    for layer in model.layers:
        layer.attn.output[:, -1] = 0
    without = model.output.save()
print("attention of the last token set to 0: {!r} {:.3f}".format(*answer(without)))
claim("without the last token's attention the answer is lost", answer(without)[0] != clean)

# %% [markdown]
# And so it has to be: without attention the last token knows itself and nothing else. The subject may be another one,
# the logits are the same.

# %%
if len(model.ids(OTHER)) == len(model.ids(PROMPT)):
    with model.trace(OTHER):
        for layer in model.layers:
            layer.attn.output[:, -1] = 0
        unasked = model.output.save()
    apart = float(mx.abs(unasked[0, -1] - without[0, -1]).max())
    claim(f"then logits after {OTHER!r} are the same, to {apart:.0e}", apart < 1e-4)
else:
    print("skipped, the same with another subject: it has another number of tokens")

# %% [markdown]
# Interventions say the same up front, as functions of the array, under any unambiguous name. On the demo the first MLP
# is needed, and the last one is not.

# %%
if having("mlp"):
    found = {}
    for layer in (having("mlp")[0], having("mlp")[-1]):
        with model.trace(PROMPT, interventions={f"layers.{layer}.mlp": iv.zero_out()}) as trace:
            pass
        found[layer] = answer(trace.output)
        print("MLP of layer {} set to 0: {!r} {:.3f}".format(layer, *found[layer]))
    (first, _), (final, _) = found[min(found)], found[max(found)]
    claim(
        "without the first MLP the answer is another, without the last one it stays", first != clean == final
    )
else:
    print("skipped, MLPs set to 0: this model has none")

# %% [markdown]
# ## 4. Move a state from one prompt to another
#
# This is the experiment that everything else here is built from. Take the last token's state from a prompt about the
# Colosseum, put it into the prompt about the Eiffel Tower, layer by layer, and see whose city comes out. In early
# layers the last token does not know yet; later it does, and takes the answer with it.

# %%
_, other = model.run_with_cache(OTHER)
brought = answer(_)[0]
answers = []
for i in [*range(0, last, max(1, model.n_layers // 6)), last]:
    with model.trace(PROMPT):
        model.layers[i].output[:, -1] = other[f"layers.{i}.resid_post"][:, -1]
        moved = model.output.save()
    answers.append(answer(moved)[0])
    print("last token's state from the Colosseum at layer {:>2}: {!r} {:.3f}".format(i, *answer(moved)))
changes = [before != after for before, after in itertools.pairwise(answers)]
claim(
    f"the answer changes once, from {clean!r} to {brought!r}",
    (answers[0], answers[-1], sum(changes)) == (clean, brought, 1),
)
assert answers[-1] == brought, "after the last layer the last token's state is the answer, in any model"

# %% [markdown]
# The last line is no finding but a law: after the last layer nothing else is read, so the answer comes along in any
# model.
#
# Tutorial 2 does this for every layer and position at once, and tutorial 3 with noise instead of another prompt.
# Two mistakes are impossible here and common elsewhere: a name that matches nothing raises with the closest ones,
# and a position past the end raises with the valid range. An experiment that did not happen has no number.

# %%
wrong = {
    "a misspelt name": ("layers.0.atn", iv.zero_out()),
    "a position too far": ("layers.0", iv.zero_at(99)),
}
for what, (site, edit) in wrong.items():
    try:
        with model.trace(PROMPT, interventions={site: edit}):
            pass
        raise AssertionError(f"{what} went by without a word")
    except mlxtrace.errors.MlxtraceError as error:
        print(f"{what}: {error}")
