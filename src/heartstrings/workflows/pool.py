"""One stage on a finished run: p from a pool of a thousand controls, of which those drawn are steered along.

The controls of a kind are numbered and have no end, so that a pool holds the run's own and more. A screen scores all of
them (`experiment.screen`), some are drawn with known weights (`stats.importance`), and those drawn go
through what the run's controls went through: the search for a layer, then the reported half. What is compared is the
verdict's: the contrast of the doses that is told. It changes no answer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import pearsonr, spearmanr

from heartstrings import behaviours, experiment, report, vectors
from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.core.version import __version__
from heartstrings.experiment.cells import Job, Steered, anywhere, every_scenario, select_jobs, test_jobs
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import CONTROL_KINDS, NATURAL_KINDS, ControlKind, SampleLedger
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import Sampling, directions_fingerprint
from heartstrings.experiment.sample_counts import leader, searched
from heartstrings.experiment.screen import NO_GRADIENT, FirstOrder, first_order
from heartstrings.experiment.told_apart import not_told_apart
from heartstrings.stats.contrasts import LINE, in_units, largest, orientation
from heartstrings.stats.importance import Drawn, Opposite, draw, strata, weighted_p
from heartstrings.stats.nulls import LEAST_CONTROLS, holm, least_controls
from heartstrings.verdict.effects import compare
from heartstrings.verdict.measured import Measured, measure
from heartstrings.verdict.pool_results import FILE, LeftOut, PoolKind, PoolReport, PoolTest
from heartstrings.verdict.tables import Table
from heartstrings.workflows.atlas import opened
from heartstrings.workflows.run import ATLAS, prepare
from heartstrings.workflows.run import LEDGER as RUN
from heartstrings.workflows.values import Progress, silent

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine

LEDGER = "pool.sqlite"
"""In a run's folder: the samples of this stage."""
SIZE, DRAWS = 1000, 120


@dataclass(frozen=True)
class _Some:
    """Some of a pool's controls, named as `heartstrings.experiment.cells` counts them."""

    names: Mapping[ControlKind, tuple[str, ...]]
    claims: tuple[()] = ()

    @property
    def kinds(self) -> tuple[ControlKind, ...]:
        return tuple(kind for kind in CONTROL_KINDS if self.names.get(kind))

    def controls(self, kind: Any, direction: Any) -> tuple[str, ...]:
        return self.names.get(kind, ())


@dataclass(frozen=True, eq=False)
class _Draw:
    """What was drawn for one test and kind."""

    kind: ControlKind
    scores: Float64[np.ndarray, "pool"]
    """Of the tested direction, then of the controls by number."""
    drawn: Drawn

    @property
    def names(self) -> tuple[str, ...]:
        """The controls to be steered along, in the order of `drawn.controls`."""
        return tuple(f"{self.kind}/{place - 1}" for place in self.drawn.controls.tolist())


