"""Where could steering matter? First-order effects of all emotions and of many controls, at all layers, by behaviour.

One backward pass a prompt gives the gradient of an outcome at every layer at once (`experiment.screen`); predictions
for any number of directions are matrix products. A few of them are compared with really steered outcomes
(`experiment.screen_check`). Nothing is concluded from a screen alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from heartstrings import behaviours, experiment, report, stats, vectors
from heartstrings.behaviours.base import Compared
from heartstrings.core.engine import ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.storage import make_folder, write_text
from heartstrings.core.version import __version__
from heartstrings.experiment.cells import FEWEST, every_scenario
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.ledger import CONTROL_KINDS, NATURAL_KINDS, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import preset
from heartstrings.experiment.sample_counts import searched
from heartstrings.experiment.screen import NO_GRADIENT, OutcomeGradient, outcome_gradient, predicted
from heartstrings.experiment.screen_check import MULTIPLES, SCENARIOS, drawn_cells, exact_outcomes, fidelity
from heartstrings.experiment.screen_results import (
    FILE,
    Band,
    CheckedCell,
    Cost,
    NotScreened,
    Screen,
    ScreenedBehaviour,
)
from heartstrings.experiment.told_apart import chance_of, knows
from heartstrings.vectors.bundle import main_bundle
from heartstrings.workflows._screen_files import directions_hash, facts_of, kept, scenarios_hash
from heartstrings.workflows.atlas import AtlasSettings, layers_of, name_of, opened, run_atlas
from heartstrings.workflows.run import ATLAS, check_readable
from heartstrings.workflows.values import Progress, names_of, silent

if TYPE_CHECKING:
    from os import PathLike

    from heartstrings.behaviours.base import Behaviour, Scenario
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine

CONTROLS, DOSE, CHECK = 1000, 0.05, 12
LEAST_CONTROLS = 40
"""Fewer have no 95% band that is worth reading."""
GRADIENTS, CHECKS = "gradients", "check"
"""Folders in OUT: a file for each behaviour, so that a screen that was interrupted goes on."""
POINTS = 100.0


@dataclass(frozen=True)
class ScreenSettings:
    """The options of `heartstrings.screen`, under the same names."""

    emotion: str | Sequence[str] | None = None
    behaviour: str | Sequence[str] | None = None
    suite: str | None = None
    layers: str | Sequence[int] | None = None
    scenarios: int | None = None
    controls: int = CONTROLS
    dose: float = DOSE
    check: int = CHECK
    vectors: str | PathLike[str] | None = None
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.controls and self.controls < LEAST_CONTROLS:
            raise InputError(
                f"--controls {self.controls}", f"0 for none, or {LEAST_CONTROLS} at least", f"Use --controls {CONTROLS}"
            )
        if not 0 < self.dose <= 1:
            raise InputError(
                f"--dose {self.dose:g}",
                "a number over 0 and at most 1, in mean residual norms",
                f"Use --dose {DOSE}; predictions are in proportion to it",
            )
        if self.check < 0:
            raise InputError(f"--check {self.check}", "0 for no check, or the number of cells of each behaviour")
        if self.scenarios is not None and self.scenarios < FEWEST:
            raise InputError(f"--scenarios {self.scenarios}", f"{FEWEST} at least")


@dataclass(frozen=True)
class Asked:
    """What is screened, known before the model is loaded."""

    plan: Plan
    suite: Suite
    scenarios: Mapping[str, tuple[Scenario, ...]]
    """Of each behaviour that is screened."""
    reported_too: Mapping[str, int]
    left_out: tuple[NotScreened, ...]


@dataclass(eq=False)
class _Found:
    """One behaviour, while it is screened."""

    behaviour: Behaviour
    scenarios: tuple[Scenario, ...]
    gradient: OutcomeGradient
    seconds: float
    understood: bool | None
    emotions: Float64[np.ndarray, "layer emotion scenario"]
    """Predicted changes, in points; NaN without an outcome."""
    sizes: dict[ControlKind, Float64[np.ndarray, "layer control"]] = field(default_factory=dict)
    """Sizes of the controls' predicted changes, in points."""

    @property
    def weights(self) -> Float64[np.ndarray, "scenario"]:
        """Of each scenario in a mean over situations; 0 without an outcome."""
        there = ~np.isnan(self.gradient.outcomes)
        groups = [scenario.group for scenario in self.scenarios]
        members = [sum(there[at] for at, other in enumerate(groups) if other == group) for group in groups]
        share = np.array([1 / count if seen else 0.0 for count, seen in zip(members, there, strict=True)])
        if not share.any():
            raise InputError(
                f"no scenario of {self.behaviour.name} has an outcome",
                "one at least",
                "Screen other behaviours (--behaviour)",
            )
        weights: Float64[np.ndarray, "scenario"] = share / share.sum()
        return weights

    def mean(self, values: Float64[np.ndarray, "... scenario"]) -> Float64[np.ndarray, "..."]:
        """Over situations, each with equal weight."""
        means: Float64[np.ndarray, "..."] = np.asarray(np.where(np.isnan(values), 0.0, values) @ self.weights)
        return means


