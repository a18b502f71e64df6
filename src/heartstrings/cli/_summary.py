"""What the command line prints of vectors and geometry: a table, a sentence, the path of the report last."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from heartstrings import corpus, geometry, workflows
from heartstrings.cli import _console as console

if TYPE_CHECKING:
    from heartstrings.corpus import Corpus
    from heartstrings.geometry.results import Best, Comparison, Correlation, Geometry, LayerGeometry
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.workflows.atlas import Atlas, Atlases
    from heartstrings.workflows.info import ModelFacts
    from heartstrings.workflows.selftest import SelfTest

Given: TypeAlias = Mapping[str, Any]
"""The flags of a command, by name."""

SHOWN = "At the block nearest two thirds of the depth; 95% intervals; every block is in the report."
ORGANISM_NOTE = (
    "An organism is a tiny model trained to have a known answer. What it shows says nothing of a large model."
)


def atlas(model_atlas: Atlas | Atlases, given: Given, json: bool) -> None:
    """One model's atlas, or several."""
    if not isinstance(model_atlas, workflows.Atlas):
        _atlases(model_atlas, json)
        return
    if json:
        console.emit_json(_atlas_object(model_atlas))
        return
    _layers_table(model_atlas.geometry)
    _sentences(model_atlas.geometry)
    console.say(model_atlas.readout.sentence)
    if model_atlas.vectors.provenance.precision is not None:
        console.say(model_atlas.vectors.provenance.precision.sentence)
    if model_atlas.vectors.provenance.rounds is not None:
        console.say(f"Stories: {model_atlas.vectors.provenance.rounds.sentence}.")
    for note in _filter_notes(model_atlas):
        console.warn(note)
    if _is_organism(model_atlas):
        console.say(ORGANISM_NOTE)
    console.out.print(str(model_atlas.report), highlight=False)


def _atlases(atlases: Atlases, json: bool) -> None:
    """A row a model at its best layer."""
    if json:
        objects = [_atlas_object(model_atlas) for model_atlas in atlases.atlases.values()]
        console.emit_json({"atlases": objects, "report": str(atlases.report)})
        return
    rows = []
    for model, model_atlas in atlases.atlases.items():
        shown = _shown(model_atlas.geometry)
        rows.append(
            [
                model,
                model_atlas.geometry.verdict,
                str(shown.layer),
                _interval(shown.pc1_valence),
                _interval(shown.pc2_arousal),
                _best(shown.best_valence),
                _number(shown.readout_valence_r2),
                _nuisance(shown),
                shown.finding,
            ]
        )
    columns = ["model", "valence is", "block", "PC1-valence", "PC2-arousal", "best", "R²", "PC1 follows", "finding"]
    console.show("Emotion atlas", columns, rows, caption=SHOWN)
    for model_atlas in atlases.atlases.values():
        _sentences(model_atlas.geometry)
    if any(_is_organism(model_atlas) for model_atlas in atlases.atlases.values()):
        console.say(ORGANISM_NOTE)
    console.out.print(str(atlases.report), highlight=False)


def analysis(analysed: Geometry, given: Given, json: bool) -> None:
    """The geometry of one bundle."""
    if json:
        for note in analysed.notes:
            console.warn(note)
        console.emit_json(analysed.model_dump_json())
        return
    _layers_table(analysed)
    _sentences(analysed)
    _report_in(given)


def bundle(vectors: EmotionVectors, given: Given, json: bool) -> None:
    """A bundle that was just written."""
    value = _bundle_object(vectors, given["out"])
    if json:
        console.emit_json(value)
        return
    facts = {name: item for name, item in value.items() if name != "bundle"}
    console.show_facts(f"Vectors of {value['model'] or 'an unnamed model'}", facts)
    console.out.print(str(given["out"]), highlight=False)


