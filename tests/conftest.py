"""Fixtures that several test files share. mlxtrace comes first, so that its fast BLAS loads ahead of mlx."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import mlxtrace

sys.path.insert(0, str(Path(__file__).parent))

import models


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """A tiny Llama with grouped heads and a BPE tokenizer."""
    return models.save_folder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def llama_4bit_folder(tmp_path_factory) -> Path:
    """The same in 4 bits, with a tied (quantized) embedding."""
    return models.save_folder(tmp_path_factory.mktemp("llama4"), "llama", 4, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    """A GPT-2 of 26 narrow layers, because the tutorials name `h.24`."""
    return models.save_folder(tmp_path_factory.mktemp("gpt2"), "gpt2", n_layer=26, n_embd=32, n_head=2)


@pytest.fixture(scope="session")
def gpt2_4bit_folder(tmp_path_factory) -> Path:
    return models.save_folder(tmp_path_factory.mktemp("gpt24"), "gpt2", 4, n_embd=64, n_head=4)


@pytest.fixture(scope="module")
def llama():
    """A tiny Llama as an InterpretableModel; prompts are token ids."""
    return mlxtrace.InterpretableModel(models.make("llama"))


@pytest.fixture(scope="module")
def gpt2():
    return mlxtrace.InterpretableModel(models.make("gpt2"))
