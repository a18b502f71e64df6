"""The tables of a plan: how many controls, how many scenarios, and the limits. And how a wrong value is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from heartstrings.core.errors import InputError
from heartstrings.core.types import Frozen

Count = Annotated[int, Field(ge=0)]
Scenarios = Annotated[int, Field(ge=2)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Nats = Annotated[float, Field(gt=0, le=20)]
"""Nats a token."""


class Checked(Frozen):
    """A value whose constructor raises InputError. It accepts no text as a number, and no number as a truth value."""

    model_config = ConfigDict(strict=True)

    if not TYPE_CHECKING:  # a plain signature would hide the fields from type checkers

        def __init__(self, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise _refused(type(self), error) from None

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _refused(model: type[Frozen], error: ValidationError) -> InputError:
    """The first problem that pydantic found, as an InputError."""
    problem = error.errors()[0]
    value = problem["input"]
    table = "" if model.__name__ == "Plan" else model.__name__.lower()
    field = ".".join(str(part) for part in problem["loc"])
    name = f"{table}.{field}" if table else field
    fix = f"Change {field} under [{table}]" if table else f"Change {field}"
    if problem["type"] == "extra_forbidden":
        fields = list(model.model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Remove it"
        return InputError(f"there is no field {name!r} in a plan", f"one of {', '.join(fields)}", hint)
    if problem["type"] == "missing":
        return InputError(f"the plan lacks {name!r}", "a value for it", f"Set {name}")
    bounds = {
        key: getattr(limit, key)
        for part in problem["loc"][:1]
        if str(part) in model.model_fields
        for limit in model.model_fields[str(part)].metadata
        for key in ("gt", "ge", "lt", "le")
        if hasattr(limit, key)
    }
    if not set(problem.get("ctx", {})) & set(bounds):
        expected = problem["msg"].removeprefix("Input should be ")
        if name == "operation" and value == "ablate":
            fix = "ablate has no dose: clamp at dose 0 does the same"
        return InputError(f"{name} = {value!r}", expected[:1].lower() + expected[1:], fix)
    words = {"gt": "over {}", "ge": "of {} or more", "lt": "under {}", "le": "at most {}"}
    expected = " and ".join(text.format(bounds[key]) for key, text in words.items() if key in bounds)
    unit = " (a fraction, not percent)" if table == "thresholds" and bounds["le"] <= 1 else ""
    shown = f"{value:g}" if isinstance(value, float) else str(value)[:40]
    return InputError(f"{name} = {shown}", f"a number {expected}{unit}", fix)


class Controls(Checked):
    """How many control directions of each kind. Every one goes through the same search and the same samples.

    None of any kind: doses are measured, and no verdict can find control."""

    general: Count = 40
    """Isotropic random directions in the whole residual space."""
    span: Count = 0
    """Isotropic random directions within the span of the emotion vectors."""
    topic: Count = 40
    """Random mixtures of what the stories' topics have in common (topic mean minus the mean over topics): natural
    directions of the same texts, without their emotion. Needs the stories' activations, with topics crossed with
    emotions."""
    natural: Count = 40
    """Gaussian directions with the covariance of the neutral texts' activations: what varies in natural text without
    emotion. Needs the stories' and the neutral texts' activations."""
    shuffled: Count = 0
    """Vectors from the same stories with their emotion labels shuffled (within topics), at their own length
    relative to the tested vector's. Needs the stories' activations."""

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """A file or ledger from before `topic` and `natural` existed states the three others, and asks for neither."""
        if isinstance(values, Mapping) and {"general", "span", "shuffled"} <= set(values):
            return {"topic": 0, "natural": 0, **values}
        return values


class Claims(Checked):
    """What is asked beyond the controls, of the declared behaviours (`confirm`; of all, where none is declared): how
    much of a direction's effect is its emotion's own. Each is a claim with a p of its own (docs/verdict.md)."""

    mixture: Count = 0
    """Random mixtures of the emotion vectors, without the families of the tested directions. Each goes through the same
    search and the same samples as a control."""
    other: Count = 0
    """At most so many emotions of other families, each as a direction of its own."""
    stripped: bool = False
    """Each direction without its valence and arousal parts."""


class Samples(Checked):
    """Scenarios a cell. Half of them choose the layer where several are searched; the other half is reported."""

    select: Scenarios = 10
    effect: Scenarios = 32
    matched: Scenarios = 32
    capability: Scenarios = 60
    """Of each capability behaviour."""
    harm: Scenarios = 64
    writing: Scenarios = 12
    cost: Scenarios = 12
    """Fixed texts whose log-loss is measured, and the distance from the unsteered model on them."""
    check: Scenarios = 48
    """Questions with a known answer, asked unsteered."""
    dialogue: Scenarios = 20
    """At most so many of an effect or matched behaviour that is a dialogue in several turns."""
    repeats: Annotated[int, Field(ge=1)] = 1
    """Completions a scenario, for behaviours that are asked by text."""


class Thresholds(Checked):
    """What counts as what. Rates are fractions, not percent."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    smallest_effect: Fraction = 0.05
    """A change of the outcome, between the ends of the slope window, too small to matter."""
    least_valid: Fraction = 0.10
    """Unsteered, of valid answers on the effect behaviour: with fewer, the model does not answer the question."""
    accuracy_drop: Fraction = 0.05
    log_loss_rise: Nats = 0.25
    """Of fixed text."""
    harm_rise: Fraction = 0.05
    validity_drop: Fraction = 0.15
    log_perplexity_rise: Nats = 0.5
    """Of the text under the unsteered model."""
    distinct_drop: Fraction = 0.10
    """Of distinct 2-grams."""
    ends_drop: Fraction = 0.30
    """Of texts that end properly."""
    script_drop: Fraction = 0.10
    """Of letters in the script of the openings."""