def pool_p(
    plan: Plan,
    engine: Engine,
    directions: DirectionSet,
    ledger: SampleLedger,
    *,
    size: int = SIZE,
    draws: int = DRAWS,
    progress: Callable[[int, int], None] | None = None,
    suite: Suite | None = None,
) -> PoolReport:
    """p of each direction on each declared behaviour that is answered by scored options, from pools of controls.

    A kind has a p of its own, and the larger counts, as in the verdict. Screens, and so draws, are recorded before the
    first sample. The samples are kept beside the run's ledger, in `pool.sqlite`; the same call after an interruption
    goes on there.

    The statistic is the verdict's, a contrast in units of a root mean square. Here the mean is over the tested
    direction and all draws, each with the weight of its draws: an estimate of what the whole pool would give, and the
    same function of these directions whichever of them is the tested one, so that the argument of
    `heartstrings.stats.importance` holds. The run's own controls could not serve as the unit: they are in the pool.

    Args:
        plan: of the run, at its look (`heartstrings.experiment.looks.look_of`).
        engine: of the run's model.
        directions: of the run, with the activations of its stories and neutral texts.
        ledger: of the run, finished; it is only read.
        size: controls in each pool, numbered from 0; the run's own are the first of them.
        draws: of each test and kind.
        progress: called with (samples done, samples in all).
        suite: the behaviours; None takes the plan's.
    Raises:
        InputError: a run that is not finished, another model or other vectors, no natural controls, no declared
            behaviour with a gradient, an operation other than add, a pool or draws too few to find anything, or others
            than `pool.sqlite` was begun with. NumericalError: NaN or Inf in the model.
    """
    began = time.monotonic()
    if suite is None:
        suite = behaviours.suite_of(plan)
    path = ledger.path.with_name(LEDGER)
    pool = pool_plan(plan, size, draws)
    pool_directions = replace(directions, plan=pool)
    check_possible(plan, suite, pool_directions)
    _check_begun(path, size, draws)
    layers = searched_layers(plan, engine.info.n_layers, directions.layers)
    _check_run(plan, engine, directions, ledger, layers)
    rows = ledger.samples()
    unclear = not_told_apart(plan, suite, [row for row in rows if row.cell.phase == "test"])
    measured, left_out = _measured(plan, suite, Table(rows), unclear)
    kinds = tuple(kind for kind in NATURAL_KINDS if kind in pool_directions.kinds)
    with SampleLedger(path, pool) as own:
        own.bind("weights", engine.info.weights_hash, "a model")
        own.bind("directions", directions_fingerprint(pool, pool_directions, layers), "vectors")
        own.bind("draws", str(draws), "a number of draws")
        screening = time.monotonic()
        drawn = _draws(pool, engine, pool_directions, own, suite, measured, kinds, layers, draws)
        screened = time.monotonic() - screening
        _sample(pool, engine, pool_directions, own, suite, drawn, layers, progress)
        both = Table([*(row for row in rows if row.cell.kind not in CONTROL_KINDS), *own.samples()])
        samples = own.count()
    tests = [
        _test(plan, both, measurement, drawn[measurement.behaviour.name, measurement.direction])
        for measurement in measured
    ]
    return PoolReport(
        package_version=__version__,
        plan_hash=plan.hash,
        look=plan.look + 1,
        seed=plan.seed,
        alpha=plan.spent.thresholds.alpha,
        size=size,
        draws=draws,
        tests=_corrected(tests, left_out),
        left_out=tuple(left_out),
        samples=samples,
        screen_seconds=round(screened, 1),
        seconds=round(time.monotonic() - began, 1),
    )


def run_pool(
    folder: Path, *, size: int = SIZE, draws: int = DRAWS, device: str | None = None, progress: Progress = silent
) -> PoolReport:
    """The stage in a run's folder: `pool.json`, and the report with it.

    Raises:
        InputError: no finished verdict there, or what `pool_p` refuses; before the model loads where that can be told.
    """
    verdict = report.read_verdict(folder).verdict
    with SampleLedger.read(folder / RUN) as ledger:
        plan = experiment.look_of(folder, ledger.plan)
        if (verdict.plan_hash, verdict.look) != (plan.hash, plan.look + 1):
            raise InputError(
                f"{folder}/verdict.json is not of the samples beside it",
                "a finished verdict on them",
                f"Weigh them again: heartstrings verdict {folder}",
            )
        bundle = vectors.main_bundle(plan.vectors or folder / ATLAS)
        emotion_vectors = vectors.EmotionVectors.load(bundle)
        stories = experiment.read_story_activations(bundle, emotion_vectors)
        pool = pool_plan(plan, size, draws)
        check_possible(
            plan, behaviours.suite_of(plan), DirectionSet(pool, emotion_vectors, emotion_vectors.layers[:1], stories)
        )
        _check_begun(folder / LEDGER, size, draws)
        engine = opened(plan.model, revision=plan.revision, dtype=plan.dtype, device=device, progress=progress)
        ready = prepare(plan, engine, folder)
        pool_report = pool_p(
            plan,
            engine,
            ready.directions,
            ledger,
            size=size,
            draws=draws,
            suite=ready.suite,
            progress=partial(progress, f"sampling from pools of {size:,} controls"),
        )
    write_text(folder / FILE, pool_report.model_dump_json(indent=1) + "\n")
    report.render_verdict(folder)
    return pool_report


def pool_plan(plan: Plan, size: int, draws: int) -> Plan:
    """The run's plan with the pools in place of its controls, and without claims: what `pool.sqlite` is bound to.
    Control k is the same however many there are.

    Raises:
        InputError: fewer controls or draws than a verdict needs controls, or a pool that is no larger than the run's.
    """
    needed = least_controls(len(plan.directions), plan.spent.thresholds.alpha)
    least = max(LEAST_CONTROLS, needed, *(getattr(plan.controls, kind) + 1 for kind in NATURAL_KINDS))
    if size < least:
        raise InputError(
            f"a pool of {size} controls",
            f"{least} at least: more than the run has of a kind, and than any test needs",
            f"Change --size, such as to {SIZE}",
        )
    if draws < LEAST_CONTROLS:
        raise InputError(f"{draws} draws", f"{LEAST_CONTROLS} at least", f"Change --draws, such as to {DRAWS}")
    none = dict.fromkeys(CONTROL_KINDS, 0)
    return plan.changed(
        controls={**none, **dict.fromkeys(NATURAL_KINDS, size)}, claims={"mixture": 0, "other": 0, "stripped": False}
    )


