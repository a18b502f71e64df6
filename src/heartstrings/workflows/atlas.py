"""The atlas of one model: stories, vectors, geometry, readout, and the files that the report is made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heartstrings import corpus, engines, geometry, organisms, report, vectors
from heartstrings.core.errors import InputError, ModelError
from heartstrings.core.layers import parse_layers
from heartstrings.core.storage import remove_folder, write_text
from heartstrings.core.types import Pooling, Weighting
from heartstrings.corpus import (
    Corpus,
    NeutralTexts,
    calibration_texts,
    clean,
    read_neutral,
    read_stories,
    shipped_neutral,
    shipped_stories,
    topics,
)
from heartstrings.corpus.lexicon import Ratings, built_in_ratings, emotions, families, read_ratings
from heartstrings.vectors.bundle import main_bundle

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.geometry.readout import ReadoutResult
    from heartstrings.geometry.results import Comparison, Geometry
    from heartstrings.vectors.emotion_vectors import EmotionVectors

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a progress bar of that title and gives the function to call with (done, total)."""

WINDOW = 64
"""Tokens of the `window` pooling, from the offset on, where stories are long enough."""

SELF = "self"
"""In place of a file of stories: the model writes its own."""


@dataclass(frozen=True)
class Atlas:
    """What one model's atlas consists of, as written under `folder`."""

    folder: Path
    vectors: Mapping[str, EmotionVectors]
    geometry: Geometry
    readout: ReadoutResult | None
    report: Path


@dataclass(frozen=True)
class Material:
    """The texts that an atlas is made from."""

    corpus: Corpus
    neutral: NeutralTexts | None


def brings_stories(model: str) -> bool:
    """Whether it is an organism, by name or card, whose stories are in the package."""
    return model.startswith("organism:") or (Path(model) / "organism.json").is_file()


def material(
    model: str,
    *,
    stories: str | None,
    neutral: str | None,
    no_neutral: bool = False,
    min_words: int | None = 40,
) -> Material:
    """Stories and neutral texts as named, or those that belong to a bundled organism, or those that ship.

    Args:
        model: model id or folder.
        stories: file, or Hugging Face data set id (`owner/name[@revision]`). By default an organism's own, and for any
            other model the package's 480 (docs/corpus.md).
        neutral: file of neutral texts. By default those that go with the stories that are taken by default; with other
            stories the package's calibration prose.
        no_neutral: leave denoising out.
        min_words: stories from a file go through the filters, this one among them; None takes them as they are.

    Raises:
        InputError: a file or data set that cannot be used; `self`, whose stories are not written yet.
    """
    own = brings_stories(model)
    if stories == SELF:
        raise InputError(
            f"the stories of {model} by itself are not written yet",
            "a file of stories (--stories F)",
            "Write them with `heartstrings stories`, or use `heartstrings atlas`, which has the model write first",
        )
    if stories is not None:
        corpus = read_stories(stories)
        if min_words is not None:
            corpus = clean(corpus, min_words=min_words)
    else:
        corpus = organisms.stories() if own else shipped_stories()
    if no_neutral:
        return Material(corpus, None)
    if neutral is not None:
        return Material(corpus, read_neutral(neutral))
    if stories is not None:
        return Material(corpus, calibration_texts())
    return Material(corpus, organisms.neutral() if own else shipped_neutral())


def known_emotions(model: str, settings: AtlasSettings) -> tuple[str, ...]:
    """The emotions that an atlas with these settings will have vectors of, told without the model.

    Raises:
        InputError: a file or data set that cannot be used.
    """
    if settings.stories == SELF:
        return emotions()
    return _texts(model, settings.stories, settings).corpus.emotions


