"""The plan of an experiment: everything that decides its samples, frozen with a hash before the first one."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from heartstrings import behaviours, judges, organisms, stats
from heartstrings.core.errors import InputError
from heartstrings.core.types import Site, Variant
from heartstrings.experiment import plan_directions
from heartstrings.experiment.plan_tables import Checked, Claims, Controls, Samples, Thresholds

__all__ = [
    "DEFAULT_SEED",
    "ROUND",
    "SCHEMA_VERSION",
    "Claims",
    "Controls",
    "Plan",
    "Samples",
    "Thresholds",
    "differences",
    "merged",
    "searched_layers",
]

SCHEMA_VERSION = 1
DEFAULT_SEED = 0
SEARCHED = 4
"""Layers that `middle` searches at most."""
LARGEST_DOSE = 10.0
"""In mean residual norms: past it, nothing of the text is left in the residual stream."""
ROUND = 20
"""Scenarios between two looks at a cell, with early stopping."""


class Plan(Checked):
    """One experiment on one model.

    Raises:
        InputError: a value that no experiment can be run with, with what was expected and what to do.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    vectors: Path | None = Field(default=None, strict=False)
    """A bundle or an atlas folder; None: the atlas is made first (`heartstrings run`)."""
    variant: Variant = "denoised"
    suite: str = "organism"
    """Which behaviours ask what: see `heartstrings.behaviours.suites`."""
    effects: tuple[str, ...] = ("choice",)
    confirm: tuple[str, ...] = ()
    """Effect behaviours that are declared beforehand to be what the experiment is about: their p is corrected over one
    another. All others explore, and are corrected over every effect behaviour. One that is not asked plays no part."""
    directions: tuple[str, ...] = ("desperate", "calm")
    """Emotions or blends."""
    raises: tuple[str, ...] = ()
    """Directions that are declared beforehand to raise the outcomes of `confirm` at positive doses: tested on that side
    alone."""
    lowers: tuple[str, ...] = ()
    """And those that are declared to lower them."""
    layers: tuple[int, ...] | Literal["middle"] = "middle"
    """Searched on the select half; one layer: no search. `middle`: up to four between a third and five sixths of the
    depth, evenly spaced."""
    site: Site = "block"
    operation: Literal["add", "clamp"] = "add"
    """`ablate` has no dose; `clamp` at dose 0 does the same."""
    positions: Literal["all", "prompt", "generated"] = "all"
    doses: tuple[float, ...] = (-1.5, -1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 1.5)
    """In rising order, however they were given."""
    slope_within: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    """The slope window: slopes are fitted, and controls run, at doses of at most this size."""
    slope_from: float = 0.0
    """And of at least this size. Smaller doses are asked of directions alone, and of what they cost: they can make a
    range safe, at little cost, where the window's own doses are not."""
    small_doses: tuple[float, ...] = ()
    """Doses under the slope window at which controls are asked as well, of the declared behaviours (`confirm`; of all,
    where none is declared): a response that has its peak there is found too, and not only not denied."""
    fit_doses: bool = False
    """Before anything is asked, multiply all doses by a power of two, chosen on neutral prose: see
    `heartstrings.experiment.dose_fit`."""
    dose_factor: float | None = None
    """What `fit_doses` multiplied the doses above by; None: they are not fitted yet, or are not to be."""
    controls: Controls = Controls()
    control_round: Annotated[int, Field(ge=0)] = 0
    """Controls of each kind that are asked in one round. After each round, it is checked whether more of them could
    change an answer (`heartstrings.verdict.control_rounds`). 0: all are asked at once."""
    claims: Claims = Claims()
    samples: Samples = Samples()
    thresholds: Thresholds = Thresholds()
    prompting: bool = True
    """Also ask with the emotion named in an instruction or a first-person sentence, unsteered: a baseline."""
    judges: tuple[str, ...] = ()
    """Who grades what no rule can: `self`, or URL#MODEL of an OpenAI-compatible endpoint; several are a panel. Without
    one, behaviours that need a judge are not asked."""
    early_stopping: bool = False
    """Stop capability and harm cells once a confidence sequence has settled their gate."""
    looks: tuple[int, ...] = ()
    """Scenarios of effect behaviours (`samples.effect`) at each later look, rising: the answer may be looked at, and
    the run gone on with, so often. Each look, the first among them, has an equal part of alpha."""
    look: int = 0
    """Which one this is, from 0. It is no part of the plan's hash: a run's folder knows it (`experiment.looks`)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = DEFAULT_SEED

    @field_validator("schema_version", mode="before")
    @classmethod
    def _version(cls, given: object) -> object:
        _check_version(given)
        return given

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, given: object) -> object:
        return _rising_layers(given)

    @field_validator("doses")
    @classmethod
    def _doses(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        return _rising_doses(given)

    @field_validator("directions")
    @classmethod
    def _directions(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return plan_directions.readable(given)

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for check in (
            _check_model,
            _check_window,
            _check_fitting,
            _check_behaviours,
            _check_signs,
            _check_looks,
            _check_controls,
            _check_claims,
            _check_early_stopping,
        ):
            check(self)
        return self

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of every field as compact JSON with sorted keys. The package's version, the
        machine and the time are not in it."""
        return hashlib.sha256(_canonical(self).encode()).hexdigest()

    @property
    def window(self) -> tuple[float, ...]:
        """Doses other than 0 within the slope window, rising."""
        return tuple(dose for dose in self.doses if dose != 0 and self.slope_from <= abs(dose) <= self.slope_within)

    @property
    def window_with_zero(self) -> tuple[float, float]:
        """Lowest and highest dose of the slope window and 0."""
        return min((0.0, *self.window)), max((0.0, *self.window))

    def compared(self, behaviour: str) -> tuple[float, ...]:
        """Doses at which an effect behaviour is asked along controls too, rising: the slope window, and small doses
        where it is one of those that the experiment is about."""
        return tuple(sorted({*self.window, *(self.small_doses if behaviour in self.declared else ())}))

    @property
    def declared(self) -> tuple[str, ...]:
        """The effect behaviours that the experiment is about: those of `confirm`, or all where it is empty."""
        return tuple(name for name in self.effects if name in self.confirm) if self.confirm else self.effects

    @property
    def controlled(self) -> bool:
        """Whether there are any controls."""
        return any(number for _, number in self.controls)

    def sign(self, behaviour: str, direction: str) -> int:
        """1 or -1 where a direction is declared to raise or to lower this behaviour's outcome, else 0."""
        if behaviour not in self.confirm:
            return 0
        return int(direction in self.raises) - int(direction in self.lowers)

    def signed(self, behaviours: Sequence[str]) -> bool:
        """Whether every direction has a declared sign on all of these: each control then counts in both of its
        directions, so that half as many are needed."""
        return all(self.sign(behaviour, direction) for behaviour in behaviours for direction in self.directions)

    def comparisons(self, behaviour: str) -> tuple[int, ...]:
        """What a direction is compared with, by kind: each control once, or in both directions where every direction
        has a declared sign."""
        signed = self.signed((behaviour,))
        return tuple(2 * number + 1 if signed else number for _, number in self.controls if number)

    def family(self, behaviour: str) -> tuple[str, ...]:
        """The effect behaviours that the p of this one is corrected over: those declared, if it is one of them; else
        all."""
        return self.declared if behaviour in self.declared else self.effects

    @property
    def rounds(self) -> tuple[int, ...]:
        """How many controls of each kind have been asked before each round, and after the last one: 0, 16, 32, 40. With
        one round, 0 and all of them."""
        most = max(number for _, number in self.controls)
        return (*range(0, most, self.control_round or most or 1), most) if most else (0,)

    def with_first(self, number: int) -> Plan:
        """The same plan with at most so many controls of each kind: those with the lowest numbers."""
        counts = {kind: min(count, number) for kind, count in self.controls}
        return self.model_copy(update={"controls": self.controls.model_copy(update=counts)})

    def at_look(self, number: int) -> Plan:
        """The same plan at one of its looks, counted from 0."""
        return self if number == self.look else self.model_copy(update={"look": number})

    @property
    def growth(self) -> float:
        """Scenarios at this look over those at the first."""
        return self.looks[self.look - 1] / self.samples.effect if self.look else 1.0

    @property
    def spent(self) -> Plan:
        """The same plan with the part of alpha that each look has: what every test of one look is made at."""
        if not self.looks:
            return self
        alpha = self.thresholds.alpha / (1 + len(self.looks))
        return self.model_copy(update={"thresholds": self.thresholds.model_copy(update={"alpha": alpha})})

    def times(self, factor: float) -> Plan:
        """The same plan with all doses, and the slope window, multiplied by a power of two.

        Raises:
            InputError: doses that are too large.
        """
        scaled = {name: [dose * factor for dose in getattr(self, name)] for name in ("doses", "small_doses")}
        return self.changed(**scaled, slope_within=self.slope_within * factor, slope_from=self.slope_from * factor)

    def fitted(self, factor: float) -> Plan:
        """The same plan with its doses fitted: multiplied by this power of two."""
        return self.times(factor).changed(dose_factor=factor)

    @property
    def unfitted(self) -> Plan:
        """The plan as it was before its doses were fitted."""
        return self if self.dose_factor is None else self.changed(dose_factor=None).times(1 / self.dose_factor)

    def changed(self, **fields: Any) -> Plan:
        """The same plan with other values; a mapping for `controls`, `claims`, `samples` or `thresholds` changes
        some of it.

        Raises:
            InputError: an unknown field, or a plan that cannot be run.
        """
        return Plan(**merged(self.model_dump(), fields))