def stories(story_corpus: Corpus, given: Given, json: bool) -> None:
    """Stories that were just written, and what the filters did."""
    neutral = given["out"] / "neutral.jsonl"
    value: dict[str, Any] = {
        "file": str(given["out"] / "stories.jsonl"),
        "author": story_corpus.author,
        "stories": len(story_corpus),
        "emotions": len(story_corpus.emotions),
        "topics": len(story_corpus.topics),
        "dropped": dict(story_corpus.filtered),
        "hash": story_corpus.hash,
        "neutral_texts": len(corpus.read_neutral(neutral)) if given["neutral"] else None,
        "notes": list(story_corpus.notes),
    }
    if json:
        console.emit_json(value)
        return
    console.show_facts("Stories", {name: item for name, item in value.items() if name != "file"})
    console.out.print(value["file"], highlight=False)


def comparison(result: Comparison, given: Given, json: bool) -> None:
    """Bundles side by side."""
    if json:
        report = None if given["out"] is None else str(given["out"] / "report.html")
        console.emit_json(jsonlib.loads(result.model_dump_json()) | {"report": report})
        return
    rows = []
    for compared in result.bundles:
        best = max(compared.layers, key=lambda layer: layer.best_valence.r or 0.0)
        rows.append(
            [
                compared.label,
                compared.verdict,
                f"{best.layer} ({best.variant})",
                _interval(best.pc1_valence),
                _interval(best.pc2_arousal),
                _best(best.best_valence),
                best.finding,
            ]
        )
    columns = ["bundle", "valence is", "block", "PC1-valence", "PC2-arousal", "best", "finding"]
    console.show(f"{result.n_common} emotions in common, {result.n_rated} rated", columns, rows)
    pairs = [
        [
            f"{pair.first} ~ {pair.second}",
            f"{pair.best_cka:.3f}",
            f"{pair.best_layers[0]} ~ {pair.best_layers[1]}",
            "–" if not pair.cosines else f"{max(c for _, c in pair.cosines):.3f}",
        ]
        for pair in result.pairs
    ]
    console.show("Similarity of the contrasts", ["pair", "highest CKA", "at blocks", "highest mean cosine"], pairs)
    _report_in(given)


def exported(path: Path, given: Given, json: bool) -> None:
    """A file that was just written for another tool."""
    if json:
        console.emit_json({"file": str(path), "bytes": path.stat().st_size})
    else:
        console.out.print(str(path), highlight=False)


def info(subject: Geometry | EmotionVectors | ModelFacts, given: Given, json: bool) -> None:
    """What an atlas, a bundle or a model is."""
    if isinstance(subject, workflows.ModelFacts):
        _model(subject, json)
    elif isinstance(subject, geometry.Geometry):
        analysis(subject, {"out": None}, json)
    else:
        provenance = subject.provenance.model_dump(mode="json")
        value = _bundle_object(subject, Path(given["what"]))
        if json:
            console.emit_json(value | {"provenance": provenance})
            return
        bundle(subject, {"out": given["what"]}, False)
        console.show_facts("Provenance", provenance)


def _model(model: ModelFacts, json: bool) -> None:
    if json:
        console.emit_json(asdict(model))
        return
    facts = {
        "model id": model.model_id,
        "architecture": model.architecture,
        "blocks": model.n_layers,
        "width": model.width,
        "parameters": None if model.parameters is None else f"{model.parameters:,}",
        "dtype stored": model.dtype,
        "quantisation": model.quantisation,
        "weights hash": model.weights_hash,
        "chat template": "no" if model.template_hash is None else "yes",
    }
    console.show_facts(model.model_id, facts)


def selftest(test: SelfTest, given: Given, json: bool) -> int:
    """One line a check; exit code 1 where one failed."""
    if json:
        console.emit_json(asdict(test) | {"passed": test.passed})
        return 0 if test.passed else 1
    rows = [
        [
            check.name,
            "passed" if check.passed else "FAILED",
            "–" if check.measured is None else f"{check.measured:.2g}",
            "exactly 0" if check.allowed == 0 else f"{check.allowed:g}",
            check.unit,
        ]
        for check in test.checks
    ]
    console.show(
        f"{test.model}, {test.dtype}, steered at block {test.layer}",
        ["check", "result", "largest difference", "allowed", "unit"],
        rows,
        caption=f"Steering along a random direction at dose {test.dose:g} of the residual norm.",
    )
    for check in test.checks:
        if check.note:
            console.warn(f"{check.name}: {check.note}")
    failed = sum(not check.passed for check in test.checks)
    console.say(f"{failed} of {len(test.checks)} checks failed." if failed else "All checks passed.")
    return 1 if failed else 0


