"""Where plans come from and where they are kept: named settings, TOML files, and `plan.json` in a run's folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heartstrings import behaviours, corpus, stats
from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.experiment.plan import Claims, Controls, Plan, differences, merged
from heartstrings.experiment.plan_directions import check_files, emotion

FILE = "plan.json"
"""Name of a frozen plan in the folder of its run."""
PRESETS: dict[str, dict[str, Any]] = {
    # What differs from the defaults in plan.py.
    "full": {"control_round": 16},
    "quick": {
        "control_round": 16,
        "samples": {"select": 6, "effect": 16, "matched": 16, "harm": 40},
        "doses": (-1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0),
    },
}
"""Settings by name."""


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
    base = merged({"model": model}, PRESETS[name])
    if "suite" in fields:
        base = merged(base, _of_suite(str(fields["suite"]), tuple(fields.get("effects", ()))))
    elif "effects" in fields:
        base = merged(base, _of_behaviours(tuple(fields["effects"])))
    else:
        base = merged(base, _of_suite(Plan.model_fields["suite"].default))
    return Plan(**_with_controls(_with_signs(_over(base, fields)), fields.get("controls", {})))


def _of_suite(suite_name: str, effects: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a plan for a suite asks unless it says otherwise: all its effect behaviours, in the suite's own numbers.

    Args:
        effects: those that are asked where the suite is `CHOSEN`; all but the organisms' are for language models.
    """
    if suite_name == behaviours.CHOSEN:
        return (
            {}
            if set(effects) <= {behaviour.name for behaviour in behaviours.suite("organism").all}
            else dict(behaviours.LANGUAGE_MODEL)
        )
    suite = behaviours.suite(suite_name)
    return {"effects": tuple(behaviour.name for behaviour in suite.effects), **suite.plan}


def _of_behaviours(effects: tuple[str, ...]) -> dict[str, Any]:
    """The first suite that measures all of these as effects, and its numbers; else the behaviours by themselves."""
    for name, make in behaviours.SUITES.items():
        suite = make()
        if set(effects) <= {behaviour.name for behaviour in suite.effects}:
            return {"suite": name, **suite.plan}
    return {"suite": behaviours.CHOSEN, **_of_suite(behaviours.CHOSEN, effects)}


def _with_signs(values: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's fields, with the signs that its suite declares (`signs_by`: the rating whose sign the declared outcomes
    follow) filled in for directions that are one rated emotion, unless the plan has its own."""
    fields = dict(values)
    rating = fields.pop("signs_by", None)
    named = fields.get("directions", Plan.model_fields["directions"].default)
    if rating is None or "raises" in fields or "lowers" in fields or not isinstance(named, list | tuple):
        return fields
    rated, column = corpus.built_in_ratings().values, ("valence", "arousal").index(rating)
    signs = {text: rated[name][column] for text in named if isinstance(text, str) and (name := _one_of(text, rated))}
    fields["raises"] = tuple(text for text, value in signs.items() if value > 0)
    fields["lowers"] = tuple(text for text, value in signs.items() if value < 0)
    return fields


def _one_of(text: str, rated: Mapping[str, Any]) -> str | None:
    try:
        name = emotion(text)
    except InputError:
        return None  # refused when the plan is made
    return name if name in rated else None


def _with_controls(values: Mapping[str, Any], given: object) -> dict[str, Any]:
    """A plan's fields, with as many controls as its directions need, of the kinds that the settings and the suite have,
    where the user has not `given` how many. More behaviours need no more: each control is compared by its largest value
    over them."""
    if not isinstance(given, Mapping):
        return dict(values)
    without = Plan(**{**values, "controls": dict.fromkeys(Controls.model_fields, 0), "claims": {}})
    tests, alpha = len(without.directions), without.spent.thresholds.alpha
    needed = stats.least_controls(tests, alpha, signed=without.signed(without.effects))
    usual = {**Controls().model_dump(), **values.get("controls", {})}
    counts = {kind: max(number, needed) if number else 0 for kind, number in usual.items()}
    fields = {**values, "controls": counts | dict(given)}
    claims = values.get("claims")
    if isinstance(claims, Mapping) and (mixtures := Claims(**claims).mixture):
        # Only declared behaviours have claims.
        needed = stats.least_controls(tests, alpha, signed=without.signed(without.declared))
        fields["claims"] = {**claims, "mixture": max(mixtures, needed)}
    return fields


def _over(settings: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A user's fields over those of a suite. What the suite says of its own doses goes with them."""
    values = merged(settings, fields)
    for name in ("slope_from", "small_doses", "fit_doses") if "doses" in fields else ():
        if name not in fields:
            values.pop(name, None)
    return values


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
            values = _with_signs(_over(_of_suite(str(values["suite"])), values))
        plan = Plan(**values)
        check_files(plan)
    except InputError as problem:
        raise InputError(f"{path}: {problem.found}", problem.expected, problem.fix) from None
    return plan


def _fields_of(content: Any) -> Any:
    """The plan in a frozen plan.json, which also holds its hash."""
    whole = isinstance(content, dict) and set(content) == {"hash", "plan"}
    return content["plan"] if whole else content


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


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # A JSON string is a TOML basic string, save that JSON leaves DEL as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def freeze(folder: str | Path, plan: Plan) -> Path:
    """Write `plan.json` in a run's folder, once; the same plan again changes nothing, also where the folder's has its
    doses fitted by now. A plan with fitted doses takes the place of the same plan without.

    Raises:
        InputError: the folder holds another plan (the fields that differ are named), a plan.json that is none, or the
            plan's vectors lack what it asks for.
    """
    path = Path(folder) / FILE
    check_files(plan)
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
