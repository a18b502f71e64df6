"""Vectors whose geometry is known, because it was put there."""

from __future__ import annotations

import numpy as np

from heartstrings.core.types import ModelInfo, Pooling, Provenance
from heartstrings.corpus.lexicon import Ratings
from heartstrings.vectors.emotion_vectors import EmotionVectors, StoryTable

N, WIDTH = 60, 48


def model(name: str = "planted", weights: str = "sha256:a", n_layers: int = 3) -> ModelInfo:
    return ModelInfo(
        model_id=name, architecture="llama", n_layers=n_layers, width=WIDTH, dtype="float32", device="cpu",
        engine="none", weights_hash=weights,
    )  # fmt: skip


def provenance(info: ModelInfo | None = None) -> Provenance:
    return Provenance(package_version="0", source="derived", model=info, pooling=Pooling())


def names(n: int = N) -> tuple[str, ...]:
    return tuple(f"word{row:03d}" for row in range(n))


def ratings(n: int = N, seed: int = 0) -> Ratings:
    values = np.random.default_rng([seed, 99]).uniform(-1, 1, (n, 2))
    return Ratings({name: (float(v), float(a)) for name, (v, a) in zip(names(n), values, strict=True)}, "planted")


def bundle(raw: np.ndarray, **more: object) -> EmotionVectors:
    """Vectors from [layer emotion width], centred over emotions."""
    raw = np.asarray(raw, dtype=np.float64)
    raw = (raw - raw.mean(1, keepdims=True)).astype(np.float32)
    more = {"provenance": provenance(), **more}
    return EmotionVectors(emotions=names(raw.shape[1]), layers=tuple(range(len(raw))), raw=raw, **more)  # type: ignore[arg-type]


def planted(strengths: dict[str, float], *, n: int = N, layers: int = 3, noise: float = 0.3, seed: int = 0,
            rated: Ratings | None = None, length: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
    """Each of valence, arousal, length and `other...` along its own direction, with noise, [layer emotion width]."""
    rng = np.random.default_rng([seed, 5])
    valence, arousal = (rated or ratings(n)).arrays(names(n))
    columns = {"valence": valence, "arousal": arousal, "length": length}
    axes = np.linalg.qr(rng.normal(size=(WIDTH, len(strengths))))[0].T
    out = noise * rng.normal(size=(layers, n, WIDTH))
    for axis, (name, strength) in zip(axes, strengths.items(), strict=True):
        column = columns.get(name)
        column = rng.normal(size=n) if column is None else column
        out += strength * np.outer((column - column.mean()) / column.std(), axis)
    return out


def table(n: int = N, *, stories: int = 6, topics: int = 6, length: np.ndarray | None = None,
          crossed: bool = True, seed: int = 0) -> StoryTable:  # fmt: skip
    """`stories` a story an emotion, on topics shared by all emotions or, not crossed, on topics of their own."""
    rng = np.random.default_rng([seed, 6])
    emotion = np.repeat(np.arange(n), stories)
    number = np.tile(np.arange(stories) % topics, n)
    topic = number if crossed else emotion * topics + number
    words = (rng.integers(90, 110, n) if length is None else length)[emotion] + rng.integers(-2, 3, n * stories)
    return StoryTable(
        emotion=emotion.astype(np.int16), topic=topic.astype(np.int32),
        topics=tuple(f"topic {i}" for i in range(int(topic.max()) + 1)), half=(number % 2).astype(np.int8),
        n_tokens=(words + 20).astype(np.int32), words=words.astype(np.int32),
        person=rng.uniform(0, 1, n * stories).astype(np.float32),
        dialogue=rng.uniform(0, 0.3, n * stories).astype(np.float32),
    )  # fmt: skip
