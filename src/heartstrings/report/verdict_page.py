"""The report of a verdict: does steering control behaviour, at what cost, in what range?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heartstrings.report._calibrated import calibrated
from heartstrings.report._costs import cost_plots
from heartstrings.report._distance import distance_plot, placed
from heartstrings.report._dose import divergence, dose_plot
from heartstrings.report._judged import judging
from heartstrings.report._kinds import KINDS
from heartstrings.report._page import Plot, render_page, write
from heartstrings.report._pooled import pool
from heartstrings.report._slopes import control_plot, layer_plot, prompt_plot, prompt_slopes
from heartstrings.report._specification import in_words, specification_plot
from heartstrings.report._writings import writings
from heartstrings.report.atlas import flat
from heartstrings.report.verdict_files import VerdictFiles, read_verdict
from heartstrings.verdict.results import AnswerCard


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
    cards = files.verdict.answers
    settings = {key: value for key, value in (files.plan or {}).items() if key not in ("thresholds", "seed")}

    def each(name: str, plot: Callable[[str, AnswerCard], Plot | None]) -> list[tuple[AnswerCard, Plot | None]]:
        return [(card, plot(f"{name}-{place}", card)) for place, card in enumerate(cards)]

    view: dict[str, object] = {
        "files": files,
        "verdict": files.verdict,
        "cards": cards,
        "KINDS": KINDS,
        "dose": each("dose", lambda name, card: dose_plot(name, card, window=files.window)),
        "divergence": divergence,
        "costs": [(card, cost_plots(place, card)) for place, card in enumerate(cards)],
        "controls": each("controls", control_plot),
        "pool": pool(files),
        "distance": each("distance", distance_plot),
        "placed": placed,
        "calibration": calibrated(files),
        "prompts": each("reliability", prompt_plot),
        "prompt_slopes": prompt_slopes,
        "layers": each("layers", layer_plot),
        "specifications": each("specifications", specification_plot),
        "in_words": in_words,
        "writings": writings,
        "judging": judging(files),
        "plan": list(flat(settings, nested=lambda _: True)),
    }
    return render_page("verdict.html", view)
