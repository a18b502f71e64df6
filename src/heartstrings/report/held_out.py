"""The held-out readout in the report: is the true emotion found in texts that the vectors never saw?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.geometry.readout_results import Estimate, HeldOut, OwnEmotion, ReadoutResult, ScenarioResult
from heartstrings.geometry.results import Geometry
from heartstrings.report import maps, palette
from heartstrings.report.markup import Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.sources import AtlasFiles
from heartstrings.report.style import axis, figure, layer_ticks
from heartstrings.report.words import NOTHING, count, number, p_value, percent


def readout_section(atlas: AtlasFiles) -> Section:
    """Ranks and confusion of held-out stories, and of scenarios that name no emotion."""
    title, readout = "Read from texts held out", atlas.readout
    if readout is None:
        body = missing(
            "No held-out readout.",
            f"{atlas.absent['readout']} It needs the model, and stories whose topics the vectors were not made from.",
        )
        return Section("readout", title, body)
    figures = _figures(readout.held_out, readout.shown_layer) if readout.held_out else ()
    if readout.held_out is None:
        first = missing("No held-out stories were read.", " ".join(readout.notes) or "The atlas kept none.")
    else:
        first = join(el("div", [plot.html() for plot in figures], class_="grid"), _ranks(readout.held_out))
    if readout.scenarios is None:
        second = missing("No scenarios were read.", "Give a file of texts that evoke an emotion: --scenarios F.")
    else:
        second = _scenarios(readout.scenarios)
    notes = el("ul", [el("li", note) for note in readout.notes]) if readout.notes and readout.held_out else None
    beside = _beside_words(readout, atlas.geometry)
    own = _own(readout.own) if readout.own else None
    return Section("readout", title, join(el("p", readout.sentence), first, beside, own, second, notes), figures)


def _figures(held_out: HeldOut, shown_layer: int) -> tuple[Figure, ...]:
    layers = [ranks.layer for ranks in held_out.layers]
    curves = Figure(
        "held-out",
        "Share read right, by layer",
        (("", _by_layer(held_out)),),
        f"{count(held_out.n_stories)} stories, each read with vectors made from other topics, both sides centred. "
        "Dotted: what guessing gives.",
        f"Lines of the share of held-out stories whose true emotion is nearest or among five, at {len(layers)} layers.",
        height=430,
        narrow_height=380,
    )
    confusion = held_out.confusion
    kept = [i for i, texts in enumerate(confusion.texts) if texts]
    heat = Figure(
        "confusion",
        f"Families mistaken for each other, layer {shown_layer}",
        (
            (
                "",
                maps.confusion(
                    [[confusion.shares[i][j] for j in kept] for i in kept], [confusion.families[i] for i in kept]
                ),
            ),
        ),
        "Rows: the family a story was written about. Columns: the family of the nearest vector. A clean diagonal is a "
        "perfect reading; bright cells beside it are families that the model tells apart badly.",
        "Heat map of the families of feeling as written and as read.",
        height=430,
        narrow_height=380,
    )
    return curves, heat


def _by_layer(held_out: HeldOut) -> go.Figure:
    traces: list[Any] = []
    layers = [ranks.layer for ranks in held_out.layers]
    for attribute, name, colour, symbol in (
        ("top1", "nearest", palette.VALENCE[0], "circle"),
        ("top5", "among five", palette.GREEN[0], "diamond"),
        ("family", "right family", palette.PURPLE[0], "square"),
    ):
        estimates: list[Estimate] = [getattr(ranks, attribute) for ranks in held_out.layers]
        low = [estimate.value if estimate.low is None else estimate.low for estimate in estimates]
        high = [estimate.value if estimate.high is None else estimate.high for estimate in estimates]
        traces.append(
            go.Scatter(
                x=layers,
                y=[estimate.value for estimate in estimates],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 6, "symbol": symbol, "color": colour},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [top - e.value for top, e in zip(high, estimates, strict=True)],
                    "arrayminus": [e.value - bottom for bottom, e in zip(low, estimates, strict=True)],
                    "color": colour,
                    "thickness": 1,
                    "width": 2,
                },
                hovertext=[
                    f"layer {layer}, {name}: {_estimate(estimate, percents=True)}"
                    for layer, estimate in zip(layers, estimates, strict=True)
                ],
                hoverinfo="text",
            )
        )
        traces.append(
            go.Scatter(
                x=layers,
                y=[estimate.chance for estimate in estimates],
                mode="lines",
                line={"color": colour, "width": 1, "dash": "dot"},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    return figure(
        traces,
        x=axis("layer", **layer_ticks(layers)),
        y=axis("share of stories", rangemode="tozero", tickformat=".0%"),
    )


def _estimate(estimate: Estimate, *, percents: bool) -> str:
    def write(value: float | None) -> str:
        return percent(value) if percents else number(value, 1)

    interval = "" if estimate.low is None else f" [{write(estimate.low)}, {write(estimate.high)}]"
    return f"{write(estimate.value)}{interval}; guessing {write(estimate.chance)}"


def _ranks(held_out: HeldOut) -> Html:
    rows = [
        [
            str(ranks.layer),
            _estimate(ranks.top1, percents=True),
            _estimate(ranks.top5, percents=True),
            _estimate(ranks.family, percents=True),
            _estimate(ranks.mean_rank, percents=False),
            p_value(ranks.p),
        ]
        for ranks in held_out.layers
    ]
    worst = [[row.true, row.read_as, count(row.texts), percent(row.share)] for row in held_out.confusion.worst]
    return join(
        table(
            f"Rank of the true emotion among {held_out.n_emotions}, with 95% intervals over emotions and what guessing "
            "gives.",
            ["Layer", "Nearest", "Among five", "Right family", "Mean rank", "p"],
            rows,
            numeric=(5,),
            class_="wide",
        ),
        el(
            "details",
            el("summary", "Emotions most often read as one other"),
            table(
                "Held-out stories at the shown layer.", ["True", "Read as", "Stories", "Share"], worst, numeric=(2, 3)
            ),
        )
        if worst
        else None,
    )


def _beside_words(readout: ReadoutResult, geometry: Geometry) -> Html | None:
    """Every readout at the shown layer, and from the words of the stories alone."""
    words = readout.words
    if words is None or readout.held_out is None:
        return None
    shown = next(one for one in readout.held_out.layers if one.layer == readout.shown_layer)
    axes = [one for one in geometry.layers if (one.layer, one.variant) == (readout.shown_layer, readout.variant)]
    layers = [one.layer for one in readout.held_out.layers]
    model = [one.by_layer[layers.index(readout.shown_layer)] for one in readout.own]
    alone = [one.words for one in readout.own if one.words is not None]
    rows: list[tuple[str, float | None, float | None, float | None]] = [
        ("The true emotion is nearest", shown.top1.value, words.top1.value if words.top1 else None, shown.top1.chance),
        ("among five", shown.top5.value, words.top5.value if words.top5 else None, shown.top5.chance),
        ("nearest is of the right family", shown.family.value, words.family.value if words.family else None,
         shown.family.chance),
        ("AUC of each emotion's own stories, mean", _mean(model), _mean(alone), 0.5),
        ("R² of valence, families held out", axes[0].readout_valence_r2 if axes else None, words.valence_r2, 0.0),
        ("R² of arousal, families held out", axes[0].readout_arousal_r2 if axes else None, words.arousal_r2, 0.0),
    ]  # fmt: skip
    return join(
        table(
            f"The model at layer {readout.shown_layer} beside the words of the same stories ({count(words.words)} "
            "different words, TF-IDF, no model).",
            ["Readout", "Model", "Words alone", "Guessing"],
            [[name, *(number(value, 3) for value in values)] for name, *values in rows],
            numeric=(1, 2, 3),
        ),
        el("p", "Where words alone do as well, a readout proves nothing beyond words."),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _own(own: Sequence[OwnEmotion]) -> Html:
    """One row an emotion, the least well read first."""
    rows = []
    for one in sorted(own, key=lambda one: (one.auc, one.emotion)):
        interval = "" if one.low is None else f" [{number(one.low, 3)}, {number(one.high, 3)}]"
        auc = f"{number(one.auc, 3)}{interval}"
        rows.append([one.emotion, auc, str(one.layer), p_value(one.p), number(one.words, 3), str(one.n)])
    found = sum(one.p is not None and one.p < 0.05 for one in own)
    return el(
        "details",
        el("summary", f"Each emotion for itself: {found} of {len(own)} are read at p < .05"),
        table(
            "The probability that a story of the emotion scores over one of another family, with the vector from other "
            "topics (AUC), at the layer where it is largest: p pays for that search, the AUC does not. 95% intervals "
            f"over topics. Of {len(own)} emotions that are not encoded, {0.05 * len(own):.0f} would have p < .05.",
            ["Emotion", "AUC", "Layer", "p", "AUC of words alone", "Stories"],
            rows,
            numeric=(2, 3, 4, 5),
        ),
    )


def _scenarios(scenarios: ScenarioResult) -> Html:
    rows = [
        [
            row.target,
            NOTHING if row.rank is None else str(row.rank),
            ", ".join(row.nearest),
            number(row.cosine),
            row.text if len(row.text) <= 180 else row.text[:177] + "...",
        ]
        for row in scenarios.rows
    ]
    left = f" {count(scenarios.n_left_out)} could not be read." if scenarios.n_left_out else ""
    caption = (
        f"{count(scenarios.n)} texts that evoke an emotion without naming it, at layer {scenarios.layer}: mean rank of "
        f"the target {number(scenarios.mean_rank, 1)} (guessing {number(scenarios.chance_rank, 1)}), p "
        f"{p_value(scenarios.p)}.{left}"
    )
    return table(caption, ["Target", "Rank", "Nearest", "Cosine", "Text"], rows, numeric=(1, 3))
