"""Whether a model knows a fact: its top token after the prompt is the first of the attribute."""

from __future__ import annotations

from .. import metrics
from ..engine.runs import Run, capture
from ..errors import InputError, PositionError, TokenError
from ..experiments.protocol import Prompt, TracedModel
from ..plotting.labels import probability, quoted
from .fact_files import Fact


def read_known(model: TracedModel, fact: Fact) -> tuple[Prompt | None, str]:
    """A fact's prompt with its subject, and ""; or None and why the fact cannot be traced."""
    try:
        prompt = model.prompt(fact.prompt)
        why = _what_it_says_instead(model, fact, prompt)
        return (None, why) if why else (prompt.with_subject(fact.subject), "")
    except (InputError, PositionError) as error:  # of this fact; the settings were checked before
        return None, str(error)


def _what_it_says_instead(model: TracedModel, fact: Fact, prompt: Prompt) -> str:
    logits = capture(model.resolver, Run(prompt.ids), [])[0]
    assert logits is not None  # they were not declined
    logits = logits[0]
    top = int(logits.argmax())
    if _starts(model, fact, prompt, top):
        return ""
    says = f"{quoted(model.token_to_str(top))} ({probability(float(metrics.softmax(logits)[top]))})"
    return f"the model says {says}, not {quoted(fact.attribute)}"


def _starts(model: TracedModel, fact: Fact, prompt: Prompt, token: int) -> bool:
    """Whether the attribute starts with this token behind the prompt, with a space before it or none.

    Where the tokenizer leaves that open (it splits the space off, say) the token's text decides.
    """
    text, known = model.token_to_str(token).strip(), False
    for attribute in (f" {fact.attribute}", fact.attribute):
        try:
            if model.answer_token(attribute, prompt) == token:
                return True
            known = True
        except TokenError:
            continue
    return text == fact.attribute or (not known and text != "" and fact.attribute.startswith(text))