def check_possible(plan: Plan, suite: Suite, pool: DirectionSet) -> None:
    """What can be told before a model loads.

    Raises:
        InputError: an operation other than add, no declared behaviour with a gradient, or no natural controls.
    """
    if plan.operation != "add":
        raise InputError(
            f"pools for operation {plan.operation!r}",
            "operation add: the screen is the effect of a small push",
            "Compare with more plain controls: raise the numbers under [controls]",
        )
    why = {name: _why_not(plan, suite, suite.behaviour(name)) for name in plan.declared}
    if all(why.values()):
        raise InputError(
            f"no declared behaviour can be screened: {'; '.join(f'{name}, {reason}' for name, reason in why.items())}",
            "one that is answered by scored options",
            "Declare one under confirm, in a new run",
        )
    if "natural" not in pool.kinds:
        raise InputError(
            "vectors without the activations of their stories and neutral texts: natural controls cannot be made",
            "those of the extraction",
            "Extract with neutral texts and kept activations (an atlas keeps them), and run anew",
        )


def _why_not(plan: Plan, suite: Suite, behaviour: Behaviour) -> str | None:
    """Why a behaviour cannot be screened; None: it can."""
    if behaviour.ask != "choice":
        return NO_GRADIENT
    first = leader(plan, suite, behaviour.name)
    if first != behaviour.name:
        return f"its layers are chosen by {first}, which the screen would have to follow"
    return None


def _check_begun(path: Path, size: int, draws: int) -> None:
    """A pool is drawn once: other draws after a look at these would be chosen."""
    if not path.is_file():
        return
    with SampleLedger.read(path) as there:
        was = (there.plan.controls.natural, int(there.fact("draws") or draws))
    if was != (size, draws):
        raise InputError(
            f"{draws} draws from {size} controls, where {path} was begun with {was[0]} and {was[1]}",
            "the same numbers, as draws are made once",
            f"Use --size {was[0]} --draws {was[1]}",
        )


def _check_run(
    plan: Plan, engine: Engine, directions: DirectionSet, ledger: SampleLedger, layers: Sequence[int]
) -> None:
    """The run's own model and vectors."""
    if ledger.plan.hash != plan.hash:
        raise InputError("a ledger of another plan", f"the ledger of plan {plan.hash[:12]}", "Open it with this plan")
    for name, now, label in (
        ("weights", engine.info.weights_hash, "model"),
        ("directions", directions_fingerprint(plan, directions, layers), "vectors"),
    ):
        was = ledger.fact(name)
        if was != now:
            raise InputError(
                f"{ledger.path} was sampled with {label} of fingerprint {(was or 'none')[:16]}, now it is {now[:16]}",
                f"the same {label}",
                "Controls can be compared only with what went through the same model: put it back",
            )


def _measured(plan: Plan, suite: Suite, table: Table, unclear: frozenset[str]) -> tuple[list[Measured], list[LeftOut]]:
    """What is tested, as the verdict measured it, and what is not, with the reason."""
    measured, left_out = [], []
    for name in plan.declared:
        why = _why_not(plan, suite, suite.behaviour(name))
        if why is None and name in unclear:
            why = "the model does not tell its options apart, so that no control was asked"
        for direction in plan.directions:
            reason, measurement = why, None
            if reason is None:
                measurement = measure(plan.spent, table, suite, name, direction)
                undone = [gap for gap in measurement.gaps if gap.part == "effect"]
                if undone:
                    raise InputError(
                        undone[0].words, "a finished run", "Run `heartstrings run` with the same --out first"
                    )
                if not measurement.fit.shapes:
                    reason = "no contrast of its doses could be fitted"
            if measurement is None or reason is not None:
                left_out.append(LeftOut(behaviour=name, direction=direction, reason=reason or ""))
            else:
                measured.append(measurement)
    return measured, left_out


