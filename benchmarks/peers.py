"""The textbook ways: nnsight's trace loop, TransformerLens' patching, and the ROME authors' batch, all in torch.

Each is written as its own documentation writes it, on the torch twin of the model: one forward pass per cell.
A contender has a `name`, `can(case)`, `prepare(case)` and `run(case, cells)`; see `contenders`. prepares_again: its
`run` repeats the preparation. `away` has them in a process of their own.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from . import THREADS
from .cases import Case
from .models import Shape, layers_of, tokenizer, torch_model

NAMES = ("nnsight", "transformer_lens", "rome")


class Nnsight:
    """A trace per cell: `layers[l].output[:, p, :] = source[l][:, p, :]`, then the logits."""

    name, whole, prepares_again = "nnsight loop", False, False

    def __init__(self, shape: Shape, weights: dict[str, np.ndarray]):
        import nnsight

        self.nnsight = nnsight
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = nnsight.LanguageModel(torch_model(shape, weights), tokenizer=tokenizer(shape))
        self.layers = layers_of(self.model)

    def can(self, case: Case) -> bool:
        return not case.samples and case.component in ("resid_post", "mlp")

    def prepare(self, case: Case) -> None:
        """Save the source activations of every layer."""
        import torch

        self.clean, self.corrupted = torch.tensor([case.clean]), torch.tensor([case.corrupted])
        part = (lambda layer: layer.mlp) if case.component == "mlp" else (lambda layer: layer)
        layers, nnsight = self.layers, self.nnsight
        with torch.no_grad(), self.model.trace(self.clean):
            states = nnsight.save([part(layer).output for layer in layers])
        # blocks of transformers 4 put out a tuple, hidden states first; those of 5 the hidden states
        self.tuples = isinstance(states[0], tuple)
        self.source = [state[0] if self.tuples else state for state in states]

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        import torch

        model, layers, source, found = self.model, self.layers, self.source, []
        mlp, tuples = case.component == "mlp", self.tuples
        for layer, p in cells:
            patched = list(case.layers_at(layer))
            with torch.no_grad(), model.trace(self.corrupted):
                for i in patched:
                    module = layers[i].mlp if mlp else layers[i]
                    if tuples:
                        module.output[0][:, p, :] = source[i][:, p, :]
                    else:
                        module.output[:, p, :] = source[i][:, p, :]
                logits = model.lm_head.output[0, -1].save()
            found.append(_read(logits, case))
        return np.array(found)


class TransformerLens:
    """`patching.get_act_patch_resid_pre`: HookedTransformer before version 4, TransformerBridge from it on."""

    whole = prepares_again = False

    def __init__(self, shape: Shape, weights: dict[str, np.ndarray]):
        if version("transformer_lens") < "4":
            self.name, self.model = "TransformerLens HookedTransformer", _hooked(shape, weights)
        else:
            self.name, self.model = "TransformerLens TransformerBridge", _bridged(shape, weights)

    def can(self, case: Case) -> bool:
        return not case.samples and case.component == "resid_pre" and case.shape.family == "gpt2"

    def prepare(self, case: Case) -> None:
        import torch

        self.corrupted = torch.tensor([case.corrupted])
        with torch.no_grad():
            _, self.cache = self.model.run_with_cache(torch.tensor([case.clean]))

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        import pandas
        import torch
        from transformer_lens import patching

        found = []

        def metric(logits: Any) -> Any:
            found.append(_read(logits[0, -1], case))
            return torch.tensor(found[-1][0])

        frame = pandas.DataFrame(cells, columns=["layer", "pos"])
        quiet = contextlib.redirect_stderr(io.StringIO())  # its progress bar
        with torch.no_grad(), quiet:
            patching.get_act_patch_resid_pre(
                self.model, self.corrupted, self.cache, metric, index_axis_names=None, index_df=frame
            )
        return np.array(found)


def _bridged(shape: Shape, weights: dict[str, np.ndarray]) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    twin, words = torch_model(shape, weights), tokenizer(shape)
    model = TransformerBridge.boot_transformers("gpt2", hf_model=twin, tokenizer=words, device="cpu")
    model.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    return model.eval()


def _hooked(shape: Shape, weights: dict[str, np.ndarray]) -> Any:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    config = HookedTransformerConfig(
        n_layers=shape.layers,
        d_model=shape.width,
        n_ctx=shape.context,
        n_heads=shape.heads,
        d_head=shape.width // shape.heads,
        d_mlp=shape.hidden,
        d_vocab=shape.vocab,
        act_fn="gelu_new",
        normalization_type="LN",
        device="cpu",
    )
    model = HookedTransformer(config)
    state = convert_gpt2_weights(torch_model(shape, weights), config)
    missing = model.load_state_dict(state, strict=False).missing_keys
    # the unembedding has no bias in GPT-2; masks are constants of the model
    if [k for k in missing if not k.endswith(("mask", "IGNORE", "b_U"))]:
        raise ValueError(f"TransformerLens misses weights: {missing}")
    return model.eval()


class Rome:
    """The ROME authors' `trace_with_patch`: per cell one pass of a clean row and a noised row per sample."""

    name, whole, prepares_again = "ROME authors' way", False, False

    def __init__(self, shape: Shape, weights: dict[str, np.ndarray]):
        self.model = torch_model(shape, weights)

    def can(self, case: Case) -> bool:
        return bool(case.samples) and case.component in ("resid_post", "mlp")

    def prepare(self, case: Case) -> None:
        import torch

        self.ids = torch.tensor([case.clean] * (case.samples + 1))
        self.noise = torch.tensor(case.noise(), dtype=torch.float32)

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        import torch

        with torch.no_grad():
            return np.array([self._cell(case, layer, p) for layer, p in cells])

    def _cell(self, case: Case, layer: int, position: int) -> list[float]:
        def noised(module, args, output):
            output[1:, case.subject[0] : case.subject[-1] + 1] += self.noise
            return output

        def restored(module, args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[1:, position] = hidden[0, position]
            return output

        hooks = [self.model.get_input_embeddings().register_forward_hook(noised)]
        for i in case.layers_at(layer):
            block = layers_of(self.model)[i]
            hooks.append((block.mlp if case.component == "mlp" else block).register_forward_hook(restored))
        try:
            logits = self.model(self.ids).logits[1:, -1]
        finally:
            for hook in hooks:
                hook.remove()
        return [logits.softmax(-1)[:, case.target].mean().item(), logits[:, case.target].mean().item()]


def _read(logits: Any, case: Case) -> list[float]:
    """Probability and logit of the target, from one position's logits."""
    return [logits.softmax(-1)[case.target].item(), logits[case.target].item()]


def make(name: str, shape: Shape, weights: dict[str, np.ndarray]) -> Any:
    """The peer of this name, or None where it is not installed."""
    try:
        return {"nnsight": Nnsight, "transformer_lens": TransformerLens, "rome": Rome}[name](shape, weights)
    except ImportError as error:
        print(f"  {name} is left out: {error}", flush=True)
        return None


# ---- in a process of their own


class Away:
    """A peer in the peers' process: there no BLAS is loaded ahead of torch's own, which would slow it down.

    connection: to that process. index: the peer's number there. threads: of torch, set by `contenders.WithThreads`.
    """

    def __init__(self, connection: Any, index: int, name: str, whole: bool, prepares_again: bool):
        self.connection, self.index, self.threads = connection, index, THREADS
        self.name, self.whole, self.prepares_again = name, whole, prepares_again

    def _ask(self, what: str, *args: Any) -> Any:
        self.connection.send((self.index, self.threads, what, args))
        found = self.connection.recv()
        if isinstance(found, BaseException):
            raise found
        return found

    def can(self, case: Case) -> bool:
        return self._ask("can", case)

    def prepare(self, case: Case) -> None:
        self._ask("prepare", case)

    def run(self, case: Case, cells: list[tuple[int, int]]) -> np.ndarray:
        return self._ask("run", case, cells)


def away(names: Sequence[str], shape: Shape, weights: dict[str, np.ndarray]) -> list[Away]:
    """The peers of these names that are installed, in a process of their own; it ends with this one."""
    ours, theirs = multiprocessing.Pipe()
    before = os.environ.get("MLXTRACE_BLAS")
    os.environ["MLXTRACE_BLAS"] = "none"
    try:
        context = multiprocessing.get_context("spawn")
        context.Process(target=_serve, args=(theirs,), daemon=True).start()
    finally:
        os.environ.pop("MLXTRACE_BLAS")
        if before is not None:
            os.environ["MLXTRACE_BLAS"] = before
    theirs.close()
    ours.send((names, shape, weights))
    return [Away(ours, *about) for about in ours.recv()]


def _serve(connection: Any) -> None:
    import torch

    names, shape, weights = connection.recv()
    made = [peer for name in names if (peer := make(name, shape, weights)) is not None]
    del weights
    connection.send([(i, peer.name, peer.whole, peer.prepares_again) for i, peer in enumerate(made)])
    while True:
        try:
            index, threads, what, args = connection.recv()
        except EOFError:
            return
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        try:
            connection.send(getattr(made[index], what)(*args))
        except Exception as error:
            connection.send(RuntimeError(f"{made[index].name}: {error!r}"))