def run_screen(
    model: str | PathLike[str] | Engine, out: Path, settings: ScreenSettings, *, progress: Progress = silent
) -> Screen:
    """The screen of a model in a folder: `screen.json`, `screen.html`, and what the next call goes on from.

    Raises:
        InputError: options that cannot be used, vectors without what is asked for, a behaviour that samples text, or a
            model without a gradient. NumericalError: NaN or Inf.
    """
    name = name_of(model)
    asked = ask(name, settings)
    engine = opened(model, revision=settings.revision, dtype=settings.dtype, device=settings.device, progress=progress)
    experiment.check_template(asked.plan, asked.suite, name, template=engine.info.template_hash is not None)
    directions, emotions = _directions(name, engine, out, settings, asked.plan, progress)
    make_folder(out / GRADIENTS)
    screenings = []
    for number, behaviour_name in enumerate(asked.scenarios):
        progress("gradients", number, len(asked.scenarios))
        screenings.append(_gradient(engine, asked, behaviour_name, directions, out))
    progress("gradients", len(screenings), len(screenings))
    began = time.monotonic()
    for row, layer in enumerate(directions.layers):
        progress("predictions", row, len(directions.layers))
        _predict(screenings, directions, emotions, row, layer, settings)
    progress("predictions", len(directions.layers), len(directions.layers))
    predicting = time.monotonic() - began
    cells: dict[str, tuple[tuple[CheckedCell, ...], int, float]] = {}
    for number, screening in enumerate(screenings if settings.check else ()):
        progress("comparing with steering", number, len(screenings))
        cells[screening.behaviour.name] = _check(engine, directions, emotions, screening, out, settings)
    made = Screen(
        package_version=__version__,
        model=name,
        weights_hash=engine.info.weights_hash,
        dtype=engine.info.dtype,
        n_layers=engine.info.n_layers,
        suite=asked.plan.suite,
        variant=asked.plan.variant,
        vectors_hash=directions_hash(directions, [("direction", name) for name in emotions], directions.layers),
        emotions=emotions,
        layers=directions.layers,
        dose=settings.dose,
        positions=asked.plan.positions,
        site=asked.plan.site,
        seed=settings.seed,
        controls=settings.controls,
        checked_doses=tuple(settings.dose * times for times in MULTIPLES) if settings.check else (),
        checked_scenarios=SCENARIOS if settings.check else 0,
        behaviours=tuple(
            _behaviour(screening, cells.get(screening.behaviour.name), asked, settings) for screening in screenings
        ),
        left_out=asked.left_out,
        cost=_cost(screenings, cells, len(emotions), predicting, settings),
        notes=_notes(screenings, asked),
    )
    write_text(out / FILE, made.model_dump_json() + "\n")
    report.render_screen(out)
    return made


