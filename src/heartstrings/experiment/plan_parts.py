"""The tables of a plan: how many controls, how many scenarios, and what counts as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from heartstrings.experiment import plan_checks
from heartstrings.experiment.plan_checks import Checked


class Controls(Checked):
    """How many control directions of each kind. Every one goes through the same search and the same samples.

    None of any kind: doses are measured, and no verdict can find control."""

    general: int = 40
    """Isotropic random directions in the whole residual space."""
    span: int = 0
    """Isotropic random directions within the span of the emotion vectors."""
    topic: int = 40
    """Random mixtures of what the stories' topics have in common (topic mean minus the mean over topics): natural
    directions of the same texts, without their emotion. Needs the stories' activations, with topics crossed with
    emotions."""
    natural: int = 40
    """Gaussian directions with the covariance of the neutral texts' activations: what varies in natural text without
    emotion. Needs the stories' and the neutral texts' activations."""
    shuffled: int = 0
    """Vectors from the same stories with their emotion labels shuffled (within topics), at their own length
    relative to the tested vector's. Needs the stories' activations."""

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """What states the kinds that plans once had, in a file or a ledger of then, asks for no others."""
        if isinstance(values, Mapping) and {"general", "span", "shuffled"} <= set(values):
            return {"topic": 0, "natural": 0, **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> Controls:
        plan_checks.least(self, "controls", 0)
        return self


class Claims(Checked):
    """What is asked beyond the controls, of the declared behaviours (`confirm`; of all, where none is declared): how
    much of a direction's effect is its emotion's own. Each is a claim with a p of its own (docs/verdict.md)."""

    mixture: int = 0
    """Random mixtures of the emotion vectors, without the families of the tested directions. Each goes through the same
    search and the same samples as a control."""
    other: int = 0
    """At most so many emotions of other families, each as a direction of its own."""
    stripped: bool = False
    """Each direction without its valence and arousal parts."""

    @model_validator(mode="after")
    def _check(self) -> Claims:
        plan_checks.least(self, "claims", 0)
        return self


class Samples(Checked):
    """Scenarios a cell. Half of them choose the layer where several are searched; the other half is reported."""

    select: int = 10
    effect: int = 32
    matched: int = 32
    capability: int = 60
    """Of each capability behaviour."""
    harm: int = 64
    writing: int = 12
    cost: int = 12
    """Fixed texts whose log-loss is measured, and the distance from the unsteered model on them."""
    check: int = 48
    """Questions with a known answer, asked unsteered."""
    dialogue: int = 20
    """At most so many of an effect or matched behaviour that is a dialogue in several turns."""
    repeats: int = 1
    """Completions a scenario, for behaviours that are asked by text."""

    @model_validator(mode="after")
    def _check(self) -> Samples:
        plan_checks.least(self, "samples", 2, but={"repeats": 1})
        return self


class Thresholds(Checked):
    """What counts as what. Rates are fractions, not percent."""

    alpha: float = 0.05
    smallest_effect: float = 0.05
    """A change of the outcome, between the ends of the slope window, too small to matter."""
    least_valid: float = 0.10
    """Unsteered, of valid answers on the effect behaviour: with fewer, the model does not answer the question."""
    accuracy_drop: float = 0.05
    log_loss_rise: float = 0.25
    """Nats a token, of fixed text."""
    harm_rise: float = 0.05
    validity_drop: float = 0.15
    log_perplexity_rise: float = 0.5
    """Nats a token, of the text under the unsteered model."""
    distinct_drop: float = 0.10
    """Of distinct 2-grams."""
    ends_drop: float = 0.30
    """Of texts that end properly."""
    script_drop: float = 0.10
    """Of letters in the script of the openings."""

    @model_validator(mode="after")
    def _check(self) -> Thresholds:
        in_nats = {"log_perplexity_rise": 20.0, "log_loss_rise": 20.0}
        plan_checks.between(self, "thresholds", 1.0, but={"alpha": 0.5, **in_nats})
        return self
