"""What the command line prints when a verb is done: a table, a sentence, the path of the report last."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings import core, engines, geometry, vectors, workflows
from heartstrings.cli import console
from heartstrings.core.errors import InputError

if TYPE_CHECKING:
    from heartstrings.corpus import Corpus, NeutralTexts
    from heartstrings.geometry.results import Best, Comparison, Correlation, Geometry, LayerGeometry
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.workflows.atlas import Atlas

SHOWN = "At the block nearest two thirds of the depth; 95% intervals; every block is in the report."
ORGANISM_NOTE = (
    "An organism is a tiny model trained to have a known answer. What it shows says nothing of a large model."
)


def atlas(result: Atlas, *, json: bool) -> None:
    """One model's atlas."""
    if json:
        console.emit_json(_atlas_object(result))
        return
    _layers_table(result.geometry)
    _sentences(result.geometry)
    if result.readout is not None:
        console.say(result.readout.sentence)
    for note in _filter_notes(result):
        console.warn(note)
    if _is_organism(result):
        console.say(ORGANISM_NOTE)
    console.out.print(str(result.report), highlight=False)


def atlases(results: Mapping[str, Atlas], report: Path, *, json: bool) -> None:
    """Several models' atlases, a row each at its best layer."""
    if json:
        console.emit_json({"atlases": [_atlas_object(one) for one in results.values()], "report": str(report)})
        return
    rows = []
    for model, result in results.items():
        shown = _shown(result.geometry)
        rows.append(
            [model, result.geometry.verdict, str(shown.layer), _interval(shown.pc1_valence),
             _interval(shown.pc2_arousal), _best(shown.best_valence), _number(shown.readout_valence_r2),
             _nuisance(shown), shown.finding]
        )  # fmt: skip
    columns = ["model", "valence is", "block", "PC1-valence", "PC2-arousal", "best", "R²",
               "PC1 follows", "finding"]  # fmt: skip
    console.show("Emotion atlas", columns, rows, caption=SHOWN)
    for result in results.values():
        _sentences(result.geometry)
    if any(_is_organism(result) for result in results.values()):
        console.say(ORGANISM_NOTE)
    console.out.print(str(report), highlight=False)


def analysis(result: Geometry, report: Path | None = None, *, json: bool) -> None:
    """The geometry of one bundle."""
    if json:
        console.emit_json(result.model_dump_json())
        return
    _layers_table(result)
    _sentences(result)
    if report is not None:
        console.out.print(str(report), highlight=False)


def bundle(vectors: EmotionVectors, path: Path, *, json: bool) -> None:
    """A bundle that was just written."""
    value = _bundle_object(vectors, path)
    if json:
        console.emit_json(value)
        return
    facts = {name: item for name, item in value.items() if name != "bundle"}
    console.show_facts(f"Vectors of {value['model'] or 'an unnamed model'}", facts)
    console.out.print(str(path), highlight=False)


def stories(corpus: Corpus, neutral: NeutralTexts | None, out: Path, *, json: bool) -> None:
    """Stories that were just written, and what the filters did."""
    value: dict[str, Any] = {
        "file": str(out / "stories.jsonl"),
        "author": corpus.author,
        "stories": len(corpus),
        "emotions": len(corpus.emotions),
        "topics": len(corpus.topics),
        "dropped": dict(corpus.filtered),
        "hash": corpus.hash,
        "neutral_texts": None if neutral is None else len(neutral),
        "notes": list(corpus.notes),
    }
    if json:
        console.emit_json(value)
        return
    console.show_facts("Stories", {name: item for name, item in value.items() if name != "file"})
    console.out.print(value["file"], highlight=False)


def comparison(result: Comparison, report: Path | None, *, json: bool) -> None:
    """Bundles side by side."""
    if json:
        console.emit_json(jsonlib.loads(result.model_dump_json()) | {"report": str(report) if report else None})
        return
    rows = []
    for one in result.bundles:
        best = max(one.layers, key=lambda layer: layer.best_valence.r or 0.0)
        rows.append([one.label, one.verdict, f"{best.layer} ({best.variant})", _interval(best.pc1_valence),
                     _interval(best.pc2_arousal), _best(best.best_valence), best.finding])  # fmt: skip
    columns = [
        "bundle",
        "valence is",
        "block",
        "PC1-valence",
        "PC2-arousal",
        "best",
        "finding",
    ]
    console.show(f"{result.n_common} emotions in common, {result.n_rated} rated", columns, rows)
    pairs = [
        [f"{pair.first} ~ {pair.second}", f"{pair.best_cka:.3f}", f"{pair.best_layers[0]} ~ {pair.best_layers[1]}",
         "–" if not pair.cosines else f"{max(c for _, c in pair.cosines):.3f}"]
        for pair in result.pairs
    ]  # fmt: skip
    console.show("Similarity of the contrasts", ["pair", "highest CKA", "at blocks", "highest mean cosine"], pairs)
    if report is not None:
        console.out.print(str(report), highlight=False)