def ask(model: str, settings: ScreenSettings) -> Asked:
    """What the options ask for, as far as it is known before the model is loaded.

    Raises:
        InputError: an unknown behaviour or suite, a behaviour that samples text, or none that is scored.
    """
    effects = names_of(settings.behaviour)
    none = dict.fromkeys(CONTROL_KINDS, 0)
    fields: dict[str, Any] = {
        # Emotions are named to the direction set one by one: a plan would ask for more controls than a screen needs.
        "directions": ("happy",),
        "doses": (-settings.dose, 0.0, settings.dose),
        "slope_within": settings.dose,
        "controls": none | dict.fromkeys(NATURAL_KINDS, settings.controls),
        "claims": {"mixture": 0, "other": 0, "stripped": False},
        "seed": settings.seed,
        "dtype": settings.dtype,
        "revision": settings.revision,
    }
    if settings.suite is not None or effects is None:
        organism = model.startswith("organism:")
        fields["suite"] = settings.suite or ("organism" if organism else "text")
    if effects is not None:
        fields["effects"] = tuple(name.replace("_", "-") for name in effects)
    plan = preset("full", model, **fields)
    check_readable(plan)
    suite = behaviours.suite_of(plan)
    wanted = [suite.behaviour(name) for name in plan.effects]
    left_out = tuple(
        NotScreened(behaviour=behaviour.name, reason=NO_GRADIENT) for behaviour in wanted if behaviour.ask != "choice"
    )
    scored = [behaviour for behaviour in wanted if behaviour.ask == "choice"]
    if left_out and (effects is not None or not scored):
        raise InputError(
            f"behaviour {left_out[0].behaviour!r} cannot be screened: {left_out[0].reason}",
            "behaviours that are answered by scored options",
            "Leave it out of --behaviour" if scored else "Name another --suite, such as text",
        )
    scenarios, reported_too = {}, {}
    fields.pop("effects", None)
    whole = plan if plan.suite == behaviours.CHOSEN else preset("full", model, **{**fields, "suite": plan.suite})
    for behaviour in scored:
        scenarios[behaviour.name], reported_too[behaviour.name] = _scenarios(
            plan, whole, suite, behaviour, settings.scenarios
        )
    return Asked(plan, suite, scenarios, reported_too, left_out)


def _scenarios(
    plan: Plan, whole: Plan, suite: Suite, behaviour: Behaviour, n: int | None
) -> tuple[tuple[Scenario, ...], int]:
    """The scenarios that are screened, and how many of them a run of the suite would report.

    None are, where there are enough: first those that choose layers in such a run, then others of situations that it
    does not report. A behaviour of which a run reports all situations (those that follow the layers of another do) is
    screened on those that would choose its layers if it was run alone.
    """
    wanted = plan.samples.select if n is None else n
    run_scenarios = every_scenario(whole, suite, behaviour) if behaviour.name in whole.effects else ()
    choose = searched(whole, suite, behaviour) if run_scenarios else 0
    half, reported = run_scenarios[:choose], {scenario.group for scenario in run_scenarios[choose:]}
    most = getattr(behaviour, "most", None)
    more = behaviour.scenarios(n=len(run_scenarios) + 2 * wanted if most is None else int(most), seed=plan.seed)
    free = (*half, *(scenario for scenario in more if scenario.group not in reported and scenario not in half))
    if len(free) >= FEWEST:
        return free[:wanted], 0
    alone = plan.changed(effects=(behaviour.name,), confirm=(), raises=(), lowers=())
    some = every_scenario(alone, suite, behaviour)[: searched(alone, suite, behaviour)][:wanted]
    return some, sum(scenario.group in reported for scenario in some)


def _directions(
    name: str, engine: Engine, out: Path, settings: ScreenSettings, plan: Plan, progress: Progress
) -> tuple[DirectionSet, tuple[str, ...]]:
    """Every direction and control, and the names of the emotions. The atlas is made first where there are no vectors.

    Raises:
        InputError: vectors without an emotion, a layer, or the activations that controls are made from.
    """
    folder = out / ATLAS if settings.vectors is None else Path(settings.vectors)
    # The report is the last file of an atlas: without it, the atlas was interrupted.
    if settings.vectors is None and not (folder / "report.html").is_file():
        run_atlas(
            name,
            folder,
            AtlasSettings(revision=settings.revision, dtype=settings.dtype, device=settings.device, seed=settings.seed),
            progress=progress,
            engine=engine,
        )
    bundle = main_bundle(folder)
    emotion_vectors = vectors.EmotionVectors.load(bundle, for_model=engine.info)
    emotions = names_of(settings.emotion)
    if emotions is None or emotions == ("all",):
        emotions = emotion_vectors.emotions
    chosen = layers_of(settings.layers, engine.info.n_layers)
    layers = emotion_vectors.layers if chosen is None else tuple(chosen)
    variant = plan.variant if plan.variant in emotion_vectors.variants else "raw"
    changed = plan.changed(directions=(emotions[0],), layers=layers, variant=variant, confirm=(), raises=(), lowers=())
    stories = experiment.read_story_activations(bundle, emotion_vectors)
    made = experiment.direction_set(changed, emotion_vectors, layers=layers, stories=stories)
    for emotion in emotions:
        for layer in layers:
            made.vector("direction", emotion, layer)
    if settings.controls and "natural" not in made.kinds:
        raise InputError(
            f"{folder}: vectors without the activations of their stories and neutral texts, which controls are made of",
            "an atlas, which keeps them",
            "Make one with `heartstrings atlas`, or use --controls 0",
        )
    return made, emotions


