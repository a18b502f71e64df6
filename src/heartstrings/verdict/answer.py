"""From a ledger to the verdict. The same ledger gives the same verdict, in whatever order its rows come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from heartstrings.core.version import __version__
from heartstrings.experiment.dose_fit import DoseFit
from heartstrings.experiment.hand_grades import Decided
from heartstrings.experiment.looks import told
from heartstrings.experiment.plan import DEFAULT_SEED, Plan
from heartstrings.experiment.sample_counts import leader
from heartstrings.stats.contrasts import LINE
from heartstrings.stats.estimate import estimate
from heartstrings.stats.nulls import holm_groups
from heartstrings.stats.power import Design, more_scenarios, needed, summarise
from heartstrings.verdict.calibration import calibration
from heartstrings.verdict.claims import claims
from heartstrings.verdict.curves import costs, curve, divergences
from heartstrings.verdict.decision import Evidence, Reason, weigh
from heartstrings.verdict.effects import at_doses, reliability, within
from heartstrings.verdict.examples import prompting, texts
from heartstrings.verdict.explored import discoveries
from heartstrings.verdict.gates import cells_of, more_probes, nearest, side
from heartstrings.verdict.hand_graded import with_hand_grades
from heartstrings.verdict.headroom import baselines
from heartstrings.verdict.measured import Measured, corrected, measure
from heartstrings.verdict.own import of_direction, unread
from heartstrings.verdict.preferred import Preferences
from heartstrings.verdict.pushes import p_at_equal_kl, pushes
from heartstrings.verdict.results import AnswerCard, Claim, Encoded, Gate, OwnEncoding, Verdict
from heartstrings.verdict.sentence import NO_EFFECT, Story, sentence
from heartstrings.verdict.specifications import specifications
from heartstrings.verdict.tables import NOTHING, Rows, Suite, Table, pairs
from heartstrings.verdict.together import banded
from heartstrings.verdict.understood import understood
from heartstrings.verdict.why import why

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
        ledger: finished or not; what is not there is listed in `missing` and leaves open what rests on it.
        encoded: what the atlas found; `not examined` where there is none.
        encoded_p: the p that rests on, for the sentence.
        doses: how the plan's doses were fitted to the model, where they were.
        story_coherence: of a direction at a layer, see `Reliability`.
        organism: the kind an organism's own card states. It is passed on, and never looked at.
        weights_hash, vectors_hash: fingerprints that the ledger is bound to, passed on too.
        grades: hand grades by key of the text (`heartstrings.experiment.hand_grades.decided`); None: there are none.
        own: whether the emotion of each direction is itself read (`heartstrings.verdict.own.own_encodings`); None where
            no atlas read it. A direction whose emotion is read is never `not encoded`.
    """
    of, plan = plan, plan.spent
    table = Table(ledger.samples())
    found = [
        measure(plan, table, suite, behaviour, direction) for behaviour in plan.effects for direction in plan.directions
    ]
    preferred = Preferences(plan, table, suite)
    ps = _corrected(plan, found)
    claimed = claims(plan, table, found)
    explored = discoveries(plan, found)
    weighed = [
        _card(
            plan,
            table,
            suite,
            one,
            ps[one.behaviour.name, one.direction],
            claimed[one.behaviour.name, one.direction],
            explored.get((one.behaviour.name, one.direction)),
            model,
            encoded,
            encoded_p,
            story_coherence,
            preferred,
            own,
        )
        for one in found
    ]
    cards = tuple(
        card if reason not in NO_EFFECT else _explained(card, [one for one, _ in weighed], plan, suite)
        for card, reason in weighed
    )
    if grades is not None:
        cards = tuple(with_hand_grades(card, one, plan, table, grades) for card, one in zip(cards, found, strict=True))
    return Verdict(
        package_version=__version__,
        plan_hash=of.hash,
        seed=plan.seed,
        thresholds=plan.thresholds,
        organism=organism,
        power=_power(plan, found),
        doses=doses,
        answers=cards,
        calibration=calibration(plan, found),
        weights_hash=weights_hash,
        vectors_hash=vectors_hash,
        look=of.look + 1,
        looks=len(of.looks) + 1,
        notes=(*told(of), *_seed(of)),
    )


def _seed(plan: Plan) -> tuple[str, ...]:
    """Said where it is not the one that every plan has: of several seeds one can be picked for its answer."""
    if plan.seed == DEFAULT_SEED:
        return ()
    return (f"Seed {plan.seed} was chosen; a plan has {DEFAULT_SEED} otherwise. Ask for the runs with other seeds.",)