def info(what: str, *, json: bool) -> None:
    """A bundle, an atlas folder, a model folder, file or id. Of a model that lies on this machine, the files are read
    and nothing is loaded; a GGUF file that was not opened before is dequantised first.

    Raises:
        InputError: it is none of them; ModelError: a model that cannot be loaded.
    """
    path = Path(what)
    if (path / "geometry.json").is_file():
        analysis(geometry.Geometry.model_validate_json((path / "geometry.json").read_bytes()), json=json)
    elif (path / "bundle.json").is_file():
        emotion_vectors = vectors.EmotionVectors.load(path)
        if json:
            console.emit_json(
                _bundle_object(emotion_vectors, path)
                | {"provenance": emotion_vectors.provenance.model_dump(mode="json")}
            )
            return
        bundle(emotion_vectors, path, json=False)
        console.show_facts("Provenance", emotion_vectors.provenance.model_dump(mode="json"))
    elif path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{what} holds no bundle.json, geometry.json or config.json", "a bundle, an atlas or a model")
    else:
        _model(what, json=json)


def _model(what: str, *, json: bool) -> None:
    try:
        stated = _described(what, quiet=json)
    except core.ModelError:  # whatever is wrong with the files, loading says it better
        stated = None
    if stated is None:
        stated = _loaded(what, f"loading {what}", quiet=json)
    if json:
        console.emit_json(stated)
        return
    n = stated["parameters"]
    facts = {
        "model id": what,
        "architecture": stated["architecture"],
        "blocks": stated["n_layers"],
        "width": stated["width"],
        "parameters": None if n is None else f"{n:,}",
        "dtype stored": stated["dtype"],
        "quantisation": stated["quantisation"],
        "weights hash": stated["weights_hash"],
        "chat template": "no" if stated["template_hash"] is None else "yes",
    }
    console.show_facts(what, facts)


def _described(what: str, *, quiet: bool) -> dict[str, Any] | None:
    """A model as the files on this machine describe it, under the names of `ModelInfo`; None where there are none."""
    copy = None
    if (file := engines.gguf_file(what)) is not None and (copy := engines.made_copy(file)) is None:
        _loaded(what, f"dequantising {what}, this once", quiet=quiet)
        copy = engines.made_copy(file)
    folder = engines.local_folder(what) if copy is None else copy.folder
    if folder is None:
        return None
    found = engines.describe(folder)
    known = {
        "model_id": what,
        "architecture": found.architecture,
        "n_layers": found.n_layers,
        "width": found.width,
        "dtype": found.dtype,
        "weights_hash": found.weights_hash if copy is None else f"gguf-sha256:{copy.sha256}",
        "template_hash": engines.of_text(found.template),
        "quantisation": None if copy is None else copy.quantisation,
        "parameters": found.parameters,
    }
    return {name: known.get(name) for name in (*core.ModelInfo.model_fields, "parameters")}


def _loaded(what: str, title: str, *, quiet: bool) -> dict[str, Any]:
    """The same of a model that has to be loaded, from the hub perhaps."""
    with console.bars(quiet)(title):
        engine = workflows.open_model(what, device="cpu")
    return {**engine.info.model_dump(mode="json"), "parameters": None}


def _layers_table(result: Geometry) -> None:
    rows = [
        [f"{one.layer}*" if one.variant == "denoised" else str(one.layer),
         _interval(one.pc1_valence), _interval(one.pc2_arousal),
         _best(one.best_valence), _number(one.readout_valence_r2), _nuisance(one), one.finding]
        for one in result.layers
    ]  # fmt: skip
    columns = ["block", "PC1-valence", "PC2-arousal", "best", "R²", "PC1 follows", "finding"]
    caption = (
        f"{result.n_rated} of {result.n_emotions} emotions rated ({result.ratings_source}); 95% bootstrap intervals; "
        "p after the search over components and layers. * neutral components projected out."
    )
    console.show(
        f"Geometry of {result.model}, {result.pooling or 'pooling not stated'}",
        columns,
        rows,
        caption=caption,
    )


def _sentences(result: Geometry) -> None:
    console.say(f"{result.model}: {result.sentence}")
    if any(one.first_component_nuisance for one in result.layers):
        for label, sentence in result.corrected_sentences.items():
            console.say(f"  under {label}: {sentence}")
    for note in result.notes:
        console.warn(note)


def _shown(result: Geometry) -> LayerGeometry:
    return next(one for one in result.layers if (one.layer, one.variant) == (result.shown_layer, result.shown_variant))


def _atlas_object(result: Atlas) -> dict[str, Any]:
    return {
        "model": result.geometry.model,
        "folder": str(result.folder),
        "report": str(result.report),
        "geometry": jsonlib.loads(result.geometry.model_dump_json()),
        "readout": None if result.readout is None else jsonlib.loads(result.readout.model_dump_json()),
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
    }


def _filter_notes(result: Atlas) -> list[str]:
    main = next(iter(result.vectors.values())).provenance
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


def _nuisance(one: LayerGeometry) -> str:
    first = one.first_component_nuisance
    return "–" if first is None else f"{first.nuisance} {_number(first.r)}"
