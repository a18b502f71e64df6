"""The answer in plain English, with its numbers. It speaks of what the model does, never of what it feels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from heartstrings.experiment.plan import Plan
from heartstrings.stats.contrasts import LINE
from heartstrings.stats.estimate import Estimate
from heartstrings.stats.intervals import Interval
from heartstrings.verdict._gates import nearest
from heartstrings.verdict.decision import Reason
from heartstrings.verdict.results import AnswerCard, Claim, Gate
from heartstrings.verdict.tables import steered_doses

SIDES: tuple[Literal[-1, 1], Literal[-1, 1]] = (-1, 1)
"""Of 0."""


@dataclass(frozen=True)
class Story:
    """What a sentence needs beside the card."""

    plan: Plan
    reason: Reason
    doses: tuple[float, ...]
    """Of the slope window, as fitted."""
    gap: Interval
    encoded_p: float | None
    gaps: tuple[str, ...]
    """What blocks the answer, in words."""
    answered: float | None = None
    """Unsteered, the mean share of valid answers on the effect behaviour."""


def sentence(card: AnswerCard, story: Story) -> str:
    """One to five sentences."""
    parts = [*_PARTS[story.reason](card, story), _own(card, story), _claims(card), _headroom(card, story)]
    return " ".join(part for part in parts if part)


def _not_encoded(card: AnswerCard, story: Story) -> list[str]:
    p = _encoded_p(story)
    return [
        f"The atlas finds no emotion encoded in this model{p}, so {card.direction} names no direction to steer along.",
        f"With what was extracted under that name, {_moved(card)}." if card.effect.value is not None else "",
    ]


def _encoding_unclear(card: AnswerCard, story: Story) -> list[str]:
    p = _encoded_p(story)
    finding = f"the atlas could not tell whether emotion is encoded in this model{p}"
    if card.encoded == "not encoded":
        finding = f"the atlas finds no emotion encoded in this model{p}, and yet {card.direction} itself is read"
    return [
        f"Inconclusive: {finding}, so what steering along {card.direction} does cannot be put down to emotion.",
        "More stories or more rated emotions would settle it.",
        f"{_capital(_moved(card))}." if card.effect.value is not None else "",
    ]


def _missing(card: AnswerCard, story: Story) -> list[str]:
    gaps = "; ".join(story.gaps) or "samples"
    return [f"Inconclusive so far for {card.direction}: {gaps}.", _more(card, "samples a cell")]


def _no_answers(card: AnswerCard, story: Story) -> list[str]:
    share, least = story.answered or 0.0, story.plan.thresholds.least_valid
    return [
        f"Inconclusive: unsteered, {100 * share:.2g}% of the model's answers to the questions of {card.behaviour} are "
        f"valid ({least:.0%} at least are needed), so what steering does to them says nothing about {card.direction}."
    ]


def _not_told_apart(card: AnswerCard, story: Story) -> list[str]:
    failures = []
    for check in card.checks:
        if check.holds is not False:
            continue
        p = "" if check.p is None else f", p = {_p(check.p)}"
        if check.what == "known answers":
            failures.append(
                f"on {check.n} questions of this form with a known answer ({check.behaviour}) it is at "
                f"{_percent(check.outcome.value or 0.0)}, where {_percent(check.chance)} is chance{p}"
            )
        else:
            failures.append(f"its {check.n} answers differ by the order of the options and not by the question{p}")
    return [
        f"Inconclusive: the model does not tell the options of {card.behaviour} apart: {'; '.join(failures)}.",
        "What steering does to such answers says nothing about the question.",
    ]


def _collapsed(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"Inconclusive: {_where(card)}, too few doses of the slope window leave the answers coherent to say what "
        f"{card.direction} does to {card.behaviour}.",
        f"Smaller doses would settle it: --dose {','.join(f'{dose:g}' for dose in _smaller(story.plan))}.",
    ]


def _smaller(plan: Plan) -> tuple[float, ...]:
    """A quarter and a half of the smallest dose of the slope window, on the sides that it has."""
    least = min(abs(dose) for dose in plan.window)
    sizes = (-least / 2, -least / 4, 0.0, least / 4, least / 2)
    low, high = plan.window_with_zero
    return tuple(size for size in sizes if low <= size <= high)


def _rare(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"Inconclusive: {_where(card)}, the {card.curve.outcome_name} is too rare, or its situations are too few, "
        f"for an interval of what {card.direction} does to it."
    ]


def _small(card: AnswerCard, story: Story) -> list[str]:
    limit, reach = _points(story.plan.thresholds.smallest_effect), max(map(abs, story.plan.window))
    return [
        f"{_subject(card)} does not control {card.behaviour}: {_moved(card)}, and at every dose up to {reach:g} it "
        f"stays within {limit} of the baseline.",
        _encoded(card, story),
    ]


def _as_controls(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"{_subject(card)} moves {card.behaviour}, and not specifically: {_moved(card)}, no more than "
        f"{_count(card)} do.",
        _encoded(card, story),
    ]


def _controls(card: AnswerCard, story: Story) -> list[str]:
    low, high = card.range or (0.0, 0.0)
    unknown = _encoded(card, story) if card.encoded in ("not encoded", "inconclusive") else ""
    if not card.gates:
        return [f"{_headline(card, story)}.", f"No cost was examined at any dose from {low:g} to {high:g}.", unknown]
    kept = _listed(dict.fromkeys(gate.kind.about for gate in card.gates))
    span = f"Doses from {low:g} to {high:g} keep {kept} within {'its limit' if ' and ' not in kept else 'their limits'}"
    if card.within_range is not None:
        span += f", and change the {card.curve.outcome_name} by {change_words(card.within_range)}"
    return [f"{_headline(card, story)}.", f"{span}{_beyond(card, low, high, story)}.", unknown]


def _gate_fails(card: AnswerCard, story: Story) -> list[str]:
    first = [dose for sign in SIDES if (dose := nearest(story.plan, sign)) is not None]
    broken = [(dose, words) for dose in first if (words := _worst(card.gates, dose))]
    return [f"{_headline(card, story)}, but no range around 0 is safe: {'; '.join(_together(broken))}."]


def _gates_unclear(card: AnswerCard, story: Story) -> list[str]:
    broken = []
    for sign, reach in zip(SIDES, (card.negative_side, card.positive_side), strict=True):
        dose = nearest(story.plan, sign)
        if dose is not None and reach is None and (words := _worst(card.gates, dose)):
            broken.append((dose, words))
    return [
        f"{_headline(card, story, verb='moves')}, but whether any range is safe is inconclusive: "
        f"{'; '.join(_together(broken))}.",
        _more(card, "probes a cell"),
    ]


def _not_within_range(card: AnswerCard, story: Story) -> list[str]:
    low, high = card.negative_side or 0.0, card.positive_side or 0.0
    inside = change_words(card.within_range) if card.within_range is not None else "an unknown amount"
    return [
        f"{_headline(card, story, verb='moves')}, but whether it does so at a safe dose is inconclusive: doses from "
        f"{low:g} to {high:g} keep every limit and change the {card.curve.outcome_name} by {inside}"
        f"{_beyond(card, low, high, story)}."
    ]


def _as_matched(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"Inconclusive: {_where(card)}, {_moved(card)}, but the same direction moves the content-matched control "
        f"questions by {change_words(card.matched)}: a general lean of the answers explains it as well."
    ]


def _matched_unclear(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"Inconclusive: {_where(card)}, {_moved(card)}, more than the content-matched control questions "
        f"({change_words(card.matched)}), but by an amount that these samples cannot tell from none.",
        _more(card, "scenarios a cell"),
    ]


def _controls_as_large(card: AnswerCard, story: Story) -> list[str]:
    return [
        f"Inconclusive: {_where(card)}, {_moved(card)}, but {_count(card)} are not clearly exceeded "
        f"(p = {_p(card.p)}, {_tests(story.plan, card.behaviour, card.direction)}).",
        _more(card, "scenarios a cell"),
    ]


def _noise(card: AnswerCard, story: Story) -> list[str]:
    if card.effect.low is None:
        return [
            f"Inconclusive: {_where(card)}, the answers do not carry an interval for the effect of {card.direction}."
        ]
    limit = _points(story.plan.thresholds.smallest_effect)
    alone = (card.effect.low or 0.0) > 0 or (card.effect.high or 0.0) < 0
    shown = "shows one" + (" once it is corrected over the shapes of the dose curve" if alone else "")
    return [
        f"Inconclusive: {_where(card)}, {_moved(card)}, which neither rules out an effect of {limit} nor {shown}.",
        _more(card, "scenarios a cell"),
    ]


_PARTS = {
    "not encoded": _not_encoded,
    "encoding unclear": _encoding_unclear,
    "samples missing": _missing,
    "no answers": _no_answers,
    "not told apart": _not_told_apart,
    "collapsed": _collapsed,
    "rare": _rare,
    "small": _small,
    "as controls": _as_controls,
    "controls": _controls,
    "gate fails": _gate_fails,
    "gates unclear": _gates_unclear,
    "not within range": _not_within_range,
    "as matched": _as_matched,
    "matched unclear": _matched_unclear,
    "controls as large": _controls_as_large,
    "noise": _noise,
}


NO_EFFECT: frozenset[Reason] = frozenset(["small", "as controls", "controls as large", "noise", "rare"])
"""Reasons of an answer that saw no effect."""


EXCEEDS = {
    "mixtures of emotions": "random mixtures of other emotions",
    "other emotions": "emotions of other families",
}
"""What a claim beyond the controls compares with."""


def _claims(card: AnswerCard) -> str:
    """Where the effect is shown: which further claims are, and where they end."""
    if not card.answer.startswith("controls"):
        return ""
    further = [claim for claim in card.claims if claim.name not in ("any push", "natural text")]
    shown = [claim for claim in further if claim.state == "shown"]
    parts = []
    beaten = [f"{EXCEEDS[claim.name]} ({_rank(claim)}p = {_p(claim.p)})" for claim in shown if claim.name in EXCEEDS]
    if beaten:
        parts.append(f"It moves it further than {_listed(beaten)}.")
    if any(claim.name not in EXCEEDS for claim in shown):
        parts.append(f"So does what is left of it without valence and arousal (p = {_p(shown[-1].p)}).")
    for claim in further:
        if claim.state != "not shown":
            continue
        if claim.name in EXCEEDS:
            parts.append(f"That it exceeds {EXCEEDS[claim.name]} is not shown ({_rank(claim)}p = {_p(claim.p)}).")
        else:
            parts.append(
                f"That what is left of it without valence and arousal still does so is not shown (p = {_p(claim.p)})."
            )
    return " ".join(parts)


def _rank(claim: Claim) -> str:
    return f"rank {claim.rank} of {claim.compared + 1}, " if claim.rank is not None else ""


def _headroom(card: AnswerCard, story: Story) -> str:
    """Where no effect was seen: what could not have been seen here."""
    own = next((baseline for baseline in card.baselines if baseline.behaviour == card.behaviour), None)
    if own is None or own.flag is None or story.reason not in NO_EFFECT:
        return ""
    return f"Unsteered, the {card.curve.outcome_name} is at its {own.flag}."


def _subject(card: AnswerCard) -> str:
    return f"Steering along {card.direction} at layer {card.layer} ({card.site})"


def _where(card: AnswerCard) -> str:
    return f"steering along {card.direction} at layer {card.layer} ({card.site})"


def _headline(card: AnswerCard, story: Story, *, verb: str = "controls") -> str:
    points = {point.dose: point.estimate.value for point in card.curve.points}
    goes = _goes(card, story, points)
    return (
        f"{_subject(card)} {verb} {card.behaviour}: the {card.curve.outcome_name}{goes} "
        f"({_against(card, story.plan)}, {_tests(story.plan, card.behaviour, card.direction)})"
    )


def _goes(card: AnswerCard, story: Story, points: Mapping[float, float | None]) -> str:
    """` goes from 10% at dose -0.2 to 80% at 0.2`; where the response is no line, from the baseline to the doses at
    which it shows."""
    low, high = min(story.doses), max(story.doses)
    if card.shape in (LINE, "step"):
        start, doses = low, [high]
    elif card.shape.startswith("at "):
        start, doses = 0.0, [float(card.shape.removeprefix("at "))]
    else:
        ends = {"positive": [high], "negative": [low]}.get(card.shape, [low, high])
        start, doses = 0.0, ends
    values = [points.get(dose) for dose in (start, *doses)]
    if any(value is None for value in values):
        return ""
    first, *shares = (_percent(value or 0.0) for value in values)
    reached = " and ".join(f"to {share} at {dose:g}" for share, dose in zip(shares, doses, strict=True))
    return f" goes from {first} {'unsteered' if start == 0 else f'at dose {start:g}'} {reached}"


def _against(card: AnswerCard, plan: Plan) -> str:
    """Where no control comes near, p is as small as so many controls allow: say that, and not the p alone. Where the
    sign is declared, each control counts in both of its directions, and the reverse of the direction too."""
    both = 2 if plan.sign(card.behaviour, card.direction) else 1
    beaten = all(group.p <= 1 / (both * (len(group.slopes) + 1)) + 1e-12 for group in card.controls)
    if beaten and card.controls:
        return f"none of {_count(card)} moves it as far: p = {_p(card.p)}"
    return f"p = {_p(card.p)} against {_count(card)}"


def _moved(card: AnswerCard) -> str:
    """`the rate of cheating changes by -0.3 points (95% interval -1 to 0.4) over the slope window`"""
    if card.shape == LINE or card.shown is None:
        return f"the {card.curve.outcome_name} changes by {change_words(card.effect)} over the slope window"
    where = {"both sides": "on both sides of 0", "positive": "at positive doses", "negative": "at negative doses"}.get(
        card.shape, "from negative to positive doses" if card.shape == "step" else card.shape.replace("at", "at dose")
    )
    return f"the {card.curve.outcome_name} changes by {change_words(card.shown)} {where}"


def change_words(value: Estimate) -> str:
    """`-0.3 points (95% interval -1 to 0.4)`"""
    if value.value is None:
        return "an unknown amount"
    text = _points(value.value)
    if value.low is None or value.high is None:
        return text
    return f"{text} (95% interval {_bare(value.low)} to {_bare(value.high)})"


def _encoded(card: AnswerCard, story: Story) -> str:
    """What the atlas found, beside what steering does."""
    p = _encoded_p(story)
    return {
        "encoded": "The atlas does find emotion encoded.",
        "not encoded": f"The atlas finds no emotion encoded in this model{p}: what the direction means is not shown.",
        "inconclusive": f"Whether emotion is encoded in this model is inconclusive{p}.",
        "not examined": "Whether emotion is encoded was not examined.",
    }[card.encoded]


def _encoded_p(story: Story) -> str:
    return "" if story.encoded_p is None else f" (p = {_p(story.encoded_p)})"


def _own(card: AnswerCard, story: Story) -> str:
    """Whether the emotion that is steered is itself read, beside what words alone tell."""
    own = card.own_encoding
    if own is None or own.p is None or story.reason == "samples missing":
        return ""
    read = "is read" if own.p < story.plan.thresholds.alpha else "is not shown to be read"
    words = "" if own.words is None else f"; from words alone AUC {own.words:.2f}"
    p = f"p = {_p(own.p)}".replace("= <", "<")
    return f"Its own emotion {read} on held-out topics (AUC {own.auc:.2f}, {p}{words})."


def _beyond(card: AnswerCard, low: float, high: float, story: Story) -> str:
    """What breaks at the first tested dose outside a range, on either side: `; at 0.2 accuracy may fall by ...`"""
    doses = steered_doses(story.plan)
    below, above = [dose for dose in doses if dose < low], [dose for dose in doses if dose > high]
    broken = [(dose, words) for dose in (*below[-1:], *above[:1]) if (words := _worst(card.gates, dose))]
    return "".join(f"; {words}" for words in _together(broken))


def _worst(gates: Sequence[Gate], dose: float) -> str:
    """What breaks at a dose: what fails, else what may, else what is missing."""
    here = [gate for gate in gates if gate.dose == dose and gate.state != "holds"]
    order = {"fails": 0, "unclear": 1, "missing": 2}
    here.sort(key=lambda gate: (order.get(gate.state, 3), -_excess(gate)))
    return _broken(here[0]) if here else ""


def _together(broken: Sequence[tuple[float, str]]) -> list[str]:
    """`at -1 and 1 accuracy ...`: what breaks alike at several doses is said once."""
    doses: dict[str, dict[str, None]] = {}
    for dose, words in broken:
        doses.setdefault(words, {})[f"{dose:g}"] = None
    return [f"at {_listed(at)} {words}" for words, at in doses.items()]


def _excess(gate: Gate) -> float:
    """How many times its limit a gate is at, on its bad side."""
    worse = gate.kind.worse
    end = gate.change.high if worse > 0 else gate.change.low
    return 0.0 if end is None or not gate.limit else worse * end / gate.limit


def _broken(gate: Gate) -> str:
    name = gate.kind.measured
    if gate.of not in ("", gate.kind.measured) and gate.kind.about != "validity":
        name += f" ({gate.of})"
    if gate.state == "missing":
        return f"{name} was not measured"
    rise = gate.kind.worse > 0
    near, far = (gate.change.low, gate.change.high) if rise else (gate.change.high, gate.change.low)
    if near is None or far is None:
        return f"{name} has too few pairs to judge"
    size, limit = (near, gate.limit) if gate.state == "fails" else (far, gate.limit)
    shown = _nats(abs(size)) if gate.in_nats else _points(abs(size))
    bound = f"{limit:g}" if gate.in_nats else _bare(limit)
    verb = (
        ("rises" if rise else "falls") + " by at least"
        if gate.state == "fails"
        else f"may {'rise' if rise else 'fall'} by"
    )
    return f"{name} {verb} {shown} (limit {bound})"


def _more(card: AnswerCard, what: str) -> str:
    return "" if card.more is None else f"About {card.more:,} more {what} would settle it."


def _count(card: AnswerCard) -> str:
    n = sum(len(group.slopes) for group in card.controls)
    return f"{n} control" + ("" if n == 1 else "s")


def _tests(plan: Plan, behaviour: str, direction: str) -> str:
    """What p is corrected for, in words."""
    family, directions = plan.family(behaviour), len(plan.directions)
    over = ["one-sided"] if plan.sign(behaviour, direction) else []
    over += [f"Holm over {directions} directions"] if directions > 1 else []
    if len(family) > 1:
        over.append(f"each control at its largest over {len(family)} behaviours")
    if len(family) < len(plan.effects):
        over.append("declared beforehand")
    return ", ".join(over) or "one test"


def _p(value: float | None) -> str:
    if value is None:
        return "not computed"
    return "1" if value >= 1 else f"{value:.2g}" if value >= 0.001 else "< 0.001"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%" if abs(value) >= 0.0995 or value == 0 else f"{100 * value:.1f}%"


def _bare(value: float) -> str:
    """A fraction in points, without the word."""
    points = 100 * value
    shown = f"{points:.0f}" if abs(points) >= 9.95 else f"{points:.1f}".removesuffix(".0")
    return "0" if shown in ("-0", "-0.0") else shown


def _points(value: float) -> str:
    return f"{_bare(value)} point" + ("" if _bare(value) in ("1", "-1") else "s")


def _nats(value: float) -> str:
    return f"{value:.2g} nats a token"


def _listed(words: Sequence[str] | dict[str, None]) -> str:
    *rest, last = list(words)
    return f"{', '.join(rest)} and {last}" if rest else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
