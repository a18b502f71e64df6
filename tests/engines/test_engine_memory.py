"""Memory: batches that do not fit are halved, peak memory does not grow with the corpus, freed memory is kept."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine_pool import RULES, TEXTS, gather, loud_start, wrapped

import models
from heartstrings.core.errors import ModelError
from heartstrings.engines.hf import _host_memory as host_memory


class Narrow:
    """A real model that claims to be out of memory over some number of rows."""

    def __init__(self, model: Any, rows: int, error: Exception) -> None:
        self.sizes: list[int] = []
        forward = model.forward

        @functools.wraps(forward)
        def limited(*args: Any, **kwargs: Any) -> Any:
            self.sizes.append(len(kwargs["input_ids"]))
            if self.sizes[-1] > rows:
                raise error
            return forward(*args, **kwargs)

        model.forward = limited


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_out_of_memory_halves_the_batch(error: Exception) -> None:
    engine = models.engine("llama")
    narrow = Narrow(engine.model.model, 3, error)
    got = list(engine.pool(TEXTS, poolings=RULES, token_budget=1000))
    usual = list(models.engine("llama").pool(TEXTS, poolings=RULES, token_budget=1000))
    assert [batch.number for batch in got] == [batch.number for batch in usual]
    assert max(narrow.sizes) > 3
    for mine, theirs in zip(got, usual, strict=True):
        np.testing.assert_array_equal(mine.indices, theirs.indices)
        np.testing.assert_allclose(mine.means, theirs.means, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mine.position_sums, theirs.position_sums, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(mine.position_counts, theirs.position_counts)
        np.testing.assert_array_equal(mine.n_pooled, theirs.n_pooled)


def test_what_did_not_fit_is_not_tried_again() -> None:
    engine = models.engine("llama")
    texts = [TEXTS[0]] * 32
    narrow = Narrow(engine.model.model, 2, torch.OutOfMemoryError("out of memory"))
    length = int(next(iter(engine.pool(texts[:1]))).n_tokens[0])
    narrow.sizes.clear()
    list(engine.pool(texts, token_budget=8 * length))
    assert narrow.sizes == [8, 4, *[2] * 16]


def test_splitting_keeps_the_sinks_with_their_texts() -> None:
    usual = gather(wrapped(loud_start()).pool(TEXTS, poolings=RULES), len(TEXTS))
    narrow = wrapped(loud_start())
    Narrow(narrow.model.model, 3, torch.OutOfMemoryError("out of memory"))
    assert gather(narrow.pool(TEXTS, poolings=RULES), len(TEXTS))["sinks"] == usual["sinks"]


def test_one_text_that_does_not_fit_is_one_clear_error() -> None:
    engine = models.engine("llama")
    Narrow(engine.model.model, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(ModelError, match=r"out of memory on text \d+ \(\d+ tokens\) alone"):
        list(engine.pool(TEXTS))


def test_other_runtime_errors_are_not_taken_for_memory() -> None:
    engine = models.engine("llama")
    Narrow(engine.model.model, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(engine.pool(TEXTS))


MEASURE = """
import resource, sys
sys.path.insert(0, {tests!r})
import models, torch
from transformers import LlamaConfig, LlamaForCausalLM
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.core.types import Pooling
torch.set_num_threads(1)
config = LlamaConfig(**{{**models._SHAPE, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}})
engine = TorchEngine.from_model(LlamaForCausalLM(config), models.tokenizer())
texts = models.stories(64, words=(30, 100)) * {times}
for batch in engine.pool(texts, poolings=[Pooling(), Pooling(rule="centred")], token_budget=2048):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_number_of_texts() -> None:
    tests = str(Path(__file__).parents[1])
    peaks = []
    for times in (1, 4):
        code = MEASURE.format(tests=tests, times=times)
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(ran.stdout.split()[-1]) / 1024)
    # All states of the added texts would be 192 texts x 8 layers x 200 tokens x 256 x 4 bytes: 300 MiB.
    assert peaks[1] < peaks[0] * 1.05 + 8, f"peak {peaks[0]:.0f} MiB grew to {peaks[1]:.0f} MiB"


def test_freed_memory_is_kept_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in host_memory._SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    assert host_memory.keep_freed_memory() is True  # glibc, where these tests run
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert host_memory.keep_freed_memory() is False


HOLES = """
import ctypes
from heartstrings.engines.hf import _host_memory as memory

memory.keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.malloc.argtypes = [ctypes.c_size_t]
blocks = [library.malloc(1 << 22) for _ in range(64)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 22)
for block in blocks[:-1]:
    library.free(block)  # the last one stays in use, so that the freed memory is no longer at the top
before = memory._own_resident()
print(memory.give_back(limit=1 << 30), memory.give_back(limit=1 << 26), memory.give_back(limit=1 << 26))
print(before - memory._own_resident() >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is another one elsewhere")
def test_freed_memory_below_a_block_in_use_is_returned_over_the_limit() -> None:
    ran = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    said, returned = ran.stdout.splitlines()
    assert said == "False True False"  # under the limit, over it, and once it was returned
    assert int(returned) > 240
