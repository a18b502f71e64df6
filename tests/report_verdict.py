"""Verdicts with made-up numbers, and folders of them; with `evil`, every text from outside is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from heartstrings.experiment.plan import Plan, Thresholds
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import (
    AnswerCard,
    Calibration,
    ControlGroup,
    Curve,
    DosePoint,
    Gate,
    LayerChoice,
    PromptBaseline,
    Push,
    Reliability,
    Specification,
    Strength,
    TextSample,
    Verdict,
)
from report_atlas import EVIL

NONE = Estimate(value=None, low=None, high=None)
DOSES = (-1.5, -1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 1.5)


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=float(value), low=float(value - half), high=float(value + half))


def rate(value: float, half: float = 0.06) -> Estimate:
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(value=float(value), low=float(low), high=float(high))


def plan(**changes: Any) -> Plan:
    return Plan.model_validate({"model": "organism:steerable", "layers": (2, 3, 4)} | changes)


def card(direction: str = "desperate", *, gain: float = 2.0, model: str = "organism:steerable", evil: bool = False,
         answer: str = "controls", seed: int = 0) -> AnswerCard:  # fmt: skip
    """One answer of every part there is: the outcome rises with `gain` and capability falls beyond +-0.6."""
    rng = np.random.default_rng(seed)
    said = EVIL if evil else ""
    name = said or "choice"

    def means(of: Any, half: float = 0.05) -> tuple[DosePoint, ...]:
        return tuple(DosePoint(dose=dose, estimate=rate(of(dose), half), n=40) for dose in DOSES)

    def moved(of: Any, half: float) -> tuple[DosePoint, ...]:
        return tuple(
            DosePoint(dose=dose, estimate=estimate(of(dose), half * (1 + abs(dose))), n=60, missing=int(abs(dose) > 1))
            for dose in DOSES
            if dose
        )

    def response(dose: float) -> float:
        return float(1 / (1 + np.exp(-(gain * 2.5 * dose - 0.4))))

    def wear(dose: float) -> float:
        return -0.3 * max(0.0, abs(dose) - 0.5) ** 1.5

    def curve(behaviour: str, words: str, change: Any, half: float, level: float = 0.9) -> Curve:
        points = means(lambda dose: min(1.0, max(0.0, level + change(dose))))
        return Curve(behaviour=behaviour, outcome_name=words, points=points, change=moved(change, half))

    costs = (
        curve("sums", "accuracy of sums", wear, 0.02),
        curve("facts", "accuracy of facts", lambda dose: 0.6 * wear(dose), 0.025),
        curve(said or "harm", said or "rate of harmful answers", lambda dose: 0.01 * abs(dose), 0.008, 0.02),
        curve(name, "valid answers", lambda dose: 0.8 * wear(dose), 0.01),
        curve("stories", "log-perplexity of the text under the unsteered model, nats a token",
              lambda dose: 0.5 * dose**2, 0.1, 0.4),
        curve("stories", "share of distinct 2-grams", lambda dose: -0.08 * abs(dose), 0.03),
        curve("stories", "share of texts that end properly", lambda dose: -0.1 * abs(dose), 0.08),
        curve("stories", "tone", lambda dose: 0.15 * dose, 0.05, 0.5),
    )  # fmt: skip
    names = ("accuracy", "", f"harm: {said or 'harm'}", f"valid: {name}", "perplexity",
             "repetition", "endings")  # fmt: skip
    limits = (0.05, 0.05, 0.02, 0.1, 0.5, 0.1, 0.25)
    gates = tuple(
        _gate(point, gate, limit)
        for cost, gate, limit in zip(costs, names, limits, strict=False)
        if gate
        for point in cost.change
    )
    controls = tuple(
        ControlGroup(
            kind=kind,  # type: ignore[arg-type]
            slopes=tuple(rng.normal(0, spread, 40)),
            p=1 / 41,
            envelope=tuple(
                DosePoint(dose=d, estimate=Estimate(value=response(0), low=response(0) - spread * abs(d) / 4 - 0.01,
                          high=response(0) + spread * abs(d) / 4 + 0.01), n=40)
                for d in DOSES if abs(d) <= 0.2
            ),
        )
        for kind, spread in (("general", 0.6), ("span", 1.3), ("shuffled", 0.9))
    )  # fmt: skip
    written = "The rain had stopped. She counted her coins twice and went in, quite sure that nobody would ask. " * 2
    texts = [
        TextSample(
            dose=dose,
            scenario=f"stories/{row:04d}",
            prompt=said or f"Write about a {thing}.",
            text=said or written if abs(dose) < 1 else said or "coins coins coins she she went coins",
            outcome=0.5,
            log_perplexity=1.2 + 0.5 * dose**2,
            worst=row == 1 and dose != 0.1,
        )
        for dose in (-1.5, -0.6, 0.0, 0.1, 0.6, 1.5)
        for row, thing in enumerate(("market", "lighthouse"))
    ]
    texts.append(TextSample(dose=0.1, scenario="stories/0009", prompt="Write.", text=said or "at the at the at",
                    outcome=None, log_perplexity=3.3, worst=True))  # fmt: skip
    return AnswerCard(
        model=said or model, behaviour=name, direction=said or direction, site="block", layer=3,
        answer=answer,  # type: ignore[arg-type]
        range=(-0.6, 0.3) if answer == "controls" else None,
        slope=estimate(2.5 * gain, 0.9), p=0.049, samples=12840,
        sentence=said or f"Steering along {direction} at layer 3 (block) controls choice: the rate of cheating goes "
        "from 29% at dose -0.2 to 63% at 0.2 (p = 0.049 against 120 controls, Holm over 2 directions). Doses from -0.6 "
        "to 0.3 keep accuracy, unrelated harm, validity and coherence within their limits.",
        encoded="encoded", p_uncorrected=0.0244, effect=estimate(0.19 * gain, 0.05), matched=estimate(0.01, 0.03),
        exceeds_matched=True, controls=controls,
        curve=Curve(behaviour=name, outcome_name=said or "rate of cheating", points=means(response),
                    change=moved(lambda d: response(d) - response(0), 0.04),
                    band=moved(lambda d: response(d) - response(0), 0.07)),
        costs=costs, gates=gates, positive_side=0.3, negative_side=-0.6,
        why=(said or "Another layer? The layer was chosen on feels.",),
        reliability=Reliability(slopes=tuple(rng.normal(0.9 * gain, 0.8, 40)),
                                against=Estimate(value=0.125, low=0.055, high=0.261), story_coherence=0.31),
        layers=tuple(LayerChoice(layer=layer, slope=estimate(gain * size, 0.2), chosen=layer == 3,
                                 points=tuple(DosePoint(dose=d, estimate=rate(0.4 + gain * size * d), n=10)
                                              for d in (-0.2, 0.0, 0.2)))
                     for layer, size in ((2, 0.6), (3, 1.0), (4, 0.8))),
        prompting=tuple(PromptBaseline(form=said or form, emotion=said or direction, outcome=rate(0.55 + shift),
                                       change=estimate(0.15 + shift, 0.07))
                        for form, shift in (("instruct", 0.0), ("first-person", 0.1))),
        preferences=(Strength(item=said or "reading", dose=0.2, strength=estimate(0.4, 0.2), n=30),),
        texts=tuple(texts), missing=(said,) if said else (), more=None,
        pushes=_pushes(said or direction, 0.19 * gain, said, rng), p_at_equal_kl=2 / 41,
        specifications=_specifications(0.19 * gain),
    )  # fmt: skip


def _pushes(direction: str, change: float, said: str, rng: np.random.Generator) -> tuple[Push, ...]:
    """The direction and 40 controls of each kind, a push of 0.08 nats; one control without a divergence."""
    found = [Push(kind="direction", name=direction, kl=0.08, change=change)]
    for kind, spread in (("general", 0.03), ("span", 0.08), ("shuffled", 0.05)):
        found += [
            Push(kind=kind, name=said or f"{kind}/{i}", kl=None if i == 39 else 0.02 * float(rng.gamma(4)),  # type: ignore[arg-type]
                 change=float(rng.normal(0, spread)))
            for i in range(40)
        ]  # fmt: skip
    return tuple(found)


def _specifications(effect: float) -> tuple[Specification, ...]:
    """Three layers of the search, and four contrasts with and without a dose that collapses."""
    choices = [("search", layer, "line", False, size) for layer, size in ((2, 0.6), (3, 1.1), (4, 0.8))]
    choices += [
        ("report", 3, contrast, collapsed, size + 0.02 * collapsed)
        for contrast, size in (("line", 1.0), ("at -0.2", 0.5), ("at 0.2", 0.55), ("both sides", 0.02))
        for collapsed in (False, True)
    ]
    found = [
        Specification(
            half=half, layer=layer, contrast=contrast, collapsed=collapsed,  # type: ignore[arg-type]
            effect=estimate(effect * size, 0.05),
            ps={"general": 1 / 41, "span": 2 / 41 if size > 0.5 else 30 / 41, "shuffled": 1 / 41},
            chosen=(half, contrast, collapsed) == ("report", "line", False),
        )
        for half, layer, contrast, collapsed, size in choices
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: one.effect.value or 0.0))


def calibration(behaviour: str = "choice") -> tuple[Calibration, ...]:
    """Uniform p of 40 controls of either natural kind."""
    random = np.random.default_rng(2)
    return tuple(
        Calibration(behaviour=behaviour, kind=kind, against=against, controls=40,  # type: ignore[arg-type]
                    ps=tuple(sorted((random.integers(1, 42, size=40) / 41).tolist())))
        for kind, against in (("topic", "natural"), ("natural", "topic"))
    )  # fmt: skip


def _gate(point: DosePoint, name: str, limit: float) -> Gate:
    sign = 1 if name.startswith(("harm", "perplexity")) else -1
    ends = sorted(sign * (end or 0.0) for end in (point.estimate.low, point.estimate.high))
    state = "holds" if ends[1] < limit else "fails" if ends[0] > limit else "unclear"
    return Gate(dose=point.dose, name=name, change=point.estimate, limit=limit, state=state)  # type: ignore[arg-type]


def bare(direction: str = "calm") -> AnswerCard:
    """An answer of a run that has hardly begun."""
    return AnswerCard(
        model="organism:steerable", behaviour="choice", direction=direction, site="block", layer=-1,
        answer="inconclusive", range=None, slope=NONE, p=None, samples=0, sentence="Inconclusive so far.",
        encoded="not examined", p_uncorrected=None, effect=NONE, matched=NONE, exceeds_matched=None, controls=(),
        curve=Curve(behaviour="choice", outcome_name="rate of cheating", points=(), change=()), costs=(), gates=(),
        positive_side=None, negative_side=None, reliability=None, layers=(), prompting=(), preferences=(), texts=(),
        missing=("choice: no samples of calm",), more=40,
    )  # fmt: skip


def verdict(*cards: AnswerCard, organism: str | None = "steerable", **changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "package_version": "0.0", "plan_hash": plan().hash, "seed": 0, "thresholds": Thresholds(),
        "organism": organism, "power": "These samples can detect a change of 6 points in 8 runs of 10.",
        "answers": cards,
    }  # fmt: skip
    return Verdict.model_validate(values | changes)


def folder(
    path: Path, found: Verdict, *, with_plan: bool = True, atlas: str | None = None, judges: tuple[str, ...] = ()
) -> Path:
    path.mkdir(parents=True)
    if judges:
        found = found.model_copy(update={"plan_hash": plan(judges=judges).hash})
    (path / "verdict.json").write_text(found.model_dump_json())
    if with_plan:
        content = {"hash": found.plan_hash, "plan": plan(judges=judges).model_dump(mode="json")}
        (path / "plan.json").write_text(json.dumps(content))
    if atlas is not None:
        (path / "atlas").mkdir()
        (path / "atlas" / "geometry.json").write_text(json.dumps({"sentence": atlas}))
        (path / "atlas" / "report.html").write_text("<!doctype html>")
    return path


def full(path: Path, *, evil: bool = False, organism: str = "steerable") -> Path:
    model = f"organism:{organism}"
    cards = (card(evil=evil, model=model), card("calm", gain=-1.6, evil=evil, model=model, seed=1))
    said = EVIL if evil else "Emotion is encoded: component 1 follows valence at layers 1 to 5."
    changes: dict[str, Any] = {
        "calibration": calibration(EVIL if evil else "choice"),
        "weights_hash": EVIL if evil else "weights-sha256:" + "a" * 64,
        "vectors_hash": EVIL if evil else "b" * 64,
    }
    changes |= {"power": EVIL, "notes": (EVIL,)} if evil else {}
    return folder(path, verdict(*cards, organism=EVIL if evil else organism, **changes), atlas=said)


if __name__ == "__main__":
    import sys

    from heartstrings.report import render_overview, render_verdict

    root = Path(sys.argv[1])
    kinds = ("steerable", "entangled", "inert", "blank")
    made = [full(root / kind, organism=kind) for kind in kinds]
    for one in made:
        print(render_verdict(one))
    print(render_overview(made, root / "report.html"))
