"""Extraction with the real engine: equal to plain transformers code, in bounded memory, killed and taken up."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus, NeutralTexts, Story, read_neutral, read_stories
from heartstrings.vectors.extraction import extract

HERE = Path(__file__).parent


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def block_states(model: Any, blocks: Any, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """[layer, text, token, width]. The library's last hidden state is after the final norm: a hook has the block's."""
    last: list[torch.Tensor] = []
    hook = blocks[-1].register_forward_hook(lambda _m, _i, out: last.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    hook.remove()
    return torch.stack([*found[1:-1], last[0]]).double()


@pytest.fixture(scope="session")
def sample(shared_data: Path) -> Corpus:
    """24 real stories of 8 emotions."""
    whole = read_stories(shared_data / "stories" / "gemma4_e4b_171x9.jsonl")
    chosen = set(whole.emotions[::24])
    kept: dict[tuple[str, str], Story] = {}
    for story in whole.stories:
        if story.emotion in chosen:
            kept.setdefault((story.emotion, story.topic), story)
    return replace(whole, stories=tuple(kept.values()))


@pytest.mark.data
def test_contrasts_of_real_stories_equal_a_loop_over_single_texts(tmp_path, sample, shared_data):
    model, tokenizer = models.model("llama"), models.tokenizer()
    quiet = read_neutral(shared_data / "neutral" / "encyclopedic_40.txt")
    quiet = NeutralTexts(quiet.texts[:16], source=quiet.source)
    vectors = extract(
        models.engine("llama"), sample, out=tmp_path / "o", neutral=quiet, token_budget=4096, max_tokens=256
    )["from50"]

    def pooled(text: str) -> np.ndarray:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)["input_ids"]
        return block_states(model, model.model.layers, ids)[:, 0, 50:].mean(1).numpy()

    rows = np.array([pooled(story.text) for story in sample.stories])  # story layer width
    named = np.array([story.emotion for story in sample.stories])
    means = np.array([rows[named == emotion].mean(0) for emotion in sample.emotions]).transpose(1, 0, 2)
    raw = means - means.mean(1, keepdims=True)
    assert vectors.emotions == sample.emotions
    assert vectors.layers == tuple(range(models.LAYERS))
    print("relative error of raw contrasts", relative_error(vectors.raw, raw))
    assert relative_error(vectors.raw, raw) < 1e-4
    assert relative_error(vectors.centre, means.mean(1)) < 1e-5

    still = np.array([pooled(text) for text in quiet.texts])
    for layer in range(models.LAYERS):
        centred = still[:, layer] - still[:, layer].mean(0)
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        k = int(np.argmax(np.cumsum(sizes**2) >= 0.5 * (sizes**2).sum())) + 1
        assert vectors.k[layer] == k
        expected = raw[layer] - raw[layer] @ axes[:k].T @ axes[:k]
        assert relative_error(vectors.denoised[layer], expected) < 1e-4


@pytest.mark.data
def test_the_rule_of_the_preprint_is_reproduced(tmp_path, sample):
    """arXiv 2606.26987: right-padded batches, a mask from token 50 on, one mean over all tokens of an emotion, 512
    tokens, no chat template, fp32."""
    tokenizer = models.tokenizer(padding_side="right")
    model = models.model("llama", seed=3)
    engine = models.engine("llama", seed=3, tokenizer=tokenizer)
    vectors = extract(engine, sample, out=tmp_path / "o", weighting="token", poolings=(Pooling(start=50),))["from50"]

    sums = np.zeros((models.LAYERS, len(sample.emotions), models.WIDTH))
    counts = np.zeros(len(sample.emotions))
    for row, emotion in enumerate(sample.emotions):
        texts = [story.text for story in sample.stories if story.emotion == emotion]
        batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=512)
        states = block_states(model, model.model.layers, batch["input_ids"], batch["attention_mask"])
        mask = batch["attention_mask"].clone()
        mask[:, :50] = 0
        sums[:, row] = (states * mask[None, :, :, None]).sum((1, 2)).numpy()
        counts[row] = int(mask.sum())
    means = sums / counts[None, :, None]
    raw = means - means.mean(1, keepdims=True)
    assert vectors.tokens == tuple(int(count) for count in counts)
    print("relative error against the preprint", relative_error(vectors.raw, raw))
    assert relative_error(vectors.raw, raw) < 1e-4
    # The choice matters: stories weighing equally gives something else.
    equal = extract(engine, sample, out=tmp_path / "p")["from50"]
    assert relative_error(equal.raw, raw) > 1e-3


@pytest.mark.parametrize("family", ["gemma4", "bert"])
def test_centred_pooling_equals_a_loop_over_tokens(tmp_path, family):
    stories = prose(8, n_words=90)
    vectors = extract(
        models.engine(family), stories, out=tmp_path / "o", poolings=(Pooling(rule="centred", start=20),),
        max_tokens=200, token_budget=900,
    )["centred20"]  # fmt: skip
    from heartstrings.engines.hf.engine import TorchEngine  # only to find the blocks of a nested model

    engine = TorchEngine.from_model(models.model(family), models.tokenizer_for(family))
    # Windows of one token give every single state, so that centring can be done by hand.
    by_token: dict[int, dict[int, np.ndarray]] = {}
    lengths: dict[int, int] = {}
    rules = tuple(Pooling(rule="window", start=i, stop=i + 1) for i in range(200))
    for batch in engine.pool(stories.texts, poolings=rules, max_tokens=200):
        for row, index in enumerate(batch.indices.tolist()):
            lengths[index] = int(batch.n_tokens[row])
            by_token[index] = {
                i: batch.means[i, row].astype(np.float64)
                for i in range(lengths[index])
                if np.isfinite(batch.means[i, row]).all()
            }
    at: dict[int, np.ndarray] = {}
    for i in range(200):
        rows = [tokens[i] for tokens in by_token.values() if i in tokens]
        if rows:
            at[i] = np.mean(rows, axis=0)
    means = {
        index: np.mean([h - at[i] for i, h in tokens.items() if i >= 20], axis=0) for index, tokens in by_token.items()
    }
    named = [story.emotion for story in stories.stories]
    table = np.array(
        [np.mean([means[i] for i in range(len(named)) if named[i] == e], axis=0) for e in stories.emotions]
    ).transpose(1, 0, 2)
    assert relative_error(vectors.raw, table - table.mean(1, keepdims=True)) < 1e-4


def prose(n_each: int, *, n_words: int = 60, emotions: tuple[str, ...] = ("calm", "sad", "worn out")) -> Corpus:
    texts = models.stories(n_each * len(emotions), words=(n_words - 20, n_words))
    stories = [
        Story(emotions[i % len(emotions)], f"topic {i // len(emotions) % 4}", text, author="nobody")
        for i, text in enumerate(texts)
    ]
    return Corpus(tuple(stories), author="nobody", source="tests")


def run_in_process(model: str, out: str, n_each: int, n_words: int) -> None:
    """What the subprocess tests start: extraction from a checkpoint on disk; prints peak memory in MiB."""
    import resource

    import heartstrings

    torch.set_num_threads(1)
    engine = heartstrings.load(model)
    stories = prose(n_each, n_words=n_words)
    quiet = NeutralTexts(tuple(models.stories(12, words=(60, 90), seed=5)), source="tests")
    extract(
        engine, stories, out=out, neutral=quiet, calibration=quiet, token_budget=2000,
        poolings=(Pooling(start=10), Pooling(rule="window", start=10, stop=30), Pooling(rule="centred", start=10)),
    )  # fmt: skip
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "test_extract_engine.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)} | environment,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "environment"),
    [
        # Freed memory goes back to the system, so that the peak is what extraction itself holds.
        pytest.param(4, {"MALLOC_TRIM_THRESHOLD_": "131072"}, id="given back"),
        # As users have it. What is kept (`engines.hf._host_memory`) levels off at 25 MiB or so: more stories show that.
        pytest.param(8, {}, id="kept"),
    ],
)
def test_peak_memory_does_not_grow_with_the_corpus(tmp_path, times, environment):
    """With a model so wide that the activations of more stories would be seen: 16 KiB a story and rule."""
    import transformers as hf

    config = hf.LlamaConfig(
        vocab_size=models.VOCABULARY, hidden_size=1024, intermediate_size=32, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=1, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    models.tokenizer().save_pretrained(tmp_path / "model")
    peaks = []
    for n_each in (200, 200 * times):
        process = start(tmp_path / "model", tmp_path / f"out{n_each}", n_each, 40, **environment)
        output, _ = process.communicate()
        assert process.returncode == 0
        peaks.append(float(output.split()[-1]))
    more = 600 * (times - 1)
    growth, kept = peaks[1] - peaks[0], more * 2 * 4 * 1024 * 4 / 2**20
    print(f"peak memory: {peaks[0]:.0f} MiB at 600 stories, {peaks[1]:.0f} at {600 + more}; activations {kept:.0f} MiB")
    assert growth < kept / 3


@pytest.mark.slow
def test_killed_with_the_real_engine_gives_the_same_bytes(tmp_path):
    folder = models.folder(tmp_path / "model")
    process = start(folder, tmp_path / "whole", 40, 60)
    process.communicate()
    assert process.returncode == 0
    rng, out = random.Random(2), tmp_path / "o"
    kills = 0
    for _ in range(3):
        process = start(folder, out, 40, 60)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and not (out / ".work").exists():
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.4))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills
    process = start(folder, out, 40, 60)
    process.communicate()
    assert process.returncode == 0
    files = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    whole = tmp_path / "whole"
    assert files == {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}


if __name__ == "__main__":
    run_in_process(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
