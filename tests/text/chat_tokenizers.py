"""Tokenizers with chat templates in the form of several families, trained on a few sentences; nothing is downloaded.

tokenizer = make("llama-3")              # one of transformers; "wrapped llama-3" is inside mlx-lm's wrapper
model = model_of("gemma")                # a tiny Llama that reads with it
"""

from __future__ import annotations

from functools import cache

import models as tiny
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import mlxtrace

CORPUS = [
    "You are a helpful assistant. Answer in one word.",
    "In which city is the Eiffel Tower? In which city is the Colosseum?",
    "The Eiffel Tower is in Paris. The Colosseum is in Rome. The answer is Paris",
    "Where is the Louvre? user assistant system model Today Date: 26 Jul 2024",
]

LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

CHATML = """{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# as Qwen 3: earlier turns lose their thoughts, the last one of the assistant's has them written
THINKING = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}
{%- endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

# as Mistral 7B v0.3: the system's words stand in the last user's turn
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}"""

# as Phi 3: other roles are passed over
PHI = """{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] +
'<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}
{%- elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

# template, BOS (None: the tokenizer has none), marks, and whether the words are SentencePiece's
FAMILIES = {
    "llama-3": (LLAMA_3, "<|begin_of_text|>", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], False),
    "chatml": (CHATML, None, ["<|im_start|>", "<|im_end|>"], False),
    "trimmed": (CHATML, None, ["<|im_start|>", "<|im_end|>"], False),  # its offsets leave out white space
    "thinking": (THINKING, None, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"], False),
    "gemma": (GEMMA, "<bos>", ["<start_of_turn>", "<end_of_turn>"], True),
    "mistral": (MISTRAL, "<s>", ["[INST]", "[/INST]"], True),
    "phi": (PHI, "<s>", ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], True),
}  # fmt: skip
ALTERNATING = ("gemma", "mistral")


def _bare(bos: str | None, marks: list[str], sentencepiece: bool, trimmed: bool = False) -> Tokenizer:
    """A BPE whose special tokens are the family's, and which puts the BOS before every text that it has one for."""
    specials = [*([bos] if bos else []), "</s>", "<unk>", *marks]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if sentencepiece else None))
    if sentencepiece:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        letters = [chr(c) for c in range(33, 127)] + ["\n"]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=460, special_tokens=specials, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    if trimmed:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


@cache
def make(name: str) -> PreTrainedTokenizerFast | TokenizerWrapper:
    """The tokenizer of a family, made once; with mlx-lm's wrapper around it for "wrapped ..."."""
    wrapped, _, family = name.rpartition("wrapped ")
    if wrapped or name != family:
        return TokenizerWrapper(make(family))
    template, bos, marks, sentencepiece = FAMILIES[family]
    made = PreTrainedTokenizerFast(
        tokenizer_object=_bare(bos, marks, sentencepiece, family == "trimmed"),
        bos_token=bos,
        eos_token="</s>",
        unk_token="<unk>",
    )
    made.chat_template = template
    return made


@cache
def model_of(name: str) -> mlxtrace.InterpretableModel:
    """A tiny Llama with random weights that reads with such a tokenizer."""
    tokenizer = make(name)
    return mlxtrace.InterpretableModel(tiny.make("llama", vocab_size=len(tokenizer)), tokenizer)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}
