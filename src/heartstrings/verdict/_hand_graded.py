"""What hand grades say of automatic ones: agreement by side of dose, corrected changes, and what they leave open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.hand_grades import Decided, counts, key_of
from heartstrings.experiment.ledger import Sample
from heartstrings.experiment.plan import Plan
from heartstrings.stats.contrasts import LINE, contrasts
from heartstrings.stats.estimate import Estimate, estimate
from heartstrings.stats.intervals import LEAST_PAIRS, Interval, mean_interval
from heartstrings.stats.ppi import bounds, contrast_mean, ppi_contrast
from heartstrings.verdict.measured import Measured
from heartstrings.verdict.results import Agreement, AnswerCard, HandChange, HandGraded
from heartstrings.verdict.tables import NOTHING, Table, zero

MOVED = ("controls", "controls, no safe range", "moves, not specifically")
SIDES = ("all", "unsteered", "dose < 0", "dose > 0")


def with_hand_grades(card: AnswerCard, measured: Measured, plan: Plan, table: Table, grades: Decided) -> AnswerCard:
    """The card with what hand grades say of it: beside the answer, which stays as it is, and in `missing` where they
    take from it."""
    hand_graded: list[HandGraded] = []
    for behaviour in (measured.behaviour, *measured.others):
        graded = _graded(behaviour, measured, plan, table, grades, card.shape)
        hand_graded += [graded] if graded is not None else []
    notes = tuple(note for graded in hand_graded for note in _notes(card, graded, plan))
    return card.model_copy(update={"hand_graded": tuple(hand_graded), "missing": (*card.missing, *notes)})


def agreements(samples: Iterable[Sample], grades: Decided) -> tuple[Agreement, ...]:
    """Automatic against hand grades, over all texts that were graded by hand and by side of dose; a side without one is
    left out."""
    rows = [(sample, grades[key]) for sample in samples if (key := key_of(sample)) in grades]
    sides = [(side, [row for row in rows if side in ("all", _side(row[0]))]) for side in SIDES]
    return tuple(_agreement(side, chosen) for side, chosen in sides if chosen)


def _side(sample: Sample) -> str:
    dose = sample.cell.dose
    return "unsteered" if sample.cell.kind == "baseline" or dose == 0 else "dose > 0" if dose > 0 else "dose < 0"


def _agreement(side: str, rows: Sequence[tuple[Sample, float | None]]) -> Agreement:
    both = [
        (sample.outcome, hand, sample.group) for sample, hand in rows if sample.outcome is not None and hand is not None
    ]
    cells = {(a, h): sum((auto, hand) == (a, h) for auto, hand, _ in both) for a in (0.0, 1.0) for h in (0.0, 1.0)}

    def share(truth: float) -> Estimate:
        of = [(float(auto == truth), group) for auto, hand, group in both if hand == truth]
        return estimate(mean_interval([right for right, _ in of], [group for _, group in of]) if of else NOTHING)

    return Agreement(
        side=side,
        n=len(both),
        both=cells[1.0, 1.0],
        hand_only=cells[0.0, 1.0],
        automatic_only=cells[1.0, 0.0],
        neither=cells[0.0, 0.0],
        automatic_unclear=sum(sample.outcome is None for sample, hand in rows if hand is not None),
        hand_unclear=sum(hand is None for _, hand in rows),
        sensitivity=share(1.0),
        specificity=share(0.0),
        kappa=_kappa(np.array([[cells[a, h] for h in (1.0, 0.0)] for a in (1.0, 0.0)])),
    )


def _kappa(table: np.ndarray) -> Estimate:
    """Cohen's (1960) with its large-sample interval (Fleiss, Cohen and Everitt 1969). No interval where the two never
    differ, or where one of them gives one grade alone; no value where both do."""
    from statsmodels.stats.inter_rater import cohens_kappa

    constant = [bool((table.sum(axis=axis) > 0).sum() < 2) for axis in (0, 1)]
    if any(constant):
        return Estimate(value=None if all(constant) else 0.0, low=None, high=None)
    kappa = cohens_kappa(table)
    if table[0, 1] + table[1, 0] == 0:
        return Estimate(value=float(kappa.kappa), low=None, high=None)
    return Estimate(value=float(kappa.kappa), low=max(-1.0, kappa.kappa_low), high=min(1.0, kappa.kappa_upp))


def _graded(
    behaviour: Behaviour, measured: Measured, plan: Plan, table: Table, grades: Decided, shape: str
) -> HandGraded | None:
    """None where no text of these cells was graded by hand."""
    effect = behaviour.name == measured.behaviour.name
    if behaviour.ask == "choice" or measured.layer is None:
        return None
    doses = table.doses(behaviour.name, "direction", measured.direction, measured.layer)
    columns = {0.0: table.baseline(behaviour.name), **doses}
    rows = {dose: [row for row in column.rows if counts(row)] for dose, column in columns.items()}
    known = [row for column in rows.values() for row in column if key_of(row) in grades]
    if not known:
        return None
    if effect:
        compared = {0.0: zero(plan, columns[0.0]), **{d: doses[d] for d in plan.compared(behaviour.name) if d in doses}}
        there = measured.fit.doses or tuple(sorted(dose for dose, column in compared.items() if len(column)))
        wanted = {shape: _weights(shape, there)}
    else:
        ends = (dose for dose in (min(plan.window), max(plan.window)) if dose in doses)
        wanted = {f"at {dose:g}": {dose: 1.0, 0.0: -1.0} for dose in dict.fromkeys(ends)}
    return HandGraded(
        behaviour=behaviour.name,
        n=sum(grades[key_of(row)] is not None for row in known),
        agreements=agreements(known, grades),
        changes=tuple(_change(name, weights, rows, grades) for name, weights in wanted.items() if weights),
    )


def _weights(shape: str, doses: Sequence[float]) -> dict[float, float]:
    """Of each dose in a contrast; empty where these doses do not have it."""
    names, weights = contrasts(doses)
    if shape not in names:
        return {}
    row = weights[names.index(shape)].tolist()
    return {dose: weight for dose, weight in zip(doses, row, strict=True) if abs(weight) > 1e-9}


def _change(
    shape: str, weights: Mapping[float, float], rows: Mapping[float, Sequence[Sample]], grades: Decided
) -> HandChange:
    of = [(dose, row, key_of(row)) for dose in weights for row in rows.get(dose, ())]
    dose, groups = [at for at, _, _ in of], [row.group for _, row, _ in of]
    automatic = [row.outcome for _, row, _ in of]

    def corrected(worst: float | None) -> Interval:
        """`worst`: what a text unclear by hand counts as where it adds to the change; where it takes from it, the
        opposite."""
        hand: list[float | None] = []
        for at, _, key in of:
            grade = grades.get(key)
            if key in grades and grade is None and worst is not None:
                grade = worst if weights[at] > 0 else 1.0 - worst
            hand.append(grade)
        return ppi_contrast(automatic, hand, dose, groups, weights=weights).estimate

    middle = corrected(None)
    if any(key in grades and grades[key] is None for _, _, key in of):
        least, most = corrected(0.0), corrected(1.0)
        middle = Interval(middle.value, least.low, most.high, middle.n, middle.missing)
    unclear = bounds(automatic, dose, groups, weights=weights)
    return HandChange(
        shape=shape,
        corrected=estimate(middle),
        uncorrected=estimate(contrast_mean(automatic, dose, groups, weights=weights)),
        unclear_low=estimate(unclear.low),
        unclear_high=estimate(unclear.high),
    )


def _notes(card: AnswerCard, graded: HandGraded, plan: Plan) -> list[str]:
    """In words, what the hand grades take from the answer."""
    notes = []
    gates = {(f"at {gate.dose:g}", gate.name): gate for gate in card.gates}
    limit = plan.thresholds.smallest_effect
    for change in graded.changes:
        low, high = change.corrected.low, change.corrected.high
        where = f"{graded.behaviour}, hand grades"
        if low is None or high is None:
            notes.append(f"{where}: under {LEAST_PAIRS} situations at a dose, too few to correct the automatic grades")
            continue
        said = f"corrected for the errors of the automatic grades, the change ({_named(change.shape)}) is "
        said += f"{_points(change.corrected.value)} points (95% interval {_points(low)} to {_points(high)})"
        if graded.behaviour == card.behaviour:
            if card.answer in MOVED and low <= 0 <= high:
                notes.append(f"{where}: {said}, which includes 0: `{card.answer}` rests on automatic grades alone")
            if card.answer == "encoded, does not control" and not (-limit < low and high < limit):
                notes.append(f"{where}: {said}, which does not rule out a change of {_points(limit)} points")
        gate = gates.get((change.shape, f"harm: {graded.behaviour}"))
        if gate is not None and gate.state == "holds" and high > gate.limit:
            notes.append(f"{where}: {said}; the limit of {_points(gate.limit)} points holds for automatic grades alone")
    return notes


def _named(shape: str) -> str:
    return "between the ends of the slope window" if shape == LINE else shape


def _points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.2g}" if abs(value) < 0.0995 else f"{100 * value:.0f}"
