"""From a ledger to the verdict. The same ledger gives the same verdict, in whatever order its rows come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.core.version import __version__
from heartstrings.experiment.dose_fit import DoseFit
from heartstrings.experiment.hand_grades import Decided
from heartstrings.experiment.ledger import ControlKind
from heartstrings.experiment.looks import told
from heartstrings.experiment.plan import DEFAULT_SEED, Plan
from heartstrings.experiment.sample_counts import leader
from heartstrings.stats.contrasts import LINE
from heartstrings.stats.estimate import estimate
from heartstrings.stats.nulls import holm_groups
from heartstrings.stats.power import Design, more_scenarios, needed, summarise
from heartstrings.verdict._calibration import calibration
from heartstrings.verdict._claims import claims
from heartstrings.verdict._curves import banded, costs, curve, divergences
from heartstrings.verdict._examples import Preferences, prompting, texts
from heartstrings.verdict._gates import cells_of, more_probes, nearest, side
from heartstrings.verdict._hand_graded import with_hand_grades
from heartstrings.verdict._headroom import baselines
from heartstrings.verdict._own import of_direction, unread
from heartstrings.verdict._sentence import NO_EFFECT, Story, sentence
from heartstrings.verdict._specifications import specifications
from heartstrings.verdict._understood import understood
from heartstrings.verdict._why import why
from heartstrings.verdict.control_rounds import Family, families
from heartstrings.verdict.decision import Evidence, Reason, decide_answer
from heartstrings.verdict.effects import Controls, at_doses, reliability, within
from heartstrings.verdict.measured import Measured, corrected, discoveries
from heartstrings.verdict.pushes import p_at_equal_kl, pushes
from heartstrings.verdict.results import AnswerCard, Claim, Encoded, Gate, OwnEncoding, Verdict
from heartstrings.verdict.tables import NOTHING, Rows, Suite, Table, pairs

StoryCoherence = Callable[[str, int], float | None]


def decide(
    plan: Plan,
    ledger: Rows,
    suite: Suite,
    *,
    model: str,
    encoded: Encoded,
    encoded_p: float | None = None,
    doses: DoseFit | None = None,
    story_coherence: StoryCoherence | None = None,
    organism: str | None = None,
    weights_hash: str | None = None,
    vectors_hash: str | None = None,
    grades: Decided | None = None,
    own: Mapping[str, OwnEncoding | None] | None = None,
) -> Verdict:
    """The answer for every effect behaviour and direction of a plan.

    Args:
        ledger: finished or not; what it lacks is listed in `missing`, and what depends on it stays open.
        encoded: what the atlas found; `not examined` where there is none.
        encoded_p: the p that rests on, for the sentence.
        doses: how the plan's doses were fitted to the model, where they were.
        story_coherence: of a direction at a layer, see `Reliability`.
        organism: the kind an organism's own card states. It is copied to the verdict and plays no part in it.
        weights_hash, vectors_hash: fingerprints that the ledger is bound to, passed on too.
        grades: hand grades by key of the text (`heartstrings.experiment.hand_grades.decided`); None: there are none.
        own: whether the emotion of each direction is itself read (`own_encodings`); None where no atlas read
            it. A direction whose emotion is read is never `not encoded`.
    """
    of, plan = plan, plan.spent
    table = Table(ledger.samples())
    plan_families = families(plan, table, suite)
    by_name = {
        (measured.behaviour.name, measured.direction): measured for family in plan_families for measured in family.own
    }
    measurements = [by_name[behaviour, direction] for behaviour in plan.effects for direction in plan.directions]
    preferred = Preferences(plan, table, suite)
    run = _Run(
        plan, table, suite, model, encoded, encoded_p, story_coherence, preferred, own, _stopped(plan, plan_families)
    )
    ps = _corrected(plan, plan_families)
    claimed = claims(plan, table, plan_families)
    explored = discoveries(plan, measurements)
    weighed = [
        _card(
            run,
            measured,
            ps[measured.behaviour.name, measured.direction],
            claimed[measured.behaviour.name, measured.direction],
            explored.get((measured.behaviour.name, measured.direction)),
        )
        for measured in measurements
    ]
    cards = tuple(
        card if reason not in NO_EFFECT else _explained(card, [other for other, _ in weighed], plan, suite)
        for card, reason in weighed
    )
    if grades is not None:
        cards = tuple(
            with_hand_grades(card, measured, plan, table, grades)
            for card, measured in zip(cards, measurements, strict=True)
        )
    return Verdict(
        package_version=__version__,
        plan_hash=of.hash,
        seed=plan.seed,
        thresholds=plan.thresholds,
        organism=organism,
        power=_power(plan, measurements),
        doses=doses,
        answers=cards,
        calibration=calibration(plan, measurements),
        weights_hash=weights_hash,
        vectors_hash=vectors_hash,
        look=of.look + 1,
        looks=len(of.looks) + 1,
        notes=(*told(of), *_seed(of)),
    )


def _seed(plan: Plan) -> tuple[str, ...]:
    """A note if the seed is not the default: somebody could try several seeds and keep the best answer."""
    if plan.seed == DEFAULT_SEED:
        return ()
    return (f"Seed {plan.seed} was chosen; a plan has {DEFAULT_SEED} otherwise. Ask for the runs with other seeds.",)


def _corrected(plan: Plan, plan_families: Sequence[Family]) -> dict[tuple[str, str], float | None]:
    """p of each behaviour and direction, corrected over the behaviours of its family, then over directions."""
    ps: dict[tuple[str, str], float | None] = {}
    for family in plan_families:
        groups = [family.of(direction) for direction in plan.directions]
        for group, values in zip(groups, holm_groups([corrected(group) for group in groups]), strict=True):
            for measured, p in zip(group, values, strict=True):
                if measured.behaviour.name in family.members:
                    ps[measured.behaviour.name, measured.direction] = p
    return ps


def _stopped(plan: Plan, plan_families: Sequence[Family]) -> dict[str, str]:
    """What is said of each behaviour whose controls were stopped."""
    words = {}
    for family in plan_families:
        if not family.stopped:
            continue
        kinds = [
            f"{count} of {whole} {kind}"
            for (kind, count), (_, whole) in zip(family.plan.controls, plan.controls, strict=True)
            if whole
        ]
        for name in family.members:
            words[name] = f"{name}: {' and '.join(kinds)} controls were asked, as no more could change the answer"
    return words


@dataclass(frozen=True)
class _Run:
    """What all cards of a verdict are made from, beside their own measurement."""

    plan: Plan
    table: Table
    suite: Suite
    model: str
    encoded: Encoded
    encoded_p: float | None
    coherence: StoryCoherence | None
    preferred: Preferences
    own: Mapping[str, OwnEncoding | None] | None
    stopped: Mapping[str, str]


def _card(
    run: _Run, measured: Measured, p: float | None, claimed: tuple[Claim, ...], discovery: bool | None
) -> tuple[AnswerCard, Reason]:
    plan, table, suite, own = run.plan, run.table, run.suite, run.own
    sides = side(plan, measured.gates, -1), side(plan, measured.gates, 1)
    shape = measured.fit.shape
    inner = within(
        plan, table, measured.behaviour.name, measured.direction, measured.layer, sides, measured.collapsed, shape
    )
    ends = (nearest(plan, -1), nearest(plan, 1), 0.0)
    first = tuple(gate for gate in measured.gates if gate.dose in ends)
    evidence = Evidence(
        encoded=of_direction(run.encoded, (own or {}).get(measured.direction), plan.thresholds.alpha),
        effect=NOTHING if shape is None else shape.change,
        at_doses=at_doses(
            plan, table, measured.behaviour, measured.direction, measured.layer, measured.collapsed, measured.fit
        ),
        p=p,
        gap=measured.gap,
        exceeds_matched=measured.exceeds,
        matched_asked=bool(measured.matched_by),
        control_bounds=tuple(
            float(np.quantile(np.abs(sizes), 0.95))
            for group in measured.controls.values()
            if shape is not None and len(sizes := group.changes(shape.name))
        ),
        collapsed=bool(measured.collapsed & set(plan.window)),
        negative_side=sides[0],
        positive_side=sides[1],
        within_range=inner,
        first=first,
        unfinished={gap.part for gap in measured.gaps if gap.part},
        understood=understood(measured.checks),
        answered=table.baseline(measured.behaviour.name).mean("valid"),
    )
    answer, reason = decide_answer(evidence, plan.thresholds)
    layer = -1 if measured.layer is None else measured.layer
    name = measured.behaviour.name
    baseline = table.baseline(name)
    doses = table.doses(name, "direction", measured.direction, layer)
    written = [
        text
        for text in (measured.behaviour, *measured.others)
        if text.ask == "text" and text.role in ("effect", "writing")
    ]
    card = AnswerCard(
        model=run.model,
        behaviour=name,
        direction=measured.direction,
        site=plan.site,
        layer=layer,
        answer=answer,
        range=(sides[0] or 0.0, sides[1] or 0.0) if answer == "controls" else None,
        within_range=None if inner is None else estimate(inner),
        slope=estimate(measured.fit.slope),
        p=p,
        samples=_samples(table, measured),
        sentence="",
        encoded=run.encoded,
        own_encoding=(own or {}).get(measured.direction),
        p_uncorrected=measured.p,
        effect=estimate(measured.fit.effect),
        shape=LINE if shape is None else shape.name,
        shown=None if shape is None else estimate(shape.change),
        matched=estimate(measured.matched),
        exceeds_matched=measured.exceeds,
        controls=tuple(group.group for group in measured.controls.values()),
        curve=banded(curve(baseline, doses, measured.behaviour), baseline, doses, seed=plan.seed),
        costs=costs(table, measured.behaviour, measured.others, measured.direction, layer),
        control_costs=divergences(table, measured.others, measured.direction, plan.window),
        gates=measured.gates,
        positive_side=sides[1],
        negative_side=sides[0],
        reliability=reliability(measured.fit, run.coherence, measured.direction, layer)
        if len(measured.fit.per_dose)
        else None,
        layers=measured.search,
        prompting=prompting(table, name, measured.direction),
        preferences=run.preferred.of(measured.direction, layer),
        texts=texts(plan, table, suite, written, measured.direction, layer),
        missing=tuple(
            dict.fromkeys(
                (
                    *(gap.words for gap in measured.gaps),
                    *((run.stopped[name],) if name in run.stopped else ()),
                    *unread(own, measured.direction),
                )
            )
        ),
        more=_more(plan, table, measured, reason, first),
        checks=measured.checks,
        discovery=discovery,
        claims=claimed,
        baselines=baselines(
            table,
            (
                measured.behaviour,
                *suite.checks_of(name),
                *measured.matched_by,
                *(o for o in measured.others if o.role != "cost"),
            ),
        ),
        pushes=(pushed := pushes(plan, table, measured)),
        p_at_equal_kl=p_at_equal_kl(
            pushed,
            {kind: group.planned for kind, group in measured.controls.items()},
            LINE if shape is None else shape.name,
        ),
        specifications=specifications(plan, table, measured),
    )
    story = Story(
        plan, reason, measured.fit.doses or (0.0,), measured.gap, run.encoded_p, _blocking(measured), evidence.answered
    )
    return card.model_copy(update={"sentence": sentence(card, story)}), reason


def _explained(card: AnswerCard, cards: Sequence[AnswerCard], plan: Plan, suite: Suite) -> AnswerCard:
    """With what the samples say of why no effect was shown."""
    return card.model_copy(update={"why": why(card, cards, plan, leader=leader(plan, suite, card.behaviour))})


def _blocking(measured: Measured) -> tuple[str, ...]:
    """What blocks the answer, the first gap first."""
    return tuple(dict.fromkeys(gap.words for gap in measured.gaps if gap.part))[:3]


def _samples(table: Table, measured: Measured) -> int:
    """Rows that the answer rests on: every cell of the direction at its layer, the controls', the baselines, and the
    layer searches."""
    layer = -1 if measured.layer is None else measured.layer
    name = measured.behaviour.name
    total = len(table.select(name, "direction", measured.direction))
    for behaviour in (measured.behaviour, *measured.matched_by, *measured.others):
        total += len(table.baseline(behaviour.name))
        total += sum(len(cell) for cell in table.doses(behaviour.name, "direction", measured.direction, layer).values())
    return total + sum(group.samples for group in measured.controls.values())


def _more(plan: Plan, table: Table, measured: Measured, reason: Reason, first: Sequence[Gate]) -> int | None:
    """About how many more scenarios (or probes, or samples) a cell would settle an inconclusive answer."""
    if reason == "samples missing":
        return max((gap.short for gap in measured.gaps if gap.part), default=0) or None
    if reason == "gates unclear":
        unclear = [gate for gate in first if gate.state == "unclear"]
        return more_probes(unclear, [_pairs(table, measured, gate) for gate in unclear]) if unclear else None
    n, limits = len(measured.fit.changes), plan.thresholds
    if reason == "matched unclear" and measured.gap.value and measured.gap.low is not None:
        # The interval of the difference shrinks with the root of n, and must shrink to its value.
        return max(1, math.ceil(n * (((measured.gap.value - measured.gap.low) / measured.gap.value) ** 2 - 1)))
    if reason not in ("noise", "controls as large") or measured.spread <= 0 or measured.fit.effect.value is None:
        return None
    effect, half, design = measured.fit.effect.value, measured.fit.effect.half_width, _design(plan, measured)
    if half is not None and half <= limits.smallest_effect:
        # Precise enough already: only an effect that stands out from its controls is left to be found.
        enough = needed(abs(effect), design)
        return None if enough is None or enough <= n else enough - n
    return more_scenarios(n, effect, design, smallest_effect=limits.smallest_effect)


def _design(plan: Plan, measured: Measured) -> Design:
    """What the power to find this direction's effect depends on."""
    return Design(
        spread=measured.spread,
        controls=[_compared(plan, kind, group) for kind, group in measured.controls.items()] or [1],
        tests=len(plan.directions),
        family=len(plan.family(measured.behaviour.name)),
        contrasts=max(1, len(measured.fit.shapes)),
        alpha=plan.thresholds.alpha,
        control_sd=measured.control_sd,
    )


