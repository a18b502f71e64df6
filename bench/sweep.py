"""A dose sweep as one call against one call a dose: 16 settings x 8 prompts, scored and generated.

    OMP_NUM_THREADS=1 python bench/sweep.py [--rounds 7] [--new-tokens 16] [--layer N]

Both ways ask the same engine for the same requests; what differs is that steering belongs to the request, so that
one batch may hold all doses. The ways take turns within each round, so that other load on the machine hits both;
a figure is the median over rounds, and the results of both are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import heartstrings
import models
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.engines.base import GenerateRequest, ScoreRequest
from heartstrings.engines.torch import TorchEngine
from heartstrings.engines.torch_session import calibration_norms

DOSES = (-1.5, -1.0, -0.6, -0.4, -0.3, -0.2, -0.1, 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 1.5)
N_PROMPTS = 8


def steerings(engine: TorchEngine, layer: int) -> list[Steering | None]:
    """One a dose, along a direction drawn at random: what it points to makes no difference to the time."""
    direction = np.random.default_rng(0).normal(size=engine.info.width).astype(np.float32)
    norm = float(calibration_norms(engine, engine.parts, "block")[layer])
    return [Steering((Intervention(layer, direction, dose, norm),)) if dose else None for dose in DOSES]


def organism() -> tuple[TorchEngine, list[Any], list[tuple[str, ...]]]:
    """The bundled model and its own question: cheat or be honest, asked where the two replies part."""
    engine: Any = heartstrings.load("organism:steerable")
    asked = suite("organism").behaviour("choice").scenarios(n=N_PROMPTS, seed=0)
    return engine, [scenario.prompt for scenario in asked], [scenario.replies for scenario in asked]


def llama() -> tuple[TorchEngine, list[Any], list[tuple[str, ...]]]:
    """Twelve random layers of width 512; prose of 30 to 60 words and two continuations."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=8,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    engine = TorchEngine.from_model(model, models.tokenizer())
    prompts = models.stories(N_PROMPTS, words=(30, 60))
    return engine, prompts, [(" yes, she said", " no, she said")] * N_PROMPTS


def taken(way: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = way()
    return time.perf_counter() - began, result


def compare(
    verb: Callable[[Sequence[Any]], list[Any]], by_dose: list[list[Any]], rounds: int, key: Callable[[Any], Any]
) -> tuple[float, float, float, float, float]:
    """Median seconds of one call and of a call a dose, the median ratio and its range."""
    together = [request for requests in by_dose for request in requests]
    one: list[float] = []
    many: list[float] = []
    for number in range(rounds + 1):  # the first one warms up, and is where the results are compared
        seconds, found = taken(lambda: verb(together))
        one.append(seconds)
        seconds, apart = taken(lambda: [answer for requests in by_dose for answer in verb(requests)])
        many.append(seconds)
        if number == 0:
            same = [key(a) == key(b) for a, b in zip(found, apart, strict=True)]
            assert np.mean(same) > 0.98, f"only {np.mean(same):.0%} of the answers agree"
    ratios = [b / a for a, b in zip(one[1:], many[1:], strict=True)]
    return (
        statistics.median(one[1:]), statistics.median(many[1:]), statistics.median(ratios), min(ratios), max(ratios)
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--layer", type=int, help="default: the middle one")
    parser.add_argument("--only", choices=("organism", "llama"))
    chosen = parser.parse_args()
    print(f"{len(DOSES)} settings x {N_PROMPTS} prompts, {torch.get_num_threads()} thread(s), float32,")
    print(f"median of {chosen.rounds} interleaved rounds after one to warm up\n")
    print("| model | verb | layer | tokens a prompt | one call | 16 calls | ratio | range |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, make in (("organism:steerable", organism), ("random Llama 12 x 512", llama)):
        if chosen.only and chosen.only not in name.lower():
            continue
        engine, prompts, replies = make()
        layer = engine.info.n_layers // 2 if chosen.layer is None else chosen.layer
        settings = steerings(engine, layer)
        scored = [
            [ScoreRequest(prompt, pair, one) for prompt, pair in zip(prompts, replies, strict=True)] for one in settings
        ]
        sampled = [
            [
                GenerateRequest(prompt, max_new_tokens=chosen.new_tokens, seed=number, steering=one)
                for number, prompt in enumerate(prompts)
            ]
            for one in settings
        ]
        length = statistics.mean(answer.n_prompt_tokens for answer in engine.score(scored[0]))
        runs: list[tuple[str, Any, list[list[Any]], Callable[[Any], Any]]] = [
            ("score", engine.score, scored, lambda answer: np.round(answer.logprobs, 3).tolist()),
            (f"generate {chosen.new_tokens}", engine.generate, sampled, lambda answer: answer.token_ids),
        ]
        for verb, call, requests, key in runs:
            one, many, ratio, low, high = compare(call, requests, chosen.rounds, key)
            print(
                f"| {name} | {verb} | {layer} | {length:.0f} | {one * 1e3:.0f} ms | {many * 1e3:.0f} ms "
                f"| {ratio:.1f} x | {low:.1f} to {high:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
