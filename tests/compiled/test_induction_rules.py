"""The induction program: the earlier copy decides, and without one the table of usual followers is heard."""

from __future__ import annotations

import pytest

from mlxtrace import compiled
from mlxtrace.compiled.induction_rules import induction_rules


@pytest.mark.parametrize("seed", range(3))
def test_the_latest_earlier_copy_is_followed(seed):
    program = compiled.induction(seed)
    a, b, c, d, e = program.rules.words[2:7]
    assert program.interpreter.answer(f"{a} {b} {c} {a}") == b
    assert program.interpreter.answer(f"{a} {b} {c} {a} {d} {e} {a}") == d


def test_the_usual_follower_has_its_share_of_the_logits():
    program, (_, usual) = compiled.induction(), induction_rules(0)
    words = list(usual)
    assert sorted(usual.values()) == sorted(words) and all(a != b for a, b in usual.items())
    logits = dict(zip(program.rules.words, program.interpreter.logits(words[0]), strict=True))
    assert logits[usual[words[0]]] == 2.0