def _gradient(engine: Engine, asked: Asked, name: str, directions: DirectionSet, out: Path) -> _Found:
    """The gradient of a behaviour, and whether the model understands it; both are read back where they are there."""
    behaviour, scenarios, plan = asked.suite.behaviour(name), asked.scenarios[name], directions.plan
    checks = {
        check.name: check.scenarios(n=_known(plan, check), seed=plan.seed) for check in asked.suite.checks_of(name)
    }
    facts = facts_of(engine, plan, behaviour, scenarios) | {
        "what": "outcome gradient 1",
        "layers": [int(layer) for layer in directions.layers],
        "checks": {
            check_name: scenarios_hash(asked.suite.behaviour(check_name), questions)
            for check_name, questions in checks.items()
        },
    }

    def make() -> dict[str, np.ndarray]:
        began = time.monotonic()
        new_gradient = outcome_gradient(
            engine, behaviour, scenarios, layers=directions.layers, positions=plan.positions, site=plan.site
        )
        seconds = time.monotonic() - began
        known = {
            f"check {check_name}": _unsteered(engine, asked.suite.behaviour(check_name), questions)
            for check_name, questions in checks.items()
        }
        return {
            "outcomes": new_gradient.outcomes,
            "values": new_gradient.values,
            "seconds": np.array([seconds]),
            **known,
        }

    read = kept(out / GRADIENTS / f"{name}.safetensors", facts, make)
    passed = [
        knows(
            read[f"check {check_name}"],
            [question.group for question in questions],
            chance_of(asked.suite.behaviour(check_name)),
            plan.thresholds.alpha,
        )[0]
        for check_name, questions in checks.items()
    ]
    gradient = OutcomeGradient(directions.layers, read["outcomes"], read["values"])
    return _Found(
        behaviour,
        scenarios,
        gradient,
        float(read["seconds"][0]),
        all(passed) if passed else None,
        np.empty((len(directions.layers), 0, len(scenarios))),
    )


def _known(plan: Plan, check: Behaviour) -> int:
    """Questions with a known answer that are asked: as many as a run asks."""
    wanted = int(getattr(plan.samples, check.role))
    return min(wanted, int(getattr(check, "most", wanted)))


def _unsteered(engine: Engine, behaviour: Behaviour, scenarios: Sequence[Scenario]) -> Float64[np.ndarray, "scenario"]:
    firsts = [behaviour.request(scenario, steering=None, seed=0) for scenario in scenarios]
    seconds = (
        [behaviour.against(scenario, steering=None) for scenario in scenarios]
        if isinstance(behaviour, Compared)
        else []
    )
    scores = engine.score([*(request for request in firsts if isinstance(request, ScoreRequest)), *seconds])
    premises: list[Any] = [*scores[len(firsts) :]] or [None] * len(firsts)
    grades = [
        behaviour.grade(*inputs).outcome for inputs in zip(scenarios, scores[: len(firsts)], premises, strict=True)
    ]
    return np.array([np.nan if outcome is None else outcome for outcome in grades], dtype=np.float64)


