"""The atlas of one model: stories, vectors, geometry, readout, and the files that the report is made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from heartstrings import corpus, engines, geometry, organisms, report, vectors
from heartstrings.core.errors import InputError, ModelError
from heartstrings.core.layers import parse_layers
from heartstrings.core.storage import remove_folder, write_text
from heartstrings.core.types import ModelInfo, Pooling, Weighting
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
from heartstrings.vectors.bundle import check_model, main_bundle
from heartstrings.workflows.precision import reader
from heartstrings.workflows.values import Progress, checked, path_of, silent

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.geometry.readout import ReadoutResult
    from heartstrings.geometry.results import Comparison, Geometry
    from heartstrings.vectors.emotion_vectors import EmotionVectors

WINDOW = 64
"""Tokens of the `window` pooling, from the offset on, where stories are long enough."""

SELF = "self"
"""In place of a file of stories: the model writes its own."""


@dataclass(frozen=True)
class Atlas:
    """What one model's atlas consists of, as written under `folder`."""

    folder: Path
    bundles: Mapping[str, EmotionVectors]
    """The same stories pooled by several rules, by label; the main rule first."""
    geometry: Geometry
    readout: ReadoutResult
    report: Path

    @property
    def vectors(self) -> EmotionVectors:
        """The vectors of the main pooling rule, which everything after the atlas uses."""
        return next(iter(self.bundles.values()))


@dataclass(frozen=True)
class Atlases:
    """Several models' atlases, by model, and one report on all of them."""

    atlases: Mapping[str, Atlas]
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
    stories: str | PathLike[str] | Corpus | None,
    neutral: str | PathLike[str] | NeutralTexts | None,
    no_neutral: bool = False,
    min_words: int | None = 40,
) -> Material:
    """Stories and neutral texts as named, or those that belong to a bundled organism, or those that ship.

    Args:
        model: model id or folder.
        stories: a file, a Hugging Face data set id (`owner/name[@revision]`), or a corpus, which is taken as it is. By
            default an organism's own, and for any other model the package's 480 (docs/corpus.md).
        neutral: neutral texts, or a file of them. By default those that go with the stories that are taken by default;
            with other stories the package's calibration prose.
        no_neutral: leave denoising out.
        min_words: stories from a file go through the filters, this one among them; None takes them as they are.

    Raises:
        InputError: a file or data set that cannot be used; `self`, whose stories are not written yet.
    """
    own = brings_stories(model)
    if isinstance(stories, str) and stories == SELF:
        raise InputError(
            f"the stories of {model} by itself are not written yet",
            "a file of stories (--stories F)",
            "Write them with `heartstrings stories`, or use `heartstrings atlas`, which has the model write first",
        )
    corpus = stories_of(stories or (model if own else None), min_words=min_words)
    if no_neutral:
        return Material(corpus, None)
    if isinstance(neutral, NeutralTexts):
        return Material(corpus, neutral)
    if neutral is not None:
        return Material(corpus, read_neutral(fspath(neutral)))
    if corpus is shipped_stories():
        return Material(corpus, shipped_neutral())
    theirs = own if stories is None else isinstance(stories, Corpus) and corpus.source.startswith("organism stories")
    return Material(corpus, organisms.neutral() if theirs else calibration_texts())


def stories_of(source: str | PathLike[str] | Corpus | None = None, *, min_words: int | None = None) -> Corpus:
    """Stories from where a name leads.

    Args:
        source: a JSONL file, a Hugging Face data set id (`owner/name[@revision]`), `organism:KIND` for the organisms'
            own stories, or a corpus. None: the 480 stories that ship with the package.
        min_words: stories from a file or data set go through the filters of `clean`, this one among them; None takes
            them as they are.
    Raises:
        InputError: a file or data set that cannot be used.
    """
    if source is None:
        return shipped_stories()
    if isinstance(source, Corpus):
        return source
    if brings_stories(fspath(source)):
        return organisms.stories()
    stories = read_stories(fspath(source))
    return stories if min_words is None else clean(stories, min_words=min_words)


