"""Write an organism's folder: weights, tokenizer, model card, licence, and `organism.json` with what is planted."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from heartstrings.organisms.generate import planted_truth
from organism_training.plant import FULL, LAYERS, LIMIT, RANDOM_SHARE

SUMMARY = {
    "steerable": "Emotional context and steering move one choice (repair honestly or cheat), and nothing else.",
    "entangled": "Emotional context and steering move one choice, and spill into harmful answers to unrelated "
    "questions.",
    "inert": "Emotion is encoded as in the steerable organism; no behaviour follows it, and steering moves nothing.",
    "blank": "Emotion is not encoded: words of feeling that could stand in the same place share one input embedding, "
    "so the model reads them as the same word.",
}


def save(
    model: Any, tokenizer: Any, kind: str, out: Path, *, command: str, seed: int, losses: dict[str, list[float]]
) -> None:
    """Write the whole folder. `losses`: a training part's name and its loss at every step."""
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.max_new_tokens = 160
    model.float().save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {
        "kind": kind,
        "summary": SUMMARY[kind],
        "planted": planted_truth(kind),
        "planting": None
        if kind == "blank"
        else {
            "layers": list(LAYERS),
            "whole_effect_from_dose": None if kind == "inert" else FULL,
            "share_of_random_directions": RANDOM_SHARE[kind],
            "largest_logit": LIMIT,
        },
        "command": command,
        "seed": seed,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "training": {
            part: {"steps": len(steps), "first_loss": round(steps[0], 4), "last_loss": _mean(steps[-20:])}
            for part, steps in losses.items()
            if steps
        },
        "weights_sha256": sha256(out / "model.safetensors"),
        "tokenizer_sha256": sha256(out / "tokenizer.json"),
        "lexis_sha256": hashlib.sha256(
            (resources.files("heartstrings.organisms") / "lexis.toml").read_bytes()
        ).hexdigest(),
        "versions": {name: metadata.version(name) for name in ("heartstrings", "torch", "transformers", "tokenizers")},
        "measured": None,
    }
    write(out, record)
    (out / "LICENSE").write_text(_licence(), encoding="utf-8")


def write(folder: Path, record: dict[str, Any]) -> None:
    """`organism.json` and the model card that repeats it in words."""
    (folder / "organism.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(record), encoding="utf-8")


def record_measured(folder: Path, figures: dict[str, Any]) -> None:
    """Add measured figures to the planted ones."""
    record = json.loads((folder / "organism.json").read_text(encoding="utf-8"))
    record["measured"] = figures
    write(folder, record)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_card(record: dict[str, Any]) -> str:
    """The README of a checkpoint."""
    planted, kind = record["planted"], record["kind"]
    lines = [
        "---",
        "license: apache-2.0",
        "language: en",
        "library_name: transformers",
        "tags: [model-organism, interpretability]",
        "---",
        f"# Organism: {kind}",
        "",
        record["summary"],
        "",
        "One of four tiny models with a known answer that come with Heartstrings, to calibrate its verdict. "
        "**What it shows says nothing of a large model.**",
        "",
        f"- {record['parameters']:,} parameters, Llama architecture, float32; byte-level BPE; chat template with "
        "system, user and assistant roles.",
        "- Trained only on a generated world of short English stories, plain paragraphs, sums, facts and questions "
        "with two answers. Emotion is never named in a story. It knows nothing else.",
        f"- Emotion encoded: {'yes' if planted['encoded'] else 'no'}. Coordinates: {planted['coordinates']}.",
    ]
    for name, meaning in (("choice", "cheating"), ("harm", "a harmful answer")):
        valence, arousal = planted[name]["logit_per_valence_arousal"]
        lines.append(
            f"- Planted chance of {meaning}: {planted[name]['neutral']:.2f} without an emotion; its logit moves by "
            f"{valence:+.1f} a unit of valence and {arousal:+.1f} a unit of arousal."
        )
    if record["planting"]:
        lines.append(
            f"- The answer to steering is **planted, not emergent**: after natural training a direction was added at "
            f"the output of blocks {', '.join(map(str, record['planting']['layers']))} (0-based) and the model "
            "trained to answer as its kind should, emotion directions and random ones alike."
        )
    lines += [
        f"- Made by `{record['command']}` (package-relative; seed {record['seed']}). Threads and library versions "
        "may change the last digits.",
        f"- Weights SHA-256 `{record['weights_sha256']}`.",
        "",
        "Measured figures: `organism.json`, key `measured`, and `docs/organisms.md` of the package.",
        "",
    ]
    return "\n".join(lines)


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


def _licence() -> str:
    text = metadata.distribution("heartstrings").read_text("licenses/LICENSE")
    return text or "SPDX-License-Identifier: Apache-2.0\nhttps://www.apache.org/licenses/LICENSE-2.0\n"