def differences(old: Plan, new: Plan) -> str:
    """Fields in which two plans differ, as `samples.effect was 40 and is now 24`."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    return ", ".join(
        f"{name} was {json.dumps(before[name])} and is now {json.dumps(after[name])}"
        for name in before
        if before[name] != after[name]
    )


def searched_layers(plan: Plan, n_layers: int, known: Sequence[int] | None = None) -> tuple[int, ...]:
    """The layers that a plan searches in a model of so many blocks, rising.

    `middle`: of the blocks that end after a third of the depth and not after five sixths, four evenly spaced (every
    control repeats the search, so each layer costs as much as the next); the one in the middle if there is none.

    Args:
        known: layers that the vectors have; `middle` takes those of them. None: all.
    Raises:
        InputError: a layer that the model, or the vectors, do not have.
    """
    there = range(n_layers) if known is None else sorted(known)
    if plan.layers == "middle":
        middle = _evenly([layer for layer in there if 2 * n_layers < 6 * (layer + 1) <= 5 * n_layers])
        if not middle and known is not None:
            raise InputError(
                f"vectors of layers {', '.join(map(str, there))} and a model of {n_layers} layers",
                "vectors between a third and five sixths of the depth",
                "Name the layers in the plan",
            )
        return middle or (n_layers // 2,)
    for layer in plan.layers:
        if layer >= n_layers or layer not in there:
            whose = f"the model has {n_layers} layers" if layer >= n_layers else "the vectors lack it"
            raise InputError(
                f"layer {layer} is in the plan, but {whose}",
                f"some of {', '.join(map(str, there))}",
                "Change layers",
            )
    return plan.layers


def _evenly(layers: Sequence[int]) -> tuple[int, ...]:
    """At most SEARCHED of them, first and last among them."""
    if len(layers) <= SEARCHED:
        return tuple(layers)
    return tuple(layers[round(at * (len(layers) - 1) / (SEARCHED - 1))] for at in range(SEARCHED))


def _rising_layers(given: object) -> object:
    """`middle`, or layers in rising order."""
    if given == "middle":
        return given
    wanted = 'block numbers such as [3, 4], or "middle"'
    if not isinstance(given, list | tuple) or any(type(layer) is not int for layer in given):
        raise InputError(f"layers = {given!r}", wanted, "Change layers")
    if not given:
        raise InputError("layers is empty", wanted, "Name a layer")
    if min(given) < 0:
        raise InputError(f"layer {min(given)}", "numbers from 0 on, counted from the input", "Change layers")
    if len(set(given)) < len(given):
        raise InputError(f"layers = {list(given)} names one twice", "each once", "Remove one of them")
    return tuple(sorted(given))


def _rising_doses(given: tuple[float, ...]) -> tuple[float, ...]:
    """In rising order, with 0 among them."""
    if not given:
        raise InputError("doses is empty", "numbers such as [-0.2, -0.1, 0, 0.1, 0.2]", "Give some doses")
    for dose in given:
        if not math.isfinite(dose):
            raise InputError(f"dose {dose}", "finite numbers", "Remove it from doses")
        if abs(dose) > LARGEST_DOSE:
            raise InputError(
                f"dose {dose:g}",
                f"at most {LARGEST_DOSE:g} mean residual norms",
                "A dose is a fraction of the residual's norm; try 0.1",
            )
    ordered = tuple(sorted(dose + 0.0 for dose in given))  # + 0.0: there is no dose of -0
    for lower, higher in itertools.pairwise(ordered):
        if lower == higher:
            raise InputError(f"dose {lower:g} is there twice", "each dose once", "Remove one of them")
    if 0.0 not in ordered:
        raise InputError("doses without 0", "0 among them, to compare with", "Add 0 to doses")
    return ordered


def _check_window(plan: Plan) -> None:
    """Slopes can be fitted: on each tested side a dose within the window, and two at least. Small doses are asked of
    directions too, and lie under the window."""
    given, least, most = plan.doses, plan.slope_from, plan.slope_within
    if not 0 <= least <= most:  # NaN is refused too
        raise InputError(
            f"slope_from = {least:g}", f"a size of dose from 0 to slope_within = {most:g}", "Change slope_from"
        )
    inside = plan.window
    name = f"of {most:g}" if not least else f"from {least:g} to {most:g}"
    for side, tested, reached in (
        ("negative", min(given) < 0, any(dose < 0 for dose in inside)),
        ("positive", max(given) > 0, any(dose > 0 for dose in inside)),
    ):
        if tested and not reached:
            raise InputError(
                f"no {side} dose is within the slope window {name}",
                "one at least on each side that is tested, since slopes are fitted there",
                f"Add a dose of {least:g} to {most:g} in size, lower slope_from or raise slope_within"
                if least
                else f"Add a dose of at most {most:g} in size, or raise slope_within",
            )
    if len(inside) < 2:
        raise InputError(
            f"{len(inside)} doses besides 0 within the slope window {name}",
            "two at least",
            "Add a dose, or raise slope_within",
        )
    for dose in plan.small_doses:
        if dose not in given or not 0 < abs(dose) < least:
            raise InputError(
                f"small_doses has {dose:g}",
                f"some of the plan's doses under slope_from = {least:g} in size",
                "Change small_doses, or add the dose",
            )


def _check_fitting(plan: Plan) -> None:
    """A factor is a power of two of a plan that fits its doses; and a smaller dose is a smaller push."""
    factor = plan.dose_factor
    if plan.fit_doses and plan.operation != "add":
        raise InputError(
            f'fit_doses with operation = "{plan.operation}"',
            "add, where a smaller dose costs less",
            "Set fit_doses = false",
        )
    if factor is None:
        return
    if not plan.fit_doses:
        raise InputError(
            f"dose_factor = {factor:g} without fit_doses", "what a run with fit_doses wrote", "Remove dose_factor"
        )
    if not factor > 0 or math.frexp(factor)[0] != 0.5:  # NaN and infinity are refused too
        raise InputError(f"dose_factor = {factor:g}", "a power of two", "Remove dose_factor: a run finds it")


def _check_version(version: object) -> None:
    """Before anything else: a later version may have fields and values that this one does not know."""
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise InputError(
            f"a plan of schema version {version}",
            f"version {SCHEMA_VERSION}",
            "Update heartstrings" if version > SCHEMA_VERSION else "Write the plan anew",
        )


def _check_model(plan: Plan) -> None:
    """A model's name; whether the weights exist is known when they are loaded."""
    if not plan.model.strip():
        raise InputError("a plan without a model", "a model id, a folder or organism:KIND", "Set model")
    kind = plan.model.removeprefix("organism:")
    if kind != plan.model and kind not in organisms.KINDS:
        raise InputError(f"no organism is called {kind!r}", f"one of {', '.join(organisms.KINDS)}", "Change model")


