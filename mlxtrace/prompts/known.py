"""Whether a model knows a fact: its top token after the prompt is the first of the attribute."""

from __future__ import annotations

from .. import metrics
from ..engine.runs import Run, capture
from ..errors import InputError, PositionError, TokenError
from ..experiments.protocol import TracedModel
from ..plotting.labels import probability, quoted
from .fact_files import Fact


def why_not_traced(model: TracedModel, fact: Fact) -> str:
    """Why a fact cannot be traced: what the model says instead, or what is wrong with the fact; "" when it can be."""
    try:
        why = _what_it_says_instead(model, fact)
        if not why:
            model.subject_range(fact.prompt, fact.subject)
        return why
    except (InputError, PositionError) as error:  # of this fact; the settings were checked before
        return str(error)


def _what_it_says_instead(model: TracedModel, fact: Fact) -> str:
    logits = capture(model.resolver, Run(tuple(model.ids(fact.prompt))), [])[0]
    assert logits is not None  # they were not declined
    logits = logits[0]
    top = int(logits.argmax())
    if _starts(model, fact, top):
        return ""
    says = f"{quoted(model.token_to_str(top))} ({probability(float(metrics.softmax(logits)[top]))})"
    return f"the model says {says}, not {quoted(fact.attribute)}"


def _starts(model: TracedModel, fact: Fact, token: int) -> bool:
    """Whether the attribute starts with this token behind the prompt, with a space before it or none.

    Where the tokenizer leaves that open (it splits the space off, say) the token's text decides.
    """
    text, known = model.token_to_str(token).strip(), False
    for attribute in (f" {fact.attribute}", fact.attribute):
        try:
            if model.answer_token(attribute, fact.prompt) == token:
                return True
            known = True
        except TokenError:
            continue
    return text == fact.attribute or (not known and text != "" and fact.attribute.startswith(text))
