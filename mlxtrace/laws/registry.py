"""All laws, in the order of the check's table.

A new law is a function with `@law(name, distrust)` in the file of its subject, and its line here.
"""

from __future__ import annotations

from . import (
    answer_laws,
    attention_laws,
    causal_effect_laws,
    causal_trace_laws,
    compiled_laws,
    edge_laws,
    engine_laws,
    gradient_laws,
    metric_laws,
    noise_laws,
    pair_set_laws,
    patching_laws,
    path_laws,
    precision_laws,
    refusal_laws,
    source_model_laws,
    stream_laws,
    tracing_laws,
)
from .small_model import small_model_law

# Identities of the model, its sites and the engines; docs/SUPPORT.md has them for every architecture.
MODEL_LAWS = (
    tracing_laws.repeats,
    tracing_laws.untouched,
    tracing_laws.itself,
    stream_laws.follows,
    stream_laws.reads,
    stream_laws.written,
    stream_laws.stream,
    stream_laws.sums,
    attention_laws.projected,
    attention_laws.patterns,
    attention_laws.one_head_alone,
    attention_laws.pattern_weighs_values,
    attention_laws.all_heads,
    engine_laws.causal,
    engine_laws.before,
    engine_laws.fanout,
    engine_laws.flat,
    engine_laws.prefix,
    engine_laws.split,
    noise_laws.noise,
    noise_laws.noise_rows,
    precision_laws.quantized,
    stream_laws.accounted,
)
# What experiments, traces and edits return, as a user asks for them, against loops by hand.
EXPERIMENT_LAWS = (
    precision_laws.rows_are_independent,
    stream_laws.names,
    tracing_laws.activations,
    tracing_laws.kept,
    tracing_laws.edits,
    patching_laws.denoise,
    patching_laws.noising,
    patching_laws.windows,
    patching_laws.single_heads,
    patching_laws.ends,
    source_model_laws.itself,
    source_model_laws.between,
    path_laws.steps,
    path_laws.whole,
    path_laws.everywhere,
    edge_laws.slopes,
    edge_laws.circuits,
    pair_set_laws.sets,
    answer_laws.whole_answers,
    metric_laws.metrics,
    gradient_laws.small_changes,
    noise_laws.noise_by_hand,
    causal_trace_laws.traces,
    causal_trace_laws.severed,
    causal_effect_laws.effects,
    refusal_laws.refusals,
)
LAWS = [
    *MODEL_LAWS,
    *EXPERIMENT_LAWS,
    compiled_laws.cells,
    compiled_laws.edges,
    small_model_law(EXPERIMENT_LAWS),
]
