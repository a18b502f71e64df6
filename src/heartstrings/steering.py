"""What to do to the residual stream while one request runs: frozen values that say what they do in words.

Dose is a fraction of the mean residual norm at the layer and site over the calibration texts:
`add` is h += dose * norm * unit(direction). Positions are absolute, 0-based, and count real tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32

from heartstrings.types import Site, Variant

if TYPE_CHECKING:
    from heartstrings.vectors import EmotionVectors

Operation = Literal["add", "clamp", "ablate"]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `stop - 1` of the whole sequence; `stop` None runs to its end."""

    start: int
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Characters:
    """The tokens that overlap characters `start` to `stop - 1` of the prompt (of the rendered text, for a chat)."""

    start: int
    stop: int


Positions: TypeAlias = Literal["all", "prompt", "generated"] | Span | Characters
"""`prompt`: every token of the prompt, template included; `generated`: every token after it, given or sampled."""


@dataclass(frozen=True, eq=False)
class Intervention:
    """One change of the residual stream at one layer.

    `add`: h += dose * norm * unit(direction). `clamp`: the component along unit(direction) becomes
    dose * norm. `ablate`: that component is removed; `dose` is then unused.
    """

    layer: int
    direction: Float32[np.ndarray, "width"]
    """Any non-zero length; only its direction counts."""
    dose: float | int
    """Fraction of `norm`."""
    norm: float | int
    """Mean residual norm at this layer and site over the calibration texts: the unit of dose."""
    operation: Operation = "add"
    site: Site = "block"
    label: str = ""
    """What the direction is called, e.g. `0.5*joyful - sad`."""


@dataclass(frozen=True, eq=False)
class Steering:
    """What to do to one request while it runs."""

    interventions: tuple[Intervention, ...]
    positions: Positions = "all"


def steer(
    vectors: EmotionVectors,
    direction: str,
    *,
    dose: float | int,
    layers: int | Sequence[int],
    operation: Operation = "add",
    positions: Positions = "all",
    variant: Variant | None = None,
) -> Steering:
    """Steering along an emotion or a blend (`0.5*joyful - sad`) of a bundle; several layers share the dose, each
    taking dose / n, as exported files do.

    Args:
        variant: denoised where the bundle has it, else raw.
    Raises:
        InputError: an unknown emotion or layer, a bundle without norms, a blend that cancels.
    """
    raise NotImplementedError
