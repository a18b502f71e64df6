"""A small causal network in numpy that keeps the engine's contract: what the store does is plain to see with it.

Not a mock: activations depend on the words, their order and their position, the first token is a real sink, and
batches follow a plan by length. `python tests/numpy_engine.py OUT SECONDS [STEP]` extracts into OUT, for the tests
that kill it; with STEP it dies by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from heartstrings.core.engine import PooledBatch
from heartstrings.core.types import SINK_RATIO, ModelInfo, Pooling, Site
from heartstrings.corpus import Corpus, NeutralTexts, Story

WIDTH, N_LAYERS = 12, 3
EMOTIONS = ("calm", "joyful", "sad", "worn out")


def info(**changes: object) -> ModelInfo:
    base = ModelInfo(
        model_id="numpy-net", revision="r1", architecture="numpy", n_layers=N_LAYERS, width=WIDTH, dtype="float32",
        device="cpu", engine="numpy", weights_hash="sha256:net", tokenizer_hash="sha256:words",
    )  # fmt: skip
    return base.model_copy(update=changes)


@cache
def embedding(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=WIDTH)


@cache
def states(text: str, max_tokens: int = 512) -> np.ndarray:
    """[layer, token, width]; token 0 is a BOS whose norm makes it a sink from layer 1 on."""
    words = ["<s>", *text.split()][:max_tokens]
    h = np.stack([embedding(word) for word in words])
    h = h + 0.5 * np.cos(np.arange(len(words))[:, None] / (1 + np.arange(WIDTH)))
    mix = np.random.default_rng(7).normal(size=(N_LAYERS, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    layers = []
    for layer in range(N_LAYERS):
        context = np.cumsum(h, axis=0) / np.arange(1, len(words) + 1)[:, None]
        h = h + np.tanh((h + context) @ mix[layer])
        if layer == 1:
            h[0] *= 100
        layers.append(h.astype(np.float32))
    return np.stack(layers)


@dataclass
class NumpyEngine:
    info: ModelInfo = field(default_factory=info)
    seconds: float = 0.0
    """Time that a batch takes, for tests that kill the process."""
    log: list[int] = field(default_factory=list)
    """Rows of the texts that were run, in order."""
    broken: int | None = None
    """A text whose activations are NaN."""

    def pool(
        self, texts: Sequence[str], *, layers: Sequence[int] | None = None,
        poolings: Sequence[Pooling] = (Pooling(),), site: Site = "block", token_budget: int = 8192,
        max_tokens: int = 512, done: Collection[int] = (),
    ) -> Iterator[PooledBatch]:  # fmt: skip
        layers = list(range(N_LAYERS)) if layers is None else list(layers)
        lengths = [min(len(text.split()) + 1, max_tokens) for text in texts]
        plan: list[list[int]] = []
        for row in sorted(range(len(texts)), key=lambda i: (-lengths[i], i)):
            if plan and (len(plan[-1]) + 1) * lengths[plan[-1][0]] <= token_budget:
                plan[-1].append(row)
            else:
                plan.append([row])
        for number, rows in enumerate(plan):
            if number not in done:
                time.sleep(self.seconds)
                yield self.batch(number, len(plan), rows, texts, layers, poolings, max_tokens)

    def batch(self, number, n_batches, rows, texts, layers, poolings, max_tokens):  # type: ignore[no-untyped-def]
        n = len(rows)
        longest = min(max(len(texts[row].split()) for row in rows) + 1, max_tokens)
        means = np.full((len(poolings), n, len(layers), WIDTH), np.nan, dtype=np.float32)
        n_pooled = np.zeros((len(poolings), n), dtype=np.int64)
        norms = np.zeros((n, len(layers)), dtype=np.float32)
        n_tokens, truncated = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        sums = np.zeros((len(layers), longest, WIDTH), dtype=np.float32)
        counts = np.zeros((len(layers), longest), dtype=np.int64)
        sinks = []
        for i, row in enumerate(rows):
            self.log.append(row)
            h = states(texts[row], max_tokens)[layers]
            if row == self.broken:
                h[:] = np.nan
            n_tokens[i], truncated[i] = h.shape[1], len(texts[row].split()) + 1 > max_tokens
            size = np.linalg.norm(h, axis=-1)
            sink = size > SINK_RATIO * np.median(size, axis=1, keepdims=True)
            sinks += [(i, layer, position) for layer, position in np.argwhere(sink)]
            for layer in range(len(layers)):
                keep = ~sink[layer]
                norms[i, layer] = size[layer, keep].mean()
                sums[layer, : h.shape[1]][keep] += h[layer, keep]
                counts[layer, : h.shape[1]] += keep
                for rule, pooling in enumerate(poolings):
                    stop = h.shape[1] if pooling.stop is None else pooling.stop
                    if h.shape[1] < stop or stop <= pooling.start:
                        continue
                    n_pooled[rule, i] = stop - pooling.start
                    span = np.zeros(h.shape[1], dtype=bool)
                    span[pooling.start : stop] = True
                    if (span & keep).any():
                        means[rule, i, layer] = h[layer, span & keep].mean(0)
        centred = any(pooling.rule == "centred" for pooling in poolings)
        return PooledBatch(
            number=number, n_batches=n_batches, indices=np.array(rows, dtype=np.int64), n_tokens=n_tokens,
            truncated=truncated, n_pooled=n_pooled, means=means, norms=norms,
            sinks=np.array(sinks, dtype=np.int64).reshape(-1, 3), position_sums=sums if centred else None,
            position_counts=counts if centred else None,
        )  # fmt: skip


def corpus(n_topics: int = 4, n_each: int = 2, words: int = 40, emotions: Sequence[str] = EMOTIONS) -> Corpus:
    """Stories whose words lean to their emotion; lengths differ."""
    rng = np.random.default_rng(3)
    stories = []
    for emotion in emotions:
        own = [f"{emotion[:2]}{i}" for i in range(12)]
        for topic in range(n_topics):
            for _ in range(n_each):
                count = int(rng.integers(words - 10, words + 10))
                chosen = rng.choice([*own, *(f"w{i}" for i in range(20)), "I", "she"], count)
                stories.append(Story(emotion, f"topic {topic}", " ".join(chosen.tolist()), author="a generator"))
    return Corpus(tuple(stories), author="a generator", source="tests")


def neutral(n: int = 9, words: int = 45) -> NeutralTexts:
    rng = np.random.default_rng(4)
    texts = tuple(" ".join(rng.choice([f"w{i}" for i in range(30)], words).tolist()) for _ in range(n))
    return NeutralTexts(texts, source="tests")


POOLINGS = (Pooling(start=5), Pooling(rule="window", start=5, stop=20), Pooling(rule="centred", start=5))


def die_at(step: int) -> None:
    """End this process as kill -9 would, at the given one of the calls that put something on disk."""
    steps = itertools.count()

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(steps) == step:
                os._exit(9)
            return real(*arguments, **named)

        return call

    for name in ("fsync", "replace", "rename", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    from heartstrings.vectors.extraction import extract

    if len(sys.argv) > 3:
        die_at(int(sys.argv[3]))
    extract(
        NumpyEngine(seconds=float(sys.argv[2])), corpus(), out=sys.argv[1], neutral=neutral(),
        calibration=neutral(4), poolings=POOLINGS, token_budget=120,
    )  # fmt: skip
