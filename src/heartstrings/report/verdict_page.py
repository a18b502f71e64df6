"""The report of a verdict: does steering control behaviour, at what cost, in what range?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heartstrings.experiment.dose_fit import DoseFit
from heartstrings.report.calibrated import calibration_section
from heartstrings.report.claimed import claims_section
from heartstrings.report.costs import costs_section
from heartstrings.report.distance import distance_section
from heartstrings.report.dose import dose_figure
from heartstrings.report.hand_graded import hand_graded_section
from heartstrings.report.judged import judged_section
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, assemble, missing, write
from heartstrings.report.pooled import pooled_section
from heartstrings.report.reliability import reliability_section
from heartstrings.report.single import KNOWN_TRUTH, ORGANISM
from heartstrings.report.specification import specification_section
from heartstrings.report.tested import controls_section, layers_section, tested_section
from heartstrings.report.verdict_files import VerdictFiles, read_verdict
from heartstrings.report.verdict_words import answer, points, share, span
from heartstrings.report.words import NOTHING, count, p_value
from heartstrings.report.writings import writings_section
from heartstrings.verdict.results import AnswerCard

HONEST = (
    "Steering changes what a model does. Nothing here says what a model feels, and an answer holds for this "
    "behaviour, direction, site, layer and set of prompts."
)
EFFECT = (
    "Effect: change of the outcome between the ends of the slope window, in percentage points, with its 95% interval."
)


def render_verdict(folder: str | Path) -> Path:
    """Write `report.html` into the folder of a run and return its path.

    The file holds everything it needs, and asks no network for anything. Numbers are the verdict's own: none is
    computed again.

    Raises:
        InputError: no folder, or no readable `verdict.json` in it.
    """
    files = read_verdict(folder)
    return write(files.folder / "report.html", page(files))


def page(files: VerdictFiles) -> str:
    """The document as text."""
    parts = [
        dose_section(files),
        why_section(files),
        costs_section(files),
        controls_section(files),
        claims_section(files),
        pooled_section(files),
        distance_section(files),
        calibration_section(files),
        reliability_section(files),
        layers_section(files),
        specification_section(files),
        writings_section(files),
        tested_section(files),
        judged_section(files),
        hand_graded_section(files),
        missing_section(files),
        plan_section(files),
    ]
    return assemble(
        title=f"{files.name}: verdict",
        header=_header(files),
        sections=[part for part in parts if part is not None],
        footer=verdict_footer(),
    )


def verdict_footer() -> Html:
    return join(
        el("p", HONEST),
        el("p", "Made with Heartstrings. The file is complete in itself; it loads nothing from anywhere."),
    )


def _header(files: VerdictFiles) -> Html:
    return join(
        el("p", "Does steering control behaviour?", class_="kicker"),
        el("h1", files.name),
        answers_table([(None, files, card) for card in files.verdict.answers]),
        missing("No answer.", "This verdict holds none: nothing was tested.") if not files.verdict.answers else None,
        _organism(files),
    )


def answers_table(
    rows: Sequence[tuple[Child, VerdictFiles, AnswerCard]], *, truths: Mapping[str, str] | None = None
) -> Html | None:
    """One line an answer: in words, its range, the effect with its interval, p.

    Args:
        rows: the model's name where several are shown, its files, the answer.
        truths: what organisms are, by kind: adds a column.
    """
    if not rows:
        return None
    several = any(name is not None for name, _, _ in rows)
    behaviours = len({card.behaviour for _, _, card in rows}) > 1
    head = [*(["Model"] if several else []), "Direction", *(["Behaviour"] if behaviours else [])]
    head += [*(["Known truth"] if truths else []), "Answer", "Range of doses", "Effect, points", "p (Holm)", "Samples"]
    body = []
    for name, files, card in rows:
        cells: list[Child] = [name] if several else []
        cells.append(card.direction)
        cells += [card.behaviour] if behaviours else []
        cells += [truths.get(files.verdict.organism or "", NOTHING)] if truths else []
        cells += [answer(card), _range(card), points(card.told) + card.told_where, p_value(card.p), count(card.samples)]
        first, *rest = cells
        body.append(
            el(
                "tr",
                el("th", first, scope="row"),
                [el("td", content, data_label=title) for title, content in zip(head[1:], rest, strict=True)],
            )
        )
    inner = el(
        "table",
        el("caption", EFFECT),
        el("thead", el("tr", [el("th", title, scope="col") for title in head])),
        el("tbody", body),
    )
    return el("div", inner, class_="scroll answers", tabindex="0", role="region", aria_label="Table: the answers")


def _range(card: AnswerCard) -> Child:
    if card.range is not None:
        return span(card)
    return "none is safe" if card.answer == "controls, no safe range" else NOTHING


def _organism(files: VerdictFiles) -> Html | None:
    kind = files.verdict.organism
    if kind is None:
        return None
    truth = KNOWN_TRUTH.get(kind)
    found = "; ".join(f"{files.title(card)}: {card.answer}" for card in files.verdict.answers) or "no answer"
    beside = el("p", el("strong", "Known truth: "), f"{truth}. ", el("strong", "Found: "), f"{found}.")
    return el("div", beside if truth else None, el("p", ORGANISM), class_="notice", role="note")


def dose_section(files: VerdictFiles) -> Section:
    """Curves, each with its sentence."""
    blocks: list[Child] = []
    figures: list[Figure] = []
    for place, card in enumerate(files.verdict.answers):
        made = dose_figure(f"dose-{place}", files.title(card), card, window=files.window)
        if made is None:
            blocks.append(missing(f"{files.title(card)}: no curve.", "No dose of it carries a graded answer."))
            continue
        figures.append(made)
        blocks.append(made.html())
    if not blocks:
        blocks.append(missing("No curves.", "This verdict holds no answer."))
    said = [
        el("li", el("strong", files.title(card)), ": ", card.sentence)
        for card in files.verdict.answers
        if card.sentence
    ]
    body = join(
        el("div", blocks, class_="grid" if len(blocks) > 1 else "solo"),
        el("ul", said, class_="sentences") if said else None,
        _encoded(files),
    )
    return Section("dose", "Dose and response", body, tuple(figures))


def why_section(files: VerdictFiles) -> Section | None:
    """What the samples say of the directions that were not shown to move a behaviour; those of which they say the same
    stand together. None where there are none."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for card in files.verdict.answers:
        if card.why:
            alike.setdefault((card.direction, card.why), []).append(card.behaviour)
    if not alike:
        return None
    found = [
        el("li", el("strong", direction), f" on {', '.join(behaviours)}", el("ul", [el("li", one) for one in said]))
        for (direction, said), behaviours in alike.items()
    ]
    return Section("why", "Why no effect?", el("ul", found, class_="sentences"))