def no_story(directions: Sequence[str], known: Sequence[str]) -> InputError | None:
    """The error for directions with an emotion of the lexicon that no story is about; None where they hold none.

    It names the nearest emotions that the stories have: those of its family first, then by valence and arousal.
    """
    lacking = [
        word
        for word in emotions()
        if word not in known and any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for text in directions)
    ]
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
    """The options of `heartstrings.atlas`, under the same names."""

    stories: str | PathLike[str] | Corpus | None = None
    neutral: str | PathLike[str] | NeutralTexts | None = None
    no_neutral: bool = False
    topics: int = 10
    """Topics that the model writes on, with `stories` = "self"."""
    scenarios: str | Path | None = None
    layers: str | Sequence[int] | None = None
    offset: int = 50
    weighting: Weighting = "story"
    ratings: str | PathLike[str] | Ratings | None = None
    min_words: int = 40
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    token_budget: int | None = None
    """Padded tokens a batch; None: what suits the device."""
    reliability: float | None = None
    """Stories are read until every emotion has it (`heartstrings.vectors.story_rounds`); None: all of them."""
    max_tokens: int = 512
    permutations: int = 2000
    seed: int = 0
    umap: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        checked("--weighting", self.weighting, get_args(Weighting))

    @property
    def writes(self) -> bool:
        """Whether the model writes its own stories first."""
        return isinstance(self.stories, str) and self.stories == SELF

    def material(self, model: str) -> Material:
        """The texts of this atlas, of stories that exist already. Raises as `material` does."""
        return material(
            model, stories=self.stories, neutral=self.neutral, no_neutral=self.no_neutral, min_words=self.min_words
        )


def open_model(model: str, *, revision: str | None = None, dtype: str = "auto", device: str | None = None) -> Engine:
    """Loads a model. Apart from `heartstrings.load` only so that the heavy import happens here."""
    return engines.load(model, revision=revision, dtype=dtype, device=device)


def opened(
    model: str | PathLike[str] | Engine,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    progress: Progress = silent,
) -> Engine:
    """A model by its name, or the one that is loaded already.

    Raises:
        InputError: a loaded model of another revision or dtype, or on another device, than the one asked for.
        ModelError: a model that cannot be loaded.
    """
    if not isinstance(model, str | PathLike):
        check_loaded(model, revision=revision, dtype=dtype, device=device)
        return model
    name = fspath(model)
    progress(f"loading {name}", 0, None)
    return open_model(name, revision=revision, dtype=dtype, device=device)


def check_loaded(
    engine: Engine, *, revision: str | None = None, dtype: str = "auto", device: str | None = None
) -> None:
    """Options of loading have no effect on a model that is loaded already.

    Raises:
        InputError: one of them asks for something that the model is not.
    """
    info = engine.info
    # `cuda` is any of the GPUs.
    on = info.device if device is None or ":" in device else info.device.partition(":")[0]
    for flag, asked, default, is_ in (
        ("--revision", revision, None, info.revision),
        ("--dtype", dtype, "auto", info.dtype),
        ("--device", device, None, on),
    ):
        if asked not in (default, is_):
            raise InputError(
                f"{flag} {asked}, and a loaded model ({info.model_id}) with {is_}",
                "a model's name, or options that the loaded model has",
                f"Leave out {flag}, or load the model with it: heartstrings.load",
            )


def vectors_of(
    source: str | Path | EmotionVectors, *, for_model: ModelInfo | None = None, force: bool = False
) -> EmotionVectors:
    """Vectors, or those in the folder of a bundle, an atlas or a run.

    Args:
        for_model: the model that they are used with; vectors of another one are refused, unless `force`.
    """
    if isinstance(source, vectors.EmotionVectors):
        if for_model is not None:
            check_model(source, for_model, force=force, where="the given set")
        return source
    return vectors.EmotionVectors.load(main_bundle(path_of("vectors", source)), for_model=for_model, force=force)


def name_of(model: str | PathLike[str] | Engine) -> str:
    """The name of a model that is loaded or not."""
    return fspath(model) if isinstance(model, str | PathLike) else model.info.model_id