def _predict(
    screenings: Sequence[_Found],
    directions: DirectionSet,
    emotions: Sequence[str],
    row: int,
    layer: int,
    settings: ScreenSettings,
) -> None:
    """Every prediction of every behaviour at one layer, in points: controls are made once for all behaviours."""
    between = 2 * settings.dose * POINTS
    slopes = [screening.gradient.values[:, row].astype(np.float64) for screening in screenings]
    changes = predicted(directions, "direction", emotions, layer, np.concatenate(slopes), between)
    ends = np.cumsum([len(slope) for slope in slopes])
    for screening, part in zip(screenings, np.split(changes, ends[:-1], axis=1), strict=True):
        if row == 0:
            screening.emotions = np.empty((len(directions.layers), len(emotions), len(screening.scenarios)))
        screening.emotions[row] = part
    means = np.stack([screening.mean(slope.T) for screening, slope in zip(screenings, slopes, strict=True)])
    for kind in directions.kinds:
        names = [f"{kind}/{number}" for number in range(settings.controls)]
        sizes = np.abs(predicted(directions, kind, names, layer, means, between))
        for screening, column in zip(screenings, sizes.T, strict=True):
            screening.sizes.setdefault(kind, np.empty((len(directions.layers), settings.controls)))[row] = column


def _check(
    engine: Engine,
    directions: DirectionSet,
    emotions: Sequence[str],
    screening: _Found,
    out: Path,
    settings: ScreenSettings,
) -> tuple[tuple[CheckedCell, ...], int, float]:
    """Some cells steered along: (cells, steered requests, seconds)."""
    draws = _random(settings.seed, "cells", screening.behaviour.name)
    cells = drawn_cells(
        settings.check,
        emotions,
        directions.layers,
        screening.mean(screening.emotions),
        directions.kinds,
        settings.controls,
        draws,
    )
    scenarios, doses = screening.scenarios[:SCENARIOS], [settings.dose * times for times in MULTIPLES]
    both = [sign * dose for dose in doses for sign in (-1, 1)]
    facts = facts_of(engine, directions.plan, screening.behaviour, scenarios) | {
        "what": "steered outcomes 1",
        "doses": both,
        "cells": [[kind, name, int(layer)] for kind, name, layer, _ in cells],
        "directions": directions_hash(directions, [cell[:2] for cell in cells], sorted({cell[2] for cell in cells})),
    }

    def make() -> dict[str, np.ndarray]:
        began = time.monotonic()
        outcomes = exact_outcomes(
            engine, directions.plan, screening.behaviour, scenarios, directions, [cell[:3] for cell in cells], both
        )
        return {"outcomes": outcomes, "seconds": np.array([time.monotonic() - began])}

    make_folder(out / CHECKS)
    read = kept(out / CHECKS / f"{screening.behaviour.name}.safetensors", facts, make)
    low, high = read["outcomes"][:, 0::2], read["outcomes"][:, 1::2]
    slopes = screening.gradient.values[: len(scenarios)].astype(np.float64)
    checked = []
    for at, (kind, name, layer, how) in enumerate(cells):
        row = directions.layers.index(layer)
        # Where an outcome is missing on either side, neither the change nor its prediction counts.
        there = ~np.isnan(high[at] - low[at]).any(axis=0) & ~np.isnan(slopes[:, row]).any(axis=1)
        change = (high[at] - low[at])[:, there] * POINTS
        guess = predicted(directions, kind, [name], layer, slopes[there, row], 2 * settings.dose * POINTS)  # type: ignore[arg-type]
        checked.append(
            CheckedCell(
                kind=kind,  # type: ignore[arg-type]
                direction=name,
                layer=layer,
                drawn=how,
                predicted=_round(guess.mean()) if there.any() else 0.0,
                exact=tuple(_round(value.mean()) if there.any() else None for value in change),
            )
        )
    return tuple(checked), len(cells) * len(both) * len(scenarios), float(read["seconds"][0])


