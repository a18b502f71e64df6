"""What a plan is refused for, before any model is loaded: each check raises one error that says what to do."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict, ValidationError, model_validator

from heartstrings import behaviours, corpus, judges, organisms, stats, vectors
from heartstrings.core.errors import InputError
from heartstrings.core.types import Frozen
from heartstrings.vectors.algebra import Direction, parse

if TYPE_CHECKING:
    from heartstrings.experiment.plan import Claims, Controls, Plan, Samples
    from heartstrings.vectors.emotion_vectors import EmotionVectors

LARGEST_DOSE = 10.0
"""In mean residual norms: past it, nothing of the text is left in the residual stream."""
ROUND = 20
"""Scenarios between two looks at a cell, with early stopping."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
SAME = 1 - 1e-6
"""Two directions with a cosine over this, at every layer, are one: a dose counts the unit vector only."""


class Checked(Frozen):
    """A value whose constructor raises InputError, and takes text for no number and a number for no truth value."""

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
    """The first problem that pydantic found, as an error of ours."""
    problem = error.errors()[0]
    where = "" if model.__name__ == "Plan" else f"{model.__name__.lower()}."
    name = where + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        fields = list(model.model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Take it out"
        return InputError(f"there is no field {name!r} in a plan", f"one of {', '.join(fields)}", hint)
    if problem["type"] == "missing":
        return InputError(f"the plan lacks {name!r}", "a value for it", f"Set {name}")
    message = problem["msg"].removeprefix("Input should be ")
    return InputError(f"{name} = {problem['input']!r}", message[:1].lower() + message[1:], f"Change {name}")


def least(values: Frozen, table: str, smallest: int, *, but: Mapping[str, int] = {}) -> None:
    """Every field is a number of at least so much, some with a limit of their own."""
    for name, value in values:
        limit = but.get(name, smallest)
        if value < limit:
            raise InputError(f"{table}.{name} = {value}", f"{limit} or more", f"Change {name} under [{table}]")


def between(values: Frozen, table: str, largest: float, *, but: Mapping[str, float]) -> None:
    """Every field is over 0 and at most so much, some with a limit of their own."""
    for name, value in values:
        limit = but.get(name, largest)
        if not 0 < value <= limit:  # NaN is refused too
            what = f"a number over 0 and at most {limit:g}"
            what += "" if name in ("log_perplexity_rise", "log_loss_rise") else " (a fraction, not percent)"
            raise InputError(f"{table}.{name} = {value:g}", what, f"Change {name} under [{table}]")


def layers(given: object) -> object:
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
        raise InputError(f"layers = {list(given)} names one twice", "each once", "Take one of them out")
    return tuple(sorted(given))


def doses(given: tuple[float, ...]) -> tuple[float, ...]:
    """In rising order, with 0 among them."""
    if not given:
        raise InputError("doses is empty", "numbers such as [-0.2, -0.1, 0, 0.1, 0.2]", "Give some doses")
    for dose in given:
        if not math.isfinite(dose):
            raise InputError(f"dose {dose}", "finite numbers", "Take it out of doses")
        if abs(dose) > LARGEST_DOSE:
            raise InputError(f"dose {dose:g}", f"at most {LARGEST_DOSE:g} mean residual norms",
                             "A dose is a fraction of the residual's norm; try 0.1")  # fmt: skip
    ordered = tuple(sorted(dose + 0.0 for dose in given))  # + 0.0: there is no dose of -0
    for one, other in itertools.pairwise(ordered):
        if one == other:
            raise InputError(f"dose {one:g} is there twice", "each dose once", "Take one of them out")
    if 0.0 not in ordered:
        raise InputError("doses without 0", "0 among them, to compare with", "Add 0 to doses")
    return ordered


def window(given: tuple[float, ...], least: float, most: float) -> None:
    """Slopes can be fitted: on each tested side a dose within the window, and two at least."""
    if not math.isfinite(most) or most <= 0:
        raise InputError(f"slope_within = {most:g}", "a size of dose over 0", "Change slope_within")
    if not 0 <= least <= most:  # NaN is refused too
        raise InputError(f"slope_from = {least:g}", f"a size of dose from 0 to slope_within = {most:g}",
                         "Change slope_from")  # fmt: skip
    inside = [dose for dose in given if dose != 0 and least <= abs(dose) <= most]
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
        raise InputError(f"{len(inside)} doses besides 0 within the slope window {name}", "two at least",
                         "Add a dose, or raise slope_within")  # fmt: skip


def small(given: tuple[float, ...], doses: tuple[float, ...], least: float) -> None:
    """Small doses are asked of directions too, and lie under the slope window."""
    for dose in given:
        if dose not in doses or not 0 < abs(dose) < least:
            raise InputError(
                f"small_doses has {dose:g}", f"some of the plan's doses under slope_from = {least:g} in size",
                "Change small_doses, or add the dose",
            )  # fmt: skip


def fitting(fit_doses: bool, factor: float | None, operation: str) -> None:
    """A factor is a power of two of a plan that fits its doses; and a smaller dose is a smaller push."""
    if fit_doses and operation != "add":
        raise InputError(f'fit_doses with operation = "{operation}"', "add, where a smaller dose costs less",
                         "Set fit_doses = false")  # fmt: skip
    if factor is None:
        return
    if not fit_doses:
        raise InputError(f"dose_factor = {factor:g} without fit_doses", "what a run with fit_doses wrote",
                         "Take dose_factor out")  # fmt: skip
    if not factor > 0 or math.frexp(factor)[0] != 0.5:  # NaN and infinity are refused too
        raise InputError(f"dose_factor = {factor:g}", "a power of two", "Take dose_factor out: a run finds it")


def directions(given: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, readable, and none that cancels. Which emotions there are is not known yet."""
    if not given:
        raise InputError("directions is empty", 'emotions or blends such as ["calm", "0.5*joyful - sad"]', "Name one")
    tidy = tuple(" ".join(text.split()) for text in given)
    seen: set[str] = set()
    for text in tidy:
        short = text.replace(" ", "")
        if short in seen:
            raise InputError(f"the direction {text!r} is there twice", "each once", "Take one of them out")
        seen.add(short)
        _evaluate(text, _names_in(text))
    return tidy


_NOT_A_NAME = re.compile(r"[^\w'’ -]")


def _names_in(text: str) -> list[str]:
    """What stands between the operators of a blend, where the names are not known."""
    names = re.findall(r"'([^']*)'|\"([^\"]*)\"", text)
    rest = re.sub(r"'[^']*'|\"[^\"]*\"", " ", text) if names else text
    found = [single or double for single, double in names]
    for part in re.split(r"[*/+()]|(?<!\S)-|-(?=\s)", rest):
        part = part.strip()
        if not part or re.fullmatch(r"[\d.]+([eE][+-]?\d+)?", part):
            continue
        if _NOT_A_NAME.search(part) or not part[0].isalpha():
            raise InputError(
                f"cannot read {text!r} at {part!r}", "an emotion or a blend", "Write e.g. 0.5*joyful - sad"
            )
        found.append(part)
    return list(dict.fromkeys(found))


def _evaluate(text: str, names: list[str]) -> Direction:
    """A blend in coordinates of its emotions.

    Raises:
        InputError: unreadable, a name that is not among these, or a blend that cancels.
    """

    def axis(name: str) -> Direction:
        return Direction(name, (0,), np.eye(len(names))[[names.index(name)]])

    found = parse(text, names, axis)
    if not np.any(np.abs(found.values) > 1e-9):
        raise InputError(f"the direction {text!r} cancels", "a blend that leaves a direction", "Change the factors")
    return found


def emotion(text: str) -> str | None:
    """The emotion that an expression consists of alone, for asking by name; None for a blend."""
    bare = text.strip("'\"") if text[:1] == text[-1:] else text
    names = _names_in(text)
    return bare if names == [bare] else None


def model(name: str) -> None:
    """A name at least; whether there are weights behind it is known when they are loaded."""
    if not name.strip():
        raise InputError("a plan without a model", "a model id, a folder or organism:KIND", "Set model")
    kind = name.removeprefix("organism:")
    if kind != name and kind not in organisms.KINDS:
        raise InputError(f"no organism is called {kind!r}", f"one of {', '.join(organisms.KINDS)}", "Change model")


def dtype(name: str) -> None:
    """A precision that weights can be loaded in."""
    if name not in DTYPES:
        raise InputError(f"dtype = {name!r}", f"one of {', '.join(DTYPES)}", "Change dtype")


def operation(name: str) -> None:
    """A dose-response needs a dose."""
    if name == "ablate":
        raise InputError('operation = "ablate", which has no dose', "add or clamp",
                         "Clamp at dose 0 does the same as ablate")  # fmt: skip


def of_suite(suite_name: str, effects: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a plan for a suite asks unless it says otherwise: all its effect behaviours, in the suite's own numbers.

    Args:
        effects: those that are asked where the suite is `CHOSEN`; all but the organisms' are for language models.
    """
    if suite_name == behaviours.CHOSEN:
        return (
            {}
            if set(effects) <= {one.name for one in behaviours.suite("organism").all}
            else dict(behaviours.LANGUAGE_MODEL)
        )
    found = behaviours.suite(suite_name)
    return {"effects": tuple(behaviour.name for behaviour in found.effects), **found.plan}


def of_behaviours(effects: tuple[str, ...]) -> dict[str, Any]:
    """The first suite that measures all of these as effects, and its numbers; else the behaviours by themselves."""
    for name, make in behaviours.SUITES.items():
        found = make()
        if set(effects) <= {behaviour.name for behaviour in found.effects}:
            return {"suite": name, **found.plan}
    return {"suite": behaviours.CHOSEN, **of_suite(behaviours.CHOSEN, effects)}


def check_suite(suite_name: str, effects: tuple[str, ...], *, field: str = "effects") -> None:
    """The suite is there, and has the effect behaviours that a field of the plan names."""
    free = suite_name == behaviours.CHOSEN
    known = (
        list(behaviours.every_behaviour())
        if free
        else [behaviour.name for behaviour in behaviours.suite(suite_name).effects]
    )
    whose = "no suite" if free else f"suite {suite_name!r}"
    if not effects:
        raise InputError(f"{field} is empty", f"some of {', '.join(known)}", "Name one")
    if len(set(effects)) < len(effects):
        raise InputError(f"{field} = {list(effects)} names one twice", "each once", "Take one of them out")
    for name in effects:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Change {field}"
            raise InputError(
                f"{whose} has {'a' if free else 'no effect'} behaviour {name!r}", f"some of {', '.join(known)}", hint
            )


def check_judges(given: tuple[str, ...], effects: tuple[str, ...]) -> None:
    """Each can be opened: `self`, or the URL of an endpoint with a model behind `#`; each once, no key among them. And
    there is one where an effect has no other grade."""
    for spec in given:
        judges.check_spec(spec)
    if len(set(given)) < len(given):
        raise InputError(f"judges = {list(given)} names one twice", "each once", "Take one of them out")
    waiting = {one.name for make in behaviours.SUITES.values() for one in make().judged} & set(effects)
    if waiting and not given:
        raise InputError(
            f"{', '.join(sorted(waiting))} without a judge", "a judge, since no rule can grade it",
            "Name one: --judge self, or --judge URL#MODEL",
        )  # fmt: skip


def signs(raises: tuple[str, ...], lowers: tuple[str, ...], directions: tuple[str, ...], confirm: object) -> None:
    """A declared sign is of a direction of the plan, and is one sign."""
    for name in (*raises, *lowers):
        if name not in directions:
            raise InputError(
                f"raises or lowers has {name!r}", f"one of directions: {', '.join(directions)}", "Change it"
            )
    if both := set(raises) & set(lowers):
        raise InputError(f"{min(both)!r} in raises and in lowers", "one of them", "Take it out of one")
    if (raises or lowers) and not confirm:
        raise InputError("raises or lowers without confirm", "the behaviours that they are declared for", "Set confirm")


def with_signs(values: Mapping[str, Any], usual: tuple[str, ...]) -> dict[str, Any]:
    """A plan's fields, with the signs that its suite declares (`signs_by`: the rating whose sign the declared outcomes
    follow) filled in for directions that are one rated emotion, unless the plan has its own."""
    found = dict(values)
    by = found.pop("signs_by", None)
    named = found.get("directions", usual)
    if by is None or "raises" in found or "lowers" in found or not isinstance(named, list | tuple):
        return found
    rated, column = corpus.built_in_ratings().values, ("valence", "arousal").index(by)
    signs = {text: rated[name][column] for text in named if isinstance(text, str) and (name := _one_of(text, rated))}
    found["raises"] = tuple(text for text, value in signs.items() if value > 0)
    found["lowers"] = tuple(text for text, value in signs.items() if value < 0)
    return found


def _one_of(text: str, rated: Mapping[str, Any]) -> str | None:
    try:
        name = emotion(text)
    except InputError:
        return None  # refused when the plan is made
    return name if name in rated else None


def looks(given: tuple[int, ...], look: int, first: int) -> None:
    """Scenarios that rise from look to look, and a look that there is."""
    sizes = (first, *given)
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise InputError(
            f"looks = {list(given)} after samples.effect = {first}",
            "more scenarios at each look than at the one before",
            "Give rising numbers, such as --looks 80,160",
        )  # fmt: skip
    if not 0 <= look < len(sizes):
        raise InputError(f"look {look} of a plan with {len(sizes)}", f"0 to {len(sizes) - 1}", "Take look out")


def claims(given: Claims, controls: Controls, directions: int, alpha: float, *, signed: bool) -> None:
    """Enough mixtures for a claim to be shown, and natural controls where a stripped direction is held against them."""
    needed = stats.least_controls(directions, alpha, signed=signed)
    if 0 < given.mixture < needed:
        raise InputError(
            f"claims.mixture = {given.mixture}", f"{needed} or more for {directions} directions (or 0)",
            f"Set mixture = {needed} under [claims]",
        )  # fmt: skip
    if given.stripped and not controls.topic + controls.natural:
        raise InputError(
            "claims.stripped without natural controls", "topic or natural controls, with which it is compared",
            "Raise topic or natural under [controls], or set stripped = false",
        )  # fmt: skip


def controls(given: Controls, directions: int, alpha: float, *, signed: bool = False) -> None:
    """Enough of them for a direction that beats every one to pass the correction, and 32 in all.

    Args:
        signed: every direction has a declared sign on every behaviour, so that p can be half as small."""
    total = sum(number for _, number in given)
    if 0 < total < stats.LEAST_CONTROLS:
        raise InputError(
            f"{total} controls in all",
            f"{stats.LEAST_CONTROLS} at least, or none",
            "Raise the numbers under [controls]",
        )
    needed = stats.least_controls(directions, alpha, signed=signed)
    for kind, number in given:
        if 0 < number < needed:
            n = 2 * number + 1 if signed else number
            best = directions / (n + 1)
            raise InputError(
                f"controls.{kind} = {number}: a direction that beats them all has p = 1/({n} + 1), and times "
                f"{directions} directions that is {best:.3g}, not under alpha = {alpha:.3g}",
                f"{needed} or more (or 0 for none of that kind)",
                f"Set {kind} = {needed} under [controls], or test fewer directions",
            )


def add_controls(values: dict[str, Any], defaults: Mapping[str, Any], given: object) -> None:
    """As many controls as the directions need, of the kinds that the settings and the suite have, where the user has
    not `given` how many. More behaviours need no more: each control is compared by its largest value over them."""
    named = values.get("directions", defaults["directions"])
    alpha = dict(values.get("thresholds") or {}).get("alpha", defaults["thresholds"].alpha)
    if not isinstance(given, Mapping) or not isinstance(alpha, float) or not 0 < alpha < 1:
        return  # refused when the plan is made
    if not isinstance(named, list | tuple):
        return
    looks = values.get("looks", ())
    alpha /= 1 + (len(looks) if isinstance(looks, list | tuple) else 0)
    declared = {*values.get("raises", ()), *values.get("lowers", ())}
    everything = set(values.get("effects", ())) <= set(values.get("confirm", ()))
    needed = stats.least_controls(max(1, len(named)), alpha, signed=everything and set(named) <= declared)
    usual = dict(defaults["controls"]) | dict(values.get("controls") or {})
    values["controls"] = {kind: max(number, needed) if number else 0 for kind, number in usual.items()} | dict(given)
    claims = values.get("claims")
    if isinstance(claims, Mapping) and isinstance(claims.get("mixture"), int) and claims["mixture"]:
        # Claims are about what is declared alone.
        alone = stats.least_controls(max(1, len(named)), alpha, signed=set(named) <= declared)
        values["claims"] = {**claims, "mixture": max(claims["mixture"], alone)}


def early_stopping(samples: Samples) -> None:
    """There is a second round to save."""
    if max(samples.capability, samples.harm) <= ROUND:
        raise InputError(
            f"early_stopping with {samples.capability} capability and {samples.harm} harm scenarios",
            f"over {ROUND} of one, since cells are looked at every {ROUND} scenarios",
            "Ask more scenarios, or leave early_stopping out",
        )


def check_files(plan: Plan) -> None:
    """What the vectors' own files tell, without their numbers.

    Raises:
        InputError: no vectors there, or without what the plan asks for. BundleError: damaged ones.
    """
    if plan.vectors is None:
        return
    where = Path(plan.vectors)
    if not where.exists():
        raise InputError(
            f"no vectors at {where}", "a bundle or an atlas", "Change vectors, or leave it out to make them"
        )
    header = vectors.read_header(vectors.main_bundle(where))
    _check_facts(
        plan, str(where), header.emotions, header.layers, header.variants, "norms" in header.tensors,
        header.provenance.site,
    )  # fmt: skip


def check_emotions(plan: Plan, emotions: tuple[str, ...]) -> None:
    """Every direction is made of these emotions.

    Raises:
        InputError: an unknown one; the message suggests the nearest.
    """
    for text in plan.directions:
        _evaluate(text, list(emotions))


def check_vectors(plan: Plan, vectors: EmotionVectors) -> None:
    """The same of loaded vectors, and that no two directions are one."""
    _check_facts(
        plan, "the bundle", vectors.emotions, vectors.layers, vectors.variants, vectors.norms is not None,
        vectors.provenance.site,
    )  # fmt: skip
    made = [vectors.direction(text, variant=plan.variant) for text in plan.directions]
    for i, one in enumerate(made):
        for j, other in enumerate(made[:i]):
            if (one.cosine(other) > SAME).all():
                raise InputError(
                    f"the directions {plan.directions[j]!r} and {plan.directions[i]!r} are the same",
                    "different ones: only a vector's direction counts, its length is the dose",
                    "Take one of them out",
                )


def _check_facts(
    plan: Plan, where: str, emotions: tuple[str, ...], known: tuple[int, ...], variants: tuple[str, ...],
    norms: bool, site: str,
) -> None:  # fmt: skip
    if not norms:
        raise InputError(
            f"{where} has no norms, the unit of dose", "a bundle extracted here", "Extract the vectors from the model"
        )
    if plan.variant not in variants:
        raise InputError(
            f"{where} has no {plan.variant} vectors", f"variant = {' or '.join(variants)}", "Change variant"
        )
    if site != plan.site:
        raise InputError(f"{where} is of site {site}, the plan of site {plan.site}", "the same", "Change site")
    check_emotions(plan, emotions)
    for layer in () if plan.layers == "middle" else plan.layers:
        if layer not in known:
            raise InputError(f"{where} has no layer {layer}", f"some of {', '.join(map(str, known))}", "Change layers")
