"""Two tests of emotion vectors on texts that imply an emotion, after Sofroniew et al. 2026 (Validation); own texts.

`implied`: prompts that imply an emotion without naming it. The state at the last token before the reply, minus the
mean over the prompts, against each emotion's direction by cosine. `intensity`: templates with one number that makes
things better or worse; the correlation of the projection at that token with the number, for afraid, sad, calm, happy.

Both are compared with random directions: a number shifts a token's state smoothly along almost any direction, so a
random direction also gives correlations near 1. p is of the whole table of expected signs, not of one row.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.engine import Message, Prompt, Trace
from heartstrings.core.errors import InputError
from heartstrings.core.types import Site, Variant
from heartstrings.geometry._axes import p_value, ranks, unit_rows
from heartstrings.vectors.emotion_vectors import EmotionVectors

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine

RANDOM = 999
"""Random sets of directions, and permutations."""
_REPLY = "Well"


@dataclass(frozen=True)
class Implied:
    """A prompt and the emotion it implies."""

    target: str
    text: str


@dataclass(frozen=True)
class Template:
    """A prompt with one number, and how each emotion should move as it grows: 1, -1."""

    name: str
    text: str
    numbers: tuple[int, ...]
    expected: tuple[tuple[str, int], ...]

    def filled(self) -> tuple[str, ...]:
        return tuple(self.text.format(number=number) for number in self.numbers)


@dataclass(frozen=True)
class ImpliedResult:
    """Ranks of the implied emotions among the bundle's; ties count against significance."""

    targets: tuple[str, ...]
    ranks: tuple[int, ...]
    cosines: tuple[float, ...]
    mean_rank: float
    chance_rank: float
    p_permuted: float
    """Null: the targets are permuted over the prompts."""
    p_random: float
    """Null: each emotion's direction is a random one."""
    left_out: tuple[str, ...]
    """Targets without a vector."""


@dataclass(frozen=True)
class Correlation:
    """One emotion over the numbers of one template."""

    template: str
    emotion: str
    expected: int
    r: float | None
    """Pearson, with the number's rank: steps of the templates are far from even. None where nothing moves."""
    random: tuple[float, float]
    """Middle 95% of the same over random directions."""


@dataclass(frozen=True)
class IntensityResult:
    """All templates."""

    rows: tuple[Correlation, ...]
    agreement: float
    """Mean of expected sign times r over the rows; a missing r counts as 0."""
    right: int
    """Rows of the expected sign."""
    p_random: float
    """Null: random directions in place of the emotions', each one for all templates. One-sided."""
    left_out: tuple[str, ...]


@cache
def implied_prompts() -> tuple[Implied, ...]:
    """The package's own."""
    return tuple(Implied(target, text) for target, text in _data()["implied"])


@cache
def templates() -> tuple[Template, ...]:
    """The package's own."""
    return tuple(
        Template(template["name"], template["text"], tuple(template["numbers"]), tuple(template["expected"].items()))
        for template in _data()["templates"]
    )


def implied(
    engine: Engine,
    vectors: EmotionVectors,
    prompts: Sequence[Implied] | None = None,
    *,
    layer: int,
    chat: bool = True,
    variant: Variant = "raw",
    random: int = RANDOM,
    seed: int = 0,
) -> ImpliedResult:
    """Test of implied emotions at one layer.

    Args:
        chat: as a user's turn through the template, up to the opening of the model's; False: as plain text.
    Raises:
        InputError: fewer than four prompts whose target has a vector.
    """
    prompts = implied_prompts() if prompts is None else prompts
    used = [prompt for prompt in prompts if prompt.target in vectors.emotions]
    if len(used) < 4:
        raise InputError(f"{len(used)} prompts whose emotion has a vector", "at least four", "Give prompts of your own")
    basis = last_states(engine, [prompt.text for prompt in used], layer=layer, chat=chat, site=vectors.provenance.site)
    contrasts = _directions(vectors, layer, variant)
    return implied_from(
        basis,
        contrasts - contrasts.mean(0),
        tuple(vectors.emotions),
        tuple(prompt.target for prompt in used),
        left_out=tuple(sorted({prompt.target for prompt in prompts} - set(vectors.emotions))),
        random=random,
        seed=seed,
    )


def implied_from(
    states: Float64[np.ndarray, "text width"],
    directions: Float64[np.ndarray, "emotion width"],
    emotions: tuple[str, ...],
    targets: tuple[str, ...],
    *,
    left_out: tuple[str, ...] = (),
    random: int = RANDOM,
    seed: int = 0,
) -> ImpliedResult:
    """The statistics alone: states (one a text, centred here) against directions."""
    draw = np.random.default_rng(seed)
    unit = unit_rows(states - states.mean(0))
    at: Int64[np.ndarray, "text"] = np.array([emotions.index(target) for target in targets], dtype=np.int64)
    cosines = unit @ unit_rows(directions).T
    emotion_ranks, rows = ranks(cosines), np.arange(len(at))
    own = emotion_ranks[rows, at]
    permuted = [emotion_ranks[rows, draw.permutation(at)].mean() for _ in range(random)]
    chance = [ranks(unit @ unit_rows(draw.normal(size=directions.shape)).T)[rows, at].mean() for _ in range(random)]
    # A small mean rank is evidence, so signs are turned.
    p_permuted, p_random = (p_value(-float(own.mean()), -np.array(null), tie=1e-9) for null in (permuted, chance))
    return ImpliedResult(
        targets=targets,
        ranks=tuple(int(rank) for rank in own),
        cosines=tuple(map(float, cosines[rows, at])),
        mean_rank=float(own.mean()),
        chance_rank=(len(emotions) + 1) / 2,
        p_permuted=p_permuted,
        p_random=p_random,
        left_out=left_out,
    )


