"""The laws of generating, on models and generations that break them."""

from __future__ import annotations

import mlx.core as mx
import models
import pytest
from faulty_models import seen

from mlxtrace import InterpretableModel
from mlxtrace.forward import steps
from mlxtrace.intervention import Window
from mlxtrace.laws.generation_laws import anew, as_mlx_lm


def model():
    return InterpretableModel(models.make("llama", num_hidden_layers=2, hidden_size=32, intermediate_size=32))


class Skewed(InterpretableModel):
    """A model whose generations are those of another prompt."""

    def generate(self, prompt, *arguments, **options):
        return InterpretableModel.generate(self, [*prompt[:-1], 1], *arguments, **options)


def test_they_hold():
    assert not seen(as_mlx_lm, model()) and not seen(anew, model())


def test_text_of_another_prompt():
    with pytest.raises(AssertionError, match="others than mlx-lm's"):
        seen(as_mlx_lm, Skewed(model().net))
    assert seen(anew, Skewed(model().net))


def test_edited_keys_that_are_forgotten(monkeypatch):
    def forgetting(self, port, x, edits):
        earlier = self.before + self.done
        made = x[:, earlier:]
        for edit in edits:
            made = edit(made)
        return mx.concatenate([x[:, :earlier], made], axis=1)

    monkeypatch.setattr(steps.Steps, "_with_kept", forgetting)
    assert seen(anew, model())


def test_positions_of_the_pass_and_not_of_the_prompt(monkeypatch):
    honest = Window.act

    def shifted(self, edit, fn, x):
        self.start += 1
        return honest(self, edit, fn, x)

    monkeypatch.setattr(Window, "act", shifted)
    assert seen(anew, model())


def test_a_prompt_that_is_seen_in_pieces(monkeypatch):
    monkeypatch.setattr(
        steps.Steps, "__call__", lambda self, tokens, cache=None, **o: self._run(tokens, cache, o)
    )
    with pytest.raises(AssertionError, match="saw arrays of"):
        seen(as_mlx_lm, model())