def _draws(
    pool: Plan,
    engine: Engine,
    directions: DirectionSet,
    own: SampleLedger,
    suite: Suite,
    measured: Sequence[Measured],
    kinds: Sequence[ControlKind],
    layers: Sequence[int],
    draws: int,
) -> dict[tuple[str, str], tuple[_Draw, ...]]:
    """What is drawn for each behaviour and direction. The screen's scores are recorded, so that a rounding error of
    another device cannot change a draw once it is made."""
    screens: dict[str, FirstOrder] = {}
    drawn: dict[tuple[str, str], tuple[_Draw, ...]] = {}
    for measurement in measured:
        name, direction, kind_draws = measurement.behaviour.name, measurement.direction, []
        for kind in kinds:
            fact = f"screen {name} {direction} {kind}"
            if own.fact(fact) is None:
                if name not in screens:
                    select = every_scenario(pool, suite, measurement.behaviour)[
                        : searched(pool, suite, measurement.behaviour)
                    ]
                    screens[name] = first_order(engine, pool, measurement.behaviour, select, directions, layers)
                scores = screens[name].pool(direction, directions.controls(kind, direction))
                own.bind(fact, json.dumps(scores.tolist()), "a screen")
            scores = np.array(json.loads(own.fact(fact) or "[]"), dtype=np.float64)
            seed = _seed(pool.seed, kind, name, direction)
            kind_draws.append(_Draw(kind, scores, draw(strata(scores), n=draws, seed=seed)))
        drawn[name, direction] = tuple(kind_draws)
    return drawn


