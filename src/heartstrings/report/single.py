"""The report of one model: one HTML file from one atlas folder."""

from __future__ import annotations

import re
from pathlib import Path

from heartstrings.report import details, sections
from heartstrings.report.held_out import readout_section
from heartstrings.report.markup import Child, Html, el, join
from heartstrings.report.page import Section, assemble, write
from heartstrings.report.sources import AtlasFiles, read_atlas
from heartstrings.report.words import FINDINGS, layer_ranges, number

HONEST = (
    "Vectors are representations that were found in a model's activations. Nothing here says what a model feels, "
    "or that these directions cause what it does: that takes steering, with controls."
)
ORGANISM = (
    "This is an organism, not a language model of any use: a tiny transformer trained on generated stories so "
    "that its answer is known. It calibrates the instrument; what it shows says nothing of a large model."
)
KNOWN_TRUTH = {
    "steerable": "emotion is encoded, and steers behaviour",
    "entangled": "emotion is encoded, steers behaviour, and spills into unrelated harm",
    "inert": "emotion is encoded, and behaviour ignores it",
    "blank": "emotion is not encoded",
}
"""What each organism was trained to be."""


def render(atlas_dir: str | Path) -> Path:
    """Write `report.html` into an atlas folder and return its path.

    The file holds everything it needs, and asks no network for anything.

    Raises:
        InputError: no folder, or no readable `geometry.json` in it.
    """
    atlas = read_atlas(atlas_dir)
    return write(atlas.folder / "report.html", page(atlas))


def page(atlas: AtlasFiles) -> str:
    """The document as text."""
    geometry = atlas.geometry
    parts: list[Section] = [
        sections.map_section(atlas),
        sections.depth_section(geometry),
        sections.component_section(geometry),
        sections.layer_section(geometry),
        sections.across_section(geometry),
        details.cluster_section(atlas),
        readout_section(atlas),
        details.lens_section(geometry),
        details.text_section(atlas),
        details.provenance_section(atlas),
    ]
    return assemble(
        title=f"{atlas.name}: emotion atlas",
        header=_header(atlas),
        sections=parts,
        footer=footer(),
    )


def footer() -> Html:
    return join(
        el("p", HONEST),
        el("p", "Made with Heartstrings. The file is complete in itself; it loads nothing from anywhere."),
    )


def organism_notice(kind: str, verdict: str) -> Html:
    """Says what an organism is, and puts the known truth beside the answer found."""
    truth = KNOWN_TRUTH.get(kind)
    beside = el("p", el("strong", "Known truth: "), f"{truth}. ", el("strong", "Found: "), f"{verdict}.")
    return el("div", el("p", ORGANISM), beside if truth else None, class_="notice", role="note")


def _header(atlas: AtlasFiles) -> Html:
    geometry = atlas.geometry
    return join(
        el("p", "Emotion atlas", class_="kicker"),
        el("h1", atlas.name),
        *_answer(geometry.sentence),
        organism_notice(atlas.organism, geometry.verdict) if atlas.organism else None,
        _facts(atlas),
        el("p", HONEST, class_="note"),
    )


def _answer(text: str) -> tuple[Html, ...]:
    """The first sentence large, the others as a list below it."""
    first, *rest = re.split(r"(?<=\.)\s+(?=[A-Z])", text)
    more = el("ul", [el("li", sentence) for sentence in rest], class_="more") if rest else None
    return tuple(part for part in (el("p", first, class_="answer"), more) if part is not None)


def _facts(atlas: AtlasFiles) -> Html:
    """The answer at a glance: encoded or not, where, how strong, from what."""
    geometry = atlas.geometry
    raw = [row for row in geometry.layers if row.variant == "raw"]
    every = [row.layer for row in raw]
    by_finding = {name: [row.layer for row in raw if row.finding == name] for name in FINDINGS}
    where = [f"{FINDINGS[name][1]}: {layer_ranges(layers, every)}" for name, layers in by_finding.items() if layers]
    with_r = [row for row in raw if row.pc1_valence.r is not None]
    peak = max(with_r, key=lambda row: row.pc1_valence.r or 0.0, default=None)
    strongest: Child = "not computed"
    small: Child = "too few rated emotions"
    if peak is not None:
        strongest = f"|r| {number(peak.pc1_valence.r)} at layer {peak.layer}"
        small = f"95% {number(peak.pc1_valence.low)} to {number(peak.pc1_valence.high)}, n = {peak.pc1_valence.n}"
    origin = atlas.vectors.provenance if atlas.vectors else None
    source = "from stories" if origin and origin.source == "extracted" else origin.source if origin else "unknown"
    items = [
        ("Is emotion encoded?", {"encoded": "Yes", "not encoded": "No"}.get(geometry.verdict, "Inconclusive"),
         f"{geometry.n_emotions} emotions, {geometry.n_rated} rated"),
        ("Valence by layer, raw vectors", where[0] if where else "not computed", "; ".join(where[1:]) or None),
        ("Component 1 and valence, highest", strongest, small),
        ("Vectors", source.capitalize(), f"pooling {geometry.pooling}" if geometry.pooling else "pooling not recorded"),
    ]  # fmt: skip
    return el(
        "dl",
        [
            el("div", el("dt", name), el("dd", value, el("small", detail) if detail else None))
            for name, value, detail in items
        ],
        class_="facts",
    )