def _behaviour(
    screening: _Found,
    checked: tuple[tuple[CheckedCell, ...], int, float] | None,
    asked: Asked,
    settings: ScreenSettings,
) -> ScreenedBehaviour:
    values = screening.mean(screening.emotions)
    groups = [scenario.group for scenario in screening.scenarios]
    ends = [[stats.mean_interval(column, groups, as_rate=False) for column in layer] for layer in screening.emotions]
    sizes, name = np.abs(values), screening.behaviour.name
    larger: dict[str, tuple[tuple[int, ...], ...]] = {}
    anywhere: dict[str, tuple[int, ...]] = {}
    bands = []
    for kind, control_sizes in screening.sizes.items():
        # Sorted, the number at least as large is one search for each cell.
        counts = [
            len(row) - np.searchsorted(np.sort(row), size, side="left")
            for row, size in zip(control_sizes, sizes, strict=True)
        ]
        top = control_sizes.max(axis=0)
        larger[kind] = tuple(tuple(row.tolist()) for row in counts)
        anywhere[kind] = tuple((len(top) - np.searchsorted(np.sort(top), sizes.max(axis=0), side="left")).tolist())
        middle, most = np.percentile(control_sizes, (50, 95), axis=1)
        bands.append(
            Band(
                kind=kind,
                middle=_rounded(middle),
                most=_rounded(most),
                largest=_rounded(control_sizes.max(axis=1)),
                anywhere=_round(np.percentile(top, 95)),
            )
        )
    cells = checked[0] if checked else ()
    doses = [settings.dose * times for times in MULTIPLES]
    return ScreenedBehaviour(
        name=name,
        outcome_name=screening.behaviour.outcome_name,
        outcome=_round(float(screening.mean(screening.gradient.outcomes))),
        scenarios=tuple(scenario.id for scenario in screening.scenarios),
        situations=len({group for group, weight in zip(groups, screening.weights, strict=True) if weight}),
        without_outcome=int(np.isnan(screening.gradient.outcomes).sum()),
        reported_too=asked.reported_too[name],
        understood=screening.understood,
        flat=not np.nan_to_num(screening.gradient.values).any(),
        predicted=tuple(_rounded(row) for row in values),
        low=tuple(tuple(None if cell.low is None else _round(cell.low) for cell in row) for row in ends),
        high=tuple(tuple(None if cell.high is None else _round(cell.high) for cell in row) for row in ends),
        larger=larger,
        larger_anywhere=anywhere,
        bands=tuple(bands),
        check=cells,
        fidelity=fidelity(cells, settings.dose, doses, _random(settings.seed, "bootstrap", name)) if cells else (),
    )


def _cost(
    screenings: Sequence[_Found],
    cells: Mapping[str, tuple[tuple[CheckedCell, ...], int, float]],
    emotions: int,
    predicting: float,
    settings: ScreenSettings,
) -> Cost:
    rows: dict[str, float] = {}
    for screening in screenings:
        directions = emotions + settings.controls * len(screening.sizes)
        rows[screening.behaviour.name] = 2.0 * directions * len(screening.gradient.layers) * len(screening.scenarios)
    seconds = sum(rows[name] * took / asked for name, (_, asked, took) in cells.items()) if cells else None
    own = sum(screening.seconds for screening in screenings)
    return Cost(
        requests=sum(
            len(screening.scenarios) * (2 if isinstance(screening.behaviour, Compared) else 1)
            for screening in screenings
        ),
        gradient_seconds=round(own, 1),
        predict_seconds=round(predicting, 1),
        checked_rows=sum(asked for _, asked, _ in cells.values()),
        check_seconds=round(sum(took for _, _, took in cells.values()), 1),
        exhaustive_rows=sum(rows.values()),
        exhaustive_seconds=None if seconds is None else round(seconds, 1),
        times_cheaper=None if seconds is None else round(seconds / (own + predicting), 1),
    )


def _notes(screenings: Sequence[_Found], asked: Asked) -> tuple[str, ...]:
    """What a reader has to know before the numbers."""
    unclear = [screening.behaviour.name for screening in screenings if screening.understood is False]
    flat = [screening.behaviour.name for screening in screenings if not np.nan_to_num(screening.gradient.values).any()]
    shared = [name for name, count in asked.reported_too.items() if count]
    notes = []
    if unclear:
        notes.append(
            f"not understood: {', '.join(unclear)}. The model does not get questions of this form with a known answer "
            "right, so its answers mean little"
        )
    if flat:
        notes.append(f"no gradient: {', '.join(flat)}. The outcome is a step, and the prediction 0 tells nothing")
    if shared:
        notes.append(
            f"scenarios that a run of the whole suite reports: {', '.join(shared)}. Do not choose emotions or layers "
            "from their screen for such a run; run them alone (--behaviour), where these scenarios choose layers"
        )
    return tuple(notes)


def _random(seed: int, *parts: str) -> np.random.Generator:
    text = "\n".join(("screen", str(seed), *parts))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _round(value: float) -> float:
    return round(float(value), 4)


def _rounded(values: Float64[np.ndarray, "_"]) -> tuple[float, ...]:
    return tuple(_round(value) for value in values)
