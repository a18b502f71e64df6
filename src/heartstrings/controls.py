"""Control directions: what a direction is compared with, made so that only what is tested differs.

`general`: isotropic in the residual space. `span`: isotropic in the span of the emotion vectors. Both are norm-matched:
a dose moves the residual stream exactly as far as it does along an emotion. `shuffled`: what the same stories give with
their labels shuffled, at its own length relative to the real vector's. Blown up to the full length, such a vector lies
along the stories' main axis of variation, which in stories about emotion is valence itself: no null, but the treatment
(docs/controls.md has the figures). At its own length, the real vector is exchangeable with it if labels carry nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.algebra import Direction, parse
from heartstrings.errors import InputError
from heartstrings.ledger import Cell, Kind
from heartstrings.plan import Plan
from heartstrings.steering import Intervention, Steering
from heartstrings.story_activations import StoryActivations, read_story_activations
from heartstrings.vectors import EmotionVectors

__all__ = ["DirectionSet", "StoryActivations", "direction_set", "opposite", "orthogonalised", "read_story_activations"]

KINDS: tuple[Kind, ...] = ("general", "span", "shuffled")
RANK = 1e-5
"""A component of the emotion vectors counts to their span where its singular value is over this share of the largest:
float32 rounding lies below."""


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """Every direction and control of a plan, made when first asked for."""

    plan: Plan
    vectors: EmotionVectors
    layers: tuple[int, ...]
    stories: StoryActivations | None
    _made: dict[tuple[str, int], tuple[np.ndarray, float]] = field(default_factory=dict, repr=False)
    _spans: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of control that there are: `shuffled` needs the stories' activations."""
        return tuple(
            kind
            for kind in KINDS
            if getattr(self.plan.controls, kind) and (kind != "shuffled" or self.stories is not None)
        )

    def controls(self, kind: Kind, direction: str) -> tuple[str, ...]:
        """Names of the controls of a kind for a direction; general and span ones serve every direction."""
        if kind not in self.kinds:
            return ()
        suffix = f":{direction}" if kind == "shuffled" else ""
        return tuple(f"{kind}/{number}{suffix}" for number in range(getattr(self.plan.controls, kind)))

    def steering(self, cell: Cell, plan: Plan) -> Steering | None:
        """What a cell asks for; None for the baseline and for prompting."""
        if cell.kind in ("baseline", "prompting"):
            return None
        vector, scale = self.vector(cell.kind, cell.direction, cell.layer)
        norms = self.vectors.norms
        assert norms is not None  # direction_set saw to it
        one = Intervention(
            layer=cell.layer,
            direction=vector.astype(np.float32),
            dose=cell.dose * scale,
            norm=float(norms[self.vectors.layers.index(cell.layer)]),
            operation=plan.operation,
            site=plan.site,
            label=cell.direction,
        )
        return Steering((one,), plan.positions)

    def vector(self, kind: Kind, name: str, layer: int) -> tuple[Float64[np.ndarray, "width"], float]:
        """(a unit vector, what a cell's dose is multiplied with) of a direction or control at a layer.

        Raises:
            InputError: a name that is none of this kind, or a layer that the vectors lack.
        """
        if (name, layer) not in self._made:
            if layer not in self.vectors.layers:
                known = ", ".join(map(str, self.vectors.layers))
                raise InputError(f"no vectors of layer {layer}", f"one of {known}", "Change the layers")
            found, scale = self._make(kind, name, layer)
            self._made[name, layer] = (found / np.linalg.norm(found), scale)
        return self._made[name, layer]

    def span(self, layer: int) -> Float64[np.ndarray, "component width"]:
        """An orthonormal basis of what the emotion vectors of the plan's variant span at a layer."""
        if layer not in self._spans:
            rows = self.vectors.contrasts(self.plan.variant)[self.vectors.layers.index(layer)].astype(np.float64)
            _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
            self._spans[layer] = basis[sizes > RANK * sizes[0]]
        return self._spans[layer]

    def story_coherence(self, direction: str, layer: int) -> float | None:
        """Mean cosine between the direction and the stories of its emotions: each story's activation minus the
        centre, denoised as the vectors are, turned round for emotions that a blend subtracts; all stories weigh
        alike. Tan et al. (arXiv 2407.12404) and Braun et al. (2505.22637) relate such agreement to how reliably
        a vector steers. None without the stories' activations."""
        if self.stories is None or self.vectors.centre is None:
            return None
        vector, _ = self.vector("direction", direction, layer)
        cosines = [
            np.sign(weight) * self.stories.coherence(self.vectors.row(name), vector, layer, self.plan.variant)
            for name, weight in self._weights(direction).items()
        ]
        return float(np.concatenate(cosines).mean())

    def overlap(self, direction: str, kind: Kind, layer: int) -> Float64[np.ndarray, "control"]:
        """Cosine of each control of a kind with a direction."""
        tested, _ = self.vector("direction", direction, layer)
        return np.array([self.vector(kind, name, layer)[0] @ tested for name in self.controls(kind, direction)])

    def _make(self, kind: Kind, name: str, layer: int) -> tuple[np.ndarray, float]:
        if kind == "direction":
            return self.vectors.direction(name, layer=layer, variant=self.plan.variant).values[0], 1.0
        number, expression = _parse_name(kind, name)
        if kind == "general":
            return self._draws(kind, number, layer).standard_normal(self.vectors.width), 1.0
        if kind == "span":
            basis = self.span(layer)
            return self._draws(kind, number, layer).standard_normal(len(basis)) @ basis, 1.0
        return self._shuffled(number, expression, layer)

    def _shuffled(self, number: int, expression: str, layer: int) -> tuple[np.ndarray, float]:
        if self.stories is None:
            raise InputError("a shuffled control without the stories' activations", "an atlas that kept them")
        table = self.stories.contrasts(self._labels(number), layer, self.plan.variant)

        def shuffled(name: str) -> Direction:
            return Direction(name, (layer,), table[self.vectors.row(name)][None])

        found = parse(expression, self.vectors.emotions, shuffled).values[0]
        real = self.vectors.direction(expression, layer=layer, variant=self.plan.variant).values[0]
        return found, float(np.linalg.norm(found) / np.linalg.norm(real))

    def _labels(self, number: int) -> Int64[np.ndarray, "story"]:
        """The stories' labels, shuffled within topics where these are crossed with emotions, else over all; the same
        for every layer and direction."""
        assert self.stories is not None
        labels = self.stories.emotion.copy()
        draws = self._draws("shuffled", number, 0)
        parts = self.stories.topic if self.stories.crossed else np.zeros(len(labels), dtype=np.int64)
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            labels[rows] = draws.permutation(labels[rows])
        return labels

    def _weights(self, expression: str) -> Mapping[str, float]:
        """Factor of each emotion in a blend."""
        names = self.vectors.emotions
        unit = partial(_axis, names=names)
        row = parse(expression, names, unit).values[0]
        return {name: float(factor) for name, factor in zip(names, row, strict=True) if factor}

    def _draws(self, kind: str, number: int, layer: int) -> np.random.Generator:
        """A generator of its own for each control and layer: more controls leave the others as they are."""
        text = f"{self.plan.seed} {kind} {number} {layer}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def direction_set(
    plan: Plan, vectors: EmotionVectors, *, layers: Sequence[int], stories: StoryActivations | None
) -> DirectionSet:
    """The directions and controls of a plan for vectors at hand.

    Args:
        layers: those that will be steered at.
        stories: the vectors' stories; None: no shuffled controls and no story coherence.
    Raises:
        InputError: vectors without norms, an unknown emotion, a layer that they lack.
    """
    if vectors.norms is None:
        raise InputError(
            "a dose is a fraction of the mean residual norm, and this bundle has no norms",
            "a bundle extracted here, which measures them",
            "Extract the vectors from the model",
        )
    for text in plan.directions:
        vectors.direction(text, variant=plan.variant)
    lacking = [layer for layer in layers if layer not in vectors.layers]
    if lacking:
        known = ", ".join(map(str, vectors.layers))
        raise InputError(f"no vectors of layer {lacking[0]}", f"some of {known}", "Change the plan's layers")
    return DirectionSet(plan, vectors, tuple(layers), stories)