def _encoded(files: VerdictFiles) -> Html:
    """What the atlas found before anything was steered."""
    found = list(dict.fromkeys(card.encoded for card in files.verdict.answers))
    link = files.atlas_report
    words = ", ".join(found) or "not examined"
    return el(
        "p",
        el("strong", "Is emotion encoded? "),
        f"{words[:1].upper()}{words[1:]}. ",
        files.geometry or "The atlas's sentence is not in this folder.",
        [" ", el("a", "The atlas's own report", href=link), "."] if link else None,
    )


def missing_section(files: VerdictFiles) -> Section:
    """What these samples can tell, and what was not examined."""
    verdict = files.verdict
    gaps = [el("li", el("strong", files.title(card)), ": ", gap) for card in verdict.answers for gap in card.missing]
    more = [
        el("li", el("strong", files.title(card)), f": about {count(card.more)} more scenarios a cell would settle it.")
        for card in verdict.answers
        if card.more is not None
    ]
    absent = [el("li", why) for why in files.absent.values()]
    notes = [el("li", note) for note in verdict.notes]
    items = [*more, *gaps, *notes, *absent]
    body = join(
        el("p", verdict.power),
        el("ul", items, class_="sentences") if items else el("p", "Nothing that the plan asks for is missing."),
        _baselines(files),
    )
    return Section("missing", "What these samples can tell", body)


