"""Control directions: what a direction is compared with, made so that only what is tested differs.

`general`: isotropic in the residual space. `span`: isotropic in the span of the emotion vectors. `topic`: mixtures of
what the stories' topics have in common. `natural`: drawn with the covariance of neutral texts. All are norm-matched: a
dose moves the residual stream exactly as far as it does along an emotion. `shuffled`: what the same stories give with
their labels shuffled, at its own length relative to the real vector's. Blown up to the full length, such a vector lies
along the stories' main axis of variation, which in stories about emotion is valence itself: no null, but the treatment.
At its own length, the real vector is exchangeable with it if labels carry nothing; where they carry something the real
one is longer, so that this kind alone never shows that a direction controls. docs/controls.md has the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError
from heartstrings.core.steering import Intervention, Steering
from heartstrings.experiment.claim_directions import claim_kinds, rivals, stripped
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS, Cell, ClaimKind, ControlKind, Kind
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_directions import factors
from heartstrings.vectors.algebra import layer_row
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.story_activations import StoryActivations, check_same, read_story_activations

__all__ = ["DirectionSet", "StoryActivations", "direction_set", "read_story_activations"]

LEAST_TOPICS = 4
"""Fewer topics give mixtures that are nearly one direction."""
RANK = 1e-5
"""A component of the emotion vectors counts to their span where its singular value is over this share of the largest:
float32 rounding lies below."""
NOTHING = 1e-12
"""A vector of at most this share of the largest entry of the emotion vectors has cancelled to rounding noise."""


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """Every direction and control of a plan, made when first asked for.

    A control is drawn from a generator of its own, seeded with the plan's seed, its kind, its number and the layer
    (shuffled ones: one labelling for all layers and directions). So control 7 is the same however many there are.
    """

    plan: Plan
    vectors: EmotionVectors
    layers: tuple[int, ...]
    """Those that will be steered at; others of the vectors work too, at the price of another pass over the stories."""
    stories: StoryActivations | None
    _spans: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _shuffles: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)
    """By expression and layer: [control, width]."""
    _topic_contrasts: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    """By layer: [topic, width]."""
    _neutral_texts: dict[int, np.ndarray | None] = field(default_factory=dict, repr=False)
    """By layer: [text, width]."""
    _coherence: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)

    @cached_property
    def kinds(self) -> tuple[ControlKind, ...]:
        """The kinds of control that there are: `shuffled`, `topic` and `natural` need the stories' activations, `topic`
        topics that are crossed with emotions, and `natural` the neutral texts' activations."""
        there = {
            "shuffled": self.stories is not None,
            "topic": self._has_topics,
            "natural": bool(self.plan.controls.natural) and self._neutral(self.layers[0]) is not None,
        }
        return tuple(kind for kind in CONTROL_KINDS if getattr(self.plan.controls, kind) and there.get(kind, True))

    @cached_property
    def claims(self) -> tuple[ClaimKind, ...]:
        """The comparisons of further claims that there are (`heartstrings.experiment.claim_directions`)."""
        return claim_kinds(self.plan, self.vectors.emotions)

    @property
    def _has_topics(self) -> bool:
        return self.stories is not None and self.stories.n_crossed_topics >= LEAST_TOPICS

    def controls(self, kind: Kind, direction: str) -> tuple[str, ...]:
        """Names of the controls of a kind for a direction, or of what a claim compares it with; all but shuffled and
        stripped ones serve every direction."""
        if kind in CLAIM_KINDS:
            return self._compared(kind, direction) if kind in self.claims else ()
        if kind not in self.kinds:
            return ()
        suffix = f":{direction}" if kind == "shuffled" else ""
        return tuple(f"{kind}/{number}{suffix}" for number in range(getattr(self.plan.controls, kind)))

    def steering(self, cell: Cell, plan: Plan) -> Steering | None:
        """What a cell asks for; None for the baseline and for prompting.

        A shuffled control's dose is the cell's times the ratio of its length to the real vector's, for `clamp` too.

        Raises:
            InputError: a name or a layer that is not there, or a vector that cancels.
        """
        if cell.kind in ("baseline", "prompting"):
            return None
        vector, scale = self.vector(cell.kind, cell.direction, cell.layer)
        norms = self.vectors.norms
        assert norms is not None  # direction_set saw to it
        intervention = Intervention(
            layer=cell.layer,
            direction=vector.astype(np.float32),
            dose=cell.dose * scale,
            norm=float(norms[self.vectors.layers.index(cell.layer)]),
            operation=plan.operation,
            site=plan.site,
            label=cell.direction,
        )
        return Steering((intervention,), plan.positions)

    def vector(self, kind: Kind, name: str, layer: int) -> tuple[Float64[np.ndarray, "width"], float]:
        """(a unit vector, what a cell's dose is multiplied with) of a direction or control at a layer.

        Raises:
            InputError: a name that is none of this kind, a layer that the vectors lack, or a vector that cancels.
        """
        layer_row(self.vectors.layers, layer, "the bundle")
        if kind == "direction":
            return self._unit(self._real(name, layer), name, layer), 1.0
        if kind in ("other", "stripped"):
            return self._named(kind, name, layer), 1.0
        number, expression = self._parse(kind, name)
        if kind == "shuffled":
            shuffled, real = self._shuffled(expression, layer)[number], self._real(expression, layer)
            self._unit(real, expression, layer)
            return self._unit(shuffled, name, layer), float(np.linalg.norm(shuffled) / np.linalg.norm(real))
        drawn = self._draws(kind, number, layer).standard_normal(self.vectors.width)
        if kind == "topic":
            topics = self._topics(layer)
            drawn = self._draws(kind, number, layer).standard_normal(len(topics)) @ topics
        if kind == "natural":
            texts = self._neutral(layer)
            if texts is None:
                raise InputError(
                    "a natural control without the neutral texts' activations",
                    "those of the extraction",
                    "Keep its .work folder, and extract with neutral texts",
                )
            # A Gaussian mixture of deviations from their mean has their covariance.
            drawn = self._draws(kind, number, layer).standard_normal(len(texts)) @ texts
        if kind == "mixture":
            left = rivals(self.vectors.emotions, self.plan.directions)
            contrasts = self._contrasts(layer)[[self.vectors.emotions.index(emotion) for emotion in left]]
            drawn = self._draws(kind, number, layer).standard_normal(len(left)) @ contrasts
        if kind == "span":
            # Projected rather than drawn in coordinates of the span: any basis of it gives the same vector.
            basis = self.span(layer)
            drawn = (basis @ drawn) @ basis
        return drawn / np.linalg.norm(drawn), 1.0

    def rows(
        self, kind: Kind, names: Sequence[str], layer: int
    ) -> tuple[Float64[np.ndarray, "name width"], Float64[np.ndarray, "name"]]:
        """`vector` of several names of a kind: unit vectors, and what a cell's dose is multiplied with.

        Mixtures (`topic`, `natural`) are one matrix product: the same as by `vector` up to rounding.

        Raises:
            InputError: as `vector`.
        """
        if kind not in ("topic", "natural") or not names:
            units_and_scales = [self.vector(kind, name, layer) for name in names]
            units = np.array([unit for unit, _ in units_and_scales]).reshape(len(names), self.vectors.width)
            return units, np.array([scale for _, scale in units_and_scales])
        self.vector(kind, names[0], layer)  # refuses what cannot be made
        basis = self._topics(layer) if kind == "topic" else self._neutral(layer)
        assert basis is not None
        numbers = [self._parse(kind, name)[0] for name in names]
        mixed = np.stack([self._draws(kind, number, layer).standard_normal(len(basis)) for number in numbers]) @ basis
        return mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.ones(len(names))

    def span(self, layer: int) -> Float64[np.ndarray, "component width"]:
        """An orthonormal basis of what the emotion vectors of the plan's variant span at a layer: the components of
        their SVD whose singular value is over 1e-5 of the largest. Its length is the rank of the span."""
        if layer not in self._spans:
            rows = self._contrasts(layer)
            _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
            if not sizes[0]:
                raise InputError(f"all emotion vectors are nothing at layer {layer}", "vectors that span something")
            self._spans[layer] = basis[sizes > RANK * sizes[0]]
        return self._spans[layer]

    def story_coherence(self, direction: str, layer: int) -> float | None:
        """Mean cosine between a direction and the stories of its emotions; None without the stories' activations.

        Each story's activation minus the centre (the mean over emotions), denoised if the vectors are, with the sign
        reversed for emotions that a blend subtracts. All stories have equal weight. The stories made the vector, so n
        stories of an emotion that share nothing still give about 1 / sqrt(n). Braun et al. (arXiv 2505.22637) found
        that vectors whose training differences point one way steer more reliably; Tan et al. (arXiv 2407.12404) found
        how much this varies from input to input.
        """
        if self.stories is None or self.vectors.centre is None:
            return None
        if (direction, layer) not in self._coherence:
            names, layers = self._together(direction, layer)
            real = np.stack([np.stack([self._real(name, at) for at in layers]) for name in names])
            cosines = self.stories.cosines(real, layers, self.plan.variant)
            for name, by_layer in zip(names, cosines, strict=True):
                sign = np.sign(factors(name, self.vectors.emotions))[self.stories.emotion]
                for at, by_story in zip(layers, by_layer, strict=True):
                    self._coherence[name, at] = float((sign * by_story)[sign != 0].mean())
        return self._coherence[direction, layer]

    def _compared(self, kind: Kind, direction: str) -> tuple[str, ...]:
        """Names of what a claim compares a direction with."""
        if kind == "mixture":
            return tuple(f"mixture/{number}" for number in range(self.plan.claims.mixture))
        if kind == "stripped":
            return (f"stripped/{direction}",)
        others = rivals(self.vectors.emotions, (direction,))
        # One order for all directions, so that they are compared with the same emotions as far as families allow.
        order = self._draws(kind, 0, 0).permutation(len(self.vectors.emotions)).tolist()
        kept = sorted(others, key=lambda name: order[self.vectors.emotions.index(name)])[: self.plan.claims.other]
        return tuple(f"other/{name}" for name in others if name in kept)

    def _named(self, kind: Kind, name: str, layer: int) -> Float64[np.ndarray, "width"]:
        """Another emotion, or a direction without its valence and arousal parts."""
        stated, _, expression = name.partition("/")
        if stated != kind or not expression:
            raise InputError(f"a {kind} direction called {name!r}", f"a name such as {kind}/EMOTION")
        real = self._real(expression, layer)
        if kind == "stripped":
            real = stripped(real, self._contrasts(layer), self.vectors.emotions)
        return self._unit(real, name, layer)

    def _contrasts(self, layer: int) -> Float64[np.ndarray, "emotion width"]:
        row = layer_row(self.vectors.layers, layer, "the bundle")
        contrasts: np.ndarray = self.vectors.contrasts(self.plan.variant)[row].astype(np.float64)
        return contrasts

    def _real(self, expression: str, layer: int) -> Float64[np.ndarray, "width"]:
        row: np.ndarray = self.vectors.direction(expression, layer=layer, variant=self.plan.variant).values[0]
        return row

    def _shuffled(self, expression: str, layer: int) -> Float64[np.ndarray, "control width"]:
        """The blend under each labelling, at its own length. One pass over the stories serves the whole plan."""
        if self.stories is None:
            raise InputError(
                "a shuffled control without the stories' activations",
                "those of the extraction",
                "Keep its .work folder",
            )
        if (expression, layer) not in self._shuffles:
            stories = self.stories
            names, layers = self._together(expression, layer)
            shuffles = [stories.shuffled(self._draws("shuffled", k, 0)) for k in range(self.plan.controls.shuffled)]
            blends = np.stack([factors(name, self.vectors.emotions) for name in names])
            own, *shuffled = stories.contrasts(
                np.stack([stories.emotion, *shuffles]), blends, layers, self.plan.variant
            )
            for i, name in enumerate(names):
                for j, at in enumerate(layers):
                    check_same(stories, own[i, j], self._real(name, at))
                    self._shuffles[name, at] = np.stack([contrasts[i, j] for contrasts in shuffled])
        return self._shuffles[expression, layer]

    def _topics(self, layer: int) -> Float64[np.ndarray, "topic width"]:
        """Contrasts of the stories' topics; one pass over the stories serves all layers of the plan."""
        if self.stories is None:
            raise InputError(
                "a topic control without the stories' activations", "those of the extraction", "Keep its .work folder"
            )
        if layer not in self._topic_contrasts:
            layers = self.layers if layer in self.layers else (layer,)
            contrasts = self.stories.topic_contrasts(layers, self.plan.variant)
            self._topic_contrasts.update({at: contrasts[:, column] for column, at in enumerate(layers)})
        return self._topic_contrasts[layer]

    def _neutral(self, layer: int) -> Float64[np.ndarray, "text width"] | None:
        """Neutral texts' deviations from their mean; one reading serves all layers of the plan."""
        if layer not in self._neutral_texts:
            layers = self.layers if layer in self.layers else (layer,)
            deviations = None if self.stories is None else self.stories.neutral_deviations(layers, self.plan.variant)
            for column, at in enumerate(layers):
                self._neutral_texts[at] = None if deviations is None else deviations[:, column]
        return self._neutral_texts[layer]

    def _together(self, expression: str, layer: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """What to compute in one pass over the stories when one of it is asked for."""
        names = self.plan.directions if expression in self.plan.directions else (expression,)
        return names, self.layers if layer in self.layers else (layer,)

    def _unit(self, row: Float64[np.ndarray, "width"], name: str, layer: int) -> Float64[np.ndarray, "width"]:
        length = float(np.linalg.norm(row))
        if length <= NOTHING * float(np.abs(self.vectors.raw).max()):
            raise InputError(f"{name!r} cancels at layer {layer}", "a blend that leaves a direction")
        return row / length

    def _parse(self, kind: Kind, name: str) -> tuple[int, str]:
        """Number and expression of `general/7`, `mixture/7` or `shuffled/7:EXPRESSION`."""
        head, _, expression = name.partition(":")
        stated, _, number = head.partition("/")
        plain = number.isascii() and number.isdigit() and str(int(number)) == number
        numbered = kind in (*CONTROL_KINDS, "mixture") and stated == kind and plain
        if not numbered or (kind == "shuffled") != bool(expression):
            wanted = "shuffled/7:EXPRESSION" if kind == "shuffled" else f"{kind}/7"
            raise InputError(f"a {kind} control called {name!r}", f"a name such as {wanted}")
        n = getattr(self.plan.claims if kind == "mixture" else self.plan.controls, kind)
        if int(number) >= n:
            raise InputError(f"{kind} control {number}", f"one of the plan's {n}, counted from 0")
        return int(number), expression

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
        InputError: vectors without norms, an unknown emotion, a blend that cancels, a layer that they lack, a site that
            is not the plan's, or more shuffles than the stories have.
    """
    if vectors.norms is None:
        raise InputError(
            "a dose is a fraction of the mean residual norm, and this bundle has no norms",
            "a bundle extracted here, which measures them",
            "Extract the vectors from the model",
        )
    if vectors.provenance.site != plan.site:
        raise InputError(
            f"vectors of site {vectors.provenance.site}, a plan of site {plan.site}", "the same", "Change site"
        )
    lacking = [layer for layer in layers if layer not in vectors.layers]
    if lacking:
        known = ", ".join(map(str, vectors.layers))
        raise InputError(f"no vectors of layer {lacking[0]}", f"some of {known}", "Change the plan's layers")
    made = DirectionSet(plan, vectors, tuple(layers), stories)
    for text in plan.directions:
        for layer in layers:
            made.vector("direction", text, layer)
    others = stories.arrangements - 1 if stories is not None else np.inf
    if plan.controls.shuffled > others:
        within = "within their topics" if stories is not None and stories.crossed else "over all stories"
        raise InputError(
            f"{plan.controls.shuffled} shuffled controls; labels can be shuffled {within} in {others:.0f} other ways",
            "fewer",
            "Lower shuffled under [controls], or extract from more stories",
        )
    return made