def orthogonalised(direction: Direction, *, to: Direction) -> Direction:
    """A direction without its part along another, at every layer: is it this direction, or what it shares?

    Raises:
        InputError: different layers or widths, or nothing is left.
    """
    if direction.layers != to.layers or direction.width != to.width:
        raise InputError(
            f"{direction.name!r} at layers {direction.layers} and {to.name!r} at {to.layers}",
            "directions of the same layers and width",
        )
    unit = to.unit().values
    left = direction.values - (direction.values * unit).sum(1, keepdims=True) * unit
    if (np.linalg.norm(left, axis=1) <= 1e-9 * direction.norm()).any():
        raise InputError(f"{direction.name!r} lies along {to.name!r}", "directions that differ")
    return Direction(f"{direction.name} without {to.name}", direction.layers, left)


def opposite(direction: Direction) -> Direction:
    """The same line the other way. As a control it is what a dose of the other sign already is."""
    return Direction(f"-({direction.name})", direction.layers, -direction.values)


def _axis(name: str, names: Sequence[str]) -> Direction:
    return Direction(name, (0,), np.eye(len(names))[[list(names).index(name)]])


def _parse_name(kind: str, name: str) -> tuple[int, str]:
    """Number and expression of `general/7`, `span/7` or `shuffled/7:EXPRESSION`."""
    head, _, expression = name.partition(":")
    stated, _, number = head.partition("/")
    if stated != kind or not number.isdigit() or (kind == "shuffled") != bool(expression):
        wanted = "shuffled/7:EXPRESSION" if kind == "shuffled" else f"{kind}/7"
        raise InputError(f"a {kind} control called {name!r}", f"a name such as {wanted}")
    return int(number), expression