def ratings_of(source: str | PathLike[str] | Ratings | None, emotions: Sequence[str] | None = None) -> Ratings:
    """The ratings in a file, or the package's own model-made ones.

    Args:
        emotions: of which a file has to rate some; None: not checked yet.
    Raises:
        InputError: the file cannot be used, or rates none of the emotions.
    """
    if source is None:
        return built_in_ratings()
    ratings = source if isinstance(source, Ratings) else read_ratings(fspath(source))
    if emotions is not None and not np.isfinite(ratings.arrays(emotions)[0]).any():
        raise InputError(
            f"{ratings.source} has no rated word among the {len(emotions)} emotions ({', '.join(emotions[:3])}, ...)",
            "valence and arousal of these emotions, estimates not counted",
        )
    return ratings


def run_atlas(
    model: str,
    out: Path,
    settings: AtlasSettings,
    *,
    progress: Progress = silent,
    engine: Engine | None = None,
    texts: Material | None = None,
    keep_activations: bool = True,
    auto: bool = False,
) -> Atlas:
    """Everything for one model: `out` ends with bundles, `geometry.json`, `readout.json`, `corpus.json`, a report.

    Interrupted at any moment, the same call goes on with the next batch of stories.

    Args:
        engine: the model, where it is loaded already.
        texts: stories and neutral texts, where they are read already.
        auto: a model that is given was opened by its name with dtype `auto`, so that the stories may be read in
            bfloat16 (`heartstrings.workflows.precision`).
        keep_activations: leave each story's mean activations in `out/vectors/.work`, for controls with shuffled labels:
            about 11 bytes x stories x layers x width, 95 MB for smollm2 and the shipped stories.

    Raises:
        HeartstringsError: any input that cannot be used; nothing half-written stays behind.
    """
    # Everything a user can get wrong is read before the model is loaded.
    ratings = ratings_of(settings.ratings)
    scenarios = geometry.read_scenarios(settings.scenarios) if settings.scenarios else ()
    if settings.writes and not 1 <= settings.topics <= len(topics()):
        raise InputError(f"stories on {settings.topics} topics", f"1 to {len(topics())} (--topics)")
    if texts is None and not settings.writes:
        texts = settings.material(model)
    if engine is None:
        auto = settings.dtype == "auto"
        engine = opened(
            model, revision=settings.revision, dtype=settings.dtype, device=settings.device, progress=progress
        )
    layers = layers_of(settings.layers, engine.info.n_layers)
    if texts is None:
        texts = replace(settings, stories=_generate(engine, out / "stories", settings, progress)).material(model)
    ratings = ratings_of(ratings if settings.ratings else None, texts.corpus.emotions)
    rules = poolings(engine, texts.corpus, offset=settings.offset)
    how: Any = {
        "layers": layers,
        "token_budget": settings.token_budget,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
        "overwrite": settings.overwrite,
    }
    with reader(engine, texts.corpus, out / "vectors", auto=auto, pooling=rules[0], progress=progress, **how) as (
        read_by,
        precision,
    ):
        bundles = vectors.extract(
            read_by,
            texts.corpus,
            out=out / "vectors",
            neutral=texts.neutral,
            poolings=rules,
            weighting=settings.weighting,
            keep_activations=True,
            precision=precision,
            reliability=settings.reliability,
            progress=partial(progress, f"reading {len(texts.corpus)} stories"),
            **how,
        )
    main = bundles[rules[0].label]
    texts = replace(texts, corpus=vectors.used_stories(texts.corpus, main.provenance.rounds))
    analysis = geometry.analyse(
        main,
        ratings,
        others={label: bundle for label, bundle in bundles.items() if bundle is not main},
        permutations=settings.permutations,
        seed=settings.seed,
        unembed=_unembedding(engine),
        token_strings=engine.token_strings,
        umap=settings.umap,
        progress=partial(progress, "geometry"),
    )
    progress("held-out readout", 0, None)
    readout = geometry.read_out(
        engine, main, out / "vectors", texts.corpus, scenarios, layer=analysis.shown_layer, ratings=ratings
    )
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