def _corrected(plan: Plan, found: Sequence[Measured]) -> dict[tuple[str, str], float | None]:
    """p of each behaviour and direction, corrected over the behaviours of its family, then over directions."""
    ps: dict[tuple[str, str], float | None] = {}
    for family in dict.fromkeys(plan.family(name) for name in plan.effects):
        groups = [
            [one for one in found if one.direction == name and one.behaviour.name in family] for name in plan.directions
        ]
        for group, values in zip(groups, holm_groups([corrected(group) for group in groups]), strict=True):
            for one, p in zip(group, values, strict=True):
                if plan.family(one.behaviour.name) == family:
                    ps[one.behaviour.name, one.direction] = p
    return ps


def _card(
    plan: Plan,
    table: Table,
    suite: Suite,
    one: Measured,
    p: float | None,
    claimed: tuple[Claim, ...],
    discovery: bool | None,
    model: str,
    encoded: Encoded,
    encoded_p: float | None,
    coherence: StoryCoherence | None,
    preferred: Preferences,
    own: Mapping[str, OwnEncoding | None] | None,
) -> tuple[AnswerCard, Reason]:
    sides = side(plan, one.gates, -1), side(plan, one.gates, 1)
    shape = one.fit.shape
    inner = within(plan, table, one.behaviour.name, one.direction, one.layer, sides, one.collapsed, shape)
    ends = (nearest(plan, -1), nearest(plan, 1), 0.0)
    first = tuple(gate for gate in one.gates if gate.dose in ends)
    evidence = Evidence(
        encoded=of_direction(encoded, (own or {}).get(one.direction), plan.thresholds.alpha),
        effect=NOTHING if shape is None else shape.change,
        at_doses=at_doses(plan, table, one.behaviour, one.direction, one.layer, one.collapsed, one.fit),
        p=p,
        gap=one.gap,
        exceeds_matched=one.exceeds,
        matched_asked=bool(one.matched_by),
        control_bounds=tuple(
            float(np.quantile(np.abs(sizes), 0.95))
            for group in one.controls.values()
            if shape is not None and len(sizes := group.changes[shape.name])
        ),
        collapsed=bool(one.collapsed & set(plan.window)),
        negative_side=sides[0],
        positive_side=sides[1],
        within_range=inner,
        first=first,
        unfinished={gap.part for gap in one.gaps if gap.part},
        understood=understood(one.checks),
        answered=table.baseline(one.behaviour.name).mean("valid"),
    )
    answer, reason = weigh(evidence, plan.thresholds)
    layer = -1 if one.layer is None else one.layer
    name = one.behaviour.name
    baseline = table.baseline(name)
    doses = table.doses(name, "direction", one.direction, layer)
    written = [
        text for text in (one.behaviour, *one.others) if text.ask == "text" and text.role in ("effect", "writing")
    ]
    card = AnswerCard(
        model=model,
        behaviour=name,
        direction=one.direction,
        site=plan.site,
        layer=layer,
        answer=answer,
        range=(sides[0] or 0.0, sides[1] or 0.0) if answer == "controls" else None,
        within_range=None if inner is None else estimate(inner),
        slope=estimate(one.fit.slope),
        p=p,
        samples=_samples(table, one),
        sentence="",
        encoded=encoded,
        own_encoding=(own or {}).get(one.direction),
        p_uncorrected=one.p,
        effect=estimate(one.fit.effect),
        shape=LINE if shape is None else shape.name,
        shown=None if shape is None else estimate(shape.change),
        matched=estimate(one.matched),
        exceeds_matched=one.exceeds,
        controls=tuple(group.group for group in one.controls.values()),
        curve=banded(curve(baseline, doses, one.behaviour), baseline, doses, seed=plan.seed),
        costs=costs(table, one.behaviour, one.others, one.direction, layer),
        control_costs=divergences(table, one.others, one.direction, plan.window),
        gates=one.gates,
        positive_side=sides[1],
        negative_side=sides[0],
        reliability=reliability(one.fit, coherence, one.direction, layer) if len(one.fit.per_dose) else None,
        layers=one.search,
        prompting=prompting(table, name, one.direction),
        preferences=preferred.of(one.direction, layer),
        texts=texts(plan, table, suite, written, one.direction, layer),
        missing=tuple(dict.fromkeys((*(gap.words for gap in one.gaps), *unread(own, one.direction)))),
        more=_more(plan, table, one, reason, first),
        checks=one.checks,
        discovery=discovery,
        claims=claimed,
        baselines=baselines(
            table,
            (one.behaviour, *suite.checks_of(name), *one.matched_by, *(o for o in one.others if o.role != "cost")),
        ),
        pushes=(pushed := pushes(plan, table, one)),
        p_at_equal_kl=p_at_equal_kl(
            pushed, {kind: group.planned for kind, group in one.controls.items()}, LINE if shape is None else shape.name
        ),
        specifications=specifications(plan, table, one),
    )
    story = Story(plan, reason, one.fit.doses or (0.0,), one.gap, encoded_p, _held_up(one), evidence.answered)
    return card.model_copy(update={"sentence": sentence(card, story)}), reason


