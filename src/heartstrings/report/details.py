"""The parts of a single report beside the geometry by layer: clusters, words, readout, texts, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from heartstrings.geometry.results import Geometry
from heartstrings.report import maps
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.sources import AtlasFiles
from heartstrings.report.words import count, number, p_value

MOST_ROWS = 200
"""Longer lists of stories are cut in the page; the files beside it hold them all."""


def cluster_section(atlas: AtlasFiles) -> Section:
    """Emotions that lie together: cosines in tree order, k-means groups, nearest neighbours."""
    geometry, clusters = atlas.geometry, atlas.geometry.clusters
    parts: list[Child] = []
    figures: list[Figure] = []
    if clusters is None:
        parts.append(missing("No clusters.", "There are too few emotions to group."))
    elif atlas.vectors is None:
        parts.append(missing("No cosine matrix.", atlas.absent["vectors"]))
    else:
        contrasts = atlas.vectors.contrasts(geometry.shown_variant)[atlas.vectors.layers.index(geometry.shown_layer)]
        rows = contrasts[list(atlas.vectors.select(clusters.order))].astype(np.float64)
        size = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
        heat = Figure(
            "cosines",
            f"Cosines at layer {geometry.shown_layer}",
            (("", maps.cosines(unit @ unit.T, clusters.order)),),
            "Every pair of emotion vectors, in the order of the hierarchical tree: blocks on the diagonal are "
            "emotions that the model keeps together.",
            f"Heat map of the cosine of every pair of {len(clusters.order)} emotion vectors.",
            height=560,
            narrow_height=340,
            classes="square",
        )
        figures.append(heat)
        parts.append(heat.html())
    if clusters is not None:
        groups: dict[int, list[str]] = {}
        for emotion in clusters.order:
            groups.setdefault(clusters.labels[emotion], []).append(emotion)
        parts.append(
            table(
                f"{clusters.k} groups by k-means at layer {geometry.shown_layer}; silhouette "
                f"{number(clusters.silhouette)} (1 is well apart, 0 is touching).",
                ["Group", "Emotions"],
                [[str(label + 1), ", ".join(groups[label])] for label in sorted(groups)],
            )
        )
    if geometry.nearest:
        listed = [
            [emotion, ", ".join(f"{near.emotion} {number(near.cosine)}" for near in neighbours)]
            for emotion, neighbours in sorted(geometry.nearest.items())
        ]
        parts.append(
            el(
                "details",
                el("summary", "Nearest emotions of each emotion"),
                table(
                    f"The nearest emotions by cosine at layer {geometry.shown_layer}.",
                    ["Emotion", "Nearest"],
                    listed,
                ),
            )
        )
    return Section("clusters", "Emotions that lie together", join(parts), tuple(figures))


def lens_section(geometry: Geometry) -> Section:
    """What the vectors say through the unembedding."""
    if not geometry.lens:
        body = missing(
            "No logit lens.",
            "It needs the model's own unembedding: encoders have none, and imported vectors come without a model.",
        )
        return Section("lens", "Which words the vectors raise", body)
    rows = [[row.emotion, _tokens(row.top), _tokens(row.bottom)] for row in geometry.lens]
    short, rest = rows[:24], rows[24:]
    head = ["Emotion", "Raises most", "Lowers most"]
    body = join(
        el(
            "p",
            f"Each vector of layer {geometry.shown_layer} through the final norm and the unembedding: the tokens whose "
            "logits it raises and lowers most. An untidy list is a finding too: the direction need not be about words.",
        ),
        table("Tokens by emotion.", head, short),
        el(
            "details",
            el("summary", f"The other {len(rest)} emotions"),
            table("Tokens by emotion, continued.", head, rest),
        )
        if rest
        else None,
    )
    return Section("lens", "Which words the vectors raise", body)


def _tokens(tokens: Iterable[str]) -> Html:
    return join([el("span", visible(token), class_="token") for token in tokens])


def visible(token: str) -> str:
    """A token with its white space and control characters made visible."""
    named = {"\n": "⏎", "\t": "⇥", " ": "·"}
    return (
        "".join(named.get(sign, sign if sign.isprintable() else f"\\u{ord(sign):04x}") for sign in token) or "(empty)"
    )


def text_section(atlas: AtlasFiles) -> Section:
    """The stories: how many, by whom, what was filtered before and set aside during pooling."""
    vectors, corpus = atlas.vectors, atlas.corpus
    rows: list[list[Child]] = []
    if corpus is not None:
        rows += [[_label(key), _value(value)] for key, value in corpus.items() if key != "dropped"]
    if vectors is not None:
        origin = vectors.provenance
        if vectors.counts is None and origin.n_stories == 0:
            note = missing(
                "The stories are not here.",
                f"These vectors were {origin.source}, and how many stories made them, by whom, and what was set "
                "aside is not recorded with them.",
            )
            return Section("texts", "The texts", join(note, _table_of_texts(rows)))
        rows += [
            ["stories pooled", count(origin.n_stories)],
            ["set aside: too short for the pooling rule", count(origin.n_set_aside)],
            ["cut at the token limit", count(origin.n_truncated)],
            ["attention sinks left out (tokens x layers)", count(origin.n_sinks)],
        ]
        if vectors.counts is not None:
            low, high = min(vectors.counts), max(vectors.counts)
            rows.append(["stories an emotion", count(low) if low == high else f"{count(low)} to {count(high)}"])
    if not rows:
        return Section("texts", "The texts", missing("Nothing is known of the texts.", " ".join(atlas.absent.values())))
    return Section("texts", "The texts", join(_table_of_texts(rows), _dropped(corpus)))


def _table_of_texts(rows: list[list[Child]]) -> Html | None:
    if not rows:
        return None
    return table("What went in, and what was left out and counted.", ["", ""], rows, class_="facts-table")


def _dropped(corpus: Mapping[str, Any] | None) -> Html | None:
    """The stories that the filters took out, each with its reason."""
    dropped = [row for row in (corpus or {}).get("dropped") or () if isinstance(row, Mapping)]
    if not dropped:
        return None
    fields = ("emotion", "topic", "reason", "evidence")
    rows = [[_value(row.get(field)) for field in fields] for row in dropped[:MOST_ROWS]]
    more = f" The first {MOST_ROWS} are shown." if len(dropped) > MOST_ROWS else ""
    return el(
        "details",
        el("summary", f"The {count(len(dropped))} stories that were filtered out"),
        table(f"Stories left out before pooling.{more}", [field.capitalize() for field in fields], rows),
    )


def _label(key: str) -> str:
    return key.replace("_", " ")


def _value(value: object) -> Child:
    """A value from JSON for a table cell; nested objects become short lists."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value, 3)
    if isinstance(value, Mapping):
        if not value:
            return "none"
        return join([el("div", f"{_label(str(key))}: ", _value(inner)) for key, inner in value.items()])
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "none"
    text = str(value)
    return el("code", text) if text.startswith("sha256:") else text


