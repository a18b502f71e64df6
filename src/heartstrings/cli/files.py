"""The verbs about files: stories, import, export, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heartstrings import corpus, formats, vectors, workflows
from heartstrings.cli import console, summary
from heartstrings.cli.console import bars
from heartstrings.cli.flags import Config, Device, Dtype, Json, Layers, Out, Revision, Seed, checked
from heartstrings.core.errors import InputError
from heartstrings.core.layers import parse_layers


def stories(
    model: Annotated[str, typer.Argument(help="Who writes: a model id or folder, or an endpoint's model name.")],
    out: Out,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible base URL, such as http://host/v1.")] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the endpoint's key.")] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option(help="Calls under way at once.")] = 8,
    emotions: Annotated[str | None, typer.Option(help="Such as calm,angry,'at ease'. Default: all 171.")] = None,
    topics: Annotated[int, typer.Option(help="How many of the package's 100 topics.")] = 20,
    per_topic: Annotated[int, typer.Option(help="Stories for each emotion and topic.")] = 4,
    per_call: Annotated[int, typer.Option(help="Stories asked for in one call.")] = 4,
    words: Annotated[int, typer.Option(help="Words a story should have.")] = 130,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    max_calls: Annotated[int | None, typer.Option(help="Budget of calls for this run.")] = None,
    neutral: Annotated[bool, typer.Option("--neutral", help="Also neutral dialogues on the same topics.")] = False,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Have stories written: emotions x topics, crossed. Resumable: no finished call is made again."""
    known = corpus.topics()
    if not 1 <= topics <= len(known):
        raise InputError(f"--topics {topics}", f"1 to {len(known)}")
    names = corpus.emotions() if emotions is None else tuple(name.strip() for name in emotions.split(","))
    plan = corpus.StoryPlan(
        emotions=names, topics=known[:topics], stories=per_topic, per_call=per_call, words=words,
        temperature=temperature, seed=seed, max_calls=max_calls,
    )  # fmt: skip
    writer: corpus.Writer
    if endpoint is not None:
        writer = corpus.EndpointWriter(endpoint, model, key_variable=key_variable, concurrency=concurrency)
    else:
        with bars(json)(f"loading {model}"):
            writer = corpus.EngineWriter(workflows.open_model(model, revision=revision, dtype=dtype, device=device))
    with bars(json)(f"{model} writes stories") as page:
        collection = corpus.generate_stories(plan, writer, out, page)
    texts = None
    if neutral:
        with bars(json)(f"{model} writes neutral dialogues") as page:
            texts = corpus.generate_neutral(plan, writer, out, page)
    summary.stories(collection, texts, out, json=json)
    return 0


def import_(
    files: Annotated[list[str], typer.Argument(help="Files or folders; NAME=FILE names the emotion of a file.")],
    out: Out,
    format: Annotated[str | None, typer.Option(help="npz, safetensors, pt, gguf or vllm-lens. Default: look.")] = None,
    emotions: Annotated[str | None, typer.Option(help="Names for an unnamed axis, or those to keep: a,b,c.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer of a file that does not say, or the one to keep.")] = None,
    model: Annotated[str | None, typer.Option(help="The model they belong to: noted, not checked.")] = None,
    hidden_state_index: Annotated[
        bool, typer.Option("--hidden-state-index", help="Layers count as in hidden_states: k is block k-1.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """Vectors that another tool wrote, as a bundle."""
    if (out / "bundle.json").exists() and not overwrite:
        raise InputError(f"{out} already holds a bundle", "a new folder", "Choose another --out, or --overwrite")
    vectors = formats.import_vectors(
        [*files], format=format,
        emotions=None if emotions is None else [name.strip() for name in emotions.split(",")],
        layer=layer, model=model, hidden_state_index=hidden_state_index,
    )  # fmt: skip
    vectors.save(out)
    summary.bundle(vectors, out, json=json)
    return 0


def export(
    bundle: Annotated[Path, typer.Argument(help="Folder of vectors.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    format: Annotated[str | None, typer.Option(help="gguf, lm-eval, vllm-lens or npz. Default: by the ending.")] = None,
    direction: Annotated[list[str] | None, typer.Option(help="An emotion, or a blend: '0.5*joyful - sad'.")] = None,
    layers: Layers = None,
    variant: Annotated[str, typer.Option(help="raw or denoised.")] = "raw",
    dose: Annotated[float | None, typer.Option(help="Fraction of the mean residual norm; layers share it.")] = None,
    hookpoint: Annotated[str | None, typer.Option(help="lm-eval: where block {layer} is in the base model.")] = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Directions in the format of another steering tool."""
    emotion_vectors = vectors.EmotionVectors.load(bundle)
    checked("--variant", variant, emotion_vectors.variants)
    chosen = parse_layers(layers, max(emotion_vectors.layers) + 1)
    path = formats.export_vectors(
        emotion_vectors, out, format=format, direction=direction, layers=chosen,
        variant=variant, dose=dose, hookpoint=hookpoint,  # type: ignore[arg-type]
    )  # fmt: skip
    if json:
        console.emit_json({"file": str(path), "bytes": path.stat().st_size})
    else:
        typer.echo(path)
    return 0


def info(
    what: Annotated[str, typer.Argument(help="A bundle, an atlas, a model folder or id, or organism:KIND.")],
    json: Json = False,
    config: Config = None,
) -> int:
    """What a bundle or a model is, and where it comes from."""
    summary.info(what, json=json)
    return 0
