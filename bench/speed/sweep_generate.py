"""A dose sweep of written texts: 16 settings x 4 prompts x 32 tokens, in one call and in sixteen.

Steering belongs to a request of ours, so one batch holds all settings. The other ways steer a whole batch, one setting
at a time: a hook around `generate` of transformers, and libraries that wrap such hooks. The token ids must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bench.speed import peers, subjects
from bench.speed.harness import Case, Run, Way
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest
from heartstrings.corpus import shipped_stories
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine

NAME = "sweep_generate"
MODELS = (subjects.SMOLLM2,)
DOSES = (-0.4, -0.3, -0.25, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
SIZES = {"full": (DOSES, 4, 32), "quick": ((0.0, 0.2, -0.2), 2, 4), "one": ((0.1,), 1, 2)}
"""Doses, prompts, new tokens."""
PROMPT_WORDS = 24


class Sweep:
    """The prompts, and one vector in several sizes."""

    def __init__(self, engine: TorchEngine, doses: Sequence[float], n_prompts: int, new_tokens: int) -> None:
        self.engine, self.doses, self.new_tokens = engine, tuple(doses), new_tokens
        self.layer = engine.info.n_layers // 2
        self.norm = float(calibration_norms(engine, engine.parts, "block")[self.layer])
        self.direction = np.random.default_rng(0).normal(size=engine.info.width).astype(np.float32)
        texts = shipped_stories().texts
        self.prompts = [" ".join(text.split()[:PROMPT_WORDS]) for text in texts[:: len(texts) // n_prompts][:n_prompts]]

    def vector(self, dose: float) -> np.ndarray:
        """What is added to the residual stream."""
        unit = self.direction / np.linalg.norm(self.direction)
        return (dose * self.norm * unit).astype(np.float32)

    def tensor(self, dose: float) -> torch.Tensor:
        """`vector` on the model's device, in its dtype."""
        return torch.from_numpy(self.vector(dose)).to(self.engine.parts.device, self.engine.model.dtype)

    def requests(self) -> list[GenerateRequest]:
        found = []
        for dose in self.doses:
            steering = Steering((Intervention(self.layer, self.direction, dose, self.norm),)) if dose else None
            for prompt in self.prompts:
                found.append(GenerateRequest(prompt, self.new_tokens, temperature=0, steering=steering))
        return found


def case(model: str, size: str, device: str) -> Case:
    engine = subjects.engine(model, device=device)
    sweep = Sweep(engine, *SIZES[size])
    ways = (
        Way("heartstrings, one call", lambda: ours(sweep), same_ids, 0.0),
        Way("transformers with a hook, a call a setting", lambda: hooked(sweep), same_ids, 0.0),
        Way("steering-vectors, a call a setting", lambda: steering_vectors(sweep), same_ids, 0.0),
        Way("repeng, a call a setting", lambda: repeng(sweep), same_ids, 0.0),
    )
    rows = len(sweep.doses) * len(sweep.prompts)
    lengths = [len(engine.tokenizer(prompt)["input_ids"]) for prompt in sweep.prompts]
    return Case(
        bench=NAME,
        model=model,
        ways=ways,
        unit="new tokens",
        units=rows * sweep.new_tokens,
        work={"settings": len(sweep.doses), "prompts": len(sweep.prompts), "new_tokens": sweep.new_tokens,
              "prompt_tokens": lengths, "layer": sweep.layer, "temperature": 0},
        flops=needed(sweep, lengths),
        flops_counted=(
            "2 x weights of the blocks and the unembedding x new tokens, and their attention; each prompt once "
            "through the blocks up to the steered one, and once a setting through those after it"
        ),
    )  # fmt: skip


def needed(sweep: Sweep, lengths: list[int]) -> float:
    """Operations that nothing can leave out."""
    engine, new, settings = sweep.engine, sweep.new_tokens, len(sweep.doses)
    blocks, both = subjects.weights(engine, head=False), subjects.weights(engine, head=True)
    shared = (sweep.layer + 1) / engine.info.n_layers
    total = 0.0
    for length in lengths:
        prompt = 2.0 * blocks * length + subjects.attention_flops(engine, (length + 1) / 2) * length
        written = new * (2.0 * both + subjects.attention_flops(engine, length + (new + 1) / 2))
        total += prompt * (shared + (1 - shared) * settings) + written * settings
    return total


def same_ids(result: list[tuple[int, ...]], reference: list[tuple[int, ...]]) -> float:
    """Share of texts that differ."""
    if len(result) != len(reference):
        return float("inf")
    return float(np.mean([one != other for one, other in zip(result, reference, strict=True)]))


def ours(sweep: Sweep) -> Run:
    requests = sweep.requests()
    return lambda: [completion.token_ids for completion in sweep.engine.generate(requests)]


def by_setting(sweep: Sweep, model: Any, steered: Callable[[float], Any]) -> Run:
    """Greedy `generate` of transformers on the left-padded prompts, once inside each `steered(dose)`."""
    tokenizer = subjects.tokenizer_of(sweep.engine, side="left")
    batch = tokenizer(sweep.prompts, return_tensors="pt", padding=True).to(sweep.engine.parts.device)
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    start = given["input_ids"].shape[1]

    def run() -> list[tuple[int, ...]]:
        found = []
        for dose in sweep.doses:
            with torch.no_grad(), steered(dose):
                ids = model.generate(
                    **given, max_new_tokens=sweep.new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
                )
            found += [tuple(row[start:].tolist()) for row in ids]
        return found

    return run


def hooked(sweep: Sweep) -> Run:
    block = sweep.engine.parts.blocks[sweep.layer]

    @contextmanager
    def steered(dose: float) -> Iterator[None]:
        vector = sweep.tensor(dose)
        handle = block.register_forward_hook(lambda _, __, output: output + vector)
        try:
            yield
        finally:
            handle.remove()

    return by_setting(sweep, sweep.engine.model, steered)


def steering_vectors(sweep: Sweep) -> Run:
    from steering_vectors import SteeringVector

    vector = SteeringVector({sweep.layer: sweep.tensor(1.0)})
    model = sweep.engine.model
    return by_setting(sweep, model, lambda dose: vector.apply(model, multiplier=dose))


def repeng(sweep: Sweep) -> Run:
    control = peers.repeng("control").ControlModel(subjects.borrowed(sweep.engine.model), [sweep.layer])

    @contextmanager
    def steered(dose: float) -> Iterator[None]:
        control.set_raw_control({sweep.layer: sweep.tensor(dose)})
        try:
            yield
        finally:
            control.reset()

    return by_setting(sweep, control, steered)
