"""Texts side by side at each dose, the least coherent one marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Section, missing
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import dose, finite
from heartstrings.report.words import NOTHING
from heartstrings.verdict.results import AnswerCard, TextSample


def writings_section(files: VerdictFiles) -> Section:
    """For each direction a table: scenarios down, doses across."""
    parts: list[Child] = []
    for card in files.verdict.answers:
        parts.append(el("h3", files.title(card)))
        if card.texts:
            parts.append(_table(card))
        else:
            parts.append(missing("No texts.", "Nothing was written along this direction, or no text was kept."))
    if not files.verdict.answers:
        parts.append(missing("No texts.", "This verdict holds no answer."))
    return Section("texts", "What it writes", join(parts))


def _table(card: AnswerCard) -> Html:
    doses = sorted({text.dose for text in card.texts})
    counts = Counter(text.scenario for text in card.texts)
    # Scenarios of every dose get a row each; the worst of a dose comes from anywhere, and has the last row.
    shared = [name for name, times in counts.items() if times == len(doses)] or [
        name for name, times in counts.items() if times > 1 or len(doses) == 1
    ]
    rows: list[list[Child]] = []
    for name in shared:
        of = [text for text in card.texts if text.scenario == name]
        prompt = next((text.prompt for text in of if text.prompt), "")
        head = join(
            el("strong", name),
            el("small", "moves most") if any(text.clearest for text in of) else None,
            el("span", prompt, class_="prompt") if prompt else None,
        )
        rows.append([head, *(_cell([text for text in of if text.dose == value]) for value in doses)])
    worst = [[text for text in card.texts if text.worst and text.dose == value] for value in doses]
    if any(text.scenario not in shared for found in worst for text in found):
        rows.append([el("strong", "least coherent at this dose"), *(_worst(found, shared) for found in worst)])
    others = [text for text in card.texts if text.scenario not in shared and not text.worst]
    if others:
        rows.append(
            ["others", *(_cell([text for text in others if text.dose == value], named=True) for value in doses)]
        )
    return table(
        f"Along {card.direction}, at layer {card.layer}: the same prompts at every dose, sampled with the same random "
        "numbers. Perplexity is that of the text under the unsteered model, in log (nats a token).",
        ["Prompt", *(f"dose {dose(value)}" + (" (unsteered)" if value == 0 else "") for value in doses)],
        rows,
        class_="writings",
    )


def _worst(found: Sequence[TextSample], shared: Sequence[str]) -> Child:
    """A text that has no row of its own; one that stands above is only pointed to."""
    above = [text.scenario for text in found if text.scenario in shared]
    return el("small", f"{above[0]}, above") if above else _cell(found, named=True)


def _cell(texts: Sequence[TextSample], *, named: bool = False) -> Child:
    if not texts:
        return el("span", NOTHING, class_="soft")
    return join([_text(text, named=named) for text in texts])


def _text(text: TextSample, *, named: bool) -> Html:
    facts = []
    if named:
        facts.append(text.scenario)
    if text.log_perplexity is not None and finite(text.log_perplexity):
        facts.append(f"log-perplexity {text.log_perplexity:.2f}")
    else:
        facts.append("log-perplexity not measured")
    if text.outcome is not None and finite(text.outcome):
        facts.append(f"outcome {text.outcome:.2f}")
    return el(
        "div",
        el("div", "⚠ the least coherent", class_="worst-mark") if text.worst else None,
        el("p", text.text if text.text.strip() else "(empty)", class_="written"),
        el("small", ", ".join(facts)),
        class_="sample worst" if text.worst else "sample",
    )
