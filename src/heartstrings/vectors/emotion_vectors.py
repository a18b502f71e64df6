"""Emotion vectors: one direction for each emotion and layer, with the data needed to judge and use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int16, Int32, Int64

from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.notebook import html_table
from heartstrings.core.types import ModelInfo, Provenance, Variant
from heartstrings.vectors.algebra import Direction, layer_row, mean, parse, unknown_name

if TYPE_CHECKING:
    from heartstrings.corpus.lexicon import Ratings

__all__ = ["Direction", "EmotionVectors", "StoryTable", "components", "mean", "project_out"]

_SHOWN = 12
"""Emotions in the table of a notebook."""

N_STORY_COMPONENTS = 10
"""How many components the story scores are kept for."""


@dataclass(frozen=True, eq=False)
class StoryTable:
    """What is known of each pooled story, one row a story, in corpus order."""

    emotion: Int16[np.ndarray, "story"]
    """Index into the bundle's emotions."""
    topic: Int32[np.ndarray, "story"]
    """Index into `topics`."""
    topics: tuple[str, ...]
    half: Int8[np.ndarray, "story"]
    """0 or 1; the halves share no topic."""
    n_tokens: Int32[np.ndarray, "story"]
    """Real tokens, BOS included, after truncation."""
    words: Int32[np.ndarray, "story"]
    person: Float32[np.ndarray, "story"]
    """Share of first person among the personal pronouns; NaN where the story has none."""
    dialogue: Float32[np.ndarray, "story"]
    """Share of the characters in quotation marks."""

    def __post_init__(self) -> None:
        rows = {column.name: len(getattr(self, column.name)) for column in fields(self) if column.name != "topics"}
        if len(set(rows.values())) > 1:
            raise InputError(f"a story table with columns of different length: {rows}", "one row a story")
        if len(self.topic) and not 0 <= int(self.topic.min()) <= int(self.topic.max()) < len(self.topics):
            raise InputError("a story table that points at a topic it does not name", "indices into `topics`")
        if not np.isin(self.half, (0, 1)).all():
            raise InputError("a story table with a half other than 0 and 1", "0 or 1")

    def __len__(self) -> int:
        return len(self.emotion)

    def select(self, rows: Int64[np.ndarray, "_"]) -> StoryTable:
        """Some of the stories."""
        columns = [column.name for column in fields(self) if column.name != "topics"]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True, eq=False)
