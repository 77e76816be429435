"""What users of other libraries type, and what it is called here: for errors."""

from __future__ import annotations

_HOOKS = "model.trace(prompt, interventions={site: function}) runs a prompt with functions at its sites"
_BLOCK = "`with model.trace(prompt) as trace:` reads and edits a pass while it runs"
# Methods and attributes of a model.
METHODS = {
    "forward": "model.run_with_cache(prompt) gives logits and activations, model.trace(prompt).output the logits",
    **dict.fromkeys(
        ("run_with_hooks", "hooks", "add_hook", "add_perma_hook", "hook_dict", "reset_hooks", "register_forward_hook"),
        f"{_HOOKS}, and nothing of them stays",
    ),
    **dict.fromkeys(("add_caching_hooks", "get_caching_hooks"), "model.run_with_cache(prompt, sites=[...])"),
    **dict.fromkeys(("scan", "session", "edit", "invoke", "iter", "intervene"), _BLOCK),
    **dict.fromkeys(("to_single_token", "get_token"), "model.answer_token(text, prompt) gives an answer's token"),
    **dict.fromkeys(("to_string", "to_single_str_token"), "model.decode(ids) and model.token_to_str(id) give text"),
    **dict.fromkeys(("get_token_position",), "model.subject_range(prompt, text) gives positions"),
    **dict.fromkeys(("cfg", "config"), "model.n_layers, model.n_heads, model.d_model, model.vocab_size"),
    **dict.fromkeys(("to", "cuda", "cpu", "half", "float"), 'InterpretableModel(name, dtype="float32") casts'),
    **dict.fromkeys(("generate_text", "stream_generate", "chat"), "model.generate(prompt, stream=...)"),
}  # fmt: skip
# Options of `model.generate`.
OPTIONS = {
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "n_tokens": "max_tokens",
    **dict.fromkeys(
        ("temp", "temperature", "top_p", "top_k", "min_p", "do_sample", "seed"),
        "sampler=mlx_lm.sample_utils.make_sampler(temp=...) and mx.random.seed(...)",
    ),
    **dict.fromkeys(
        ("repetition_penalty", "logit_bias"),
        "logits_processors=mlx_lm.sample_utils.make_logits_processors(...)",
    ),
    **dict.fromkeys(("hooks", "fwd_hooks", "edits"), "interventions={site: function}"),
    **dict.fromkeys(("streamer", "verbose"), "stream=True, and print each response's text"),
}  # fmt: skip
