"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import re
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker to a core, so one thread of the BLAS to a worker
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "MPLCONFIGDIR" not in os.environ and not os.access(os.path.expanduser("~"), os.W_OK):
    # matplotlib would say so on the standard error of processes in which tests expect one line
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="mlxtrace-fonts-")
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)

# The process that only hands out tests to others has no use for the package: two seconds during which they could run.
# What is imported here is imported in the fixtures.
TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), *(str(folder) for folder in TESTS.iterdir() if folder.is_dir())]

# What compares numbers that another BLAS, other kernels or more threads round otherwise: whole rooms, and single files.
NUMERICAL = {
    "anatomy", "engine", "experiments", "forward", "identities", "laws",
    "test_averages", "test_custom_metric", "test_docstrings", "test_interventions", "test_metric_table", "test_metrics",
    "test_interpreter", "test_last_logits", "test_noise_scale", "test_seeds", "test_suitable",
}  # fmt: skip
# Of these rooms, what looks at memory, handles and indices. Numbers in less memory are held by other tests as well.
ELSEWHERE = {"test_groups", "test_memory", "test_trace_recovery"}
# Each architecture with each component: of these, every other pair (by its name's checksum) is heavy.
HALVED = {
    "test_auto_equals_the_textbook", "test_the_engines_agree", "test_a_set_gives_the_numbers_of_its_pairs_alone",
    "test_every_position_patched_by_the_engine_of_the_model_and_by_the_loop",
}  # fmt: skip
# Of each mechanism one architecture: of these tests the others are heavy.
REPRESENTED = {"test_noise_samples_are_rows", "test_cells_that_cannot_differ_recover_exactly_nothing"}
MECHANISMS = {
    "gpt2", "llama", "gemma3_text", "gemma4_text", "phi", "mixtral", "mamba", "qwen3_next", "jamba", "nanbeige",
}  # fmt: skip
# What takes seconds, and looks at what quicker tests look at as well: heavy, and CI runs them (`-m slower`).
SLOWER = {
    "test_the_laws_hold[mamba]", "test_the_laws_hold[deepseek_v41]", "test_the_laws_hold[kimi_linear]",
    "test_the_laws_hold[granitemoehybrid]", "test_the_laws_hold[llama4]", "test_the_laws_hold[longcat_flash]",
    "test_the_laws_hold[afm7]", "test_the_laws_hold[olmo2]", "test_the_laws_hold[gemma2]",
    "test_the_laws_hold[gemma3_text]", "test_the_laws_hold[talkie]", "test_the_laws_hold[openelm]",
    "test_models_that_once_grew_no_rows_still_do", "test_models_without_a_fault_pass[Mutating]",
    "test_the_command_on_a_model_that_ships[some of the laws]", "test_an_experiment_that_does_something_else",
    "test_edges_of_something_else", "test_estimates_of_something_else_are_seen", "test_a_fault_breaks_it",
    "test_another_direction_breaks_them", "test_an_effect_of_something_else", "test_a_trace_that_does_something_else",
    "test_a_fault_in_what_is_read_or_written_is_seen", "test_causal_traces[options2]",
    "test_peak_stays_under_the_allowance_and_numbers_stay[several]",
    "test_peak_stays_under_the_allowance_and_numbers_stay[middle]",
    "test_examples_run_by_themselves[mlxtrace.plotting.fact_averages]",
    "test_examples_run_by_themselves[mlxtrace.results.screened]",
    "test_a_command_reads_each_text_once_and_pairs_once[bits]", "test_facts_are_traced_averaged_and_resumed",
    "test_all_of_an_attribute_is_known_and_traced", "test_first_tokens_and_whole_attributes_are_not_mixed",
    "test_answers_of_several_tokens_are_judged_whole", "test_64_pairs_are_run_in_a_few_passes", "test_pairs_and_facts",
    "test_files_are_written_wherever_the_output_goes[full]", "test_regions_are_averages_of_cells",
    "test_of_a_trace_the_other_kinds_and_the_same_noise_the_other_way", "test_of_pairs_maps_by_region",
    "test_of_noise_and_of_answers_of_several_tokens", "test_each_is_verified_by_a_run_of_its_own",
    "test_the_circuit_is_the_head_before_into_the_keys", "test_all_that_there_are",
    "test_a_set_holds_what_single_prompts_give", "test_single_neurons[gemma4_text-denoise]",
    "test_single_neurons[gemma3_text-noise]", "test_fewer_rows_for_the_same_strongest_cells",
    "test_a_causal_trace[block]", "test_layouts_that_were_never_trained", "test_the_command_takes_spans",
}  # fmt: skip
MOST_WORKERS = 4  # each loads mlx and models of its own


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config) -> None:
    """The whole suite runs in one process to a core, where pytest-xdist is there; files that are named, in this one.

    `-n` decides otherwise; `-n 0` is one process.
    """
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    spread = config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput")
    asked = getattr(config.option, "numprocesses", None) is not None or config.option.usepdb
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if whole and spread and not asked and cores > 1:
        config.option.numprocesses, config.option.dist = min(cores, MOST_WORKERS), "worksteal"


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session) -> None:
    """mlxtrace comes first, so that its fast BLAS loads ahead of mlx."""
    if hasattr(session.config, "workerinput") or not getattr(session.config.option, "numprocesses", None):
        import mlxtrace  # noqa: F401