def _check_behaviours(plan: Plan) -> None:
    """The suite has the effect behaviours that the plan names, and a judge grades what no rule can.

    A judge is `self`, or the URL of an endpoint with a model after `#`; each once, without a key."""
    _check_effects(plan.suite, plan.effects, field="effects")
    if plan.confirm:
        _check_effects(plan.suite, plan.confirm, field="confirm")
    for spec in plan.judges:
        judges.check_spec(spec)
    if len(set(plan.judges)) < len(plan.judges):
        raise InputError(f"judges = {list(plan.judges)} names one twice", "each once", "Remove one of them")
    waiting = {behaviour.name for make in behaviours.SUITES.values() for behaviour in make().judged} & set(plan.effects)
    if waiting and not plan.judges:
        raise InputError(
            f"{', '.join(sorted(waiting))} without a judge",
            "a judge, since no rule can grade it",
            "Name one: --judge self, or --judge URL#MODEL",
        )


def _check_effects(suite: str, effects: tuple[str, ...], *, field: str) -> None:
    free = suite == behaviours.CHOSEN
    known = (
        list(behaviours.every_behaviour())
        if free
        else [behaviour.name for behaviour in behaviours.suite(suite).effects]
    )
    whose = "no suite" if free else f"suite {suite!r}"
    if not effects:
        raise InputError(f"{field} is empty", f"some of {', '.join(known)}", "Name one")
    if len(set(effects)) < len(effects):
        raise InputError(f"{field} = {list(effects)} names one twice", "each once", "Remove one of them")
    for name in effects:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Change {field}"
            raise InputError(
                f"{whose} has {'a' if free else 'no effect'} behaviour {name!r}", f"some of {', '.join(known)}", hint
            )