def intensity(
    engine: Engine,
    vectors: EmotionVectors,
    asked: Sequence[Template] | None = None,
    *,
    layer: int,
    chat: bool = True,
    variant: Variant = "raw",
    random: int = RANDOM,
    seed: int = 0,
) -> IntensityResult:
    """Test of intensity at one layer.

    Raises:
        InputError: none of the templates' emotions has a vector, or a template has fewer than three numbers.
    """
    asked = templates() if asked is None else asked
    few = [template.name for template in asked if len(set(template.numbers)) < 3]
    if few:
        raise InputError(f"templates {', '.join(few)} with fewer than three numbers", "three different ones or more")
    wanted = sorted({emotion for template in asked for emotion, _ in template.expected})
    emotions = tuple(emotion for emotion in wanted if emotion in vectors.emotions)
    if not emotions:
        raise InputError(f"no vector of {', '.join(wanted)}", "one of them at least", "Give templates of your own")
    texts = [text for template in asked for text in template.filled()]
    states = last_states(engine, texts, layer=layer, chat=chat, site=vectors.provenance.site)
    cuts = np.cumsum([len(template.numbers) for template in asked])[:-1]
    contrasts = _directions(vectors, layer, variant)
    directions = (contrasts - contrasts.mean(0))[[vectors.emotions.index(emotion) for emotion in emotions]]
    missing = tuple(sorted(set(wanted) - set(emotions)))
    return intensity_from(
        np.split(states, cuts), directions, emotions, asked, left_out=missing, random=random, seed=seed
    )


def intensity_from(
    states: Sequence[Float64[np.ndarray, "number width"]],
    directions: Float64[np.ndarray, "emotion width"],
    emotions: tuple[str, ...],
    asked: Sequence[Template],
    *,
    left_out: tuple[str, ...] = (),
    random: int = RANDOM,
    seed: int = 0,
) -> IntensityResult:
    """The statistics alone: one array of states a template, in the order of its numbers."""
    draw = np.random.default_rng(seed)
    cells = [
        (row, emotions.index(emotion), sign, template.name, emotion)
        for row, template in enumerate(asked)
        for emotion, sign in template.expected
        if emotion in emotions
    ]
    numbers = [np.argsort(np.argsort(template.numbers)).astype(np.float64) for template in asked]

    def correlations(rows: Float64[np.ndarray, "emotion width"]) -> Float64[np.ndarray, "cell"]:
        unit = unit_rows(rows)
        table = [_pearson(number, state @ unit.T) for number, state in zip(numbers, states, strict=True)]
        return np.array([table[row][column] for row, column, *_ in cells], dtype=np.float64)

    signs = np.array([sign for _, _, sign, *_ in cells], dtype=np.float64)
    own = correlations(directions)
    null = np.array([correlations(draw.normal(size=directions.shape)) for _ in range(random)])
    agreement = float((signs * np.nan_to_num(own)).mean())
    chance = (signs * np.nan_to_num(null)).mean(1)
    low, high = np.quantile(np.nan_to_num(null), [0.025, 0.975], axis=0)
    rows = tuple(
        Correlation(
            name, emotion, sign, float(own[at]) if np.isfinite(own[at]) else None, (float(low[at]), float(high[at]))
        )
        for at, (_, _, sign, name, emotion) in enumerate(cells)
    )
    right = int((signs * np.nan_to_num(own) > 0).sum())
    return IntensityResult(rows, agreement, right, p_value(agreement, chance, tie=1e-9), left_out)


def last_states(
    engine: Engine, texts: Sequence[str], *, layer: int, chat: bool, site: Site = "block"
) -> Float64[np.ndarray, "text width"]:
    """The residual at the last token before the reply (the end of the template's opening), read along the unit axes.

    With `chat` False, at the last token of the text.
    """
    axes = np.eye(engine.info.width, dtype=np.float32)[None]
    prompts: list[Prompt] = [(Message("user", text), Message("assistant", _REPLY)) if chat else text for text in texts]
    traces = engine.read(prompts, axes, layers=(layer,), site=site)
    return np.array([trace.projections[0, _last(trace) if chat else -1] for trace in traces], dtype=np.float64)


def _last(trace: Trace) -> int:
    """The last token that ends before the reply begins. A chat is read as complete, so each has a reply."""
    start = trace.text.rfind(_REPLY)
    before = np.flatnonzero((trace.offsets[:, 1] <= start) & (trace.offsets[:, 1] > 0))
    if start < 0 or not len(before):
        raise InputError("no place before the reply", "a fast tokenizer, which gives the offsets of tokens")
    return int(before[-1])


def _directions(vectors: EmotionVectors, layer: int, variant: Variant) -> Float64[np.ndarray, "emotion width"]:
    if layer not in vectors.layers:
        raise InputError(f"layer {layer}", f"one of the bundle's: {', '.join(map(str, vectors.layers))}")
    return np.asarray(vectors.contrasts(variant)[vectors.layers.index(layer)].astype(np.float64))


def _pearson(
    number: Float64[np.ndarray, "number"], projected: Float64[np.ndarray, "number emotion"]
) -> Float64[np.ndarray, "emotion"]:
    """NaN where nothing moves."""
    x, y = number - number.mean(), projected - projected.mean(0)
    size = np.linalg.norm(x) * np.linalg.norm(y, axis=0)
    still = np.linalg.norm(y, axis=0) <= 1e-6 * (1e-30 + np.abs(projected).max(0))
    return np.where(still, np.nan, (x @ y) / np.where(size == 0, 1.0, size))


@cache
def _data() -> dict[str, list]:  # type: ignore[type-arg]
    place = resources.files("heartstrings.behaviours") / "data" / "validation.toml"
    return tomllib.loads(place.read_text(encoding="utf-8"))
