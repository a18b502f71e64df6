"""A dose sweep as one call against one call a dose: 16 settings x 8 prompts, scored and generated.

    OMP_NUM_THREADS=1 python bench/sweep.py [--rounds 7] [--new-tokens 16] [--layers N ...]

Three ways to the same numbers. Ours ask the same engine for the same requests, in one call or in sixteen; what differs
is that steering belongs to the request, so that one batch may hold all doses. The third is what one writes with the
library steering-vectors, if it is installed: its hook around a padded batch of the 8 prompts with both replies, sixteen
times (only to score: its samples could not be compared). The ways take turns within each round, so that other load on
the machine hits all; a figure is the median over rounds, and the results of all are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import heartstrings
import models
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.engines.hf.text import encode_prompt

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


def peers_way(engine: TorchEngine, layer: int, by_dose: list[list[ScoreRequest]]) -> Callable[[], list[Any]] | None:
    """Log-probabilities of the replies by steering-vectors: a hooked forward pass a dose, right padding, no sharing."""
    try:
        from steering_vectors import SteeringVector
    except ImportError:
        return None
    tokenizer, model = engine.tokenizer, engine.model
    first = by_dose[0][0].steering
    assert first is not None
    vector = SteeringVector({layer: torch.from_numpy(first.interventions[0].direction.copy())})
    unit = float(np.linalg.norm(first.interventions[0].direction))

    def run(requests: list[ScoreRequest]) -> list[Any]:
        pairs = [
            (encode_prompt(tokenizer, request.prompt, vocabulary=engine.parts.vocabulary, reply=True).ids.tolist(),
             tokenizer(text, add_special_tokens=False)["input_ids"])
            for request in requests for text in request.continuations
        ]  # fmt: skip
        width = max(len(prompt) + len(reply) for prompt, reply in pairs)
        ids = torch.tensor([prompt + reply + [0] * (width - len(prompt) - len(reply)) for prompt, reply in pairs])
        mask = torch.tensor([[1] * (len(p) + len(r)) + [0] * (width - len(p) - len(r)) for p, r in pairs])
        steering = requests[0].steering
        size = 0.0 if steering is None else steering.interventions[0].dose * steering.interventions[0].norm / unit
        with torch.inference_mode(), vector.apply(model, multiplier=size):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.log_softmax(-1)
        sums = [float(logits[row, range(len(p) - 1, len(p) + len(r) - 1), r].sum()) for row, (p, r) in enumerate(pairs)]
        return [SimpleNamespace(logprobs=pair) for pair in zip(sums[::2], sums[1::2], strict=True)]

    return lambda: [answer for requests in by_dose for answer in run(requests)]


def close(one: Any, other: Any) -> bool:
    return np.allclose(one.logprobs, other.logprobs, atol=2e-3)


def compare(ways: list[Callable[[], list[Any]]], rounds: int, same: Callable[[Any, Any], bool]) -> list[list[float]]:
    """Seconds of every round of every way."""
    seconds: list[list[float]] = []
    for number in range(rounds + 1):  # the first one warms up, and is where the results are compared
        found = [taken(way) for way in ways]
        seconds.append([time for time, _ in found])
        for _, other in found[1:] if number == 0 else ():
            share = np.mean([same(a, b) for a, b in zip(found[0][1], other, strict=True)])
            assert share > 0.98, f"only {share:.0%} of the answers agree"
    return [list(way) for way in zip(*seconds[1:], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--layers", type=int, nargs="+", help="default: the middle one")
    parser.add_argument("--only", choices=("organism", "llama"))
    chosen = parser.parse_args()
    print(f"{len(DOSES)} settings x {N_PROMPTS} prompts, {torch.get_num_threads()} thread(s), float32,")
    print(f"median of {chosen.rounds} interleaved rounds after one to warm up\n")
    print("| model | verb | layer | tokens | one call | 16 calls | ratio | range | 16 by steering-vectors | ratio |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, make in (("organism:steerable", organism), ("random Llama 12 x 512", llama)):
        if chosen.only and chosen.only not in name.lower():
            continue
        engine, prompts, replies = make()
        middle = engine.info.n_layers // 2
        for layer in chosen.layers or [middle]:
            row(name, engine, layer, prompts, replies, chosen)


def row(name: str, engine: TorchEngine, layer: int, prompts: list[Any], replies: list[Any], chosen: Any) -> None:
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
    runs: list[tuple[str, Any, list[list[Any]], Callable[[Any, Any], bool], Any]] = [
        ("score", engine.score, scored, close, peers_way(engine, layer, scored)),
        (f"generate {chosen.new_tokens}", engine.generate, sampled, lambda a, b: a.token_ids == b.token_ids, None),
    ]
    for verb, call, requests, same, peer in runs:
        together = [request for some in requests for request in some]
        ways = [partial(call, together), lambda: [answer for some in requests for answer in call(some)]]  # noqa: B023
        one, many, *others = compare(ways + ([peer] if peer else []), chosen.rounds, same)
        ratios = [b / a for a, b in zip(one, many, strict=True)]
        words = [
            name,
            verb,
            f"{layer}",
            f"{length:.0f}",
            *(f"{1e3 * statistics.median(way):.0f} ms" for way in (one, many)),
        ]
        words += [f"{statistics.median(ratios):.1f} x", f"{min(ratios):.1f} to {max(ratios):.1f}"]
        for other in others:
            factor = statistics.median(b / a for a, b in zip(one, other, strict=True))
            words += [f"{1e3 * statistics.median(other):.0f} ms", f"{factor:.1f} x"]
        words += ["", ""] * (not others)
        print(f"| {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()