def _explained(card: AnswerCard, cards: Sequence[AnswerCard], plan: Plan, suite: Suite) -> AnswerCard:
    """With what the samples say of why no effect was shown."""
    return card.model_copy(update={"why": why(card, cards, plan, leader=leader(plan, suite, card.behaviour))})


def _held_up(one: Measured) -> tuple[str, ...]:
    """What holds the answer up, the first thing first."""
    return tuple(dict.fromkeys(gap.words for gap in one.gaps if gap.part))[:3]


def _samples(table: Table, one: Measured) -> int:
    """Rows that the answer rests on: every cell of the direction at its layer, the controls', the baselines, and the
    layer searches."""
    layer = -1 if one.layer is None else one.layer
    name = one.behaviour.name
    total = len(table.select(name, "direction", one.direction))
    for behaviour in (one.behaviour, *one.matched_by, *one.others):
        total += len(table.baseline(behaviour.name))
        total += sum(len(cell) for cell in table.doses(behaviour.name, "direction", one.direction, layer).values())
    return total + sum(group.samples for group in one.controls.values())


def _more(plan: Plan, table: Table, one: Measured, reason: Reason, first: Sequence[Gate]) -> int | None:
    """About how many more scenarios (or probes, or samples) a cell would settle an inconclusive answer."""
    if reason == "samples missing":
        return max((gap.short for gap in one.gaps if gap.part), default=0) or None
    if reason == "gates unclear":
        unclear = [gate for gate in first if gate.state == "unclear"]
        return more_probes(unclear, [_pairs(table, one, gate) for gate in unclear]) if unclear else None
    n, limits = len(one.fit.changes), plan.thresholds
    if reason == "matched unclear" and one.gap.value and one.gap.low is not None:
        # The interval of the difference shrinks with the root of n, and must shrink to its value.
        return max(1, math.ceil(n * (((one.gap.value - one.gap.low) / one.gap.value) ** 2 - 1)))
    if reason not in ("noise", "controls as large") or one.spread <= 0 or one.fit.effect.value is None:
        return None
    effect, half, design = one.fit.effect.value, one.fit.effect.half_width, _design(plan, one)
    if half is not None and half <= limits.smallest_effect:
        # Precise enough already: only an effect that stands out from its controls is left to be found.
        enough = needed(abs(effect), design)
        return None if enough is None or enough <= n else enough - n
    return more_scenarios(n, effect, design, smallest_effect=limits.smallest_effect)


def _design(plan: Plan, one: Measured) -> Design:
    """What the power to find this direction's effect depends on."""
    return Design(
        spread=one.spread,
        controls=[group.compared for group in one.controls.values()] or [1],
        tests=len(plan.directions),
        family=len(plan.family(one.behaviour.name)),
        contrasts=max(1, len(one.fit.shapes)),
        alpha=plan.thresholds.alpha,
        control_sd=one.control_sd,
    )


def _pairs(table: Table, one: Measured, gate: Gate) -> int:
    """Pairs behind a gate."""
    others = (*one.others, one.behaviour)
    kind, _, name = gate.name.partition(": ")
    behaviours = [other for other in others if other.name == name]
    if kind == "accuracy":
        behaviours = [other for other in others if other.role == "capability"]
    elif not behaviours:  # perplexity, repetition, endings of the one writing behaviour
        behaviours = [other for other in others if other.ask == "text"][:1]
    before, after = cells_of(table, behaviours, one.direction, -1 if one.layer is None else one.layer, gate.dose)
    return sum(len(pairs(*both, "outcome")[0]) for both in zip(before, after, strict=True))


def _power(plan: Plan, found: Sequence[Measured]) -> str:
    """What these samples can detect, for the direction whose scenarios differ most."""
    compared = [one for one in found if one.controls] or found
    widest = max(compared, key=lambda one: one.spread, default=None)
    if widest is None or widest.spread <= 0:
        return "What these samples can detect is not known: no two scenarios have different effects yet."
    if not widest.controls:
        return "What these samples can detect is not known: no control was sampled."
    independent = len(widest.fit.changes)
    window = (min((0.0, *plan.window)), max((0.0, *plan.window)))
    sentence = summarise(independent, _design(plan, widest), doses=window).sentence
    sampled = len(widest.fit.per_dose)
    alike = f" The {sampled} scenarios count as {independent}: those that share a situation are not independent."
    return sentence + (alike if independent < sampled else "")
