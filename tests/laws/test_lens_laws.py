"""The laws of lenses and patchscopes: they hold, and faults of each kind break them."""

import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine import batch, lens, top_tokens
from mlxtrace.experiments import logit_lens, patchscope_map, patchscope_parts
from mlxtrace.laws.law import DoesNotApply
from mlxtrace.laws.lens_laws import lenses, scopes
from mlxtrace.laws.model_under_test import ModelUnderTest


def measured(law, name="llama"):
    return law(ModelUnderTest(InterpretableModel(make(name))))


def broken(found):
    return not np.isfinite(found.error) or found.error > found.tolerance


# mamba, heavy here, is quick in identities/test_architectures.py: the same laws on the same model
@pytest.mark.parametrize("name", ["llama", pytest.param("mamba", marks=pytest.mark.heavy)])
def test_they_hold(name):
    assert not broken(measured(lenses, name)) and not broken(measured(scopes, name))


def test_a_model_that_has_no_lens_says_why(monkeypatch):
    monkeypatch.setattr(lens, "_reason", lambda resolver: "no norm")
    with pytest.raises(DoesNotApply, match="no norm"):
        measured(lenses)


def unordered(resolver, ids, sites, positions, honest=lens.streams):
    return honest(resolver, ids, sites, sorted(positions))


def answered_by_its_first(self, logits, k, honest=patchscope_parts.Scope.read):
    said = honest(self, logits, k)
    first = top_tokens.read(logits[:, 0], k, self.answer[0])
    return top_tokens.Said(said.ids, said.probabilities, first.prob, said.rank)


def of_the_first_source(*asked, honest=batch.indices):
    to, from_ = honest(*asked)
    return to, (from_[0] * 0, *from_[1:])


@pytest.mark.parametrize(
    "law, place, name, fault",
    [
        (lenses, logit_lens.lens, "streams", unordered),
        (lenses, logit_lens.lens, "read_out", lambda r, v, honest=lens.read_out: honest(r, v * 1.0 + 0.1)),
        (lenses, top_tokens, "likeliest", lambda row, k: np.argsort(row)[:k]),
        (scopes, patchscope_parts.Scope, "read", answered_by_its_first),
        (scopes, batch, "indices", of_the_first_source),
        (
            scopes,
            patchscope_map,
            "vectors_of",
            lambda *x, honest=patchscope_parts.vectors_of: honest(*x)[::-1],
        ),
    ],
)
def test_a_fault_breaks_it(monkeypatch, law, place, name, fault):
    monkeypatch.setattr(lens, "_reason", lambda resolver: "")
    monkeypatch.setattr(place, name, fault)
    assert broken(measured(law))
