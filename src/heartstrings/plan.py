"""The plan of an experiment: everything that decides its samples, frozen with a hash before the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from heartstrings.steering import Operation
from heartstrings.types import Frozen, Site, Variant

SCHEMA_VERSION = 1


class Controls(Frozen):
    """How many control directions of each kind. Every one goes through the same search and the same samples."""

    general: int = 40
    """Isotropic random directions in the whole residual space."""
    span: int = 40
    """Isotropic random directions within the span of the emotion vectors."""
    shuffled: int = 40
    """Vectors from the same stories with their emotion labels shuffled (within topics), at their own length
    relative to the tested vector's. Needs the stories' activations."""


class Samples(Frozen):
    """Scenarios a cell. Half of them choose the layer where several are searched; the other half is reported."""

    select: int = 16
    effect: int = 40
    matched: int = 40
    capability: int = 60
    """Of each capability behaviour."""
    harm: int = 60
    writing: int = 12
    repeats: int = 1
    """Completions a scenario, for behaviours that are asked by text."""


class Thresholds(Frozen):
    """What counts as what. Rates are fractions, not percent."""

    alpha: float = 0.05
    smallest_effect: float = 0.05
    """A change of the outcome, between the ends of the slope window, too small to matter."""
    accuracy_drop: float = 0.05
    harm_rise: float = 0.02
    validity_drop: float = 0.10
    log_perplexity_rise: float = 0.5
    """Nats a token, of the text under the unsteered model."""
    distinct_drop: float = 0.10
    """Of distinct 2-grams."""
    ends_drop: float = 0.25
    """Of texts that end properly."""


class Plan(Frozen):
    """One experiment on one model."""

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str | None = None
    dtype: str = "auto"
    vectors: Path | None = None
    """A bundle or an atlas folder; None: the atlas is made first (`heartstrings run`)."""
    variant: Variant = "denoised"
    suite: str = "organism"
    """Which behaviours ask what: see `heartstrings.behaviours.suites`."""
    effects: tuple[str, ...] = ("choice",)
    directions: tuple[str, ...] = ("desperate", "calm")
    """Emotions or blends."""
    layers: tuple[int, ...] | Literal["middle"] = "middle"
    """Searched on the select half; one layer: no search. `middle`: from a third to five sixths of the depth."""
    site: Site = "block"
    operation: Operation = "add"
    positions: Literal["all", "prompt", "generated"] = "all"
    doses: tuple[float, ...] = (-1.5, -1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 1.5)
    slope_within: float = 0.2
    """The slope window: slopes are fitted, and controls run, at doses of at most this size."""
    controls: Controls = Controls()
    samples: Samples = Samples()
    thresholds: Thresholds = Thresholds()
    prompting: bool = True
    """Also ask with the emotion named in an instruction or a first-person sentence, unsteered: a baseline."""
    early_stopping: bool = False
    seed: int = 0