def provenance_section(atlas: AtlasFiles) -> Section:
    """Every field that identifies these numbers."""
    geometry = atlas.geometry
    rows: list[list[Child]] = [
        ["ratings", geometry.ratings_source],
        ["emotions, rated", f"{geometry.n_emotions}, {geometry.n_rated}"],
        ["bundle hash", el("code", geometry.bundle_hash) if geometry.bundle_hash else "not recorded"],
        ["permutations", count(geometry.permutations)],
        ["p of anything being encoded, whole search", p_value(geometry.encoded_p)],
        ["smallest |r| found 8 times in 10 with these words", number(geometry.detectable_r)],
        ["geometry schema", str(geometry.schema_version)],
    ]
    if atlas.vectors is None:
        lost = missing("The bundle's own provenance is missing.", atlas.absent["vectors"])
    else:
        lost = None
        rows += _flatten(atlas.vectors.provenance.model_dump(mode="json"))
        if atlas.vectors.k is not None:
            ks = [f"layer {layer}: {k}" for layer, k in zip(atlas.vectors.layers, atlas.vectors.k, strict=True)]
            rows.append(["neutral components projected out", ", ".join(ks)])
        if atlas.vectors.norms is not None:
            norms = [
                f"layer {layer}: {norm:.4g}"
                for layer, norm in zip(atlas.vectors.layers, atlas.vectors.norms, strict=True)
            ]
            rows.append(["mean residual norm (the unit of dose)", ", ".join(norms)])
    notes = el("ul", [el("li", note) for note in geometry.notes]) if geometry.notes else None
    body = join(
        lost,
        el("h3", "What could not be computed") if notes else None,
        notes,
        table("Everything needed to make these numbers again.", ["", ""], rows, class_="facts-table"),
    )
    return Section("provenance", "Provenance", body)


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> list[list[Child]]:
    rows: list[list[Child]] = []
    for key, value in fields.items():
        label = f"{prefix}{_label(key)}"
        if isinstance(value, Mapping) and value and key in ("model", "pooling"):
            rows += _flatten(value, prefix=f"{label}: ")
        else:
            rows.append([label, _value(value)])
    return rows
