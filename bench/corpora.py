"""Is the corpus that ships any worse than another file of stories? The same model reads both.

    python bench/corpora.py smollm2 OTHER.jsonl --out corpora [--atlas DIR] [--threads 2]

Makes an atlas of the model from the shipped stories and one from the other file (filtered as `atlas` does), both
denoised with the shipped neutral texts, both against the built-in ratings; then compares them on the emotions that both
have, contrasts centred anew over these: where valence and arousal lie at each layer, how well held-out stories are
read, what the components follow besides emotion, and how alike each emotion's two contrasts are. Last, what words alone
tell: an emotion classified from the unigrams of a story, on topics that were held out.

Prints Markdown and writes `comparison.json`. Stopped at any moment, the same command goes on. `--atlas` names a
finished atlas of the shipped stories.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "corpus"))
from test_shipped_corpus import words_alone

from heartstrings.cli._console import bars
from heartstrings.corpus import Corpus, facts
from heartstrings.corpus.lexicon import built_in_ratings
from heartstrings.geometry import compare
from heartstrings.geometry._held_out import held_out, story_stream
from heartstrings.geometry.comparison import contrast_cosines, restrict
from heartstrings.geometry.results import Compared, Geometry, LayerGeometry
from heartstrings.vectors.bundle import main_bundle
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.workflows.atlas import AtlasSettings, material, open_model, run_atlas

if TYPE_CHECKING:
    from heartstrings.geometry.readout_results import HeldOut

NUISANCES = ("length", "person", "dialogue")


def some(corpus: Corpus, names: tuple[str, ...]) -> Corpus:
    """The stories of some emotions alone."""
    return replace(corpus, stories=tuple(story for story in corpus.stories if story.emotion in names))


def read_common(folder: Path, vectors: EmotionVectors, corpus: Corpus, names: tuple[str, ...], shown: int) -> HeldOut:
    """The held-out readout among the emotions that both corpora have."""
    stream = story_stream(folder / "vectors", vectors, corpus)
    if stream is None:
        raise SystemExit(f"{folder} holds no stories' activations: make the atlas anew")
    batches, emotion, half = stream
    place = np.array([names.index(name) if name in names else -1 for name in vectors.emotions] + [-1])
    found = held_out(batches, place[emotion], half, restrict(vectors, names), shown_layer=shown, variant="denoised")
    if found is None:
        raise SystemExit("no topic halves to hold out")
    return found


def texts_of(corpus: Corpus) -> dict[str, Any]:
    """Size, and how far the emotions' means of length, person and dialogue are apart (standard deviation)."""
    known = [facts(story.text) for story in corpus.stories]
    emotion = np.array([corpus.emotions.index(story.emotion) for story in corpus.stories])
    pairs = {(story.emotion, story.topic) for story in corpus.stories}
    spread = {}
    for name in ("words", "person", "dialogue"):
        values = np.array([float(getattr(one, name)) for one in known])
        there = np.isfinite(values)
        means = [values[there & (emotion == i)].mean() for i in range(len(corpus.emotions))]
        spread[name] = float(np.std(means) / (np.mean(means) if name == "words" else 1.0))
    return {
        "stories": len(corpus),
        "emotions": len(corpus.emotions),
        "topics": len(corpus.topics),
        "crossed": len(pairs) / (len(corpus.emotions) * len(corpus.topics)),
        "words": float(np.mean([one.words for one in known])),
        "spread": spread,
        "dropped": sum(corpus.filtered.values()),
    }


def nuisance_rows(geometry: Geometry, variant: str) -> list[LayerGeometry]:
    return [row for row in geometry.layers if row.variant == variant]


def strongest(row: LayerGeometry, nuisance: str, *, first: bool) -> float | None:
    """|r| of component 1, or of that of the first ten which follows it most; between emotions, topic within them."""
    level = "story" if nuisance == "topic" else "emotion"
    fits = [fit for fit in row.nuisances if fit.nuisance == nuisance and fit.level == level]
    if first:
        fits = [fit for fit in fits if fit.component == 1]
    return max((fit.r for fit in fits), default=None)