def no_story(directions: Sequence[str], known: Sequence[str]) -> InputError | None:
    """The error for directions with an emotion of the lexicon that no story is about; None where they hold none.

    It names the nearest emotions that the stories have: those of its family first, then by valence and arousal.
    """
    lacking = [
        word for word in emotions()
        if word not in known and any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for text in directions)
    ]  # fmt: skip
    if not lacking:
        return None
    word, family, rated = lacking[0], families(), built_in_ratings().values
    place = np.array(rated[word])

    def distance(other: str) -> tuple[bool, float]:
        return family.get(other) != family[word], float(np.linalg.norm(np.array(rated[other]) - place))

    near = sorted((name for name in known if name in rated), key=distance)[:3]
    return InputError(
        f"no story is about {word!r}; there are stories about {len(known)} emotions",
        f"one of them, such as {', '.join(near or known[:3])}",
        "Or bring stories about it: --stories self has the model write about all of the lexicon's "
        f"{len(emotions())} emotions, --stories F reads a file",
    )


def poolings(engine: Engine, corpus: Corpus, *, offset: int) -> tuple[Pooling, ...]:
    """The main pooling, and the two that take story length and position out, all for one pass over the texts.

    The window is 64 tokens long, or as long as the emotion with the shortest stories can fill with half of them.
    """
    main = Pooling(rule="from", start=offset)
    lengths = engine.count_tokens(corpus.texts)
    emotion = np.array([story.emotion for story in corpus.stories])
    shortest = min(int(np.median(lengths[emotion == name])) for name in corpus.emotions)
    stop = min(offset + WINDOW, shortest)
    centred = Pooling(rule="centred", start=offset)
    if stop < offset + 16:
        # Under 16 tokens the mean of a window is mostly noise.
        return (main, centred)
    return (main, Pooling(rule="window", start=offset, stop=stop), centred)


@dataclass(frozen=True)
class AtlasSettings:
    """The flags of `heartstrings atlas`, under the same names."""

    stories: str | None = None
    neutral: str | None = None
    no_neutral: bool = False
    generate_topics: int = 10
    """Topics that the model writes on, with `stories` = "self"."""
    scenarios: Path | None = None
    layers: str | None = None
    offset: int = 50
    weighting: Weighting = "story"
    ratings: str | None = None
    min_words: int = 40
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    token_budget: int | None = None
    """Padded tokens a batch; None: what suits the device."""
    max_tokens: int = 512
    permutations: int = 2000
    seed: int = 0
    umap: bool = False
    overwrite: bool = False


def open_model(model: str, *, revision: str | None = None, dtype: str = "auto", device: str | None = None) -> Engine:
    """Loads a model. Apart from `heartstrings.load` only so that the heavy import happens here."""
    return engines.load(model, revision=revision, dtype=dtype, device=device)


def chosen_ratings(path: str | None, emotions: Sequence[str]) -> Ratings:
    """The ratings in a file, or the package's own model-made ones.

    Raises:
        InputError: the file rates none of the emotions.
    """
    if path is None:
        return built_in_ratings()
    ratings = read_ratings(path)
    if not np.isfinite(ratings.arrays(emotions)[0]).any():
        raise InputError(
            f"{path} has no rated word among the {len(emotions)} emotions ({', '.join(emotions[:3])}, ...)",
            "valence and arousal of these emotions, estimates not counted",
        )
    return ratings