def pytest_itemcollected(item) -> None:
    """Test names without addresses: the workers must have collected the same ones."""
    item._nodeid = re.sub(r"0x[0-9a-f]+", "0x", item.nodeid)
    if {item.path.stem, item.path.parent.name} & NUMERICAL and item.path.stem not in ELSEWHERE:
        item.add_marker("numerical")
    if {item.name, getattr(item, "originalname", "")} & SLOWER:
        item.add_marker("slower")
        item.add_marker("heavy")
    if getattr(item, "originalname", "") in HALVED and zlib.crc32(item.name.encode()) % 2:
        item.add_marker("heavy")
    if getattr(item, "originalname", "") in REPRESENTED and item.callspec.params["model"] not in MECHANISMS:
        item.add_marker("heavy")


def pytest_collection_finish() -> None:
    """Modules and test items stay to the end: the garbage collector need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _advice_on_the_blas() -> None:
    """What is warned of once per process is warned of here, and not in whichever test happens to be the first."""
    from mlxtrace import blas

    blas.notice()


@functools.cache
def _copying():
    from mlxtrace.experiments import compare_bits

    return compare_bits, functools.cache(compare_bits.quantized)


@pytest.fixture
def copied_once(monkeypatch):
    """Quantized copies of a model are made and probed once, however many tests and examples ask for one."""
    module, copy = _copying()
    monkeypatch.setattr(module, "quantized", copy)


@pytest.fixture
def shipped_once(monkeypatch):
    """The models that ship are loaded once, however many scripts and examples load one."""
    import shipped

    import mlxtrace
    from mlxtrace import patch

    for module in (mlxtrace, patch):
        monkeypatch.setattr(module, "InterpretableModel", shipped.load)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made and files written, but nothing is drawn into them: where only their being there matters."""

    def savefig(self, file, *_, **__):
        file.write(b"undrawn")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """A tiny Llama with grouped heads and a BPE tokenizer."""
    import models

    return models.save_folder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def llama_4bit_folder(tmp_path_factory) -> Path:
    """The same in 4 bits, with a tied (quantized) embedding."""
    import models

    return models.save_folder(tmp_path_factory.mktemp("llama4"), "llama", 4, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    """A GPT-2 of 26 narrow layers, because the tutorials name `h.24`."""
    import models

    return models.save_folder(tmp_path_factory.mktemp("gpt2"), "gpt2", n_layer=26, n_embd=32, n_head=2)


@pytest.fixture(scope="session")
def gpt2_4bit_folder(tmp_path_factory) -> Path:
    import models

    return models.save_folder(tmp_path_factory.mktemp("gpt24"), "gpt2", 4, n_embd=64, n_head=4)


@pytest.fixture(scope="module")
def llama():
    """A tiny Llama as an InterpretableModel; prompts are token ids."""
    return _tiny("llama")


@pytest.fixture(scope="module")
def gpt2():
    return _tiny("gpt2")


def _tiny(name: str):
    import models

    import mlxtrace

    return mlxtrace.InterpretableModel(models.make(name))
