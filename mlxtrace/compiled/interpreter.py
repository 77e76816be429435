"""What a program's rules answer, and what every patch and every edge must do: no weights, no arrays of a model.

    found = interpreter.cell(clean, corrupted, "k", 2, [3], 1)         # the logits after one patched cell
    found = interpreter.edge(clean, corrupted, "m0", "a2.h1.k")        # ... after one edge

What float32 must do to agree is the business of `weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import InputError
from .reads import Read, Sender, all_edges
from .rule_pass import COMPONENTS, HEADED, RulePass, Swap, Values, added, copied, times
from .rules import HEADS, NEURONS, START, UNKNOWN, Rules, Stream, read

Text = str | Iterable[int]


class Interpreter:
    """Follows rules; prompts are texts, which it reads by itself, or token ids.

    Example:
        >>> from mlxtrace import compiled
        >>> program = compiled.lookup()
        >>> pair = program.pairs[0]
        >>> " " + program.interpreter.answer(pair.clean) == pair.target
        True
    """

    def __init__(self, rules: Rules):
        self.rules = rules
        self._ids = {word: i for i, word in enumerate(rules.words)}
        self._runs: dict[tuple[int, ...], Values] = {}

    def ids(self, prompt: Text) -> tuple[int, ...]:
        """The token ids of a text: the start token, then a token for each word."""
        if not isinstance(prompt, str):
            return tuple(int(i) for i in prompt)
        return tuple(self._ids.get(word, self._ids[UNKNOWN]) for word in [START, *prompt.split()])

    def run(self, prompt: Text) -> Values:
        """A plain pass."""
        ids = self.ids(prompt)
        if ids not in self._runs:
            made = Values(ids)
            streams = [self._embedded(token, p) for p, token in enumerate(ids)]
            for layer in range(len(self.rules.layers)):
                streams = RulePass(self.rules, made).layer(layer, streams)
            self._runs[ids] = made
        return self._runs[ids]

    def logits(self, prompt: Text) -> np.ndarray:
        """The logits `[V]` of a prompt's last position, float64."""
        return self._logits(self.run(prompt).last)

    def answer(self, prompt: Text) -> str:
        """The word with the largest logit."""
        return self.rules.words[int(self.logits(prompt).argmax())]

    # ---- one cell, one edge

    def cell(
        self,
        clean: Text,
        corrupted: Text,
        component: str,
        layers: int | Sequence[int],
        positions: Sequence[int],
        unit: int | None = None,
        direction: str = "denoise",
    ) -> np.ndarray:
        """The logits `[V]` after one cell is patched.

        Args:
            clean, corrupted: prompts of one length.
            component: one of COMPONENTS. Patterns are patched by query position.
            layers, positions: where, together.
            unit: the head or the neuron; None: all of the layer.
            direction: "denoise" patches the clean run's values into the corrupted run, "noise" the other way round.

        Raises:
            InputError: There is no such component, the lengths differ, or the direction is another.
        """
        if component not in COMPONENTS:
            raise InputError(f"the interpreter knows {', '.join(COMPONENTS)}, not {component!r}")
        base, source = self._base_and_source(clean, corrupted, direction)
        swaps = {}
        for layer in [layers] if isinstance(layers, int) else layers:
            there = source.at[component, layer]
            values = {p: there[p] if unit is None else there[p].get(unit) for p in positions}
            swaps[component, layer] = [Swap(p, unit, value) for p, value in values.items()]
        return self._patched(base, swaps, {})

    def edge(
        self,
        clean: Text,
        corrupted: Text,
        sender: str,
        receiver: str,
        positions: Sequence[int] | None = None,
        direction: str = "denoise",
    ) -> np.ndarray:
        """The logits `[V]` when one read gets a sender's contribution from the source run, and all behind it follows.

        Args:
            sender: "embed", "a2.h1" (a head), "m2" (an MLP), or "r2" (all that is written before layer 2).
            receiver: "a2.h1.q", "a2.h1.k", "a2.h1.v", "m2" or "logits".
            positions: of the read; None: all.
            clean, corrupted, direction: as for `cell`.

        Raises:
            InputError: A name is none, or the sender writes after the receiver has read.
        """
        base, source = self._base_and_source(clean, corrupted, direction)
        origin, at = Sender.named(sender, self.rules), Read.named(receiver, self.rules)
        if not origin.is_before(at):
            raise InputError(f"{sender} writes after {receiver} has read")
        changed = {}
        for p in range(len(base.ids)) if positions is None else positions:
            change = added(self._sent(source, origin, p), times(self._sent(base, origin, p), -1))
            if change:
                changed[p] = change
        if at.kind == "logits":
            return self._logits(added(base.last, changed.get(len(base.ids) - 1, {})))
        return self._patched(base, {}, {at: changed})

    # ---- all of them

    def cells(
        self,
        clean: Text,
        corrupted: Text,
        component: str,
        answers: tuple[str, str],
        direction: str = "denoise",
    ) -> np.ndarray:
        """The logit difference of two answers after each cell: `[layer, position]`, and perhaps an axis of heads.

        It is the `.raw` of `activation_patching(positions="each", metric="logit_diff")`, `heads="each"` where there
        are heads; for `neuron` each neuron is a cell.
        """
        units = {"neuron": NEURONS, **dict.fromkeys(HEADED, HEADS)}.get(component)
        layers, length = len(self.rules.layers), len(self.ids(clean))
        base, _ = self._base_and_source(clean, corrupted, direction)
        unpatched = self._margin(self._logits(base.last), answers)
        found = np.full((layers, length, *([] if units is None else [units])), unpatched)
        for layer in range(layers):
            there = self.rules.layers[layer]
            known = there.neurons if component == "neuron" else there.heads  # without rules nothing changes
            for p in range(length):
                for unit in [...] if units is None else known:
                    index = None if unit is ... else unit
                    logits = self.cell(clean, corrupted, component, layer, [p], index, direction)
                    found[layer, p, unit] = self._margin(logits, answers)
        return found

    def edges(
        self, clean: Text, corrupted: Text, answers: tuple[str, str], direction: str = "denoise"
    ) -> dict[tuple[str, str], float]:
        """The logit difference of two answers after each edge, at all positions: by sender and receiver."""
        return {
            ends: self._margin(self.edge(clean, corrupted, *ends, direction=direction), answers)
            for ends in all_edges(self.rules)
        }

    # ---- runs

    def _base_and_source(self, clean: Text, corrupted: Text, direction: str) -> tuple[Values, Values]:
        if direction not in ("denoise", "noise"):
            raise InputError(f'direction is "denoise" or "noise", not {direction!r}')
        runs = self.run(clean), self.run(corrupted)
        if len(runs[0].ids) != len(runs[1].ids):
            raise InputError(
                f"prompts of one length, not of {len(runs[0].ids)} and {len(runs[1].ids)} tokens"
            )
        return (runs[1], runs[0]) if direction == "denoise" else runs

    def _patched(self, base: Values, swaps: dict, edits: dict) -> np.ndarray:
        """The logits of the base run with values swapped (by component and layer) or reads edited."""
        touched = [layer for _, layer in swaps] + [at.layer for at in edits]
        made = RulePass(self.rules, Values(base.ids), base, swaps, edits)
        streams: list[Stream] = base.at["resid_pre", min(touched)]
        for layer in range(min(touched), len(self.rules.layers)):
            streams = made.layer(layer, streams)
            if layer >= max(touched) and streams == base.at["resid_post", layer]:
                return self._logits(base.last)
        return self._logits(streams[-1])

    def _sent(self, run: Values, sender: Sender, position: int) -> Stream:
        """What a sender added to the stream at a position."""
        if sender.head is None:
            return run.at["mlp" if sender.kind == "m" else "resid_pre", sender.layer][position]
        head = self.rules.layers[sender.layer].heads.get(sender.head)
        return {} if head is None else copied(head, run.at["head", sender.layer][position][sender.head])

    def _embedded(self, token: int, position: int) -> Stream:
        word = self.rules.embeds.get(self.rules.words[token], {})
        return added(word, self.rules.position(position))

    def _logits(self, stream: Stream) -> np.ndarray:
        embeds = self.rules.embeds
        return np.array([read(embeds.get(word, {}), stream) for word in self.rules.words], dtype=np.float64)

    def _margin(self, logits: np.ndarray, answers: tuple[str, str]) -> float:
        target, foil = (self._ids[word.strip()] for word in answers)
        return float(logits[target] - logits[foil])