def run_atlas(
    model: str,
    out: Path,
    settings: AtlasSettings,
    *,
    progress: Progress,
    engine: Engine | None = None,
    keep_activations: bool = True,
) -> Atlas:
    """Everything for one model: `out` ends with bundles, `geometry.json`, `readout.json`, `corpus.json`, a report.

    Interrupted at any moment, the same call goes on with the next batch of stories.

    Args:
        engine: the model, where it is loaded already.
        keep_activations: leave each story's mean activations in `out/vectors/.work`, for controls with shuffled labels:
            about 11 bytes x stories x layers x width, 95 MB for smollm2 and the shipped stories.

    Raises:
        HeartstringsError: any input that cannot be used; nothing half-written stays behind.
    """
    # Everything a user can get wrong is read before the model is loaded.
    if settings.ratings is not None:
        read_ratings(settings.ratings)
    scenarios = geometry.read_scenarios(settings.scenarios) if settings.scenarios else ()
    if settings.stories == SELF and not 1 <= settings.generate_topics <= len(topics()):
        raise InputError(f"stories on {settings.generate_topics} topics", f"1 to {len(topics())} (--topics)")
    texts = None if settings.stories == SELF else _texts(model, settings.stories, settings)
    if engine is None:
        with progress(f"loading {model}"):
            engine = open_model(model, revision=settings.revision, dtype=settings.dtype, device=settings.device)
    chosen = parse_layers(settings.layers, engine.info.n_layers)
    if texts is None:
        texts = _texts(model, str(_generate(engine, out / "stories", settings, progress)), settings)
    ratings = chosen_ratings(settings.ratings, texts.corpus.emotions)
    rules = poolings(engine, texts.corpus, offset=settings.offset)
    with progress(f"reading {len(texts.corpus)} stories") as page:
        bundles = vectors.extract(
            engine, texts.corpus, out=out / "vectors", neutral=texts.neutral, layers=chosen, poolings=rules,
            weighting=settings.weighting, token_budget=settings.token_budget, max_tokens=settings.max_tokens,
            seed=settings.seed, overwrite=settings.overwrite, progress=page, keep_activations=True,
        )  # fmt: skip
    main = bundles[rules[0].label]
    with progress("geometry") as page:
        analysis = geometry.analyse(
            main, ratings, others={label: bundle for label, bundle in bundles.items() if bundle is not main},
            permutations=settings.permutations, seed=settings.seed, unembed=_unembedding(engine),
            token_strings=engine.token_strings, umap=settings.umap, progress=page,
        )  # fmt: skip
    with progress("held-out readout"):
        readout = geometry.read_out(
            engine, main, out / "vectors", texts.corpus, scenarios, layer=analysis.shown_layer, ratings=ratings
        )  # fmt: skip
    if readout.held_out is None and (out / "readout.json").is_file():
        # The bundles stood already and the stories' activations are gone: what was read off them still holds.
        before = geometry.ReadoutResult.model_validate_json((out / "readout.json").read_bytes())
        readout = before if not scenarios else before.model_copy(update={"scenarios": readout.scenarios})
    write_text(out / "corpus.json", json.dumps(_describe(texts), ensure_ascii=False, indent=1) + "\n")
    write_text(out / "readout.json", readout.model_dump_json(indent=1) + "\n")
    _write_results(out, analysis, ratings, texts.corpus.emotions)
    if not keep_activations:
        remove_folder(out / "vectors" / vectors.WORK)
    return Atlas(out, bundles, analysis, readout, report.render(out))


def _unembedding(engine: Engine) -> Callable[[np.ndarray], np.ndarray] | None:
    """The way from residuals to logits, or None where the model has none: no logit lens is no failure."""
    try:
        engine.unembed(np.zeros((1, engine.info.width), dtype=np.float32))
    except ModelError:
        return None
    return engine.unembed


def _write_results(out: Path, geometry: Geometry, ratings: Ratings, emotions: Sequence[str]) -> None:
    """Ratings of these emotions alone: a whole table of somebody else's may not be passed on with an atlas."""
    kept = {
        "source": ratings.source,
        "values": {word: value for word, value in ratings.values.items() if word in emotions},
        "estimated": sorted(ratings.estimated & set(emotions)),
    }
    write_text(out / "ratings.json", json.dumps(kept, ensure_ascii=False) + "\n")
    write_text(out / "geometry.json", geometry.model_dump_json(indent=1) + "\n")


def run_atlases(
    models: Sequence[str], out: Path, settings: AtlasSettings, *, progress: Progress
) -> tuple[dict[str, Atlas], Path]:
    """An atlas of each model in a folder of its own, and one report that shows them side by side."""
    if len(set(models)) < len(models):
        raise InputError("a model is named twice", "each model once")
    folders = {model: out / slug(model) for model in models}
    if len(set(folders.values())) < len(folders):
        raise InputError("two models would share a folder", fix="Run them one at a time, each with its own --out")
    results = {model: run_atlas(model, folder, settings, progress=progress) for model, folder in folders.items()}
    with progress("comparing"):
        page = report.render_comparison(list(folders.values()), out / "report.html")
    return results, page


