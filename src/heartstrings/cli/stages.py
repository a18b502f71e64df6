"""The verbs that compute: atlas, extract, geometry, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heartstrings import core, vectors, workflows
from heartstrings.cli import summary
from heartstrings.cli.console import bars, warn
from heartstrings.cli.flags import (  # fmt: skip
    Config,
    Device,
    Dtype,
    Json,
    Layers,
    MaxTokens,
    MinWords,
    Model,
    Neutral,
    NoNeutral,
    Offset,
    Out,
    Overwrite,
    Permutations,
    RatingsFlag,
    Revision,
    Seed,
    Stories,
    TokenBudget,
    WeightingFlag,
    checked,
)
from heartstrings.core.errors import InputError
from heartstrings.core.layers import parse_layers


def atlas(
    models: Annotated[list[str] | None, typer.Argument(help="Models. Default: organism:steerable.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("atlas"),
    stories: Stories = None,
    neutral: Neutral = None,
    no_neutral: NoNeutral = False,
    generate: Annotated[bool, typer.Option("--generate", help="The same as --stories self.")] = False,
    topics: Annotated[int, typer.Option(help="With --stories self: topics that the model writes on, 1 to 100.")] = 20,
    scenarios: Annotated[Path | None, typer.Option(help="JSONL of texts that imply a target emotion.")] = None,
    layers: Layers = None,
    offset: Offset = 50,
    weighting: WeightingFlag = "story",
    ratings: RatingsFlag = None,
    min_words: MinWords = 40,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    token_budget: TokenBudget = None,
    max_tokens: MaxTokens = 512,
    permutations: Permutations = 2000,
    umap: Annotated[bool, typer.Option("--umap", help="Also draw the emotions by UMAP (half a minute).")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """From models and stories to vectors, geometry and a report.

    Each story's mean activations stay in OUT/vectors/.work, for the shuffled controls of `run --vectors OUT`: 95 MB
    for smollm2 and the default stories, in proportion to stories x layers x width.
    """
    if generate and stories not in (None, workflows.SELF):
        raise InputError(f"--generate and --stories {stories}", "one of them")
    options = workflows.AtlasSettings(
        stories=workflows.SELF if generate else stories, neutral=neutral, no_neutral=no_neutral, generate_topics=topics,
        scenarios=scenarios, layers=layers, offset=offset, weighting=weighting, ratings=ratings,  # type: ignore[arg-type]
        min_words=min_words, revision=revision, dtype=dtype, device=device, token_budget=token_budget,
        max_tokens=max_tokens, permutations=permutations, umap=umap, seed=seed, overwrite=overwrite,
    )  # fmt: skip
    checked("--weighting", weighting, ("story", "token"))
    names = models or ["organism:steerable"]
    if len(names) == 1:
        result = workflows.run_atlas(names[0], out, options, progress=bars(json))
        summary.atlas(result, json=json)
        return 0
    results, report = workflows.run_atlases(names, out, options, progress=bars(json))
    summary.atlases(results, report, json=json)
    return 0


def extract(
    model: Model,
    out: Out,
    stories: Stories = None,
    neutral: Neutral = None,
    no_neutral: NoNeutral = False,
    weighting: WeightingFlag = "story",
    offset: Offset = 50,
    pooling: Annotated[str, typer.Option(help="from, window or centred.")] = "from",
    stop: Annotated[int | None, typer.Option(help="With --pooling window: token after its last.")] = None,
    site: Annotated[str, typer.Option(help="block, attention or mlp.")] = "block",
    layers: Layers = None,
    clean: Annotated[bool, typer.Option("--clean", help="Filter the stories as `atlas` does, and count.")] = False,
    min_words: MinWords = 40,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    token_budget: TokenBudget = None,
    max_tokens: MaxTokens = 512,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """Emotion vectors of a model from stories. Resumable: run it again after any interruption."""
    rule = checked("--pooling", pooling, ("from", "window", "centred"))
    if (rule == "window") != (stop is not None):
        raise InputError("--stop and --pooling window go together", "both or neither")
    if offset < 0 or (stop is not None and stop <= offset):
        raise InputError(f"--offset {offset} --stop {stop}", "0 <= offset < stop")
    checked("--weighting", weighting, ("story", "token"))
    checked("--site", site, ("block", "attention", "mlp"))
    texts = workflows.material(model, stories=stories, neutral=neutral, no_neutral=no_neutral,
                     min_words=min_words if clean else None)  # fmt: skip
    with bars(json)(f"loading {model}"):
        engine = workflows.open_model(model, revision=revision, dtype=dtype, device=device)
    with bars(json)(f"reading {len(texts.corpus)} stories") as report:
        bundles = vectors.extract(
            engine, texts.corpus, out=out, neutral=texts.neutral,
            layers=parse_layers(layers, engine.info.n_layers),
            poolings=(core.Pooling.model_validate({"rule": rule, "start": offset, "stop": stop}),),
            weighting=weighting,  # type: ignore[arg-type]
            site=site,  # type: ignore[arg-type]
            token_budget=token_budget, max_tokens=max_tokens, seed=seed, overwrite=overwrite, progress=report,
        )  # fmt: skip
    summary.bundle(next(iter(bundles.values())), out, json=json)
    return 0


def geometry(
    bundle: Annotated[Path, typer.Argument(help="Folder of vectors, or of an atlas.")],
    ratings: RatingsFlag = None,
    model: Annotated[
        str | None, typer.Option(help="The vectors' model, for the logit lens; another is refused.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take another model or revision, and say so.")] = False,
    permutations: Permutations = 2000,
    seed: Seed = 0,
    device: Device = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write a folder with JSON and report.")] = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Where valence and arousal lie in a bundle: components, readouts, nuisances, similarities."""
    engine = None
    if model is not None:
        with bars(json)(f"loading {model}"):
            engine = workflows.open_model(model, device=device)
    emotion_vectors = vectors.EmotionVectors.load(
        vectors.main_bundle(bundle), for_model=engine.info if engine else None, force=force
    )
    result, page = workflows.analyse_bundle(
        emotion_vectors, workflows.chosen_ratings(ratings, emotion_vectors.emotions), engine=engine, out=out,
        permutations=permutations, seed=seed, progress=bars(json),
    )  # fmt: skip
    for note in emotion_vectors.provenance.notes:
        warn(note)
    summary.analysis(result, page, json=json)
    return 0


def compare(
    bundles: Annotated[list[Path], typer.Argument(help="Two or more folders of vectors, or of atlases.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a report.")] = None,
    ratings: RatingsFlag = None,
    permutations: Permutations = 2000,
    seed: Seed = 0,
    json: Json = False,
    config: Config = None,
) -> int:
    """Two bundles or more side by side: corpora, models, base against instruct."""
    comparison, report = workflows.compare_bundles(
        bundles, ratings=ratings, permutations=permutations, seed=seed, out=out, progress=bars(json)
    )
    summary.comparison(comparison, report, json=json)
    return 0
