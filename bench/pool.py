"""How long does pooling all layers take, against the loops people write by hand?

    python bench/pool.py [--stories FILE.jsonl] [--texts 32] [--rounds 3]

A random Llama of 12 layers; every way reads the same texts and gives the same numbers (checked). The ways take
turns within each round, so that other load on the machine hits all of them; the figure is the median ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import models
from heartstrings.core.types import Pooling
from heartstrings.engines.hf.engine import TorchEngine

START = 50
BATCH = 8


def ours(engine: TorchEngine, texts: list[str], **settings: Any) -> np.ndarray:
    means = np.zeros((len(texts), engine.info.n_layers, engine.info.width), np.float32)
    for batch in engine.pool(texts, poolings=[Pooling(start=START)], **settings):
        means[batch.indices] = batch.means[0]
    return means


def batches(engine: TorchEngine, texts: list[str]) -> Any:
    """Batches of eight texts in the order given, padded on the right by the tokenizer."""
    tokenizer = models.tokenizer()
    for start in range(0, len(texts), BATCH):
        yield start, tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True)


def hidden_states(engine: TorchEngine, texts: list[str], *, head: bool) -> np.ndarray:
    """`output_hidden_states=True`, means taken afterwards. Its last state is after the final norm."""
    model = engine.model if head else engine.parts.text_model
    means = np.zeros((len(texts), engine.info.n_layers, engine.info.width), np.float32)
    for start, batch in batches(engine, texts):
        with torch.no_grad():
            states = model(**batch, output_hidden_states=True, use_cache=False).hidden_states[1:]
        for row, mask in enumerate(batch["attention_mask"]):
            length = int(mask.sum())
            for layer, state in enumerate(states):
                means[start + row, layer] = state[row, START:length].mean(0).numpy()
    return means


def naive_hooks(engine: TorchEngine, texts: list[str]) -> np.ndarray:
    """A hook a block that keeps the whole activation; means taken afterwards."""
    means = np.zeros((len(texts), engine.info.n_layers, engine.info.width), np.float32)
    for start, batch in batches(engine, texts):
        kept: dict[int, torch.Tensor] = {}

        def hook(layer: int, kept: dict[int, torch.Tensor] = kept) -> Callable[..., None]:
            return lambda _, __, out: kept.update({layer: out.clone()})

        handles = [block.register_forward_hook(hook(n)) for n, block in enumerate(engine.parts.blocks)]
        with torch.no_grad():
            engine.model(**batch, use_cache=False)
        for handle in handles:
            handle.remove()
        for row, mask in enumerate(batch["attention_mask"]):
            length = int(mask.sum())
            for layer, state in kept.items():
                means[start + row, layer] = state[row, START:length].mean(0).numpy()
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stories", type=Path, help="rows with a `stories` list or a `text`; default: made up")
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, default=8192)
    chosen = parser.parse_args()
    texts = models.stories(chosen.texts, words=(90, 200))
    if chosen.stories is not None:
        rows = [json.loads(line) for line in chosen.stories.read_text("utf-8").splitlines() if line.strip()]
        every = [text for row in rows for text in (row.get("stories") or [row["text"]])]
        texts = every[:: max(1, len(every) // chosen.texts)][: chosen.texts]

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=chosen.vocabulary,
        hidden_size=chosen.width,
        intermediate_size=chosen.width * 8 // 3,
        num_hidden_layers=12,
        num_attention_heads=chosen.width // 64,
        num_key_value_heads=chosen.width // 64,
        pad_token_id=0,
    )
    engine = TorchEngine.from_model(LlamaForCausalLM(config).eval(), models.tokenizer())
    tokens = [len(engine.tokenizer(text)["input_ids"]) for text in texts]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "heartstrings pool": lambda: ours(engine, texts, max_tokens=4096),
        "output_hidden_states, language model": lambda: hidden_states(engine, texts, head=True),
        "output_hidden_states, base model": lambda: hidden_states(engine, texts, head=False),
        "naive hooks, language model": lambda: naive_hooks(engine, texts),
    }
    weights = sum(parameter.numel() for parameter in engine.model.parameters()) / 1e6
    print(f"{len(texts)} texts, {sum(tokens)} tokens ({min(tokens)} to {max(tokens)}), {weights:.0f}M weights,")
    print(f"{torch.get_num_threads()} thread(s), float32, {chosen.rounds} interleaved rounds after one to warm up")

    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(chosen.rounds + 1):
        results = {}
        for name, way in ways.items():
            began = time.perf_counter()
            results[name] = way()
            times[name].append(time.perf_counter() - began)
        if number == 0:
            reference = results["heartstrings pool"][:, :-1]  # theirs end in the state after the final norm
            for name, result in results.items():
                error = np.abs(result[:, :-1] - reference).max() / np.abs(reference).max()
                assert error < 1e-4, f"{name} gives other numbers: {error}"
    for name, taken in times.items():
        ratios = [mine / own for mine, own in zip(taken[1:], times["heartstrings pool"][1:], strict=True)]
        print(
            f"{name:40s} {statistics.median(taken[1:]):7.2f} s   {statistics.median(ratios):5.2f} x"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
