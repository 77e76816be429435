"""The lookup program's facts and parts."""

from __future__ import annotations

import numpy as np
import pytest

from mlxtrace import compiled
from mlxtrace.compiled.lookup_rules import facts_of, lookup_rules


@pytest.mark.parametrize("seed", range(30))
def test_no_name_says_who_it_is(seed):
    facts = facts_of(np.random.RandomState(seed))
    firsts, lasts = [a for a, _ in facts.people], [b for _, b in facts.people]
    assert len(facts.people) == 6 and all(firsts.count(name) == 2 for name in firsts)
    assert len(set(lasts)) == 4
    for kind, answers in facts.kinds.items():
        given = [facts.answers[person, kind] for person in facts.people]
        assert len(answers) == 3 and all(given.count(answer) == 2 for answer in answers)


def test_seeds_are_other_tables_and_one_seed_is_one():
    tables = [lookup_rules(seed)[1].answers for seed in (0, 1, 0)]
    assert tables[0] == tables[2] != tables[1]


def test_the_unread_answer_is_read_by_nothing():
    rules, _ = lookup_rules(0)
    reads = [str(layer) for layer in rules.layers]
    writes = {name for layer in rules.layers for n in layer.neurons.values() for name in n.writes}
    unread = {name for name in writes if name.startswith("unread:")}
    assert unread and len(reads) == 4
    for layer in rules.layers:
        for head in layer.heads.values():
            names = {n for m in head.matches for n in (*m.query, *m.key)} | set(head.copies)
            assert not names & unread
        assert not {name for n in layer.neurons.values() for name in n.reads} & unread


def test_the_backup_answers_when_the_lookup_finds_nobody():
    program = compiled.lookup()
    lookup = next(h for h, head in program.rules.layers[2].heads.items() if head.role == "lookup")
    pair = next(pair for pair in program.pairs if pair.id == "nobody 1")
    last = len(program.interpreter.ids(pair.clean)) - 1
    patched = program.interpreter.cell(pair.clean, pair.corrupted, "head", 2, [last], lookup, "noise")
    assert program.rules.words[int(patched.argmax())] == pair.target.strip()
    assert program.interpreter.answer(pair.clean) == pair.target.strip()