def analyse_bundle(
    vectors: EmotionVectors, ratings: Ratings, *, engine: Engine | None = None, out: Path | None = None,
    permutations: int = 2000, seed: int = 0, progress: Progress,
) -> tuple[Geometry, Path | None]:  # fmt: skip
    """Geometry of vectors without their stories, such as imported ones; with `out`, also a folder with a report.

    Args:
        engine: the vectors' own model, for the logit lens.
    """
    with progress("geometry") as page:
        analysis = geometry.analyse(
            vectors, ratings, permutations=permutations, seed=seed, progress=page,
            unembed=None if engine is None else _unembedding(engine),
            token_strings=None if engine is None else engine.token_strings,
        )  # fmt: skip
    if out is None:
        return analysis, None
    vectors.save(out / "vectors" / (analysis.pooling or "imported"))
    _write_results(out, analysis, ratings, vectors.emotions)
    return analysis, report.render(out)


def compare_bundles(
    paths: Sequence[Path], *, ratings: str | None, permutations: int, seed: int, out: Path | None, progress: Progress
) -> tuple[Comparison, Path | None]:
    """Bundles, or atlases by their main bundle, side by side; with `out`, also a folder with a report."""
    if len(paths) < 2:
        raise InputError(f"{len(paths)} bundle to compare", "two or more")
    labels = _labels([path.resolve() for path in paths])
    bundles = {label: vectors.EmotionVectors.load(main_bundle(path)) for label, path in labels.items()}
    chosen = chosen_ratings(ratings, next(iter(bundles.values())).emotions)
    with progress("comparing") as page:
        comparison = geometry.compare(bundles, chosen, permutations=permutations, seed=seed, progress=page)
    if out is None:
        return comparison, None
    folders = []
    for label, path in labels.items():
        if (path / "geometry.json").is_file():
            folders.append(path)
            continue
        folders.append(out / label.replace("/", "--"))
        analyse_bundle(
            bundles[label], chosen, out=folders[-1], permutations=permutations, seed=seed, progress=progress
        )  # fmt: skip
    return comparison, report.render_comparison(folders, out / "report.html")


def slug(model: str) -> str:
    """A folder name for a model id: `google/gemma-4-E4B-it` becomes `google--gemma-4-E4B-it`."""
    name = model.removeprefix("organism:").strip("/")
    name = Path(name).name if Path(model).is_dir() else name.replace("/", "--")
    return re.sub(r"[^\w.-]+", "-", name) or "model"


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """The shortest endings of the paths that tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(paths):
            return dict(zip(labels, paths, strict=True))
    raise InputError("the same bundle is named twice", "different bundles")


def _texts(model: str, stories: str | None, settings: AtlasSettings) -> Material:
    return material(
        model,
        stories=stories,
        neutral=settings.neutral,
        no_neutral=settings.no_neutral,
        min_words=settings.min_words,
    )


def _generate(engine: Engine, out: Path, settings: AtlasSettings, progress: Progress) -> Path:
    plan = corpus.StoryPlan(
        topics=topics()[: settings.generate_topics], seed=settings.seed, min_words=settings.min_words
    )
    with progress(f"{engine.info.model_id} writes stories") as report:
        corpus.generate_stories(plan, corpus.EngineWriter(engine), out, report)
    return out / "stories.jsonl"


def _describe(texts: Material) -> dict[str, object]:
    corpus = texts.corpus
    return {
        "author": corpus.author,
        "source": corpus.source,
        "hash": corpus.hash,
        "prompt_hash": corpus.prompt_hash,
        "stories": len(corpus),
        "emotions": len(corpus.emotions),
        "topics": len(corpus.topics),
        "filtered": dict(corpus.filtered),
        "dropped": [
            {
                "emotion": row.story.emotion,
                "topic": row.story.topic,
                "reason": row.reason,
                "evidence": row.evidence,
            }
            for row in corpus.dropped
        ],
        "neutral": None
        if texts.neutral is None
        else {"source": texts.neutral.source, "hash": texts.neutral.hash, "texts": len(texts.neutral)},
        "notes": list(corpus.notes),
    }
