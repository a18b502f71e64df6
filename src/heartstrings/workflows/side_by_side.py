"""Texts of one prompt at several doses, in one batch: what `heartstrings steer` shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heartstrings.core.engine import GenerateRequest, Message, Prompt
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Operation, Steering
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.steer import make_steering
from heartstrings.workflows.atlas import opened, vectors_of
from heartstrings.workflows.values import Progress, silent

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine


@dataclass(frozen=True)
class SteeredText:
    """One completion."""

    dose: float
    seed: int
    text: str
    finish: str


@dataclass(frozen=True)
class SideBySide:
    """Completions of one prompt, in order of dose."""

    model: str
    prompt: str
    steering: str
    """What was done, in words, at the largest dose."""
    texts: tuple[SteeredText, ...]
    notes: tuple[str, ...]


def steered_texts(
    model: str | Engine,
    prompt: str,
    *,
    vectors: str | Path | EmotionVectors,
    direction: str,
    doses: Sequence[float],
    layers: Sequence[int] | None = None,
    operation: Operation = "add",
    positions: Literal["all", "prompt", "generated"] = "all",
    plain: bool = False,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    progress: Progress = silent,
) -> SideBySide:
    """`samples` completions at each dose. A sample has the same seed at every dose, and dose 0 is unsteered.

    Args:
        vectors: vectors, or the folder of a bundle, an atlas or a run, whose layer and range then count.
        layers: None: the layer that the run chose, else the bundle's nearest to two thirds of the depth.
        plain: continue the text as it is, without the model's chat template.
    Raises:
        InputError: an unknown emotion or layer, no doses; BundleError: vectors of another model.
    """
    if samples < 1 or not doses:
        raise InputError(f"{samples} texts at {len(doses)} doses", "one or more of each")
    folder = None if isinstance(vectors, EmotionVectors) else Path(vectors)
    loaded = vectors_of(vectors)
    loaded.direction(direction)  # an unknown emotion is told before the model loads
    engine = opened(model, revision=revision, dtype=dtype, device=device, progress=progress)
    vectors_of(loaded, for_model=engine.info)
    chosen, notes = _from_run(folder, direction, doses)
    if layers is not None:
        chosen = tuple(layers)
    elif chosen is None:
        chosen = default_layers(loaded, engine.info.n_layers)
    asked: Prompt = prompt if plain or engine.info.template_hash is None else (Message("user", prompt),)

    def steering(dose: float) -> Steering | None:
        if dose == 0 and operation == "add":
            return None
        return make_steering(loaded, direction, dose=dose, layers=chosen, operation=operation, positions=positions)

    wanted = [(dose, seed + number) for dose in sorted(set(doses)) for number in range(samples)]
    requests = [
        GenerateRequest(
            asked, max_new_tokens=max_new_tokens, temperature=temperature, seed=sampling, steering=steering(dose)
        )
        for dose, sampling in wanted
    ]
    progress(f"{len(requests)} texts", 0, None)
    written = engine.generate(requests)
    texts = tuple(
        SteeredText(dose, sampling, completion.text, completion.finish)
        for (dose, sampling), completion in zip(wanted, written, strict=True)
    )
    strongest = steering(max(doses, key=abs))
    words = "no steering" if strongest is None else strongest.describe()
    return SideBySide(engine.info.model_id, prompt, words, texts, notes)


def reported_layers(folder: Path, direction: str, vectors: EmotionVectors, n_layers: int) -> tuple[int, ...]:
    """The layer that a run in `folder` chose for a direction, else the bundle's nearest to two thirds of the depth."""
    chosen, _ = _from_run(folder, direction, ())
    return chosen or default_layers(vectors, n_layers)


def default_layers(vectors: EmotionVectors, n_layers: int) -> tuple[int, ...]:
    """The layer of some vectors that is nearest to two thirds of the depth."""
    return (min(vectors.layers, key=lambda layer: abs(layer - 2 * n_layers / 3)),)


def _from_run(
    folder: Path | None, direction: str, doses: Sequence[float]
) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """The layer that a run's verdict reports this direction at, and a warning for doses outside its range."""
    file = None if folder is None else folder / "verdict.json"
    if file is None or not file.is_file():
        return None, ("no verdict stands beside these vectors: which doses are safe is not known",)
    verdict = json.loads(file.read_text(encoding="utf-8"))
    cards = [card for card in verdict["answers"] if card["direction"] == direction]
    if not cards:
        return None, (f"the run did not examine {direction!r}: which doses are safe is not known",)
    card = cards[0]
    said = f"the run's answer for {direction} at layer {card['layer']} is: {card['answer']}"
    if card["range"] is None:
        return (card["layer"],), (f"{said}; no dose range was found safe",)
    low, high = card["range"]
    outside = [f"{dose:g}" for dose in doses if not low <= dose <= high]
    if not outside:
        return (card["layer"],), ()
    return (card["layer"],), (f"{said}; dose {', '.join(outside)} is outside its range {low:g} to {high:g}",)
