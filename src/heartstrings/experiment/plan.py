"""The plan of an experiment: everything that decides its samples, frozen with a hash before the first one."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from heartstrings.core.errors import InputError
from heartstrings.core.steering import Operation
from heartstrings.core.storage import write_text
from heartstrings.core.types import Site, Variant
from heartstrings.experiment import plan_checks
from heartstrings.experiment.plan_checks import Checked
from heartstrings.experiment.plan_parts import Claims, Controls, Samples, Thresholds
from heartstrings.vectors.emotion_vectors import EmotionVectors

__all__ = [
    "DEFAULT_SEED", "FILE", "PRESETS", "SCHEMA_VERSION", "SEARCHED", "Claims", "Controls", "Plan", "Samples",
    "Thresholds", "check_against_vectors", "differences", "freeze", "frozen", "load_plan", "preset", "searched_layers",
    "write_plan",
]  # fmt: skip

SCHEMA_VERSION = 1
FILE = "plan.json"
"""Name of a frozen plan in the folder of its run."""

DEFAULT_SEED = 0

SEARCHED = 4
"""Layers that `middle` searches at most."""

PRESETS: dict[str, dict[str, Any]] = {
    # What differs from the fields' defaults below.
    "full": {},
    "quick": {
        "samples": {"select": 6, "effect": 16, "matched": 16, "harm": 40},
        "doses": (-1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0),
    },
}
"""Settings by name."""


class Plan(Checked):
    """One experiment on one model.

    Raises:
        InputError: a value that no experiment can be run with, with what was expected and what to do.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str | None = None
    dtype: str = "auto"
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
    operation: Operation = "add"
    positions: Literal["all", "prompt", "generated"] = "all"
    doses: tuple[float, ...] = (-1.5, -1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 1.5)
    """In rising order, however they were given."""
    slope_within: float = 0.2
    """The slope window: slopes are fitted, and controls run, at doses of at most this size."""
    slope_from: float = 0.0
    """And of at least this size. Smaller doses are asked of directions alone, and of what they cost: they can make a
    range safe, at little cost, where the window's own doses are not."""
    small_doses: tuple[float, ...] = ()
    """Doses under the slope window at which controls are asked as well, of the declared behaviours (`confirm`; of all,
    where none is declared): a response that has its peak there is found too, and not only not denied."""
    fit_doses: bool = False
    """Before anything is asked, multiply all doses by a power of two that neutral prose bears: see
    `heartstrings.experiment.dose_fit`."""
    dose_factor: float | None = None
    """What `fit_doses` multiplied the doses above by; None: they are not fitted yet, or are not to be."""
    controls: Controls = Controls()
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
    seed: int = DEFAULT_SEED

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, given: object) -> object:
        return plan_checks.layers(given)

    @field_validator("doses")
    @classmethod
    def _doses(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        return plan_checks.doses(given)

    @field_validator("directions")
    @classmethod
    def _directions(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return plan_checks.directions(given)

    @model_validator(mode="after")
    def _check(self) -> Plan:
        if self.schema_version != SCHEMA_VERSION:
            raise InputError(
                f"a plan of schema version {self.schema_version}",
                f"version {SCHEMA_VERSION}",
                "Update heartstrings" if self.schema_version > SCHEMA_VERSION else "Write the plan anew",
            )
        plan_checks.model(self.model)
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed = {self.seed}", "a whole number from 0 to 2^63 - 1", "Change the seed")
        plan_checks.dtype(self.dtype)
        plan_checks.operation(self.operation)
        plan_checks.window(self.doses, self.slope_from, self.slope_within)
        plan_checks.small(self.small_doses, self.doses, self.slope_from)
        plan_checks.fitting(self.fit_doses, self.dose_factor, self.operation)
        plan_checks.check_suite(self.suite, self.effects)
        if self.confirm:
            plan_checks.check_suite(self.suite, self.confirm, field="confirm")
        plan_checks.check_judges(self.judges, self.effects)
        plan_checks.signs(self.raises, self.lowers, self.directions, self.confirm)
        plan_checks.looks(self.looks, self.look, self.samples.effect)
        alpha = self.thresholds.alpha / (1 + len(self.looks))
        plan_checks.controls(self.controls, len(self.directions), alpha, signed=self.signed(self.effects))
        plan_checks.claims(self.claims, self.controls, len(self.directions), alpha, signed=self.signed(self.declared))
        if self.early_stopping:
            plan_checks.early_stopping(self.samples)
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
        return all(self.sign(one, direction) for one in behaviours for direction in self.directions)

    def comparisons(self, behaviour: str) -> tuple[int, ...]:
        """What a direction is compared with, by kind: each control once, or in both directions where every direction
        has a declared sign."""
        signed = self.signed((behaviour,))
        return tuple(2 * number + 1 if signed else number for _, number in self.controls if number)

    def family(self, behaviour: str) -> tuple[str, ...]:
        """The effect behaviours that the p of this one is corrected over: those declared, if it is one of them; else
        all."""
        return self.declared if behaviour in self.declared else self.effects

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
        return Plan(**_merged(self.model_dump(), fields))


def preset(name: str, model: str, **fields: Any) -> Plan:
    """A plan for one model from the settings of that name (`quick` or `full`), with some fields changed.

    A `suite` brings fields of its own, and all its effect behaviours where `effects` does not name some. `effects`
    without a suite may be of any suite. With `doses` of one's own, the slope window is all of them up to
    `slope_within`. Where `fields` ask for more directions than the usual controls can settle, and do not say how many
    controls, there are as many as the correction needs.

    Raises:
        InputError: no such settings, an unknown field, or a plan that cannot be run.
    """
    if name not in PRESETS:
        raise InputError(f"settings {name!r}", " or ".join(sorted(PRESETS)), "Change --settings")
    base = _merged({"model": model}, PRESETS[name])
    if "suite" in fields:
        base = _merged(base, plan_checks.of_suite(str(fields["suite"]), tuple(fields.get("effects", ()))))
    elif "effects" in fields:
        base = _merged(base, plan_checks.of_behaviours(tuple(fields["effects"])))
    else:
        base = _merged(base, plan_checks.of_suite(Plan.model_fields["suite"].default))
    values = plan_checks.with_signs(_over(base, fields), Plan.model_fields["directions"].default)
    defaults = {field: info.default for field, info in Plan.model_fields.items()}
    plan_checks.add_controls(values, defaults, fields.get("controls", {}))
    return Plan(**values)


def load_plan(path: str | Path) -> Plan:
    """Read a plan from TOML (flat names; tables [controls], [claims], [samples], [thresholds]) or a frozen plan.json.

    A relative `vectors` is taken from the file's own folder. A `suite` without `effects` brings its own fields, as in
    `preset`.

    Raises:
        InputError: no such file, not TOML, an unknown name, a value that cannot be used, or vectors that lack what
            the plan asks for. BundleError: damaged vectors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no plan {path}", "a TOML file", "Write one with: heartstrings plan MODEL --out plan.toml")
    try:
        text = path.read_text(encoding="utf-8")
        values = _fields_of(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, OSError) as problem:  # both decoders' errors, and bytes that are not UTF-8
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"{path} is not {kind}: {problem}", 'lines such as model = "organism:steerable"') from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no table", "a plan's fields by name")
    if isinstance(values.get("vectors"), str) and path.suffix != ".json":
        values["vectors"] = str(path.parent / values["vectors"])
    try:
        if "suite" in values and "effects" not in values:
            merged = _over(plan_checks.of_suite(str(values["suite"])), values)
            values = plan_checks.with_signs(merged, Plan.model_fields["directions"].default)
        plan = Plan(**values)
        plan_checks.check_files(plan)
    except InputError as problem:
        raise InputError(f"{path}: {problem.found}", problem.expected, problem.fix) from None
    return plan


def write_plan(path: str | Path, plan: Plan) -> None:
    """Write a plan as TOML that `load_plan` reads back to an equal plan, save that it looks for `vectors` from there.

    Raises:
        InputError: the file cannot be written.
    """
    values = plan.model_dump(mode="json", exclude_none=True)
    if plan.vectors is not None:
        values["vectors"] = str(plan.vectors.absolute())
    tables = [name for name, value in values.items() if isinstance(value, dict)]
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if name not in tables]
    for name in tables:
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values[name].items())]
    write_text(Path(path), "\n".join(lines) + "\n")


def freeze(folder: str | Path, plan: Plan) -> Path:
    """Write `plan.json` in a run's folder, once; the same plan again changes nothing, also where the folder's has its
    doses fitted by now. A plan with fitted doses takes the place of the same plan without.

    Raises:
        InputError: the folder holds another plan (the fields that differ are named), a plan.json that is none, or the
            plan's vectors lack what it asks for.
    """
    path = Path(folder) / FILE
    plan_checks.check_files(plan)
    there = frozen(folder) if path.exists() else None
    if there is None or (there.dose_factor is None and there.hash == plan.unfitted.hash != plan.hash):
        content = {"hash": plan.hash, "plan": plan.model_dump(mode="json")}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    elif plan.hash not in (there.hash, there.unfitted.hash):
        raise InputError(
            f"{path} is of another plan: {differences(there if plan.dose_factor else there.unfitted, plan)}",
            "the plan that this folder was begun with",
            "A changed plan is a new run: choose another --out, or put the fields back",
        )
    return path


def frozen(folder: str | Path) -> Plan:
    """The plan that a run's folder was begun with.

    Raises:
        InputError: no plan.json there, or one that was changed by hand.
    """
    path = Path(folder) / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan, wanted = Plan(**content["plan"]), content["hash"]
    except FileNotFoundError:
        raise InputError(f"no {FILE} in {folder}", "the folder of a run", "Start one with: heartstrings run") from None
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise InputError(
            f"{path} is no frozen plan ({problem!r})", "what a run wrote", "Choose another --out"
        ) from None
    if plan.hash != wanted:
        raise InputError(f"{path} was changed after it was frozen", f"hash {wanted}", "Choose another --out")
    return plan


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


def check_against_vectors(plan: Plan, vectors: EmotionVectors) -> None:
    """What only the vectors can tell: emotions, layers, variant, norms, site, and directions that are the same.

    Raises:
        InputError: the plan asks for something that they do not have.
    """
    plan_checks.check_vectors(plan, vectors)


def _fields_of(content: Any) -> Any:
    """The plan in a frozen plan.json, which also holds its hash."""
    whole = isinstance(content, dict) and set(content) == {"hash", "plan"}
    return content["plan"] if whole else content


def _canonical(plan: Plan) -> str:
    values = plan.model_dump(mode="json")
    # Plans from before these fields keep their hash.
    for name in ("slope_from", "small_doses", "confirm", "raises", "lowers", "fit_doses", "dose_factor", "looks"):
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


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(value, Checked):
            value = value.model_dump()
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _over(settings: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A user's fields over those of a suite. What the suite says of its own doses goes with them."""
    values = _merged(settings, fields)
    for name in ("slope_from", "small_doses", "fit_doses") if "doses" in fields else ():
        if name not in fields:
            values.pop(name, None)
    return values


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # A JSON string is a TOML basic string, save that JSON leaves DEL as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