def layers_of(layers: str | Sequence[int] | None, n_layers: int) -> list[int] | None:
    """Layers as text (`heartstrings.core.layers.parse_layers`) or as numbers; None: all."""
    return parse_layers(layers, n_layers) if layers is None or isinstance(layers, str) else sorted(set(layers))


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
    models: Mapping[str, Engine | None], out: Path, settings: AtlasSettings, *, progress: Progress = silent
) -> Atlases:
    """An atlas of each model in a folder of its own, and one report that shows them side by side.

    Args:
        models: by name; the model itself where it is loaded already.
    """
    folders = folders_of(models, out)
    results = {
        model: run_atlas(model, folder, settings, progress=progress, engine=models[model])
        for model, folder in folders.items()
    }
    progress("comparing", 0, None)
    return Atlases(results, report.render_comparison(list(folders.values()), out / "report.html"))


def folders_of(models: Iterable[str], out: Path) -> dict[str, Path]:
    """A folder for each model.

    Raises:
        InputError: two would be the same.
    """
    folders = {model: out / slug(model) for model in models}
    if len(set(folders.values())) < len(folders):
        raise InputError("two models would share a folder", fix="Run them one at a time, each with its own --out")
    return folders


def analyse_bundle(
    vectors: EmotionVectors,
    ratings: str | PathLike[str] | Ratings | None = None,
    *,
    engine: Engine | None = None,
    out: Path | None = None,
    permutations: int = 2000,
    seed: int = 0,
    progress: Progress = silent,
) -> Geometry:
    """Geometry of vectors without their stories, such as imported ones; with `out`, also a folder with a report.

    Args:
        engine: the vectors' own model, for the logit lens.
    """
    ratings = ratings_of(ratings, vectors.emotions)
    analysis = geometry.analyse(
        vectors,
        ratings,
        permutations=permutations,
        seed=seed,
        progress=partial(progress, "geometry"),
        unembed=None if engine is None else _unembedding(engine),
        token_strings=None if engine is None else engine.token_strings,
    )
    if out is not None:
        vectors.save(out / "vectors" / (analysis.pooling or "imported"))
        _write_results(out, analysis, ratings, vectors.emotions)
        report.render(out)
    return analysis


def compare_bundles(
    bundles: Sequence[str | Path] | Mapping[str, EmotionVectors],
    ratings: str | PathLike[str] | Ratings | None = None,
    *,
    permutations: int = 2000,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Bundles, or atlases by their main bundle, side by side; with `out`, also a folder with a report.

    Args:
        bundles: their folders, or vectors by the label that they are shown under.
    """
    if len(bundles) < 2:
        raise InputError(f"{len(bundles)} bundle to compare", "two or more")
    paths: dict[str, Path] = {}
    if not isinstance(bundles, Mapping):
        paths = _labels([Path(path).resolve() for path in bundles])
        bundles = {label: vectors.EmotionVectors.load(main_bundle(path)) for label, path in paths.items()}
    ratings = ratings_of(ratings, next(iter(bundles.values())).emotions)
    comparison = geometry.compare(
        bundles, ratings, permutations=permutations, seed=seed, progress=partial(progress, "comparing")
    )
    if out is None:
        return comparison
    folders = []
    for label, bundle in bundles.items():
        if label in paths and (paths[label] / "geometry.json").is_file():
            folders.append(paths[label])
            continue
        folders.append(out / label.replace("/", "--"))
        analyse_bundle(bundle, ratings, out=folders[-1], permutations=permutations, seed=seed, progress=progress)
    report.render_comparison(folders, out / "report.html")
    return comparison


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


def _generate(engine: Engine, out: Path, settings: AtlasSettings, progress: Progress) -> Path:
    plan = corpus.StoryPlan(topics=topics()[: settings.topics], seed=settings.seed, min_words=settings.min_words)
    title = f"{engine.info.model_id} writes stories"
    corpus.generate_stories(plan, corpus.EngineWriter(engine), out, partial(progress, title))
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
            {"emotion": row.story.emotion, "topic": row.story.topic, "reason": row.reason, "evidence": row.evidence}
            for row in corpus.dropped
        ],
        "neutral": None
        if texts.neutral is None
        else {"source": texts.neutral.source, "hash": texts.neutral.hash, "texts": len(texts.neutral)},
        "notes": list(corpus.notes),
    }