def _report_in(given: Given) -> None:
    if given["out"] is not None:
        console.out.print(str(given["out"] / "report.html"), highlight=False)


def _layers_table(result: Geometry) -> None:
    rows = [
        [
            f"{layer.layer}*" if layer.variant == "denoised" else str(layer.layer),
            _interval(layer.pc1_valence),
            _interval(layer.pc2_arousal),
            _best(layer.best_valence),
            _number(layer.readout_valence_r2),
            _nuisance(layer),
            layer.finding,
        ]
        for layer in result.layers
    ]
    columns = ["block", "PC1-valence", "PC2-arousal", "best", "R²", "PC1 follows", "finding"]
    caption = (
        f"{result.n_rated} of {result.n_emotions} emotions rated ({result.ratings_source}); 95% bootstrap intervals; "
        "p after the search over components and layers. * neutral components projected out."
    )
    console.show(
        f"Geometry of {result.model}, {result.pooling or 'pooling not stated'}", columns, rows, caption=caption
    )


def _sentences(result: Geometry) -> None:
    console.say(f"{result.model}: {result.sentence}")
    if any(layer.first_component_nuisance for layer in result.layers):
        for label, sentence in result.corrected_sentences.items():
            console.say(f"  under {label}: {sentence}")
    for note in result.notes:
        console.warn(note)


def _shown(result: Geometry) -> LayerGeometry:
    return next(
        layer for layer in result.layers if (layer.layer, layer.variant) == (result.shown_layer, result.shown_variant)
    )


def _atlas_object(result: Atlas) -> dict[str, Any]:
    return {
        "model": result.geometry.model,
        "folder": str(result.folder),
        "report": str(result.report),
        "geometry": jsonlib.loads(result.geometry.model_dump_json()),
        "readout": jsonlib.loads(result.readout.model_dump_json()),
    }


def _bundle_object(vectors: EmotionVectors, path: Path) -> dict[str, Any]:
    known = vectors.provenance
    return {
        "bundle": str(path),
        "model": known.model.model_id if known.model else None,
        "emotions": len(vectors.emotions),
        "layers": list(vectors.layers),
        "width": vectors.width,
        "variants": list(vectors.variants),
        "pooling": known.pooling.label if known.pooling else None,
        "stories": known.n_stories or None,
        "set_aside": known.n_set_aside,
        "truncated": known.n_truncated,
        "sinks_left_out": known.n_sinks,
        "neutral_components": list(vectors.k) if vectors.k else None,
        "notes": list(known.notes),
    } | ({} if known.precision is None else {"precision": known.precision.sentence})


def _filter_notes(result: Atlas) -> list[str]:
    main = result.vectors.provenance
    dropped = {reason: count for reason, count in main.corpus_filtered.items() if count}
    notes = []
    if dropped:
        notes.append("stories dropped: " + ", ".join(f"{count} {reason}" for reason, count in dropped.items()))
    if main.n_set_aside:
        notes.append(
            f"{main.n_set_aside} stories set aside, too short for {main.pooling.label if main.pooling else '?'}"
        )
    if main.n_truncated:
        notes.append(f"{main.n_truncated} stories cut at {main.max_tokens} tokens")
    return notes


def _is_organism(result: Atlas) -> bool:
    return result.geometry.model.startswith("organism:")


def _number(value: float | None) -> str:
    # As correlations are printed: .93, -.12, 1.00.
    return (
        "–"
        if value is None
        else f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("0.", ".", int(abs(value) < 0.995))
    )


def _interval(value: Correlation) -> str:
    if value.r is None:
        return "–"
    return f"{_number(value.r)} [{_number(value.low)}, {_number(value.high)}]"


def _best(value: Best) -> str:
    if value.r is None or value.p is None:
        return "–"
    return f"PC{value.component} {_number(value.r)} p {_p(value.p)}"


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def _nuisance(layer: LayerGeometry) -> str:
    first = layer.first_component_nuisance
    return "–" if first is None else f"{first.nuisance} {_number(first.r)}"
