"""Tutorial 1: read a model's activations, and change them while it runs.

    python tutorials/01_tracing_and_editing.py [FOLDER] [MODEL]

runs offline on the small model that ships with mlxtrace and writes its figures to FOLDER. The same on a model
from the hub (any name that mlx_lm loads will do):

    python tutorials/01_tracing_and_editing.py figures mlx-community/Llama-3.2-1B-Instruct-4bit
"""

# mlxtrace comes before mlx: on a CPU it loads a fast BLAS ahead of it.
import sys
from pathlib import Path

import mlxtrace
from mlxtrace import interventions as iv
from mlxtrace import metrics, plotting

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial-figures")
FOLDER.mkdir(parents=True, exist_ok=True)
model = mlxtrace.InterpretableModel(sys.argv[2] if len(sys.argv) > 2 else "demo")
PROMPT = "The Eiffel Tower is located in the city of"

# ---- 1. What the model sees
#
# A model sees tokens, not words. Every experiment is about positions, so look at them first. The receipt shows the
# ids, the texts, whether a beginning-of-text token was added, and where the subject is. " Tower" is not the
# subject's first token, and on another tokenizer it may not be its last one either.

print(model)
print(model.receipt(PROMPT, "Eiffel Tower"))


def answer(logits: mx.array) -> str:
    """The most likely next token and its probability, from logits [1, T, V]."""
    p = metrics.softmax(np.array(logits[0, -1].astype(mx.float32)))
    return f"{model.token_to_str(int(p.argmax()))!r} {p.max():.3f}"


# ---- 2. Read
#
# Inside the block the forward pass runs as far as you ask: `model.layers[5].output` is a real array as soon as you
# name it, shaped [batch, tokens, width]. What you ask for must come in the order in which the model computes it.

with model.trace(PROMPT) as trace:
    early = model.layers[1].output.save()
    middle = model.layers[model.n_layers // 2].output.save()
    logits = model.output.save()
print("clean answer:", answer(logits), "| a layer's output is shaped", early.shape)

# After the block everything that went by is in a cache, by the module's path or by a canonical name that is the
# same for every architecture: resid_pre, attn, resid_mid, mlp, resid_post.

cache = trace.activations
last = model.n_layers - 1
stream = cache["layers.0.resid_post"]
parts = cache["layers.0.resid_pre"] + cache["layers.0.attn"] + cache["layers.0.mlp"]
print("a layer adds what its attention and its MLP put out, to", float(mx.abs(stream - parts).max()))

# How long the residual stream's vectors are, token by token: most models let one token grow much longer than all
# others (the first one, which attention rests on). It is worth knowing before you compare differences of states.

norms = [
    np.linalg.norm(np.array(cache[f"layers.{i}.resid_post"][0].astype(mx.float32)), axis=-1)
    for i in range(model.n_layers)
]
plotting.head_heatmap(
    np.array(norms).T,
    layers=range(len(norms[0])),
    label="length",
    title="Residual stream by token (down) and layer (across)",
    path=FOLDER / "01_norms.png",
)

# ---- 3. Edit
#
# The array is editable in place, or replaced by assignment, and the rest of the pass goes on with what you left.
# Take the attention of the last token away, in every layer, and the model cannot fetch anything from the subject.

with model.trace(PROMPT):
    for layer in model.layers:
        layer.attn.output[:, -1] = 0
    without = model.output.save()
print("attention of the last token set to 0:", answer(without))

# Interventions say the same up front, as functions of the array, under any unambiguous name.

with model.trace(PROMPT, interventions={"layers.0.mlp": iv.zero_out()}) as trace:
    pass
print("MLP of layer 0 set to 0:", answer(trace.output))
with model.trace(PROMPT, interventions={f"layers.{last}.mlp": iv.zero_out()}) as trace:
    pass
print(f"MLP of layer {last} set to 0:", answer(trace.output))

# ---- 4. Move a state from one prompt to another
#
# This is the experiment that everything else here is built from. Take the last token's state from a prompt about the
# Colosseum, put it into the prompt about the Eiffel Tower, layer by layer, and see whose city comes out. In early
# layers the last token does not know yet; later it does, and takes the answer with it.

OTHER = "The Colosseum is located in the city of"
_, other = model.run_with_cache(OTHER)
for i in range(0, model.n_layers, max(1, model.n_layers // 6)):
    with model.trace(PROMPT):
        model.layers[i].output[:, -1] = other[f"layers.{i}.resid_post"][:, -1]
        moved = model.output.save()
    print(f"last token's state from the Colosseum at layer {i:>2}: {answer(moved)}")

# Tutorial 2 does this for every layer and position at once, and tutorial 3 with noise instead of another prompt.
# Two mistakes are impossible here and common elsewhere: a name that matches nothing raises with the closest ones,
# and a position past the end raises with the valid range. An experiment that did not happen has no number.

try:
    with model.trace(PROMPT, interventions={"layers.0.mpl": iv.zero_out()}):
        pass
except mlxtrace.errors.SiteError as error:
    print("a misspelt name:", error)
