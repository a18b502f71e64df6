"""What a screen found (`heartstrings.workflows.screen`): `screen.json`. It describes; nothing is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from heartstrings.core.errors import InputError
from heartstrings.core.steering import Positions
from heartstrings.core.types import Frozen, Site, Variant
from heartstrings.experiment.ledger import ControlKind

FILE = "screen.json"
SCHEMA_VERSION = 1
DESCRIPTIVE = (
    "Nothing is concluded from the screen alone: it says where steering could matter. Steering itself, with controls "
    "on other scenarios (heartstrings run), says whether it does."
)

ByLayer = tuple[tuple[float, ...], ...]
"""One row a layer, one column an emotion."""
Drawn = Literal["evenly", "by size", "control"]
"""How a cell of the check was drawn: an emotion evenly, an emotion with a probability in proportion to the size of its
prediction, or a control evenly."""


class Band(Frozen):
    """The sizes of the predictions of one kind of control, by layer, in points."""

    kind: ControlKind
    middle: tuple[float, ...]
    """The median."""
    most: tuple[float, ...]
    """95% of the controls are at most this large."""
    largest: tuple[float, ...]
    anywhere: float
    """95% of the controls are at most this large at the layer where each is largest."""


class CheckedCell(Frozen):
    """One direction at one layer: the prediction, and the change that steering made on the same scenarios."""

    kind: Literal["direction", "topic", "natural"]
    direction: str
    layer: int
    drawn: Drawn
    predicted: float
    """In points, from minus `Screen.dose` to plus `Screen.dose`. At another dose it is in proportion."""
    exact: tuple[float | None, ...]
    """In points, from minus to plus each of `Screen.checked_doses`; None without an outcome."""


class Fidelity(Frozen):
    """How well predictions agree with steering at one dose, over the checked cells of one behaviour."""

    dose: float
    cells: int
    rank: float | None
    """Spearman's correlation of predicted and exact changes, signed."""
    rank_low: float | None
    rank_high: float | None
    """95% bootstrap interval over cells (percentiles)."""
    slope: float | None
    """Of exact on predicted changes, through 0: 1 is perfect, under 1 means that predictions are too large."""
    even_rank: float | None
    """Spearman's correlation without the cells that were drawn by size. These spread the predictions, so that the
    correlation over all cells can be higher."""
    same_sign: float | None
    """Share of cells whose prediction has the sign of the exact change."""


class ScreenedBehaviour(Frozen):
    """One behaviour. Changes are in points (hundredths of the outcome), from minus to plus the dose."""

    name: str
    outcome_name: str
    outcome: float
    """Mean of the unsteered outcome, 0 to 1."""
    scenarios: tuple[str, ...]
    """Identifiers of those that were asked."""
    situations: int
    """Independent groups of them; each has equal weight."""
    without_outcome: int
    """Scenarios whose answer could not be graded."""
    reported_too: int
    """Scenarios that a run of the whole suite would report: where this is over 0, no choice from this screen may be
    tested in such a run."""
    understood: bool | None
    """Whether the model passes the questions of this form with a known answer; None: there are none."""
    flat: bool
    """The gradient is 0 everywhere: the outcome is a step function, of which a gradient tells nothing."""
    predicted: ByLayer
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]
    """95% t interval over situations; None with fewer than two."""
    larger: Mapping[str, tuple[tuple[int, ...], ...]]
    """By kind: how many controls are predicted to move the outcome at least as much at the same layer, by size."""
    larger_anywhere: Mapping[str, tuple[int, ...]]
    """By kind: for each emotion, how many controls exceed its largest prediction at the layer where each is largest."""
    bands: tuple[Band, ...]
    check: tuple[CheckedCell, ...]
    fidelity: tuple[Fidelity, ...]


class NotScreened(Frozen):
    """A behaviour of the suite that has no first-order prediction."""

    behaviour: str
    reason: str


class Cost(Frozen):
    """What the screen took, and what steering along everything that it predicts would take at the pace of the check."""

    requests: int
    """Scored requests with one forward and one backward pass each, and one forward pass for the outcome."""
    gradient_seconds: float
    predict_seconds: float
    """Making the controls, and the matrix products."""
    checked_rows: int
    """Steered requests of the check."""
    check_seconds: float
    exhaustive_rows: float | None
    """Steered requests for every emotion and control at every layer, at the two doses."""
    exhaustive_seconds: float | None
    """At the check's seconds for a steered request of each behaviour; None without a check."""
    times_cheaper: float | None


@dataclass(frozen=True)
class Top:
    """The strongest prediction of an emotion on a behaviour."""

    behaviour: str
    emotion: str
    layer: int
    predicted: float
    low: float | None
    high: float | None
    larger: Mapping[str, int]
    """Controls by kind that exceed it at the layer where each is largest."""


class Screen(Frozen):
    """`screen.json`."""

    schema_version: int = SCHEMA_VERSION
    package_version: str
    model: str
    weights_hash: str
    dtype: str
    n_layers: int
    suite: str
    variant: Variant
    vectors_hash: str
    """Of the emotions' directions at these layers."""
    emotions: tuple[str, ...]
    layers: tuple[int, ...]
    dose: float
    positions: Positions
    site: Site
    seed: int
    controls: int
    """Of each kind."""
    checked_doses: tuple[float, ...]
    checked_scenarios: int
    """Scenarios of each behaviour that the check asked, at most: the first of them."""
    behaviours: tuple[ScreenedBehaviour, ...]
    left_out: tuple[NotScreened, ...]
    cost: Cost
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> Screen:
        """The screen in a folder, or in its file.

        Raises:
            InputError: there is none, it is damaged, or it has a later schema.
        """
        path = Path(folder)
        path = path / FILE if path.is_dir() else path
        try:
            screen = cls.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as problem:
            first = str(problem).splitlines()[0]
            raise InputError(
                f"{path} cannot be read: {first}", "what `heartstrings screen` wrote", "Run it again"
            ) from None
        if not 1 <= screen.schema_version <= SCHEMA_VERSION:
            raise InputError(
                f"{path} is of schema version {screen.schema_version}",
                f"version {SCHEMA_VERSION} at most",
                "Update heartstrings",
            )
        return screen

    @property
    def kinds(self) -> tuple[ControlKind, ...]:
        """The kinds of control that emotions are compared with."""
        return tuple(band.kind for band in self.behaviours[0].bands)

    def behaviour(self, name: str) -> ScreenedBehaviour:
        """The behaviour of this name.

        Raises:
            InputError: it was not screened.
        """
        for behaviour in self.behaviours:
            if behaviour.name == name:
                return behaviour
        raise InputError(
            f"no screen of {name!r}", "one of " + ", ".join(behaviour.name for behaviour in self.behaviours)
        )

    def strongest(self, behaviour: str) -> tuple[Top, ...]:
        """Every emotion at the layer of its largest prediction, by size, the largest first."""
        screened = self.behaviour(behaviour)
        tops = []
        for column, emotion in enumerate(self.emotions):
            row = max(range(len(self.layers)), key=lambda at: abs(screened.predicted[at][column]))
            larger = {kind: counts[column] for kind, counts in screened.larger_anywhere.items()}
            tops.append(
                Top(
                    behaviour,
                    emotion,
                    self.layers[row],
                    screened.predicted[row][column],
                    screened.low[row][column],
                    screened.high[row][column],
                    larger,
                )
            )
        return tuple(sorted(tops, key=lambda top: -abs(top.predicted)))
