"""Models with known answers: small programs written into a model's weights, and an interpreter that needs none.

    program = compiled.lookup(seed=0)
    model = InterpretableModel(program)                      # seed 0 is InterpretableModel("compiled")
    truth = program.interpreter.cell(clean, corrupted, "mlp", 3, [12])

The interpreter says what every patch of every cell and every edge must do, to the last bit, so that an experiment, and
what only approximates one, can be judged.
"""

from __future__ import annotations

from .induction_rules import induction_rules
from .lookup_rules import lookup_rules
from .program import Program
from .prompt_pairs import induction_pairs, lookup_pairs

__all__ = ["Program", "induction", "lookup"]


def lookup(seed: int = 0, architecture: str = "gpt2") -> Program:
    """A model of four layers that looks up facts about people.

    Args:
        seed: Of the names, the facts, the places of heads and neurons and the basis of the residual stream.
        architecture: "gpt2", or "llama": the same program with rotary positions, RMS norms and a gated MLP.

    Returns:
        The `Program`: `Ada Berg met Carl Holm . The city of the first is` -> ` Oslo`, with the names of the seed.

    Example:
        >>> from mlxtrace import compiled
        >>> program = compiled.lookup(seed=1)
        >>> pair = program.pairs[0]
        >>> " " + program.interpreter.answer(pair.corrupted) == pair.foil
        True
    """
    rules, facts = lookup_rules(seed)
    return Program("lookup", rules, lookup_pairs(facts, seed), architecture)


def induction(seed: int = 0, architecture: str = "gpt2") -> Program:
    """A model of two layers that says what came after the earlier copy of the last word.

    Args:
        seed: Of the words, of which usually follows which, and of the places of heads, neurons and features.
        architecture: "gpt2" or "llama".

    Returns:
        The `Program`: `oak fir elm yew fir` -> ` elm`, with the words of the seed.

    Example:
        >>> from mlxtrace import compiled
        >>> program = compiled.induction()
        >>> a, b, c = program.rules.words[2:5]
        >>> program.interpreter.answer(f"{a} {b} {c} {a}") == b
        True
    """
    rules, usual = induction_rules(seed)
    return Program("induction", rules, induction_pairs(usual, seed), architecture)