def _compared(plan: Plan, kind: ControlKind, group: Controls) -> int:
    """Values that a direction is compared with if all controls of a kind are asked."""
    whole = int(getattr(plan.controls, kind))
    return group.compared if group.planned == whole else 2 * whole + 1 if group.signed else whole


def _pairs(table: Table, measured: Measured, gate: Gate) -> int:
    """Pairs behind a gate."""
    others = (*measured.others, measured.behaviour)
    behaviours = [other for other in others if other.name == gate.of]
    if gate.kind.about == "accuracy":
        behaviours = [other for other in others if other.role == "capability"]
    elif not behaviours:  # perplexity, repetition, endings of the one writing behaviour
        behaviours = [other for other in others if other.role in ("writing", "effect") and other.ask == "text"][:1]
    before, after = cells_of(
        table, behaviours, measured.direction, -1 if measured.layer is None else measured.layer, gate.dose
    )
    return sum(len(pairs(*both, "outcome")[0]) for both in zip(before, after, strict=True))


def _power(plan: Plan, measurements: Sequence[Measured]) -> str:
    """What these samples can detect, for the direction whose scenarios differ most."""
    compared = [measured for measured in measurements if measured.controls] or measurements
    widest = max(compared, key=lambda measured: measured.spread, default=None)
    if widest is None or widest.spread <= 0:
        return "What these samples can detect is not known: no two scenarios have different effects yet."
    if not widest.controls:
        return "What these samples can detect is not known: no control was sampled."
    independent = len(widest.fit.changes)
    sentence = summarise(independent, _design(plan, widest), doses=plan.window_with_zero).sentence
    sampled = len(widest.fit.per_dose)
    alike = f" The {sampled} scenarios count as {independent}: those that share a situation are not independent."
    return sentence + (alike if independent < sampled else "")