def _seed(seed: int, kind: str, behaviour: str, direction: str) -> int:
    """64 bits."""
    text = "\n".join(("pool", str(seed), kind, behaviour, direction))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _sample(
    pool: Plan,
    engine: Engine,
    directions: DirectionSet,
    own: SampleLedger,
    suite: Suite,
    drawn: Mapping[tuple[str, str], tuple[_Draw, ...]],
    layers: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Every control drawn through the run's own pipeline. One that several directions drew is sampled once."""
    names = {name: _together([kind_draws for key, kind_draws in drawn.items() if key[0] == name]) for name, _ in drawn}
    jobs = {name: _report_half(pool, suite, name, some, layers[0], {}) for name, some in names.items()}
    searches = {name: tuple(_search(pool, suite, name, some, layers)) for name, some in names.items()}
    total = sum(map(len, jobs.values())) + sum(len(job) for search in searches.values() for job in search)
    run = Sampling(pool, engine, directions, own, progress, total=total)
    for name, some in names.items():
        for job in searches[name]:
            run.job(job)
        rows: dict[Steered, list[Any]] = {}
        for sample in own.samples(phase="select", behaviour=name):
            rows.setdefault(Steered(sample.cell.kind, sample.cell.direction), []).append(sample)
        layer_choices = {steered: choose_layer(samples).layer for steered, samples in rows.items()}
        chosen = {(name, steered): layer for steered, layer in layer_choices.items() if layer is not None}
        run.job(_report_half(pool, suite, name, some, layers[0], chosen))
    run.report()


def _together(drawn: Sequence[tuple[_Draw, ...]]) -> _Some:
    """All that was drawn for a behaviour, by number."""
    names: dict[ControlKind, set[str]] = {}
    for kind_draw in (kind_draw for kind_draws in drawn for kind_draw in kind_draws):
        names.setdefault(kind_draw.kind, set()).update(kind_draw.names)
    return _Some(
        {
            kind: tuple(sorted(controls, key=lambda name: int(name.partition("/")[2])))
            for kind, controls in names.items()
        }
    )


def _search(pool: Plan, suite: Suite, name: str, some: _Some, layers: Sequence[int]) -> Iterator[Job]:
    """The search for a layer, of controls alone; nothing where there is one layer."""
    for job in select_jobs(pool, suite, some, layers):
        if job.behaviour.name == name:
            yield job.of(job.scenarios, [cell for cell in job.cells if cell.kind in NATURAL_KINDS])


def _report_half(
    pool: Plan, suite: Suite, name: str, some: _Some, otherwise: int, chosen: Mapping[tuple[str, Steered], int]
) -> Job:
    """The reported half, of controls alone, at their layers; `otherwise` where none was chosen, as in a run."""
    jobs = test_jobs(pool, suite, some, {**anywhere(pool, some, otherwise), **chosen})
    (job,) = [job for job in jobs if job.behaviour.name == name]
    return job.of(job.scenarios, [cell for cell in job.cells if cell.kind in NATURAL_KINDS])


def _test(plan: Plan, table: Table, measurement: Measured, drawn: Sequence[_Draw]) -> PoolTest:
    """One direction on one behaviour, against what was drawn of each kind."""
    sign = plan.sign(measurement.behaviour.name, measurement.direction)
    shapes = tuple(shape.name for shape in measurement.fit.shapes)
    signs = sign * orientation(shapes) if sign else None
    told = None if measurement.fit.shape is None else shapes.index(measurement.fit.shape.name)
    least = plan.thresholds.smallest_effect
    kinds = []
    for kind_draw in drawn:
        comparison = compare(plan.spent, table, measurement.behaviour, kind_draw.kind, kind_draw.names, measurement.fit)
        p, larger = weighted_top_p(comparison.changes, kind_draw.drawn, signs, least=least, told=told)
        missing = np.isnan(comparison.changes[1:]).all(axis=1)
        line = comparison.changes[1:, shapes.index(LINE)] if LINE in shapes else np.full(len(missing), np.nan)
        sizes = largest(in_units(comparison.changes, least=least, weights=_weights(kind_draw.drawn)))[1:]
        scores = kind_draw.scores[kind_draw.drawn.controls]
        kinds.append(
            PoolKind(
                kind=kind_draw.kind,
                size=len(kind_draw.scores) - 1,
                draws=kind_draw.drawn.n,
                controls=len(kind_draw.names),
                share=kind_draw.drawn.share,
                rho=kind_draw.drawn.rho,
                top=bool(kind_draw.drawn.top[kind_draw.drawn.tested]),
                smallest_p=kind_draw.drawn.smallest_p / (2 if sign else 1),
                larger=larger,
                missing=int(missing.sum()),
                p=p,
                correlation=_correlation(pearsonr, scores, line),
                size_correlation=_correlation(spearmanr, np.abs(scores), sizes),
            )
        )
    ps = [kind.p for kind in kinds]
    return PoolTest(
        behaviour=measurement.behaviour.name,
        direction=measurement.direction,
        layer=-1 if measurement.layer is None else measurement.layer,
        sign=sign,
        kinds=tuple(kinds),
        p=None if None in ps else max(p for p in ps if p is not None),
        p_corrected=None,
    )


def weighted_top_p(
    changes: Float64[np.ndarray, "direction contrast"],
    drawn: Drawn,
    signs: Float64[np.ndarray, "contrast"] | None,
    *,
    least: float | int,
    told: int | None = None,
) -> tuple[float | None, int]:
    """p of one contrast against the controls' largest, and how many controls are at least as large or have none.

    The unit of a contrast is the root mean square over the tested direction and the controls drawn, each with the
    weight of its draws, and `least` at least. That is the same function of the n + 1 directions whichever is the tested
    one, which is what the weighted p asks of units; and it estimates the unit that the whole pool would give, where
    without weights it would be that of the few largest.

    Args:
        changes: the tested direction first, then `drawn.controls` in their order; NaN where there is none.
        signs: one-sided: each contrast times this. None: by size.
        least: the smallest effect that matters, a fraction.
        told: the direction's contrast that the answer speaks of; None: its largest. The largest would be valid, so
            that any one of them, which is smaller, is too.
    """
    units = partial(in_units, changes, least=least, weights=_weights(drawn))
    scaled = units(signs)
    top = largest(scaled)
    if told is not None:
        top[0] = scaled[0, told]
    if signs is None:
        p = weighted_p(float(top[0]), top[1:], drawn)
    else:
        back = largest(units(-signs))
        p = weighted_p(float(top[0]), top[1:], drawn, opposite=Opposite(float(back[0]), back[1:]))
        top = np.concatenate([top[:1], np.maximum(top[1:], back[1:])])
    return p, int((np.isnan(top[1:]) | (top[1:] >= top[0])).sum())


def _weights(drawn: Drawn) -> Float64[np.ndarray, "direction"]:
    weights: Float64[np.ndarray, "direction"] = np.concatenate([[drawn.own], drawn.weights])
    return weights


def _correlation(
    of: Callable[..., Any], first: Float64[np.ndarray, "control"], second: Float64[np.ndarray, "control"]
) -> float | None:
    """None with fewer than three pairs, or where one of the two does not vary."""
    there = ~(np.isnan(first) | np.isnan(second))
    if there.sum() < 3 or np.ptp(first[there]) == 0 or np.ptp(second[there]) == 0:
        return None
    return float(of(first[there], second[there])[0])


def _corrected(tests: Sequence[PoolTest], left_out: Sequence[LeftOut]) -> tuple[PoolTest, ...]:
    """Holm (1979) over all that was declared; what has no p here counts as a test that found nothing."""
    ps = holm([*(test.p for test in tests), *(None for _ in left_out)])
    return tuple(test.model_copy(update={"p_corrected": p}) for test, p in zip(tests, ps, strict=False))