def number(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def layer_rows(both: Sequence[Compared], variant: str, extra: dict[int, list[str]]) -> list[list[str]]:
    """A row a layer: both corpora side by side, on their common emotions."""
    rows = []
    columns = [{one.layer: one for one in bundle.layers if one.variant == variant} for bundle in both]
    for layer in columns[0]:
        row = [str(layer)]
        for column in columns:
            one = column[layer]
            best = one.best_valence
            row += [
                number(one.pc1_valence.r),
                f"{best.component}: {number(best.r)} ({number(best.p, 3)})",
                number(one.pc2_arousal.r),
                f"{one.best_arousal.component}: {number(one.best_arousal.r)} ({number(one.best_arousal.p, 3)})",
                number(one.readout_valence_r2),
            ]
        rows.append([*row, *extra.get(layer, [])])
    return rows


def in_short(values: Sequence[float | None], layers: Sequence[int], shown: int) -> str:
    """At the shown layer, and the median and largest over all."""
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    return f"{number(values[list(layers).index(shown)])} ({number(float(np.median(there)))}, {number(max(there))})"


def short_table(both: Sequence[Compared], readouts: dict[str, HeldOut], shown: int, named: dict[str, str]) -> str:
    """One row a measure, denoised: at the shown layer (median over layers, largest)."""
    rows: dict[str, list[str]] = {}
    for bundle in both:
        layers = [one for one in bundle.layers if one.variant == "denoised"]
        numbers = [one.layer for one in layers]
        ranks = readouts[bundle.label].layers
        for what, values in {
            "PC1-valence": [one.pc1_valence.r for one in layers],
            "best component for valence": [one.best_valence.r for one in layers],
            "its p": [one.best_valence.p for one in layers],
            "PC2-arousal": [one.pc2_arousal.r for one in layers],
            "best component for arousal": [one.best_arousal.r for one in layers],
            "valence readout R²": [one.readout_valence_r2 for one in layers],
            "held-out story: the true emotion is first": [one.top1.value for one in ranks],
            "held-out story: percentile of the true emotion": [one.percentile.value for one in ranks],
        }.items():
            rows.setdefault(what, []).append(in_short(values, numbers, shown))
    rows["blocks whose component 1 is a nuisance's, own emotions"] = [named[bundle.label] for bundle in both]
    return table(["denoised", *(bundle.label for bundle in both)], [[what, *found] for what, found in rows.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("other", help="stories: a JSONL file or a data set id")
    parser.add_argument("--out", type=Path, default=Path("corpora"))
    parser.add_argument("--atlas", type=Path, help="a finished atlas of the shipped stories")
    parser.add_argument("--token-budget", type=int)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it likes")
    given = parser.parse_args()
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    neutral = str(resources.files("heartstrings") / "data" / "neutral.jsonl")
    shared = {"neutral": neutral, "token_budget": given.token_budget, "permutations": given.permutations}
    folders = {"shipped": given.atlas or given.out / "shipped", "other": given.out / "other"}
    sources = {"shipped": None, "other": given.other}
    missing = [name for name, folder in folders.items() if not (folder / "report.html").is_file()]
    if missing:
        engine = open_model(given.model)
        for name in missing:
            settings = AtlasSettings(stories=sources[name], **shared)
            with bars(quiet=False) as progress:
                run_atlas(given.model, folders[name], settings, progress=progress, engine=engine)

    corpora = {
        name: material(given.model, stories=source, neutral=neutral).corpus for name, source in sources.items()
    }  # fmt: skip
    bundles = {name: EmotionVectors.load(main_bundle(folder)) for name, folder in folders.items()}
    geometry = {
        name: Geometry.model_validate_json((folder / "geometry.json").read_bytes()) for name, folder in folders.items()
    }
    for name, corpus in corpora.items():
        if bundles[name].provenance.corpus_hash != corpus.hash:
            raise SystemExit(f"{folders[name]} was made from other stories: {name} is {corpus.hash}")
    compared = compare(bundles, built_in_ratings(), permutations=given.permutations)
    names, shown = compared.common, geometry["shipped"].shown_layer
    one, two = (restrict(bundles[name], names) for name in folders)
    readouts = {name: read_common(folders[name], bundles[name], corpora[name], names, shown) for name in folders}

    # How alike is an emotion's contrast in both, and is it nearer to itself than to the others?
    alike: dict[str, dict[int, dict[str, float]]] = {}
    for variant in ("raw", "denoised"):
        alike[variant] = {}
        for row, layer in enumerate(one.layers):
            first, second = one.contrasts(variant)[row], two.contrasts(variant)[row]
            own = contrast_cosines(first, second)
            units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second)]
            nearest = float(((units[0] @ units[1].T).argmax(1) == np.arange(len(names))).mean())
            alike[variant][layer] = {
                "mean": float(own.mean()), "low": float(np.quantile(own, 0.1)), "nearest": nearest,
                "reliability": float(np.sqrt(np.nanmean(one.reliability[row]) * np.nanmean(two.reliability[row]))),
            }  # fmt: skip

    facts_of = {name: texts_of(corpus) for name, corpus in corpora.items()}
    words = {name: words_alone(some(corpus, names)) for name, corpus in corpora.items()}
    result = {
        "model": given.model,
        "common": names,
        "texts": facts_of,
        "words_alone": words,
        "comparison": compared.model_dump(mode="json"),
        "held_out_common": {name: found.model_dump(mode="json") for name, found in readouts.items()},
        "alike": alike,
        "verdict": {
            name: {"sentence": found.sentence, "encoded_p": found.encoded_p, "detectable_r": found.detectable_r}
            for name, found in geometry.items()
        },
        "nuisances": {
            name: {
                variant: {
                    row.layer: {
                        what: [strongest(row, what, first=True), strongest(row, what, first=False)]
                        for what in (*NUISANCES, "topic")
                    }
                    for row in nuisance_rows(found, variant)
                }
                for variant in ("raw", "denoised")
            }
            for name, found in geometry.items()
        },
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "comparison.json").write_text(json.dumps(result, indent=1), encoding="utf-8")

    print(f"{given.model}; {len(names)} emotions in common, {compared.n_rated} rated; shown layer {shown}\n")
    print(table(
        ["corpus", "stories", "emotions x topics", "pairs there", "dropped", "words",
         "spread of the emotions' mean length", "of person", "of dialogue", "read from words alone (guessing)"],
        [
            [name, f["stories"], f"{f['emotions']} x {f['topics']}", f"{f['crossed']:.0%}", f["dropped"],
             f"{f['words']:.0f}", f"{f['spread']['words']:.1%}", number(f["spread"]["person"]),
             number(f["spread"]["dialogue"], 3), f"{words[name]:.0%} ({1 / len(names):.1%})"]
            for name, f in facts_of.items()
        ],
    ))  # fmt: skip
    head = ["PC1-valence", "best for valence (p)", "PC2-arousal", "best for arousal (p)", "readout R²"]
    for variant in ("raw", "denoised"):
        print(f"\n{variant}, the {len(names)} emotions in common\n")
        extra = {layer: [number(found["mean"]), f"{found['nearest']:.0%}"] for layer, found in alike[variant].items()}
        print(table(
            ["block", *(f"{name}: {column}" for name in folders for column in head), "cosine", "itself nearest"],
            layer_rows(compared.bundles, variant, extra),
        ))  # fmt: skip
    print(f"\nHeld-out stories among the {len(names)} emotions in common, denoised\n")
    print(table(
        ["block", *(f"{name}: {what}" for name in folders for what in ("first", "of five", "percentile", "family"))],
        [
            [layer.layer, *(
                value for name in folders for value in (
                    f"{readouts[name].layers[i].top1.value:.1%}", f"{readouts[name].layers[i].top5.value:.1%}",
                    number(readouts[name].layers[i].percentile.value), f"{readouts[name].layers[i].family.value:.1%}",
                )
            )]
            for i, layer in enumerate(readouts["shipped"].layers)
        ],
    ))  # fmt: skip
    for name, found in readouts.items():
        ranks = next(layer for layer in found.layers if layer.layer == shown)
        print(f"\n{name}, block {shown}: first {ranks.top1.value:.1%} [{ranks.top1.low:.1%}, {ranks.top1.high:.1%}]"
              f", guessing {ranks.top1.chance:.1%}; {found.n_stories} stories; p = {ranks.p:.4f}")  # fmt: skip
    for variant in ("raw", "denoised"):
        print(f"\nWhat component 1 follows (in brackets: the component of ten that follows it most), {variant}, each "
              "corpus on its own emotions\n")  # fmt: skip
        rows = {name: nuisance_rows(found, variant) for name, found in geometry.items()}
        print(table(
            ["block", *(f"{name}: {n}" for name in folders for n in (*NUISANCES, "topic"))],
            [
                [row.layer, *(
                    f"{number(strongest(rows[name][i], n, first=True))} "
                    f"({number(strongest(rows[name][i], n, first=False))})"
                    for name in folders for n in (*NUISANCES, "topic")
                )]
                for i, row in enumerate(rows["shipped"])
            ],
        ))  # fmt: skip
        for name in folders:
            named = [f"{row.layer} ({row.first_component_nuisance.nuisance})" for row in rows[name]
                     if row.first_component_nuisance]  # fmt: skip
            print(f"\n{name}: component 1 is a nuisance's in {len(named)} of {len(rows[name])} blocks"
                  + (": " + ", ".join(named) if named else ""))  # fmt: skip
    for name, found in geometry.items():
        print(f"\n{name}: {found.sentence}")
    named = {
        name: f"{sum(row.first_component_nuisance is not None for row in nuisance_rows(found, 'denoised'))} of "
        f"{len(nuisance_rows(found, 'denoised'))}"
        for name, found in geometry.items()
    }
    print(f"\nIn short: at block {shown} (median over blocks, largest)\n")
    print(short_table(compared.bundles, readouts, shown, named))
    means = [found["mean"] for found in alike["denoised"].values()]
    itself = [found["nearest"] for found in alike["denoised"].values()]
    limits = [found["reliability"] for found in alike["denoised"].values()]
    print(f"\nAn emotion's two contrasts, denoised: cosine {in_short(means, one.layers, shown)}; itself the nearest of "
          f"{len(names)}: {in_short(itself, one.layers, shown)}. What a perfect likeness would reach (root of the two "
          f"split-half reliabilities, raw): {in_short(limits, one.layers, shown)}.")  # fmt: skip


if __name__ == "__main__":
    main()
