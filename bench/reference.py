"""Are the contrasts those of a plain loop? All layers, every story, both weightings, on any local model.

    python bench/reference.py MODEL STORIES.jsonl [--offset 50]

The reference is what a careful person would write in ten lines with transformers: `story` runs one text at a time;
`token` pads on the right in batches of 16, masks tokens before the offset and divides sums by counts, as the
published code of van der Ben et al. 2026 (arXiv 2606.26987) does. Prints the largest relative error of a layer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import heartstrings as hs
from heartstrings.corpus import Corpus
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.vectors import extract


def hidden(engine: TorchEngine, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Block outputs [layer, text, token, width] and the token mask, right-padded, by hooks on the blocks."""
    tokenizer, model = engine.tokenizer, engine.model
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=512)
    outputs: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: outputs.append(out[0] if isinstance(out, tuple) else out))
        for block in engine.parts.blocks
    ]
    with torch.no_grad():
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    for hook in hooks:
        hook.remove()
    return torch.stack(outputs).float().numpy(), batch["attention_mask"].numpy()


def reference(engine: TorchEngine, corpus: Corpus, offset: int, weighting: str) -> np.ndarray:
    """Contrasts [layer, emotion, width]."""
    size = 1 if weighting == "story" else 16
    emotions = list(corpus.emotions)
    sums = np.zeros((engine.info.n_layers, len(emotions), engine.info.width))
    counts = np.zeros(len(emotions))
    stories = list(corpus.stories)
    for start in range(0, len(stories), size):
        group = stories[start : start + size]
        states, mask = hidden(engine, [story.text for story in group])
        for row, story in enumerate(group):
            tokens = states[:, row, offset : int(mask[row].sum())].astype(np.float64)
            if tokens.shape[1] == 0:
                continue
            e = emotions.index(story.emotion)
            sums[:, e] += tokens.mean(axis=1) if weighting == "story" else tokens.sum(axis=1)
            counts[e] += 1 if weighting == "story" else tokens.shape[1]
    means = sums / counts[None, :, None]
    return means - means.mean(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("stories")
    parser.add_argument("--offset", type=int, default=50)
    options = parser.parse_args()
    engine = hs.load(options.model, dtype="float32")
    corpus = hs.read_stories(options.stories)
    print(f"{options.model}: {len(corpus)} stories, {len(corpus.emotions)} emotions, {engine.info.n_layers} layers")
    for weighting in ("story", "token"):
        with tempfile.TemporaryDirectory() as folder:
            bundles = extract(
                engine,
                corpus,
                out=Path(folder) / "b",
                poolings=(hs.Pooling(start=options.offset),),
                weighting=weighting,
            )
        ours = next(iter(bundles.values())).raw.astype(np.float64)
        theirs = reference(engine, corpus, options.offset, weighting)
        error = np.linalg.norm(ours - theirs, axis=(1, 2)) / np.linalg.norm(theirs, axis=(1, 2))
        print(f"weighting {weighting}: relative error of a layer {error.max():.1e} at worst")


if __name__ == "__main__":
    main()