class EmotionVectors:
    """Emotion directions of one model at one or more layers, with their provenance.

    `raw` holds contrasts: an emotion's mean activation minus the mean over emotions. `denoised` is `raw` with
    the top components of neutral activations projected out (Sofroniew et al. 2026, arXiv 2604.07729).
    Numbers are in the model's own activation units; `norms` is the unit of dose.

    Raises:
        InputError: shapes that do not agree, repeated names or layers.
        NumericalError: NaN or Inf.
    """

    emotions: tuple[str, ...]
    layers: tuple[int, ...]
    raw: Float32[np.ndarray, "layer emotion width"]
    provenance: Provenance
    denoised: Float32[np.ndarray, "layer emotion width"] | None = None
    centre: Float32[np.ndarray, "layer width"] | None = None
    """The mean over emotions that was subtracted."""
    halves: Float32[np.ndarray, "half layer emotion width"] | None = None
    """Raw contrasts from two topic-disjoint halves; a NaN row where an emotion has no story in a half."""
    neutral_basis: tuple[Float32[np.ndarray, "_ width"], ...] | None = None
    """One array a layer, [component, width], orthonormal rows: what `denoised` is free of."""
    norms: Float32[np.ndarray, "layer"] | None = None
    """Mean L2 norm of the residual over the calibration texts, sinks left out."""
    reliability: Float32[np.ndarray, "layer emotion"] | None = None
    """Cosine of the two halves' raw contrasts, Spearman-Brown corrected; NaN where a half is missing."""
    counts: tuple[int, ...] | None = None
    """Pooled stories an emotion."""
    tokens: tuple[int, ...] | None = None
    """Pooled tokens an emotion."""
    stories: StoryTable | None = None
    story_scores: Float32[np.ndarray, "variant layer story score"] | None = None
    """Story activations minus `centre`, projected on the first components of raw (0) and denoised (1)."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.raw.shape[2])

    @property
    def variants(self) -> tuple[Variant, ...]:
        return ("raw",) if self.denoised is None else ("raw", "denoised")

    @property
    def k(self) -> tuple[int, ...] | None:
        """How many neutral components were projected out at each layer; None without denoising."""
        return None if self.neutral_basis is None else tuple(len(rows) for rows in self.neutral_basis)

    def contrasts(self, variant: Variant = "raw") -> Float32[np.ndarray, "layer emotion width"]:
        """All vectors of one variant.

        Raises:
            InputError: the bundle has no denoised variant, or no such variant exists.
        """
        if variant == "raw":
            return self.raw
        if variant != "denoised":
            raise InputError(f"variant {variant!r}", "raw or denoised")
        if self.denoised is None:
            raise InputError("this bundle has no denoised vectors", "variant raw", "Extract again with neutral texts")
        return self.denoised

    def row(self, name: str) -> int:
        """Index of an emotion.

        Raises:
            InputError: no such emotion; the message suggests the nearest names.
        """
        if name not in self.emotions:
            raise unknown_name(name, self.emotions)
        return self.emotions.index(name)

    def select(self, names: Sequence[str]) -> tuple[int, ...]:
        """Indices of several emotions, in the order asked for; any unknown name is an error."""
        return tuple(self.row(name) for name in names)

    def vector(self, name: str, layer: int | None = None, variant: Variant = "raw") -> Float32[np.ndarray, "width"]:
        """One emotion's vector at one layer; `layer` may be left out where there is only one.

        Raises:
            InputError: no such emotion, layer or variant.
        """
        emotion = self.row(name)
        vector: np.ndarray = self.contrasts(variant)[layer_row(self.layers, layer, "this bundle"), emotion]
        return vector.copy()

    def halves_of(self, variant: Variant = "raw") -> Float32[np.ndarray, "half layer emotion width"] | None:
        """Contrasts from the two topic-disjoint halves; the denoised ones are projected on the fly.

        The neutral basis is the same for both halves: it never saw a story.
        """
        self.contrasts(variant)
        if self.halves is None or variant == "raw":
            return self.halves
        basis = self._basis()
        halves = [
            np.stack([project_out(half[row], basis[row]) for row in range(len(self.layers))]) for half in self.halves
        ]
        return np.stack(halves)

    def __getitem__(self, name: str) -> Direction:
        """The raw vectors of one emotion at all layers, ready for arithmetic."""
        return self.of(name)

    def of(self, name: str, variant: Variant = "raw") -> Direction:
        """The vectors of one emotion at all layers, ready for arithmetic."""
        return Direction(name, self.layers, self.contrasts(variant)[:, self.row(name)].astype(np.float64))

    def direction(self, expression: str, layer: int | None = None, variant: Variant = "raw") -> Direction:
        """A combination such as `0.5*joyful - sad`, at one layer or, without `layer`, at all.

        Raises:
            InputError: an unknown emotion or layer, or no expression (see `heartstrings.vectors.algebra.parse`).
        """
        self.contrasts(variant)
        result = parse(expression, self.emotions, lambda name: self.of(name, variant))
        return result if layer is None else result.only(layer)

    def axis(self, which: Literal["valence", "arousal"], ratings: Ratings, variant: Variant = "raw") -> Direction:
        """The direction that predicts a rating, of norm 1 and pointing to higher ratings, at every layer.

        Minimum-norm least squares of the centred ratings on the centred contrasts over the rated emotions, as
        in van der Ben et al. 2026 (arXiv 2606.26987): with more dimensions than emotions it fits the ratings
        exactly, so it describes these emotions and does not show how well others would be predicted.

        Raises:
            InputError: fewer than three rated emotions, or all rated alike.
        """
        if which not in ("valence", "arousal"):
            raise InputError(f"axis {which!r}", "valence or arousal")
        target = np.asarray(ratings.arrays(self.emotions)[0 if which == "valence" else 1], dtype=np.float64)
        rated = np.isfinite(target)
        if int(rated.sum()) < 3 or np.ptp(target[rated]) == 0:
            raise InputError(
                f"{int(rated.sum())} of {len(self.emotions)} emotions have a {which} rating that differs",
                "at least three rated emotions with different ratings",
                "Give ratings of these words",
            )
        target = target[rated] - target[rated].mean()
        rows = [least_squares_direction(layer[rated], target) for layer in self.contrasts(variant)]
        return Direction(which, self.layers, np.stack(rows)).unit()

    def save(self, directory: str | Path) -> None:
        """Write a bundle directory; see `heartstrings.vectors.bundle.save`."""
        from heartstrings.vectors.bundle import save

        save(self, directory)

    @classmethod
    def load(cls, directory: str | Path, *, for_model: ModelInfo | None = None, force: bool = False) -> EmotionVectors:
        """Read a bundle directory; see `heartstrings.vectors.bundle.load`."""
        from heartstrings.vectors.bundle import load

        return load(directory, for_model=for_model, force=force)

    def _repr_html_(self) -> str:
        """What a notebook shows: the emotions with their stories and how reliable their vectors are."""
        made_on, layers = self.provenance.model, f"{self.layers[0]} to {self.layers[-1]} ({len(self.layers)})"
        rows = [
            (
                name,
                "–" if self.counts is None else self.counts[row],
                "–" if self.reliability is None else _mean_of_known(self.reliability[:, row]),
            )
            for row, name in enumerate(self.emotions[:_SHOWN])
        ]
        more = len(self.emotions) - len(rows)
        return html_table(
            f"{len(self.emotions)} emotion vectors of {made_on.model_id if made_on else 'an unnamed model'}: layers "
            f"{layers}, width {self.width}, {' and '.join(self.variants)}",
            ("emotion", "stories", "reliability, mean over layers"),
            rows,
            note=f"and {more} more emotions" if more else "",
        )

    def _basis(self) -> tuple[Float32[np.ndarray, "_ width"], ...]:
        if self.neutral_basis is None:
            raise InputError("this bundle has denoised vectors and no neutral basis", "both", "Extract it again")
        return self.neutral_basis


def _mean_of_known(values: Float32[np.ndarray, "layer"]) -> str:
    known = values[~np.isnan(values)]
    return f"{known.mean():.2f}" if len(known) else "–"


def components(
    contrasts: Float32[np.ndarray, "emotion width"], n: int = 10
) -> tuple[
    Float64[np.ndarray, "emotion component"], Float64[np.ndarray, "component width"], Float64[np.ndarray, "component"]
]:
    """Principal components over emotions: (scores, basis, explained share of variance).

    The contrasts are centred over emotions and decomposed by SVD in float64. The sign of a component makes its largest
    score positive. At most min(emotions - 1, width) components exist, and none for identical rows; then fewer than `n`
    are returned.

    Raises:
        InputError: fewer than two emotions.
    """
    if contrasts.shape[0] < 2:
        raise InputError(f"{contrasts.shape[0]} emotion for a component analysis", "at least two")
    centred = contrasts.astype(np.float64) - contrasts.astype(np.float64).mean(0)
    left, sizes, basis = np.linalg.svd(centred, full_matrices=False)
    # Centring takes one dimension away; what is below float32 precision is rounding, not a component.
    real = int((sizes > sizes[0] * np.finfo(np.float32).eps).sum()) if sizes[0] > 0 else 0
    kept = min(n, real, contrasts.shape[0] - 1)
    scores = left[:, :kept] * sizes[:kept]
    largest = np.abs(scores).argmax(0) if kept else np.zeros(0, dtype=np.int64)
    sign = np.sign(scores[largest, np.arange(kept)])
    total = float((sizes**2).sum())
    explained = sizes[:kept] ** 2 / total if total > 0 else np.zeros(0)
    return scores * sign, basis[:kept] * sign[:, None], explained


def project_out(
    rows: Float32[np.ndarray, "row width"], basis: Float32[np.ndarray, "_ width"]
) -> Float32[np.ndarray, "row width"]:
    """`rows` without their part in the span of `basis` (orthonormal rows). NaN rows stay NaN."""
    wide, axes = rows.astype(np.float64), basis.astype(np.float64)
    return (wide - (wide @ axes.T) @ axes).astype(np.float32)


def least_squares_direction(
    rows: Float32[np.ndarray, "row width"], target: Float64[np.ndarray, "row"]
) -> Float64[np.ndarray, "width"]:
    """The w of least norm among those that minimise |X w - y|, X and y centred over rows."""
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    # Projected-out directions come back from float32 as rounding noise; they must not count as signal.
    cutoff = float(np.finfo(np.float32).eps) * max(rows.shape)
    return np.asarray(np.linalg.lstsq(centred, target - target.mean(), rcond=cutoff)[0])


def _check(vectors: EmotionVectors) -> None:
    """Shapes agree, names are unique, numbers are finite."""
    emotions, layers = vectors.emotions, vectors.layers
    if vectors.raw.ndim != 3:
        raise InputError(f"vectors of shape {vectors.raw.shape}", "[layer, emotion, width]")
    n_layers, n_emotions, width = len(layers), len(emotions), vectors.raw.shape[2]
    if n_emotions == 0 or n_layers == 0 or width == 0:
        raise InputError(f"{n_layers} layers, {n_emotions} emotions, width {width}", "at least one of each")
    for kind, labels in (("emotion", emotions), ("layer", layers)):
        repeated = sorted({str(label) for label in labels if list(labels).count(label) > 1})
        if repeated:
            raise InputError(f"the {kind} {repeated[0]} occurs twice", "each once")
    if not all(name.strip() == name and name for name in emotions):
        raise InputError("an emotion name that is empty or starts or ends with a space", "plain names")
    if min(layers) < 0:
        raise InputError(f"layer {min(layers)}", "0 or more")
    block = (n_layers, n_emotions, width)
    expected: dict[str, tuple[int, ...]] = {
        "raw": block,
        "denoised": block,
        "centre": (n_layers, width),
        "halves": (2, *block),
        "norms": (n_layers,),
        "reliability": (n_layers, n_emotions),
    }
    for name, shape in expected.items():
        array = getattr(vectors, name)
        if array is None:
            continue
        if array.shape != shape:
            raise InputError(f"`{name}` of shape {array.shape}", f"{shape}, from layers, emotions and width")
        missing_allowed = name in ("halves", "reliability")
        bad = np.isinf(array) if missing_allowed else ~np.isfinite(array)
        if name == "halves":
            # A half without a story of an emotion is a whole row of NaN; a single NaN is damage.
            some = np.isnan(array).any(-1) & ~np.isnan(array).all(-1)
            bad = bad | some[..., None]
        if bad.any():
            place = np.unravel_index(int(bad.argmax()), bad.shape)
            raise NumericalError(
                f"`{name}` holds NaN or infinite numbers, first at {[int(i) for i in place]}",
                "finite numbers",
                "Extract the bundle again",
            )
    _check_basis(vectors, n_layers, width)
    for name in ("counts", "tokens"):
        numbers = getattr(vectors, name)
        if numbers is not None and (len(numbers) != n_emotions or min(numbers) < 0):
            raise InputError(f"`{name}` has {len(numbers)} entries", f"one number an emotion: {n_emotions}")
    _check_stories(vectors, n_layers, n_emotions)


def _check_basis(vectors: EmotionVectors, n_layers: int, width: int) -> None:
    basis = vectors.neutral_basis
    if basis is None:
        return
    if len(basis) != n_layers:
        raise InputError(f"a neutral basis for {len(basis)} layers", f"one for each of {n_layers}")
    for layer, rows in zip(vectors.layers, basis, strict=True):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InputError(f"a neutral basis of shape {rows.shape} at layer {layer}", f"[component, {width}]")
        gram = rows.astype(np.float64) @ rows.astype(np.float64).T
        if not np.isfinite(gram).all() or np.abs(gram - np.eye(len(rows))).max(initial=0.0) > 1e-3:
            raise NumericalError(f"the neutral basis at layer {layer} is not orthonormal", "orthonormal rows")


def _check_stories(vectors: EmotionVectors, n_layers: int, n_emotions: int) -> None:
    table, scores = vectors.stories, vectors.story_scores
    if table is not None and len(table):
        low, high = int(table.emotion.min()), int(table.emotion.max())
        if low < 0 or high >= n_emotions:
            raise InputError(f"a story of emotion number {high if low >= 0 else low}", f"0 to {n_emotions - 1}")
    if scores is None:
        return
    if table is None:
        raise InputError("story scores without a story table", "both or neither")
    shape = (len(vectors.variants), n_layers, len(table))
    if scores.ndim != 4 or scores.shape[:3] != shape:
        raise InputError(f"`story_scores` of shape {scores.shape}", f"{shape} and components")
    if not np.isfinite(scores).all():
        raise NumericalError("`story_scores` holds NaN or infinite numbers", "finite numbers")
