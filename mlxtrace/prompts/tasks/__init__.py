"""The bundled tasks: sets of pairs, made for a tokenizer and checked against it."""

from .indirect_objects import ioi
from .other_subjects import fact_pairs
from .pronouns import gender
from .repeated_tokens import induction
from .years import greater_than
from .years_metric import greater_than_metric

TASKS = {
    "facts": fact_pairs,
    "ioi": ioi,
    "greater_than": greater_than,
    "gender": gender,
    "induction": induction,
}
__all__ = ["TASKS", "fact_pairs", "gender", "greater_than", "greater_than_metric", "induction", "ioi"]