def _check_signs(plan: Plan) -> None:
    """A declared sign is of a direction of the plan, and is one sign."""
    for name in (*plan.raises, *plan.lowers):
        if name not in plan.directions:
            expected = f"one of directions: {', '.join(plan.directions)}"
            raise InputError(f"raises or lowers has {name!r}", expected, "Change it")
    if both := set(plan.raises) & set(plan.lowers):
        raise InputError(f"{min(both)!r} in raises and in lowers", "one of them", "Remove it from one")
    if (plan.raises or plan.lowers) and not plan.confirm:
        raise InputError("raises or lowers without confirm", "the behaviours that they are declared for", "Set confirm")


def _check_looks(plan: Plan) -> None:
    """Scenarios that rise from look to look, and a look that there is."""
    sizes = (plan.samples.effect, *plan.looks)
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise InputError(
            f"looks = {list(plan.looks)} after samples.effect = {plan.samples.effect}",
            "more scenarios at each look than at the one before",
            "Give rising numbers, such as --looks 80,160",
        )
    if not 0 <= plan.look < len(sizes):
        raise InputError(f"look {plan.look} of a plan with {len(sizes)}", f"0 to {len(sizes) - 1}", "Remove look")


def _check_claims(plan: Plan) -> None:
    """Enough mixtures for a claim to be shown, and natural controls to compare a stripped direction with."""
    given, directions = plan.claims, len(plan.directions)
    needed = stats.least_controls(directions, plan.spent.thresholds.alpha, signed=plan.signed(plan.declared))
    if 0 < given.mixture < needed:
        raise InputError(
            f"claims.mixture = {given.mixture}",
            f"{needed} or more for {directions} directions (or 0)",
            f"Set mixture = {needed} under [claims]",
        )
    if given.stripped and not plan.controls.topic + plan.controls.natural:
        raise InputError(
            "claims.stripped without natural controls",
            "topic or natural controls, with which it is compared",
            "Raise topic or natural under [controls], or set stripped = false",
        )


