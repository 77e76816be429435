"""The pairs of programs: of one length, with answers that differ, of every kind."""

from __future__ import annotations

import pytest

from mlxtrace import compiled
from mlxtrace.compiled.lookup_rules import lookup_rules
from mlxtrace.compiled.prompt_pairs import question, reply

KINDS = {
    "person", "first name", "last name", "unknown first name", "unknown last name", "nobody", "order", "swapped",
    "question",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_every_kind_is_there(seed):
    pairs = compiled.lookup(seed).pairs
    assert {pair.id.rsplit(" ", 1)[0] for pair in pairs} >= KINDS - {"unknown person"}
    assert len({pair.id for pair in pairs}) == len(pairs)
    for pair in [*pairs, *compiled.induction(seed).pairs]:
        assert len(pair.clean.split()) == len(pair.corrupted.split()) and pair.target != pair.foil


def test_the_table_answers():
    _, facts = lookup_rules(0)
    one, two = facts.people[:2]
    kind = next(iter(facts.kinds))
    assert reply(facts, (one, two, kind, "first")) == facts.answers[one, kind]
    assert reply(facts, (one, two, kind, "second")) == facts.answers[two, kind]
    stranger = ("No", "Body")
    assert reply(facts, (stranger, two, kind, "first")) == facts.answers[two, kind]
    assert reply(facts, (stranger, stranger, kind, "first")) is None
    assert question((one, two, kind, "first")).endswith(f". The {kind} of the first is")


@pytest.mark.parametrize("seed", range(3))
def test_the_program_answers_every_question_of_the_table(seed):
    program, (_, facts) = compiled.lookup(seed), lookup_rules(seed)
    for one in facts.people[:3]:
        for two in facts.people[2:]:
            for kind in facts.kinds:
                asked = (one, two, kind, "second")
                assert program.interpreter.answer(question(asked)) == reply(facts, asked)