def _baselines(files: VerdictFiles) -> Html | None:
    """Every behaviour unsteered, once, and whether it has room to move."""
    found = {one.behaviour: one for card in files.verdict.answers for one in card.baselines}
    if not found:
        return None
    return table(
        "Unsteered: the outcome with its 95% interval, what a neutral model does, and what could not show however the "
        "model were steered (a floor, a ceiling, chance).",
        ["Behaviour", "Role", "Outcome", "Room", "A neutral model"],
        [[one.behaviour, one.role, share(one.outcome), one.flag or "both ways", one.neutral] for one in found.values()],
        numeric=(2,),
    )


def plan_section(files: VerdictFiles) -> Section:
    """The plan and its hash, and every threshold."""
    verdict = files.verdict
    limits: list[list[Child]] = [
        [name.replace("_", " "), _limit(name, value)] for name, value in verdict.thresholds.model_dump().items()
    ]
    rows: list[list[Child]] = [
        ["plan hash (SHA-256)", el("code", verdict.plan_hash)],
        ["weights hash", _hash(verdict.weights_hash)],
        ["vectors hash (directions and controls)", _hash(verdict.vectors_hash)],
        ["seed", str(verdict.seed)],
        ["heartstrings", verdict.package_version],
        ["verdict schema", str(verdict.schema_version)],
    ]
    lost = None
    if files.plan is None:
        lost = missing("The plan itself is not shown.", files.absent.get("plan", ""))
    else:
        rows += _fields({key: value for key, value in files.plan.items() if key not in ("thresholds", "seed")})
    body = join(
        el("p", "Frozen before the first sample: a changed plan has another hash and is another run."),
        lost,
        _doses(verdict.doses),
        table("The plan.", ["", ""], rows, class_="facts-table"),
        table("The thresholds that the answers use.", ["", ""], limits, class_="facts-table"),
    )
    return Section("plan", "The plan", body)


def _hash(value: str | None) -> Child:
    return "not recorded" if value is None else el("code", value)


def _doses(fit: DoseFit | None) -> Html | None:
    """How the doses were fitted to the model, and what every factor that was tried cost."""
    if fit is None:
        return None
    layers = sorted({cost.layer for cost in fit.chosen.costs})
    rows: list[list[Child]] = []
    for step in fit.steps:
        worst = [max(cost.kl for cost in step.costs if cost.layer == layer) for layer in layers]
        rows.append([f"{step.factor:g}", step.ends, *(f"{one:.2g}" for one in worst)])
    return join(
        el("p", f"{fit.sentence} The factor was chosen from this alone, before any question was asked."),
        table(
            "Divergence from the unsteered model on neutral prose at the ends of the slope window, nats a token: the "
            "largest over directions and both ends.",
            ["Factor", "Ends of the window", *(f"Layer {layer}" for layer in layers)],
            rows,
            numeric=tuple(range(2, 2 + len(layers))),
        ),
    )


def _limit(name: str, value: float) -> str:
    if name == "alpha":
        return f"{value:g}"
    if name == "least_valid":
        return f"{100 * value:g}%"
    return f"{value:g} nats a token" if name in ("log_perplexity_rise", "log_loss_rise") else f"{100 * value:g} points"


def _fields(values: Mapping[str, Any], prefix: str = "") -> list[list[Child]]:
    rows: list[list[Child]] = []
    for key, value in values.items():
        label = prefix + str(key).replace("_", " ")
        if isinstance(value, Mapping):
            rows += _fields(value, f"{label}: ")
        elif isinstance(value, (list, tuple)):
            rows.append([label, ", ".join(_plain(item) for item in value) or "none"])
        else:
            rows.append([label, _plain(value)])
    return rows


def _plain(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