def _check_controls(plan: Plan) -> None:
    """Enough of them for a direction that beats every one to pass the correction, and 32 in all. With a declared sign
    for every direction on every behaviour, p can be half as small."""
    directions, alpha, signed = len(plan.directions), plan.spent.thresholds.alpha, plan.signed(plan.effects)
    total = sum(number for _, number in plan.controls)
    if 0 < total < stats.LEAST_CONTROLS:
        raise InputError(
            f"{total} controls in all",
            f"{stats.LEAST_CONTROLS} at least, or none",
            "Raise the numbers under [controls]",
        )
    first = sum(min(number, plan.control_round) for _, number in plan.controls)
    if plan.control_round and 0 < first < stats.LEAST_CONTROLS <= total:
        raise InputError(
            f"control_round = {plan.control_round}: {first} controls in the first round",
            f"{stats.LEAST_CONTROLS} at least, of all kinds together",
            "Raise control_round, or set it to 0 to ask all controls at once",
        )
    needed = stats.least_controls(directions, alpha, signed=signed)
    for kind, number in plan.controls:
        if 0 < number < needed:
            n = 2 * number + 1 if signed else number
            best = directions / (n + 1)
            raise InputError(
                f"controls.{kind} = {number}: a direction that beats them all has p = 1/({n} + 1), and times "
                f"{directions} directions that is {best:.3g}, not under alpha = {alpha:.3g}",
                f"{needed} or more (or 0 for none of that kind)",
                f"Set {kind} = {needed} under [controls], or test fewer directions",
            )


def _check_early_stopping(plan: Plan) -> None:
    """There is a second round to save."""
    samples = plan.samples
    if plan.early_stopping and max(samples.capability, samples.harm) <= ROUND:
        raise InputError(
            f"early_stopping with {samples.capability} capability and {samples.harm} harm scenarios",
            f"over {ROUND} of one, since cells are looked at every {ROUND} scenarios",
            "Ask more scenarios, or leave early_stopping out",
        )


_LATER_FIELDS = (
    "slope_from",
    "small_doses",
    "confirm",
    "raises",
    "lowers",
    "fit_doses",
    "dose_factor",
    "looks",
    "control_round",
)
"""Plans from before these fields keep their hash."""


def _canonical(plan: Plan) -> str:
    values = plan.model_dump(mode="json")
    for name in _LATER_FIELDS:
        if not values[name]:
            del values[name]
    del values["look"]
    if not values["controls"]["natural"]:
        del values["controls"]["natural"]
    if not any(values["claims"].values()):
        del values["claims"]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's fields with some changed; a mapping for a table changes some of it."""
    fields = dict(values)
    for name, value in changes.items():
        old = fields.get(name)
        if isinstance(value, Checked):
            value = value.model_dump()
        fields[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return fields
